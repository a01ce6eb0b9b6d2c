"""The journal's file: after a fork, dropped, damaged, of other versions, on file systems."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from openssh_jobs.cluster import file_system
from openssh_jobs.cluster import journal_file as module
from openssh_jobs.cluster.journal import Journal, followed_row
from openssh_jobs.errors import ConfigurationError
from tests.lab import leaks, parts
from tests.paths import CHECKOUT

from .fakes import row

OLD = (CHECKOUT / "tests/data/journal-22c0f2c.sql").read_text()


def test_a_child_after_a_fork_opens_its_own(journal: Journal) -> None:
    journal.open_row(row())
    child = os.fork()
    if child == 0:
        code = 1
        try:
            journal.open_row(row("from-the-child"))
            journal.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    journal.open_row(row("afterwards"))
    assert {one.token for one in journal.rows()} == {"t1", "from-the-child", "afterwards"}


def test_one_that_is_dropped_is_closed(tmp_path: Path) -> None:
    dropped = Journal(tmp_path / "j")
    dropped.open_row(row())
    database = dropped.file._connection
    assert database is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del dropped
        gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        database.execute("SELECT 1")


def test_closing_twice_and_using_it_again(journal: Journal) -> None:
    journal.open_row(row())
    journal.close()
    journal.close()
    assert journal.by_token("h", "t1") is not None


@pytest.mark.parametrize("what", ["a directory", "no database"])
def test_what_cannot_be_used_is_said_so(tmp_path: Path, what: str) -> None:
    path = tmp_path / "journal"
    if what == "a directory":
        path.mkdir()
    else:
        path.write_text("this is no database, it is a text of some length\n" * 30)
    with pytest.raises(ConfigurationError, match=str(path)):
        Journal(path).rows()


def test_the_file_system_decides_how_it_is_kept(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mode() -> str:
        journal.rows()
        assert journal.file._connection is not None
        return str(journal.file._connection.execute("PRAGMA journal_mode").fetchone()[0])

    known = file_system.type_of(str(Path(journal.path).parent.parent))
    assert mode() == ("wal" if known in file_system.LOCAL else "delete")
    journal.close()
    monkeypatch.setattr(file_system, "type_of", lambda _: "nfs4")
    assert mode() == "delete"


def test_each_client_machine_has_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    here = Path(module.default_path())
    elsewhere = os.uname_result(("Linux", "elsewhere", "", "", ""))
    monkeypatch.setattr(os, "uname", lambda: elsewhere)
    assert here.is_relative_to(tmp_path)
    assert Path(module.default_path()) != here


def test_its_directory_is_only_made_where_others_cannot_replace_it(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open" / "link").symlink_to(tmp_path / "precious")
    for way in ("open/state", "open/link/state"):
        with pytest.raises(ConfigurationError, match="others can write"):
            Journal(tmp_path / way / "below" / "journal").rows()
    assert os.listdir(tmp_path / "open") == ["link"]
    assert os.listdir(tmp_path / "precious") == []


def test_directories_above_it_are_made_for_us_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert Journal(tmp_path / "state" / "below" / "journal").rows() == []
    finally:
        os.umask(before)


def test_one_of_a_later_version_is_used_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version=99")
    database.close()
    journal = Journal(path)
    try:
        journal.open_row(row())
        assert [one.token for one in journal.rows()] == ["t1"]
        assert journal.file.execute("PRAGMA user_version") == [(99,)]
    finally:
        journal.close()


# -- other versions -----------------------------------------------------------------------------

# What the code of commit 22c0f2c runs on a journal, word for word but for the white space.
COLUMNS = (
    "host,token,digest,scheduler,directory,name,job_id,state,reason,exit_code,nodes,"
    "stdout_path,stderr_path,opened,submitted,changed"
)
OLD_INSERTS = f"INSERT INTO submissions ({COLUMNS}) VALUES ({','.join('?' * 16)})"
OLD_FINDS = (
    f"SELECT {COLUMNS} FROM submissions WHERE host = ? AND job_id = ? "
    "ORDER BY opened DESC, rowid DESC LIMIT 1"
)
OLD_CHANGES = "UPDATE submissions SET state = ?, changed = ? WHERE host = ? AND token = ?"
OLD_HOSTS = (
    "INSERT INTO hosts VALUES (?, ?, ?) ON CONFLICT (host) DO UPDATE SET "
    "scheduler = excluded.scheduler, changed = excluded.changed"
)
OLD_FACTS = (
    "INSERT INTO facts VALUES (?, ?, ?, ?) ON CONFLICT (host, name) DO UPDATE SET "
    "value = excluded.value, changed = excluded.changed"
)


def old_journal(path: Path) -> Journal:
    database = sqlite3.connect(path)
    database.executescript(OLD)
    database.close()
    return Journal(path)


def test_what_an_old_version_wrote_is_read_and_written(tmp_path: Path) -> None:
    journal = old_journal(tmp_path / "j")
    try:
        assert [(one.host, one.token, one.job_id, one.state) for one in journal.rows()] == [
            ("me@other:2222", "t1", "1", "failed"),
            ("hpc", "open", None, "new"),
            ("hpc", "t2", "4712", "running"),
            ("hpc", "t1", "4711", "completed"),
        ]
        first, second = journal.by_token("hpc", "t1"), journal.by_job("hpc", "4712")
        assert first is not None
        assert (first.exit_code, first.nodes, first.stage) == (0, "node1,node2", None)
        assert second is not None
        assert second.directory == os.fsdecode(b"/home/u/r\xff")
        assert journal.kept(first) is None
        assert journal.events("hpc", "t1") == []
        assert journal.scheduler_of("hpc") == "slurm"
        journal.change("hpc", "t2", state="completed", exit_code=0)
        journal.open_row(row("t3", host="hpc"))
        assert journal.check() == (5, [])
        assert journal.file.execute("PRAGMA user_version") == [(1,)], "older ones refuse more"
    finally:
        journal.close()


def test_an_old_version_works_with_what_this_one_wrote(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.open_row(row(host="hpc", stage="asked"))
    journal.change("hpc", "t1", job_id="7", state="pending")
    journal.open_row(followed_row("hpc", "99", directory=None, scheduler="slurm", state="running"))
    journal.close()
    old = sqlite3.connect(tmp_path / "j", isolation_level=None)
    assert old.execute("PRAGMA user_version").fetchone()[0] <= 1
    old.executescript(
        "".join(
            f"{statement};"
            for statement in OLD.split(";")
            if statement.strip().startswith("CREATE")
        )
        .replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ")
        .replace("CREATE INDEX ", "CREATE INDEX IF NOT EXISTS ")
    )
    found = old.execute(OLD_FINDS, ("hpc", "99")).fetchone()
    assert found[2:5] == ("", "slurm", "/dev/null/unknown"), "a directory that no host can have"
    assert old.execute(OLD_CHANGES, ("completed", 5.0, "hpc", found[1])).rowcount == 1
    assert old.execute(OLD_CHANGES, ("running", 5.0, "hpc", "t1")).rowcount == 1
    values = ("hpc", "old", "d", "slurm", "/d", None, None, "new", *[None] * 5, 9.0, None, 9.0)
    old.execute(OLD_INSERTS, values)
    old.execute(OLD_HOSTS, ("hpc", "slurm", 1.0))
    old.execute(OLD_FACTS, ("hpc", "accounting of slurm", "yes", 1.0))
    old.close()
    try:
        assert {one.token: one.state for one in journal.rows()} == {
            "t1": "running",
            "#99": "completed",
            "old": "new",
        }
        assert journal.scheduler_of("hpc") == "slurm"
    finally:
        journal.close()


def test_a_state_of_a_later_version_is_unknown_here(journal: Journal) -> None:
    journal.open_row(row(state="hibernating"))
    assert journal.rows()[0].known_state == "unknown"


# -- file systems and libraries -----------------------------------------------------------------

# Forks before anything is opened: each writer is a process of its own.
WRITES = """
import os, sys
from openssh_jobs.cluster.journal import Journal, Row

