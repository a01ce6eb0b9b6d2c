"""What the journal says of jobs: their statuses, and when a host last answered about them.

Apart from the modules that ask hosts, which ``list`` and the first picture of ``watch`` do
without.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ..jobs import JobStatus

if TYPE_CHECKING:
    from ..schedulers.answer import Answer
    from .journal import Journal, Row

HOME = "home directory"
"""The fact of a host that names this user's home directory there."""
_QUEUES = "queues"
"""The fact of a host with the names of its queues, a line each."""
_QUEUES_AGE = 30 * 86400.0
"""Seconds for which these are remembered."""
_MOST_QUEUES = 1000
_NAME = re.compile(r"[\w.+-]+")
LARGEST_ANSWER = 8_000_000
"""Bytes of a stored answer (compressed), and of the ids of one process."""
_LARGEST_TEXT = 16 * LARGEST_ANSWER


def status_of(row: Row, job_id: str) -> JobStatus:
    """The status of a job by the journal."""
    elapsed = None
    if row.started is not None and row.ended is not None and row.ended >= row.started:
        elapsed = timedelta(seconds=round(row.ended - row.started))
    return JobStatus(
        job_id,
        row.known_state,
        name=row.name,
        reason=row.reason,
        exit_code=row.exit_code,
        nodes=tuple(row.nodes.split(",")) if row.nodes else None,
        submitted=_moment(row.submitted),
        started=_moment(row.started),
        ended=_moment(row.ended),
        elapsed=elapsed,
        time_limit=None if row.time_limit is None else timedelta(seconds=row.time_limit),
        directory=row.directory or None,
        stdout_path=row.stdout_path,
        stderr_path=row.stderr_path,
        source="journal",
    )


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


# --------------------------------------------------------------------------- queues


def queue_names(journal: Journal, host: str) -> list[str]:
    """The queues of a host: those that it listed last, and where jobs were seen since."""
    names = journal.fact(host, _QUEUES, max_age=_QUEUES_AGE)
    return names.split("\n") if names else []


def remember_queues(journal: Journal, host: str, names: Iterable[str]) -> None:
    """Write the names of all queues of a host."""
    kept = [name for name in dict.fromkeys(names) if name.isprintable()]
    journal.remember_fact(host, _QUEUES, "\n".join(kept[:_MOST_QUEUES]))


def add_queues(journal: Journal, host: str, names: Iterable[str | None]) -> None:
    """Add those in which jobs are; ``a,b`` are two, ``a@node`` and patterns are none."""
    seen = {name for text in names if text for name in text.split(",") if _NAME.fullmatch(name)}
    known = queue_names(journal, host) if seen else []
    if new := sorted(seen.difference(known)):
        remember_queues(journal, host, [*known, *new])


# --------------------------------------------------------------------------- stored answers


def last_answers(journal: Journal, host: str) -> dict[str, float]:
    """When the queue of a host last answered about a job, by id (seconds since 1970).

    As far as the answers are still stored.
    """
    found: dict[str, float] = {}
    for taken, data in journal.file.execute(
        "SELECT taken, answer FROM polls WHERE host = ? AND kind IS NULL "
        "AND length(answer) < ? ORDER BY taken",
        (host, LARGEST_ANSWER),
    ):
        unpacked = unpacked_answer(data)
        if unpacked is not None:
            found |= dict.fromkeys(unpacked[1], float(taken))
    return found


def packed_answer(answer: Answer, covers: Iterable[str]) -> bytes | None:
    """An answer and the ids that it covers, as bytes; ``None`` where that is too much."""
    import json

    fields = [answer.stdout, answer.stderr, answer.returncode, list(covers)]
    packed = zlib.compress(json.dumps(fields).encode("ascii"), 1)
    return packed if len(packed) < LARGEST_ANSWER else None


def unpacked_answer(data: bytes) -> tuple[Answer, frozenset[str]] | None:
    """What ``packed_answer`` made; ``None`` for anything else."""
    import json

    from ..schedulers.answer import Answer

    try:
        unpacking = zlib.decompressobj()
        text = unpacking.decompress(data, _LARGEST_TEXT)
        stdout, stderr, returncode, covers = json.loads(text)
        return Answer(str(stdout), str(stderr), int(returncode)), frozenset(map(str, covers))
    except (zlib.error, ValueError, TypeError):
        return None
