"""``status`` and ``cancel``: how jobs are, and their end."""

from __future__ import annotations

import contextlib
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from . import options
from .output import Column, duration, moment

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from ..jobs import JobStatus, Snapshot
    from .output import Ui


def add_commands(commands: Any) -> None:
    """Add ``status`` and ``cancel`` to the command line."""
    _add_status(commands)
    _add_cancel(commands)


_STATUS = (
    Column(title="HOST"),
    Column(title="JOB"),
    Column(title="NAME", shrinks=True),
    Column(title="STATE"),
    Column(title="REASON / WHERE", shrinks=True),
    Column(title="ELAPSED", right=True),
    Column(title="OF", right=True),
    Column(title="SUBMITTED"),
)


def _add_status(commands: Any) -> None:
    parser = options.add_command(
        commands,
        "status",
        run_status,
        "say how jobs are",
        usage="[options] [HOST [JOB...]]",
        examples="""\
  openssh-jobs status hpc 4711 4712
      these jobs, one query for all; 1 if one of them went wrong, 5 if one is unknown
  openssh-jobs status hpc
      all your jobs that the scheduler has now
  openssh-jobs status
      what was submitted from this machine, as far as known here; no host is asked
  openssh-jobs status hpc 4711 --json

"unknown" never means finished: it says that no one could tell.""",
    )
    parser.add_argument("host", metavar="HOST", nargs="?")
    parser.add_argument("jobs", metavar="JOB", nargs="*")
    parser.add_argument("-a", "--all-users", action="store_true", help="with HOST: all users' jobs")
    options.add_scheduler_options(parser)


def run_status(args: argparse.Namespace, ui: Ui) -> int:
    """Statuses of jobs: of these, of all at a host, or of all known here."""
    if args.host is None:
        return _status_from_journal(ui)
    with options.cluster(args) as cluster:
        if not args.jobs:
            listed = cluster.jobs(all_users=args.all_users)
            if ui.json:
                ui.data({"host": args.host, "jobs": [one.as_dict() for one in listed]})
            else:
                ui.table(_STATUS, [_row(one) for one in listed])
                if not listed:
                    ui.say(f"{args.host}: {cluster.scheduler} has no jobs of yours.")
            return options.WELL
        before = {job.id: job.last for job in map(cluster.job, args.jobs)}
        with _told_once():
            snapshot = cluster.status(args.jobs)
        statuses = {one: _told(snapshot[one], last) for one, last in before.items()}
        if ui.json:
            ui.data(_snapshot_data(args.host, snapshot, statuses))
        else:
            ui.table(_STATUS, [_row(one) for one in statuses.values()])
        if snapshot.error is not None:
            _say_unanswered(snapshot, before, args.host, ui)
    states = {one.state for one in statuses.values()}
    if any(state.is_final and state != "completed" for state in states):
        return options.NOT_WELL
    return options.UNKNOWN if "unknown" in states or snapshot.error else options.WELL


@contextlib.contextmanager
def _told_once() -> Iterator[None]:
    """No warning of the library about what is told in a sentence of our own."""
    logger = logging.getLogger("openssh_jobs.cluster")
    level = logger.level
    if logger.getEffectiveLevel() > logging.DEBUG:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _told(now: JobStatus, before: JobStatus) -> JobStatus:
    """What is known of a job: an end that was told once stands until somebody says else."""
    if now.state == "unknown" and before.is_final:
        return before
    return now.filled_from(before)


def _say_unanswered(snapshot: Snapshot, before: dict[str, JobStatus], host: str, ui: Ui) -> None:
    """Why a state is unknown, and what was known last."""
    assert snapshot.error is not None
    heard = [
        f"{one} was {before[one].state}"
        for one in snapshot.unknown
        if one in before and before[one].state != "unknown"
    ]
    last = f" When last heard of, {', '.join(heard)}." if heard else ""
    ui.note(f"{host}: nothing is known anew: {snapshot.error.message.rstrip('.')}.{last}")


