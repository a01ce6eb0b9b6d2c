"""``tail`` and ``fetch``: what a job has written."""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from . import options
from .files import add_transfer_options, tell_transfer, transfer_options, with_hint
from .progress import Progress

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from .output import Ui


def add_commands(commands: Any) -> None:
    """Add ``tail`` and ``fetch`` to the command line."""
    _add_tail(commands)
    _add_fetch(commands)


def _add_tail(commands: Any) -> None:
    parser = options.add_command(
        commands,
        "tail",
        run_tail,
        "print what a job has written",
        usage="[options] HOST JOB",
        examples="""\
  openssh-jobs tail hpc 4711 -f
      until the job is over; Ctrl-C leaves the job alone. 0 if it completed, 1 if not
  openssh-jobs tail hpc 4711 -n 20 --stderr""",
    )
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("job", metavar="JOB")
    parser.add_argument("-f", "--follow", action="store_true", help="until the job is over")
    parser.add_argument("-n", "--lines", type=int, metavar="N", help="only the last N lines so far")
    parser.add_argument("--stderr", action="store_true", help="standard error, not output")
    options.add_scheduler_options(parser)


def run_tail(args: argparse.Namespace, ui: Ui) -> int:
    """Print a job's output."""
    if args.lines is not None and (args.lines < 0 or args.follow):
        raise options.WrongUse(
            "openssh-jobs tail: -n wants a number from 0 on, and no -f beside it."
        )
    if args.follow and ui.json:
        raise options.WrongUse("openssh-jobs tail: --json tells of what is there now, without -f.")
    stream = "stderr" if args.stderr else "stdout"
    if args.follow:
        more = options.again(args, "tail", args.host, args.job, "-f")
        ui.goes_on = f"job {args.job} goes on; `{more}` shows it again"
    with options.cluster(args) as cluster:
        job = cluster.job(args.job)
        lines: Iterable[str] = job.tail(stream, follow=args.follow)
        if args.lines is not None:
            lines = deque(lines, maxlen=args.lines)
        if ui.json:
            ui.data({"host": args.host, "job_id": job.id, stream: "".join(lines)})
            return options.WELL
        for line in lines:
            # As it was written: the file's bytes, not our idea of them.
            sys.stdout.flush()
            sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape"))
            sys.stdout.buffer.flush()
        if not args.follow:
            return options.WELL
        last = job.last
    if last.state == "completed":
        return options.WELL
    ended = f" with exit code {last.exit_code}" if last.state == "failed" and last.exit_code else ""
    ui.note(f"{args.host}: job {args.job}: {last.state}{ended}")
    return options.NOT_WELL if last.is_final else options.UNKNOWN


def _add_fetch(commands: Any) -> None:
    parser = options.add_command(
        commands,
        "fetch",
        run_fetch,
        "copy a job's directory here",
        usage="[options] HOST JOB LOCAL",
        examples="""\
  openssh-jobs fetch hpc 4711 results
      the whole directory, as the new local directory results
  openssh-jobs fetch hpc 4711 results --only '*.log' --only '*.out' --merge""",
    )
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("job", metavar="JOB")
    parser.add_argument("local", metavar="LOCAL", help="a new directory here")
    add_transfer_options(parser)
    options.add_scheduler_options(parser)


def run_fetch(args: argparse.Namespace, ui: Ui) -> int:
    """Copy a job's directory to this machine."""
    ui.goes_on = f"what was at {args.local} before is unchanged"
    moving = transfer_options(args)
    with options.cluster(args) as cluster:
        job = cluster.job(args.job)
        with Progress(ui, f"from {args.host}, job {args.job}") as progress:
            try:
                moved = job.fetch(args.local, progress=progress, **moving)
            except OSError as error:
                raise with_hint(error, args.local) from error
        tell_transfer(ui, moved, f"{args.host}:{job.directory}", args.local, args.host)
    return options.WELL
