"""What ended a job without a scheduler, as causes.  Pure."""

from __future__ import annotations

from ...jobs import JobState, JobStatus
from ...jobs.cause import Cause
from ..causes import cause_by_state

LOST_AT_RESTART = "no exit record: the node was restarted"
NEVER_STARTED = "never started: its launcher left no trace"


def cause_of(status: JobStatus) -> Cause:
    """What the record of the job shows."""
    reason = status.reason or ""
    if status.state is JobState.PENDING:
        return Cause.STARTING
    if status.state is JobState.UNKNOWN:
        if reason == LOST_AT_RESTART:
            return Cause.HOST_RESTARTED
        return Cause.NEVER_STARTED if reason == NEVER_STARTED else Cause.UNKNOWN
    if status.state is JobState.CANCELLED:
        return Cause.CANCELLED_BY_USER  # nobody else can write that record
    if status.state is JobState.FAILED and reason and not reason.startswith("exit status"):
        return Cause.LAUNCH_FAILED  # the launcher's own words
    return cause_by_state(status)
