"""What is known of the jobs that somebody watches: statuses over time, none made up.

Nothing here asks a host: a ``Poller`` asks and tells this object what came back.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, TypeVar

from .errors import SchedulerError
from .jobid import JobId
from .jobs import LEFT_QUEUE, NOT_LISTED, JobState, JobStatus, Snapshot
from .openssh import forking
from .openssh.locks import StateLock

FIRST_LOOK = 2.0
"""Seconds from a submission to the first look, and the least between two early looks."""
_ORDINARY = 1.0  # seconds that a query may take without being followed by a longer rest
_SLOWEST_RETRY = 300.0
NEVER_RAN = "cancelled before it ran"
CANCEL_ACCEPTED = "its cancellation was accepted"
_WAITING = frozenset((JobState.PENDING, JobState.HELD))
# ``direct`` still shows a job whose processes are gone without a word; such a listing is no news.
_LOST = frozenset(("gone", "restarted", "waiting"))

_HAS_EXIT_CODE = frozenset(
    (JobState.FAILED, JobState.TIMEOUT, JobState.OUT_OF_MEMORY, JobState.NODE_FAIL)
)
# What stays true of a job whatever becomes of it; a reason or a start is of one moment or run.
_LASTING = (
    "name", "user", "queue", "account", "nodes", "cpus", "submitted", "time_limit", "directory",
    "stdout_path", "stderr_path", "command", "raw_id",
)  # fmt: skip

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class _Followed:
    """One job under watch."""

    since: float
    status: JobStatus | None = None
    # When the queue was first and last seen without it, or with nothing but its remains.
    gone_at: float | None = None
    gone_seen: float = 0.0
    # Until when an exit code that nobody has told yet is asked for.
    code_until: float | None = None
    remains: bool = False
    why: str = ""
    started: bool = False  # whether ``why`` holds the trace of a start without an end
    # Whether the queue was asked about it at all, and whether the last try got no answer.
    asked: bool = False
    unsure: bool = False
    fresh: bool = False  # submitted by this program: that it is pending needs no question
    # The scheduler accepted our wish to cancel it, and whether it was waiting then.
    doomed: bool = False
    was_waiting: bool = False
    # The scheduler keeps no history: nobody will tell more than is known.
    is_forgotten: bool = False

    @property
    def is_settled(self) -> bool:
        return self.status is not None and self.status.is_final

    @property
    def awaits_code(self) -> bool:
        return self.code_until is not None and time.monotonic() < self.code_until

    @property
    def is_done(self) -> bool:
        return self.is_settled and not self.awaits_code

    def is_gone_now(self) -> None:
        now = time.monotonic()
        self.gone_at = now if self.gone_at is None else self.gone_at
        self.gone_seen = now


def rest_after(duration: float, interval: float, failures: int = 0) -> float:
    """Seconds from the end of a query to the next one.

    The interval, longer behind a query that was slow, and doubled with each failure in a row.
    """
    rest = interval + 2 * max(0.0, duration - _ORDINARY)
    if failures:
        rest = max(rest, min(max(rest, 0.5) * 2.0 ** min(failures, 10), _SLOWEST_RETRY))
    return rest


def _locked(
    method: Callable[Concatenate[Watch, P], T],
) -> Callable[Concatenate[Watch, P], T]:
    @functools.wraps(method)
    def alone(self: Watch, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._lock:
            return method(self, *args, **kwargs)

    return alone


class Watch:
    """The memory of one cluster's jobs, shared by threads.  ``grace``: seconds to look for a job
    that is gone."""

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self._lock = StateLock()
        self._jobs: dict[str, _Followed] = {}
        self._ended = -1e9
        self._duration = 0.0
        self._failures = 0
        self._taken: datetime | None = None
        self._error: SchedulerError | None = None
        self._early: float | None = None
        self.changes = 0
        """Grows with all that is done to jobs: what was asked before is old then."""
        forking.renew(self)

    def _after_fork(self) -> None:
        self._lock = StateLock()

    # ------------------------------------------------------------------ when to ask

    @_locked
    def follow(self, *ids: str) -> None:
        """Watch these jobs from now on."""
        for one in ids:
            if one not in self._jobs:
                self._jobs[one] = _Followed(time.monotonic())

    @_locked
    def told(self, status: JobStatus) -> None:
        """Watch this job, of which the journal says this: it stands until a host says more."""
        self.follow(status.job_id)
        job = self._jobs[status.job_id]
        if job.status is None:
            job.status = status
            # So another program, which has ended since, has left it.
            job.doomed = status.reason == CANCEL_ACCEPTED
            job.was_waiting = status.state in _WAITING

    @_locked
    def lasting_reason(self, status: JobStatus) -> str | None:
        """The reason to write down: that of the status, or that the job is to end."""
        job = self._jobs[status.job_id]
        return CANCEL_ACCEPTED if job.doomed and not job.is_settled else status.reason

    @_locked
    def submitted(self, job_id: str, interval: float) -> None:
        """A job was submitted: the next look may come 2 s from now, if the interval is longer."""
        self.follow(job_id)
        self._jobs[job_id].fresh = True
        if self._early is None:
            self._early = time.monotonic() + min(interval, FIRST_LOOK)
        self.changes += 1

    @_locked
    def disturbed(self) -> None:
        """Something was done to jobs: the last answer is old."""
        self._early = time.monotonic()
        self.changes += 1

    @_locked
    def cancelled(self, ids: Iterable[str]) -> None:
        """The scheduler accepted that these jobs, or all elements of these arrays, are to end."""
        wishes = [JobId.parse(one) for one in ids]
        for one, job in self._jobs.items():
            this = JobId.parse(one)
            wished = any(wish.matches(this) or wish.contains(this) for wish in wishes)
            if wished and not job.is_settled:
                job.doomed = True
                job.was_waiting = job.status is not None and job.status.state in _WAITING

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
    def strangers(self, wanted: Iterable[str]) -> list[str]:
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
        if self.strangers(wanted):
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
    def took(
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
    def also_took(self, snapshot: Snapshot) -> None:
        """The last answer also names jobs that came under watch after it was taken."""
        for one, status in snapshot.known.items():
            self._learn(one, status)

    def _learn(self, job_id: str, status: JobStatus) -> None:
        job = self._jobs.get(job_id)
        if job is None:
            return
        job.asked, job.unsure = True, False
        before = job.status
        if before is not None and before.is_final and not status.state.is_active:
            if status.state is before.state and job.awaits_code and _has_code(status):
                job.status, job.code_until = _merged(status, before), None
            return
        if status.state is JobState.UNKNOWN and before is not None and not status.reason:
            return
        job.remains = status.state is JobState.UNKNOWN and status.raw_state in _LOST
        if not job.remains and not _ended_somehow(status):
            job.gone_at = None
        else:
            job.is_gone_now()
        job.status = _merged(status, before)
        wanting = status.state in _HAS_EXIT_CODE and not _has_code(status)
        job.code_until = time.monotonic() + self.grace if wanting else None

    @_locked
    def failed(self, error: SchedulerError, ids: Iterable[str], began: float) -> None:
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
    def took_history(self, found: Snapshot, gone: Sequence[str]) -> None:
        """The history answered for jobs that left the queue, or that ended."""
        for one in gone:
            status = found.known.get(one)
            job = self._jobs[one]
            if job.is_settled and (status is None or not status.is_final):
                continue
            # The queue had it for another try, whose record is still to come.
            is_try = one in found.tries and _seen_active(job.status)
            never_ran = job.doomed and job.was_waiting and (is_try or one in found.absent)
            if never_ran and not job.is_settled:
                # Some keep no record of a job that never ran; it is in the queue no more.
                cancelled = JobStatus(one, JobState.CANCELLED, reason=NEVER_RAN, source="queue")
                job.status, job.gone_at = _merged(cancelled, job.status), None
            elif is_try or (found.submitted_per_run and _is_older(status, job.status)):
                job.why = "the history only knows an earlier run (yet)"
            elif status is None:
                job.why = "the history does not know it (yet)"
                if found.error is not None:
                    job.why = f"the history did not answer: {found.error.message}"
            elif status.is_final:
                if job.doomed and status.state is JobState.FAILED and status.signal is not None:
                    # Grid Engine's record of a deletion is that of a kill by anybody.
                    why = f"cancelled; {status.reason}" if status.reason else "cancelled"
                    status = status.replace(state=JobState.CANCELLED, reason=why)
                if job.status is not None and job.status.state is status.state:
                    # The queue saw this end, too, and may have said why.
                    status = status.filled_from(job.status)
                job.status = _merged(status, job.status)
                # A record without an exit code is all that there will be.
                job.gone_at = job.code_until = None
            elif status.state.is_active and status.source == "queue":
                self._learn(one, status)  # a closer look found it: it was only not listed
            else:
                # The queue says it is gone: an unfinished record is the history running late.
                job.why = f"the history still calls it {status.state}"

    @_locked
    def no_history(
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
    def took_marker(self, status: JobStatus) -> None:
        """A job that left the queue wrote down how it ended."""
        job = self._jobs[status.job_id]
        if job.gone_at is None or job.is_settled:
            return
        if job.doomed and status.signal is not None:
            status = status.replace(state=JobState.CANCELLED, reason=f"cancelled; {status.reason}")
        job.status = _merged(status, job.status)
        job.gone_at = None

    @_locked
    def corrected(self, status: JobStatus, scheduler: str) -> None:
        """What a job wrote of its end, where that contradicts what the scheduler says of it."""
        known = self._jobs[status.job_id].status
        if known is None or known.state not in (JobState.COMPLETED, JobState.FAILED):
            return
        code = known.exit_code
        if code is None and known.signal is not None:
            code = 128 + known.signal
        if code is not None and status.exit_code is not None and code != status.exit_code:
            reason = f"exit status {status.exit_code} by its own record; {scheduler} says {code}"
            self._jobs[status.job_id].status = _merged(status.replace(reason=reason), known)

    @_locked
    def marker_missing(self, job_id: str, why: str) -> str:
        """A job that left the queue left no word either; what the history had said."""
        job = self._jobs[job_id]
        said, job.why = job.why, f"{job.why}; {why}" if job.why else why
        job.started = why.startswith("started on ")
        # One that is still listed, as ended somehow, may have ended by itself, unless a signal did.
        is_listed = job.status is not None and _ended_somehow(job.status)
        if job.doomed and job.is_forgotten and (not is_listed or _was_killed(job)):
            waited = job.was_waiting and not job.started
            reason = NEVER_RAN if waited else f"{CANCEL_ACCEPTED}, and it left the queue"
            cancelled = JobStatus(job_id, JobState.CANCELLED, reason=reason, source="queue")
            job.status, job.gone_at = _merged(cancelled, job.status), None
        return said or "no history was asked"

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
            if job.status is not None and _ended_somehow(job.status) and job.status.reason:
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


def _was_killed(job: _Followed) -> bool:
    return job.status is not None and job.status.signal is not None


def _ended_somehow(status: JobStatus) -> bool:
    """Listed as ended, and not how: for that others are asked, as for one that left the queue."""
    return status.state is JobState.UNKNOWN and status.source == "accounting"


def _has_code(status: JobStatus) -> bool:
    return status.exit_code is not None or status.signal is not None


def _seen_active(seen: JobStatus | None) -> bool:
    return seen is not None and seen.source == "queue" and seen.state.is_active


def _is_older(record: JobStatus | None, seen: JobStatus | None) -> bool:
    """Whether a record was submitted before what the queue showed of this job.

    The journal's time of submission is by another clock.
    """
    if record is None or seen is None or seen.source != "queue":
        return False
    if None in (seen.submitted, record.submitted):
        return False
    return bool(record.submitted < seen.submitted)  # type: ignore[operator]


def _merged(status: JobStatus, before: JobStatus | None) -> JobStatus:
    """A new status, with what it does not say and what cannot have changed from the old one."""
    kept: dict[str, Any] = {}
    if before is not None:
        kept = {
            name: getattr(before, name)
            for name in _LASTING
            if getattr(status, name) is None and getattr(before, name) is not None
        }
    if status.state is JobState.COMPLETED and status.exit_code is None:
        kept["exit_code"] = 0  # what completed means, to every scheduler
    return status.replace(**kept) if kept else status
