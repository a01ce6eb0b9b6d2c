"""Why Grid Engine's jobs wait and what ended them, as causes.  Pure.

The words of ``qstat -j`` ("scheduling info"): ``msg_schedd.h``; those of an error state and of
``qacct``: ``sge_status(5)``.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Final

from ...jobs import JobState, JobStatus
from ...jobs.cause import Cause
from ...jobs.status import NEVER_STARTS
from ..causes import cause_by_state

_C = Cause
# About the job itself; the first that is there.
_OF_JOB: Final = (
    ("job is in error state|jobs dropped because of error state", _C.ERROR_STATE),
    ("job dropped because of job dependencies", _C.DEPENDENCY),
    ("execution time not reached", _C.BEGIN_TIME),
    ("max_aj_instances|not all array task", _C.ARRAY_LIMIT),
    ("job dropped because of user limitations", _C.USER_LIMIT),
    ("exceeds limit .*in rule|exceeds limit in rule|dynamical limit", _C.QUOTA),
    ("not reserved by advance reservation|advance reservation .*error state", _C.RESERVATION),
    ("requested ckpt object not found|no matching pe found|no access to pe",
     _C.REQUEST_UNSATISFIABLE),
    (r"\(no project\) does not have|\(project .*\) (?:does not have|is not allowed)",
     _C.QUEUE_NOT_ALLOWED),
)  # fmt: skip
# About one queue (or host, or all): those that pass come first, for another queue does not matter
# where one only has to become free.
_OF_QUEUES: Final = (
    ("dropped because it is full|because of overload or full", _C.RESOURCES),
    ("resources requested are not available for parallel job|more slots than available",
     _C.RESOURCES),
    (r"because it offers only \w?c:", _C.RESOURCES),
    ("overloaded:|load alarm|suspend alarm", _C.QUEUE_OVERLOADED),
    ("until clean up of a previous run", _C.CLEANING),
    ("temporarily not available", _C.NODES_UNAVAILABLE),
    ("dropped because it is (?:disabled|suspended)|calendar", _C.QUEUE_DOWN),
    (r"because it offers only \w\w:[sh]_rt=|job runtime of .* is too long", _C.QUEUE_TIME_LIMIT),
    (r"because it offers only \w\w:(?:[sh]_(?:vmem|rss|data)|mem\w*)=", _C.QUEUE_MEMORY_LIMIT),
    ("has no permission for", _C.QUEUE_NOT_ALLOWED),
    (r"\(-l .*\) cannot run (?:in queue|at host|globally|in queue instance)|it only offers|"
     'total slots of pe|not in pe list|not of (?:parallel|batch) type|of type|it has "0" slots',
     _C.REQUEST_UNSATISFIABLE),
)  # fmt: skip
_QUEUE: Final = re.compile(r'(?:queue instance|queue|PE) "([^"]*)"')
_NOT_MEANT: Final = re.compile(r"not contained in its hard queue list")
_OFF: Final = re.compile(r"scheduler job information is turned off|not available for every job")
# failed of qacct, sge_status(5): what did not begin.
_NOT_BEGUN: Final = frozenset((*range(1, 24), *range(26, 32)))


def messages(block: str) -> list[str] | None:
    """The lines of "scheduling info" of ``qstat -j``; ``None`` where it is turned off."""
    _, found, text = block.rpartition("\nscheduling info:")
    lines = [line.strip() for line in text.splitlines() if line.strip()] if found else []
    if any(_OFF.search(line) for line in lines):
        return None
    return lines


def cause_of_messages(
    lines: list[str], queues: list[str], too_short: Collection[str] = ()
) -> tuple[Cause, str | None]:
    """The cause, and the line that shows it.

    ``queues``: those that the job asks for (-q); ``too_short``: those whose own time limit is below
    that of the job.
    """
    for pattern, cause in _OF_JOB:
        for line in lines:
            if re.search(pattern, line, re.IGNORECASE):
                return cause, line
    if any(_GLOBALLY.search(line) for line in lines):
        meant = [line for line in lines if _GLOBALLY.search(line)]
    else:
        meant = [line for line in lines if _is_meant(line, queues)]
        meant = _without_refused(meant)
    short = [line for line in meant if _queue_of(line) in too_short]
    meant = [line for line in meant if line not in short]
    for pattern, cause in _OF_QUEUES:
        for line in meant:
            if re.search(pattern, line, re.IGNORECASE):
                return cause, line
    if short:
        return Cause.QUEUE_TIME_LIMIT, f"queue {_queue_of(short[0])}"
    if queues and lines and all(_NOT_MEANT.search(line) for line in lines):
        return Cause.REQUEST_UNSATISFIABLE, f"no queue {','.join(queues)}"
    return Cause.UNKNOWN, None


_GLOBALLY = re.compile(r"\) cannot run globally because")
_AT_HOST = re.compile(r'\) cannot run at host "([^"]*)" because it offers only (?!\w?c:)')


def _without_refused(lines: list[str]) -> list[str]:
    """Without the full and disabled queues of hosts that could never run the job."""
    hosts = {found[1] for line in lines if (found := _AT_HOST.search(line))}
    kept = []
    for line in lines:
        found = _QUEUE.search(line)
        host = found[1].partition("@")[2] if found is not None else ""
        is_all = line.startswith("All queues") and hosts
        if not (host in hosts and "dropped because" in line) and not is_all:
            kept.append(line)
    return kept


def _queue_of(line: str) -> str:
    found = _QUEUE.search(line)
    return found[1].partition("@")[0] if found is not None else ""


def _is_meant(line: str, queues: list[str]) -> bool:
    """Whether a line is about a queue that the job may use."""
    if _NOT_MEANT.search(line):
        return False
    found = _QUEUE.search(line)
    if found is None:
        # "All queues" are also those that it does not ask for.
        return not (queues and line.startswith("All queues"))
    name = found[1]
    return not queues or any(
        fnmatchcase(name, queue) or fnmatchcase(name.partition("@")[0], queue) for queue in queues
    )


_LAUNCH = re.compile(
    r"can'?t chdir|no such file|can'?t (?:open|stat|create|make)|could not open|failed (?:opening|"
    r"searching)|execv|can'?t (?:get|find) password|unable to|before (?:job|prolog|writing)",
    re.IGNORECASE,
)


def cause_of(status: JobStatus) -> Cause:
    """What the letters of qstat or the record of qacct show."""
    raw, reason = status.raw_state or "", status.reason or ""
    record = re.match(r"failed ([0-9]+), exit_status ([0-9]+)", raw)
    if status.state is JobState.FAILED:
        if record is None:
            return Cause.LAUNCH_FAILED if _LAUNCH.search(reason) else Cause.ERROR_STATE
        failed, code = int(record[1]), int(record[2])
        if code == 100 and failed in (30, 100):
            return Cause.ERROR_STATE  # the job asked for it
        if failed in _NOT_BEGUN:
            return Cause.LAUNCH_FAILED
        if failed == 100 and code == 128 + 9:
            return Cause.UNKNOWN  # qdel by anybody leaves the same record as its own kill -9
        if failed == 37:
            return Cause.UNKNOWN
        return cause_by_state(status)
    if status.state is JobState.CANCELLED:
        return _cancelled(status, reason)
    if status.state is JobState.PENDING:
        if NEVER_STARTS in reason:
            return Cause.DEPENDENCY_NEVER_SATISFIED
        if raw.startswith("R") or (record is not None and int(record[1]) in (24, 25)):
            return Cause.REQUEUED
        return Cause.DEPENDENCY if raw.startswith("h") else Cause.UNKNOWN
    return cause_by_state(status)


def _cancelled(status: JobStatus, reason: str) -> Cause:
    by = re.fullmatch(r"deleted by (\S+)", reason)
    if by is not None and status.user:
        is_owner = by[1].partition("@")[0] == status.user
        return Cause.CANCELLED_BY_USER if is_owner else Cause.CANCELLED_BY_ADMIN
    if reason.startswith("deleted by force"):
        return Cause.CANCELLED_BY_ADMIN
    # Else only this package says that a job was cancelled: the one whose cancellation it asked for.
    return Cause.CANCELLED_BY_USER if reason == "cancelled" else cause_by_state(status)
