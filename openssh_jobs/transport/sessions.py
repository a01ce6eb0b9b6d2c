"""Sessions on a master: opened within the server's limit, never by a second login.

A session is opened by the mux protocol (``mux``) or by a guarded ``ssh -S`` (``process``).  Both
give the same object; a refusal by MaxSessions waits its turn and asks again, because what was
refused never ran.
"""

from __future__ import annotations

import copy
import logging
import os
import re
import threading
import time
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from ..errors import CommandNotStarted, ConfigurationError, ConnectionLost, SessionLimit
from ..openssh import locks, mux_protocol, process, reaper, runtime_directory, ssh_config
from .session_limit import NESTED_TIMEOUT, Patience
from .session_limit import Slot as Slot
from .session_limit import Slots as Slots

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..openssh.master import Link, Master

log = logging.getLogger("openssh_jobs.sessions")
waits = logging.getLogger("openssh_jobs.sessions.waits")
"""What a person is to hear who waits for a session; at INFO, because programs may wait silently."""

Backend = Literal["mux", "process"]
T = TypeVar("T")

OPEN_TIMEOUT = 60.0
"""Seconds for the server to grant one session; keepalives end a dead link in 45 s before that."""
FULL = "all sessions that the server grants to one connection (MaxSessions) are in use"
DEFAULT_SESSIONS = 8
"""Below sshd's default of 10: the user's own terminals share the master."""
PROBE_AFTER = 30.0
"""A link that answered within so many seconds is not asked again before use."""
_PROBE_TIMEOUT = 15.0
_CLOCK_JUMP = 5.0
WATCH_INTERVAL = 5.0
"""Seconds between two looks at the master while sessions are open."""


class Session(Protocol):
    """A command at work on the host."""

    @property
    def status(self) -> int | None:
        """The exit status, ``None`` while there is none (255 may be ssh's own: ``process``)."""

    def wait(self, timeout: float) -> bool:
        """Wait for the end; false if the session goes on."""

    def close(self) -> None:
        """Let go of the session; what runs on the host is not ended by this."""

    def abandon(self) -> None:
        """In a forked child: forget the session, which is the parent's, without a word."""


class ProcessSession:
    """A session as a guarded ``ssh -S`` subprocess."""

    def __init__(self, child: process.Child) -> None:
        self._child = child

    @property
    def status(self) -> int | None:
        """The exit status of ssh; negative after a signal."""
        return self._child.returncode

    def wait(self, timeout: float) -> bool:
        """Wait for ssh to end."""
        return process.wait(self._child, timeout)

    def close(self) -> None:
        """End the ssh process; the master stays."""
        if self._child.poll() is None:
            process.end(self._child)

    def abandon(self) -> None:
        """In a forked child: not ours to wait for (else Popen would warn when it is collected)."""
        self._child.returncode = 0


def guarded_arguments(path: str) -> list[str]:
    """Options with which ssh uses the master's socket or fails, and reads no configuration.

    Without ``ProxyCommand=false`` a missing or full master would silently become a new login.
    """
    options = ("ControlMaster=no", "ProxyCommand=false", "BatchMode=yes")
    words = [word for option in options for word in ("-o", option)]
    return ["-F", "none", *words, "-S", path.replace("%", "%%")]


# ssh's own words, each at the beginning of a line: what the host prints may hold any of them.
_REFUSED = re.compile(rb"^mux_client_request_session: session request failed: .*", re.MULTILINE)
_NOBODY = re.compile(rb"^Control socket connect\(", re.MULTILINE)
_CUT_OFF = re.compile(rb"^(?:mux_client_\w+: (?:read|write) |muxclient: ).*", re.MULTILINE)
_GUARDED = re.compile(rb"^(?:kex_exchange_id|[\w ]+(?:: Conn)?[\w ]* UNKNOWN port 65535)", re.M)


