"""``CommandResult``: how a remote command ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, AnyStr, Generic

from ..errors import CommandFailed, OpenSSHJobsError
from .quoting import describe, to_text

if TYPE_CHECKING:
    from .options import Command

NO_STATUS = -1
"""``returncode`` of a command for which no exit status arrived."""


@dataclass(frozen=True, slots=True)
class CommandResult(Generic[AnyStr]):
    """How a remote command ended; reads like ``subprocess.CompletedProcess``.

    ``returncode`` is the remote status (128+N after signal N, -1 where none arrived), ``elapsed``
    is in seconds, ``error`` is what ``run`` would have raised for this command of ``run_many``.
    """

    args: Command
    returncode: int
    stdout: AnyStr
    stderr: AnyStr
    host: str = ""
    elapsed: float = 0.0
    error: OpenSSHJobsError | None = None

    def decoded(
        self, encoding: str = "utf-8", errors: str = "surrogateescape"
    ) -> CommandResult[str]:
        """Return the result with text instead of bytes."""
        return CommandResult(
            self.args,
            self.returncode,
            _text(self.stdout, encoding, errors),
            _text(self.stderr, encoding, errors),
            self.host,
            self.elapsed,
            self.error,
        )

    def check_returncode(self) -> None:
        """Raise ``CommandFailed`` (a ``CalledProcessError``) unless the status is 0."""
        if self.error is not None:
            raise self.error
        if self.returncode != 0:
            raise self._failed()

    def _failed(self) -> CommandFailed:
        stderr = self.stderr if isinstance(self.stderr, str) else to_text(self.stderr)
        lines = [line for line in stderr.strip().splitlines() if line.strip()]
        reason = f": {lines[-1].strip()}" if lines else ""
        what = describe(self.args)
        return CommandFailed(
            f"`{what}` ended with status {self.returncode}{reason}",
            host=self.host,
            command=what,
            result=self,
        )


def _text(output: str | bytes, encoding: str, errors: str) -> str:
    return output if isinstance(output, str) else output.decode(encoding, errors)
