"""What the answers of a host change in the journal: only what is new, one transaction a query."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from .. import logs
from ..errors import ConfigurationError
from ..jobs import JobState, JobStatus, Snapshot
from .evidence import CANCEL_ACCEPTED, WAITING
from .journal import TIDIED, followed_row
from .journal_view import add_queues, remember_queues, status_of

if TYPE_CHECKING:
    from .journal import Row
    from .scheduler_client import SchedulerClient
    from .tracker import Tracker

log = logs.logger("openssh_jobs.cluster")

_PATHS = ("stdout_path", "stderr_path")
_TIMES = frozenset(("started", "ended", "time_limit"))
_SAME_TIME = 60.0
"""Seconds by which a start may seem to move: some schedulers only tell how long a job has run."""
_ALL = 300.0
"""Seconds after which jobs of which nothing new is known are compared with the journal again."""
_SAME_ID = 7 * 86400.0
"""Seconds after its end for which an id is that of the same job; schedulers begin again at 1."""


def news(row: Row, status: JobStatus, began: float) -> dict[str, object]:
    """What a status changes in a row; ``began``: when its query began (seconds since 1970).

    A status whose query began before that of the row's state changes nothing, and a final state
    is only followed by another one, or by a requeue that the queue itself lists.  What is said of
    the id long after the end of a submission is about another job.
    """
    # A row from the future is of a clock that was set back.
    if row.learned is not None and began < row.learned <= time.time():
        return {}
    was, now = row.known_state, status.state
    if not is_current(row) and not row.is_followed:
        return {}
    if was.is_final and not now.is_final and not (now.is_active and status.source == "queue"):
        return {}
    reason = status.reason
    if row.reason == CANCEL_ACCEPTED and not now.is_final and not was.is_final:
        reason = CANCEL_ACCEPTED  # the next program has to know it
    code = status.exit_code
    if code is None and was.is_final and now.is_final:
        code = row.exit_code
    nodes = ",".join(status.nodes) if status.nodes else None
    if nodes is None and now not in WAITING:
        nodes = row.nodes
    facts: dict[str, object] = {
        "state": str(now),
        "reason": reason,
        "exit_code": code,
        "nodes": nodes,
    }
    facts |= {name: getattr(status, name) or getattr(row, name) for name in _PATHS}
    facts |= _times(row, status, began)
    if row.is_followed:
        facts["name"] = status.name or row.name
    changed = {name: value for name, value in facts.items() if getattr(row, name) != value}
    if was.is_final and changed.keys() <= _TIMES:
        return {}  # another source tells the times of the same end a little differently
    return {**changed, "learned": began} if changed else {}


def _times(row: Row, status: JobStatus, began: float) -> dict[str, float | None]:
    """When the last run began and ended, and how long it may last, as far as known."""
    limit = status.time_limit
    limit_seconds = row.time_limit if limit is None else limit.total_seconds()
    if status.state in WAITING:
        return {"started": None, "ended": None, "time_limit": limit_seconds}
    ended = None
    if status.is_final:
        ended = row.ended if status.ended is None else status.ended.timestamp()
    started = None if status.started is None else status.started.timestamp()
    if started is None and status.elapsed is not None:
        started = (ended or began) - status.elapsed.total_seconds()
    if started is None or (row.started is not None and abs(row.started - started) < _SAME_TIME):
        started = row.started
    return {"started": started, "ended": ended, "time_limit": limit_seconds}


def is_current(row: Row) -> bool:
    """Whether the scheduler still means this job by its id: not if it ended long ago."""
    return not row.known_state.is_final or time.time() - row.changed < _SAME_ID


class Learned:
    """Writes to the journal what the host of a ``SchedulerClient`` said about jobs.

    A journal that cannot be written is a warning: what the host said is true all the same.
    """

    def __init__(self, client: SchedulerClient, tracker: Tracker) -> None:
        self._client = client
        self._tracker = tracker
        self._all_at = 0.0

    def write(self, ids: Iterable[str], listed: Snapshot | None = None) -> None:
        """Write what the last query said.

        ``ids``: followed jobs; those that were not submitted from here get a row of their own.
        ``listed``: a listing, which may have more of the jobs in the journal.
        """
        taken = self._tracker.taken_at
        if taken is None:
            return
        self._try(lambda: self._write_query(list(ids), listed, taken))

    def forget_ended(self) -> None:
        """Have the tracker forget jobs that are over, where the journal says how they ended."""
        unused = self._tracker.unused()
        if not unused:
            return

        def forget() -> None:
            rows = self._client.journal.by_jobs(self._client.host, list(unused))
            ends = {job_id: (row.known_state, row.exit_code) for job_id, row in rows.items()}
            written = {
                job_id: status
                for job_id, status in unused.items()
                if ends.get(job_id) == (status.state, status.exit_code)
            }
            self._tracker.forget(written)

        self._try(forget)

    def recall(self, ids: Iterable[str], since: float) -> None:
        """Have the tracker know again how forgotten jobs ended.

        ``since``: when the tracker began (seconds since 1970): of what was written before, the
        host is asked, unless it has nothing left to say and no scheduler that could requeue.
        """
        new = self._tracker.not_followed(ids)
        if not new:
            return

        def recall() -> None:
            for job_id, row in self._client.journal.by_jobs(self._client.host, new).items():
                is_last = row.scheduler == "direct" and row.tidied == TIDIED
                is_over = row.known_state.is_final and is_current(row)
                if is_over and (is_last or row.changed >= since):
                    self._tracker.add_known(status_of(row, job_id))

        self._try(recall)

    def write_listing(self, listed: Snapshot, taken: datetime) -> None:
        """Write what a listing says of jobs in the journal; the query began at ``taken``."""
        self._try(lambda: self._write(self._in_listing(listed), taken, frozenset()))

    def write_one(self, status: JobStatus, taken: datetime) -> None:
        """Write what the scheduler said about one job, if that is in the journal."""
        if status.state is not JobState.UNKNOWN:
            self._try(lambda: self._write({status.job_id: status}, taken, frozenset()))

    def write_accepted(self, ids: Iterable[str], action: str) -> None:
        """Write that the scheduler accepted to cancel, hold or release these jobs."""
        journal, host = self._client.journal, self._client.host

        def write() -> None:
            with journal.file.transaction():
                for row in journal.by_jobs(host, list(ids)).values():
                    if row.known_state.is_final:
                        continue
                    if action == "cancel":
                        journal.change(host, row.token, source=action, reason=CANCEL_ACCEPTED)
                    else:
                        journal.note_event(host, row.token, action)

        self._try(write)

    def write_queues(self, names: Iterable[str]) -> None:
        """Write which queues there are."""
        self._try(lambda: remember_queues(self._client.journal, self._client.host, names))

    def add_queues(self, names: Iterable[str | None]) -> None:
        """Write in which queues jobs were accepted."""
        self._try(lambda: add_queues(self._client.journal, self._client.host, names))

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except ConfigurationError as error:
            log.warning("%s: the journal was not written: %s", self._client.host, error)

    def _write_query(self, ids: list[str], listed: Snapshot | None, taken: datetime) -> None:
        statuses = {} if listed is None else self._in_listing(listed)
        now = time.monotonic()
        new = self._tracker.revisions(ids, new=now < self._all_at)
        silent = set(self._tracker.snapshot(list(new)).unknown)
        for job_id in new:
            status = self._tracker.last(job_id)
            if status is None or status.source == "journal" or job_id in silent:
                continue  # no answer of this query
            statuses[job_id] = status.replace(reason=self._tracker.lasting_reason(status))
        self._write(statuses, taken, frozenset(ids))
        self._tracker.note({job_id: new[job_id] for job_id in new if job_id not in silent})
        self._all_at = now + _ALL if now >= self._all_at else self._all_at

    def _in_listing(self, listed: Snapshot) -> dict[str, JobStatus]:
        """What a listing says of jobs in the journal, by their ids there."""
        journal, host = self._client.journal, self._client.host
        rows = [*journal.active(host), *journal.by_jobs(host, list(listed.known)).values()]
        found = listed.select(dict.fromkeys(row.job_id for row in rows)).known
        # A state that the listing leaves open is a question to the history, not news.
        return {
            job_id: status
            for job_id, status in found.items()
            if status.state is not JobState.UNKNOWN
        }

    def _write(
        self, statuses: Mapping[str, JobStatus], taken: datetime, follow: Collection[str]
    ) -> None:
        journal, host, began = self._client.journal, self._client.host, taken.timestamp()

        def changed(ids: Collection[str]) -> dict[str, Row | None]:
            """Rows that have news; ``None`` for a job that gets its first one."""
            rows = journal.by_jobs(host, list(ids))
            new = [job_id for job_id in ids if job_id not in rows and job_id in follow]
            found: dict[str, Row | None] = {
                job_id: row for job_id, row in rows.items() if news(row, statuses[job_id], began)
            }
            known = (job_id for job_id in new if statuses[job_id].state is not JobState.UNKNOWN)
            return found | {
                job_id: None for job_id in known if journal.by_member(host, job_id) is None
            }

        ids = changed(statuses)
        if not ids:
            return
        with journal.file.transaction():
            # Another process may have written since.
            found = changed(ids)
            add_queues(journal, host, (statuses[job_id].queue for job_id in found))
            for job_id, row in found.items():
                status = statuses[job_id]
                if row is None:
                    scheduler = self._client.scheduler().name
                    row = journal.open_row(_followed(host, scheduler, status, job_id))
                facts = news(row, status, began)
                journal.change(host, row.token, source=status.source or "queue", **facts)


def _followed(host: str, scheduler: str, status: JobStatus, job_id: str) -> Row:
    submitted = None if status.submitted is None else status.submitted.timestamp()
    return followed_row(
        host,
        job_id,
        directory=status.directory,
        scheduler=scheduler,
        name=status.name,
        submitted=submitted,
    )
