"""The one question that squeue is asked for all jobs, and its answer.  Pure."""

from __future__ import annotations

import re
from datetime import UTC

from ..framing import Section
from ..rows import Rows
from .tables import Table

# Fields that cannot hold a separator; then those that users choose, and the reason,
# which may quote them, each between two marks: an account may hold "|", a directory a newline.
_SAFE = "iATuPNCVSeMl"
_FREE = "raZj"
FORMAT = "$oj|" + "|".join(f"%{letter}" for letter in _SAFE)
FORMAT += "".join(f"|$oj|%{letter}" for letter in _FREE)
_COLUMNS = (
    "id", "raw_id", "state", "user", "queue", "nodelist", "cpus", "submitted", "started", "ended",
    "elapsed", "time_limit", "reason", "account", "directory", "name",
)  # fmt: skip
_NEXT_CLUSTER = re.compile(r"\n+CLUSTER: \S+\Z")
_TITLE = re.compile(r"\s*(?:CLUSTER: \S+\s*)?")


def read_queue(part: Section, cluster: str, rows: Rows) -> None:
    """Add the jobs of one answer; lines that are not rows go to ``rows.unparsed``."""
    table = Table(_COLUMNS, source="queue", zone=UTC, cluster=cluster)
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
