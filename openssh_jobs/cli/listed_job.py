"""The one table of jobs: its rows, which of them are shown, their order, and the lines below."""

from __future__ import annotations

import posixpath
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from ..jobs import JobState, JobStatus
from .output import count, duration, moment, span
from .table import Column, OutputTable

if TYPE_CHECKING:
    from ..cluster.journal import Row

LOCAL = "."
"""The host of the command line that is this machine."""
THIS_MACHINE = "this machine"
"""Its name in the journal (``local_connection.NAME``, which takes long to import)."""
DAY = 86400.0
WEEK = 7 * DAY
"""Seconds for which a job that failed stays in the list."""
_ENDED_WELL = frozenset((JobState.COMPLETED, JobState.CANCELLED))
_FAILED = re.compile(r"\b(?:failed|timeout|out_of_memory|node_fail)\b")
_COUNTED = re.compile(r"([0-9]+) elements: ")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedJob:
    """One row.  ``status.job_id`` is empty while a submission has no answer.

    ``as_of``: when the host last said so; ``changed``: when that was learned (seconds since 1970).
    ``array``: the indices that were submitted.  ``after``: the jobs that it was submitted to wait
    for.  ``home``: the home directory on the host, where it is known.  ``is_stuck``: nobody works
    on the submission.
    """

    host: str
    status: JobStatus
    token: str | None = None
    directory: str | None = None
    opened: datetime | None = None
    as_of: float | None = None
    changed: float = 0.0
    array: str | None = None
    is_stuck: bool = False
    after: tuple[str, ...] = ()
    home: str | None = None

    @property
    def job_id(self) -> str | None:
        """The id; ``None`` while a submission has no answer."""
        return self.status.job_id or None

    @property
    def is_open(self) -> bool:
        """Whether more may become known."""
        return not self.status.is_final

    @property
    def is_troubled(self) -> bool:
        """Whether a person should look at it."""
        state = self.status.state
        has_failed = state.is_final and state not in _ENDED_WELL
        if not has_failed and _COUNTED.match(self.status.reason or ""):
            has_failed = _FAILED.search(self.status.reason or "") is not None
        return has_failed or state is JobState.UNKNOWN or self.is_stuck

    @classmethod
    def of_row(cls, row: Row, as_of: float | None, *, is_stuck: bool) -> ListedJob:
        """A row of the journal.  ``as_of``: when the host last answered about it."""
        from ..cluster.journal_view import status_of

        status = status_of(row, row.job_id or "")
        known = max(filter(None, (as_of, row.learned, row.submitted)), default=None)
        goes_on = status.state in (JobState.RUNNING, JobState.COMPLETING)
        if goes_on and row.started is not None and known is not None:
            status = status.replace(elapsed=timedelta(seconds=max(0, round(known - row.started))))
        return cls(
            host=LOCAL if row.host == THIS_MACHINE else row.host,
            status=status,
            token=None if row.is_followed else row.token,
            directory=row.directory or None,
            opened=datetime.fromtimestamp(row.opened, UTC),
            as_of=known,
            changed=row.changed if row.ended is None else row.ended,
            array=row.array,
            is_stuck=is_stuck,
        )

    @classmethod
    def of_status(cls, host: str, status: JobStatus, as_of: datetime | None = None) -> ListedJob:
        """A job as its host has just described it."""
        seen = None if as_of is None else as_of.timestamp()
        return cls(host=host, status=status, directory=status.directory, as_of=seen)


def short_path(path: str | None, home: str | None) -> str | None:
    """A path with ``~`` for the home directory where that is known."""
    if path and home and (path == home or path.startswith(home.rstrip("/") + "/")):
        rest = posixpath.relpath(path, home)
        return "~" if rest == "." else f"~/{rest}"
    return path


def _why_or_where(job: ListedJob) -> str:
    """How it failed and where, why it waits, or where it runs."""
    status = job.status
    if job.job_id is None:
        return "no answer: it may exist" if job.is_stuck else "being submitted"
    nodes = ", ".join(status.nodes or ())
    counted = _COUNTED.match(status.reason or "")
    if counted is not None:
        return _array_counts(job, int(counted[1]))
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
    if job.after and (status.reason or "").strip("()") == "Dependency":
        return f"after {', '.join(job.after)}"
    return status.reason or ""


def _array_counts(job: ListedJob, listed: int) -> str:
    """How many elements are in which state; those that are listed no more may have failed, too."""
    from ..errors import InputError
    from ..schedulers.fields import expand_array

    counts = _COUNTED.sub("", job.status.reason or "")
    try:
        rest = len(expand_array(job.array)) - listed if job.array else 0
    except InputError:
        rest = 0
    return f"{counts}, {rest} unknown (no longer listed)" if rest > 0 else counts


