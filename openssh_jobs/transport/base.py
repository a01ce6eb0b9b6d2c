"""The interface between the code that runs commands on a host and the way to reach the host.

A ``Transport`` opens one session at a time over a link: a command with three descriptors as its
streams.  ``mux``, ``process`` and ``local`` are its implementations; one conformance suite runs
over all of them (tests/real/transport/test_conformance.py).  ``Sessions`` adds what they share:
the session limit, waiting for a free session, retries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ..openssh.mux_protocol import Link as Link

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..errors import ConnectionLost, Sent


PROBE = b"exit 0; : openssh-jobs-probe"
"""The command of ``Transport.answers``; it may hang where an account's rc files do."""
PROBE_SUBSYSTEM = b"openssh-jobs-probe"
"""A subsystem that no server has: its refusal is an answer, and no shell is started for it."""


class TransportError(Exception):
    """No session was opened, or it ended before its command began.

    ``sent``: whether the command may have reached the host.
    """

    def __init__(self, message: str, *, sent: Sent = "no") -> None:
        super().__init__(message)
        self.sent: Sent = sent


class SessionRefused(TransportError):
    """No further session is granted at present; nothing was run."""


class RequestRefused(TransportError):
    """The request was refused for good, with the reason in the message."""


class LinkLost(TransportError):
    """The link does not exist any more, or ended in the middle of the request."""


class LinkSilent(TransportError):
    """No answer came in time."""


class ProtocolMismatch(TransportError):
    """The other side speaks another version of the protocol."""


class Session(Protocol):
    """A command at work on the host."""

    @property
    def status(self) -> int | None:
        """The exit status; ``None`` while the command runs, or if the status is not certain."""

    def wait(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the end; false if the session goes on."""

    def close(self) -> None:
        """Release the session; the command on the host is not ended by this."""

    def abandon(self) -> None:
        """In a forked child: forget the session, which is the parent's, and send nothing."""


class Transport(Protocol):
    """A way to a host."""

    @property
    def host(self) -> str:
        """The host as the user named it, for messages."""

    @property
    def by_hand(self) -> str:
        """A shell command line with which a user can start a session without this package."""

    @property
    def default_sessions(self) -> int:
        """How many sessions are open at a time, unless the user gives another limit."""

    @property
    def always_wide(self) -> bool:
        """Whether a second session is certain to be granted beside a running one."""

    def link(self) -> Link:
        """The existing link, or a new one.  Raises ``ConnectError`` and its subclasses."""

    def is_over_age(self, link: Link) -> bool:
        """Whether the link is too old, and ``link()`` gives another one.  Sends nothing."""

    def discard(self, link: Link) -> None:
        """Discard a link that was found not to work."""

    def answers(self, link: Link, timeout: float) -> bool:
        """Whether the host answers over this very link, within ``timeout`` seconds."""

    def open(
        self, link: Link, command: bytes, fds: Sequence[int], *, subsystem: bool = False
    ) -> Session:
        """Start a command line of the login shell, or a subsystem, with ``fds`` as its streams.

        Raises a ``TransportError``, with ``sent`` as far as it is known.
        """

    def failure(self, session: Session, stderr: bytes) -> TransportError | None:
        """Why a session ended before its command started; ``None`` if its status is the command's.

        ``stderr``: the bytes that arrived on the third stream.
        """

    def lost(self, link: Link, what: str, *, sent: Sent, why: str) -> ConnectionLost:
        """The error for a call (``what``) during which the link was lost."""

    def program(self, link: Link, name: str) -> list[str] | None:
        """How a local program reaches the host over this link; ``None`` where it cannot.

        For ``sftp`` and ``scp`` the program and its options; for ``ssh`` a command line to which
        a host name and a remote command can be added (``rsync -e``).
        """
