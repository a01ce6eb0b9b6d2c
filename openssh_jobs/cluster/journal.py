"""The journal: what was submitted from this machine, on disk before a byte is sent.

One SQLite file a client machine, because locks and shared memory do not reach across hosts.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
import weakref
from collections.abc import Iterable
from dataclasses import dataclass

from .. import permissions, settings
from ..errors import ConfigurationError
from ..jobs import JobId
from ..openssh import at_fork
from ..openssh.locks import StateLock

_SCHEMA = """
CREATE TABLE IF NOT EXISTS submissions (
    host TEXT NOT NULL,
    token TEXT NOT NULL,
    digest TEXT NOT NULL,
    scheduler TEXT NOT NULL,
    directory TEXT NOT NULL,
    name TEXT,
    job_id TEXT,
    state TEXT NOT NULL,
    reason TEXT,
    exit_code INTEGER,
    nodes TEXT,
    stdout_path TEXT,
    stderr_path TEXT,
    opened REAL NOT NULL,
    submitted REAL,
    changed REAL NOT NULL,
    stage TEXT,
    call TEXT,
    caller TEXT,
    place TEXT,
    PRIMARY KEY (host, token)
);
CREATE INDEX IF NOT EXISTS by_job ON submissions (host, job_id);
CREATE TABLE IF NOT EXISTS hosts (
    host TEXT PRIMARY KEY,
    scheduler TEXT NOT NULL,
    changed REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS facts (
    host TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    changed REAL NOT NULL,
    PRIMARY KEY (host, name)
);
"""
_VERSION = 1
# Columns that came later.  Only such are added, and none is ever needed: an older version of this
# package goes on reading and writing the same file.
_ADDED = ("stage", "call", "caller", "place")
ASKED, SENDING = "asked", "sending"
"""Stages of a submission without an answer: nothing was sent but files; the command may be."""
# Known to give SQLite's shared memory and locks what they need; on all else a rollback journal.
_LOCAL_FILE_SYSTEMS = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "zfs", "f2fs"))


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


def default_path() -> str:
    """The journal of this machine and user."""
    return os.path.join(settings.state_directory(), f"journal-{socket.gethostname()}.sqlite")


def _file_system(path: str) -> str:
    """The type of the file system that holds a path; empty if unknown."""
    try:
        device = os.stat(path).st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as handle:
            for line in handle:
                left, _, right = line.partition(" - ")
                if left.split()[2] == wanted:
                    return right.split()[0]
    except (OSError, IndexError):
        pass
    return ""


def _add_columns(database: sqlite3.Connection) -> None:
    there = {found[1] for found in database.execute("PRAGMA table_info(submissions)")}
    for name in _ADDED:
        if name not in there:
            try:
                database.execute(f"ALTER TABLE submissions ADD COLUMN {name} TEXT")
            except sqlite3.OperationalError as error:
                if "duplicate column" not in str(error):  # another process was first
                    raise


_of_parents: list[sqlite3.Connection] = []


def _close(database: sqlite3.Connection, pid: int) -> None:
    """Close a connection, in the process that made it only."""
    if pid == os.getpid():
        database.close()


class Journal:
    """The journal file.  Safe for threads and processes; every change is on disk when it returns.

    Raises ``ConfigurationError`` where the file cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = os.fspath(path) if path is not None else default_path()
        self._lock = StateLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._closer: weakref.finalize[..., Journal] | None = None
        at_fork.renew(self)

    def _after_fork(self) -> None:
        self._lock = StateLock()

    def _database(self) -> sqlite3.Connection:
        """A connection of this process (SQLite's do not survive a fork)."""
        if self._connection is not None:
            if self._pid == os.getpid():
                return self._connection
            # The parent's: closing it here could take away locks and files under the parent.
            _of_parents.append(self._connection)
        directory = os.path.dirname(os.path.abspath(self.path))
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            # SQLite's own files lie beside it: nobody else may plant them.
            permissions.check(directory, "the journal's directory")
            # Made for its owner alone before SQLite opens it.
            permissions.make_file(self.path, "the journal")
            database = sqlite3.connect(
                self.path, timeout=30, isolation_level=None, check_same_thread=False
            )
            local = _file_system(directory) in _LOCAL_FILE_SYSTEMS
            database.execute(f"PRAGMA journal_mode={'WAL' if local else 'DELETE'}")
            database.execute("PRAGMA synchronous=FULL")
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version > _VERSION:
                raise ConfigurationError(
                    f"the journal {self.path} was written by a newer version of this package"
                )
            database.executescript(_SCHEMA)
            _add_columns(database)
            database.execute(f"PRAGMA user_version={_VERSION}")
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(
                f"the journal {self.path} cannot be used: {error}",
                advice="XDG_STATE_HOME says where it lies.",
            ) from error
        self._connection, self._pid = database, os.getpid()
        self._closer = weakref.finalize(self, _close, database, self._pid)
        return database

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._closer is not None and self._pid == os.getpid():
                self._closer()
                self._connection = None

    # ------------------------------------------------------------------ submissions

    def open_row(self, row: Row) -> Row:
        """Write a new submission, or return the one that has this token already."""
        now = time.time()
        with self._lock:
            database = self._database()
            database.execute("BEGIN IMMEDIATE")
            try:
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
                database.execute("COMMIT")
            except BaseException:
                database.execute("ROLLBACK")
                raise
        return found if found is not None else row

    def change(self, host: str, token: str, **facts: object) -> None:
        """Write what became known of a submission."""
        unknown = facts.keys() - set(_FIELDS)
        if unknown:
            raise TypeError(f"a row of the journal has no {', '.join(sorted(unknown))}")
        facts["changed"] = time.time()
        names = ", ".join(f"{name} = ?" for name in facts)
        with self._lock:
            self._database().execute(
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
        with self._lock:
            done = self._database().execute(
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
        with self._lock:
            return self._one("host = ? AND token = ?", (host, token))

    def by_job(self, host: str, job_id: str) -> Row | None:
        """The newest submission with this job id (schedulers reuse ids after a reset)."""
        with self._lock:
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
        with self._lock:
            found = self._database().execute(
                f"SELECT {','.join(_FIELDS)} FROM submissions {where} "  # noqa: S608
                "ORDER BY opened DESC, rowid DESC",
                () if host is None else (host,),
            )
            return [_row(values) for values in found]

    def forget(self, host: str, token: str, call: str | None = None) -> None:
        """Remove one submission from the journal (the job itself is not touched).

        ``call``: only while this call is at work on it.
        """
        with self._lock:
            self._database().execute(
                "DELETE FROM submissions WHERE host = ? AND token = ? AND ? IN (call, '')",
                (host, token, call or ""),
            )

    def _one(self, where: str, values: tuple[str, ...]) -> Row | None:
        found = (
            self._database()
            .execute(
                f"SELECT {','.join(_FIELDS)} FROM submissions WHERE {where} "  # noqa: S608
                "ORDER BY opened DESC, rowid DESC LIMIT 1",
                values,
            )
            .fetchone()
        )
        return None if found is None else _row(found)

    # ------------------------------------------------------------------ hosts

    def scheduler_of(self, host: str) -> str | None:
        """The scheduler that was detected on a host."""
        with self._lock:
            found = (
                self._database()
                .execute("SELECT scheduler FROM hosts WHERE host = ?", (host,))
                .fetchone()
            )
        return None if found is None else str(found[0])

    def remember_scheduler(self, host: str, scheduler: str | None) -> None:
        """Write which scheduler a host has; ``None`` forgets it."""
        with self._lock:
            database = self._database()
            if scheduler is None:
                database.execute("DELETE FROM hosts WHERE host = ?", (host,))
            else:
                database.execute(
                    "INSERT INTO hosts VALUES (?, ?, ?) ON CONFLICT (host) DO UPDATE SET "
                    "scheduler = excluded.scheduler, changed = excluded.changed",
                    (host, scheduler, time.time()),
                )

    def fact(self, host: str, name: str, *, max_age: float) -> str | None:
        """A fact about a host, written at most ``max_age`` seconds ago."""
        with self._lock:
            found = (
                self._database()
                .execute(
                    "SELECT value FROM facts WHERE host = ? AND name = ? AND changed > ?",
                    (host, name, time.time() - max_age),
                )
                .fetchone()
            )
        return None if found is None else str(found[0])

    def remember_fact(self, host: str, name: str, value: str) -> None:
        """Write a fact about a host."""
        with self._lock:
            self._database().execute(
                "INSERT INTO facts VALUES (?, ?, ?, ?) ON CONFLICT (host, name) DO UPDATE SET "
                "value = excluded.value, changed = excluded.changed",
                (host, name, value, time.time()),
            )
