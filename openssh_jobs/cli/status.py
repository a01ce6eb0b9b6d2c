"""``status``: a card of each job: its state, why it is so, what it used, what to type next."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from . import card, options
from . import list as listed
from .exit_codes import ExitCode, UsageError
from .listed_job import JOBS, ListedJob
from .output import Output, error_data, moment
from .table import Column, OutputTable

if TYPE_CHECKING:
    import argparse

    from ..cluster.cluster import Cluster
    from ..cluster.journal import Event
    from ..jobs import JobStatus, Snapshot
    from ..jobs.explanation import Explanation


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


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
        usage="[options] HOST [JOB...]",
        examples="""\
  openssh-jobs status hpc 4711 4712
      a card for each: why it waits or what ended it, what it used, what to ask
      for next time; 1 if one of them failed, 5 if one is unknown
  openssh-jobs status hpc
      the same as `openssh-jobs list hpc`
  openssh-jobs status hpc 4711 --history
      what was learned of it, when and from whom; asks no host
  openssh-jobs status hpc 4711 --json

"unknown" never means finished: no complete answer came.""",
    )
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("jobs", metavar="JOB", nargs="*")
    parser.add_argument(
        "--history", action="store_true", help="what was learned of these jobs, when and from whom"
    )
    options.add_scheduler_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Show these jobs, or list all jobs of the host."""
    if args.history and not args.jobs:
        raise UsageError("openssh-jobs status: --history must come with HOST and JOB.")
    if not args.jobs:
        return listed.show([args.host], args, output)
    with options.cluster(args, asks=not args.history) as cluster:
        if args.history:
            return _show_history(cluster, args, output)
        return _show_jobs(cluster, args, output)


def _show_jobs(cluster: Cluster, args: argparse.Namespace, output: Output) -> int:
    last_known = {job.id: job.last for job in map(cluster.job, args.jobs)}
    with options.without_cluster_warnings():
        snapshot = cluster.status(args.jobs)
        statuses = [_merged(snapshot[job_id], last) for job_id, last in last_known.items()]
        # A scheduler that has just not answered is not asked again.
        explained = cluster.internal.explain(statuses, asks=snapshot.error is None)
    cards = [
        _card(cluster, args.host, explained[status.job_id], snapshot.taken_at)
        for status in statuses
    ]
    if output.json:
        output.data(_snapshot_data(args.host, snapshot, cards))
    else:
        card.show(cards, output)
    if snapshot.error is not None:
        output.note(_no_answer(snapshot, last_known, args.host))
    states = {status.state for status in statuses}
    if any(state.is_final and state != "completed" for state in states):
        return ExitCode.FAILED
    return ExitCode.UNKNOWN if "unknown" in states or snapshot.error else ExitCode.OK


def _merged(now: JobStatus, last: JobStatus) -> JobStatus:
    """The status now, with what was known before; an end that was reported once stays."""
    if now.state == "unknown" and last.is_final:
        return last
    if now.state in ("pending", "held"):  # the times of an earlier run
        last = last.replace(started=None, ended=None, elapsed=None)
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


def _card(
    cluster: Cluster, host: str, explanation: Explanation, taken_at: datetime | None
) -> card.Card:
    from ..cluster.journal_view import HOME

    status = explanation.status
    row = cluster.journal.by_job(cluster.host, status.job_id)
    row = row or cluster.journal.by_member(cluster.host, status.job_id)
    job = ListedJob.of_status(host, status, taken_at)
    if row is not None:
        token = None if row.is_followed else row.token
        job = replace(job, token=token, directory=row.directory or job.directory)
    home = cluster.journal.fact(cluster.host, HOME, max_age=math.inf)
    return card.Card(job=job, explanation=explanation, home=home)


def _snapshot_data(host: str, snapshot: Snapshot, cards: list[card.Card]) -> dict[str, Any]:
    return {
        "host": host,
        "jobs": [{**JOBS.record(one.job), **one.data()} for one in cards],
        "absent": snapshot.absent,
        "unknown": snapshot.unknown,
        "unparsed": snapshot.unparsed,
        "error": None if snapshot.error is None else error_data(snapshot.error)["error"],
        "taken_at": snapshot.taken_at,
    }


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
