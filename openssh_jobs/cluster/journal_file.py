"""The journal's SQLite file: made for its owner, opened by each process, changed in transactions.

One file a client machine, because locks and shared memory do not reach across hosts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import weakref
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from .. import permissions, settings
from ..errors import ConfigurationError
from ..openssh import at_fork
from ..openssh.locks import StateLock
from . import file_system
from .file_system import Abilities
from .lock_file import LockFile

# Every version reads and writes the file of every other one: tables, columns and indexes are only
# added, none is ever needed, and user_version stays 1 (older versions refuse a higher one).
# ``hosts`` and ``facts`` get no columns: older versions insert into them without column names.
_TABLES = {
    "submissions": """(
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
        PRIMARY KEY (host, token)
    )""",
    "hosts": "(host TEXT PRIMARY KEY, scheduler TEXT NOT NULL, changed REAL NOT NULL)",
    "facts": """(
        host TEXT NOT NULL,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        changed REAL NOT NULL,
        PRIMARY KEY (host, name)
    )""",
    "events": """(
        host TEXT NOT NULL,
        token TEXT NOT NULL,
        time REAL NOT NULL,
        state TEXT NOT NULL,
        reason TEXT,
        source TEXT NOT NULL
    )""",
    "kept": """(
        host TEXT NOT NULL,
        token TEXT NOT NULL,
        digest TEXT NOT NULL,
        script TEXT,
        script_size INTEGER,
        specification TEXT NOT NULL,
        command TEXT NOT NULL,
        uploads TEXT,
        git_commit TEXT,
        PRIMARY KEY (host, token)
    )""",
    "scripts": "(digest TEXT PRIMARY KEY, content BLOB NOT NULL)",
    "polls": """(
        query TEXT PRIMARY KEY,
        host TEXT NOT NULL,
        stamp INTEGER NOT NULL,
        began REAL,
        ended REAL,
        taken REAL NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0,
        kind TEXT,
        message TEXT,
        budget REAL NOT NULL DEFAULT 0,
        budget_at REAL NOT NULL DEFAULT 0,
        holder TEXT,
        held_until REAL NOT NULL DEFAULT 0,
        changed REAL NOT NULL DEFAULT -1e9,
        answer BLOB
    )""",
    "polls_followed": """(
        query TEXT NOT NULL,
        follower TEXT NOT NULL,
        ids TEXT NOT NULL,
        until REAL NOT NULL,
        PRIMARY KEY (query, follower)
    )""",
}
_ADDED = {
    "submissions": {
        "stage": "TEXT", "call": "TEXT", "caller": "TEXT", "place": "TEXT", "learned": "REAL",
        "array": "TEXT", "request": "TEXT", "tidied": "TEXT", "started": "REAL", "ended": "REAL",
        "time_limit": "REAL",
    },
}  # fmt: skip
"""Columns that came after a table, by table, with their types."""
_INDEXES = {
    "by_job": "submissions (host, job_id)",
    "by_state": "submissions (host, state)",
    "by_time": "submissions (opened)",
    "by_host_and_time": "submissions (host, opened)",
    "open_by_time": "submissions (opened) WHERE job_id IS NULL",
    "events_by_token": "events (host, token)",
    "kept_by_script": "kept (script)",
    "by_age": "submissions (host, changed) WHERE tidied IS NOT 'yes'",
}
_VERSION = 1
BUSY_TIMEOUT, _BRIEF_TIMEOUT, _EXIT_TIMEOUT = 30.0, 2.0, 2.0
"""Seconds to wait for another process that writes."""
_CACHE = 256
"""KiB of the file that a connection keeps in memory."""


def default_path() -> str:
    """The journal of this machine and user."""
    return os.path.join(settings.state_directory(), f"journal-{os.uname().nodename}.sqlite")


# --------------------------------------------------------------------------- what SQLite reports


def _code(error: sqlite3.Error) -> int:
    """The primary error code; 0 for an error of the sqlite3 module itself."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_ELSEWHERE = "XDG_STATE_HOME names the directory above its own."


