"""The master: one login per route, found, opened, proved and ended.

Nothing else in this package dials.  Every session is asked of a socket that this module has
proved to belong to a live master.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from typing import TYPE_CHECKING, Literal

from ..errors import ConfigurationError, ConnectError, ConnectionLost, MasterRequired, Sent
from . import locks, mux_protocol, pid_file, runtime_directory, ssh_config
from .mux_protocol import Link

if TYPE_CHECKING:
    from .destination import Destination
    from .login import LoginRequest
    from .prompts import Responder

log = logging.getLogger("openssh_jobs.master")

Policy = Literal["own", "existing", "user"]

# How long the local master process may take to answer on its socket (it is never far away).
ALIVE_TIMEOUT = 5.0
LOCK_SLACK = 30.0
ANSWER_TIME = 600.0
"""Seconds for a person to answer what a login asks: the longest LoginGraceTime that is usual."""


class Master:
    """The way to one destination: finds the live master of its route or opens one.

    Safe to share between threads and processes; opening is single-flight under a lock file.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        policy: Policy = "own",
        persist: int | None = 600,
        connect_timeout: float = 30,
        responder: Responder | None = None,
        dials_per_hour: int | None = None,
    ) -> None:
        if policy not in ("own", "existing", "user"):
            raise ConfigurationError(f"master={policy!r} is none of own, existing, user")
        if persist is not None and persist < 1:
            raise ConfigurationError(f"persist={persist} is not a number of seconds from 1 on")
        if not connect_timeout > 0:
            raise ConfigurationError(f"connect_timeout={connect_timeout} is not positive")
        self.destination = destination
        self.policy = policy
        self.persist = persist
        self.connect_timeout = connect_timeout
        self.responder = responder
        self.dials_per_hour = dials_per_hour
        self.logins = 0
        self._resolved: ssh_config.Resolved | None = None
        self._name: str | None = None

    # ------------------------------------------------------------------ where

    @property
    def resolved(self) -> ssh_config.Resolved:
        """What ``ssh -G`` says of the destination; asked once."""
        if self._resolved is None:
            ssh_config.ssh_version()
            self._resolved = ssh_config.resolve(self.destination)
        return self._resolved

    @property
    def name(self) -> str:
        """The name of this route's socket."""
        if self._name is None:
            self._name = runtime_directory.route_name(self.destination, self.resolved)
        return self._name

    def candidates(self) -> list[tuple[str, bool]]:
        """Sockets to look at, with whether they are ours, in order of preference."""
        found: list[tuple[str, bool]] = []
        if self.policy != "user":
            for directory in runtime_directory.directories():
                paths = runtime_directory.places(os.path.join(directory, self.name))
                there = [path for path in paths if os.path.lexists(path)]
                problem = runtime_directory.problem_with(directory) if there else None
                if problem:
                    log.warning("%s: not used: %s %s", self.destination.host, directory, problem)
                else:
                    found += [(path, True) for path in there]
        users = self.resolved.get("controlpath")
        if users:
            found.append((os.path.expanduser(users), False))
        return found

    def find(self) -> Link | None:
        """The live master of this route, if there is one.  Local: asks only the socket.

        Raises ``ConnectError`` where a master is there but does not answer.
        """
        for path, ours in self.candidates():
            try:
                pid = mux_protocol.alive(path, timeout=ALIVE_TIMEOUT)
            except mux_protocol.NoMaster:
                continue
            except mux_protocol.MuxError as error:
                if not ours:
                    log.warning("%s: %s: %s", self.destination.host, path, error)
                    continue
                raise ConnectError(
                    f"the master behind {path} does not answer: {error}", host=self.destination.host
                ) from error
            return Link(path, pid, ours)
        return None

    # ------------------------------------------------------------------ open

    def ensure(self, *, override: bool = False) -> Link:
        """A live master: the one that is there, or (policy ``own``) a new one.

        May dial once, and then only under the lock; ``override`` also where the last login was
        refused, or too many were made of late.  Raises ``ConnectError`` and its kin,
        ``MasterRequired`` where the policy forbids opening.
        """
        try:
            link = self.find()
        except ConnectError:
            if self.policy != "own":
                raise
            link = None
        if link is not None:
            return link
        if self.policy != "own":
            raise self._required()
        directory = runtime_directory.prepare_directory()
        path = os.path.join(directory, self.name)
        with self._locked(path, needs=self.login_time):
            return self._open_locked(path, override=override)

    def login_request(self) -> LoginRequest:
        """What a login of this route needs."""
        from .login import LoginRequest

        return LoginRequest(
            destination=self.destination,
            resolved=self.resolved,
            responder=self.responder,
            connect_timeout=self.connect_timeout,
            persist=self.persist,
            logins_per_hour=self.dials_per_hour,
        )

    @property
    def login_time(self) -> float:
        """Seconds that a login may take: where somebody answers, what people and servers allow."""
        unattended = self.connect_timeout * 2 + 10
        return unattended if self.responder is None else unattended + ANSWER_TIME

    def _locked(
        self, path: str, *, needs: float = LOCK_SLACK
    ) -> contextlib.AbstractContextManager[None]:
        """The lock of this route; ``ConnectError`` where it is not to be had.

        Who waits for it waits as long as a login of the one that holds it may take.
        """
        patience = self.connect_timeout * 2 + 10 + LOCK_SLACK
        lock = runtime_directory.lock_of(path)
        return locks.locked(lock, host=self.destination.host, timeout=patience, needs=needs)

    def _required(self) -> MasterRequired:
        where = "that your ControlPath names " if self.policy == "user" else ""
        return MasterRequired(
            f'there is no live master {where}and master="{self.policy}" opens none',
            host=self.destination.host,
            advice=f"Type `{self.destination.shell_command('-M', '-f', '-N')}`"
            + (" with a ControlPath in your ssh configuration." if self.policy == "user" else "."),
        )

    def _open_locked(self, path: str, *, override: bool) -> Link:
        silent = False
        try:
            link = self.find()  # somebody may have been faster
        except ConnectError:
            link, silent = None, True
        if link is not None:
            return link
        free = [
            place
            for place in runtime_directory.places(path)
            if self._remove_dead(place, silent=silent)
        ]
        if not free:
            self._remove_dead(path, silent=True)
        path = free[0] if free else path
        # Most programs find the master that is there, and need none of this.
        from . import login, masters

        said = login.open_master(self.login_request(), path, override=override)
        try:
            pid = mux_protocol.alive(path, timeout=ALIVE_TIMEOUT)
        except mux_protocol.MuxError as error:
            raise ConnectError(
                f"ssh logged in but left no master behind ({error})",
                host=self.destination.host,
                stderr=said,
                advice=f"See `ssh -v {self.destination.host}`.",
            ) from error
        self.logins += 1
        pid_file.write(path, pid_file.identify(pid))
        masters.write(path, self.destination, self.resolved, persist=self.persist)
        log.info("%s: opened master %d on %s", self.destination.host, pid, path)
        return Link(path, pid, True)

    def _remove_dead(self, path: str, *, silent: bool) -> bool:
        """Under the lock: clear away what is no master's socket, and the process behind it.

        ``silent``: it accepts, but does not answer.  False where a master that cannot be reached
        still serves somebody: at its end it will remove the file of this name, whosoever it is.
        """
        before = pid_file.read(path)
        if before is not None and pid_file.is_master(before, path):
            # A master whose socket file was deleted or replaced can be reached by nobody any
            # more, but what runs on it runs on, and ControlPersist ends it after that.
            serves = pid_file.has_sessions(path)
            for_ever = serves is None and self.persist is None
            if silent or serves is False or for_ever:
                log.warning("%s: ending master %d out of reach", self.destination.host, before.pid)
                pid_file.end(before)
            else:
                log.warning("%s: master %d has lost its socket", self.destination.host, before.pid)
                return False
        pid_file.forget(path)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise ConfigurationError(
                f"{path} is in the way of the master's socket: {error.strerror}",
                host=self.destination.host,
                advice="Remove it.",
            ) from error
        return True

    # ------------------------------------------------------------------ end

    def discard(self, link: Link) -> None:
        """Give up a master that is proved not to work: ours is ended, the user's left alone."""
        if not link.ours:
            return
        path = link.path
        # Before the lock: a wait for it must not let a stranger take the number.
        meant = pid_file.identify(link.pid)
        with self._locked(path):
            now = pid_file.read(path)
            if now is not None and now.pid != link.pid:
                return  # somebody has replaced it already
            if pid_file.is_master(meant, path):
                pid_file.end(meant)
            self._clean_up(path)

    def discard_silent(self) -> None:
        """End our master that takes no question any more (``find`` has said so)."""
        for path, ours in self.candidates():
            if ours:
                with self._locked(path):
                    try:
                        mux_protocol.alive(path, timeout=ALIVE_TIMEOUT)
                    except mux_protocol.MuxError:
                        self._remove_dead(path, silent=True)

    def _clean_up(self, path: str) -> None:
        """Under the lock: remove what an ended master left, unless another one is there by now."""
        try:
            mux_protocol.alive(path, timeout=ALIVE_TIMEOUT)
        except mux_protocol.NoMaster:
            pass
        except mux_protocol.MuxError:
            return
        else:
            return
        for suffix in ("", ".pid", ".log", ".jump", ".wish", ".json"):
            try:
                os.unlink(path + suffix)
            except FileNotFoundError:
                pass

    def stop(self, link: Link, *, drain: float = 10.0) -> bool:
        """End our master: no new sessions, then wait up to ``drain`` seconds, then cut.

        Returns false, and does nothing, for a master that the user opened.
        """
        if not link.ours:
            return False
        meant = pid_file.identify(link.pid)
        with self._locked(link.path):
            ending = [meant, *self._out_of_reach(link.path)]
            if not pid_file.is_master(meant, link.path):
                return True
            # From here on it has no socket, and is nobody's orphan all the same: it drains.
            pid_file.forget(link.path)
            try:
                mux_protocol.stop(link.path, timeout=ALIVE_TIMEOUT)
            except mux_protocol.NoMaster:
                pass
            except mux_protocol.MuxError as error:
                log.warning("%s: the master took no stop request: %s", self.destination.host, error)
            # Whoever holds an idle session gives it back when somebody wants one.
            runtime_directory.wish(link.path)
        deadline = time.monotonic() + drain
        for one in ending:
            if not pid_file.wait(one, deadline - time.monotonic()):
                pid_file.end(one)
        with self._locked(link.path):
            self._clean_up(link.path)
        return True

    @staticmethod
    def _out_of_reach(path: str) -> list[pid_file.Owner]:
        """Masters of the same route that have lost their sockets."""
        noted = [
            (place, pid_file.read(place))
            for place in runtime_directory.places(path)
            if place != path
        ]
        return [one for place, one in noted if one is not None and pid_file.is_master(one, place)]

    def lost(self, link: Link, what: str, *, sent: Sent = "maybe", why: str = "") -> ConnectionLost:
        """The error for a call during which the link died, with the master's last words."""
        from . import login, ssh_errors

        tail = ssh_errors.words_of(login.read_log(link.path)) if link.ours else []
        words = [text for text in (why, tail[-1] if tail else "") if text]
        reason = f" ({'; '.join(words)})" if words else ""
        return ConnectionLost(
            f"the connection was lost{reason}", host=self.destination.host, command=what, sent=sent
        )
