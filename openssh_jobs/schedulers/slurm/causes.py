"""Slurm's words for why a job waits and what ended it, as causes.  Pure.

The words: ``job_state_reason.c`` of 25.11, ``slurm_protocol_defs.c`` of earlier versions; JOB
REASON CODES in squeue(1).
"""

from __future__ import annotations

import re
from typing import Final

from ...jobs import JobState, JobStatus
from ...jobs.cause import Cause
from ..causes import cause_by_state

_C = Cause
_BY_REASON: Final = {
    "none": _C.NOT_CONSIDERED,
    "prolog": _C.STARTING,
    "priority": _C.PRIORITY,
    "dependency": _C.DEPENDENCY,
    "dependencyneversatisfied": _C.DEPENDENCY_NEVER_SATISFIED,
    "resources": _C.RESOURCES,
    "partitionnodelimit": _C.QUEUE_NODE_LIMIT,
    "partitiontimelimit": _C.QUEUE_TIME_LIMIT,
    "partitiondown": _C.QUEUE_DOWN,
    "partitioninactive": _C.QUEUE_INACTIVE,
    "partitionconfig": _C.QUEUE_LIMIT,
    "maxmemperlimit": _C.QUEUE_MEMORY_LIMIT,
    "jobheldadmin": _C.HELD_BY_ADMIN,
    "held_for_admin": _C.HELD_BY_ADMIN,
    "jobhelduser": _C.HELD_BY_USER,
    "job_requeued_in_held_state": _C.HELD_AFTER_REQUEUE,
    "jobholdmaxrequeue": _C.HELD_AFTER_REQUEUE,
    "launch_failed_requeued_held": _C.HELD_AFTER_LAUNCH_FAILURE,
    "begintime": _C.BEGIN_TIME,
    "licenses": _C.LICENSES,
    "reservation": _C.RESERVATION,
    "reservationdeleted": _C.RESERVATION_DELETED,
    "reservationinvalid": _C.RESERVATION_DELETED,
    "nodedown": _C.NODES_UNAVAILABLE,
    "reqnodenotavail": _C.NODES_UNAVAILABLE,
    "maxpoweredupnodes": _C.RESOURCES,
    "mpiportsbusy": _C.RESOURCES,
    "nvidiaimexchannels": _C.RESOURCES,
    "badconstraints": _C.CONSTRAINT,
    "constraints": _C.CONSTRAINT,
    "cleaning": _C.CLEANING,
    "jobarraytasklimit": _C.ARRAY_LIMIT,
    "burstbufferresources": _C.BURST_BUFFER,
    "burstbufferstagein": _C.BURST_BUFFER,
    "burstbufferoperation": _C.BURST_BUFFER,
    "deadline": _C.DEADLINE,
    "invalidaccount": _C.ACCOUNT_NOT_ALLOWED,
    "accountnotallowed": _C.ACCOUNT_NOT_ALLOWED,
    "invalidqos": _C.QOS_NOT_ALLOWED,
    "qosnotallowed": _C.QOS_NOT_ALLOWED,
    "accountingpolicy": _C.ACCOUNT_LIMIT,
    "qosusagethreshold": _C.QOS_USAGE_LIMIT,
    "scheddefer": _C.NOT_CONSIDERED,
    # Of jobs that are over.
    "systemfailure": _C.SYSTEM_FAILURE,
    "joblaunchfailure": _C.LAUNCH_FAILED,
    "timelimit": _C.TIME_LIMIT,
    "inactivelimit": _C.INACTIVE,
    "outofmemory": _C.OUT_OF_MEMORY,
}
# state_desc: whole sentences, with blanks in squeue and with underscores in scontrol.
_BY_SENTENCE: Final = (
    (re.compile(r"reserved.for.maintenance|maint(?:enance)?\b", re.IGNORECASE), _C.MAINTENANCE),
    (re.compile(r"nodes.required.for.job.are.down", re.IGNORECASE), _C.NODES_UNAVAILABLE),
    (re.compile(r"reqnodenotavail", re.IGNORECASE), _C.NODES_UNAVAILABLE),
    (re.compile(r"job.requeued.in.held.state", re.IGNORECASE), _C.HELD_AFTER_REQUEUE),
    (re.compile(r"launch.failed.requeued.held", re.IGNORECASE), _C.HELD_AFTER_LAUNCH_FAILURE),
)
# Of the words in the name of a limit the first of these that is there.
_LIMITED: Final = (
    ("submit", "submit_limit"),
    ("runmin", "usage_limit"),
    ("minutes", "usage_limit"),
    ("job(?!$)", "job_limit"),
    ("wall|timelimit", "time_limit"),
    ("gres", "gres_limit"),
    ("mem", "memory_limit"),
    ("cpu", "cpu_limit"),
    ("node", "node_limit"),
)
_IS_LIMIT: Final = re.compile(
    r"(?:qos|assoc)(?:iation)?(?:grp|max|min|job|resource|time)\w*|max\w+per(?:account|user)"
)
_OUTPUT_FAILED = 53
"""Slurm's "signal" of a job whose output file could not be opened (ESLURMD_IO... in slurmstepd)."""


