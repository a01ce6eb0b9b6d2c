"""Sessions on this machine: processes of this user, without ssh."""

from __future__ import annotations

import os
import time
import weakref
from typing import TYPE_CHECKING

from ..errors import ConnectionLost
from ..openssh import process, reaper
from .base import Link, RequestRefused, Session, SessionRefused, TransportError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..errors import Sent

_SESSIONS = 64
"""Enough for any program; a limit for one that starts processes without end."""
_SHELL = "/bin/sh"
_REAP_EVERY = 0.05
# rsync appends a host name and the words of a command, which a shell on the host would join.
_REMOTE_SHELL = [_SHELL, "-c", 'eval "$*"']


class LocalSession:
    """A shell on this machine that leads a new process group."""

    def __init__(self, child: process.Child, children: weakref.WeakSet[process.Child]) -> None:
        self._child = child
        self._children = children
        children.add(child)

    @property
    def status(self) -> int | None:
        """The exit status; ``None`` if a signal ended the shell, as with a remote host."""
        code = self._child.returncode
        return code if code is not None and code >= 0 else None

    def wait(self, timeout: float) -> bool:
        """Wait for the shell to end; others that have ended are reaped meanwhile.

        A script that ends a process group waits until the group does not exist any more, and it
        exists as long as its leader is a zombie.
        """
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            if process.wait(self._child, min(left, _REAP_EVERY)):
                return True
            for child in list(self._children):
                child.poll()
            if left <= 0:
                return False

    def close(self) -> None:
        """Release the session; a shell that still runs is reaped when it ends."""
        if self._child.poll() is None:
            reaper.watch(_Unreaped(self._child))

    def abandon(self) -> None:
        """In a forked child: do not wait for the parent's process (Popen would warn otherwise)."""
        self._child.returncode = 0


class _Unreaped:
    """A process for which no caller waits any more; it is reaped here, else it stays a zombie."""

    def __init__(self, child: process.Child) -> None:
        self._child = child

    def give_back(self, *, idle_for: float) -> bool:
        """Called by the reaper: whether the process has ended."""
        return self._child.poll() is not None


class LocalTransport:
    """This machine as a host: each session is a ``/bin/sh`` with this process's environment."""

    always_wide = True
    default_sessions = _SESSIONS
    by_hand = "/bin/sh -c"

    def __init__(self, host: str) -> None:
        self.host = host
        self._children: weakref.WeakSet[process.Child] = weakref.WeakSet()

    def link(self) -> Link:
        """This process, which always exists."""
        return Link(path="", pid=os.getpid(), ours=False)

    def is_over_age(self, link: Link) -> bool:
        """Never: there is no master."""
        return False

    def discard(self, link: Link) -> None:
        """Do nothing: there is no link to discard."""

    def answers(self, link: Link, timeout: float) -> bool:
        """Always true: this machine answers."""
        return True

    def open(
        self, link: Link, command: bytes, fds: Sequence[int], *, subsystem: bool = False
    ) -> Session:
        """Start a shell with the command line."""
        if subsystem:
            raise RequestRefused("there are no subsystems without ssh")
        argv: list[str | bytes] = [_SHELL, "-c", command]
        try:
            child = process.spawn(
                argv, stdin=fds[0], stdout=fds[1], stderr=fds[2], own_environment=True
            )
        except BlockingIOError as error:
            # EAGAIN of fork(2): as many processes as the user may have.
            raise SessionRefused(f"no process could be started: {error.strerror}") from error
        except OSError as error:
            raise RequestRefused(f"{_SHELL} could not be started: {error}") from error
        return LocalSession(child, self._children)

    def failure(self, session: Session, stderr: bytes) -> TransportError | None:
        """Always ``None``: a shell that was started has begun its command."""
        return None

    def lost(self, link: Link, what: str, *, sent: Sent = "maybe", why: str = "") -> ConnectionLost:
        """The error for a shell that ended or stopped answering during a call."""
        reason = f" ({why})" if why else ""
        return ConnectionLost(
            f"the shell that ran it was lost{reason}", host=self.host, command=what, sent=sent
        )

    def program(self, link: Link, name: str) -> list[str] | None:
        """A command with which rsync starts its other half here; ``None`` for sftp and scp."""
        return list(_REMOTE_SHELL) if name == "ssh" else None
