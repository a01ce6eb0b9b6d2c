"""``JobEvidence``: what is known about one job, and what each source adds.

The sources are the queue, the history and the job's own exit record.  Here is decided which of
them wins where they differ, and what ends a job.
"""

from __future__ import annotations

import time
from collections.abc import Container
from dataclasses import dataclass

from ..jobs import JobState, JobStatus, Snapshot
from ..jobs.state import FINAL
from ..schedulers.launcher.exit_record import NEVER_STARTED

__all__ = ["CANCEL_ACCEPTED", "NEVER_RAN", "WAITING", "JobEvidence", "ended_somehow"]

NEVER_RAN = "cancelled before it ran"
CANCEL_ACCEPTED = "its cancellation was accepted"
WAITING = frozenset((JobState.PENDING, JobState.HELD))
# ``direct`` still lists a job whose processes are gone without an exit record.
_LOST = frozenset(("gone", "restarted", "waiting"))

_HAS_EXIT_CODE = frozenset(
    (JobState.FAILED, JobState.TIMEOUT, JobState.OUT_OF_MEMORY, JobState.NODE_FAIL)
)
# What stays true of a job in all its states; a reason or a start belongs to one state or run.
_LASTING = frozenset((
    "name", "user", "queue", "account", "nodes", "cpus", "submitted", "time_limit", "directory",
    "stdout_path", "stderr_path", "command", "raw_id",
))  # fmt: skip


