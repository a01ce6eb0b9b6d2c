"""``status``: show the states of jobs."""

from __future__ import annotations

import contextlib
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from . import options
from .exit_codes import ExitCode, UsageError
from .output import Output, duration, error_data, moment
from .table import Column, OutputTable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from ..cluster.cluster import Cluster
    from ..cluster.journal import Event, Row
    from ..jobs import JobStatus, Snapshot


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _reason_or_nodes(status: JobStatus) -> str:
    """How it failed and where, why it waits, or where it runs."""
    nodes = ", ".join(status.nodes or ())
    if status.is_final and status.state != "completed":
        parts = []
        if status.exit_code and status.state == "failed":
            parts.append(f"exit code {status.exit_code}")
        if status.signal:
            parts.append(f"signal {status.signal}")
        if not parts and status.reason:
            parts.append(status.reason)
        if nodes:
            parts.append(f"on {nodes}")
        return " ".join(parts)
    if status.state in ("running", "completing", "completed"):
        return nodes
    return status.reason or ""


def _reason_in_journal(row: Row) -> str:
    return row.reason or ("" if row.job_id else "no answer came: it may exist")


JOBS: OutputTable[JobStatus] = OutputTable(
    Column("job_id", "JOB"),
    Column("name", "NAME", shrinks=True),
    Column("state", "STATE"),
    Column("where", "REASON / WHERE", get=_reason_or_nodes, shrinks=True, in_json=False),
    Column("elapsed", "ELAPSED", show=duration, right=True),
    Column("time_limit", "OF", show=duration, right=True),
    Column("submitted", "SUBMITTED", show=moment),
    facts=lambda status: status.as_dict(),
)
JOURNAL: OutputTable[Row] = OutputTable(
    Column("host", "HOST"),
    Column("job_id", "JOB", missing="(none)"),
    Column("name", "NAME", shrinks=True),
    Column("state", "STATE"),
    Column("why", "REASON / WHERE", get=_reason_in_journal, shrinks=True, in_json=False),
    Column("when", "SUBMITTED", get=lambda row: _time(row.submitted or row.opened), show=moment,
           in_json=False),
    Column("reason"),
    Column("exit_code"),
    Column("directory", get=lambda row: row.directory or None),
    Column("token", get=lambda row: None if row.is_followed else row.token),
    Column("submitted", get=lambda row: _time(row.submitted)),
    Column("changed", get=lambda row: _time(row.changed)),
)  # fmt: skip

HISTORY: OutputTable[tuple[str, Event]] = OutputTable(
    Column("job_id", "JOB", get=lambda pair: pair[0]),
    Column("time", "WHEN", get=lambda pair: _time(pair[1].time), show=moment),
    Column("state", "STATE", get=lambda pair: pair[1].state),
    Column("reason", "REASON", get=lambda pair: pair[1].reason, shrinks=True),
    Column("source", "FROM", get=lambda pair: pair[1].source),
)


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``status`` to the command line."""
    parser = options.add_command(
        subparsers,
        "status",
        summary,
        run,
        usage="[options] [HOST [JOB...]]",
        examples="""\
  openssh-jobs status hpc 4711 4712
      these jobs, one query for all; 1 if one of them failed, 5 if one is unknown
  openssh-jobs status hpc
      all your jobs that the scheduler lists now
  openssh-jobs status
      what was submitted from this machine, as last known here; asks no host
  openssh-jobs status hpc 4711 --history
      what was learned of it, when and from whom; asks no host
  openssh-jobs status hpc 4711 --json

"unknown" never means finished: no complete answer came.""",
    )
    parser.add_argument("host", metavar="HOST", nargs="?")
    parser.add_argument("jobs", metavar="JOB", nargs="*")
    parser.add_argument("-a", "--all-users", action="store_true", help="with HOST: all users' jobs")
    parser.add_argument(
        "--history", action="store_true", help="what was learned of these jobs, when and from whom"
    )
    options.add_scheduler_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Show these jobs, all jobs at a host, or all jobs in the journal."""
    if args.history and not args.jobs:
        raise UsageError("openssh-jobs status: --history must come with HOST and JOB.")
    if args.host is None:
        return _show_journal(output)
    with options.cluster(args) as cluster:
        if args.history:
            return _show_history(cluster, args, output)
        if args.jobs:
            return _show_jobs(cluster, args, output)
        listed = cluster.jobs(all_users=args.all_users)
        if output.json:
            output.data({"host": args.host, "jobs": JOBS.records(listed)})
        else:
            JOBS.show(listed, output)
            if not listed:
                output.say(f"{args.host}: {cluster.scheduler} has no jobs of yours.")
        return ExitCode.OK


