"""ARC's words for jobs: what its scheduler takes for running, done and errored.  No I/O."""

from __future__ import annotations

from .. import parser
from ..errors import SchedulerError
from ..jobs import JobId, JobState, JobStatus, Snapshot
from ..schedulers.base import Scheduler
from .listings import ID, SILENT_WHEN_EMPTY, listing_command, read_listing

_LEAVES_OUTPUT = (JobState.COMPLETED, JobState.TIMEOUT, JobState.OUT_OF_MEMORY)


def arc_status(status: JobStatus, *, over: bool) -> str:
    """A status in ARC's words; ``over``: no source will say any more how the job ended."""
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
    parsed = JobId.parse(job_id)
    array = "[]" if parsed.tasks is not None and "_" not in parsed.text else ""
    cluster = f";{parsed.cluster}" if parsed.cluster else ""
    return f"{parsed.number}{array}{cluster}"


def status_in_listing(
    job_id: str, listing: str, scheduler: Scheduler, command: str | None = None
) -> str:
    """The status of one job in a listing that somebody made: ``running``, ``done``, ``errored``.

    ``command`` is the site's command that made it, which tells what a listing without a header
    holds; without such a form its columns do.  Raises ``SchedulerError`` for what cannot be read:
    it is no proof that the job is over.
    """
    typed = None if command is None else listing_command(command)
    if not listing.strip():
        if scheduler.name in SILENT_WHEN_EMPTY:
            return "done"
        # squeue prints at least its header, unless that was switched off.
        parser.parse_status(listing, scheduler, command=typed)
        return "done"
    snapshot = read_listing(listing, scheduler, typed)
    found = snapshot.select([job_id]).known.get(job_id)
    if found is None:
        return _status_in_odd_lines(job_id, snapshot, scheduler)
    if scheduler.name == "htcondor":
        return "running"  # ARC's command lists only jobs that wait or run
    if scheduler.name == "sge" and "e" in (found.raw_state or "").lower():
        return "errored"
    words = arc_status(found, over=False)
    return "errored" if words.startswith("errored") else words


def _status_in_odd_lines(job_id: str, snapshot: Snapshot, scheduler: Scheduler) -> str:
    """A line that cannot be read still says that its job is there."""
    for line in snapshot.unparsed:
        words = line.split()
        if words and words[0] == job_id:
            # ARC's own listings of Grid Engine have a bare e, which no manual knows.
            return "errored" if scheduler.name == "sge" and "e" in words[3:6] else "running"
    if snapshot.unparsed and not snapshot.known:
        raise SchedulerError(
            f"the listing cannot be read, so it does not say that job {job_id} is over",
            kind="parse_error",
            stdout="\n".join(snapshot.unparsed),
        )
    return "done"


def ids_in_listing(listing: str, scheduler: Scheduler, command: str | None = None) -> list[str]:
    """The ids, in ``arc_id``'s form, of the jobs in a listing that are not over.

    A line that cannot be read but begins with an id counts: nothing says that its job is over.
    Raises ``SchedulerError`` for what is not a listing.
    """
    if not listing.strip() and scheduler.name in SILENT_WHEN_EMPTY:
        return []
    snapshot = read_listing(
        listing, scheduler, None if command is None else listing_command(command)
    )
    found = [job_id for job_id, status in snapshot.known.items() if not status.is_final]
    firsts = [line.split()[0] for line in snapshot.unparsed if line.strip()]
    found += [word for word in firsts if ID.match(word)]
    return list(dict.fromkeys(arc_id(job_id) for job_id in found))
