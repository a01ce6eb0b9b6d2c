"""``hold``: keep pending jobs from starting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import acting
from .exit_codes import ExitCode

if TYPE_CHECKING:
    import argparse

    from .output import Output

_TEXTS = {
    "requested": "is held",
    "already_finished": "had already ended",
    "not_found": "is not known there",
    "permission": "is not yours to hold",
    "invalid_request": "cannot be held: the scheduler refused",
    "transient": "may not be held: the scheduler did not answer; try again",
    "unknown": "may not be held: the scheduler's answer was not understood",
}


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``hold`` to the command line."""
    acting.add_options(
        subparsers,
        "hold",
        summary,
        run,
        """\
  openssh-jobs hold hpc 4711 4712
      they stay in the queue until `openssh-jobs release hpc 4711 4712`""",
    )


def run(args: argparse.Namespace, output: Output) -> int:
    """Hold pending jobs."""
    return acting.act("hold", _TEXTS, args, output, ended=ExitCode.FAILED)
