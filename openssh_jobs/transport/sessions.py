"""Sessions of one host: opened within the limit, retried if nothing was run.

The same for every ``Transport``.  After a refusal (sshd's MaxSessions) the call waits and retries,
because a refused session never ran anything.
"""

from __future__ import annotations

import copy
import os
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from .. import logs
from ..errors import CommandNotStarted, ConfigurationError, ConnectionLost, SessionLimit
from ..openssh import locks, process, reaper, runtime_directory
from .base import Link, LinkSilent, ProtocolMismatch, Session, SessionRefused, TransportError
from .session_limit import NESTED_TIMEOUT, Patience, Slot, Slots

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..errors import Sent
    from .base import Transport

log = logs.logger("openssh_jobs.sessions")
waits = logs.logger("openssh_jobs.sessions.waits")
"""Messages for a person who waits for a session; at INFO, because programs may wait silently."""

T = TypeVar("T")

FULL = "all sessions that the server grants to one connection (MaxSessions) are in use"
PROBE_AFTER = 30.0
"""Seconds after an answer during which the link is used without another check."""
_PROBE_TIMEOUT = 15.0
_MANY_HANGING, _HANGING_PAUSE = 3, 300.0
"""Login shells that hang at the same time, and the longest pause, in seconds, after so many."""
_CLOCK_JUMP = 5.0
WATCH_INTERVAL = 5.0
"""Seconds between two checks of the link's process while sessions are open."""


