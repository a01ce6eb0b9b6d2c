"""The journal: on disk before anything is sent, for threads, processes and odd names."""

from __future__ import annotations

import gc
import os
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from openssh_jobs.cluster import journal as module
from openssh_jobs.cluster.journal import Journal, Row
from openssh_jobs.errors import ConfigurationError


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "deep" / "journal.sqlite")
    yield made
    made.close()


def row(token: str = "t1", **facts: object) -> Row:
    values: dict[str, object] = {
        "host": "h",
        "token": token,
        "digest": "d",
        "scheduler": "slurm",
        "directory": "/d",
        **facts,
    }
    return Row(**values)  # type: ignore[arg-type]


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
    assert first.opened == 0, "a new row is told from an old one by this"
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
    database = dropped._connection
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


@pytest.mark.parametrize("what", ["a directory", "no database", "of the future"])
def test_what_cannot_be_used_is_said_so(tmp_path: Path, what: str) -> None:
    path = tmp_path / "journal"
    if what == "a directory":
        path.mkdir()
    elif what == "no database":
        path.write_text("this is no database, it is a text of some length\n" * 30)
    else:
        database = sqlite3.connect(path)
        database.execute("PRAGMA user_version=99")
        database.close()
    with pytest.raises(ConfigurationError, match=str(path)):
        Journal(path).rows()


def test_the_file_system_decides_how_it_is_kept(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mode() -> str:
        journal.rows()
        assert journal._connection is not None
        return str(journal._connection.execute("PRAGMA journal_mode").fetchone()[0])

    known = module._file_system(str(Path(journal.path).parent.parent))
    assert mode() == ("wal" if known in module._LOCAL_FILE_SYSTEMS else "delete")
    journal.close()
    monkeypatch.setattr(module, "_file_system", lambda _: "nfs4")
    assert mode() == "delete"


def test_each_client_machine_has_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    here = Path(module.default_path())
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    assert here.is_relative_to(tmp_path)
    assert Path(module.default_path()) != here