def _show_jobs(cluster: Cluster, args: argparse.Namespace, output: Output) -> int:
    last_known = {job.id: job.last for job in map(cluster.job, args.jobs)}
    with _without_cluster_warnings():
        snapshot = cluster.status(args.jobs)
    statuses = [_merged(snapshot[job_id], last) for job_id, last in last_known.items()]
    if output.json:
        output.data(_snapshot_data(args.host, snapshot, statuses))
    else:
        JOBS.show(statuses, output)
    if snapshot.error is not None:
        output.note(_no_answer(snapshot, last_known, args.host))
    states = {status.state for status in statuses}
    if any(state.is_final and state != "completed" for state in states):
        return ExitCode.FAILED
    return ExitCode.UNKNOWN if "unknown" in states or snapshot.error else ExitCode.OK


@contextlib.contextmanager
def _without_cluster_warnings() -> Iterator[None]:
    """Silence the library's warning about a failed query: the command says it itself."""
    logger = logging.getLogger("openssh_jobs.cluster")
    level = logger.level
    if logger.getEffectiveLevel() > logging.DEBUG:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _merged(now: JobStatus, last: JobStatus) -> JobStatus:
    """The status now, with what was known before; an end that was reported once stays."""
    if now.state == "unknown" and last.is_final:
        return last
    return now.filled_from(last)


def _no_answer(snapshot: Snapshot, last_known: dict[str, JobStatus], host: str) -> str:
    """Why states are unknown, and what was known last."""
    assert snapshot.error is not None
    states = [
        f"{job_id} was {last_known[job_id].state}"
        for job_id in snapshot.unknown
        if job_id in last_known and last_known[job_id].state != "unknown"
    ]
    last = f" At the last answer, {', '.join(states)}." if states else ""
    return f"{host}: no new information: {snapshot.error.message.rstrip('.')}.{last}"


def _snapshot_data(host: str, snapshot: Snapshot, statuses: list[JobStatus]) -> dict[str, Any]:
    return {
        "host": host,
        "jobs": JOBS.records(statuses),
        "absent": snapshot.absent,
        "unknown": snapshot.unknown,
        "unparsed": snapshot.unparsed,
        "error": None if snapshot.error is None else error_data(snapshot.error)["error"],
        "taken_at": snapshot.taken_at,
    }


def _show_journal(output: Output) -> int:
    from ..cluster.journal import Journal

    journal = Journal()
    try:
        rows = journal.rows()
    finally:
        journal.close()
    if output.json:
        output.data({"jobs": JOURNAL.records(rows)})
        return ExitCode.OK
    JOURNAL.show(rows, output)
    output.say(
        "As last known here; `openssh-jobs status HOST` asks."
        if rows
        else "Nothing was submitted from this machine; `openssh-jobs status HOST` asks a host."
    )
    return ExitCode.OK


def _show_history(cluster: Cluster, args: argparse.Namespace, output: Output) -> int:
    """What the journal has learned of these jobs; 5 if it does not have one of them."""
    journal, found, code = cluster.journal, [], ExitCode.OK
    for job in map(cluster.job, args.jobs):
        row = journal.by_job(cluster.host, job.id) or journal.by_member(cluster.host, job.id)
        if row is None:
            code = ExitCode.UNKNOWN
            output.note(f"{args.host}: job {job.id} is not in the journal of this machine")
            continue
        found += [(job.id, event) for event in journal.events(row.host, row.token)]
    if output.json:
        output.data({"host": args.host, "events": HISTORY.records(found)})
    else:
        HISTORY.show(found, output)
    return code