def write(writer):
    journal = Journal(sys.argv[1])
    for number in range(int(sys.argv[4])):
        token = f"t{writer}-{number}"
        journal.open_row(Row(host="h", token=token, digest="d", scheduler="s", directory="/"))
        journal.change("h", token, state="pending", job_id=token)
    assert journal.check()[1] == []
    os.write(1, f"{journal.file.mode} {journal.file.locked_by_file}\\n".encode())  # in one piece
    os._exit(0)  # without closing: a log stays

first, writers = int(sys.argv[2]), int(sys.argv[3])
children = []
for writer in range(first, first + writers):
    children.append(os.fork())
    if not children[-1]:
        try:
            write(writer)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        os._exit(1)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""
NO_LOCKS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#define NONE(name) int name(int handle, int command, ...) { \
    va_list rest; va_start(rest, command); void *given = va_arg(rest, void *); va_end(rest); \
    if (command == F_SETLK || command == F_SETLKW || command == F_GETLK) \
        { errno = ENOLCK; return -1; } \
    int (*real)(int, int, ...) = (int (*)(int, int, ...)) dlsym(RTLD_NEXT, #name); \
    return real(handle, command, given); }
NONE(fcntl)
NONE(fcntl64)
"""
NO_SHARED_MEMORY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/mman.h>
#define NONE(name) void *name(void *at, size_t size, int may, int how, int file, off_t from) { \
    if ((how & MAP_SHARED) && file >= 0) { errno = ENODEV; return MAP_FAILED; } \
    void *(*real)(void *, size_t, int, int, int, off_t) = \
        (void *(*)(void *, size_t, int, int, int, off_t)) dlsym(RTLD_NEXT, #name); \
    return real(at, size, may, how, file, from); }
NONE(mmap)
NONE(mmap64)
"""


