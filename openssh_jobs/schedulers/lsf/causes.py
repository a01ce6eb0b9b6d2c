"""LSF's words for what ended a job, as causes.  Pure.

``TERM_...``: the reasons of termination of ``bacct -l`` and ``bhist -l``.
"""

from __future__ import annotations

import re
from typing import Final

from ...jobs import JobState, JobStatus
from ...jobs.cause import Cause
from ..causes import cause_by_state

_TERMINATED: Final = {
    "RUNLIMIT": Cause.TIME_LIMIT,
    "CPULIMIT": Cause.CPU_TIME_LIMIT,
    "DEADLINE": Cause.DEADLINE,
    "MEMLIMIT": Cause.OUT_OF_MEMORY,
    "SWAP": Cause.OUT_OF_MEMORY,
    "OWNER": Cause.CANCELLED_BY_USER,
    "FORCE_OWNER": Cause.CANCELLED_BY_USER,
    "ADMIN": Cause.CANCELLED_BY_ADMIN,
    "FORCE_ADMIN": Cause.CANCELLED_BY_ADMIN,
    "PREEMPT": Cause.PREEMPTED,
    "ORPHAN_SYSTEM": Cause.DEPENDENCY_NEVER_SATISFIED,
}


def cause_of(status: JobStatus) -> Cause:
    """What state and reason show."""
    if status.state.is_final and status.state is not JobState.COMPLETED:
        found = re.search(r"\bTERM_([A-Z_]+)", status.reason or "")
        if found is not None and found[1] in _TERMINATED:
            return _TERMINATED[found[1]]
    return cause_by_state(status)
