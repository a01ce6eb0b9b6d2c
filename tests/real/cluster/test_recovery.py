"""Submissions without an answer, over ssh: with no scheduler, and to a real Slurm."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.cluster import attempt
from openssh_jobs.errors import ConnectionLost, SubmitRejected, SubmitUnknown
from tests.lab.room import Room, open_room
from tests.lab.site import Host
from tests.lab.slurm import SlurmLab

LOST = ConnectionLost("cut", sent="maybe")


@pytest.fixture
def room(request: pytest.FixtureRequest, sshd: Host, tmp_path: Path) -> Iterator[Room]:
    slurm = request.getfixturevalue("slurm") if request.param == "slurm" else None
    with open_room(sshd, request.param, slurm, tmp_path) as room:
        yield room


both = pytest.mark.parametrize("room", ["slurm", "direct"], indirect=True)
only_slurm = pytest.mark.parametrize("room", ["slurm"], indirect=True)
only_direct = pytest.mark.parametrize("room", ["direct"], indirect=True)


class Cut:
    """A link that is lost before or after the submit command has been carried out."""

    def __init__(self, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client = room.cluster.internal.client
        self.real = self.client.run_sh
        self.sent: list[bytes] = []
        self.carries_out = True
        monkeypatch.setattr(self.client, "run_sh", self.run)

    def run(self, script: bytes, timeout: float, *, once: bool = False, **_: Any) -> Any:
        if not once:
            return self.real(script, timeout)
        self.sent.append(script)
        if self.carries_out:
            self.real(script, timeout, once=once)
        raise LOST

    def mend(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(self.client, "run_sh", self.real)


def ran(room: Room) -> list[str]:
    ledger = room.path / "ran"
    return ledger.read_text().split() if ledger.exists() else []


TEXT = "echo ${SLURM_JOB_ID:-$OPENSSH_JOBS_ID} >>ran"


@both
@pytest.mark.parametrize("carried_out", [True, False])
def test_recover_finds_or_submits(
    room: Room, monkeypatch: pytest.MonkeyPatch, carried_out: bool
) -> None:
    cut = Cut(room, monkeypatch)
    cut.carries_out = carried_out
    with pytest.raises(SubmitUnknown):
        room.submit(TEXT, token="lost")
    cut.mend(monkeypatch)
    (job,) = room.cluster.recover()
    assert job.wait(timeout=60).exit_code == 0
    assert ran(room) == [job.id]
    assert room.submit(TEXT, token="lost").id == job.id
    assert room.cluster.recover() == []
    late = cut.real(cut.sent[0], 60, once=True)
    assert " end 0 125\n" in late.stdout, late
    assert ": taken\n" in late.stdout
    time.sleep(1)
    assert ran(room) == [job.id]


@only_direct
def test_of_two_attempts_without_a_scheduler_one_job_does_the_work(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = Cut(room, monkeypatch)
    cut.carries_out = False
    with pytest.raises(SubmitUnknown):
        room.submit(TEXT, token="twice")
    cut.mend(monkeypatch)
    (row,) = room.cluster.journal.rows()
    order = attempt.Order.of(row.request or "")
    ids: list[str] = []

    def submit(number: int) -> None:
        (job_id,) = attempt.Attempts(cut.client, [(row, order)], number).run()
        assert isinstance(job_id, str)
        ids.append(job_id)

    threads = [threading.Thread(target=submit, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 1
    assert len(ids) == 3
    (job,) = room.cluster.recover()
    assert job.id == ids[0]
    job.wait(timeout=60)
    assert ran(room) == [job.id]
    assert [status.job_id for status in room.cluster.jobs()] == [job.id], "no record of the others"


@only_slurm
def test_a_controller_that_answers_too_late(room: Room, slurm: SlurmLab) -> None:
    slurm.controller.freeze()
    try:
        with pytest.raises(SubmitUnknown, match="Socket timed out"):
            room.submit(TEXT, token="slow")
        with pytest.raises(SubmitUnknown) as caught:
            room.cluster.recover()
        assert caught.value.tokens == ("slow",)
    finally:
        slurm.controller.thaw()
    slurm.wait_until_ready()
    (job,) = room.cluster.recover()
    job.wait(timeout=60)
    assert ran(room) == [job.id]


@only_slurm
def test_what_is_refused_or_gone_is_reported(
    room: Room, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cut = Cut(room, monkeypatch)
    with pytest.raises(SubmitUnknown):
        room.submit(TEXT, token="refused", queue="nosuch")
    with pytest.raises(SubmitUnknown):
        room.submit(TEXT, token="refused-2", queue="nosuch")
    cut.carries_out = False
    with pytest.raises(SubmitUnknown):
        room.submit(TEXT, token="good")
    cut.mend(monkeypatch)
    with pytest.raises(SubmitRejected, match="invalid partition"):
        room.submit(TEXT, token="refused-2", queue="nosuch")
    (job,) = room.cluster.recover()
    assert job.token == "good"
    assert "invalid partition specified: nosuch" in caplog.text
    job.wait(timeout=60)
    assert [row.token for row in room.cluster.journal.rows()] == ["good"]


@only_slurm
def test_a_held_array_that_was_cancelled_at_once_is_found(
    room: Room, slurm: SlurmLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = Cut(room, monkeypatch)
    with pytest.raises(SubmitUnknown):
        room.submit(TEXT, token="array", array="1-4%2", hold=True)
    cut.mend(monkeypatch)
    (row,) = room.cluster.journal.rows()
    Path(row.place or "", "result-1").unlink()
    slurm.command("scancel", "-u", room.host.user)
    (job,) = room.cluster.recover()
    listed = slurm.command("squeue", "-h", "-t", "all", "-j", job.id, "-o", "%T %o")
    assert set(listed.split("\n")[:-1]) == {f"CANCELLED {row.place}/job"}


@only_direct
def test_the_command_line(room: Room, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from openssh_jobs.cluster.journal import Journal
    from tests.cli import program

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    room.cluster.journal.file.path = Journal().path
    cut = Cut(room, monkeypatch)
    cut.carries_out = False
    with pytest.raises(SubmitUnknown):
        room.submit(TEXT, token="by-hand")
    options = ["-F", str(room.host.config), "--scheduler", "direct"]
    done = program("recover", *options, "--json")
    assert done.code == 0, done
    (said,) = done.data["submissions"]
    assert (said["token"], said["state"], said["job_id"]) == ("by-hand", "submitted", "1")
    again = program("recover", *options, room.host.alias)
    assert (again.code, again.out, again.err) == (0, "", "")
    cut.mend(monkeypatch)