class Sessions:
    """Opens sessions over one transport; shared by all lanes of a connection.

    ``fallback`` creates the transport to use if the master speaks another version of the protocol.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        fallback: Callable[[], Transport] | None = None,
        max_sessions: int | None = None,
    ) -> None:
        if max_sessions is not None and max_sessions < 1:
            raise ConfigurationError(f"max_sessions={max_sessions} is less than 1")
        self.transport = transport
        self._fallback = fallback
        self.opened = 0
        self.silent: CommandNotStarted | None = None
        """The last error of a login shell that never started and may still hold its session."""
        self._hanging, self._silent_until = 0, 0.0
        self._limit = max_sessions or transport.default_sessions
        self._reclaimers: list[Callable[[], None]] = []
        self.reset()

    def reset(self) -> None:
        """Forget all state, as after a fork: it belongs to the parent process."""
        self.slots = Slots(self._limit, wide=self.transport.always_wide)
        self._link: Link | None = None
        self._lock = locks.CallLock("the opening of a connection", self.host)
        self._good_at = 0.0
        self._looked_at = 0.0
        self._wall_minus_monotonic = time.time() - time.monotonic()

    @property
    def host(self) -> str:
        """The host as the user named it."""
        return self.transport.host

    def on_reclaim(self, reclaim: Callable[[], None]) -> None:
        """Register a lane that can release an idle held session at once."""
        self._reclaimers.append(reclaim)

    def limit(self, most: int) -> None:
        """Open no more than ``most`` sessions at a time from now on; never more than before."""
        self._limit = min(self._limit, most)
        self.slots.limit(self._limit)

    # ------------------------------------------------------------------ the link

    def link(self) -> Link:
        """A link that answered recently; opened or replaced if necessary."""
        with self._lock:
            if self._link is None or self.transport.is_over_age(self._link):
                self._link = self.transport.link()
                self.confirmed()
            elif self._stale():
                self._probe(self._link)
            return self._link

    def _stale(self) -> bool:
        drift = time.time() - time.monotonic() - self._wall_minus_monotonic
        return abs(drift) > _CLOCK_JUMP or time.monotonic() - self._good_at > PROBE_AFTER

    def confirmed(self) -> None:
        """Note that the host just answered over the link."""
        self._good_at = time.monotonic()
        self._wall_minus_monotonic = time.time() - self._good_at

    def _probe(self, link: Link) -> None:
        """Check the link by one round trip with a timeout; replace it if no answer comes."""
        begun = time.monotonic()
        if self.answers(link):
            self.confirmed()
            return
        waited = time.monotonic() - begun
        if waited < _PROBE_TIMEOUT:
            log.info("%s: the connection has ended; opening another", self.host)
        else:
            silence = "%s: no answer over the connection for %.0f s; opening another"
            log.warning(silence, self.host, waited)
        self.transport.discard(link)
        self._link = None
        self._link = self.transport.link()
        self.confirmed()

    def answers(self, link: Link, timeout: float = _PROBE_TIMEOUT) -> bool:
        """Whether the host answers over exactly this link; one round trip with a timeout."""
        return self.transport.answers(link, timeout)

    def forget(self, link: Link | None = None) -> None:
        """Find or open a link again before this one (``None``: any) is used again."""
        if link is None or self._link == link:
            self._link = None

    def lost(self, link: Link, what: str, *, sent: Sent = "maybe", why: str = "") -> ConnectionLost:
        """The error for a call (``what``) during which the link was lost."""
        return self.transport.lost(link, what, sent=sent, why=why)

    def failure(self, link: Link, session: Session, stderr: bytes) -> TransportError | None:
        """Why a session ended before its command started.

        ``None`` if the host granted it and still answers: the output of the session says why.
        """
        failure = self.transport.failure(session, stderr)
        if failure is None or isinstance(failure, SessionRefused):
            return failure
        return None if self.answers(link) else failure

    # ------------------------------------------------------------------ opening

    def start(
        self,
        starter: Callable[[Link], T],
        *,
        what: str,
        again: bool = False,
        until: float | None = None,
    ) -> tuple[T, Slot]:
        """Run ``starter`` with a slot and a link until a session is open.

        Returns what ``starter`` made and its slot, to be released at the session's end.
        ``starter`` raises ``TransportError`` if no session was opened.  A session that was refused
        or not sent is retried; ``again=True`` allows a retry even if it may have been sent.
        ``until`` (``time.monotonic``) ends the wait for a free session early.  Raises
        ``SessionLimit``, ``ConnectionLost`` and what ``Transport.link`` raises.
        """
        patience = Patience(until)
        try:
            slot = self.slots.acquire(patience, self._reclaim)
        except TimeoutError:
            why = "all sessions of this process are in use"
            if self.slots.interrupted_all:
                why += " by the calls that this one interrupts"
            raise self._no_session(what, why, patience) from None
        try:
            started = self._start_with(starter, what, again, patience)
            slot.opened()
            return started, slot
        except BaseException:
            slot.release()
            raise

    def _start_with(
        self,
        starter: Callable[[Link], T],
        what: str,
        again: bool,
        patience: Patience,
    ) -> T:
        pause, lives, said = 0.004, 2, False
        while True:
            link = self.link()
            if self.silent is not None and time.monotonic() < self._silent_until:
                raise copy.copy(self.silent)
            try:
                started = starter(link)
            except SessionRefused as error:
                if self.silent is not None:
                    # Hanging login shells hold the sessions: waiting would not help.
                    raise copy.copy(self.silent) from error
                # One of these slots belongs to this call.
                nested = self.slots.callers[threading.get_ident()] > 1
                if patience.left(self.slots.freed_at) <= 0 or (
                    nested and patience.spent > NESTED_TIMEOUT
                ):
                    raise self._no_session(what, FULL, patience) from error
                if patience.spent > 3.0 and not said:
                    said = True
                    full = self._no_session(what, FULL, patience)
                    waits.info("%s: %s; waiting for one to end", self.host, full.message)
                self.slots.refused()
                self._ask_for_session(link)
                self._reclaim()
                time.sleep(pause * (0.5 + os.urandom(1)[0] / 256))  # jitter
                pause = min(pause * 1.6, 0.25)
            except ProtocolMismatch as error:
                if self._fallback is None:
                    raise ConnectionLost(str(error), host=self.host, command=what) from error
                log.warning("%s: %s; using ssh -S from now on", self.host, error)
                self.transport, self._fallback = self._fallback(), None
            except TransportError as error:
                self._after_failure(link, error)
                lives -= 1
                if lives == 0 or (error.sent != "no" and not again):
                    raise self.lost(link, what, sent=error.sent, why=str(error)) from error
            else:
                self.opened += 1
                self.silent, self._hanging = None, 0
                self.slots.granted()
                self.confirmed()
                reaper.watch(self)
                return started

    def was_silent(self, error: CommandNotStarted) -> None:
        """Note that a login shell did not begin, and hangs.

        It holds a session for the server until a shell that begins ends it, so that for this one a
        session must be left: after some, others are tried more and more rarely.
        """
        self.silent = copy.copy(error)
        self.silent.sent = "no"
        self._hanging += 1
        if self._hanging >= _MANY_HANGING:
            pause = min(_HANGING_PAUSE, 4.0 ** (self._hanging - _MANY_HANGING))
            self._silent_until = time.monotonic() + pause

    def _after_failure(self, link: Link, error: TransportError) -> None:
        log.info("%s: %s", self.host, error)
        # One session that does not start (a hanging login shell) proves nothing about the master,
        # which may serve other sessions.
        if isinstance(error, LinkSilent) and not self.answers(link):
            self.transport.discard(link)
        self.forget(link)

    def _no_session(self, what: str, why: str, patience: Patience) -> SessionLimit:
        text = f"no session was free within {patience.spent:.0f} s: {why}"
        try:
            from ..openssh import masters

            explain = masters.session_limit
        except (ImportError, AttributeError):
            # A signal handler has interrupted this import, and sees a part of the module.
            return SessionLimit(text, host=self.host, command=what)
        return explain(text, self._link, host=self.host, command=what)

    def open(
        self, link: Link, command: bytes, fds: Sequence[int], *, subsystem: bool = False
    ) -> Session:
        """Open one session over a link, with three descriptors as its streams."""
        return self.transport.open(link, command, fds, subsystem=subsystem)

    def program(self, link: Link, name: str) -> list[str] | None:
        """How a local program reaches the host over this link; ``None`` where it cannot."""
        return self.transport.program(link, name)

    # ------------------------------------------------------------------ no wait without an end

    def give_back(self, *, idle_for: float) -> bool:
        """Called by the reaper: true when no session is open any more.

        A stopped master (SIGSTOP) would let its callers wait for ever, because its keepalives are
        stopped, too.  Ending it lets them notice that the link is lost.
        """
        link = self._link
        if self.slots.used == 0:
            return True
        now = time.monotonic()
        if link is not None and now - self._looked_at >= WATCH_INTERVAL:
            self._looked_at = now
            if process.is_stopped(link.pid):
                log.warning("%s: the master %d is stopped; ending it", self.host, link.pid)
                self.forget(link)
                self.transport.discard(link)
        return False

    # ------------------------------------------------------------------ sharing with others

    def _reclaim(self) -> None:
        for reclaim in self._reclaimers:
            reclaim()

    def _ask_for_session(self, link: Link) -> None:
        """Ask other processes for a session, by updating the mtime of a shared file."""
        if link.ours:
            runtime_directory.ask_for_session(link.path)

    def wanted_by_others(self) -> bool:
        """Whether a process was refused a session within the last second."""
        link = self._link
        if link is None or not link.ours:
            return False
        try:
            return abs(time.time() - os.stat(link.path + ".wanted").st_mtime) < 1.0
        except OSError:
            return False
