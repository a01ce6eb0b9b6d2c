"""What the journal says of jobs: their statuses, and when a host last answered about them.

Apart from the modules that ask hosts, which ``list`` and the first picture of ``watch`` do
without.
"""

from __future__ import annotations

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