def failure_of(stderr: bytes) -> mux_protocol.MuxError:
    """Why a guarded ``ssh -S`` ended with 255 before the command began, from its words."""
    if found := _REFUSED.search(stderr):
        return mux_protocol.SessionRefused(found[0].decode("utf-8", "replace").strip())
    if _NOBODY.search(stderr):
        return mux_protocol.NoMaster("nobody listens on the master's socket", stale=True)
    if found := _CUT_OFF.search(stderr):
        return mux_protocol.MuxLost(found[0].decode("utf-8", "replace").strip(), sent="maybe")
    if _GUARDED.search(stderr):
        # The guard's own words alone: the socket was not there.
        return mux_protocol.NoMaster("there is no master's socket")
    return mux_protocol.MuxLost("ssh ended without a word", sent="maybe")


class Sessions:
    """Opens sessions on the master of one route; shared by all lanes of a connection."""

    def __init__(
        self,
        master: Master,
        *,
        backend: str = "auto",
        max_sessions: int | None = None,
        forward_agent: bool = False,
    ) -> None:
        if backend not in ("auto", "mux", "process"):
            raise ConfigurationError(f"exec_backend={backend!r} is none of auto, mux, process")
        if max_sessions is not None and max_sessions < 1:
            raise ConfigurationError(f"max_sessions={max_sessions} is less than 1")
        self.master = master
        self.opened = 0
        self.silent: CommandNotStarted | None = None
        """The last word of a login shell that never began, and may still hold its session."""
        self._wanted = backend
        self.backend: Backend = "process" if backend == "process" else "mux"
        self._forward_agent = forward_agent
        self._limit = max_sessions or DEFAULT_SESSIONS
        self._reclaimers: list[Callable[[], None]] = []
        self.reset()

    def reset(self) -> None:
        """Start anew, as after a fork: nothing held here belongs to this process."""
        self.slots = Slots(self._limit)
        self._link: Link | None = None
        self._lock = locks.CallLock("the opening of a connection", self.master.target.host)
        self._good_at = 0.0
        self._looked_at = 0.0
        self._wall_minus_monotonic = time.time() - time.monotonic()

    def on_reclaim(self, reclaim: Callable[[], None]) -> None:
        """Register a lane that can give an idle held session back at once."""
        self._reclaimers.append(reclaim)

    # ------------------------------------------------------------------ the link

    def link(self) -> Link:
        """A live master that answered lately, opened or replaced if need be."""
        with self._lock:
            if self._link is None:
                self._link = self.master.ensure()
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
        """One bounded round trip; replaces a master that does not survive it."""
        if self.round_trip(link):
            self.confirmed()
            return
        log.warning("%s: the master does not reach the host; replacing it", self._host)
        self.master.discard(link)
        self._link = None
        self._link = self.master.ensure()
        self.confirmed()

    def round_trip(self, link: Link, timeout: float = _PROBE_TIMEOUT) -> bool:
        """Whether the host answers over this master: a session that it grants or refuses says so.

        What runs in the session does not count: an account's shell may never begin.
        """
        with open(os.devnull, "r+b") as nothing:
            fd = nothing.fileno()
            try:
                session = mux_protocol.open_session(
                    link.path, b"exit 0", (fd, fd, fd), timeout=timeout
                )
            except mux_protocol.SessionRefused:
                return True
            except mux_protocol.MuxVersion:
                return self._process_round_trip(link, timeout)
            except mux_protocol.MuxError:
                return False
            # Its end is waited for, so that it takes nobody's place; not for long.
            session.wait(min(timeout, 1.0))
            session.close()
            return True

    def still_answers(self, link: Link) -> bool:
        """Whether the host answers over this very master, and not over a successor of it."""
        try:
            pid = mux_protocol.alive(link.path, timeout=_PROBE_TIMEOUT)
        except mux_protocol.MuxError:
            return False
        return pid == link.pid and self.round_trip(link)

    def _process_round_trip(self, link: Link, timeout: float) -> bool:
        argv = [ssh_config.find("ssh"), *guarded_arguments(link.path), "-T", "--", "none", "exit 0"]
        done = process.run(argv, timeout=timeout)
        if done.timed_out:
            return False
        granted = done.returncode != 255
        return granted or isinstance(failure_of(done.stderr), mux_protocol.SessionRefused)

    def forget(self, link: Link | None = None) -> None:
        """Do not use this master (``None``: any) again without looking for it anew."""
        if link is None or self._link == link:
            self._link = None

    @property
    def _host(self) -> str:
        return self.master.target.host

    # ------------------------------------------------------------------ opening

    def start(
        self,
        starter: Callable[[Link], T],
        *,
        what: str,
        again: bool = False,
        until: float | None = None,
    ) -> tuple[T, Slot]:
        """Run ``starter`` with a slot and a live master until a session stands.

        Returns what ``starter`` made and its slot, to be released at the session's end.
        ``starter`` raises ``mux.MuxError`` where none came up.  What was refused or not sent is
        tried again; ``again=True`` says that trying again does no harm even where it may have
        been sent.  ``until`` (``time.monotonic``) ends the wait for a free session before its
        time.  Raises ``SessionLimit``, ``ConnectionLost`` and what ``Master.ensure`` raises.
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
            except mux_protocol.SessionRefused as error:
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
                    waits.info("%s: %s; waiting for one to end", self._host, full.message)
                self.slots.refused()
                self._wish(link)
                self._reclaim()
                time.sleep(pause * (0.5 + os.urandom(1)[0] / 256))  # jitter
                pause = min(pause * 1.6, 0.25)
            except mux_protocol.MuxVersion as error:
                if self._wanted != "auto" or self.backend == "process":
                    raise ConnectionLost(str(error), host=self._host, command=what) from error
                log.warning("%s: %s; using ssh -S from now on", self._host, error)
                self.backend = "process"
            except mux_protocol.MuxError as error:
                self._after_failure(link, error)
                lives -= 1
                if lives == 0 or (error.sent != "no" and not again):
                    raise self.master.lost(link, what, sent=error.sent, why=str(error)) from error
            else:
                self.opened += 1
                self.silent = None
                self.slots.granted()
                self.confirmed()
                reaper.watch(self)
                return started

    def _after_failure(self, link: Link, error: mux_protocol.MuxError) -> None:
        log.info("%s: %s", self._host, error)
        # One session that does not begin (a login shell that hangs) proves nothing about the
        # master, on which others may be at work.
        if isinstance(error, mux_protocol.MuxTimeout) and not self.round_trip(link):
            self.master.discard(link)
        self.forget(link)

    def _no_session(self, what: str, why: str, patience: Patience) -> SessionLimit:
        from ..openssh import masters

        text = f"no session was free within {patience.spent:.0f} s: {why}"
        return masters.session_limit(text, self._link, host=self._host, command=what)

    def open(
        self,
        link: Link,
        command: bytes,
        fds: Sequence[int],
        *,
        subsystem: bool = False,
    ) -> Session:
        """Open one session on a master, with three descriptors as its streams."""
        if self.backend == "mux":
            return mux_protocol.open_session(
                link.path,
                command,
                fds,
                timeout=OPEN_TIMEOUT,
                subsystem=subsystem,
                forward_agent=self._forward_agent,
            )
        argv: list[bytes | str] = [ssh_config.find("ssh"), *guarded_arguments(link.path), "-T"]
        if self._forward_agent:
            argv.append("-A")
        argv += [*(["-s"] if subsystem else []), "--", "none", command]
        child = process.spawn(argv, stdin=fds[0], stdout=fds[1], stderr=fds[2])
        return ProcessSession(child)

    # ------------------------------------------------------------------ no wait without an end

    def give_back(self, *, idle_for: float) -> bool:
        """The keeper's look: true when no session is open any more.

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
                log.warning("%s: the master %d is stopped; ending it", self._host, link.pid)
                self.forget(link)
                self.master.discard(link)
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
