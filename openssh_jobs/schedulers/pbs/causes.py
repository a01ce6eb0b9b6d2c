"""The comments of the PBS family's schedulers, as causes.  Pure.

The words: ``fctt`` of job_info.cpp (OpenPBS 23.06), ``job_info.c`` of Torque's pbs_sched.
"""

from __future__ import annotations

import re
from typing import Final

from ...jobs import JobState, JobStatus
from ...jobs.cause import Cause
from ...jobs.status import NEVER_STARTS
from ..causes import cause_by_state

_C = Cause
_NEVER: Final = re.compile(r"^can never run\b", re.IGNORECASE)
_COMMENTS: Final = (
    (r"queue not started|queue not an execution queue", _C.QUEUE_DOWN),
    (r"server (?:per-)?user|user has reached server|(?:for|exceed) user|per-user limit|"
     r"user has reached queue|per-user job limit", _C.USER_LIMIT),
    (r"group|project", _C.ACCOUNT_LIMIT),
    (r"queue \S+ job limit", _C.QUEUE_JOB_LIMIT),
    (r"server job limit|overall limit on resource", _C.QUOTA),
    (r"dedicated time", _C.MAINTENANCE),
    (r"interfere with a (?:confirmed )?reservation|conflict with reservation or",
     _C.RESERVATION),
    (r"interfere with a top job|break strict sorted order|zero shares|preempt enough",
     _C.PRIORITY),
    (r"primetime|cross into", _C.BEGIN_TIME),
    (r"ineligible state|nodes? (?:is |are )?(?:down|offline)|nodes not available",
     _C.NODES_UNAVAILABLE),
    (r"insufficient amount of|not enough free nodes|no available resources|too few free resources|"
     r"exclusive node|node has reached|not enough of the right type", _C.RESOURCES),
    (r"fit in the largest placement set|specified .* does not exist|ineligible type|multi-node job|"
     r"cannot provision", _C.REQUEST_UNSATISFIABLE),
)  # fmt: skip


def cause_of(status: JobStatus) -> Cause:
    """What state, comment and exit status show."""
    reason = status.reason or ""
    if status.state is JobState.PENDING:
        if NEVER_STARTS in reason:
            return _C.DEPENDENCY_NEVER_SATISFIED
        if reason.startswith("it waits for"):
            return _C.BEGIN_TIME if (status.raw_state or "").startswith("W") else _C.DEPENDENCY
        if (status.raw_state or "").startswith("W"):
            return _C.BEGIN_TIME
        return _of_comment(reason)
    if status.state is JobState.HELD:
        return _held(status, reason)
    if status.state is JobState.TIMEOUT and re.search(r"\bcput\b", reason):
        return Cause.CPU_TIME_LIMIT
    if status.state is JobState.CANCELLED:
        return _cancelled(status, reason)
    return cause_by_state(status)


def _of_comment(comment: str) -> Cause:
    for pattern, cause in _COMMENTS:
        if re.search(pattern, comment, re.IGNORECASE):
            passes = cause in (Cause.RESOURCES, Cause.NODES_UNAVAILABLE)
            is_never = _NEVER.search(comment) is not None
            return Cause.REQUEST_UNSATISFIABLE if is_never and passes else cause
    return Cause.REQUEST_UNSATISFIABLE if _NEVER.search(comment) else Cause.UNKNOWN


def _held(status: JobStatus, reason: str) -> Cause:
    if re.search(r"too many failed attempts|held, too many", reason, re.IGNORECASE):
        return Cause.HELD_AFTER_LAUNCH_FAILURE
    if re.search(r"\bheld by (?:the )?(?:user|owner)|by its owner", reason, re.IGNORECASE):
        return Cause.HELD_BY_USER
    if re.search(r"\bheld by (?:the )?(?:operator|manager|admin)", reason, re.IGNORECASE):
        return Cause.HELD_BY_ADMIN
    by = re.match(r"Job held by ([\w.\-]+) on ", reason)
    if by is not None and status.user:
        is_owner = by[1] == status.user.partition("@")[0]
        return Cause.HELD_BY_USER if is_owner else Cause.HELD_BY_ADMIN
    return Cause.UNKNOWN


def _cancelled(status: JobStatus, reason: str) -> Cause:
    by = re.search(r"(?:terminated|deleted) by ([\w.\-]+)@", reason)
    if by is None or not status.user:
        return cause_by_state(status)
    is_owner = by[1] == status.user.partition("@")[0]
    return Cause.CANCELLED_BY_USER if is_owner else Cause.CANCELLED_BY_ADMIN
