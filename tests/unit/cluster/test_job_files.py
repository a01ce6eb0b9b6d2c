"""``JobFiles``: its shell functions in a real /bin/sh of this machine."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.cluster.job_files import (
    HostScript,
    JobFiles,
    NewFiles,
    NotRegular,
    PrivateDirectory,
)
from openssh_jobs.commands.control_shell import ShellAnswer
from openssh_jobs.errors import InvalidAnswer, SchedulerError, SubmitUnknown
from tests.unit.cluster.fakes import LocalHost, make_private

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
    made = make_private(files, directory, "t1", "c1")
    assert made == (f"{directory}/.openssh_jobs/t1", True, True)
    assert os.listdir(made.path) == [".oj-mark"]
    assert files.undo((directory, "t1", "c1")) == [True]
    assert os.listdir(host.home / name) == []
    assert host.used == ["call", "call"]


def test_an_undo_by_another_call_removes_nothing(host: LocalHost, files: JobFiles) -> None:
    directory = str(host.home / "job")
    made = make_private(files, directory, "t1", "c1")
    # That another call's directory stays is no failure.
    assert files.undo((directory, "t1", "c2")) == [True]
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
    assert files.undo((str(directory), "t1", "c1")) == [False]
    assert "is left as it is" in caplog.text


def test_a_private_directory_that_stays_is_a_failure(host: LocalHost, files: JobFiles) -> None:
    (host.home / "job").mkdir()
    made = make_private(files, str(host.home / "job"), "t1", "c1")
    host.program("rm", "exit 1")
    assert files.undo((str(host.home / "job"), "t1", "c1")) == [False]
    assert os.path.exists(made.path)


def test_a_file_in_the_way(host: LocalHost, files: JobFiles) -> None:
    (host.home / "job").touch()
    with pytest.raises(NotADirectoryError):
        make_private(files, str(host.home / "job"), "t1", "c1")


def new(host: LocalHost, token: str, directory: str = "job", **facts: Any) -> NewFiles:
    return NewFiles(directory=f"{host.home}/{directory}", token=token, call_id="c1", **facts)


def test_files_of_many_are_written_in_one_round_trip(host: LocalHost, files: JobFiles) -> None:
    data = {
        "a b": b"x=\xff%s\n\n",
        "-n": b"-n",
        ".script/env": b"A=1\n\0B=\0",
        "same": b"some text'" * 9,
    }
    many = [new(host, f"t{n}", f"job {n % 2}", files=data) for n in (0, 2, 1)]
    made = files.create(many)
    assert [one.is_complete for one in made if isinstance(one, PrivateDirectory)] == [True] * 3
    assert host.used == ["call"]
    assert host.scripts[0].count(b"some text") == 9, "what they have in common goes once"
    for one in many:
        for name, content in data.items():
            path = Path(one.directory, ".openssh_jobs", one.token, name)
            assert (path.read_bytes(), path.stat().st_mode & 0o777) == (content, 0o600)


def test_no_file_is_written_over_another(host: LocalHost, files: JobFiles) -> None:
    files.create([new(host, "t1", files={"job": b"mine"})])
    with pytest.raises(FileExistsError):
        files.put_files([new(host, "t1", files={"job": b"theirs"})])
    with pytest.raises(SubmitUnknown, match="earlier submission"):
        files.create([new(host, "t0"), new(host, "t1")])
    assert (host.home / "job/.openssh_jobs/t1/job").read_text() == "mine"


@pytest.mark.parametrize("place", ["job", ""], ids=["in the job's directory", "in the home"])
@pytest.mark.parametrize("plant", ["link", "file", "open directory"])
def test_what_has_the_name_of_a_token_is_named_and_stays(
    host: LocalHost, files: JobFiles, plant: str, place: str
) -> None:
    (host.home / "job").mkdir()
    (host.home / "job").chmod(0o700 if place else 0o777)
    above = host.home / place / ".openssh_jobs"
    above.mkdir(mode=0o700)
    planted = above / "t1"
    if plant == "link":
        planted.symlink_to(host.home)
    elif plant == "file":
        planted.touch()
    else:
        planted.mkdir()
        planted.chmod(0o777)
    with pytest.raises(SubmitUnknown, match="earlier submission") as caught:
        files.create([new(host, "t1", files={"job": b"mine"})])
    assert f"remove {planted} or" in str(caught.value.advice)
    assert os.listdir(above) == ["t1"]
    assert plant != "open directory" or os.listdir(planted) == []


def test_what_is_no_directory_of_ours_in_the_home_is_named(
    host: LocalHost, files: JobFiles
) -> None:
    (host.home / "job").mkdir()
    (host.home / "job").chmod(0o777)
    (host.home / ".openssh_jobs").touch()
    with pytest.raises(PermissionError, match=r"\.openssh_jobs is not a directory") as caught:
        files.create([new(host, "t1")])
    assert "Remove ~/.openssh_jobs if it is no directory of yours" in str(caught.value)


def test_files_for_another_place_are_written_later(host: LocalHost, files: JobFiles) -> None:
    (host.home / "real").mkdir()
    (host.home / "real").chmod(0o777)
    one = new(host, "t1", "real", files={"job": b"for another place"})
    (made,) = files.create([one])
    assert made == (f"{host.home}/.openssh_jobs/t1", False, False)
    assert os.listdir(f"{host.home}/.openssh_jobs/t1") == [".oj-mark"]
    files.put_files([new(host, "t1", "real", files={"job": b"right"})])
    assert (host.home / ".openssh_jobs/t1/job").read_text() == "right"


def test_scripts_of_the_host_are_read_together(host: LocalHost, files: JobFiles) -> None:
    (host.home / "one").write_bytes(b"1\0\n2")
    (host.home / "long").write_bytes(b"x" * 11)
    names = [f"{host.home}/{name}" for name in ("one", "none", "long", ".")]
    bash, found = files.scripts(names, 10)
    assert bash == os.path.exists("/bin/bash")
    assert list(found.values()) == [(4, b"1\0\n2"), (None, None), (11, None), (None, None)]


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


def test_output_behind_a_link_that_leads_nowhere_is_not_there_yet(
    host: LocalHost, files: JobFiles
) -> None:
    (host.home / "link").symlink_to("later")
    with pytest.raises(FileNotFoundError, match="/link"):
        files.read_from(f"{host.home}/link", 0, 4)
    (host.home / "later").write_bytes(b"0123")
    assert files.read_from(f"{host.home}/link", 1, 4) == (4, b"123")
    (host.home / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="/loop") as caught:
        files.read_from(f"{host.home}/loop", 0, 4)
    assert caught.value.errno == errno.ELOOP
    os.mkfifo(host.home / "fifo")
    (host.home / "other").symlink_to("fifo")
    with pytest.raises(NotRegular):
        files.read_from(f"{host.home}/other", 0, 4)


def test_output_that_comes_between_two_looks_is_read(host: LocalHost, files: JobFiles) -> None:
    host.program("ls", f'printf 0123 >{host.home}/out; PATH=/usr/bin:/bin; exec ls "$@"')
    assert files.read_from(f"{host.home}/out", 1, 4) == (4, b"123")


class Liar:
    """A connection to a host that answers this to every script."""

    def __init__(self, stdout: bytes) -> None:
        self.internal = self
        self._answer = ShellAnswer(0, stdout, b"")

    def call(self, script: bytes, again: bool = False) -> ShellAnswer:
        mark = re.findall(rb"OJU\+[0-9a-f]{16}", script)
        return self._answer._replace(stdout=self._answer.stdout.replace(b"OJU", (mark or [b""])[0]))


@pytest.mark.parametrize("size", [b"", b"9" * 5000, "\u00b2".encode(), b"-1", b"1_0"])
def test_a_size_that_is_none_is_an_error_of_the_host(size: bytes) -> None:
    connection: Any = Liar(size + b"\ncontent")
    files = JobFiles(connection, "there")
    with pytest.raises(SchedulerError, match="there: no answer on the size of out"):
        files.read_from("out", 0, 100)
    assert files.scripts(["a", "b"], 100)[1] == {name: HostScript(None, None) for name in "ab"}


def test_more_bytes_than_were_asked_for_are_not_taken() -> None:
    connection: Any = Liar(b"7\ncontent")
    assert JobFiles(connection, "there").read_from("out", 0, 3) == (7, b"con")


def test_more_answers_than_questions_are_the_answers_to_none() -> None:
    connection: Any = Liar(b"OJU 0\nOJU 0\n")
    assert JobFiles(connection, "there").undo(("directory", "t1", "c1")) == [False]
    connection = Liar(b"made\0/x\0\0made\0" * 2)
    new = NewFiles(directory="directory", token="t1", call_id="c1")
    with pytest.raises(InvalidAnswer, match="answered for 2 directories of 1"):
        JobFiles(connection, "there").create([new])
