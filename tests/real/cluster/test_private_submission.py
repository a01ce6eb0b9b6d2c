"""Submissions and transfers beside hostile neighbours and killed clients, over a real ssh."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Cluster, Connection, JobState
from openssh_jobs.cluster.journal import Row
from openssh_jobs.cluster.submitted import Keeper
from openssh_jobs.errors import (
    InputError,
    SchedulerError,
    SubmitUnknown,
)
from openssh_jobs.openssh import pid_file
from tests.helpers import PYTHON, run_client, start_client
from tests.lab.room import Room, open_room
from tests.lab.site import Host
from tests.real.cluster.neighbours import MALLORY, as_mallory, two_users


@pytest.fixture
def room(sshd: Host, tmp_path: Path) -> Iterator[Room]:
    with open_room(sshd, "direct", None, tmp_path) as room:
        yield room


# -- jobs in a directory of others --------------------------------------------------------------


@two_users
@pytest.mark.parametrize("mode", [0o1777, 0o777])
def test_a_job_among_others(
    room: Room, shared: Path, tmp_path: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    shared.chmod(mode)
    results = room.path / "results" / "run1"
    room.make("results/run1/thesis", "three years of work")
    as_mallory(f"ln -s {room.path}/results .openssh_jobs", shared)
    job = room.cluster.submit(
        script_text='#!/bin/sh\necho "$SECRET"\nexit 3\n',
        directory=str(shared),
        env={"SECRET": "hunter2"},
        token="run1",
    )
    private = room.host.home / ".openssh_jobs" / "run1"
    assert str(private) in caplog.text
    assert str(shared) in caplog.text
    assert str(shared) in (private / ".oj-mark").read_text()
    assert job.wait(timeout=30).exit_code == 3
    assert list(job.tail()) == ["hunter2\n"]
    row = room.cluster.journal.by_token(room.cluster.host, "run1")
    assert row is not None
    assert row.place == str(private)
    assert sorted(os.listdir(results)) == ["thesis"]
    job.fetch(tmp_path / "back")
    assert (results / "thesis").read_text() == "three years of work"
    assert not private.exists()


@two_users
def test_without_a_private_place_nothing_is_submitted(room: Room, shared: Path) -> None:
    room.host.home.chmod(0o777)
    try:
        with pytest.raises(PermissionError, match="others can change") as caught:
            room.cluster.submit(script_text="#!/bin/sh\n", directory=str(shared), token="t1")
    finally:
        room.host.home.chmod(0o755)
    assert str(shared) in str(caught.value)
    assert list(shared.iterdir()) == []
    assert room.cluster.journal.by_token(room.cluster.host, "t1") is None
    assert room.submit(token="t1").wait(timeout=30).state is JobState.COMPLETED


@two_users
def test_records_of_direct_in_a_home_that_was_taken_over(room: Room) -> None:
    job = room.submit("sleep 300")
    direct = room.host.home / ".openssh_jobs" / "direct"
    direct.chmod(0o777)
    try:
        (direct / job.id / "exit").write_text("code 0\nended 1\nwhy \n")
        with pytest.raises(SchedulerError, match="others can change") as caught:
            room.cluster.jobs()
        assert caught.value.kind == "permission"
    finally:
        (direct / job.id / "exit").unlink()
        direct.chmod(0o700)
    assert job.cancel() == "requested"


def test_files_of_another_submission_with_this_token_are_not_used(room: Room) -> None:
    room.make(".openssh_jobs/t1/job", "echo planted")
    with pytest.raises(SubmitUnknown, match="earlier submission"):
        room.submit(token="t1", name="job")
    assert (room.path / ".openssh_jobs/t1/job").read_text() == "echo planted"
    assert room.cluster.journal.by_token(room.cluster.host, "t1") is None


def test_a_directory_that_cannot_be_used_is_named(room: Room, tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    closed = room.path / "closed"
    room.make("closed/f", "f")
    closed.chmod(0)
    try:
        for directory in ("/", str(closed)):
            with pytest.raises(PermissionError, match=f"Permission denied: '{directory}'"):
                room.submit(directory=directory)
    finally:
        closed.chmod(0o755)
    with pytest.raises(OSError, match=r"'/'"):
        room.submit(directory="/", upload=tmp_path / "input")


def test_a_name_of_our_own_is_refused(room: Room) -> None:
    with pytest.raises(InputError, match="reserved"):
        room.cluster.submit("in/.oj-mark", directory=room.here)


# -- what an undo removes -----------------------------------------------------------------------


@pytest.mark.parametrize("uploaded", [True, False])
def test_an_undo_leaves_another_runs_directory(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uploaded: bool
) -> None:
    """While this call fails, another run has put its own directory in the place of ours."""
    source = tmp_path / "input"
    source.mkdir()
    (source / "data").write_text("mine")
    target = room.path / "work"

    def swapped(*_: Any, **_more: Any) -> None:
        target.rename(room.path / "moved")
        room.make("work/results", "of the other run")
        raise OSError("no")

    monkeypatch.setattr(Keeper, "kept_of", swapped)  # the directories are made
    asked: dict[str, Any] = {"upload": source} if uploaded else {}
    with pytest.raises(OSError, match="no"):
        room.submit(directory=str(target), token="t1", **asked)
    assert (target / "results").read_text() == "of the other run"


@pytest.mark.parametrize("uploaded", [True, False])
def test_an_undo_leaves_nothing_of_its_own(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uploaded: bool
) -> None:
    (tmp_path / "input" / "deep").mkdir(parents=True)

    def fails(*_: Any, **_more: Any) -> None:
        raise OSError("no")

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "kept_of", fails)
        asked: dict[str, Any] = {"upload": tmp_path / "input"} if uploaded else {}
        with pytest.raises(OSError, match="no"):
            room.submit(directory=f"{room.here}/work", token="t1", **asked)
    assert list(room.path.iterdir()) == []
    job = room.submit(directory=f"{room.here}/work", token="t1", **asked)
    assert job.wait(timeout=30).state is JobState.COMPLETED
    assert [path.name for path in (room.path / "work").glob(".oj-*")] == []


@pytest.mark.parametrize("empty", [True, False])
def test_a_directory_that_appears_meanwhile_stays_as_it_is(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty: bool
) -> None:
    """``mv`` is the moment: on the host it finds a directory that was not there before."""
    source = tmp_path / "input"
    source.mkdir()
    (source / "data").write_text("mine")
    target = room.path / "work"
    made = f"mkdir -p {target}" + ("" if empty else f"; echo x >{target}/theirs")
    late = f'mv() {{ {made}; command mv "$@"; }}; '.encode()
    connection = room.cluster.connection
    call = connection._shell.call
    monkeypatch.setattr(
        connection._shell, "call",
        lambda script, **options: call(late + script if b"mv " in script else script, **options),
    )  # fmt: skip
    with pytest.raises(FileExistsError):
        connection.put(source, str(target))
    monkeypatch.undo()
    assert sorted(os.listdir(target)) == ([] if empty else ["theirs"])
    connection.exists(str(target))  # what was left for later
    assert os.listdir(room.path) == ["work"]


# -- killed clients -----------------------------------------------------------------------------

SUBMIT = """\
import os, sys
from openssh_jobs import Cluster
from openssh_jobs.cluster.job_files import JobFiles
from openssh_jobs.cluster.scheduler_client import SchedulerClient
from openssh_jobs.transfer.tree import TreeMoves
from openssh_jobs.cluster.submission import Submission
from openssh_jobs.cluster.submitter import Submitter
kill = lambda *_, **__: os.kill(os.getpid(), 9)
{patch}
cluster = Cluster(sys.argv[1], ssh_config=sys.argv[2], scheduler="direct", journal=sys.argv[3])
cluster.submit("run.sh", upload=sys.argv[4], directory=sys.argv[5], token="k1")
"""
MOMENTS = {
    "files on their way": "TreeMoves._send = kill",
    "files there": "Submitter._read = kill",
    "directory made": "Submission.order = kill",
}


def killed(room: Room, source: Path, patch: str) -> None:
    done = subprocess.run(
        [*PYTHON, SUBMIT.format(patch=patch), room.host.alias, str(room.host.config),
         room.cluster.journal.path, str(source), f"{room.here}/work"],
        timeout=60, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "input"
    source.mkdir()
    (source / "run.sh").write_text("#!/bin/sh\necho ran >>ran\n")
    return source


@pytest.mark.parametrize("moment", list(MOMENTS))
def test_a_token_can_be_used_again_where_nothing_was_sent(
    room: Room, source: Path, moment: str
) -> None:
    killed(room, source, MOMENTS[moment])
    row = room.cluster.journal.by_token(room.cluster.host, "k1")
    assert row is not None
    with pytest.raises(InputError, match="has not been sent"):
        room.cluster.job(token="k1")
    job = room.cluster.submit("run.sh", upload=source, directory=f"{room.here}/work", token="k1")
    assert job.wait(timeout=30).state is JobState.COMPLETED
    assert (room.path / "work" / "ran").read_text() == "ran\n"
    assert os.listdir(room.path) == ["work"], "the killed one's parts are gone"


def test_a_token_goes_on_where_the_command_may_have_been_sent(room: Room, source: Path) -> None:
    killed(room, source, "SchedulerClient.run = kill")
    with pytest.raises(SubmitUnknown, match="may exist"):
        room.cluster.job(token="k1")
    job = room.cluster.submit("run.sh", upload=source, directory=f"{room.here}/work", token="k1")
    assert job.wait(timeout=30).state is JobState.COMPLETED
    assert (room.path / "work" / "ran").read_text() == "ran\n"


def test_the_token_of_a_call_at_work_is_not_taken(room: Room) -> None:
    journal, host = room.cluster.journal, room.cluster.host
    row: dict[str, Any] = {
        "host": host,
        "token": "t1",
        "digest": "d",
        "scheduler": "direct",
        "directory": "/d",
    }
    other = "1-1-ffffffff-ffffffff"
    for caller in (pid_file.call(), other):
        journal.open_row(Row(**row, stage="asked", call="c", caller=caller))
        with pytest.raises(SubmitUnknown, match="at work"):
            room.submit(token="t1")
        journal.forget(host, "t1")


@pytest.mark.parametrize("what", ["put", "get"])
@pytest.mark.parametrize("kind", ["file", "tree"])
def test_parts_of_a_killed_client_go_with_the_next_transfer(
    room: Room, tmp_path: Path, what: str, kind: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    big, target = (here, room.path) if what == "put" else (room.path, here)
    (big / "tree").mkdir()
    with (big / "tree" / "big").open("wb") as handle:
        handle.truncate(1 << 40)
    name = "tree/big" if kind == "file" else "tree"
    code = "from openssh_jobs.transfer import tar_flavours as tars; "
    code += "tars.keeps_holes = lambda *_: False; "
    code += f"c.{what}({str(big / name)!r}, {str(target / 't')!r}, method='tar')"
    with start_client(code, room.host) as child:
        deadline = time.monotonic() + 20
        while not list(target.glob(".oj-*.part")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1)
        child.kill()
    assert list(target.glob(".oj-*.part"))
    (big / "small").write_text("x")
    os.chown(big / "small", *((big.stat().st_uid, big.stat().st_gid)))
    connection = room.cluster.connection
    getattr(connection, what)(str(big / "small"), str(target / "small"))
    left = list(target.glob(".oj-*"))
    assert left == []
    assert (target / "small").read_text() == "x"


def test_parts_of_the_living_and_of_others_stay(room: Room, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    dead = subprocess.run(
        [*PYTHON, "from openssh_jobs.openssh import pid_file; print(pid_file.call())"],
        capture_output=True, text=True, timeout=30, check=True,
    ).stdout.strip()  # fmt: skip
    pid, _, where = pid_file.call().partition("-")
    elsewhere = "7-7-ffffffff-ffffffff"
    names = {
        f".oj-000000000001.{dead}.part": False,
        f".oj-000000000002.{pid_file.call()}.part": True,
        f".oj-000000000003.{elsewhere}.part": True,
        ".oj-000000000004.part": True,
        f".oj-000000000005.{elsewhere}.part.old": True,
        f".oj-000000000006.{pid}-1-{where.partition('-')[2]}.part": False,
        ".oj-0123456789abcdef.5.17.part": True,
        ".oj-notes.part": True,
    }
    old = {".oj-000000000007.part": False, f".oj-000000000008.{elsewhere}.part": False,
           ".oj-0123456789abcdef.5.18.part": True}  # fmt: skip
    for directory in (here, room.path):
        for name in (*names, *old):
            (directory / name).write_text("x")
            os.chown(directory / name, directory.stat().st_uid, directory.stat().st_gid)
        for name in old:
            os.utime(directory / name, (time.time() - 8 * 86400,) * 2)
    if os.geteuid() == 0:
        for directory in (here, room.path):
            theirs = directory / f".oj-000000000009.{dead}.part"
            theirs.write_text("x")
            os.chown(theirs, MALLORY, MALLORY)
        names[theirs.name] = True
    (here / "f").write_text("f")
    room.cluster.connection.put(here / "f", f"{room.here}/f")
    room.cluster.connection.get(f"{room.here}/f", here / "g")
    stay = {name for name, stays in (names | old).items() if stays}
    for directory in (here, room.path):
        assert {path.name for path in directory.glob(".oj-*")} == stay


# -- calls ----------------------------------------------------------------------------------------


def test_a_call_is_known_when_it_is_over(room: Room) -> None:
    dead = run_client(
        "from openssh_jobs.openssh import pid_file; print(pid_file.call())", room.host
    ).strip()
    assert pid_file.ended(dead) is True
    assert pid_file.ended(pid_file.call()) is False
    pid, started, machine, boot = pid_file.call().split("-")
    assert pid_file.ended(f"{pid}-1{started}-{machine}-{boot}") is True
    assert pid_file.ended(f"{pid}-{started}-{machine}-00000000") is True, (
        "the machine was restarted"
    )
    assert pid_file.ended(f"{pid}-{started}-00000000-{boot}") is None
    for nonsense in ("", "x", "1", "1-2", "a-b-c-d"):
        assert pid_file.ended(nonsense) is None


def test_a_connection_is_enough(room: Room) -> None:
    """The check of a place costs no round trip of its own: one makes it and writes the script."""
    connection = Connection(room.host.alias, ssh_config=room.host.config)
    with Cluster(connection, scheduler="direct", journal=room.cluster.journal) as cluster:
        connection.exists("/")
        before = connection._shell.calls
        cluster.submit(script_text="#!/bin/sh\n", directory=room.here)
        assert connection._shell.calls - before == 1
