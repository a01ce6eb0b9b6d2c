"""Asking PBS about jobs: the sh text of a query, and what its answer covers.  Pure.

A query checks off what it asked for.  An id that the answer neither holds nor names as unknown is
asked about again, in another form and alone, and only its own record counts in that answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, timedelta, tzinfo
from typing import TYPE_CHECKING

from ...errors import InputError, SchedulerError
from ...jobs import JobId
from ..answer import Answer
from ..fields import first_line, is_number, parse_duration
from ..framing import Section, read_frame, shell_text
from .array import array_of_members
from .errors import NO_HISTORY
from .output import QstatReader, QstatRows

if TYPE_CHECKING:
    from ..base import Scheduler

__all__ = [
    "Listing", "is_id", "query_text", "read_listing", "remembered",
]  # fmt: skip

_MOST_ALONE = 200  # asked one by one; the rest stays unknown

_GONE = re.compile(
    r"(?:Unknown Job ?(?:Id|Identifier)(?: Error)?:?|nonexistent job id:) +(\S+)", re.IGNORECASE
)
_FINISHED = re.compile(r"^qstat: +(\S+) Job has finished", re.MULTILINE)
_BODY = re.compile(r"^(?:Job [iI]d\b|[ \t]*[{<])", re.MULTILINE)


def query_text(*, torque: bool) -> str:
    """The shell functions of a query: ``oj_jobs`` with ids, ``oj_user``, ``oj_all``."""
    common = shell_text("pbs/query", most=_MOST_ALONE)
    if torque:
        return common + shell_text("pbs/torque")
    return common + shell_text("pbs/pbs", no_history=NO_HISTORY)


def is_id(text: str) -> bool:
    """Whether a text is a job's id."""
    try:
        JobId.parse(text)
    except InputError:
        return False
    return True


@dataclass(slots=True)
class Listing:
    """What a query brought, read.

    ``gone``: ids that the server does not know.  ``finished``: ids of which it says that they have
    ended, and no more.  ``listed``: what qselect named.  ``failed``: why a part is no answer.
    ``silent``: of unknown ids nothing is said at all (Slurm's wrapper).
    """

    rows: QstatRows = field(default_factory=QstatRows)
    gone: list[JobId] = field(default_factory=list)
    finished: list[JobId] = field(default_factory=list)
    listed: list[JobId] = field(default_factory=list)
    errors: str = ""
    failed: SchedulerError | None = None
    framed: bool = False
    silent: bool = False

    def left_out(self) -> list[str]:
        """Of the ids that qselect named, those of which the answer says nothing."""
        answered = {_key(job_id) for job_id in map(JobId.parse, self.rows.known)}
        answered.update(map(_key, (*self.gone, *self.finished)))
        arrays = {number for number, tasks in answered if tasks == ""}
        return [
            str(job_id)
            for job_id in self.listed
            if _key(job_id) not in answered
            and not (job_id.tasks is not None and job_id.number in arrays)
        ]


def _key(job_id: JobId) -> tuple[str, str | None]:
    return job_id.number, job_id.tasks


