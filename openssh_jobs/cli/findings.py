"""``Finding``: the result of one check of ``doctor``, and how to fix what it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from . import exit_codes
from .exit_codes import ExitCode

Level = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check: ``mend`` says what to do, ``code`` is the exit code of a failure."""

    level: Level
    check: str
    text: str
    mend: str = ""
    code: ExitCode = ExitCode.OK


def ok(check: str, text: str) -> Finding:
    """The check passed."""
    return Finding(level="ok", check=check, text=text)


def warn(check: str, text: str, mend: str = "") -> Finding:
    """It works, with a drawback."""
    return Finding(level="warn", check=check, text=text, mend=mend)


def fail(check: str, text: str, mend: str = "", code: ExitCode = ExitCode.FAILED) -> Finding:
    """It does not work."""
    return Finding(level="FAIL", check=check, text=text, mend=mend, code=code)


def of_error(check: str, error: Exception) -> Finding:
    """An error as a finding; its advice is the fix."""
    message = getattr(error, "message", None)
    if message is None:
        return fail(check, f"{type(error).__name__}: {error}", code=exit_codes.of_error(error))
    return fail(check, message, getattr(error, "advice", None) or "", exit_codes.of_error(error))
