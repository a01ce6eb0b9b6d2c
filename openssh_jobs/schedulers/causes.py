"""The cause that a status alone shows; each scheduler adds what its own words say.  Pure."""

from __future__ import annotations

from ..jobs import JobState, JobStatus
from ..jobs.cause import Cause
from ..jobs.status import NEVER_STARTS

_S = JobState
_BY_STATE = {
    _S.RUNNING: Cause.RUNNING,
    _S.SUSPENDED: Cause.SUSPENDED,
    _S.COMPLETING: Cause.COMPLETING,
    _S.COMPLETED: Cause.COMPLETED,
    _S.TIMEOUT: Cause.TIME_LIMIT,
    _S.OUT_OF_MEMORY: Cause.OUT_OF_MEMORY,
    _S.NODE_FAIL: Cause.NODE_FAIL,
    _S.CANCELLED: Cause.CANCELLED,
}
# The reason that the package itself writes for a job that it cancelled.
_OURS = ("cancelled before it ran", "cancelled; ", "its cancellation was accepted")


def cause_by_state(status: JobStatus) -> Cause:
    """What state, exit code and signal say.  Of a job that waits: ``UNKNOWN``."""
    if status.state is _S.CANCELLED and (status.reason or "").startswith(_OURS):
        return Cause.CANCELLED_BY_USER
    known = _BY_STATE.get(status.state)
    if known is not None:
        return known
    if status.state is _S.FAILED:
        if status.signal is not None:
            return Cause.SIGNAL
        if status.exit_code:
            return Cause.SIGNAL if 128 < status.exit_code < 193 else Cause.EXIT_CODE
    if status.state is _S.PENDING and NEVER_STARTS in (status.reason or ""):
        return Cause.DEPENDENCY_NEVER_SATISFIED
    return Cause.UNKNOWN
