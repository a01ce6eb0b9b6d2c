"""What is known of the jobs that somebody watches: statuses over time, none made up.

No I/O: a ``Cluster`` asks and tells this object what came back.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from .errors import SchedulerError
from .jobs import LEFT_QUEUE, JobState, JobStatus, Snapshot

_FIRST_LOOK = 2.0


@dataclass(slots=True)
class _Followed:
    """One job under watch."""

    since: datetime
    status: JobStatus | None = None
    gone_at: float | None = None
    why: str = ""
    asked: bool = False


class Watch:
    """The memory of one cluster's jobs.  ``grace``: seconds to look for a job that is gone."""

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self._jobs: dict[str, _Followed] = {}
        self._began = -1e9
        self._taken: datetime | None = None
        self._error: SchedulerError | None = None
        self._fresh_submission = False
        self._unlisted = False

    # ------------------------------------------------------------------ when to ask

    def follow(self, *ids: str) -> None:
        """Watch these jobs from now on."""
        for one in ids:
            if one not in self._jobs:
                self._jobs[one] = _Followed(datetime.now(UTC))

    def submitted(self) -> None:
        """A job was submitted: the next look may come sooner than the usual interval."""
        self._fresh_submission = self._unlisted = True

    def disturbed(self) -> None:
        """Something was done to jobs: the last answer is old."""
        self._fresh_submission = self._unlisted = True

    @property
    def is_calm(self) -> bool:
        """Whether nothing was done to jobs since they were listed."""
        return not self._unlisted

    def calmed(self) -> None:
        """The jobs are being listed anew."""
        self._unlisted = False

    def seconds_until_due(self, interval: float) -> float:
        """How long the last answer is still good for."""
        if self._fresh_submission:
            interval = min(interval, _FIRST_LOOK)
        return max(0.0, self._began + interval - time.monotonic())

    def is_due(self, wanted: Sequence[str], interval: float) -> bool:
        """Whether the queue is to be asked for these jobs now."""
        open_ids = [one for one in wanted if not self.is_settled(one)]
        if not open_ids:
            return False
        if any(not self._jobs[one].asked for one in open_ids) and not self._fresh_submission:
            return True
        return self.seconds_until_due(interval) <= 0

    def unsettled(self, wanted: Iterable[str]) -> list[str]:
        """All watched jobs that are not over, ``wanted`` first: one query serves them all."""
        everything = dict.fromkeys([*wanted, *self._jobs])
        return [one for one in everything if not self.is_settled(one)]

    def followed_since(self, ids: Iterable[str]) -> datetime | None:
        """When the first of these jobs came under watch, if it was submitted here."""
        times = [self._jobs[one].status for one in ids]
        known = [status.submitted for status in times if status and status.submitted]
        return min(known) if known and len(known) == len(times) else None

    # ------------------------------------------------------------------ what came back

    def took(self, snapshot: Snapshot, taken: datetime, began: float) -> None:
        """The queue answered."""
        self._began, self._taken, self._error = began, taken, snapshot.error
        self._fresh_submission = False
        for one, status in snapshot.known.items():
            self._learn(one, status)
        for one in snapshot.absent:
            job = self._jobs.get(one)
            if job is None:
                continue
            job.asked = True
            if job.since > taken:
                continue  # asked before the job was known: this answer cannot count against it
            if job.gone_at is None:
                job.gone_at = time.monotonic()
        for one in snapshot.unknown:
            if one in self._jobs:
                self._jobs[one].asked = True

    def _learn(self, job_id: str, status: JobStatus) -> None:
        job = self._jobs.get(job_id)
        if job is None:
            return
        job.asked = True
        if status.state is JobState.UNKNOWN and job.status is not None and not status.reason:
            return
        if job.status is not None and job.status.is_final and not status.state.is_active:
            return
        job.gone_at = None
        job.status = status.filled_from(job.status) if _same_run(status, job.status) else status

    def failed(self, error: SchedulerError, ids: Iterable[str], began: float) -> None:
        """There was no answer: nothing changes but the time of the next try."""
        self._error, self._began = error, began
        self._fresh_submission = False
        for one in ids:
            self._jobs[one].asked = True

    def gone(self, ids: Iterable[str]) -> list[str]:
        """Of these, the jobs that the queue has no more and whose end is not known."""
        return [
            one for one in ids if self._jobs[one].gone_at is not None and not self.is_settled(one)
        ]

    def took_history(self, found: Snapshot, gone: Sequence[str]) -> None:
        """The history answered for jobs that left the queue."""
        for one in gone:
            status = found.known.get(one)
            job = self._jobs[one]
            if status is None:
                job.why = "the history does not know it (yet)"
            elif status.is_final:
                job.status = status.filled_from(job.status)
                job.gone_at = None
            else:
                # The queue says it is gone: an unfinished record is the history running late.
                job.why = f"the history still calls it {status.state}"

    def no_history(self, gone: Sequence[str], why: str) -> None:
        """There was nobody to ask how these jobs ended, and why."""
        for one in gone:
            self._jobs[one].why = why

    # ------------------------------------------------------------------ what is known

    def last(self, job_id: str) -> JobStatus | None:
        """The status that was last told by somebody, ``None`` if none ever was."""
        job = self._jobs.get(job_id)
        if job is None or (job.status is None and job.gone_at is None):
            return None
        return self.status(job_id)

    def status(self, job_id: str) -> JobStatus:
        """The status as it is to be told now."""
        job = self._jobs[job_id]
        if job.gone_at is not None:
            reason = LEFT_QUEUE
            if time.monotonic() - job.gone_at >= self.grace and job.why:
                reason = f"{LEFT_QUEUE}; {job.why}"
            known = job.status or JobStatus(job_id, JobState.UNKNOWN)
            return known.replace(
                state=JobState.UNKNOWN, reason=reason, raw_state=None, source="queue"
            )
        if job.status is not None:
            return job.status
        why = self._error.message if self._error is not None else "not asked yet"
        return JobStatus(job_id, JobState.UNKNOWN, reason=why)

    def is_settled(self, job_id: str) -> bool:
        """Whether the job is over for certain: it is not asked about again."""
        job = self._jobs.get(job_id)
        return job is not None and job.status is not None and job.status.is_final

    def is_over(self, job_id: str) -> bool:
        """Settled, or gone for longer than the grace time with nobody to say how it ended."""
        job = self._jobs[job_id]
        if job.gone_at is not None and time.monotonic() - job.gone_at >= self.grace:
            return True
        return self.is_settled(job_id)

    def snapshot(self, wanted: Sequence[str]) -> Snapshot:
        """What is known of these jobs, as an answer."""
        known: dict[str, JobStatus] = {}
        absent, unknown = [], []
        for one in wanted:
            job = self._jobs[one]
            if job.gone_at is not None:
                absent.append(one)
            elif job.status is None or (self._error is not None and not job.status.is_final):
                unknown.append(one)
            else:
                known[one] = job.status
        return replace(
            Snapshot(),
            known=known,
            absent=tuple(absent),
            unknown=tuple(unknown),
            error=self._error if unknown else None,
            taken_at=self._taken,
        )


def _same_run(status: JobStatus, before: JobStatus | None) -> bool:
    """Whether two statuses are of one run: a requeued job does not inherit its old end."""
    return before is not None and not (before.is_final and status.state.is_active)
