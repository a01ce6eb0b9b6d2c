"""``Tracker``: what is known about the jobs under watch, and when the queue has to be queried.

Sends nothing itself: a ``Poller`` queries the host and passes each answer on.
"""

from __future__ import annotations

import functools
import time
import weakref
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Concatenate, ParamSpec, TypeVar

from ..errors import SchedulerError
from ..jobs import JobState, JobStatus, Snapshot
from ..jobs.job_id import JobId, JobIds
from ..jobs.status import LEFT_QUEUE, NOT_LISTED
from ..openssh import at_fork
from ..openssh.locks import StateLock
from .evidence import CANCEL_ACCEPTED, WAITING, JobEvidence, ended_somehow

FIRST_LOOK = 2.0
"""Seconds from a submission to the first look, and the least between two early looks."""
_ORDINARY = 1.0  # seconds that a query may take without being followed by a longer rest
_SLOWEST_RETRY = 300.0
_REMEMBERED = 600.0  # seconds for which a job that is over is kept for calls that name its id

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
    """The state of one cluster's jobs; safe for threads.

    ``grace``: seconds to keep querying a job that left the queue.
    """

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self._lock = StateLock()
        # All jobs that anything here refers to: those that may change or were named lately are
        # kept, the others live as long as a caller keeps what ``follow`` returned.
        self._jobs: weakref.WeakValueDictionary[str, JobEvidence] = weakref.WeakValueDictionary()
        self._kept: dict[str, JobEvidence] = {}
        self._whole: JobIds[None] = JobIds(())  # arrays (ID[]) that were cancelled
        self._began = self._ended = -1e9
        self._duration = 0.0
        self._failures = 0
        self._taken: datetime | None = None
        self._error: SchedulerError | None = None
        self._early: float | None = None
        self.changes = 0
        """Counts what was done to jobs: an answer from before the last change is out of date."""
        self.changed_at = -1e9
        self.answers = 0
        """Counts the answers and failures that were taken."""
        at_fork.renew(self)

    def after_fork(self) -> None:
        self._lock = StateLock()

    # ------------------------------------------------------------------ when to ask

    @_locked
    def follow(self, *ids: str) -> tuple[JobEvidence, ...]:
        """Follow these jobs from now on; none is forgotten while the result exists."""
        now, followed = time.monotonic(), []
        for job_id in ids:
            job = self._jobs.get(job_id)
            if job is None:
                job = self._jobs[job_id] = JobEvidence(now)
                job.array_cancelled = bool(self._whole and self._whole.around(JobId.parse(job_id)))
            job.named = now
            self._kept[job_id] = job
            followed.append(job)
        return tuple(followed)

    @_locked
    def not_followed(self, ids: Iterable[str]) -> list[str]:
        """Of these, the jobs that were never followed, or are forgotten."""
        return [job_id for job_id in ids if job_id not in self._jobs]

    @_locked
    def unused(self) -> dict[str, JobStatus]:
        """The jobs that are over for certain and that no call has named lately."""
        latest = time.monotonic() - _REMEMBERED
        return {
            job_id: job.status
            for job_id, job in self._kept.items()
            if job.is_done and job.status is not None and job.named <= latest
        }

    @_locked
    def forget(self, statuses: Mapping[str, JobStatus]) -> None:
        """Forget these jobs, unless they have changed or a caller keeps what ``follow`` returned.

        Where these statuses can be found again is up to the caller.  All other unused jobs are
        taken as named now, so that they are not looked at again with each query.
        """
        now = time.monotonic()
        for job_id, status in self.unused().items():
            if statuses.get(job_id) is status:
                del self._kept[job_id]
            else:
                self._kept[job_id].named = now

    @_locked
    def add_known(self, status: JobStatus) -> None:
        """Follow this job with what the journal says, which holds until the host says more."""
        self.follow(status.job_id)
        job = self._jobs[status.job_id]
        if job.status is None:
            job.status, job.noted = status, job.revision
            # Written by the program that cancelled it.
            job.cancelled = status.reason == CANCEL_ACCEPTED
            job.was_waiting = status.state in WAITING

    @_locked
    def lasting_reason(self, status: JobStatus) -> str | None:
        """The reason for the journal: that of the status, or that the job was cancelled."""
        job = self._jobs[status.job_id]
        return CANCEL_ACCEPTED if job.cancelled and not job.is_settled else status.reason

    @_locked
    def add_submitted(self, job_id: str, interval: float) -> None:
        """Follow a new job: the next query may come after 2 s, if the interval is longer."""
        self.follow(job_id)
        self._jobs[job_id].is_new = True
        if self._early is None:
            self._early = time.monotonic() + min(interval, FIRST_LOOK)
        self._note_change()

    @_locked
    def outdate(self) -> None:
        """Mark the last answer as out of date: something was done to jobs."""
        self._early = time.monotonic()
        self._note_change()

    def _note_change(self) -> None:
        self.changes += 1
        self.changed_at = time.monotonic()

    @_locked
    def cancel_accepted(self, ids: Iterable[str]) -> None:
        """The scheduler accepted to cancel these jobs and all members of these arrays."""
        accepted = [(JobId.parse(job_id), None) for job_id in ids]
        cancelled = JobIds(accepted)
        self._whole.update(item for item in accepted if item[0].tasks == "")
        for job_id, job in self._jobs.items():
            this = JobId.parse(job_id)
            if not job.is_settled and (cancelled.matching(this) or cancelled.around(this)):
                job.accept_cancel()

    @property
    def has_answered(self) -> bool:
        """Whether the queue ever gave an answer."""
        return self._taken is not None

    @property
    def taken_at(self) -> datetime | None:
        """When the query began that the queue answered last; ``None``: it never answered."""
        return self._taken

    @property
    def is_failing(self) -> bool:
        """Whether the last query got no answer."""
        return self._failures > 0

    @property
    def age(self) -> float:
        """Seconds since the last query ended."""
        return time.monotonic() - self._ended

    @_locked
    def seconds_until_due(self, interval: float) -> float:
        """How long the last answer is still good for."""
        due = self._ended + rest_after(self._duration, interval, self._failures)
        # A scheduler that does not answer is not queried earlier for a new job.
        if self._early is not None and not self._failures:
            due = min(due, max(self._early, self._ended + min(interval, FIRST_LOOK)))
        return max(0.0, due - time.monotonic())

    @_locked
    def never_queried(self, wanted: Iterable[str]) -> list[str]:
        """Of these, the jobs submitted elsewhere that no query has covered yet."""
        jobs = ((job_id, self._jobs[job_id]) for job_id in wanted)
        return [
            job_id for job_id, job in jobs if not (job.was_queried or job.is_new or job.is_settled)
        ]

    @_locked
    def seconds_until(self, wanted: Sequence[str], interval: float) -> float | None:
        """Seconds until the next query for these jobs; ``None``: the last answer is good enough.

        A job about which nothing is known yet may be queried 2 s after the last query; for all
        others the last answer is good until the interval is over.
        """
        now = time.monotonic()
        unsettled = [job for job in (self._jobs[job_id] for job_id in wanted) if not job.is_done]
        if not unsettled:
            return None
        if self._failures:
            return None if self.seconds_until_due(interval) > 0 else 0.0
        if self.never_queried(wanted):
            return max(0.0, self._ended + min(interval, FIRST_LOOK) - now)
        if self._early is not None and all(job.is_new and not job.was_queried for job in unsettled):
            return None if now < self._early else 0.0
        return None if self.seconds_until_due(interval) > 0 else 0.0

    @_locked
    def unsettled(self, wanted: Iterable[str] = ()) -> list[str]:
        """``wanted`` and all other jobs that may still change: one query serves them all."""
        found = dict.fromkeys(one for one in wanted if not self._jobs[one].is_done)
        others = (one for one, job in self._kept.items() if not (job.is_done or self._is_over(job)))
        return list(found | dict.fromkeys(others))

    @_locked
    def settled(self) -> list[str]:
        """The jobs that are over for certain (only a requeue would change them)."""
        return [job_id for job_id, job in self._jobs.items() if job.is_done]

    @_locked
    def submitted_since(self, ids: Iterable[str]) -> datetime | None:
        """When the first of these jobs was submitted; ``None`` unless that is known of all."""
        statuses = [self._jobs[job_id].status for job_id in ids]
        times = [status.submitted for status in statuses if status and status.submitted]
        return min(times) if times and len(times) == len(statuses) else None

    # ------------------------------------------------------------------ what came back

    @_locked
    def take_answer(
        self,
        snapshot: Snapshot,
        taken: datetime,
        began: float,
        *,
        ended: float | None = None,
        covers: Container[str] | None = None,
    ) -> None:
        """Take the queue's answer to a query that began at ``taken`` (``began``: time.monotonic()).

        ``ended``: when it ended (now).  ``covers``: the ids that it was about, by default all that
        were followed when it began.  An answer from before the last one says nothing new.  If
        something was done to jobs since it began, the next query is due early.
        """
        if began < self._began:
            return
        self._began = began
        self._note_query(began, ended)
        self._failures, self._taken, self._error = 0, taken, snapshot.error
        if self.changed_at <= began:
            self._early = None
        for job_id, status in snapshot.known.items():
            job = self._jobs.get(job_id)
            if job is not None and not (job.is_new and job.since > began):
                job.learn(status, self.grace)
                self._keep(job_id, job)
        for job_id in snapshot.absent:
            job = self._jobs.get(job_id)
            if job is not None and job.is_meant(job_id, began, covers):
                job.was_queried, job.unsure = True, False
                if not job.is_settled:
                    job.is_gone_now(self._ended)
                    job.await_history(self.grace)
        for job_id in snapshot.unknown:
            job = self._jobs.get(job_id)
            if job is not None and (covers is None or job.is_meant(job_id, began, covers)):
                job.was_queried = job.unsure = True

    def _note_query(self, began: float, ended: float | None = None) -> None:
        self.answers += 1
        self._ended = time.monotonic() if ended is None else ended
        self._duration = self._ended - began

    @_locked
    def take_more(self, snapshot: Snapshot) -> None:
        """Take from the last answer what it says about jobs that are followed only since then."""
        for job_id, status in snapshot.known.items():
            job = self._jobs.get(job_id)
            if job is not None:
                job.learn(status, self.grace)
                self._keep(job_id, job)

    def _keep(self, job_id: str, job: JobEvidence) -> None:
        """A job that goes on again after its end is followed as before."""
        if not job.is_done:
            self._kept[job_id] = job

    @_locked
    def take_failure(
        self,
        error: SchedulerError,
        ids: Iterable[str],
        began: float,
        *,
        ended: float | None = None,
        failures: int = 0,
    ) -> None:
        """Take a query without an answer: only the time of the next one changes.

        ``ended``: when it ended (now).  ``failures``: how many in a row other processes know of.
        """
        self._note_query(began, ended)
        self._error = error
        self._failures = max(self._failures + 1, failures) if ended is None else failures
        for job_id in ids:
            self._jobs[job_id].was_queried = self._jobs[job_id].unsure = True

    @_locked
    def gone(self, ids: Iterable[str]) -> list[str]:
        """Of these, the jobs that left the queue and whose end is not known."""
        jobs = ((job_id, self._jobs[job_id]) for job_id in ids)
        return [
            job_id
            for job_id, job in jobs
            if job.gone_at is not None and not job.remains and not job.is_settled
        ]

    @_locked
    def unclear(self, ids: Iterable[str]) -> list[str]:
        """Of these, the jobs about which the last answer, although complete, said nothing.

        A line in it that could not be parsed may be about any of them.
        """
        if self._error is not None:
            return []
        return [
            job_id for job_id in ids if (job := self._jobs[job_id]).unsure and job.gone_at is None
        ]

    @_locked
    def without_exit_code(self, ids: Iterable[str]) -> list[str]:
        """Of these, the failed jobs whose exit code is still looked for."""
        return [job_id for job_id in ids if self._jobs[job_id].awaits_code]

    @_locked
    def take_history(self, found: Snapshot, gone: Sequence[str]) -> None:
        """Take the history's answer about jobs that left the queue, or that ended."""
        for job_id in gone:
            self._jobs[job_id].take_history(job_id, found, self.grace)

    @_locked
    def lack_history(
        self, gone: Sequence[str], why: str, *, for_good: bool = False, none_kept: bool = False
    ) -> None:
        """The history could not be queried; ``why``; ``for_good``: nor will it be.

        ``none_kept``: the scheduler itself says that it keeps no history.
        """
        for job in (self._jobs[job_id] for job_id in gone):
            job.history_answered()
            job.why, job.has_no_history = why, none_kept
            if for_good:
                job.code_until = None

    @_locked
    def defer_history(self, gone: Iterable[str]) -> None:
        """The history is queried later: until then these jobs are not over.

        Those that it was queried for after the grace time stay over.
        """
        for job_id in gone:
            self._jobs[job_id].await_history(self.grace)

    @_locked
    def awaits_history(self, job_id: str) -> bool:
        """Whether the query of the history was deferred for this job."""
        return self._jobs[job_id].awaits_history

    @_locked
    def take_record(self, status: JobStatus) -> None:
        """Take the exit record of a job that left the queue."""
        self._jobs[status.job_id].take_record(status)

    @_locked
    def correct(self, status: JobStatus, scheduler: str) -> None:
        """Take an exit record where it contradicts the scheduler."""
        self._jobs[status.job_id].correct(status, scheduler)

    @_locked
    def lack_record(self, job_id: str, why: str) -> str:
        """Note why there is no exit record; returns what the history had said."""
        return self._jobs[job_id].lack_record(job_id, why)

    # ------------------------------------------------------------------ what is known

    @_locked
    def revisions(self, ids: Iterable[str], *, new: bool = False) -> dict[str, int]:
        """By id a number that grows when something is learned, beside the time that passed.

        ``new``: only those that were not passed to ``note``.
        """
        jobs = ((job_id, self._jobs[job_id]) for job_id in ids)
        return {name: job.revision for name, job in jobs if not new or job.revision != job.noted}

    @_locked
    def note(self, revisions: Mapping[str, int]) -> None:
        """These jobs are written down as they were at these revisions."""
        for job_id, revision in revisions.items():
            if job_id in self._jobs:
                self._jobs[job_id].noted = revision

    @_locked
    def last(self, job_id: str) -> JobStatus | None:
        """The last status, ``None`` if there was none yet."""
        job = self._jobs.get(job_id)
        if job is None or (job.status is None and job.gone_at is None):
            return None
        return self.status(job_id)

    @_locked
    def status(self, job_id: str) -> JobStatus:
        """The status to report now."""
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
        """Whether the job is over for certain and needs no more queries."""
        job = self._jobs.get(job_id)
        return job is not None and job.is_settled

    @_locked
    def is_over(self, job_id: str) -> bool:
        """Whether the job is settled, or left the queue more than the grace time ago.

        That takes two answers without it, so far apart; time without answers does not count.
        """
        return self._is_over(self._jobs[job_id])

    def _is_over(self, job: JobEvidence) -> bool:
        if job.gone_at is not None and job.gone_seen - job.gone_at >= self.grace:
            return not job.awaits_history
        return job.is_done

    @_locked
    def snapshot(self, wanted: Sequence[str]) -> Snapshot:
        """What is known about these jobs, as an answer.

        Jobs about which the last query said nothing are unknown in it, whatever was known before.
        """
        known: dict[str, JobStatus] = {}
        absent, unknown = [], []
        for job_id in wanted:
            job = self._jobs[job_id]
            if job.is_settled and job.status is not None:
                known[job_id] = job.status
            elif job.unsure:
                unknown.append(job_id)
            elif job.gone_at is not None and not job.remains:
                absent.append(job_id)
            elif job.status is None:
                unknown.append(job_id)
            else:
                known[job_id] = job.status
        return Snapshot(
            known=known,
            absent=tuple(absent),
            unknown=tuple(unknown),
            error=self._error if unknown else None,
            taken_at=self._taken,
            unlisted=frozenset(job_id for job_id in absent if self._jobs[job_id].status is None),
        )
