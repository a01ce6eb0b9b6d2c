"""The job of a lost answer found by its token: Grid Engine, and Slurm that plays Torque."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from openssh_jobs.cluster import attempt
from openssh_jobs.errors import ConnectionLost, SubmitUnknown
from tests.lab import wrappers
from tests.lab.gridengine import GridEngineLab, open_grid_room
from tests.lab.room import Room, open_room
from tests.lab.site import Host
from tests.lab.slurm import SlurmLab

TEXT = 'echo "${JOB_ID:-$SLURM_JOB_ID}" >>ran'


@pytest.fixture
def grid(sshd: Host, gridengine: GridEngineLab, tmp_path: Path) -> Iterator[Room]:
    with open_grid_room(sshd, gridengine, tmp_path) as room:
        yield room


@pytest.fixture
def torque(sshd: Host, slurm: SlurmLab, tmp_path: Path, lab_directory: Path) -> Iterator[Room]:
    prologue = wrappers.prologue(lab_directory)
    with open_room(sshd, "torque", slurm, tmp_path, prologue=prologue) as room:
        yield room


def lose(room: Room, monkeypatch: pytest.MonkeyPatch, *, job: bool, **asked: object) -> Path:
    """A submission whose answer and result are lost; ``job``: the command was carried out.

    Its private directory on the host.
    """
    client = room.cluster.internal.client
    real = client.run_sh

    def and_cut(script: bytes, timeout: float, *, once: bool = False, **_: object) -> object:
        if once:
            if job:
                real(script, timeout, once=True)
            raise ConnectionLost("cut", sent="maybe")
        return real(script, timeout)

    with monkeypatch.context() as patch:
        patch.setattr(client, "run_sh", and_cut)
        with pytest.raises(SubmitUnknown):
            room.submit(TEXT, token="lost", **asked)
    row = room.cluster.journal.by_token(room.cluster.host, "lost")
    assert row is not None
    place = Path(row.place or "")
    if job:
        (place / "result-1").unlink()
    return place


@pytest.mark.parametrize("name", ["grid", "torque"])
def test_a_waiting_job_is_found(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    room: Room = request.getfixturevalue(name)
    lose(room, monkeypatch, job=True, hold=True)
    (job,) = room.cluster.recover()
    waiting = [one.job_id for one in room.cluster.jobs() if one.state.is_active]
    assert waiting == [job.id]
    assert job.token == "lost"
    job.cancel()


def test_grid_engine_without_the_job_submits_it(
    grid: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = grid.submit("true")
    before.wait(timeout=60)
    place = lose(grid, monkeypatch, job=False)
    began = int(grid.cluster.internal.client.host_time())
    # Jobs that were submitted in the minute before it count, too: there are some of other tests.
    text = f"nonce 0\nwhere gone\ngroup 1\nbegan {began + 61}\ndeadline {began}\n.\n"
    grid.host.make(str((place / "attempt-1").relative_to(grid.host.home)), text.encode())
    monkeypatch.setattr(attempt, "_CLOCKS_DIFFER", 0.0)
    (job,) = grid.cluster.recover()
    assert job.wait(timeout=90).exit_code == 0
    assert (grid.path / "ran").read_text().split() == [job.id]


def test_grid_engine_with_an_ended_job_without_owner_is_unknown(
    grid: Room, gridengine: GridEngineLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = lose(grid, monkeypatch, job=True)
    assert (place / "attempt-1").exists()
    deadline = time.monotonic() + 60
    while gridengine.command("qstat", "-u", grid.host.user).strip():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    with pytest.raises(SubmitUnknown, match="one of the ended jobs"):
        grid.cluster.recover()
