"""What a finished command answered.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Finished(Protocol):
    """Anything that has a finished command's output as text, such as a ``CommandResult``."""

    @property
    def stdout(self) -> str: ...
    @property
    def stderr(self) -> str: ...
    @property
    def returncode(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """The output and the exit status of one finished command, as a ``parse_`` method gets them."""

    stdout: str
    stderr: str = ""
    returncode: int = 0

    @classmethod
    def of(cls, result: Finished) -> Answer:
        """The answer that a result holds."""
        return cls(result.stdout, result.stderr, result.returncode)
