"""Sessions as guarded ``ssh -S`` subprocesses, for masters that speak another version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..openssh import guest, process
from .base import Link, LinkLost, Session, SessionRefused, TransportError
from .mux import MuxTransport

if TYPE_CHECKING:
    from collections.abc import Sequence


class ProcessSession:
    """A session that one ``ssh -S`` process holds."""

    def __init__(self, child: process.Child) -> None:
        self._child = child

    @property
    def status(self) -> int | None:
        """The exit status; ``None`` for 255 and signals, which can be ssh's own."""
        code = self._child.returncode
        return code if code is not None and 0 <= code < 255 else None

    def wait(self, timeout: float) -> bool:
        """Wait for ssh to end."""
        return process.wait(self._child, timeout)

    def close(self) -> None:
        """End the ssh process; the master stays."""
        if self._child.poll() is None:
            process.end(self._child)

    def abandon(self) -> None:
        """In a forked child: do not wait for the parent's process (Popen would warn otherwise)."""
        self._child.returncode = 0


class ProcessTransport(MuxTransport):
    """Sessions on the same master, each held by a separate ``ssh`` process."""

    def open(
        self, link: Link, command: bytes, fds: Sequence[int], *, subsystem: bool = False
    ) -> Session:
        """Start ``ssh`` as a guest of the master."""
        argv: list[bytes | str] = [*guest.arguments("ssh", link.path), "-T"]
        if self.forward_agent:
            argv.append("-A")
        argv += [*(["-s"] if subsystem else []), "--", "none", command]
        return ProcessSession(process.spawn(argv, stdin=fds[0], stdout=fds[1], stderr=fds[2]))

    def failure(self, session: Session, stderr: bytes) -> TransportError | None:
        """The error from ssh's messages, if the status can be ssh's own."""
        if session.status is not None:
            return None
        return guest_error(stderr)


def guest_error(stderr: bytes) -> TransportError:
    """Why a guest of the master ended before it did anything, from its messages."""
    kind, words = guest.failure_of(stderr)
    if kind == "refused":
        return SessionRefused(words)
    return LinkLost(words, sent="no" if kind == "no master" else "maybe")
