"""How jobs of Grid Engine ended: what qacct is asked for, and what it says.  Pure.

``qacct -j`` takes one id, and looks through the whole accounting for it.  So a few jobs are asked
for one by one; of more of them one look finds the records of all jobs of this user.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from ...errors import SchedulerError
from ...jobs import JobId, JobStatus, Snapshot
from ..answer import Answer
from ..base import Scheduler
from ..fields import is_number
from ..framing import Section, framed, read_frame, section, shell_text
from . import array, limits, output

__all__ = ["FEW", "GONE", "functions", "history_script", "parse_history"]

GONE = re.compile(r"Following jobs do not exist")
"""``qstat -j`` of a job that the queue does not have."""
FEW = 25
"""Of more jobs in a state of error the reasons are not asked for; more ended jobs are one look."""
_NONE = re.compile(r"not found|no jobs running since startup")


def functions() -> str:
    """The shell functions of the queries."""
    return shell_text("gridengine/query", few=FEW, all_in_one=limits.ALL_IN_ONE)


def history_script(ids: Sequence[str]) -> str:
    """The records of these jobs, and the queues of those that hit some limit.

    Of an array also whether the queue has any task of it left.
    """
    parts = [functions(), "oj_queues=\n"]
    asked_for = [JobId.parse(job_id) for job_id in ids]
    whole = {job_id.number: None for job_id in asked_for if not is_number(job_id.proc or "")}
    numbers = list(dict.fromkeys(job_id.number for job_id in asked_for))
    if len(numbers) > FEW:
        parts += [section("qacct", f"oj_scan {' '.join(numbers)}\noj_print"), "oj_note_queues\n"]
        parts.append(section("lefts", f"oj_lefts {' '.join(whole)}"))
        numbers = []
    for number in numbers:
        script = f"oj_jobs=$(qacct -j {number} 2>&1 </dev/null)\noj_print"
        parts += [section(f"qacct {number}", script), "oj_note_queues\n"]
        if number in whole:
            left = section(f"left {number}", f"qstat -j {number} 2>&1 >/dev/null </dev/null")
            parts.append(f"if oj_is_array; then\n{left}fi\n")
    limits_section = section("limits", "oj_limits")
    return framed(*parts, f'if [ -n "$oj_queues" ]; then\n{limits_section}fi\n')


def parse_history(
    scheduler: Scheduler,
    answer: Answer,
    requested: Iterable[str] | None,
    since: datetime | None,
) -> Snapshot:
    """The answer to ``history_script``: the last run of each job that the accounting has."""
    sections = read_frame(answer.stdout)
    if not sections:
        raise scheduler.error(answer, kind="transport")
    wanted = None if requested is None else [JobId.parse(text) for text in requested]
    numbers = {job.number for job in wanted or ()}
    known: dict[str, JobStatus] = {}
    unparsed: list[str] = []
    queried: set[str] = set()
    tries: set[str] = set()
    failed: SchedulerError | None = None
    early = since - timedelta(hours=1) if since is not None else None
    limits_text = next((part.text for part in sections if part.name == "limits"), "")
    for part in sections:
        word, _, number = part.name.partition(" ")
        if word != "qacct":
            continue
        about = {number} if number else numbers
        if part.returncode != 0:
            if _NONE.search(part.text):
                queried |= about
            else:
                failed = scheduler.error(part.answer(answer.stderr))
            continue
        rows = output.read_accounting(
            part.text, UTC, limits.read_limits(limits_text), requested=number or None
        )
        unparsed.extend(rows.unparsed)
        queried |= about
        tries |= rows.tries
        for job_id, status in rows.known.items():
            if early is None or status.submitted is None or status.submitted >= early:
                known[job_id] = status
    if failed is not None and not queried:
        raise failed
    snapshot = Snapshot(
        known=known,
        unparsed=tuple(unparsed),
        error=failed,
        source="accounting",
        tries=frozenset(tries & known.keys()),
    )
    if wanted is None:
        return snapshot
    if not unparsed:
        over = _without_tasks(sections)
        ended = [job for job in wanted if job.number in over and job.text not in known]
        known.update(array.arrays_over(ended, known))
    return snapshot.select(wanted, covered=lambda job: job.number in queried and not unparsed)


def _without_tasks(sections: Sequence[Section]) -> set[str]:
    """The numbers of the arrays of which the queue has no task."""
    over: set[str] = set()
    for part in sections:
        word, _, number = part.name.partition(" ")
        if word == "left" and part.returncode != 0 and GONE.search(part.text):
            over.add(number)
        if word == "lefts":
            for piece in part.text.split(f"{part.mark}>")[1:]:
                number, _, said = piece.partition("\n")
                if GONE.search(said):
                    over.add(number)
    return over
