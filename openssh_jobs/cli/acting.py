"""What ``cancel``, ``hold`` and ``release`` share: one command for all jobs, and its outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from . import options
from .exit_codes import ExitCode

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from .output import Output

_CODES = {
    "requested": ExitCode.OK,
    "already_finished": ExitCode.OK,
    "not_found": ExitCode.FAILED,
    "permission": ExitCode.REFUSED,
    "invalid_request": ExitCode.REFUSED,
    "transient": ExitCode.UNKNOWN,
    "unknown": ExitCode.UNKNOWN,
}


def add_options(subparsers: Any, name: str, summary: str, run: options.Run, examples: str) -> None:
    """Add one of the three."""
    parser = options.add_command(
        subparsers, name, summary, run, usage="[options] HOST JOB...", examples=examples
    )
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("jobs", metavar="JOB", nargs="+")
    options.add_scheduler_options(parser)


def act(
    action: Literal["cancel", "hold", "release"],
    texts: Mapping[str, str],
    args: argparse.Namespace,
    output: Output,
    *,
    ended: ExitCode = ExitCode.OK,
) -> ExitCode:
    """Act on the jobs; the highest code of an outcome is the exit code.

    ``texts``: what each outcome means for a job.  ``ended``: the code of one that had ended before.
    """
    from ..jobs.status import NOT_LISTED

    with options.cluster(args) as cluster:
        outcomes = getattr(cluster, action)(args.jobs)
    worst = ExitCode.OK
    for job_id, outcome in outcomes.items():
        code = ended if outcome == "already_finished" else _CODES[outcome]
        text = texts[outcome]
        if outcome == "not_found":
            text = f"{text}: {NOT_LISTED}"
        worst = max(worst, code)
        write = output.say if code == ExitCode.OK else output.note
        write(f"{args.host}: job {job_id} {text}")
    if output.json:
        output.data({"host": args.host, "outcomes": outcomes})
    return worst