def read_listing(
    scheduler: Scheduler, answer: Answer, *, torque: bool, zone: tzinfo | None, is_qstat: bool
) -> Listing:
    """All parts of an answer, or one that was pasted (``is_qstat``: of a qstat).

    Raises ``SchedulerError`` where nothing in it is an answer.
    """
    sections = read_frame(answer.stdout)
    listing = Listing(framed=sections is not None, errors=answer.stderr)
    reader = QstatReader(torque=torque, zone=UTC if listing.framed else zone)
    if sections is None:
        sections = [Section("qstat", answer.stdout, answer.returncode, "")]
    parts = [_parted(part, framed=listing.framed) for part in sections]
    _read_errors(listing, (answer.stderr, *(errors for errors, _ in parts)), torque=torque)
    has_answered = False
    for part, (errors, body) in zip(sections, parts, strict=True):
        if part.name == "asked" or part.name.startswith("server"):
            continue
        if part.name.startswith("qselect"):
            if part.returncode != 0:
                raise scheduler.error(Answer("", errors or answer.stderr, part.returncode))
            listing.listed = [JobId.parse(job_id) for job_id in body.split() if is_id(job_id)]
            has_answered = has_answered or not body.strip()
            continue
        name = ""
        if part.name == "alone":
            name, _, body = body.partition("\n")
        is_empty = not body.strip()
        if listing.silent and is_empty and part.returncode == 153:
            has_answered = True
            listing.gone += [JobId.parse(name)] if name else []
            continue
        if _is_refusal(part.returncode, listing, is_empty=is_empty):
            listing.failed = scheduler.error(Answer("", errors or answer.stderr, part.returncode))
            continue
        rows = _rows(reader, name, body)
        if rows is None or (is_empty and not (listing.framed or is_qstat)):
            raise scheduler.error(
                answer,
                kind="parse_error" if answer.returncode == 0 else None,
                message=f"this is not a listing of {scheduler.name}: {first_line(body)!r}",
            )
        is_told = part.returncode or rows.known or rows.unparsed
        if not is_told and NO_HISTORY in (errors or answer.stderr):
            listing.failed = scheduler.error(
                Answer("", errors or answer.stderr, part.returncode), kind="transient"
            )
            continue
        has_answered = True
        listing.rows.update(rows)
    if not has_answered:
        raise listing.failed or scheduler.error(
            Answer(answer.stdout, listing.errors, answer.returncode)
        )
    return listing


def _read_errors(listing: Listing, errors: Iterable[str], *, torque: bool) -> None:
    """What the lines of stderr say of ids."""
    listing.errors = "\n".join(filter(None, errors))
    listing.gone = [
        JobId.parse(job_id) for job_id in _GONE.findall(listing.errors) if is_id(job_id)
    ]
    listing.finished = [
        JobId.parse(job_id) for job_id in _FINISHED.findall(listing.errors) if is_id(job_id)
    ]
    listing.silent = (
        torque
        and listing.framed
        and "Unknown option: x" in listing.errors
        and "Problem loading" not in listing.errors
    )


def _is_refusal(returncode: int, listing: Listing, *, is_empty: bool) -> bool:
    """Whether qstat failed with more than ids that it does not know or that have finished."""
    if returncode not in (0, 153, 35):
        return True
    has_named = listing.gone or (listing.framed and listing.finished)
    return bool(returncode and is_empty and not has_named)


def _parted(part: Section, *, framed: bool) -> tuple[str, str]:
    """The lines of stderr in a part, and what follows."""
    if not framed or not part.name.startswith("qstat"):
        return "", part.text
    found = _BODY.search(part.text)
    at = found.start() if found is not None else len(part.text)
    return part.text[:at], part.text[at:]


def _rows(reader: QstatReader, name: str, body: str) -> QstatRows | None:
    rows = reader.read(body) if body.strip() else QstatRows()
    if not name or rows is None:
        return rows
    wanted = JobId.parse(name)
    for text in list(rows.known):
        # A text that one job's owner chose may look like the record of another job.
        job_id = JobId.parse(text)
        if not (wanted.matches(job_id) or wanted.contains(job_id)):
            del rows.known[text]
            rows.arrays.pop(text, None)
    if wanted.tasks == "" and not any(wanted.matches(JobId.parse(text)) for text in rows.known):
        active = array_of_members(name, list(rows.known.values()))
        if active is not None:
            rows.known[name] = active
    return rows


def remembered(text: str, *, torque: bool) -> timedelta | None:
    """How long the server remembers ended jobs, by ``qstat -B -f``; ``None`` without an answer."""
    if not re.search(r"^Server: \S", text, re.MULTILINE):
        return None
    server = dict(re.findall(r"^\s+(\w+) = (.*?)\s*$", text, re.MULTILINE))
    if torque:
        kept = server.get("keep_completed", "")
        return timedelta(seconds=int(kept)) if is_number(kept) and len(kept) < 12 else timedelta(0)
    if server.get("job_history_enable") != "True":
        return timedelta(0)
    kept = server.get("job_history_duration")
    return parse_duration(kept, bare="seconds") if kept is not None else timedelta(days=14)
