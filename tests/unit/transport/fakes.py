"""A host that answers from a list behind the methods of ``Transport``, and its sessions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from openssh_jobs.errors import ConnectionLost, OpenSSHJobsError, Sent
from openssh_jobs.transport.base import (
    Link,
    LinkLost,
    LinkSilent,
    SessionRefused,
    TransportError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

OPENED = None
"""The answer that opens a session."""


def refused() -> TransportError:
    """The answer of a server that grants no further session."""
    return SessionRefused("no more sessions")


def lost(sent: Sent) -> TransportError:
    """The link ends before (``"no"``) or after (``"maybe"``) the request is sent."""
    return LinkLost("the socket was closed", sent=sent)


def silent() -> TransportError:
    """No answer comes to a request that was sent."""
    return LinkSilent("no answer came", sent="maybe")


class FakeSession:
    """A command that runs until ``end``."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.is_open = True
        self.abandoned = False

    def end(self, status: int = 0) -> None:
        """The command ends on the host, and its session with it."""
        self.status = status
        self.is_open = False

    def wait(self, timeout: float) -> bool:
        return not self.is_open

    def close(self) -> None:
        self.is_open = False

    def abandon(self) -> None:
        self.abandoned = True


class FakeTransport:
    """``answers``: one for each request, in turn; then every session is opened.

    ``granted``: how many sessions are open at a time (MaxSessions); one more is refused.
    ``no_links``: the errors of the calls of ``link``, in turn.
    """

    host = "hpc"
    by_hand = "ssh hpc"
    default_sessions = 10

    def __init__(
        self, *answers: TransportError | None, granted: int | None = None, path: str = ""
    ) -> None:
        self.script = list(answers)
        self.granted = granted
        self.always_wide = False
        self.is_well = True
        """Whether the host answers over a link."""
        self.path = path
        """Of the socket; with it the links are ours."""
        self.pid = os.getpid()
        self.no_links: list[OpenSSHJobsError] = []
        self.links: list[Link] = []
        self.discarded: list[Link] = []
        self.checked = 0
        self.requests: list[bytes] = []
        self.sessions: list[FakeSession] = []

    def link(self) -> Link:
        if self.no_links:
            raise self.no_links.pop(0)
        # Each has another path, so that a new one is not taken for the one before.
        link = Link(self.path or f"/nowhere/{len(self.links)}", self.pid, bool(self.path))
        self.links.append(link)
        return link

    def is_over_age(self, link: Link) -> bool:
        return False

    def discard(self, link: Link) -> None:
        self.discarded.append(link)

    def answers(self, link: Link, timeout: float) -> bool:
        self.checked += 1
        return self.is_well

    def open(
        self, link: Link, command: bytes, fds: Sequence[int], *, subsystem: bool = False
    ) -> FakeSession:
        self.requests.append(command)
        answer = self.script.pop(0) if self.script else OPENED
        if answer is not None:
            raise answer
        if self.granted is not None and self.open_now >= self.granted:
            raise refused()
        session = FakeSession()
        self.sessions.append(session)
        return session

    @property
    def open_now(self) -> int:
        """How many sessions the host has at present."""
        return sum(session.is_open for session in self.sessions)

    def failure(self, session: object, stderr: bytes) -> TransportError | None:
        if b"refused" in stderr:
            return refused()
        return lost("maybe") if b"lost" in stderr else None

    def lost(self, link: Link, what: str, *, sent: Sent, why: str) -> ConnectionLost:
        return ConnectionLost(
            f"the connection was lost ({why})", host=self.host, command=what, sent=sent
        )

    def program(self, link: Link, name: str) -> list[str] | None:
        return [name, link.path]
