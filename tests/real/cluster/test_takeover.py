"""Jobs of one machine that another one goes on with, and what is not taken over."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from openssh_jobs import Cluster, JobState
from tests.lab.room import Room
from tests.real.cluster.neighbours import as_mallory, two_users
from tests.real.cluster.test_tidy import another_machine, laptop, room, slurm_room

__all__ = ["laptop", "room", "slurm_room"]


def test_a_laptop_goes_on_with_the_jobs_of_a_desktop(
    room: Room, laptop: Cluster, tmp_path: Path
) -> None:
    ended = room.submit("echo one", name="first", directory=f"{room.here}/a/b")
    running = room.submit("echo two; sleep 300", name="second", directory=f"{room.here}/c")
    elsewhere = room.submit("true", directory=f"{room.host.home}")
    room.cluster.wait([ended, elsewhere], timeout=30)
    room.until_state(running, "running")
    jobs = {job.id: job for job in laptop.recover(room.here)}
    assert set(jobs) == {ended.id, running.id}
    assert jobs[ended.id].wait(timeout=30).exit_code == 0
    assert (jobs[ended.id].name, jobs[ended.id].token) == ("first", ended.token)
    assert list(jobs[ended.id].tail()) == ["one\n"]
    assert jobs[running.id].status().state is JobState.RUNNING
    assert jobs[running.id].cancel() == "requested"
    jobs[running.id].wait(timeout=30)
    assert {job.id for job in laptop.recover(room.here)} == set(jobs), "nothing new"
    assert len(laptop.journal.rows()) == 2
    jobs[ended.id].fetch(tmp_path / "back")
    assert len(laptop.tidy().removed) == 2, "the other one: its directory and its record"
    assert room.private() == []
    elsewhere.tidy()


def test_the_jobs_of_slurm_are_checked_against_the_queue(
    slurm_room: Room, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    room = slurm_room
    slurm = room.slurm
    assert slurm is not None
    jobs = {name: room.submit("sleep 300", name=name) for name in ("good", "theirs", "mine")}
    for job in jobs.values():
        room.until_state(job, "running")
    script = Path(os.environ["TMPDIR"]) / "bob.sh"
    script.write_text("#!/bin/sh\nsleep 300\n")
    script.chmod(0o755)
    sbatch = ("sbatch", "--parsable", "-D", "/tmp", "-o", "/dev/null")
    bobs = slurm.command(*sbatch, str(script), user="hpcbob").strip()
    by_hand = slurm.command(*sbatch, str(script), user="hpcalice").strip()
    try:
        for name, forged in (("theirs", bobs), ("mine", by_hand)):
            place = room.path / ".openssh_jobs" / str(jobs[name].token)
            for path in place.glob("result-*"):
                path.unlink()
            room.make(str((place / "owner").relative_to(room.path)), forged + "\n")
        with another_machine(room, tmp_path) as laptop:
            found = laptop.recover(room.here)
            assert [job.id for job in found] == [jobs["good"].id]
            assert found[0].status().state is JobState.RUNNING
            assert found[0].name == "good"
            assert "belongs to hpcbob" in caplog.text
            assert f"it runs {script}" in caplog.text
            assert len(laptop.journal.rows()) == 1
    finally:
        slurm.command("scancel", bobs, by_hand)
        script.unlink()


# -- hostile neighbours -------------------------------------------------------------------------


@two_users
@pytest.mark.parametrize("mode", [0o1777, 0o777])
def test_what_neighbours_plant_is_not_taken_over(
    room: Room, shared: Path, tmp_path: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    shared.chmod(mode)
    job = room.submit("true", directory=str(shared), name="ours")
    job.wait(timeout=30)
    row = room.cluster.journal.by_token(room.cluster.host, str(job.token))
    assert row is not None
    assert row.place is not None
    for name in ("theirs", "copied"):
        as_mallory(
            f"mkdir -p {name}/.openssh_jobs/t1 && cd {name}/.openssh_jobs/t1 && echo 1 >owner && "
            f"printf 'openssh_jobs x\\n%s\\n.' {shared}/{name} >.oj-mark",
            shared,
        )
    as_mallory(f"mkdir linked && ln -s {room.host.home}/.openssh_jobs linked/.openssh_jobs", shared)
    mine = shared / "copy"
    shutil.copytree(row.place, mine / ".openssh_jobs" / "t2")
    for path in (mine, *mine.rglob("*")):
        shutil.chown(path, room.host.user, room.host.user)
    mine.chmod(0o755)
    with another_machine(room, tmp_path) as laptop:
        assert [found.id for found in laptop.recover(str(shared))] == [job.id]
        assert [row.token for row in laptop.journal.rows()] == [job.token]
    assert f"{shared}/theirs/.openssh_jobs is not taken over" in caplog.text
    assert f"{shared}/linked" not in caplog.text
    if mode == 0o1777:
        assert f"its mark names another directory: {shared}" in caplog.text
    assert len(room.cluster.tidy().removed) == 2
    assert (shared / "theirs/.openssh_jobs/t1/owner").exists()
    assert (mine / ".openssh_jobs/t2/.oj-mark").exists()


def test_a_directory_that_is_not_there(room: Room) -> None:
    with pytest.raises(FileNotFoundError):
        room.cluster.recover(f"{room.here}/no")
    assert room.cluster.recover(room.here) == []
