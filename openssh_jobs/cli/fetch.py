"""``fetch``: copy a job's directory to this machine."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ..cluster.job import EVERYTHING
from ..errors import InputError, JobPending
from . import exit_codes, options, transfers
from .exit_codes import ExitCode

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from ..cluster.job import Job
    from ..jobs import JobStatus
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
  openssh-jobs fetch hpc 4711 results --only '*.log' --only '*.out' --merge
  openssh-jobs fetch hpc 4711 results --wait
      when the job is over; then 0 if it completed, 1 if not""",
        codes=exit_codes.help_text((*exit_codes.OF_MOST_COMMANDS, ExitCode.PENDING)),
    )
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("job", metavar="JOB")
    parser.add_argument("local", metavar="LOCAL", help="a new directory here")
    parser.add_argument("--wait", action="store_true", help="wait for the end of the job first")
    transfers.add_options(parser, all_help="; also a home directory that a job ran in")
    options.add_scheduler_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Copy a job's directory to this machine."""
    output.if_interrupted = f"what was at {args.local} before is unchanged"
    transfers.arguments(args)
    with options.cluster(args) as cluster:
        job = cluster.job(args.job)
        if args.wait:
            _wait(job, args, output)
        mover = transfers.Mover(
            args,
            output,
            what=f"from {args.host}, job {args.job}",
            source=f"{args.host}:{job.directory or args.job}",
            target=args.local,
        )
        try:
            mover.run(partial(job.fetch, args.local, everything=args.all))
        except JobPending as error:
            error.advice = f"Wait for its end with: {transfers.again(args, '--wait')}"
            raise
        except InputError as error:
            if error.advice == EVERYTHING:
                error.advice = f"All of it, with its size first: {transfers.again(args, '--all')}"
            raise
    if args.wait and job.last.is_final and job.last.state != "completed":
        code = f" with exit code {job.exit_code}" if job.exit_code else ""
        output.note(f"{args.host}: job {args.job}: {job.last.state}{code}")
        return ExitCode.FAILED
    return ExitCode.OK


def _wait(job: Job, args: argparse.Namespace, output: Output) -> None:
    """Wait for the end of a job; on a terminal each change of its state is said."""
    again = transfers.again(args)
    output.if_interrupted = f"job {args.job} goes on; {again} waits again"

    def show(changed: Sequence[JobStatus]) -> None:
        for status in changed:
            if not status.is_final:
                why = f" ({status.reason})" if status.reason else ""
                output.note(f"{args.host}: job {args.job} is {status.state}{why}; waiting")

    job.wait(on_change=show if output.may_draw else None)