def _unusable(path: str, error: Exception) -> ConfigurationError:
    """The error of a journal that cannot be read or written, with what to do."""
    code = _code(error) if isinstance(error, sqlite3.Error) else 0
    if code in _DAMAGED:
        return ConfigurationError(
            f"the journal {path} is damaged: {error}",
            advice=f"Move it away together with {path}-wal and {path}-shm, and a new one is made; "
            "`sqlite3 FILE .recover` prints what can still be read.",
        )
    if code == sqlite3.SQLITE_BUSY or isinstance(error, TimeoutError):
        return ConfigurationError(
            f"another process has locked the journal {path} for {BUSY_TIMEOUT:.0f} s: {error}",
            advice="End it if it hangs.",
        )
    if code == sqlite3.SQLITE_FULL or getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT):
        return ConfigurationError(
            f"the journal {path} cannot be written, because the disk is full: {error}",
            advice=f"Make room there; {_ELSEWHERE}",
        )
    if code == sqlite3.SQLITE_READONLY or getattr(error, "errno", 0) == errno.EROFS:
        return ConfigurationError(
            f"the journal {path} cannot be written, because it is read-only: {error}",
            advice=_ELSEWHERE,
        )
    return ConfigurationError(f"the journal {path} cannot be used: {error}", advice=_ELSEWHERE)


@contextlib.contextmanager
def _reported(path: str) -> Iterator[None]:
    """Raise what the file does as ``ConfigurationError``; mistakes in a call stay what they are."""
    try:
        yield
    except sqlite3.Error as error:
        if isinstance(error, sqlite3.OperationalError) or _code(error) in _DAMAGED:
            raise _unusable(path, error) from error
        raise


# --------------------------------------------------------------------------- layout and mode


def _connect(path: str, can: Abilities) -> sqlite3.Connection:
    # SQLite alone would take the rollback journal of a living process for one of a crash.
    how = "mode=rw" if can.locks else "mode=rw&vfs=unix-none"
    return sqlite3.connect(
        f"file://{quote(os.fsencode(path))}?{how}",
        uri=True,
        timeout=BUSY_TIMEOUT,
        isolation_level=None,
        check_same_thread=False,
    )


def _mode(database: sqlite3.Connection) -> str:
    return str(database.execute("PRAGMA journal_mode").fetchone()[0])


def _set_mode(database: sqlite3.Connection, can: Abilities) -> bool:
    """Decide between a write-ahead log and a rollback journal; false if the log cannot be read.

    A file that has tables keeps its mode where that works, because the mode cannot be changed
    under other processes.
    """
    try:
        mode = _mode(database)
        if can.shared_memory and mode != "wal" and not _tables(database):
            database.execute("PRAGMA journal_mode=WAL")
            mode = _mode(database)
        _tables(database)  # reading it takes the shared memory
    except sqlite3.OperationalError as error:
        if _code(error) not in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY):
            raise
        return _code(error) == sqlite3.SQLITE_BUSY  # another process decides
    return can.shared_memory or mode != "wal"


def _put_log_away(path: str, can: Abilities) -> None:
    """Put what is in the log into the file: alone on it, SQLite needs no shared memory for that."""
    with LockFile(f"{path}-mode").held(BUSY_TIMEOUT):
        database = _connect(path, can)
        try:
            database.execute("PRAGMA locking_mode=EXCLUSIVE")
            _tables(database)
            database.execute("PRAGMA journal_mode=DELETE")
        finally:
            database.close()


def _tables(database: sqlite3.Connection) -> set[str]:
    return {str(found[0]) for found in database.execute("SELECT name FROM sqlite_master")}


def _missing(database: sqlite3.Connection) -> list[str]:
    """The statements that make what this version has and the file lacks."""
    names = _tables(database)
    statements = [
        f"CREATE TABLE IF NOT EXISTS {table} {columns}"
        for table, columns in _TABLES.items()
        if table not in names
    ]
    for table, columns in _ADDED.items():
        there = {found[1] for found in database.execute(f"PRAGMA table_info({table})")}
        statements += [
            f"ALTER TABLE {table} ADD COLUMN {name} {kind}"
            for name, kind in columns.items()
            if name not in there
        ]
    return statements + [
        f"CREATE INDEX IF NOT EXISTS {index} ON {columns}"
        for index, columns in _INDEXES.items()
        if index not in names
    ]


def _complete(database: sqlite3.Connection) -> None:
    """Add what the file lacks, alone among all processes."""
    if not _missing(database):
        return
    database.execute("BEGIN IMMEDIATE")
    try:
        for statement in _missing(database):
            database.execute(statement)
        if database.execute("PRAGMA user_version").fetchone()[0] < _VERSION:
            database.execute(f"PRAGMA user_version={_VERSION}")
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


# --------------------------------------------------------------------------- the file

_of_parents: list[sqlite3.Connection] = []


def _close(database: sqlite3.Connection, pid: int, lock: StateLock) -> None:
    """Close a connection when its file is dropped, or at the end of the process that made it.

    A thread may still be inside SQLite then, which would crash; later it stops at the lock.
    """
    if pid == os.getpid() and lock.keep(_EXIT_TIMEOUT):
        database.close()


