"""Grid Engine's arrays: what ``qsub -t`` takes, and which of them have ended.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ...errors import InputError
from ...jobs import JobId, JobStatus
from ...jobs.job_id import JobIds
from ...jobs.status import array_status

__all__ = ["arrays_over", "check_array"]

# qsub(1): -t n[-m[:s]], no index below 1.
_RANGE = re.compile(r"0*[1-9][0-9]*(?:-[0-9]+(?::[0-9]+)?)?", re.ASCII)


def check_array(text: str | None) -> None:
    """``InputError`` for a list, a limit and an index 0, of which qsub's ``-t`` knows nothing."""
    if text is not None and _RANGE.fullmatch(text) is None:
        raise InputError(
            f"Grid Engine takes no array {text!r}",
            advice="One range from 1 or more, with a step or not: 1-9, 1-99:2.  How many tasks may "
            "run at a time says options=('-tc', N).",
        )


def arrays_over(wanted: Iterable[JobId], known: Mapping[str, JobStatus]) -> dict[str, JobStatus]:
    """How those arrays (or ranges of tasks) ended of which no task is left and one ended badly.

    That all tasks ended well is not said: the records of some may still be missing.
    """
    found: dict[str, JobStatus] = {}
    tasks = JobIds((JobId.parse(text), status) for text, status in known.items())
    for job_id in wanted:
        status = array_status(job_id.text, tasks.within(job_id), over=True)
        if status is not None:
            found[job_id.text] = status
    return found
