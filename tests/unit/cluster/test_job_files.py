"""``JobFiles``: its shell functions in a real /bin/sh of this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.cluster.job_files import JobFiles, NotRegular
from tests.unit.cluster.fakes import LocalHost

ODD = ("with blank", "new\nline", "-r", "a'b", "$(touch x)", "*", "é")


@pytest.fixture
def host(tmp_path: Path) -> LocalHost:
    tmp_path.chmod(0o700)
    return LocalHost(tmp_path)


@pytest.fixture
def files(host: LocalHost) -> JobFiles:
    connection: Any = host
    return JobFiles(connection, "here")


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_made_and_removed(host: LocalHost, files: JobFiles, name: str) -> None:
    directory = str(host.home / name / name)
    made = files.create(directory, "t1", "c1", None, "job")
    assert made == (f"{directory}/.openssh_jobs/t1", True)
    assert os.listdir(made.path) == [".oj-mark"]
    assert files.undo(directory, "t1", "c1")
    assert os.listdir(host.home / name) == []
    assert host.used == ["call", "call"]


def test_an_undo_by_another_call_removes_nothing(host: LocalHost, files: JobFiles) -> None:
    directory = str(host.home / "job")
    made = files.create(directory, "t1", "c1", None, "job")
    assert files.undo(directory, "t1", "c2"), "that another call's directory stays is no failure"
    assert os.path.exists(made.path)
    files.remove(directory, "t1")
    assert os.listdir(directory) == [".oj-made-c1"]


def test_what_cannot_be_removed_is_a_failure(
    host: LocalHost, files: JobFiles, caplog: pytest.LogCaptureFixture
) -> None:
    directory = host.home / "job"
    directory.mkdir()
    (directory / ".oj-made-c1").write_text("put")
    host.program("find", "exit 1")
    assert not files.undo(str(directory), "t1", "c1")
    assert "is left as it is" in caplog.text


def test_a_private_directory_that_stays_is_a_failure(host: LocalHost, files: JobFiles) -> None:
    (host.home / "job").mkdir()
    made = files.create(str(host.home / "job"), "t1", "c1", None, "job")
    host.program("rm", "exit 1")
    assert not files.undo(str(host.home / "job"), "t1", "c1")
    assert os.path.exists(made.path)


def test_a_file_in_the_way(host: LocalHost, files: JobFiles) -> None:
    (host.home / "job").touch()
    with pytest.raises(NotADirectoryError):
        files.create(str(host.home / "job"), "t1", "c1", None, "job")


def test_a_private_file_is_new_and_of_its_owner(host: LocalHost, files: JobFiles) -> None:
    path = host.home / "a b"
    files.write_private(str(path), b"x=\xff\0")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"x=\xff\0", 0o600)
    with pytest.raises(OSError, match="xists"):
        files.write_private(str(path), b"y")
    assert path.read_bytes() == b"x=\xff\0"


def test_a_script_is_moved_and_others_are_written(host: LocalHost, files: JobFiles) -> None:
    home = host.home
    (home / "job").write_text("mine")
    files.wrap(f"{home}/job", f"{home}/.script/job", {f"{home}/n w": b"%s\n", f"{home}/job": b"-n"})
    assert (home / ".script/job").read_text() == "mine"
    assert ((home / "n w").read_bytes(), (home / "job").read_bytes()) == (b"%s\n", b"-n")
    with pytest.raises(FileExistsError):
        files.wrap(f"{home}/job", f"{home}/.script/job", {})


def test_only_what_lies_in_a_private_directory_is_read(host: LocalHost, files: JobFiles) -> None:
    directory = str(host.home / "job")
    made = files.create(directory, "t1", "c1", None, "job")
    assert files.read_private(directory, "t1", "owner") == ""
    assert files.read_private(directory, "t2", "owner") == ""
    Path(made.path, "owner").write_text("7\n" + "x" * 300)
    assert files.read_private(directory, "t1", "owner") == "7\n" + "x" * 254
    os.chmod(made.path, 0o777)
    assert files.read_private(directory, "t1", "owner") == ""


def test_output_is_read_from_an_offset_on(host: LocalHost, files: JobFiles) -> None:
    path = host.home / "out"
    path.write_bytes(b"0123456789")
    assert files.read_from(str(path), 0, 4) == (10, b"0123")
    assert files.read_from(str(path), 8, 4) == (10, b"89")
    assert files.read_from(str(path), 10, 4) == (10, b"")
    assert files.read_from(str(path), 11, 4) == (10, b"")
    (host.home / "b").touch()
    assert files.read_from(str(host.home), 2, 4, ["a", "out", "b"]) == (10, b"2345")
    with pytest.raises(FileNotFoundError, match="/z"):
        files.read_from(str(host.home), 0, 4, ["a", "z"])
    with pytest.raises(NotRegular) as caught:
        files.read_from("/dev/null", 0, 4)
    assert caught.value.path == "/dev/null"
