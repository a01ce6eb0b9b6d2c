"""The journal's SQLite file: made for its owner, opened by each process, changed in transactions.

One file a client machine, because locks and shared memory do not reach across hosts.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from .. import permissions, settings
from ..errors import ConfigurationError
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
# What every version writes.  It stays: tables and columns are only added, and none is ever needed,
# so that every version reads and writes the same file.
_VERSION = 1
_ADDED = {"submissions": ("stage", "call", "caller", "place")}
"""Columns that came later, by table; all are text or have no type."""
# Known to give SQLite's shared memory and locks what they need; on all else a rollback journal.
_LOCAL_FILE_SYSTEMS = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "zfs", "f2fs"))


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
    for table, names in _ADDED.items():
        there = {found[1] for found in database.execute(f"PRAGMA table_info({table})")}
        for name in names:
            if name not in there:
                try:
                    database.execute(f"ALTER TABLE {table} ADD COLUMN {name} TEXT")
                except sqlite3.OperationalError as error:
                    if "duplicate column" not in str(error):  # another process was first
                        raise


_of_parents: list[sqlite3.Connection] = []


def _close(database: sqlite3.Connection, pid: int) -> None:
    """Close a connection, in the process that made it only."""
    if pid == os.getpid():
        database.close()


class JournalFile:
    """The journal file.  Safe for threads and processes; every change is on disk when it returns.

    Raises ``ConfigurationError`` where the file cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = os.fspath(path) if path is not None else default_path()
        self._lock = StateLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._closer: weakref.finalize[..., JournalFile] | None = None
        at_fork.renew(self)

    def after_fork(self) -> None:
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
            database.executescript(_SCHEMA)
            _add_columns(database)
            if database.execute("PRAGMA user_version").fetchone()[0] < _VERSION:
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

    def execute(self, text: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement by itself; its rows."""
        with self._lock:
            return self._database().execute(text, values).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Several statements that take effect together, alone among all processes."""
        with self._lock:
            database = self._database()
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                database.execute("ROLLBACK")
                raise
