"""``Master``: finds, opens, checks and ends the ssh master of a route.

Nothing else in this package opens a connection.  Every session uses a socket that this module has
checked to belong to a live master.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Literal

from .. import logs
from ..errors import ConfigurationError, ConnectError, ConnectionLost, MasterRequired, Sent
from . import locks, mux_protocol, pid_file, runtime_directory, ssh_config
from .mux_protocol import Link

if TYPE_CHECKING:
    from .destination import Destination
    from .login import LoginRequest
    from .prompts import Responder

log = logs.logger("openssh_jobs.master")

Policy = Literal["own", "existing", "user"]

# Seconds for the master to answer on its socket; it is a process of this machine.
ALIVE_TIMEOUT = 5.0
LOCK_SLACK = 30.0
ANSWER_TIME = 600.0
"""Seconds for a person to answer the questions of a login: the longest usual LoginGraceTime."""


class Master:
    """Finds the live master of a destination's route or opens one.

    Safe to use from several threads and processes: a lock file lets one of them log in at a time.
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
        max_age: float | None = None,
    ) -> None:
        if policy not in ("own", "existing", "user"):
            raise ConfigurationError(f"master={policy!r} must be own, existing or user")
        if persist is not None and persist < 1:
            raise ConfigurationError(f"persist={persist} must be a number of seconds >= 1, or None")
        if not connect_timeout > 0:
            raise ConfigurationError(f"connect_timeout={connect_timeout} must be positive")
        self.destination = destination
        self.policy = policy
        self.persist = persist
        self.connect_timeout = connect_timeout
        self.responder = responder
        self.dials_per_hour = dials_per_hour
        self.max_age = max_age
        """Seconds after which a master takes no new sessions, ``None`` for no limit."""
        self.logins = 0
        self._resolved: ssh_config.Resolved | None = None
        self._name: str | None = None
        self._aged: Link | None = None
        self._opened = 0.0

    # ------------------------------------------------------------------ where

    @property
    def resolved(self) -> ssh_config.Resolved:
        """The configuration of the destination from ``ssh -G``, which runs once."""
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
        """(path, whether it is ours) of sockets that may have a master, the preferred first."""
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
        """The live master of this route, or ``None``.  Asks the sockets, not the host.

        Raises ``ConnectError`` if there is a master that does not answer.
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
        """A live master: an existing one or, with the policy ``own``, a new one.

        Logs in at most once, under the lock; with ``override`` even if the record of logins
        forbids it.  Raises ``ConnectError`` and its subclasses, ``MasterRequired`` if the policy
        allows no new master.
        """
        try:
            link = self.find()
        except ConnectError:
            if self.policy != "own":
                raise
            link = None
        if link is not None and not self.is_over_age(link):
            return link
        if self.policy != "own":
            raise self._required()
        directory = runtime_directory.prepare_directory()
        path = os.path.join(directory, self.name)
        with self._locked(path, needs=self.login_time):
            return self._open_locked(path, override=override)

    def limit_age(self, seconds: float) -> None:
        """Lower ``max_age``."""
        self.max_age = seconds if self.max_age is None else min(self.max_age, seconds)

    def is_over_age(self, link: Link) -> bool:
        """Whether a master of ours is older than ``max_age``.  Sends nothing."""
        if self.max_age is None or not link.ours:
            return False
        if link != self._aged:
            from . import masters

            opened = masters.read(link.path).get("opened")
            if not isinstance(opened, int | float):
                return False  # just opened by another process, which has yet to write it down
            self._aged, self._opened = link, float(opened)
        return time.time() - self._opened > self.max_age

    def _retire(self, link: Link) -> None:
        """Under the lock: no new sessions for a master; it ends after those that it has."""
        log.info("%s: master %d is older than %g s", self.destination.host, link.pid, self.max_age)
        try:
            mux_protocol.stop(link.path, timeout=ALIVE_TIMEOUT)
        except mux_protocol.NoMaster:
            return
        except mux_protocol.MuxError as error:
            raise ConnectError(
                f"the master behind {link.path} is too old and does not stop: {error}",
                host=self.destination.host,
                advice=f"Type `openssh-jobs logout {self.destination.host}`.",
            ) from error
        # Processes with an idle session close it when another one needs a session.
        runtime_directory.ask_for_session(link.path)

    def login_request(self) -> LoginRequest:
        """What a login of this route needs."""
        from . import jump_hosts
        from .login import LoginRequest

        return LoginRequest(
            destination=self.destination,
            resolved=self.resolved,
            hops=tuple(jump_hosts.hops(self.destination, self.resolved)),
            responder=self.responder,
            connect_timeout=self.connect_timeout,
            persist=self._persist_within_age(),
            logins_per_hour=self.dials_per_hour,
        )

    def _persist_within_age(self) -> int | None:
        if self.max_age is None:
            return self.persist
        most = max(1, int(self.max_age))
        return most if self.persist is None else min(self.persist, most)

    @property
    def login_time(self) -> float:
        """Seconds that a login may take; with a responder this includes the time to answer."""
        unattended = self.connect_timeout * 2 + 10
        return unattended if self.responder is None else unattended + ANSWER_TIME

    def _locked(
        self, path: str, *, needs: float = LOCK_SLACK
    ) -> contextlib.AbstractContextManager[None]:
        """Hold the lock of this route; ``ConnectError`` if it cannot be acquired.

        Waits at least as long as a login of its holder may take.
        """
        patience = self.connect_timeout * 2 + 10 + LOCK_SLACK
        lock = runtime_directory.lock_of(path)
        return locks.locked(lock, host=self.destination.host, timeout=patience, needs=needs)

    def _required(self) -> MasterRequired:
        where = "that your ControlPath names " if self.policy == "user" else ""
        return MasterRequired(
            f'there is no live master {where}and master="{self.policy}" does not open one',
            host=self.destination.host,
            advice=f"Type `{self.destination.shell_command('-M', '-f', '-N')}`"
            + (" with a ControlPath in your ssh configuration." if self.policy == "user" else "."),
        )

    def _open_locked(self, path: str, *, override: bool) -> Link:
        silent = False
        try:
            link = self.find()  # another process may have opened one meanwhile
        except ConnectError:
            link, silent = None, True
        if link is not None:
            if not self.is_over_age(link):
                return link
            self._retire(link)
        free = [
            place
            for place in runtime_directory.places(path)
            if self._remove_dead(place, silent=silent)
        ]
        if not free:
            self._remove_dead(path, silent=True)
        path = free[0] if free else path
        # Most programs find an open master and do not need these modules.
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
        """Under the lock: remove a socket without a live master, and end a master without one.

        ``silent``: the master accepts connections but does not answer.  False if a master without
        a socket still has sessions: when it ends it removes the file of this name.
        """
        before = pid_file.read(path)
        if before is not None and pid_file.is_master(before, path):
            # A master whose socket file was deleted or replaced takes no new sessions, but its
            # sessions continue, and ControlPersist ends it after them.
            serves = pid_file.has_sessions(path)
            without_end = serves is None and self.persist is None
            if silent or serves is False or without_end:
                log.warning("%s: ending master %d out of reach", self.destination.host, before.pid)
                pid_file.end(before)
            else:
                log.warning("%s: master %d has lost its socket", self.destination.host, before.pid)
                return False
        pid_file.forget(path)
        runtime_directory.remove_file(path)
        return True

    # ------------------------------------------------------------------ end

    def discard(self, link: Link) -> None:
        """End a master that was found not to work; a master of the user is left alone."""
        if not link.ours:
            return
        path = link.path
        # Before the lock: during the wait the pid may be given to another process.
        meant = pid_file.identify(link.pid)
        with self._locked(path):
            now = pid_file.read(path)
            if now is not None and now.pid != link.pid:
                return  # it was replaced already
            if pid_file.is_master(meant, path):
                pid_file.end(meant)
            self._clean_up(path)

    def discard_silent(self) -> None:
        """End our master that does not answer (``find`` raised ``ConnectError``)."""
        for path, ours in self.candidates():
            if ours:
                with self._locked(path):
                    try:
                        mux_protocol.alive(path, timeout=ALIVE_TIMEOUT)
                    except mux_protocol.MuxError:
                        self._remove_dead(path, silent=True)

    def _clean_up(self, path: str) -> None:
        """Under the lock: remove the files of an ended master, unless there is a new one."""
        try:
            mux_protocol.alive(path, timeout=ALIVE_TIMEOUT)
        except mux_protocol.NoMaster:
            pass
        except mux_protocol.MuxError:
            return
        else:
            return
        from . import login

        login.remove_logs(path)
        for suffix in ("", ".pid", ".wanted", ".json"):
            runtime_directory.remove_file(path + suffix)

    def stop(self, link: Link, *, drain: float = 10.0) -> bool:
        """End our master: no new sessions, then wait ``drain`` seconds at most, then kill it.

        Returns false, and does nothing, for a master that the user opened.
        """
        if not link.ours:
            return False
        meant = pid_file.identify(link.pid)
        with self._locked(link.path):
            ending = [meant, *self._out_of_reach(link.path)]
            if not pid_file.is_master(meant, link.path):
                return True
            # Without a pid file it does not count as a master that lost its socket.
            pid_file.forget(link.path)
            try:
                mux_protocol.stop(link.path, timeout=ALIVE_TIMEOUT)
            except mux_protocol.NoMaster:
                pass
            except mux_protocol.MuxError as error:
                log.warning(
                    "%s: the master did not accept the stop request: %s",
                    self.destination.host,
                    error,
                )
            # Processes with an idle session close it when another one needs a session.
            runtime_directory.ask_for_session(link.path)
        deadline = time.monotonic() + drain
        for owner in ending:
            if not pid_file.wait(owner, deadline - time.monotonic()):
                pid_file.end(owner)
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
        return [
            owner
            for place, owner in noted
            if owner is not None and pid_file.is_master(owner, place)
        ]

    def lost(self, link: Link, what: str, *, sent: Sent = "maybe", why: str = "") -> ConnectionLost:
        """The error for a call whose link was lost, with the last message of the master."""
        from . import login, ssh_errors

        tail = ssh_errors.words_of(login.read_log(link.path)) if link.ours else []
        words = [text for text in (why, tail[-1] if tail else "") if text]
        reason = f" ({'; '.join(words)})" if words else ""
        return ConnectionLost(
            f"the connection was lost{reason}", host=self.destination.host, command=what, sent=sent
        )
