"""``cancel``: cancel jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import acting

if TYPE_CHECKING:
    import argparse

    from .output import Output

TEXTS = {
    "requested": "is being cancelled",
    "already_finished": "had already ended",
    "not_found": "is not known there",
    "permission": "is not yours to cancel",
    "invalid_request": "cannot be cancelled: the scheduler refused",
    "transient": "may not be cancelled: the scheduler did not answer; try again",
    "unknown": "may not be cancelled: the scheduler's answer was not understood",
}


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``cancel`` to the command line."""
    acting.add_options(
        subparsers,
        "cancel",
        summary,
        run,
        """\
  openssh-jobs cancel hpc 4711 4712
      one command for all; prints the outcome of each""",
    )


def run(args: argparse.Namespace, output: Output) -> int:
    """Cancel jobs."""
    return acting.act("cancel", TEXTS, args, output)