def built(source: str, directory: Path) -> dict[str, str]:
    """The environment in which programs get a library of this source first."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler to take locks or shared memory away")
    (directory / "less.c").write_text(source)
    library = directory / "less.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", library, directory / "less.c", "-ldl"],
        check=True,
        timeout=60,
    )
    return os.environ | {"LD_PRELOAD": str(library)}


def write(
    path: Path, env: dict[str, str], writers: int = 4, each: int = 5, first: int = 0
) -> list[str]:
    """What several processes print that write at once; ``first``: the number of the first one."""
    done = subprocess.run(
        [sys.executable, "-c", WRITES, path, *map(str, (first, writers, each))],
        env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.stderr, done.returncode) == ("", 0)
    printed = done.stdout.splitlines()
    assert len(printed) == writers
    return printed


def rows_of(path: Path) -> int:
    database = sqlite3.connect(path)
    number: int = database.execute("SELECT count(*) FROM submissions").fetchone()[0]
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()
    return number


def test_without_locks_of_the_file_system_a_file_is_the_lock(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    path = tmp_path / "state" / "j"
    env = built(NO_LOCKS, tmp_path)
    assert write(path, env) == ["delete True"] * 4
    assert rows_of(path) == 20
    assert sorted(os.listdir(path.parent)) == ["j"]


def test_one_with_a_log_is_used_without_locks_and_without_shared_memory(tmp_path: Path) -> None:
    parts.require_proc()
    (tmp_path / "state").mkdir()
    path = tmp_path / "state" / "j"
    for less, mode in ((NO_SHARED_MEMORY, "delete False"), (NO_LOCKS, "delete True")):
        assert write(path, dict(os.environ), writers=1, first=9) == ["wal False"]
        assert (path.parent / "j-wal").stat().st_size
        assert write(path, built(less, tmp_path)) == [mode] * 4
        assert rows_of(path) == 25
        assert set(os.listdir(path.parent)) <= {"j", "j-shm"}
        os.unlink(path)


@pytest.mark.parametrize("writers", [5, pytest.param(20, marks=pytest.mark.long)])
def test_many_writers_at_once(tmp_path: Path, writers: int) -> None:
    modes = write(tmp_path / "j", dict(os.environ), writers=writers, each=3)
    # Without /proc the type of the file system is not known.
    assert set(modes) == {"wal False" if leaks.has_processes() else "delete False"}
    assert rows_of(tmp_path / "j") == 3 * writers


def test_a_second_journal_takes_no_lock_away_from_the_first(tmp_path: Path) -> None:
    """POSIX locks end with the first descriptor of the file that the process closes."""
    first, second = Journal(tmp_path / "j"), Journal(tmp_path / "j")
    first.rows()
    first.file.execute("PRAGMA journal_mode=DELETE")
    try:
        with first.file.transaction() as database:
            database.execute("UPDATE hosts SET changed = 1")
            reader = threading.Thread(target=second.rows)
            reader.start()
            reader.join(30)
            tried = subprocess.run(
                [sys.executable, "-c", "import sqlite3, sys; "
                 "sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')",
                 tmp_path / "j"],
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert "locked" in tried.stderr, "another process began to write at the same time"
    finally:
        first.close()
        second.close()


def test_a_full_disk_is_said_and_nothing_is_half_written(journal: Journal) -> None:
    journal.open_row(row())
    pages = journal.file.execute("PRAGMA page_count")[0][0]
    journal.file.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(ConfigurationError, match="disk is full") as caught:
        journal.open_row(row("more", directory="/" + "d" * 20_000))
    assert [one.token for one in journal.rows()] == ["t1"]
    assert journal.path in str(caught.value)
    assert caught.value.sent == "no"
    assert journal.check()[1] == []


def test_a_damaged_one_is_named_and_never_replaced(journal: Journal) -> None:
    for number in range(300):
        journal.open_row(row(f"t{number}", directory="/" + "d" * 200))
    journal.close()
    path = Path(journal.path)
    data = bytearray(path.read_bytes())
    data[8192:] = b"\xff" * (len(data) - 8192)
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match="damaged") as caught:
        journal.rows()
    assert str(path) in str(caught.value)
    assert ".recover" in (caught.value.advice or "")
    journal.close()
    assert path.read_bytes() == bytes(data)


def test_one_that_was_moved_away_is_written_no_more(journal: Journal) -> None:
    journal.open_row(row())
    away = Path(journal.path).with_name("away")
    os.rename(journal.path, away)
    journal.open_row(row("new"))
    assert [one.token for one in journal.rows()] == ["new"]
    assert rows_of(Path(journal.path)) == 1


OLD_SCHEMA = """
CREATE TABLE submissions (host TEXT NOT NULL, token TEXT NOT NULL, digest TEXT NOT NULL,
 scheduler TEXT NOT NULL, directory TEXT NOT NULL, name TEXT, job_id TEXT, state TEXT NOT NULL,
 reason TEXT, exit_code INTEGER, nodes TEXT, stdout_path TEXT, stderr_path TEXT,
 opened REAL NOT NULL, submitted REAL, changed REAL NOT NULL, PRIMARY KEY (host, token));
