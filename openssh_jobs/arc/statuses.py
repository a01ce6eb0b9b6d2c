"""ARC's words for jobs: what its scheduler takes for running, done and errored.  No I/O."""

from __future__ import annotations

from collections.abc import Iterable

from .. import parser
from ..jobs import JobId, JobState, JobStatus
from ..schedulers.base import Scheduler

_LEAVES_OUTPUT = (JobState.COMPLETED, JobState.TIMEOUT, JobState.OUT_OF_MEMORY)


def arc_status(status: JobStatus, *, over: bool) -> str:
    """A status in ARC's words; ``over`` where nobody can say any more how the job ended."""
    if not status.is_final:
        return "done" if over else "running"
    ran = status.exit_code is not None or status.signal is not None or status.started is not None
    if status.state in _LEAVES_OUTPUT or (status.state is JobState.FAILED and ran):
        return "done"
    if status.nodes:
        return f"errored on node {status.nodes[0]}"
    return f"errored: {status.reason or status.raw_state or status.state}"


def arc_id(job_id: str) -> str:
    """An id in the one form that all calls use: no server, no element, no process.

    That is how ARC has always cut them, and every scheduler takes it.
    """
    one = JobId.parse(job_id)
    array = "[]" if one.tasks is not None and "_" not in one.text else ""
    cluster = f";{one.cluster}" if one.cluster else ""
    return f"{one.number}{array}{cluster}"


def status_in_listing(job_id: str, listing: str, scheduler: Scheduler) -> str:
    """The status of one job in a listing that somebody made."""
    if scheduler.name == "htcondor":
        return _status_in_condor_lines(job_id, listing)
    if not listing.strip():
        return "done"
    snapshot = parser.parse_status(listing, scheduler)
    found = snapshot.select([job_id]).known.get(job_id)
    if found is None:
        return _status_in_odd_lines(job_id, snapshot.unparsed, scheduler)
    if scheduler.name == "sge" and "e" in (found.raw_state or "").lower():
        return "errored"
    words = arc_status(found, over=False)
    return "errored" if words.startswith("errored") else words


def _status_in_odd_lines(job_id: str, lines: Iterable[str], scheduler: Scheduler) -> str:
    """A line that nobody understands still says that its job is there."""
    for line in lines:
        words = line.split()
        if words and words[0] == job_id:
            # ARC's own listings of Grid Engine have a bare e, which no manual knows.
            return "errored" if scheduler.name == "sge" and "e" in words[3:6] else "running"
    return "done"


def _status_in_condor_lines(job_id: str, listing: str) -> str:
    """HTCondor's listing is asked for jobs that are there: any line of it means this one is."""
    for line in listing.splitlines():
        words = line.split()
        if words and words[0].partition(".")[0] == job_id.partition(".")[0]:
            return "running"
    return "done"
