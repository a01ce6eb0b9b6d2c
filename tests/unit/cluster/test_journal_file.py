"""The journal's file: after a fork, dropped, damaged, of other versions, on file systems."""

from __future__ import annotations

import gc
import os
import socket
import sqlite3
import warnings
from pathlib import Path

import pytest

from openssh_jobs.cluster import journal_file as module
from openssh_jobs.cluster.journal import Journal
from openssh_jobs.errors import ConfigurationError

from .fakes import row


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
