"""``wait``: wait until jobs are over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import exit_codes, options
from .exit_codes import ExitCode
from .listed_job import JOBS, ListedJob

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from ..jobs import JobStatus
    from .output import Output


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``wait`` to the command line."""
    parser = options.add_command(
        subparsers,
        "wait",
        summary,
        run,
        usage="[options] HOST JOB...",
        examples="""\
  openssh-jobs wait hpc 4711 4712 && openssh-jobs fetch hpc 4711 results
      0 if all completed, 1 if one did not, 5 if the end of one is not known
  openssh-jobs wait hpc 4711 --timeout 3600
      124 if they are not over by then; Ctrl-C and the timeout end no job""",
        codes=exit_codes.help_text((*exit_codes.OF_MOST_COMMANDS, ExitCode.TIMED_OUT)),
    )
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("jobs", metavar="JOB", nargs="+")
    parser.add_argument(
        "--timeout", type=options.seconds, metavar="SECONDS", help="wait no longer than this"
    )
    options.add_scheduler_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Wait for jobs, show each change to a person, and then how they ended."""
    again = options.advised_command(args, "wait", args.host, *args.jobs)
    output.if_interrupted = f"the jobs go on; `{again}` waits again"

    def show(changed: Sequence[JobStatus]) -> None:
        for status in changed:
            where = f" on {', '.join(status.nodes)}" if status.nodes else ""
            why = f" ({status.reason})" if status.reason and not where else ""
            output.note(f"{args.host}: job {status.job_id}: {status.state}{where}{why}")

    is_timeout = False
    with options.cluster(args) as cluster:
        try:
            ended = cluster.wait(
                args.jobs,
                timeout=args.timeout,
                on_change=show if output.may_draw else None,
            )
        except TimeoutError:
            if args.timeout is None:
                raise
            is_timeout = True
            ended = [job.last for job in map(cluster.job, args.jobs)]
    jobs = [ListedJob.of_status(args.host, status) for status in ended]
    if output.json:
        output.data({"host": args.host, "timed_out": is_timeout, "jobs": JOBS.records(jobs)})
    elif output.on_terminal and not output.quiet:
        JOBS.show(jobs, output)
    if is_timeout:
        output.note(f"{args.host}: not over after {args.timeout:g} s; the jobs go on.")
        return ExitCode.TIMED_OUT
    return code_of(ended)


def code_of(ended: Sequence[JobStatus]) -> ExitCode:
    """0 if all completed, 1 if one ended in another way, else 5."""
    if any(status.is_final and status.state != "completed" for status in ended):
        return ExitCode.FAILED
    return ExitCode.OK if all(status.is_final for status in ended) else ExitCode.UNKNOWN
