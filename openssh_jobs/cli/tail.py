"""``tail``: print the output of a job."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

from ..errors import ArrayOutput
from . import options
from .exit_codes import ExitCode, UsageError
from .output import moment

if TYPE_CHECKING:
    import argparse

    from ..jobs import JobStatus
    from .output import Output


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``tail`` to the command line."""
    parser = options.add_command(
        subparsers,
        "tail",
        summary,
        run,
        usage="[options] HOST JOB",
        examples="""\
  openssh-jobs tail hpc 4711 -f
      until the job ends; Ctrl-C does not end the job. 0 if it completed, 1 if not
  openssh-jobs tail hpc 4711 -n 20 --stderr""",
    )
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("job", metavar="JOB")
    parser.add_argument("-f", "--follow", action="store_true", help="until the job ends")
    parser.add_argument(
        "-n",
        "--lines",
        type=options.whole_number,
        metavar="N",
        help="of what is there, only the last N lines",
    )
    parser.add_argument("--stderr", action="store_true", help="standard error, not output")
    options.add_scheduler_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Print a job's output; with ``--follow`` the exit code says how the job ended."""
    if args.follow and output.json:
        raise UsageError(
            "openssh-jobs tail: --json prints what is there now; it cannot be combined with -f."
        )
    stream = "stderr" if args.stderr else "stdout"
    if args.follow:
        command = options.advised_command(args, "tail", args.host, args.job, "-f")
        output.if_interrupted = f"job {args.job} goes on; `{command}` shows it again"
    with options.cluster(args) as cluster:
        job = cluster.job(args.job)

        said = ""

        def waits(status: JobStatus) -> None:
            nonlocal said
            why = f" ({status.reason})" if status.reason else ""
            when = status.expected_start
            at = f", starts about {moment(when).removeprefix('today ')}" if when else ""
            text = f"{args.host}: job {args.job} is {status.state}{why}{at}; waiting"
            if text != said:  # estimates change by seconds
                output.note(text)
            said = text

        lines = job.tail(
            stream,
            follow=args.follow,
            lines=args.lines,
            on_pending=None if output.quiet else waits,
        )
        if output.json:
            output.data({"host": args.host, "job_id": job.id, stream: "".join(lines)})
            return ExitCode.OK
        try:
            for line in lines:
                # The bytes of the file, unchanged.
                sys.stdout.flush()
                sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape"))
                sys.stdout.buffer.flush()
        except ArrayOutput as error:
            if error.elements:
                words = [
                    error.elements[0] if word == args.job else word for word in args.command_line
                ]
                error.advice = f"Name one: `{shlex.join(['openssh-jobs', *words])}`."
            raise
        if not args.follow:
            return ExitCode.OK
        last = job.last
    if last.state == "completed":
        return ExitCode.OK
    ended = f" with exit code {last.exit_code}" if last.state == "failed" and last.exit_code else ""
    output.note(f"{args.host}: job {args.job}: {last.state}{ended}")
    return ExitCode.FAILED if last.is_final else ExitCode.UNKNOWN
