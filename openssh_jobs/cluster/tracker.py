"""What is known of the jobs that somebody watches: statuses over time, none made up.

Nothing here asks a host: a ``Poller`` asks and tells this object what came back.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Concatenate, ParamSpec, TypeVar

from ..errors import SchedulerError
from ..jobs import JobState, JobStatus, Snapshot
from ..jobs.job_id import JobId
from ..jobs.status import LEFT_QUEUE, NOT_LISTED
from ..openssh import at_fork
from ..openssh.locks import StateLock
from .evidence import CANCEL_ACCEPTED, WAITING, JobEvidence, ended_somehow

FIRST_LOOK = 2.0
"""Seconds from a submission to the first look, and the least between two early looks."""
_ORDINARY = 1.0  # seconds that a query may take without being followed by a longer rest
_SLOWEST_RETRY = 300.0

P = ParamSpec("P")
T = TypeVar("T")


def rest_after(duration: float, interval: float, failures: int = 0) -> float:
    """Seconds from the end of a query to the next one.

    The interval, longer behind a query that was slow, and doubled with each failure in a row.
    """
    rest = interval + 2 * max(0.0, duration - _ORDINARY)
    if failures:
        rest = max(rest, min(max(rest, 0.5) * 2.0 ** min(failures, 10), _SLOWEST_RETRY))
    return rest


def _locked(
    method: Callable[Concatenate[Tracker, P], T],
) -> Callable[Concatenate[Tracker, P], T]:
    @functools.wraps(method)
    def alone(self: Tracker, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._lock:
            return method(self, *args, **kwargs)

    return alone


class Tracker:
    """The memory of one cluster's jobs, shared by threads.  ``grace``: seconds to look for a job
    that is gone."""

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self._lock = StateLock()
        self._jobs: dict[str, JobEvidence] = {}
        self._ended = -1e9
        self._duration = 0.0
        self._failures = 0
        self._taken: datetime | None = None
        self._error: SchedulerError | None = None
        self._early: float | None = None
        self.changes = 0
        """Grows with all that is done to jobs: what was asked before is old then."""
        at_fork.renew(self)

    def _after_fork(self) -> None:
        self._lock = StateLock()

    # ------------------------------------------------------------------ when to ask

    @_locked
    def follow(self, *ids: str) -> None:
        """Tracker these jobs from now on."""
        for one in ids:
            if one not in self._jobs:
                self._jobs[one] = JobEvidence(time.monotonic())

    @_locked
    def add_known(self, status: JobStatus) -> None:
        """Tracker this job, of which the journal says this: it stands until a host says more."""
        self.follow(status.job_id)
        job = self._jobs[status.job_id]
        if job.status is None:
            job.status = status
            # So another program, which has ended since, has left it.
            job.doomed = status.reason == CANCEL_ACCEPTED
            job.was_waiting = status.state in WAITING

    @_locked
    def lasting_reason(self, status: JobStatus) -> str | None:
        """The reason to write down: that of the status, or that the job is to end."""
        job = self._jobs[status.job_id]
        return CANCEL_ACCEPTED if job.doomed and not job.is_settled else status.reason

    @_locked
    def add_submitted(self, job_id: str, interval: float) -> None:
        """A job was submitted: the next look may come 2 s from now, if the interval is longer."""
        self.follow(job_id)
        self._jobs[job_id].fresh = True
        if self._early is None:
            self._early = time.monotonic() + min(interval, FIRST_LOOK)
        self.changes += 1

    @_locked
    def outdate(self) -> None:
        """Something was done to jobs: the last answer is old."""
        self._early = time.monotonic()
        self.changes += 1

    @_locked
    def cancel_accepted(self, ids: Iterable[str]) -> None:
        """The scheduler accepted that these jobs, or all elements of these arrays, are to end."""
        wishes = [JobId.parse(one) for one in ids]
        for one, job in self._jobs.items():
            this = JobId.parse(one)
            wished = any(wish.matches(this) or wish.contains(this) for wish in wishes)
            if wished and not job.is_settled:
                job.doomed = True
                job.was_waiting = job.status is not None and job.status.state in WAITING

    @property
    def has_answered(self) -> bool:
        """Whether the queue ever gave an answer."""
        return self._taken is not None

    @property
    def is_failing(self) -> bool:
        """Whether the last query got no answer."""
        return self._failures > 0

    @_locked
    def seconds_until_due(self, interval: float) -> float:
        """How long the last answer is still good for."""
        due = self._ended + rest_after(self._duration, interval, self._failures)
        # Nothing is worth asking one who does not answer more often.
        if self._early is not None and not self._failures:
            due = min(due, max(self._early, self._ended + min(interval, FIRST_LOOK)))
        return max(0.0, due - time.monotonic())

    @_locked
    def never_asked(self, wanted: Iterable[str]) -> list[str]:
        """Of these, the jobs of other programs about which nobody was asked yet."""
        jobs = ((one, self._jobs[one]) for one in wanted)
        return [one for one, job in jobs if not (job.asked or job.fresh or job.is_settled)]

    @_locked
    def seconds_until(self, wanted: Sequence[str], interval: float) -> float | None:
        """Seconds until the queue is to be asked for these jobs; ``None`` for not now.

        A job of which nothing is known yet may be asked about 2 s after the last query; for all
        others the last answer is good until the interval is over.
        """
        now = time.monotonic()
        unsettled = [job for job in (self._jobs[one] for one in wanted) if not job.is_done]
        if not unsettled:
            return None
        if self._failures:
            return None if self.seconds_until_due(interval) > 0 else 0.0
        if self.never_asked(wanted):
            return max(0.0, self._ended + min(interval, FIRST_LOOK) - now)
        if self._early is not None and all(job.fresh and not job.asked for job in unsettled):
            return None if now < self._early else 0.0
        return None if self.seconds_until_due(interval) > 0 else 0.0

    @_locked
    def unsettled(self, wanted: Iterable[str] = ()) -> list[str]:
        """``wanted`` and all other jobs that may still change: one query serves them all."""
        others = [one for one in self._jobs if not self.is_over(one)]
        return [one for one in dict.fromkeys([*wanted, *others]) if not self._jobs[one].is_done]

    @_locked
    def settled(self) -> list[str]:
        """The jobs that are over for certain (a requeue would still be news)."""
        return [one for one, job in self._jobs.items() if job.is_done]

    @_locked
    def submitted_since(self, ids: Iterable[str]) -> datetime | None:
        """When the first of these jobs was submitted; ``None`` unless that is known of all."""
        statuses = [self._jobs[one].status for one in ids]
        times = [status.submitted for status in statuses if status and status.submitted]
        return min(times) if times and len(times) == len(statuses) else None

    # ------------------------------------------------------------------ what came back

    @_locked
    def take_answer(
        self, snapshot: Snapshot, taken: datetime, began: float, changes: int | None = None
    ) -> None:
        """The queue answered a query that began at ``taken`` (``began`` on our own clock).

        ``changes``: how many there were then; what was done since wants a look of its own.
        """
        self._asked(began)
        self._failures, self._taken, self._error = 0, taken, snapshot.error
        if changes is None or changes == self.changes:
            self._early = None
        for one, status in snapshot.known.items():
            self._learn(one, status)
        for one in snapshot.absent:
            job = self._jobs.get(one)
            if job is None or job.since > began:
                continue  # asked before the job was known: this answer cannot count against it
            job.asked, job.unsure = True, False
            if not job.is_settled:
                job.is_gone_now()
        for one in snapshot.unknown:
            if one in self._jobs:
                self._jobs[one].asked = self._jobs[one].unsure = True

    def _asked(self, began: float) -> None:
        self._ended = time.monotonic()
        self._duration = self._ended - began

    @_locked
    def take_more(self, snapshot: Snapshot) -> None:
        """The last answer also names jobs that came under watch after it was taken."""
        for one, status in snapshot.known.items():
            self._learn(one, status)

    def _learn(self, job_id: str, status: JobStatus) -> None:
        job = self._jobs.get(job_id)
        if job is not None:
            job.learn(status, self.grace)

    @_locked
    def take_failure(self, error: SchedulerError, ids: Iterable[str], began: float) -> None:
        """There was no answer: nothing changes but the time of the next try."""
        self._asked(began)
        self._error = error
        self._failures += 1
        for one in ids:
            self._jobs[one].asked = self._jobs[one].unsure = True

    @_locked
    def gone(self, ids: Iterable[str]) -> list[str]:
        """Of these, the jobs that the queue has no more and whose end is not known."""
        jobs = ((one, self._jobs[one]) for one in ids)
        return [
            one
            for one, job in jobs
            if job.gone_at is not None and not job.remains and not job.is_settled
        ]

    @_locked
    def unclear(self, ids: Iterable[str]) -> list[str]:
        """Of these, the jobs of which the last answer, complete as it was, could not say anything.

        A line that nobody understands may be any of them.
        """
        if self._error is not None:
            return []
        jobs = ((one, self._jobs[one]) for one in ids)
        return [one for one, job in jobs if job.unsure and job.gone_at is None]

    @_locked
    def without_exit_code(self, ids: Iterable[str]) -> list[str]:
        """Of these, the jobs that ended badly and of which nobody has told the exit code yet."""
        return [one for one in ids if self._jobs[one].awaits_code]

    @_locked
    def take_history(self, found: Snapshot, gone: Sequence[str]) -> None:
        """The history answered for jobs that left the queue, or that ended."""
        for one in gone:
            self._jobs[one].take_history(one, found, self.grace)

    @_locked
    def lack_history(
        self, gone: Sequence[str], why: str, *, for_good: bool = False, none_kept: bool = False
    ) -> None:
        """There was nobody to ask how these jobs ended, and why; ``for_good``: nor will be.

        ``none_kept``: the scheduler itself says that it remembers nothing.
        """
        for one in gone:
            self._jobs[one].why = why
            self._jobs[one].is_forgotten = none_kept
            if for_good:
                self._jobs[one].code_until = None

    @_locked
    def take_record(self, status: JobStatus) -> None:
        """A job that left the queue wrote down how it ended."""
        self._jobs[status.job_id].take_record(status)

    @_locked
    def correct(self, status: JobStatus, scheduler: str) -> None:
        """What a job wrote of its end, where that contradicts what the scheduler says of it."""
        self._jobs[status.job_id].correct(status, scheduler)

    @_locked
    def lack_record(self, job_id: str, why: str) -> str:
        """A job that left the queue left no word either; what the history had said."""
        return self._jobs[job_id].lack_record(job_id, why)

    # ------------------------------------------------------------------ what is known

    @_locked
    def last(self, job_id: str) -> JobStatus | None:
        """The status that was last told by somebody, ``None`` if none ever was."""
        job = self._jobs.get(job_id)
        if job is None or (job.status is None and job.gone_at is None):
            return None
        return self.status(job_id)

    @_locked
    def status(self, job_id: str) -> JobStatus:
        """The status as it is to be told now."""
        job = self._jobs[job_id]
        if job.gone_at is not None and not job.remains:
            known = job.status or JobStatus(job_id, JobState.UNKNOWN)
            reason = LEFT_QUEUE if job.status is not None else NOT_LISTED
            if job.status is not None and ended_somehow(job.status) and job.status.reason:
                reason = job.status.reason
            if job.why and (job.started or self.is_over(job_id)):
                reason = f"{reason}; {job.why}"
            return known.replace(
                state=JobState.UNKNOWN, reason=reason, raw_state=None, source="queue"
            )
        if job.status is not None:
            return job.status
        why = self._error.message if self._error is not None else "not asked yet"
        return JobStatus(job_id, JobState.UNKNOWN, reason=why)

    @_locked
    def is_settled(self, job_id: str) -> bool:
        """Whether the job is over for certain: it is not asked about again."""
        job = self._jobs.get(job_id)
        return job is not None and job.is_settled

    @_locked
    def is_over(self, job_id: str) -> bool:
        """Settled, or gone for longer than the grace time with nobody to say how it ended.

        Gone is what two answers said that are so far apart, however long there was none between
        them or after them.
        """
        job = self._jobs[job_id]
        if job.gone_at is not None and job.gone_seen - job.gone_at >= self.grace:
            return True
        return job.is_done

    @_locked
    def snapshot(self, wanted: Sequence[str]) -> Snapshot:
        """What is known of these jobs, as an answer.

        Jobs of which the last query said nothing are unknown in it, whatever was known before.
        """
        known: dict[str, JobStatus] = {}
        absent, unknown = [], []
        for one in wanted:
            job = self._jobs[one]
            if job.is_settled and job.status is not None:
                known[one] = job.status
            elif job.unsure:
                unknown.append(one)
            elif job.gone_at is not None and not job.remains:
                absent.append(one)
            elif job.status is None:
                unknown.append(one)
            else:
                known[one] = job.status
        return Snapshot(
            known=known,
            absent=tuple(absent),
            unknown=tuple(unknown),
            error=self._error if unknown else None,
            taken_at=self._taken,
            unlisted=frozenset(one for one in absent if self._jobs[one].status is None),
        )
