"""``Liveness`` and ``Stats``: what ``check`` and ``stats`` of a host return."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counts of one object: logins made, sessions opened, commands run, control calls."""

    logins: int
    sessions: int
    commands: int
    control_calls: int
    sftp_processes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Liveness:
    """The result of ``check``; true only if the host answered over the link.

    ``master`` is the pid of a live master, ``answered`` whether the host replied, ``seconds`` the
    time of that round trip, ``ours`` whether this package opened the master and may end it.
    """

    master: int | None
    answered: bool
    ours: bool = False
    seconds: float | None = None
    reason: str = ""

    def __bool__(self) -> bool:
        return self.answered
