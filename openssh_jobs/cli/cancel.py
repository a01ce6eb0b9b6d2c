"""``cancel``: cancel jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import options
from .exit_codes import ExitCode

if TYPE_CHECKING:
    import argparse

    from .output import Output

OUTCOMES = {
    "requested": (ExitCode.OK, "is being cancelled"),
    "already_finished": (ExitCode.OK, "had already ended"),
    "not_found": (ExitCode.FAILED, "is not known there"),
    "permission": (ExitCode.REFUSED, "is not yours to cancel"),
    "invalid_request": (ExitCode.REFUSED, "cannot be cancelled: the scheduler refused"),
    "transient": (
        ExitCode.UNKNOWN,
        "may not be cancelled: the scheduler did not answer; try again",
    ),
    "unknown": (
        ExitCode.UNKNOWN,
        "may not be cancelled: the scheduler's answer was not understood",
    ),
}
"""The exit code for an outcome, and what is said about the job."""


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``cancel`` to the command line."""
    parser = options.add_command(
        subparsers,
        "cancel",
        summary,
        run,
        usage="[options] HOST JOB...",
        examples="""\
  openssh-jobs cancel hpc 4711 4712
      one command for all; prints the outcome of each""",
    )
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("jobs", metavar="JOB", nargs="+")
    options.add_scheduler_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Cancel jobs; the highest code of an outcome is the exit code."""
    from ..jobs.status import NOT_LISTED

    with options.cluster(args) as cluster:
        outcomes = cluster.cancel(args.jobs)
    worst = ExitCode.OK
    for job_id, outcome in outcomes.items():
        code, text = OUTCOMES[outcome]
        if outcome == "not_found":
            text = f"{text}: {NOT_LISTED}"
        worst = max(worst, code)
        write = output.say if code == ExitCode.OK else output.note
        write(f"{args.host}: job {job_id} {text}")
    if output.json:
        output.data({"host": args.host, "outcomes": outcomes})
    return worst
