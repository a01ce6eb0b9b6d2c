"""The journal: what was submitted from this machine, on disk before a byte is sent.

It also has what the hosts have said about these jobs, and jobs from elsewhere that are followed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from ..jobs import JobId, JobState
from .journal_file import JournalFile

ASKED, FILES, SENDING = "asked", "files", "sending"
"""Stages of a submission without an answer: nothing was sent; files are on their way; the submit
command may have been sent, with all files in place."""
FOLLOWED = "followed"
"""The stage of a job that was not submitted from here."""
TIDIED, POSTPONED = "yes", "later"
"""``tidied``: nothing is left on the host; a fetch could not remove it yet."""
MOST_EVENTS = 100
"""Events that are kept of one job; the oldest go."""

_LISTED = "listed"
# Followed jobs stand among the submissions, because older versions read no other table.  This is
# no token of a submission (``check_token``), and the directory, which those versions want to have,
# can exist on no host.
_BY_ID = "#{}"
_NO_DIRECTORY = "/dev/null/unknown"
_NEWEST = "ORDER BY stage IS 'followed', opened DESC, rowid DESC"
_AT_ONCE = 500  # SQLite's limit of values in one statement was 999


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One job.  Times are seconds since 1970; ``job_id`` is ``None`` while a submission is open.

    ``stage``: ``ASKED``, ``FILES`` or ``SENDING``, ``FOLLOWED`` for a job that was not submitted
    from here (its ``directory`` is empty where it is not known), ``None`` where an older version
    wrote it.  ``call``: a random text, the mark of the call that is at work; ``caller``: its
    process.  ``place``: the private directory on the host; ``tidied``: what became of it since the
    end (``tidy.py``).  ``learned``: when the query began whose answer gave the state.  ``array``:
    the indices as they were given to ``submit``.  ``request``: what another attempt needs.
    ``started`` and ``ended`` are of the last run, ``time_limit`` is in seconds.
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
    learned: float | None = None
    array: str | None = None
    request: str | None = None
    tidied: str | None = None
    started: float | None = None
    ended: float | None = None
    time_limit: float | None = None

    @property
    def is_followed(self) -> bool:
        """Whether the job was not submitted from here."""
        return self.stage == FOLLOWED

    @property
    def known_state(self) -> JobState:
        """The state; ``UNKNOWN`` for a state of a later version."""
        try:
            return JobState(self.state)
        except ValueError:
            return JobState.UNKNOWN


class Event(NamedTuple):
    """What was learned of a job: when (seconds since 1970), and from whom."""

    time: float
    state: str
    reason: str | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What was submitted.  ``digest``: of the specification, as in the submission's row.

    ``script``: its text, ``None`` where it was longer than what is kept; ``script_digest`` and
    ``script_size`` are known all the same.  ``specification`` and ``uploads`` are JSON.
    """

    digest: str
    script: bytes | None
    script_digest: str | None
    script_size: int | None
    specification: str
    command: str
    uploads: str | None
    git_commit: str | None


_FIELDS = tuple(Row.__dataclass_fields__)
_PUT = tuple(vars(Row)[name].__set__ for name in _FIELDS)


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
    row = object.__new__(Row)
    # Not by Row(): a journal of 100,000 jobs is read in half the time.
    for put, value in zip(_PUT, values, strict=True):
        put(row, value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value)
    return row if row.directory != _NO_DIRECTORY else replace(row, directory="")


