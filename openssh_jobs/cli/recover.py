"""``recover``: go on with the jobs that another machine submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import options
from .exit_codes import ExitCode
from .status import JOBS

if TYPE_CHECKING:
    import argparse

    from .output import Output


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``recover`` to the command line."""
    parser = options.add_command(
        subparsers,
        "recover",
        summary,
        run,
        usage="[options] HOST DIRECTORY",
        examples="""\
  openssh-jobs recover hpc runs
      the jobs that another machine submitted in runs and below go on from here""",
    )
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("directory", metavar="DIRECTORY", help="on the host")
    options.add_scheduler_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Write the jobs below a directory to the journal of this machine, and print them."""
    with options.cluster(args) as cluster:
        statuses = [job.last for job in cluster.recover(args.directory)]
    if output.json:
        output.data({"host": args.host, "jobs": JOBS.records(statuses)})
        return ExitCode.OK
    JOBS.show(statuses, output)
    if not statuses:
        output.say(f"{args.host}: no job of yours below {args.directory}.")
    return ExitCode.OK
