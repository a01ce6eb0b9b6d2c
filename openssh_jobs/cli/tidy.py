"""``tidy``: remove what is left on a host of jobs that are over."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from . import options
from .exit_codes import ExitCode
from .output import count, size
from .table import Column, OutputTable

if TYPE_CHECKING:
    from ..cluster.cluster import Cluster
    from ..cluster.leftovers import Leftover
    from .output import Output

LEFTOVERS: OutputTable[tuple[str, Leftover]] = OutputTable(
    Column("what", "WHAT", get=lambda row: row[0]),
    Column("size", "SIZE", get=lambda row: row[1].size, show=size, right=True),
    Column("job_id", "JOB", get=lambda row: row[1].job_id),
    Column("path", "PATH", get=lambda row: row[1].path, shrinks=True, keeps_end=True, least=20),
    Column("reason", "WHY", get=lambda row: row[1].reason, shrinks=True, least=20),
)


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``tidy`` to the command line."""
    parser = options.add_command(
        subparsers,
        "tidy",
        summary,
        run,
        usage="[options] HOST",
        examples="""\
  openssh-jobs tidy hpc --dry-run
      what would go, and what stays and why; nothing is changed
  openssh-jobs tidy hpc --older-than 30d --forget
      ... and the journal of this machine forgets these jobs, too

What goes are the private files of submissions (.openssh_jobs) and the parts of transfers
that ended. Output, and everything else that jobs or people wrote, stays. So do the files
of jobs that go on, may be requeued, or whose end is not known.""",
    )
    parser.add_argument("host", metavar="HOST")
    parser.add_argument(
        "--older-than",
        type=options.age,
        metavar="AGE",
        help="only of jobs whose end was known so long ago: 7d, 12h, 30m",
    )
    parser.add_argument("--dry-run", action="store_true", help="only print what would be removed")
    parser.add_argument(
        "--forget",
        action="store_true",
        help="forget the ended jobs of which nothing is left: they are no longer listed",
    )
    options.add_scheduler_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Remove what is left, and print what went and what stays."""
    output.if_interrupted = "what it had not removed yet stays; call it again"
    with options.cluster(args) as cluster:
        done = cluster.tidy(args.older_than, dry_run=args.dry_run)
        forgotten = _forget(cluster, done.removed, args) if args.forget else []
    if output.json:
        output.data(
            {
                "host": args.host,
                "dry_run": args.dry_run,
                "removed": [asdict(left) for left in done.removed],
                "kept": [asdict(left) for left in done.kept],
                "forgotten": forgotten,
            }
        )
        return ExitCode.OK
    would = "would be " if args.dry_run else ""
    rows = [(f"{would}removed", left) for left in done.removed]
    LEFTOVERS.show([*rows, *(("kept", left) for left in done.kept)], output)
    total = size(sum(left.size or 0 for left in done.removed))
    output.say(
        f"{args.host}: {count(len(done.removed), 'item')} {would}removed ({total}), "
        f"{len(done.kept)} kept."
    )
    if args.forget:
        output.say(f"{args.host}: {count(len(forgotten), 'job')} {would}forgotten.")
    return ExitCode.OK


def _forget(
    cluster: Cluster, removed: tuple[Leftover, ...], args: argparse.Namespace
) -> list[str | None]:
    """Remove the rows of ended jobs from the journal where nothing is left; their ids."""
    from ..cluster.tidy import may_forget

    gone = {left.token for left in removed} if args.dry_run else set()
    rows = [
        row
        for row in cluster.journal.rows(cluster.host)
        if may_forget(row, args.older_than) or (row.job_id is not None and row.token in gone)
    ]
    if not args.dry_run:
        for row in rows:
            cluster.journal.forget(row.host, row.token)
    return [row.job_id for row in rows]
