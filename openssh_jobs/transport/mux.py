"""Sessions by the mux protocol: the master of a route opens them without starting a process."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from ..openssh import mux_protocol
from .base import (
    PROBE,
    PROBE_SUBSYSTEM,
    Link,
    LinkLost,
    LinkSilent,
    ProtocolMismatch,
    RequestRefused,
    Session,
    SessionRefused,
    TransportError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..errors import ConnectionLost, Sent
    from ..openssh.master import Master

FORWARD_LOCAL = mux_protocol.FORWARD_LOCAL
FORWARD_REMOTE = mux_protocol.FORWARD_REMOTE
OPEN_TIMEOUT = 60.0
"""Seconds for the server to grant one session; keepalives end a dead link earlier, after 45 s."""
_SESSIONS = 8
"""Below sshd's default of 10: the user's own terminals share the master."""

_NEUTRAL: dict[type[mux_protocol.MuxError], type[TransportError]] = {
    mux_protocol.MuxSessionRefused: SessionRefused,
    mux_protocol.MuxRefused: RequestRefused,
    mux_protocol.NoMaster: LinkLost,
    mux_protocol.MuxLost: LinkLost,
    mux_protocol.MuxTimeout: LinkSilent,
    mux_protocol.MuxVersion: ProtocolMismatch,
}


@contextlib.contextmanager
def _neutral() -> Iterator[None]:
    """Translate errors of the mux protocol to ``TransportError``."""
    try:
        yield
    except mux_protocol.MuxError as error:
        raise _NEUTRAL.get(type(error), TransportError)(str(error), sent=error.sent) from error


class MuxTransport:
    """Sessions on the master of one route."""

    always_wide = False
    default_sessions = _SESSIONS

    def __init__(self, master: Master, *, forward_agent: bool = False) -> None:
        self.master = master
        self.forward_agent = forward_agent

    @property
    def host(self) -> str:
        """The host as the user named it."""
        return self.master.destination.host

    @property
    def by_hand(self) -> str:
        """The user's own ``ssh`` to the same destination."""
        return self.master.destination.shell_command()

    def link(self) -> Link:
        """The live master of the route, or a new one (at most one login)."""
        return self.master.ensure()

    def is_over_age(self, link: Link) -> bool:
        """Whether the master is older than its ``max_age``."""
        return self.master.is_over_age(link)

    def discard(self, link: Link) -> None:
        """End our master; one that the user opened is left alone."""
        self.master.discard(link)

    def answers(self, link: Link, timeout: float) -> bool:
        """Whether the host answers over this master: a session granted or refused proves it.

        What runs in the session is not considered: the account's shell may never start.
        """
        try:
            if mux_protocol.alive(link.path, timeout=timeout) != link.pid:
                return False  # another master has replaced this one
            return self._session_is_answered(link, timeout)
        except mux_protocol.MuxVersion:
            return answers_guest(link, timeout)
        except mux_protocol.MuxError:
            return False

    @staticmethod
    def _session_is_answered(link: Link, timeout: float) -> bool:
        with open(os.devnull, "r+b") as nothing:
            fds = (nothing.fileno(),) * 3
            try:
                # The server refuses a subsystem that it does not have without a shell: one could
                # hang in the account's rc files, and would stay there.
                session = mux_protocol.open_session(
                    link.path, PROBE_SUBSYSTEM, fds, timeout=timeout, subsystem=True
                )
            except mux_protocol.MuxSessionRefused:
                return True
            # Wait briefly for its end, so that it does not count against MaxSessions.
            session.wait(min(timeout, 1.0))
            session.close()
            return True

    def open(
        self, link: Link, command: bytes, fds: Sequence[int], *, subsystem: bool = False
    ) -> Session:
        """Ask the master for a session."""
        with _neutral():
            return mux_protocol.open_session(
                link.path,
                command,
                fds,
                timeout=OPEN_TIMEOUT,
                subsystem=subsystem,
                forward_agent=self.forward_agent,
            )

    def failure(self, session: Session, stderr: bytes) -> TransportError | None:
        """A session without a status ended with its link, or because its shell was killed."""
        if session.status is not None:
            return None
        return LinkLost("the session ended before the command began", sent="maybe")

    def lost(self, link: Link, what: str, *, sent: Sent = "maybe", why: str = "") -> ConnectionLost:
        """The error for a lost link, with the last message of the master's log."""
        return self.master.lost(link, what, sent=sent, why=why)

    def program(self, link: Link, name: str) -> list[str] | None:
        """``ssh``, ``sftp`` or ``scp`` as a guest of the master."""
        from ..openssh import guest  # most programs do not need it

        match name:
            case "ssh":
                return [*guest.arguments("ssh", link.path), "-T"]
            case "sftp" | "scp":
                return guest.arguments(name, link.path)
        return None


def answers_guest(link: Link, timeout: float) -> bool:
    """Check with ``ssh -S``, for a master of another protocol version."""
    from ..openssh import guest, process

    argv = [*guest.arguments("ssh", link.path), "-T", "--", "none", PROBE.decode()]
    done = process.run(argv, timeout=timeout)
    if done.timed_out:
        return False
    return done.returncode != 255 or guest.failure_of(done.stderr)[0] == "refused"


# --------------------------------------------------------------------------- forwarded ports


def master_pid(link: Link, timeout: float) -> int | None:
    """The pid of the master behind a socket; ``None`` if no master listens there.

    Raises ``TransportError`` if a process listens there but does not answer.
    """
    try:
        with _neutral():
            return mux_protocol.alive(link.path, timeout=timeout)
    except LinkLost as error:
        if isinstance(error.__cause__, mux_protocol.NoMaster):
            return None
        raise


def forward(
    link: Link,
    kind: int,
    *,
    listen: tuple[str, int],
    connect: tuple[str, int],
    timeout: float,
    cancel: bool = False,
) -> int:
    """Ask the master to forward a port, or to cancel that; returns the port that is listened on.

    Raises ``RequestRefused`` with the reason, and the other kinds of ``TransportError``.
    """
    with _neutral():
        return mux_protocol.forward(
            link.path,
            kind,
            listen_host=listen[0],
            listen_port=listen[1],
            connect_host=connect[0],
            connect_port=connect[1],
            timeout=timeout,
            cancel=cancel,
        )