INSERT INTO submissions (host, token, digest, scheduler, directory, state, opened, changed)
 VALUES ('h', 'old', 'd', 'slurm', '/d', 'new', 1, 1);
PRAGMA user_version=1;
"""


def test_a_journal_of_an_older_version_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with sqlite3.connect(path) as database:
        database.executescript(OLD_SCHEMA)
    database.close()
    for _ in range(2):
        journal = Journal(path)
        row = journal.by_token("h", "old")
        assert row is not None
        assert (row.stage, row.call, row.place) == (None, None, None)
        journal.close()
    # ...and the older version with it: it names its columns, and looks at the number.
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
        database.execute(
            "INSERT INTO submissions (host, token, digest, scheduler, directory, state, opened, "
            "changed) VALUES ('h', 'older', 'd', 'slurm', '/d', 'new', 1, 1)"
        )
    database.close()


AT_WORK = """
import random, threading, time
from openssh_jobs.cluster.journal import Journal

journal = Journal()

def work():
    while True:
        journal.active("host")

for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(random.random() / 20)
"""


def test_a_program_that_ends_while_threads_read(journal: Journal) -> None:
    """SQLite crashes if a connection is closed under it: 23 of 91 programs did."""
    journal.open_row(row())
    for _ in range(6):
        done = subprocess.run(
            [sys.executable, "-c", AT_WORK], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