@dataclass(slots=True, weakref_slot=True)
class JobEvidence:
    """One job under watch."""

    since: float
    status: JobStatus | None = None
    named: float = 0.0  # when a call named it last
    # When the queue was first and last seen without it, or with nothing but its remains.
    gone_at: float | None = None
    gone_seen: float = 0.0
    # Until when a missing exit code is looked for (time.monotonic()).
    code_until: float | None = None
    remains: bool = False
    why: str = ""
    started: bool = False  # whether ``why`` holds the trace of a start without an end
    # Whether any query of the queue covered it, and whether the last one got no answer.
    was_queried: bool = False
    unsure: bool = False
    is_new: bool = False  # submitted by this program: that it is pending needs no query
    # Whether the scheduler accepted its cancellation, and whether it was waiting then.
    cancelled: bool = False
    was_waiting: bool = False
    array_cancelled: bool = False  # that of its array, before this element was followed
    # When the history last answered, or could not; and whether the query of it is to come.
    history_at: float = -1e9
    awaits_history: bool = False
    # The scheduler keeps no history: nothing more will be known.
    has_no_history: bool = False
    # Counts what changed beside the time that passed, and up to where the journal knows it.
    revision: int = 1
    noted: int = 0
    # What the queue answered last, the status made of it, and what was known before that.
    queue_status: JobStatus | None = None
    made: JobStatus | None = None
    before: JobStatus | None = None

    @property
    def is_settled(self) -> bool:
        return self.status is not None and self.status.state in FINAL

    @property
    def awaits_code(self) -> bool:
        return self.code_until is not None and time.monotonic() < self.code_until

    @property
    def is_done(self) -> bool:
        if self.status is None or self.status.state not in FINAL:
            return False
        return not self.awaits_code

    def is_meant(self, job_id: str, began: float, covers: Container[str] | None) -> bool:
        """Whether the silence of a query about this job means something.

        One that began before the job was known says nothing about it, unless another process knew
        the job then (``covers``), which is never so for a job that was just submitted here.
        """
        if covers is None or self.is_new:
            return self.since <= began and (covers is None or job_id in covers)
        return job_id in covers

    def is_gone_now(self, when: float | None = None) -> None:
        now = time.monotonic() if when is None else when
        self.revision += 1
        self.gone_at = now if self.gone_at is None else self.gone_at
        self.gone_seen = now

    def await_history(self, grace: float) -> None:
        """The history is to be queried, unless it was since the grace time is over.

        Then the job is over, and another query that is only deferred takes nothing back.
        """
        gone_at = time.monotonic() if self.gone_at is None else self.gone_at
        self.awaits_history = self.history_at - gone_at < grace

    def history_answered(self) -> None:
        """The history was queried just now."""
        self.history_at, self.awaits_history = time.monotonic(), False
        self.revision += 1

    def learn(self, status: JobStatus, grace: float) -> None:
        """Take a status from the queue.  ``grace``: seconds to look for a missing exit code."""
        self.was_queried, self.unsure = True, False
        before = self.status
        if before is not None and before.is_final and not status.state.is_active:
            if status.state is before.state and self.awaits_code and _has_code(status):
                self._become(_merged(status, before))
                self.code_until = None
            return
        if status.state is JobState.UNKNOWN and before is not None and not status.reason:
            return
        self.remains = status.state is JobState.UNKNOWN and status.raw_state in _LOST
        if not self.remains and not ended_somehow(status):
            self.revision += self.gone_at is not None
            self.gone_at = None
        else:
            self.is_gone_now()
        self._hear(status)
        # An array whose state is that of its members (no state of its own) has no exit code.
        ends_with_code = status.state in _HAS_EXIT_CODE and bool(status.raw_state)
        wanting = ends_with_code and not _has_code(status)
        self.code_until = time.monotonic() + grace if wanting else None

    def _hear(self, status: JobStatus) -> None:
        """Take a status from the queue; of most jobs it says what the last one said."""
        in_queue, known = self.queue_status, self.status
        if in_queue is None or known is not self.made or not status.repeats(in_queue):
            if known is not None:
                known.as_dict()  # read now, or it would keep all answers since
            self.before = known
            self.revision += 1
        self.queue_status = status
        self.status = self.made = _merged(status, self.before)

    def _become(self, status: JobStatus) -> None:
        """Take a status that is no word of the queue."""
        self.status = status
        self.queue_status = self.made = self.before = None
        self.revision += 1

    def take_history(self, job_id: str, found: Snapshot, grace: float) -> None:
        """Take the history's answer about this job, which left the queue or ended."""
        self.history_answered()
        status = found.known.get(job_id)
        if self.is_settled and (status is None or not status.is_final):
            return
        # The queue listed it for a later run, whose record is still to come.
        is_try = job_id in found.tries and _seen_active(self.status)
        never_ran = self.cancelled and self.was_waiting and (is_try or job_id in found.absent)
        if never_ran and not self.is_settled:
            # Some schedulers keep no record of a job that never ran; it left the queue.
            self._left(JobStatus(job_id, JobState.CANCELLED, reason=NEVER_RAN, source="queue"))
        elif is_try or (found.submitted_per_run and _is_older(status, self.status)):
            self.why = "the history only knows an earlier run (yet)"
        elif status is None:
            self.why = "the history does not know it (yet)"
            if found.error is not None:
                self.why = f"the history did not answer: {found.error.message}"
        elif status.is_final:
            if self.cancelled and status.state is JobState.FAILED and status.signal is not None:
                # Grid Engine's record of a deletion is that of a kill by anybody.
                why = f"cancelled; {status.reason}" if status.reason else "cancelled"
                status = status.replace(state=JobState.CANCELLED, reason=why)
            if self.status is not None and self.status.state is status.state:
                # The queue saw this end, too, and may have said why: the record of a job that
                # could not start only names the kind of failure.
                if job_id in found.tries and self.status.reason:
                    status = status.replace(reason=self.status.reason)
                status = status.filled_from(self.status)
            self._left(status)
            # A record without an exit code will not get one.
            self.code_until = None
        elif status.state.is_active and status.source == "queue":
            self.learn(status, grace)  # a query for this job alone found it
        else:
            # It left the queue: an unfinished record is only late.
            self.why = f"the history still calls it {status.state}"

    def take_record(self, status: JobStatus) -> None:
        """Take the exit record of a job that left the queue."""
        if self.gone_at is None or self.is_settled:
            return
        if self.cancelled and status.signal is not None:
            status = status.replace(state=JobState.CANCELLED, reason=f"cancelled; {status.reason}")
        self._left(status)

    def correct(self, status: JobStatus, scheduler: str) -> None:
        """Take an exit record where it contradicts the scheduler."""
        known = self.status
        if known is None or known.state not in (JobState.COMPLETED, JobState.FAILED):
            return
        code = known.exit_code
        if code is None and known.signal is not None:
            code = 128 + known.signal
        if code is not None and status.exit_code is not None and code != status.exit_code:
            reason = f"exit status {status.exit_code} by its own record; {scheduler} says {code}"
            self._become(_merged(status.replace(reason=reason), known))

    def accept_cancel(self) -> None:
        """The scheduler accepted to cancel it."""
        self.cancelled = True
        self.was_waiting = self.status is not None and self.status.state in WAITING
        self.revision += 1

    def lack_record(self, job_id: str, why: str) -> str:
        """Note why there is no exit record; returns what the history had said."""
        said = self.why
        if not said.endswith(why):  # nothing may have been asked since it was noted
            self.why = f"{said}; {why}" if said else why
        self.revision += 1
        self.started = why.startswith("started on ")
        # A job that is still listed as ended may have ended by itself, unless by a signal, or if
        # its launcher never began.
        is_listed = self.status is not None and ended_somehow(self.status)
        was_killed = self.status is not None and self.status.signal is not None
        never_began = why.startswith(NEVER_STARTED)
        waited = self.was_waiting and not self.started
        is_cancelled = not is_listed or was_killed or (waited and never_began)
        if self.array_cancelled and never_began:
            is_cancelled = waited = True
        else:
            is_cancelled = self.cancelled and is_cancelled
        if is_cancelled and self.has_no_history:
            reason = NEVER_RAN if waited else f"{CANCEL_ACCEPTED}, and it left the queue"
            self._left(JobStatus(job_id, JobState.CANCELLED, reason=reason, source="queue"))
        return said or "no history was asked"

    def _left(self, status: JobStatus) -> None:
        """It ended so: that it left the queue needs no more queries."""
        self._become(_merged(status, self.status))
        self.gone_at = None


def ended_somehow(status: JobStatus) -> bool:
    """Whether it is listed as ended, but not how: then treated as if it had left the queue."""
    return status.state is JobState.UNKNOWN and status.source == "accounting"


def _has_code(status: JobStatus) -> bool:
    return status.exit_code is not None or status.signal is not None


def _seen_active(seen: JobStatus | None) -> bool:
    return seen is not None and seen.source == "queue" and seen.state.is_active


def _is_older(record: JobStatus | None, seen: JobStatus | None) -> bool:
    """Whether a record was submitted before what the queue showed of this job.

    The journal's time of submission does not count: it is by another clock.
    """
    if record is None or seen is None or seen.source != "queue":
        return False
    if None in (seen.submitted, record.submitted):
        return False
    return bool(record.submitted < seen.submitted)  # type: ignore[operator]


def _merged(status: JobStatus, before: JobStatus | None) -> JobStatus:
    """A new status, with the fields from the old one that it lacks and that cannot have changed."""
    return status.after(before, _LASTING)
