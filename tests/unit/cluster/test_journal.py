"""The journal: on disk before anything is sent, for threads, processes and odd names."""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.cluster.journal import Journal
from tests.lab import parts

from .fakes import row


def test_a_row_is_on_disk_when_the_call_returns(journal: Journal) -> None:
    journal.open_row(row())
    other = Journal(journal.path)
    try:
        found = other.by_token("h", "t1")
        assert found is not None
        assert (found.state, found.job_id, found.directory) == ("new", None, "/d")
        assert found.opened > 0
    finally:
        other.close()


def test_the_same_token_gives_back_the_first_row(journal: Journal) -> None:
    first = journal.open_row(row(digest="one"))
    assert first.opened == 0, "this tells a new row from an old one"
    second = journal.open_row(row(digest="two"))
    assert (second.digest, second.opened > 0) == ("one", True)
    assert journal.open_row(row(host="other", digest="two")).opened == 0


def test_only_its_owner_can_read_it(journal: Journal) -> None:
    journal.open_row(row())
    path = Path(journal.path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_changes_add_up_and_unknown_facts_are_refused(journal: Journal) -> None:
    journal.open_row(row())
    journal.change("h", "t1", job_id="7", state="pending")
    journal.change("h", "t1", state="failed", exit_code=3)
    found = journal.by_job("h", "7")
    assert found is not None
    assert (found.token, found.state, found.exit_code) == ("t1", "failed", 3)
    with pytest.raises(TypeError, match="colour"):
        journal.change("h", "t1", colour="red")
    assert journal.by_job("other", "7") is None


def test_an_id_that_comes_again_is_the_newest_job(journal: Journal) -> None:
    for token in ("old", "new"):
        journal.open_row(row(token))
        journal.change("h", token, job_id="1")
    found = journal.by_job("h", "1")
    assert found is not None
    assert found.token == "new"
    assert [one.token for one in journal.rows("h")] == ["new", "old"]
    journal.forget("h", "new")
    assert [one.token for one in journal.rows()] == ["old"]


@pytest.mark.parametrize("name", ["a'b\"c\n$(d)", "é€", os.fsdecode(b"bad \xff\xfe"), "\udcff"])
def test_any_name_comes_home_the_same(journal: Journal, name: str) -> None:
    journal.open_row(row(directory=f"/{name}", name=name))
    journal.change("h", "t1", stdout_path=f"/{name}/out", job_id="1")
    found = journal.by_token("h", "t1")
    assert found is not None
    assert (found.directory, found.name, found.stdout_path) == (f"/{name}", name, f"/{name}/out")
    assert journal.rows()[0] == found


def test_a_scheduler_is_remembered_by_host(journal: Journal) -> None:
    assert journal.scheduler_of("h") is None
    journal.remember_scheduler("h", "slurm")
    journal.remember_scheduler("h", "direct")
    assert (journal.scheduler_of("h"), journal.scheduler_of("i")) == ("direct", None)
    journal.remember_scheduler("h", None)
    assert journal.scheduler_of("h") is None


def test_threads_share_it(journal: Journal) -> None:
    new: list[str] = []

    def work(number: int) -> None:
        for step in range(10):
            made = journal.open_row(row(f"t{step}"))
            if not made.opened:
                new.append(made.token)
            journal.change("h", f"t{step}", reason=f"thread {number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(new) == sorted(f"t{step}" for step in range(10)), "each opened exactly once"
    assert len(journal.rows()) == 10


PROCESS = """
import sys
from openssh_jobs.cluster.journal import Journal, Row
journal = Journal(sys.argv[1])
made = [
    journal.open_row(Row(host="h", token=f"t{n}", digest=sys.argv[2], scheduler="s", directory="/"))
    for n in range(20)
]
print(sum(not one.opened for one in made))
"""


def test_processes_share_it(journal: Journal) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-Werror", "-c", PROCESS, journal.path, str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    ended = [(*one.communicate(timeout=60), one.returncode) for one in running]
    assert [(err, code) for _, err, code in ended] == [("", 0)] * 4
    assert sum(int(out) for out, _, _ in ended) == 20, "each token was new to exactly one process"
    assert len(journal.rows()) == 20


def _memory_of_sqlite() -> Callable[[], int]:
    """The bytes that SQLite has allocated in this process."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "libsqlite3" in line:
            counted = ctypes.CDLL(line.split(maxsplit=5)[-1]).sqlite3_memory_used
            counted.restype = ctypes.c_longlong
            return lambda: int(counted())
    pytest.skip("SQLite is no library of its own here")


def test_the_memory_of_a_journal_does_not_grow_with_it(journal: Journal) -> None:
    parts.require_proc()
    journal.rows()
    used = _memory_of_sqlite()
    before = used()
    with journal.file.transaction():
        for number in range(1500):
            journal.open_row(row(f"t{number}"))
            journal.change("h", f"t{number}", job_id=str(number), request="r" * 1500)
    assert len(journal.rows()) == 1500
    size = os.path.getsize(journal.path) + os.path.getsize(f"{journal.path}-wal")
    assert size > 2_500_000, "more than SQLite keeps by default"
    assert used() - before < 700_000


# -- 100,000 jobs ---------------------------------------------------------------------------------


_MANY = """
WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 99999)
INSERT INTO submissions
    (host, token, digest, scheduler, directory, name, job_id, state, opened, changed)
SELECT 'h' || (n % 4), 't' || n, '', 'slurm', '/d', 'n' || (n % 10),
    CASE n % 50000 WHEN 0 THEN NULL ELSE CAST(n AS TEXT) END,
    CASE n % 100 WHEN 0 THEN 'failed' ELSE 'completed' END, n, n
FROM numbers
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journal]:
    """Jobs of four hosts, one a second; every hundredth failed, two have no answer."""
    made = Journal(tmp_path_factory.mktemp("many") / "journal.sqlite")
    with made.file.transaction() as database:
        database.execute(_MANY)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [
        ({"limit": 3}, [99_999, 99_998, 99_997]),
        ({"limit": 2, "host": "h1"}, [99_997, 99_993]),
        ({"since": 99_998.0}, [99_999, 99_998]),
        ({"since": 99_990.0, "host": "h1"}, [99_997, 99_993]),
        ({"limit": 2, "states": ["failed", "timeout"]}, [99_900, 99_800]),
        ({"limit": 2, "states": ["failed"], "host": "h0"}, [99_900, 99_800]),
        ({"limit": 2, "name": "n[34]*"}, [99_994, 99_993]),
        ({"is_open": True}, [50_000, 0]),
        ({"is_open": True, "host": "h0"}, [50_000, 0]),
        ({"is_open": True, "host": "h1"}, []),
    ],
)
def test_no_more_is_read_than_what_is_wanted(
    many: Journal, asked: dict[str, Any], numbers: list[int]
) -> None:
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    with many.file.transaction() as database:
        database.set_progress_handler(count, 10)
        try:
            found = [int(row.token[1:]) for row in many.rows(**asked)]
        finally:
            database.set_progress_handler(None, 0)
    assert found == numbers
    # Of SQLite's virtual machine, some ten a row: all rows would be 400,000 at least.
    assert steps * 10 < 5_000
