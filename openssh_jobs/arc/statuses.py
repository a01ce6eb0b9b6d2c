"""ARC's words for jobs: what its scheduler takes for running, done and errored.  No I/O."""

from __future__ import annotations

import re
import shlex

from .. import parser
from ..errors import SchedulerError
from ..jobs import JobId, JobState, JobStatus, Snapshot
from ..schedulers.base import Scheduler

_LEAVES_OUTPUT = (JobState.COMPLETED, JobState.TIMEOUT, JobState.OUT_OF_MEMORY)

_SILENT_WHEN_EMPTY = ("sge", "pbs", "torque", "htcondor", "lsf", "direct")
"""Their listings of no jobs are empty."""
_ID = re.compile(r"[0-9]+[\w.\[\]+-]*\Z")
# The usual headers: squeue(1) without options, Grid Engine's qstat(1), qstat(1) of PBS.
_HEADERS = {
    "slurm": "             JOBID PARTITION     NAME     USER ST       TIME  NODES "
    "NODELIST(REASON)\n",
    "sge": "job-ID  prior   name       user         state submit/start at     queue"
    "                          slots ja-task-ID\n" + "-" * 113 + "\n",
    "pbs": "Job id            Name             User              Time Use S Queue\n"
    "----------------  ---------------- ----------------  -------- - -----\n",
}
_HEADERS["torque"] = _HEADERS["pbs"]
_PBS_ROW = ("{0:<17} a1               me                00:00:01 {1} workq",
            re.compile(r"[BCEFHMQRSTUWX]\Z"))  # fmt: skip
# A row of that form, with the id and the state to fill in, and what is a state there.
_ROWS = {
    "slurm": (
        "{0:>18}    normal       a1       me {1:>2}       0:00      1 n1",
        re.compile(r"(BF|CA|CD|CF|CG|DL|F|NF|OOM|PD|PR|R|RD|RF|RH|RQ|RS|RV|SE|SI|SO|ST|S|TO)\Z"),
    ),
    "sge": (
        " {0:>6} 0.50000 a1         me           {1:<5} 01/01/2000 00:00:00 q@n1"
        "                              1",
        re.compile(r"(?=[A-Za-z]{1,5}\Z)(h?q?w|[RhE]*(qw|r|t|s|S|T|N)+|d[rts]|Eh?qw|e)\Z"),
    ),
    "pbs": _PBS_ROW,
    "torque": _PBS_ROW,
}


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
        if scheduler.name in _SILENT_WHEN_EMPTY:
            return "done"
        # squeue prints at least its header, unless that was switched off.
        parser.parse_status(listing, scheduler, command=typed)
        return "done"
    snapshot = _read(listing, scheduler, typed)
    found = snapshot.select([job_id]).known.get(job_id)
    if found is None:
        return _status_in_odd_lines(job_id, snapshot, scheduler)
    if scheduler.name == "htcondor":
        return "running"  # ARC's command lists only jobs that wait or run
    if scheduler.name == "sge" and "e" in (found.raw_state or "").lower():
        return "errored"
    words = arc_status(found, over=False)
    return "errored" if words.startswith("errored") else words


def listing_command(text: str) -> str:
    """The command that lists, without what a site sets up before it and the filters behind it."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|\n")
    lexer.whitespace_split = True
    words: list[str] = []
    try:
        for word in lexer:
            if word in (";", "&&", "||"):
                words = []
            elif word == "|":
                break
            else:
                words.append(word)
    except ValueError:
        return text
    return shlex.join(words)


def _read(listing: str, scheduler: Scheduler, command: str | None) -> Snapshot:
    """By the command's own form, else by the usual header, else by the column of states."""
    try:
        return parser.parse_status(listing, scheduler, command=command)
    except SchedulerError as error:
        if error.kind != "parse_error":
            raise
        for headed in (_with_header(listing, scheduler), _by_columns(listing, scheduler)):
            if headed is None:
                continue
            try:
                snapshot = parser.parse_status(headed, scheduler)
            except SchedulerError:
                continue
            if snapshot.known and not snapshot.unparsed:
                return snapshot
        raise


def _with_header(listing: str, scheduler: Scheduler) -> str | None:
    header = _HEADERS.get(scheduler.name)
    return None if header is None else header + listing


def _by_columns(listing: str, scheduler: Scheduler) -> str | None:
    """A listing of ids and states, rewritten in the usual form.

    ``None`` unless every line begins with an id and exactly one column holds states alone.
    """
    layout = _ROWS.get(scheduler.name)
    rows = [line.split() for line in listing.splitlines() if line.strip()]
    if layout is None or not all(_ID.match(row[0]) for row in rows):
        return None
    template, states = layout
    width = min(map(len, rows))
    columns = [place for place in range(1, width) if all(states.match(row[place]) for row in rows)]
    if len(columns) != 1:
        return None
    lines = [template.format(words[0], words[columns[0]]) for words in rows]
    return _HEADERS[scheduler.name] + "\n".join(lines) + "\n"


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
    Raises ``SchedulerError`` for what is no listing.
    """
    if not listing.strip() and scheduler.name in _SILENT_WHEN_EMPTY:
        return []
    snapshot = _read(listing, scheduler, None if command is None else listing_command(command))
    found = [job_id for job_id, status in snapshot.known.items() if not status.is_final]
    firsts = [line.split()[0] for line in snapshot.unparsed if line.strip()]
    found += [word for word in firsts if _ID.match(word)]
    return list(dict.fromkeys(arc_id(job_id) for job_id in found))