class JournalFile:
    """The journal file.  Safe for threads and processes; every change is on disk when it returns.

    Raises ``ConfigurationError`` where the file cannot be used: missing rights, a full disk, a
    damaged file.  ``mode``: SQLite's journal mode, once it is open.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = os.path.abspath(path if path is not None else default_path())
        self.mode = ""
        self._lock = StateLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._file = (0, 0)
        self._own_lock: LockFile | None = None
        self._is_held = False
        self._closer: weakref.finalize[..., JournalFile]  # of the connection
        at_fork.renew(self)

    def after_fork(self) -> None:
        self._lock = StateLock()
        self._is_held = False

    def _database(self) -> sqlite3.Connection:
        """A connection of this process (SQLite's do not survive a fork) to the file that is there.

        A journal that was moved away is not written any more.
        """
        database = self._connection if self._pid == os.getpid() else None
        if database and (database.in_transaction or self._identity() == self._file):
            return database
        self._disconnect()
        try:
            database = self._open()
        except (OSError, sqlite3.Error) as error:
            raise _unusable(self.path, error) from error
        self._connection, self._pid, self._file = database, os.getpid(), self._identity()
        self._closer = weakref.finalize(self, _close, database, self._pid, self._lock)
        return database

    def _identity(self) -> tuple[int, int]:
        try:
            facts = os.stat(self.path)
        except OSError:
            return 0, 0
        return facts.st_dev, facts.st_ino

    def _open(self) -> sqlite3.Connection:
        path, directory = self.path, os.path.dirname(self.path)
        settings.check_home(directory)
        # SQLite's own files lie beside it: no other user may plant them.
        permissions.make_directories(directory, "the journal's directory")
        # Made for its owner alone before SQLite opens it.
        permissions.make_file(path, "the journal")
        can = file_system.abilities(directory)
        self._own_lock = None if can.locks else LockFile(f"{path}-lock")
        with self._alone():
            database = _connect(path, can)
            try:
                if not _set_mode(database, can):
                    database.close()
                    _put_log_away(path, can)
                    database = _connect(path, can)
                database.execute("PRAGMA synchronous=FULL")
                # By default 2 MB of pages, which fill as the journal grows.
                database.execute(f"PRAGMA cache_size=-{_CACHE}")
                _complete(database)
                self.mode = _mode(database)
            except BaseException:
                database.close()
                raise
        return database

    @property
    def locked_by_file(self) -> bool:
        """Whether the file system has no locks, once it is open: a file beside it is the lock."""
        return self._own_lock is not None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._disconnect()

    def _disconnect(self) -> None:
        database, self._connection = self._connection, None
        if database is not None and self._pid != os.getpid():
            # The parent's: closing it here could take away locks and files under the parent.
            _of_parents.append(database)
        elif database is not None:
            self._closer.detach()
            database.close()

    # ------------------------------------------------------------------ statements

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock file where the file system has no locks; readers need it, too."""
        if self._own_lock is None or self._is_held:
            yield
            return
        with self._own_lock.held(BUSY_TIMEOUT):
            self._is_held = True
            try:
                yield
            finally:
                self._is_held = False

    @contextlib.contextmanager
    def _ready(self) -> Iterator[sqlite3.Connection]:
        """The open file, for one statement or one transaction."""
        with self._lock, _reported(self.path):
            database = self._database()
            try:
                with self._alone():
                    yield database
            except OSError as error:  # of the lock file
                raise _unusable(self.path, error) from error

    def execute(self, text: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement by itself, or as a part of the transaction; its rows."""
        with self._ready() as database:
            return database.execute(text, values).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Several statements that take effect together, alone among all processes.

        Inside another transaction of this thread it is a part of that.
        """
        with self._ready() as database:
            if database.in_transaction:
                yield database
                return
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:  # SQLite itself may have rolled back
                    database.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def brief(self) -> Iterator[sqlite3.Connection]:
        """A transaction for what may be lost at a power cut: not synced to disk.

        Raises an error if another process keeps the file busy for 2 s.
        """
        with self._ready() as database:
            if not database.in_transaction:
                database.execute(f"PRAGMA busy_timeout={_BRIEF_TIMEOUT * 1000:.0f}")
                database.execute("PRAGMA synchronous=NORMAL")
            try:
                with self.transaction():
                    yield database
            finally:
                if not database.in_transaction:
                    database.execute("PRAGMA synchronous=FULL")
                    database.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT * 1000:.0f}")