def _elapsed(job: ListedJob) -> str:
    if job.status.elapsed is None:
        return ""
    limit = job.status.time_limit
    return duration(job.status.elapsed) + ("" if limit is None else f" / {duration(limit)}")


def _iso(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _facts(job: ListedJob) -> Mapping[str, Any]:
    known = {**job.status.as_dict(), "directory": job.directory}
    return {**known, "token": job.token, "as_of": _iso(job.as_of)}


JOBS: OutputTable[ListedJob] = OutputTable(
    Column("host", "HOST", drops=1, shrinks=True, least=8),
    Column("job_id", "JOB", missing="(none)", shrinks_last=True, least=5),
    Column("name", "NAME", get=lambda job: job.status.name, shrinks=True, least=8, drops=2),
    Column("state", "STATE", get=lambda job: job.status.state),
    Column("why", "REASON / WHERE", get=_why_or_where, shrinks=True, least=14, drops=3,
           in_json=False),
    Column("spent", "ELAPSED / OF", get=_elapsed, drops=4, in_json=False),
    Column("when", "SUBMITTED", get=lambda job: job.status.submitted or job.opened, show=moment,
           drops=5, in_json=False),
    Column("shown", "DIRECTORY", get=lambda job: short_path(job.directory, job.home),
           in_json=False, shrinks=True, keeps_end=True, least=16, drops=6),
    facts=_facts,
)  # fmt: skip
"""Those of ``list``, ``status`` and ``recover``; on a narrow terminal the state stays."""


# --------------------------------------------------------------------------- which, in which order


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which jobs are shown.  ``since``: when those that are over ended (seconds since 1970)."""

    states: frozenset[str] = frozenset()
    name: str | None = None
    since: float | None = None
    all: bool = False

    def matches(self, job: ListedJob) -> bool:
        """Whether the job has a state and a name that were asked for."""
        if self.states and str(job.status.state) not in self.states:
            return False
        return self.name is None or fnmatchcase(job.status.name or "", self.name)

    def is_recent(self, job: ListedJob, now: float) -> bool:
        """Whether the job goes on or ended lately: a week for trouble, a day for all else."""
        if self.all:
            return True
        if job.is_open and job.status.state is not JobState.UNKNOWN:
            return True
        if self.since is not None:
            return job.changed >= self.since
        return job.changed >= now - (WEEK if job.is_troubled or self.states else DAY)

    def split(self, jobs: Iterable[ListedJob]) -> tuple[list[ListedJob], list[ListedJob]]:
        """Of those that match, the ones to show, and the others."""
        now = time.time()
        shown: list[ListedJob] = []
        others: list[ListedJob] = []
        for job in jobs:
            if self.matches(job):
                (shown if self.is_recent(job, now) else others).append(job)
        return shown, others


def _newest(job: ListedJob) -> float:
    when = job.status.submitted or job.opened
    return -when.timestamp() if when is not None else 0.0


def _by_trouble(job: ListedJob) -> tuple[Any, ...]:
    return (not job.is_troubled, not job.is_open, _newest(job))


_NONE = timedelta(0)
SORTS: dict[str, Callable[[ListedJob], Any]] = {
    "trouble": _by_trouble,
    "submitted": _newest,
    "host": lambda job: (job.host, *_by_trouble(job)),
    "job": lambda job: [
        int(part) if part.isdigit() else -1 for part in re.split(r"\D+", job.status.job_id)
    ],
    "name": lambda job: (job.status.name or "", _newest(job)),
    "state": lambda job: (str(job.status.state), _newest(job)),
    "elapsed": lambda job: (-(job.status.elapsed or _NONE), _newest(job)),
}
"""The orders by name; the first is the usual one."""


# --------------------------------------------------------------------------- the lines below


def counts(jobs: Iterable[ListedJob]) -> str:
    """``12 jobs: 3 running, 9 pending``."""
    numbers: dict[str, int] = {}
    for job in jobs:
        numbers[str(job.status.state)] = numbers.get(str(job.status.state), 0) + 1
    total = count(sum(numbers.values()), "job")
    return f"{total}: {', '.join(f'{number} {state}' for state, number in numbers.items())}."


def ages(jobs: Iterable[ListedJob], now: float) -> str:
    """How old the states of jobs that go on are: for each host that of the oldest one."""
    oldest: dict[str, float] = {}
    for job in jobs:
        if job.is_open and job.job_id is not None and job.as_of is not None:
            oldest[job.host] = min(job.as_of, oldest.get(job.host, job.as_of))
    asked = [f"{host} asked {span(max(0.0, now - then))} ago" for host, then in oldest.items()]
    return f"{', '.join(asked)}." if asked else ""
