"""The states of a job, and what became of a request to cancel, hold or release it.  Pure."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is in its life, the same words for all schedulers."""

    NEW = "new"
    PENDING = "pending"
    HELD = "held"
    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPLETING = "completing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    NODE_FAIL = "node_fail"
    UNKNOWN = "unknown"

    @property
    def is_final(self) -> bool:
        """True for a job that is over."""
        return self in FINAL

    @property
    def is_active(self) -> bool:
        """True for a job that the scheduler has and that is not over."""
        return self in ACTIVE


FINAL = frozenset(
    (
        JobState.COMPLETED,
        JobState.FAILED,
        JobState.CANCELLED,
        JobState.TIMEOUT,
        JobState.OUT_OF_MEMORY,
        JobState.NODE_FAIL,
    )
)
ACTIVE = frozenset(
    (
        JobState.PENDING,
        JobState.HELD,
        JobState.RUNNING,
        JobState.SUSPENDED,
        JobState.COMPLETING,
    )
)


class CancelOutcome(StrEnum):
    """The outcome of cancelling, holding or releasing one job."""

    REQUESTED = "requested"
    ALREADY_FINISHED = "already_finished"
    NOT_FOUND = "not_found"
    PERMISSION = "permission"
    TRANSIENT = "transient"
    INVALID_REQUEST = "invalid_request"
    #: The scheduler's answer about this job was not understood: it may or may not have been done.
    UNKNOWN = "unknown"
