"""``release``: let held jobs start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import acting
from .exit_codes import ExitCode

if TYPE_CHECKING:
    import argparse

    from .output import Output

_TEXTS = {
    "requested": "is released",
    "already_finished": "had already ended",
    "not_found": "is not known there",
    "permission": "is not yours to release",
    "invalid_request": "cannot be released: the scheduler refused",
    "transient": "may not be released: the scheduler did not answer; try again",
    "unknown": "may not be released: the scheduler's answer was not understood",
}


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``release`` to the command line."""
    acting.add_options(
        subparsers,
        "release",
        summary,
        run,
        """\
  openssh-jobs release hpc 4711
      jobs that were held by `openssh-jobs hold` or `submit --hold`""",
    )


def run(args: argparse.Namespace, output: Output) -> int:
    """Release held jobs."""
    return acting.act("release", _TEXTS, args, output, ended=ExitCode.FAILED)
