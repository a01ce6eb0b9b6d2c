"""Grid Engine's arrays: what ``qsub -t`` takes, and which of them have ended.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ...errors import InputError
from ...jobs import JobId, JobStatus
from ...jobs.job_id import JobIds
from ...jobs.status import array_status

__all__ = ["array_words", "arrays_over", "whole_jobs"]

# qsub(1): -t n[-m[:s]], no index below 1; -tc: how many may run at a time.
_RANGE = re.compile(r"(0*[1-9][0-9]*(?:-[0-9]+(?::[0-9]+)?)?)(?:%([1-9][0-9]{0,8}))?", re.ASCII)


def array_words(text: str | None) -> list[str]:
    """The options of qsub for an array; ``InputError`` for a list and for an index 0."""
    if text is None:
        return []
    found = _RANGE.fullmatch(text)
    if found is None:
        raise InputError(
            f"Grid Engine takes no array {text!r}",
            advice="One range from 1 or more, with a step or not, and how many tasks may run at a "
            "time: 1-9, 1-99:2, 1-99%8.",
        )
    return ["-t", found[1], *(["-tc", found[2]] if found[2] else [])]


def whole_jobs(ids: Iterable[str]) -> list[str]:
    """The ids for ``-hold_jid``; ``InputError`` for a task: it would wait for the whole array."""
    for job_id in ids:
        if JobId.parse(job_id).proc is not None:
            raise InputError(
                f"Grid Engine cannot wait for one task: {job_id}",
                advice="Give the whole array; options=('-hold_jid_ad', ID) waits task by task.",
            )
    return [JobId.parse(job_id).number for job_id in ids]


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
