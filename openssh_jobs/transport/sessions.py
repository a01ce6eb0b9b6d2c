"""Sessions of one host: opened within the limit, retried where nothing was run.

The same for every ``Transport``.  A refusal (sshd's MaxSessions) waits its turn and asks again,
because what was refused never ran.
"""

from __future__ import annotations

import copy
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from ..errors import CommandNotStarted, ConfigurationError, ConnectionLost, SessionLimit
from ..openssh import locks, process, reaper, runtime_directory
from .base import Link, LinkSilent, ProtocolMismatch, Session, SessionRefused, TransportError
from .session_limit import NESTED_TIMEOUT, Patience, Slot, Slots

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..errors import Sent
    from .base import Transport

log = logging.getLogger("openssh_jobs.sessions")
waits = logging.getLogger("openssh_jobs.sessions.waits")
"""Messages for a person who waits for a session; at INFO, because programs may wait silently."""

T = TypeVar("T")

FULL = "all sessions that the server grants to one connection (MaxSessions) are in use"
PROBE_AFTER = 30.0
"""A link that answered within so many seconds is not asked again before use."""
_PROBE_TIMEOUT = 15.0
_CLOCK_JUMP = 5.0
WATCH_INTERVAL = 5.0
"""Seconds between two looks at the link's process while sessions are open."""


class Sessions:
    """Opens sessions over one transport; shared by all lanes of a connection.

    ``fallback`` makes the transport to use once the other side turns out to speak another version
    of the protocol.
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
        """The last error of a login shell that never began, and may still hold its session."""
        self._limit = max_sessions or transport.default_sessions
        self._reclaimers: list[Callable[[], None]] = []
        self.reset()

    def reset(self) -> None:
        """Start anew, as after a fork: nothing held here belongs to this process."""
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
        """Register a lane that can give an idle held session back at once."""
        self._reclaimers.append(reclaim)

    # ------------------------------------------------------------------ the link

    def link(self) -> Link:
        """A link that answered lately, opened or replaced if need be."""
        with self._lock:
            if self._link is None:
                self._link = self.transport.link()
                self.confirmed()
            elif self._stale():
                self._probe(self._link)
            return self._link

    def _stale(self) -> bool:
        drift = time.time() - time.monotonic() - self._wall_minus_monotonic
        return abs(drift) > _CLOCK_JUMP or time.monotonic() - self._good_at > PROBE_AFTER

    def confirmed(self) -> None:
        """The host just answered over the link."""
        self._good_at = time.monotonic()
        self._wall_minus_monotonic = time.time() - self._good_at

    def _probe(self, link: Link) -> None:
        """One bounded round trip; replaces a link that does not survive it."""
        if self.answers(link):
            self.confirmed()
            return
        log.warning("%s: the host does not answer over the link; replacing it", self.host)
        self.transport.discard(link)
        self._link = None
        self._link = self.transport.link()
        self.confirmed()

    def answers(self, link: Link, timeout: float = _PROBE_TIMEOUT) -> bool:
        """Whether the host answers over this very link; one bounded round trip."""
        return self.transport.answers(link, timeout)

    def forget(self, link: Link | None = None) -> None:
        """Look for a link anew before this one (``None``: any) is used again."""
        if link is None or self._link == link:
            self._link = None

    def lost(self, link: Link, what: str, *, sent: Sent = "maybe", why: str = "") -> ConnectionLost:
        """The error for a call (``what``) during which the link was lost."""
        return self.transport.lost(link, what, sent=sent, why=why)

    def failure(self, link: Link, session: Session, stderr: bytes) -> TransportError | None:
        """Why a session that is over never began its command.

        ``None`` where the host granted it and still answers: what ran there says why.
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
        ``starter`` raises ``TransportError`` where none was opened.  What was refused or not sent
        is tried again; ``again=True`` says that trying again does no harm even where it may have
        been sent.  ``until`` (``time.monotonic``) ends the wait for a free session before its
        time.  Raises ``SessionLimit``, ``ConnectionLost`` and what ``Transport.link`` raises.
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
            try:
                started = starter(link)
            except SessionRefused as error:
                if self.silent is not None:
                    # Those that hang there are what holds the sessions: no use in waiting.
                    raise copy.copy(self.silent) from error
                # One of them is this call's own.
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
                self._wish(link)
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
                self.silent = None
                self.slots.granted()
                self.confirmed()
                reaper.watch(self)
                return started

    def _after_failure(self, link: Link, error: TransportError) -> None:
        log.info("%s: %s", self.host, error)
        # One session that does not begin (a login shell that hangs) proves nothing about the
        # master, on which others may be at work.
        if isinstance(error, LinkSilent) and not self.answers(link):
            self.transport.discard(link)
        self.forget(link)

    def _no_session(self, what: str, why: str, patience: Patience) -> SessionLimit:
        from ..openssh import masters

        text = f"no session was free within {patience.spent:.0f} s: {why}"
        return masters.session_limit(text, self._link, host=self.host, command=what)

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

        A master that is stopped would keep its callers waiting for ever, and its keepalives are
        stopped with it.  Ending it lets them see that the link is lost.
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

    def _wish(self, link: Link) -> None:
        """Tell other processes that a session is wanted: the time stamp of one file says when."""
        if link.ours:
            runtime_directory.wish(link.path)

    def wished_by_others(self) -> bool:
        """Whether a process was refused a session within the last second."""
        link = self._link
        if link is None or not link.ours:
            return False
        try:
            return abs(time.time() - os.stat(link.path + ".wish").st_mtime) < 1.0
        except OSError:
            return False
