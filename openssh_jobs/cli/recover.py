"""``recover``: finish submissions without an answer, or go on with another machine's jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import exit_codes, options
from .exit_codes import ExitCode
from .listed_job import JOBS, ListedJob
from .output import error_data, error_sentence

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
        usage="[options] [HOST [DIRECTORY]]",
        examples="""\
  openssh-jobs recover hpc
      each submission to hpc that got no answer: its job is found; or there is
      none, and it is submitted now, or removed if its files are not complete
  openssh-jobs recover
      the same for all hosts with such submissions
  openssh-jobs recover hpc runs
      the jobs that another machine submitted in runs and below go on from here

Exit code 5: of some it is still unknown whether their jobs exist. Ask again
later; nothing is ever submitted twice.""",
    )
    parser.add_argument("host", metavar="HOST", nargs="?", help="default: all hosts with any")
    parser.add_argument(
        "directory", metavar="DIRECTORY", nargs="?", help="on the host: take over its jobs"
    )
    options.add_scheduler_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Finish the open submissions; the highest exit code of them is the exit code."""
    if args.directory is not None:
        return _take_over(args, output)
    is_one = args.host is not None
    hosts = [args.host] if is_one else _hosts()
    facts: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    worst = ExitCode.OK
    for host in hosts:
        args.host = host
        try:
            worst = max(worst, _finish(args, output, facts))
        except Exception as error:
            if is_one:
                raise
            worst = max(worst, exit_codes.of_error(error))
            errors.append(error_data(error)["error"])
            output.note(error_sentence(error))
    if output.json:
        output.data({"submissions": facts, "errors": errors})
    elif not facts and not errors:
        output.say(f"{args.host}: no submission is open" if is_one else "no submission is open")
    return worst


def _take_over(args: argparse.Namespace, output: Output) -> ExitCode:
    """Write the jobs below a directory to the journal of this machine, and print them."""
    with options.cluster(args) as cluster:
        jobs = [
            ListedJob.of_status(cluster.host, job.last) for job in cluster.recover(args.directory)
        ]
    if output.json:
        output.data({"host": args.host, "jobs": JOBS.records(jobs)})
        return ExitCode.OK
    JOBS.show(jobs, output)
    if not jobs:
        output.say(f"{args.host}: no job of yours below {args.directory}.")
    return ExitCode.OK


def _hosts() -> list[str]:
    from ..cluster.journal import Journal

    journal = Journal()
    try:
        return list(dict.fromkeys(row.host for row in journal.rows(is_open=True)))
    finally:
        journal.close()


def _finish(args: argparse.Namespace, output: Output, facts: list[dict[str, Any]]) -> ExitCode:
    """The submissions of one host."""
    from ..errors import SubmitUnknown

    worst = ExitCode.OK
    with options.cluster(args) as cluster:
        finished = cluster.internal.recover()
    for row, outcome in finished:
        job_id = reason = None
        what = f"{args.host}: {row.name} in {row.directory} (token {row.token})"
        if not isinstance(outcome, Exception):
            state, job_id = "submitted", outcome.job_id
            if not output.json:
                output.line(f"{what} is job {job_id}")
        else:
            reason = outcome.message
            is_unknown = isinstance(outcome, SubmitUnknown)
            state = "unknown" if is_unknown else "no_job"
            worst = max(worst, ExitCode.UNKNOWN if is_unknown else ExitCode.OK)
            output.note(f"{what} {'may have a job' if is_unknown else 'has no job'}: {reason}")
        facts.append(
            {
                "host": args.host,
                "token": row.token,
                "name": row.name,
                "directory": row.directory,
                "state": state,
                "job_id": job_id,
                "reason": reason,
            }
        )
    return worst
