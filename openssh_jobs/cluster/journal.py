"""The journal: what was submitted from this machine, on disk before a byte is sent."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

from ..jobs import JobId
from .journal_file import JournalFile

ASKED, SENDING = "asked", "sending"
"""Stages of a submission without an answer: nothing was sent but files; the command may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One submission.  Times are seconds since 1970; ``job_id`` is ``None`` while it is open.

    ``stage``: ``ASKED`` or ``SENDING``, ``None`` where an older version wrote it.  ``call``: a
    random text, the mark of the call that is at work; ``caller``: its process.  ``place``: the
    private directory on the host.
    """

    host: str
    token: str
    digest: str
    scheduler: str
    directory: str
    name: str | None = None
    job_id: str | None = None
    state: str = "new"
    reason: str | None = None
    exit_code: int | None = None
    nodes: str | None = None
    stdout_path: str | None = None
    stderr_path: str | None = None
    opened: float = 0.0
    submitted: float | None = None
    changed: float = 0.0
    stage: str | None = None
    call: str | None = None
    caller: str | None = None
    place: str | None = None


_FIELDS = tuple(Row.__dataclass_fields__)


def _stored(value: object) -> object:
    """Text that is no UTF-8 (a path on the host) is kept as its bytes: SQLite's text is UTF-8."""
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogateescape")
        return value if value.isascii() or _is_utf8(data) else data
    return value


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _row(values: Iterable[object]) -> Row:
    texts = (
        value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
        for value in values
    )
    return Row(**dict(zip(_FIELDS, texts, strict=True)))  # type: ignore[arg-type]


class Journal:
    """The journal.  Safe for threads and processes; every change is on disk when it returns.

    ``path``: its file, by default that of this machine and user.  Raises ``ConfigurationError``
    where the file cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.file = JournalFile(path)
        self.path = self.file.path

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    # ------------------------------------------------------------------ submissions

    def open_row(self, row: Row) -> Row:
        """Write a new submission, or return the one that has this token already."""
        now = time.time()
        with self.file.transaction() as database:
            found = self._one("host = ? AND token = ?", (row.host, row.token))
            if found is None:
                values = [_stored(getattr(row, name)) for name in _FIELDS]
                values[_FIELDS.index("opened")] = now
                values[_FIELDS.index("changed")] = now
                marks = ",".join("?" * len(_FIELDS))
                database.execute(
                    f"INSERT INTO submissions ({','.join(_FIELDS)}) VALUES ({marks})",  # noqa: S608
                    values,
                )
        return found if found is not None else row

    def change(self, host: str, token: str, **facts: object) -> None:
        """Write what became known of a submission."""
        unknown = facts.keys() - set(_FIELDS)
        if unknown:
            raise TypeError(f"a row of the journal has no {', '.join(sorted(unknown))}")
        facts["changed"] = time.time()
        names = ", ".join(f"{name} = ?" for name in facts)
        self.file.execute(
            f"UPDATE submissions SET {names} WHERE host = ? AND token = ?",  # noqa: S608
            (*map(_stored, facts.values()), host, token),
        )

    def take_over(self, before: Row, row: Row) -> bool:
        """Put a new call in the place of a call that ended before it sent anything.

        False if another process was quicker, or the command is about to be sent after all.
        """
        facts = {
            name: getattr(row, name)
            for name in ("digest", "scheduler", "directory", "name", "stage", "call", "caller")
        }
        facts["changed"] = time.time()
        names = ", ".join(f"{name} = ?" for name in facts)
        with self.file.transaction() as database:
            done = database.execute(
                f"UPDATE submissions SET {names} WHERE host = ? AND token = ? "  # noqa: S608
                "AND stage = ? AND call = ? AND caller = ?",
                (
                    *map(_stored, facts.values()),
                    *(row.host, row.token, ASKED, before.call, before.caller),
                ),
            )
            return done.rowcount == 1

    def by_token(self, host: str, token: str) -> Row | None:
        """The submission with this token."""
        return self._one("host = ? AND token = ?", (host, token))

    def by_job(self, host: str, job_id: str) -> Row | None:
        """The newest submission with this job id (schedulers reuse ids after a reset)."""
        return self._one("host = ? AND job_id = ?", (host, job_id))

    def by_member(self, host: str, job_id: str) -> Row | None:
        """The submission of a job, or of the array that the job is a member of."""
        parsed = JobId.parse(job_id)
        names = [str(parsed)]
        if parsed.array is not None:
            names.append(str(parsed.array))
        if parsed.tasks is not None or parsed.proc is not None:
            names.append(parsed.number)
        return next(filter(None, (self.by_job(host, name) for name in names)), None)

    def rows(self, host: str | None = None) -> list[Row]:
        """All submissions, the newest first."""
        where = "" if host is None else "WHERE host = ?"
        found = self.file.execute(
            f"SELECT {','.join(_FIELDS)} FROM submissions {where} "  # noqa: S608
            "ORDER BY opened DESC, rowid DESC",
            () if host is None else (host,),
        )
        return [_row(values) for values in found]

    def forget(self, host: str, token: str, call: str | None = None) -> None:
        """Remove one submission from the journal (the job itself is not touched).

        ``call``: only while this call is at work on it.
        """
        self.file.execute(
            "DELETE FROM submissions WHERE host = ? AND token = ? AND ? IN (call, '')",
            (host, token, call or ""),
        )

    def _one(self, where: str, values: tuple[str, ...]) -> Row | None:
        found = self.file.execute(
            f"SELECT {','.join(_FIELDS)} FROM submissions WHERE {where} "  # noqa: S608
            "ORDER BY opened DESC, rowid DESC LIMIT 1",
            values,
        )
        return _row(found[0]) if found else None

    # ------------------------------------------------------------------ hosts

    def scheduler_of(self, host: str) -> str | None:
        """The scheduler that was detected on a host."""
        found = self.file.execute("SELECT scheduler FROM hosts WHERE host = ?", (host,))
        return str(found[0][0]) if found else None

    def remember_scheduler(self, host: str, scheduler: str | None) -> None:
        """Write which scheduler a host has; ``None`` forgets it."""
        if scheduler is None:
            self.file.execute("DELETE FROM hosts WHERE host = ?", (host,))
            return
        self.file.execute(
            "INSERT INTO hosts VALUES (?, ?, ?) ON CONFLICT (host) DO UPDATE SET "
            "scheduler = excluded.scheduler, changed = excluded.changed",
            (host, scheduler, time.time()),
        )

    def fact(self, host: str, name: str, *, max_age: float) -> str | None:
        """A fact about a host, written at most ``max_age`` seconds ago."""
        found = self.file.execute(
            "SELECT value FROM facts WHERE host = ? AND name = ? AND changed > ?",
            (host, name, time.time() - max_age),
        )
        return str(found[0][0]) if found else None

    def remember_fact(self, host: str, name: str, value: str) -> None:
        """Write a fact about a host."""
        self.file.execute(
            "INSERT INTO facts VALUES (?, ?, ?, ?) ON CONFLICT (host, name) DO UPDATE SET "
            "value = excluded.value, changed = excluded.changed",
            (host, name, value, time.time()),
        )
