"""What the errors of this package are given as keywords, and keep in attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypedDict, TypeVar

Sent = Literal["no", "maybe", "yes"]
SCHEDULER_ERROR_KINDS = (
    "transient", "transport", "not_found", "permission", "scheduler_missing", "limit",
    "invalid_request", "not_submit_host", "no_job_id", "unsupported", "finished_see_history",
    "parse_error",
)  # fmt: skip

_Output_co = TypeVar("_Output_co", covariant=True)


class Facts(TypedDict, total=False):
    """What every error is given as keywords, and keeps in attributes of these names."""

    host: str | None
    command: str | None
    advice: str | None
    sent: Sent | None


class SchedulerFacts(Facts, total=False):
    """Those of a ``SchedulerError``."""

    kind: str
    stdout: str
    stderr: str
    returncode: int | None


class ResultLike(Protocol[_Output_co]):
    """``CommandResult``, as its errors see it: text or bytes, whatever the call asked for."""

    @property
    def args(self) -> str | bytes | Sequence[str | bytes]: ...

    @property
    def returncode(self) -> int: ...

    @property
    def stdout(self) -> _Output_co: ...

    @property
    def stderr(self) -> _Output_co: ...

    @property
    def host(self) -> str: ...

    @property
    def elapsed(self) -> float: ...

    def decoded(self, encoding: str = ..., errors: str = ...) -> ResultLike[str]: ...


class CommandFacts(Facts, total=False):
    """Those of an error that has a result."""

    result: ResultLike[str | bytes] | None
