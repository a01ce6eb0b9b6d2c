"""Queries for jobs: squeue for the queue; sacct, squeue and scontrol for the history.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Set
from dataclasses import replace
from datetime import UTC
from functools import lru_cache

from ...jobs import JobId, JobState, JobStatus, Snapshot
from ..fields import chunks, is_number, quote
from ..framing import Section, section, shell_text
from ..rows import Rows
from .records import read_scontrol
from .tables import Table

# Fields that cannot hold a separator; then those that users choose, and the reason,
# which may quote them, each between two marks: an account may hold "|", a directory a newline.
_SAFE = "iATuPNCVSeMl"
_FREE = "raZj"
QUEUE_FORMAT = "$oj|" + "|".join(f"%{letter}" for letter in _SAFE)
QUEUE_FORMAT += "".join(f"|$oj|%{letter}" for letter in _FREE)
_QUEUE_COLUMNS = (
    "id", "raw_id", "state", "user", "queue", "nodelist", "cpus", "submitted", "started", "ended",
    "elapsed", "time_limit", "reason", "account", "directory", "name",
)  # fmt: skip
_NEXT_CLUSTER = re.compile(r"\n+CLUSTER: \S+\Z")
_TITLE = re.compile(r"\s*(?:CLUSTER: \S+\s*)?")

_HISTORY_FIELDS = (
    "JobID", "JobIDRaw", "State", "ExitCode", "User", "Partition", "Account", "NCPUS",
    "NodeList", "Submit", "Start", "End", "Elapsed", "Timelimit", "JobName",
)  # fmt: skip
_HISTORY_COLUMNS = (
    "id", "raw_id", "state", "exit", "user", "queue", "account", "cpus", "nodelist",
    "submitted", "started", "ended", "elapsed", "time_limit", "name",
)  # fmt: skip

# Names of squeue's -O since 15.08, none of them of a text that users choose.  The longest id of an
# array is cut by Slurm itself (SLURM_BITSTR_LEN).
_CODES = "JobArrayID:128,JobID:24,State:32,exit_code:16,SubmitTime:40,StartTime:40,EndTime:40"
_CODE_COLUMNS = ("id", "raw_id", "state", "exit", "submitted", "started", "ended")

_LOOKED_AT = 50
"""Of more jobs at a time scontrol is not asked: it takes one id a command, and the next query asks
for the others."""


@lru_cache(maxsize=16)
def _queue_table(cluster: str) -> Table:
    """The same table for each answer: their rows can be compared as they are."""
    return Table(_QUEUE_COLUMNS, source="queue", zone=UTC, cluster=cluster)


def read_queue(part: Section, cluster: str, rows: Rows) -> None:
    """Add the jobs of one answer; lines that are not rows go to ``rows.unparsed``."""
    table = _queue_table(cluster)
    before, *pieces = part.text.split(f"{part.mark}|")
    if not pieces and _TITLE.fullmatch(before) is None:
        # Text without any row does not prove that there are no jobs.
        rows.unparsed.append(before[:1000])
    width = 1 + len(_FREE)
    for place in range(0, len(pieces) - width + 1, width):
        safe, *free, name = pieces[place : place + width]
        cells = safe.split("|")
        texts = [text.removesuffix("|") for text in free]
        texts.append(_NEXT_CLUSTER.sub("", name.removesuffix("\n")))
        status = None
        if len(cells) == len(_SAFE) + 1 and not cells[-1]:
            status = table.status((*cells[:-1], *texts))
        rows.add(status, "".join(pieces[place : place + width]))
    if len(pieces) % width:
        rows.unparsed.append(pieces[-1][:1000])


def history_parts(cluster: str, numbers: Iterable[str]) -> Iterator[str]:
    """Parts of a framed script that asks for the ends of these jobs of one cluster.

    sacct is some seconds late, and prints nothing if there is no accounting.  No ``-S``: it
    would hide jobs that never became eligible.
    """
    where = f" -M {quote(cluster)}" if cluster else ""
    fields = ",".join(_HISTORY_FIELDS)
    yield shell_text("slurm/query", fields=fields, codes=_CODES, most=_LOOKED_AT)
    for batch in chunks(dict.fromkeys(numbers)):
        yield section(f"sacct@{cluster}", f"oj_sacct{where} -j {quote(','.join(batch))}")
        yield f"oj_without_end {' '.join(map(quote, batch))}\n"
        # The ids of array elements have brackets, which the shell must not expand.
        yield 'if [ -n "$oj_left" ]; then\nset -f\n'
        yield section(f"squeue@{cluster}", f"oj_codes{where}")
        yield "oj_without_code\n"
        yield section(f"scontrol@{cluster}", f"oj_scontrol{where}")
        yield "set +f\nfi\n"


def select_by_cluster(
    snapshot: Snapshot, wanted: Iterable[str], clusters: Set[str], covered: Set[str]
) -> Snapshot:
    """``select`` where each id is looked for in what its own cluster said.

    ``clusters``: those that were asked (the host's own is empty); ids have the cluster's name where
    it is one of several.  ``covered``: those whose answer is complete.
    """
    places: dict[str, list[str]] = {}
    for text in wanted:
        places.setdefault(JobId.parse(text).cluster or "", []).append(text)
    known: dict[str, JobStatus] = {}
    absent: list[str] = []
    unknown: list[str] = []
    for cluster, ids in places.items():
        listed = snapshot.known if cluster in clusters else {}
        if len(clusters) > 1:
            listed = {it: one for it, one in listed.items() if it.partition(";")[2] == cluster}
        found = replace(snapshot, known=listed).select(ids, covered=cluster in covered)
        known.update(found.known)
        absent += found.absent
        unknown += found.unknown
    return replace(snapshot, known=known, absent=tuple(absent), unknown=tuple(unknown))


def read_records(part: Section, cluster: str, rows: Rows) -> None:
    """What scontrol said of each job, each between marks: a comment can look like a record."""
    for piece in part.text.split(f"{part.mark}>")[1:]:
        job_id, _, text = piece.partition("\n")
        found = read_scontrol(text, UTC, requested=JobId.parse(job_id))
        for status in found.known.values():
            its = f"{status.job_id};{cluster}" if cluster else status.job_id
            rows.known[its] = status.replace(job_id=its)
        rows.unparsed.extend(found.unparsed)


def read_codes(part: Section, cluster: str, rows: Rows) -> None:
    """What squeue said of jobs that it still lists; an exit code is a status of wait(2) there."""
    table = Table(_CODE_COLUMNS, source="queue", zone=UTC, cluster=cluster)
    found = Rows()
    for line in part.text.splitlines():
        cells = line.split()
        if not cells:
            continue
        status = None
        if len(cells) == len(_CODE_COLUMNS) and is_number(cells[3]):
            code = int(cells[3])
            cells[3] = f"{code >> 8 & 0xFF}:{code & 0x7F}"
            status = table.status(cells)
        if status is not None and status.state is JobState.PENDING:
            # It may be held, which only the reason says.
            status = JobStatus(status.job_id, JobState.UNKNOWN, source="queue")
        found.add(status, line)
    rows.known.update(found.known)
    rows.unparsed.extend(found.unparsed)


def read_accounting(part: Section, cluster: str, rows: Rows) -> None:
    """Add the jobs of one answer of sacct; the rest goes to ``rows.unparsed``."""
    columns = _HISTORY_COLUMNS
    table = Table(columns, source="accounting", zone=UTC, cluster=cluster)
    cells = part.text.split(f"|{part.mark}|")
    width = len(columns)
    for place in range(0, len(cells) - width + 1, width):
        row = cells[place : place + width]
        row[0] = row[0].lstrip("\n")
        rows.add(table.status(row), " ".join(row))
    rest = "".join(cells[len(cells) - len(cells) % width :]).strip()
    if rest:
        rows.unparsed.append(rest[:1000])
