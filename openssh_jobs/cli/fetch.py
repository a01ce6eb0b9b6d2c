"""``fetch``: copy a job's directory to this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import options
from .exit_codes import ExitCode
from .progress import Progress

if TYPE_CHECKING:
    import argparse

    from .output import Output


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``fetch`` to the command line."""
    parser = options.add_command(
        subparsers,
        "fetch",
        summary,
        run,
        usage="[options] HOST JOB LOCAL",
        examples="""\
  openssh-jobs fetch hpc 4711 results
      the whole directory, as the new local directory results
  openssh-jobs fetch hpc 4711 results --only '*.log' --only '*.out' --merge""",
    )
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("job", metavar="JOB")
    parser.add_argument("local", metavar="LOCAL", help="a new directory here")
    options.add_transfer_options(parser)
    options.add_scheduler_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Copy a job's directory to this machine."""
    output.if_interrupted = f"what was at {args.local} before is unchanged"
    arguments = options.transfer_arguments(args)
    with options.cluster(args) as cluster:
        job = cluster.job(args.job)
        with Progress(output, f"from {args.host}, job {args.job}") as progress:
            try:
                moved = job.fetch(args.local, progress=progress, **arguments)
            except OSError as error:
                raise options.with_transfer_advice(error, args.local) from error
        options.report_transfer(
            output,
            moved,
            source=f"{args.host}:{job.directory}",
            target=args.local,
            host=args.host,
        )
    return ExitCode.OK