def followed_row(host: str, job_id: str, *, directory: str | None, **facts: object) -> Row:
    """The row of a job that was not submitted from here."""
    return Row(
        host=host,
        token=_BY_ID.format(job_id),
        digest="",
        directory=directory or _NO_DIRECTORY,
        job_id=job_id,
        stage=FOLLOWED,
        **facts,  # type: ignore[arg-type]
    )


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

    def check(self) -> tuple[int, list[str]]:
        """How many jobs the journal has, and what SQLite finds damaged in the file."""
        rows = self.file.execute("SELECT count(*) FROM submissions")[0][0]
        found = self.file.execute("PRAGMA integrity_check(10)")
        return int(rows), [str(text) for (text,) in found if text != "ok"]

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

    def change(self, host: str, token: str, *, source: str = "journal", **facts: object) -> None:
        """Write what became known of a submission; ``source``: who said so."""
        unknown = facts.keys() - set(_FIELDS)
        if unknown:
            raise TypeError(f"a row of the journal has no {', '.join(sorted(unknown))}")
        facts["changed"] = time.time()
        names = ", ".join(f"{name} = ?" for name in facts)
        with self.file.transaction() as database:
            database.execute(
                f"UPDATE submissions SET {names} WHERE host = ? AND token = ?",  # noqa: S608
                (*map(_stored, facts.values()), host, token),
            )
            if "state" in facts or "reason" in facts:
                self.note_event(host, token, source)
            if facts.get("job_id") is not None:
                # It was followed by its id before it was known to be this submission.
                self.forget(host, _BY_ID.format(facts["job_id"]))

    def note_event(self, host: str, token: str, source: str) -> None:
        """Write that ``source`` has just spoken of a job, with the state and reason of its row."""
        with self.file.transaction() as database:
            database.execute(
                "INSERT INTO events (host, token, time, state, reason, source) "
                "SELECT host, token, ?, state, reason, ? FROM submissions "
                "WHERE host = ? AND token = ?",
                (time.time(), source, host, token),
            )
            database.execute(
                "DELETE FROM events WHERE rowid IN (SELECT rowid FROM events "
                "WHERE host = ? AND token = ? ORDER BY rowid DESC LIMIT -1 OFFSET ?)",
                (host, token, MOST_EVENTS),
            )

    def events(self, host: str, token: str) -> list[Event]:
        """What was learned of a job, the oldest first."""
        found = self.file.execute(
            "SELECT time, state, reason, source FROM events WHERE host = ? AND token = ? "
            "ORDER BY rowid",
            (host, token),
        )
        return [Event(*values) for values in found]

    def mark_tidied(self, host: str, token: str, tidied: str) -> None:
        """Write what became of a submission's files; how long ago it ended stays as it is."""
        self.file.execute(
            "UPDATE submissions SET tidied = ? WHERE host = ? AND token = ?", (tidied, host, token)
        )

    def take_over(self, before: Row, row: Row) -> bool:
        """Put a new call in the place of one that ended, at the same stage of the submission.

        False if another process was quicker, or the call went on after all.
        """
        facts = {
            name: getattr(row, name)
            for name in (
                *("digest", "scheduler", "directory", "name", "stage", "call", "caller", "array"),
            )
        }
        facts["changed"] = time.time()
        names = ", ".join(f"{name} = ?" for name in facts)
        with self.file.transaction() as database:
            done = database.execute(
                f"UPDATE submissions SET {names} WHERE host = ? AND token = ? "  # noqa: S608
                "AND job_id IS NULL AND stage IS ? AND call IS ? AND caller IS ?",
                (
                    *map(_stored, facts.values()),
                    *(row.host, row.token, before.stage, before.call, before.caller),
                ),
            )
            return done.rowcount == 1

    def by_token(self, host: str, token: str) -> Row | None:
        """The submission with this token."""
        return self._one("host = ? AND token = ? AND stage IS NOT 'followed'", (host, token))

    def by_job(self, host: str, job_id: str) -> Row | None:
        """The newest submission with this job id (schedulers reuse ids after a reset).

        If there is none, the followed job with this id.
        """
        return self._one("host = ? AND job_id = ?", (host, job_id))

    def by_jobs(self, host: str, ids: Sequence[str]) -> dict[str, Row]:
        """What ``by_job`` returns, by id, for those that are in the journal."""
        found: dict[str, Row] = {}
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            for row in self._some(
                f"host = ? AND job_id IN ({','.join('?' * len(some))})", (host, *some)
            ):
                found.setdefault(row.job_id or "", row)
        return found

    def active(self, host: str) -> list[Row]:
        """The jobs of a host that have an id, and whose end is not known."""
        # Not the others excluded: that would read all rows of the host, the index does not help.
        going_on = [str(state) for state in JobState if not state.is_final]
        return self._some(
            f"host = ? AND job_id IS NOT NULL AND state IN ({','.join('?' * len(going_on))})",
            (host, *going_on),
        )

    def to_tidy(self, host: str, *, before: float, later: str, tried: str, most: int) -> list[Row]:
        """Jobs that ended ``before`` a time or are marked ``later``, the oldest first.

        Those that are tidied, were ``tried`` for the last time or came from elsewhere are left out.
        """
        final = [str(state) for state in JobState if state.is_final]
        found = self.file.execute(
            # What the index by_age has is said word for word, or SQLite would not use it.
            f"SELECT {','.join(_FIELDS)} FROM submissions "  # noqa: S608
            "WHERE host = ? AND tidied IS NOT 'yes' AND tidied IS NOT ? "
            "AND job_id IS NOT NULL AND stage IS NOT 'followed' "
            f"AND state IN ({','.join('?' * len(final))}) "
            "AND (scheduler <> 'direct' OR stdout_path IS NOT NULL) "
            "AND (changed < ? OR tidied = ?) ORDER BY changed LIMIT ?",
            (host, tried, *final, before, later, most),
        )
        return [_row(values) for values in found]

    def by_member(self, host: str, job_id: str) -> Row | None:
        """The submission of a job, or of the array that the job is a member of."""
        parsed = JobId.parse(job_id)
        names = [str(parsed)]
        if parsed.array is not None:
            names.append(str(parsed.array))
        if parsed.tasks is not None or parsed.proc is not None:
            names.append(parsed.number)
        rows = (self.by_job(host, name) for name in names)
        return next((row for row in rows if row is not None and not row.is_followed), None)

    def rows(
        self,
        host: str | None = None,
        *,
        limit: int | None = None,
        since: float | None = None,
        states: Collection[str] | None = None,
        name: str | None = None,
        is_open: bool = False,
        over_since: float | None = None,
    ) -> list[Row]:
        """Submissions, the newest first: all, or at most ``limit`` of those that are wanted.

        ``since``: submitted then or later (seconds since 1970).  ``name``: a shell pattern.
        ``is_open``: those without an answer.  ``over_since``: of jobs that are over only those that
        have changed since then.  With a limit, no more rows are read than it takes.
        """
        wanted: list[tuple[str, tuple[object, ...]]] = []
        if host is not None:
            # A plus keeps SQLite from the index of this column: another one fits better.
            wanted.append((f"{'+' if is_open else ''}host = ?", (host,)))
        if since is not None:
            wanted.append(("opened >= ?", (since,)))
        if states is not None:
            wanted.append((f"+state IN ({','.join('?' * len(states))})", tuple(states)))
        if name is not None:
            wanted.append(("name GLOB ?", (name,)))
        if is_open:
            wanted.append(("job_id IS NULL", ()))
        if over_since is not None:
            over = [str(state) for state in JobState if state.is_final]
            marks = ",".join("?" * len(over))
            wanted.append((f"(+state NOT IN ({marks}) OR changed >= ?)", (*over, over_since)))
        where = f"WHERE {' AND '.join(text for text, _ in wanted)} " if wanted else ""
        found = self.file.execute(
            f"SELECT {','.join(_FIELDS)} FROM submissions {where}"  # noqa: S608
            "ORDER BY opened DESC, rowid DESC LIMIT ?",
            (*(value for _, values in wanted for value in values), -1 if limit is None else limit),
        )
        return [_row(values) for values in found]

    def forget(self, host: str, token: str, call: str | None = None) -> None:
        """Remove one job from the journal (the job itself is not touched).

        ``call``: only while this call is at work on it.
        """
        with self.file.transaction() as database:
            done = database.execute(
                "DELETE FROM submissions WHERE host = ? AND token = ? AND ? IN (call, '')",
                (host, token, call or ""),
            )
            if done.rowcount:
                database.execute("DELETE FROM events WHERE host = ? AND token = ?", (host, token))
                self._forget_kept(host, token)

    def _some(self, where: str, values: Sequence[str]) -> list[Row]:
        found = self.file.execute(
            f"SELECT {','.join(_FIELDS)} FROM submissions WHERE {where} {_NEWEST}",  # noqa: S608
            values,
        )
        return [_row(row) for row in found]

    def _one(self, where: str, values: tuple[str, ...]) -> Row | None:
        found = self.file.execute(
            f"SELECT {','.join(_FIELDS)} FROM submissions WHERE {where} "  # noqa: S608
            f"{_NEWEST} LIMIT 1",
            values,
        )
        return _row(found[0]) if found else None

    # ------------------------------------------------------------------ what was submitted

    def keep(self, host: str, token: str, kept: Kept) -> None:
        """Write what is submitted under this token; the same script is kept once."""
        values = asdict(kept)
        content, values["script"] = values.pop("script"), values.pop("script_digest")
        names = ("host", "token", *values)
        with self.file.transaction() as database:
            self._forget_kept(host, token)
            if content is not None:
                database.execute(
                    "INSERT OR IGNORE INTO scripts (digest, content) VALUES (?, ?)",
                    (kept.script_digest, content),
                )
            database.execute(
                f"INSERT INTO kept ({','.join(names)}) "  # noqa: S608
                f"VALUES ({','.join('?' * len(names))})",
                (host, token, *map(_stored, values.values())),
            )

    def kept(self, row: Row) -> Kept | None:
        """What was submitted as this row; ``None`` where it was not kept.

        An older version may have used the token for another submission since then.
        """
        found = self.file.execute(
            "SELECT kept.digest, content, script, script_size, specification, command, uploads, "
            "git_commit FROM kept LEFT JOIN scripts ON scripts.digest = kept.script "
            "WHERE host = ? AND token = ? AND kept.digest = ?",
            (row.host, row.token, row.digest),
        )
        names = tuple(Kept.__dataclass_fields__)
        return Kept(**dict(zip(names, found[0], strict=True))) if found else None

    def _forget_kept(self, host: str, token: str) -> None:
        with self.file.transaction() as database:
            where = "FROM kept WHERE host = ? AND token = ?"
            found = database.execute(f"SELECT script {where}", (host, token)).fetchall()
            database.execute(f"DELETE {where}", (host, token))
            for (script,) in found:
                database.execute(
                    "DELETE FROM scripts WHERE digest = ? "
                    "AND NOT EXISTS (SELECT 1 FROM kept WHERE script = ?)",
                    (script, script),
                )

    # ------------------------------------------------------------------ hosts

    def hosts(self) -> list[str]:
        """The hosts that have jobs here."""
        found = self.file.execute("SELECT DISTINCT host FROM submissions ORDER BY host")
        return [os.fsdecode(host) for (host,) in found]

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
            "INSERT INTO hosts (host, scheduler, changed) VALUES (?, ?, ?) "
            "ON CONFLICT (host) DO UPDATE SET "
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

    def listed_at(self, host: str) -> float | None:
        """When all jobs of a host were last compared with its queue (seconds since 1970)."""
        said = self.fact(host, _LISTED, max_age=float("inf"))
        try:
            return None if said is None else float(said)
        except ValueError:
            return None

    def note_listed(self, host: str, when: float) -> None:
        """Write that all jobs of a host were compared with its queue as of then."""
        if self.listed_at(host) != when:
            self.remember_fact(host, _LISTED, repr(when))

    def remember_fact(self, host: str, name: str, value: str) -> None:
        """Write a fact about a host."""
        self.file.execute(
            "INSERT INTO facts (host, name, value, changed) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (host, name) DO UPDATE SET "
            "value = excluded.value, changed = excluded.changed",
            (host, name, value, time.time()),
        )
