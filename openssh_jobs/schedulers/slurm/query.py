"""Queries for jobs: squeue for the queue, sacct and scontrol for the history.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC

from ...jobs import JobId
from ..fields import chunks, quote
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

_LOOKED_AT = 50
"""Of more jobs at a time scontrol is not asked where sacct answers: the next query asks."""


def read_queue(part: Section, cluster: str, rows: Rows) -> None:
    """Add the jobs of one answer; lines that are not rows go to ``rows.unparsed``."""
    table = Table(_QUEUE_COLUMNS, source="queue", zone=UTC, cluster=cluster)
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
    yield shell_text("slurm/query", fields=",".join(_HISTORY_FIELDS), most=_LOOKED_AT)
    for batch in chunks(dict.fromkeys(numbers)):
        yield section(f"sacct@{cluster}", f"oj_sacct{where} -j {quote(','.join(batch))}")
        yield f"oj_without_end {' '.join(map(quote, batch))}\n"
        # The ids of array elements have brackets, which the shell must not expand.
        yield 'if [ -n "$oj_left" ]; then\nset -f\n'
        yield section(f"scontrol@{cluster}", f"oj_scontrol{where}")
        yield "set +f\nfi\n"


def read_records(part: Section, rows: Rows) -> None:
    """What scontrol said of each job, each between marks: a comment can look like a record."""
    for piece in part.text.split(f"{part.mark}>")[1:]:
        job_id, _, text = piece.partition("\n")
        found = read_scontrol(text, UTC, requested=JobId.parse(job_id))
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