def cause_of_reason(reason: str) -> Cause:
    """What a reason stands for; ``UNKNOWN`` for words that none of the known versions has."""
    text = reason.strip("() ")
    for pattern, cause in _BY_SENTENCE:
        if pattern.search(text):
            return cause
    word = re.split(r"[:,(]", text, maxsplit=1)[0].strip().replace(" ", "_").lower()
    known = _BY_REASON.get(word)
    if known is not None:
        return known
    return _limit(word) if _IS_LIMIT.fullmatch(word) else Cause.UNKNOWN


def _limit(word: str) -> Cause:
    owner = "account" if word.startswith("assoc") else "qos"
    if word.startswith("qosmin"):
        return Cause.QOS_MINIMUM
    # "PerJob" names whose figure it is, not what is limited.
    what = re.sub(r"per(?:job|user|account|node)(?:limit)?$", "", word)
    for pattern, limit in _LIMITED:
        if re.search(pattern, what) or (
            limit == "job_limit" and re.search("jobs?(?:limit)?$", what)
        ):
            return Cause(f"{owner}_{limit}")
    return Cause(f"{owner}_limit")


def cause_of(status: JobStatus) -> Cause:
    """The cause that Slurm's state, reason, exit code and signal show."""
    base = re.split(r"[\s,+]", status.raw_state or "", maxsplit=1)[0]
    reason = status.reason or ""
    if status.state in (JobState.PENDING, JobState.HELD):
        return _waiting(status, reason)
    if not status.state.is_final:
        return cause_by_state(status)
    by_word = _BY_STATE.get(base)
    if by_word is not None:
        return by_word
    if status.state is JobState.FAILED:
        if status.signal == _OUTPUT_FAILED:
            return Cause.LAUNCH_FAILED
        found = cause_by_state(status)
        if found is not Cause.UNKNOWN:
            return found
        named = cause_of_reason(reason) if reason else Cause.UNKNOWN
        return named if named in _OF_FAILURES else Cause.UNKNOWN
    if status.state is JobState.CANCELLED:
        named = cause_of_reason(reason) if reason else Cause.UNKNOWN
        if named is Cause.DEPENDENCY_NEVER_SATISFIED:
            return named
    return cause_by_state(status)


def _waiting(status: JobStatus, reason: str) -> Cause:
    for word, cause in _WAITS.items():
        if word in (status.raw_state or ""):
            return cause
    if not reason:
        # The queue's own answer, which has "None": it was not looked at yet.
        return Cause.NOT_CONSIDERED if status.source == "queue" else Cause.UNKNOWN
    found = cause_of_reason(reason)
    if found is Cause.BEGIN_TIME and status.restarts:
        return Cause.REQUEUED
    return Cause.UNKNOWN if found in _OF_FAILURES else found


_WAITS: Final = {
    "CONFIGURING": _C.STARTING,
    "POWER_UP_NODE": _C.STARTING,
    "RESV_DEL_HOLD": _C.RESERVATION_DELETED,
    "REQUEUE_HOLD": _C.HELD_AFTER_REQUEUE,
    "SPECIAL_EXIT": _C.HELD_AFTER_REQUEUE,
    "REQUEUE": _C.REQUEUED,
}
"""States that say it themselves, the longer word first."""
_BY_STATE: Final = {
    "PREEMPTED": _C.PREEMPTED,
    "DEADLINE": _C.DEADLINE,
    "BOOT_FAIL": _C.BOOT_FAIL,
    "LAUNCH_FAILED": _C.LAUNCH_FAILED,
    "RECONFIG_FAIL": _C.SYSTEM_FAILURE,
}
_OF_FAILURES: Final = frozenset(
    (_C.SYSTEM_FAILURE, _C.LAUNCH_FAILED, _C.TIME_LIMIT, _C.INACTIVE, _C.OUT_OF_MEMORY)
)