def _snapshot_data(host: str, snapshot: Snapshot, statuses: dict[str, JobStatus]) -> dict[str, Any]:
    return {
        "host": host,
        "jobs": [one.as_dict() for one in statuses.values()],
        "absent": snapshot.absent,
        "unknown": snapshot.unknown,
        "unparsed": snapshot.unparsed,
        "error": None if snapshot.error is None else options.as_data(snapshot.error)["error"],
        "taken_at": snapshot.taken_at,
    }


def _status_from_journal(ui: Ui) -> int:
    from ..cluster.journal import Journal

    journal = Journal()
    try:
        rows = journal.rows()
    finally:
        journal.close()
    if ui.json:
        names = ("host", "job_id", "name", "state", "reason", "exit_code", "directory", "token")
        ui.data(
            {
                "jobs": [
                    {name: getattr(row, name) for name in names}
                    | {"submitted": _time(row.submitted), "changed": _time(row.changed)}
                    for row in rows
                ]
            }
        )
        return options.WELL
    ui.table(
        _STATUS,
        [
            (
                row.host,
                row.job_id or "(none)",
                row.name or "",
                row.state,
                row.reason or ("" if row.job_id else "no answer came: it may exist"),
                "",
                "",
                moment(_time(row.submitted or row.opened)),
            )
            for row in rows
        ],
    )
    ui.say(
        "As last heard here; `openssh-jobs status HOST` asks."
        if rows
        else "Nothing was submitted from this machine; `openssh-jobs status HOST` asks a host."
    )
    return options.WELL


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _row(status: JobStatus) -> tuple[str, ...]:
    where = ", ".join(status.nodes or ())
    if status.is_final and status.state != "completed":
        parts = []
        if status.exit_code and status.state == "failed":
            parts.append(f"exit code {status.exit_code}")
        if status.signal:
            parts.append(f"signal {status.signal}")
        if not parts and status.reason:
            parts.append(status.reason)
        if where:
            parts.append(f"on {where}")
        where = " ".join(parts)
    elif status.state not in ("running", "completing", "completed"):
        where = status.reason or ""
    return (
        "",
        status.job_id,
        status.name or "",
        str(status.state),
        where,
        duration(status.elapsed),
        duration(status.time_limit),
        moment(status.submitted),
    )


# --------------------------------------------------------------------------- cancel


def _add_cancel(commands: Any) -> None:
    parser = options.add_command(
        commands,
        "cancel",
        run_cancel,
        "cancel jobs",
        usage="[options] HOST JOB...",
        examples="""\
  openssh-jobs cancel hpc 4711 4712
      one command for all; what became of each is told""",
    )
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("jobs", metavar="JOB", nargs="+")
    options.add_scheduler_options(parser)


_OUTCOMES = {
    "requested": (options.WELL, "is being cancelled"),
    "already_finished": (options.WELL, "was over already"),
    "not_found": (options.NOT_WELL, "is not known there"),
    "permission": (options.REFUSED, "is not yours to cancel"),
    "invalid_request": (options.REFUSED, "cannot be cancelled: the scheduler refused"),
    "transient": (options.UNKNOWN, "may not be cancelled: the scheduler did not answer; ask again"),
    "unknown": (options.UNKNOWN, "may not be cancelled: the scheduler's answer was not understood"),
}


def run_cancel(args: argparse.Namespace, ui: Ui) -> int:
    """Cancel jobs; the worst outcome is the exit code."""
    from ..jobs.status import NOT_LISTED

    with options.cluster(args) as cluster:
        outcomes = cluster.cancel(args.jobs)
    code = options.WELL
    for job_id, outcome in outcomes.items():
        its, words = _OUTCOMES[outcome]
        if outcome == "not_found":
            words = f"{words}: {NOT_LISTED}"
        code = max(code, its)
        tell = ui.say if its == options.WELL else ui.note
        tell(f"{args.host}: job {job_id} {words}")
    if ui.json:
        ui.data({"host": args.host, "outcomes": outcomes})
    return code
