"""What is left on a real host of jobs that are over, and how it goes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Cluster, JobState
from openssh_jobs.cluster.tidy import Tidied
from openssh_jobs.errors import InputError, SchedulerError
from openssh_jobs.openssh import pid_file
from tests.lab.gridengine import GridEngineLab, open_grid_room
from tests.lab.room import FORGETFUL, Room, open_room
from tests.lab.site import Host
from tests.lab.slurm import SlurmLab
from tests.real.cluster.test_private_submission import killed, source

__all__ = ["source"]


@pytest.fixture
def room(sshd: Host, tmp_path: Path) -> Iterator[Room]:
    with open_room(sshd, "direct", None, tmp_path) as room:
        yield room


@pytest.fixture
def slurm_room(sshd: Host, slurm: SlurmLab, tmp_path: Path) -> Iterator[Room]:
    with open_room(sshd, "slurm", slurm, tmp_path) as room:
        yield room


def entries(room: Room) -> list[str]:
    """What this package has on the host."""
    found = [str(path.relative_to(room.path)) for path in room.path.rglob(".openssh_jobs/**")]
    home = room.host.home / ".openssh_jobs"
    found += [str(path.relative_to(room.host.home)) for path in home.rglob("*")]
    return sorted(found)


def paths(leftovers: Any) -> set[str]:
    return {left.path for left in leftovers}


def another_machine(room: Room, local: Path) -> Cluster:
    """The same user at another machine: a journal of its own."""
    return room.another(journal=str(local / "laptop"))


# -- nothing is left ----------------------------------------------------------------------------


def check_27_jobs(room: Room) -> None:
    # Of a failed job Slurm may be asked to run it again, as long as it lists it.
    code = 0 if room.scheduler == "slurm" else 1
    for number in range(27):
        room.submit(f"echo {number} >out{number}; exit {number % 2 * code}", name=f"job{number}")
    jobs = [room.cluster.job(row.job_id) for row in room.cluster.journal.rows()]
    room.cluster.wait(jobs, timeout=120)
    before = entries(room)
    assert len(before) > 27
    would = room.cluster.tidy(dry_run=True)
    assert entries(room) == before, "a dry run changes nothing"
    assert (len(would.removed), would.kept) == (27 * (1 + (room.scheduler == "direct")), ())
    done = room.cluster.tidy()
    assert paths(done.removed) == paths(would.removed)
    assert done.kept == ()
    assert sum(left.size or 0 for left in done.removed) > 27 * 1024
    # Which ids are used up has to be remembered where there is no scheduler, and nothing else.
    direct = [".openssh_jobs/direct", ".openssh_jobs/direct/last"]
    assert entries(room) == (direct if room.scheduler == "direct" else [])
    assert len(list(room.path.glob("out*"))) == 27, "output stays"
    assert room.cluster.tidy() == Tidied()
    for job in jobs:
        assert job.exit_code in (0, 1)
        assert job.token is not None
        again = room.cluster.job(token=job.token)
        assert again.last.state.is_final
        assert list(again.tail()) == []


def test_27_jobs_leave_nothing(room: Room) -> None:
    check_27_jobs(room)


def test_another_program_knows_the_end_of_a_job_that_left_nothing(room: Room) -> None:
    job = room.submit("exit 3")
    job.wait(timeout=30)
    room.cluster.tidy()
    with room.another(grace=60) as other:
        (status,) = other.wait([job.id], timeout=10)
    assert (status.state, status.exit_code) == ("failed", 3)


def test_27_jobs_of_slurm_leave_nothing(slurm_room: Room) -> None:
    check_27_jobs(slurm_room)


def test_27_jobs_of_grid_engine_leave_nothing(
    sshd: Host, gridengine: GridEngineLab, tmp_path: Path
) -> None:
    with open_grid_room(sshd, gridengine, tmp_path) as room:
        check_27_jobs(room)


# -- what stays ---------------------------------------------------------------------------------


def test_what_goes_on_stays_and_says_why(room: Room) -> None:
    job = room.submit("sleep 300")
    room.until_state(job, "running")
    before = entries(room)
    (left,) = job.tidy().kept
    assert (left.job_id, left.token, left.reason) == (job.id, job.token, "it is running")
    assert left.path == f"{room.here}/.openssh_jobs/{job.token}"
    assert room.cluster.tidy(timedelta(days=1)).removed == ()
    assert entries(room) == before
    job.cancel()
    job.wait(timeout=30)
    assert [left.reason for left in room.cluster.tidy(3600.0).kept] == ["it is not old enough"]
    assert entries(room) != []
    assert len(room.cluster.tidy().removed) == 2
    assert not (room.path / ".openssh_jobs").exists()


def test_what_runs_again_stays(slurm_room: Room, tmp_path: Path) -> None:
    room = slurm_room
    job = room.submit("echo ran >>ran", name="again", options=["--requeue"])
    assert job.wait(timeout=60).state is JobState.COMPLETED
    before = entries(room)
    assert room.slurm is not None
    room.slurm.command("scontrol", "requeue", job.id)
    # Another program, to which the journal says that it has ended.
    with room.another() as cluster:
        later = cluster.job(job.id)
        assert later.last.state is JobState.COMPLETED
        later.fetch(tmp_path / "back")
        assert entries(room) == before
        row = cluster.journal.by_token(cluster.host, str(job.token))
        assert row is not None
        assert (row.state, row.exit_code, row.tidied) == ("pending", None, "later")
        (left,) = cluster.tidy().kept
        assert left.reason == "it is pending"
    assert entries(room) == before
    room.slurm.command("scontrol", "update", f"JobId={job.id}", "StartTime=now")
    with room.another() as cluster:
        assert cluster.job(job.id).wait(timeout=120).state is JobState.COMPLETED
        assert (room.path / "ran").read_text() == "ran\nran\n", "it found its script"
        assert len(cluster.tidy().removed) == 1
    assert entries(room) == []


def test_a_failed_job_may_be_requeued_while_slurm_lists_it(
    slurm_room: Room, tmp_path: Path
) -> None:
    room = slurm_room
    job = room.submit("exit 3")
    job.wait(timeout=60)
    before = entries(room)
    job.fetch(tmp_path / "back")
    (left,) = room.cluster.tidy().kept
    assert "slurm still lists it" in left.reason
    assert entries(room) == before
    for name, body in FORGETFUL.items():
        room.program(name, body)
    with room.another() as forgetful:
        # It was fetched: it goes by itself, with the next query of another day.
        forgetful.journal.file.execute("DELETE FROM facts WHERE name = 'tidied'")
        other = forgetful.job("4000000")
        other.status()
        room.until(other, lambda: entries(room) == [], "the removal")


def test_an_answer_that_fails_removes_nothing(slurm_room: Room) -> None:
    room = slurm_room
    job = room.submit("true")
    job.wait(timeout=60)
    before = entries(room)
    room.program("squeue", "echo 'slurm_load_jobs error: Socket timed out' >&2; exit 1")
    with (
        room.another() as deaf,
        pytest.raises(SchedulerError, match="timed out"),
    ):
        deaf.tidy()
    assert entries(room) == before


@pytest.mark.parametrize("deadline", ["later", "unreadable"])
def test_a_live_claim_stays(room: Room, deadline: str) -> None:
    job = room.submit("true")
    job.wait(timeout=30)
    until = int(time.time()) + 60
    place = f".openssh_jobs/{job.token}"
    text = f"nonce x\nwhere n/b/p\ngroup 7\npid 7\nbegan 1\ndeadline {until}\n.\n"
    room.make(f"{place}/attempt-2", text if deadline == "later" else "nonce x\n")
    before = entries(room)
    would, done = room.cluster.tidy(dry_run=True), room.cluster.tidy()
    assert would == done
    assert (len(done.kept), done.removed) == (2, ())
    assert "under way" in done.kept[0].reason
    assert entries(room) == before
    room.make(f"{place}/result-2", "0")
    assert len(room.cluster.tidy().removed) == 2


def test_only_what_is_marked_and_private_goes(room: Room) -> None:
    jobs = [room.submit("true") for _ in range(4)]
    room.cluster.wait(jobs, timeout=30)
    precious = room.path / "precious"
    precious.mkdir()
    (precious / "thesis").write_text("three years of work")
    shutil.chown(precious, room.host.user, room.host.user)
    unmarked, linked, open_to_all, copied = (
        room.path / ".openssh_jobs" / str(job.token) for job in jobs
    )
    (unmarked / ".oj-mark").unlink()
    shutil.rmtree(linked)
    linked.symlink_to(precious)
    open_to_all.chmod(0o777)
    shutil.copytree(copied, precious / "copy")
    done = room.cluster.tidy()
    assert {left.reason for left in done.kept} == {
        f"{unmarked} carries no mark of this package",
        f"{linked} is a link",
        f"others can change {open_to_all}",
    }
    assert paths(done.removed) == {
        str(copied), f"{room.host.home}/.openssh_jobs/direct/{jobs[3].id}",
    }  # fmt: skip
    assert (precious / "thesis").read_text() == "three years of work"
    assert (precious / "copy").exists(), "a copy is not ours"
    assert unmarked.exists()
    assert open_to_all.exists()


# -- by itself ----------------------------------------------------------------------------------


def test_what_ended_a_week_ago_goes_by_itself_once_a_day(room: Room) -> None:
    old, new, other = (room.submit("true") for _ in range(3))
    room.cluster.wait([old, new, other], timeout=30)
    journal = room.cluster.journal
    for job, days in ((old, 8), (new, 6)):
        journal.file.execute(
            "UPDATE submissions SET changed = ? WHERE token = ?",
            (time.time() - days * 86400, job.token),
        )
    room.until_state(room.submit("sleep 300"), "running")
    assert (room.path / ".openssh_jobs" / str(old.token)).exists(), "today nothing was due already"
    journal.file.execute("DELETE FROM facts WHERE name = 'tidied'")
    room.until_state(room.submit("sleep 300"), "running")
    room.until(old, lambda: not (room.path / ".openssh_jobs" / str(old.token)).exists(), "removal")
    direct = room.host.home / ".openssh_jobs" / "direct"
    room.until(old, lambda: not (direct / old.id).exists(), "removal")
    assert (room.path / ".openssh_jobs" / str(new.token)).exists()
    assert (direct / new.id).exists()


# -- what was never sent ------------------------------------------------------------------------


MOMENTS = {
    "files on their way": "TreeMoves._send = kill",
    "nothing there": "Submitter._read = kill",
    "directory made": """
create = JobFiles.create
JobFiles.create = lambda *given: (create(*given), kill())
""",
}


def killed_at(room: Room, source: Path, moment: str) -> None:
    killed(room, source, MOMENTS[moment])
    assert room.cluster.journal.by_token(room.cluster.host, "k1") is not None


@pytest.mark.parametrize("moment", list(MOMENTS))
def test_what_was_never_sent_goes(room: Room, source: Path, moment: str) -> None:
    killed_at(room, source, moment)
    before = sorted(room.path.rglob("*"))
    would = room.cluster.tidy(dry_run=True)
    assert sorted(room.path.rglob("*")) == before
    done = room.cluster.tidy()
    assert done == would
    assert list(room.path.iterdir()) == []
    assert room.cluster.journal.rows() == []


def test_what_came_into_an_upload_that_was_never_sent_stays(room: Room, source: Path) -> None:
    killed_at(room, source, "directory made")
    room.make("work/mine", "three years of work")
    (left,) = room.cluster.tidy().kept
    assert "was changed after its upload" in left.reason
    assert (room.path / "work/mine").read_text() == "three years of work"


def test_a_submission_at_work_stays(room: Room, source: Path) -> None:
    killed_at(room, source, "directory made")
    journal, host = room.cluster.journal, room.cluster.host
    for caller in (pid_file.call(), "1-1-ffffffff-ffffffff"):
        journal.change(host, "k1", caller=caller)
        (left,) = room.cluster.tidy().kept
        assert left.reason == "its submission is under way"
    journal.change(host, "k1", stage="sending")
    (left,) = room.cluster.tidy().kept
    assert "got no answer" in left.reason
    assert (room.path / "work").exists()


# -- two machines -------------------------------------------------------------------------------


@pytest.fixture
def laptop(room: Room, tmp_path: Path) -> Iterator[Cluster]:
    """The same user on another machine: a journal of its own."""
    with another_machine(room, tmp_path) as cluster:
        yield cluster


@pytest.mark.parametrize("how", ["tidy", "fetch"])
def test_a_token_that_the_caller_chose_does_not_run_again(
    room: Room, laptop: Cluster, tmp_path: Path, how: str
) -> None:
    asked: dict[str, Any] = {"token": "relax-7", "directory": room.here}
    script = "#!/bin/sh\necho ran >>ran\nexit 3\n"
    job = room.cluster.submit(script_text=script, **asked)
    job.wait(timeout=30)
    if how == "tidy":
        assert job.tidy().kept == ()
    else:
        job.fetch(tmp_path / "back")
    again = laptop.submit(script_text=script, **asked)
    assert (again.id, again.exit_code, again.last.state) == (job.id, 3, "failed")
    assert (room.path / "ran").read_text() == "ran\n"
    assert entries(room)[:1] == [".openssh_jobs/.tokens"]
    assert not (room.path / ".openssh_jobs").exists()
    row = room.cluster.journal.by_token(room.cluster.host, "relax-7")
    assert row is not None
    line = (room.host.home / ".openssh_jobs/.tokens").read_text()
    assert line == f"relax-7 {job.id} {row.digest} {int(row.changed)} failed 3 .\n"
    with pytest.raises(InputError, match="belongs to another submission"):
        laptop.submit(script_text=script, name="else", token="relax-7", directory=room.here)
    laptop.journal.forget(laptop.host, "relax-7")
    with pytest.raises(InputError, match="belongs to another submission"):
        laptop.submit(script_text=script, name="else", token="relax-7", directory=room.here)
    assert laptop.journal.rows() == []


def test_a_token_of_another_machines_job_does_not_run_again_either(
    room: Room, laptop: Cluster, tmp_path: Path
) -> None:
    """Taken over, tidied up from there, and asked for from a third machine."""
    asked: dict[str, Any] = {"token": "relax-8", "directory": room.here}
    script = "#!/bin/sh\necho ran >>ran\n"
    job = room.cluster.submit(script_text=script, **asked)
    (taken,) = laptop.recover(room.here)
    assert laptop.submit(script_text=script, **asked).id == taken.id == job.id
    with pytest.raises(InputError, match="belongs to another submission"):
        laptop.submit(script_text="#!/bin/sh\necho other >>ran\n", **asked)
    taken.wait(timeout=30)
    assert taken.tidy().kept == ()
    with room.another(journal=str(tmp_path / "third")) as third:
        with pytest.raises(InputError, match="belongs to another submission"):
            third.submit(script_text="#!/bin/sh\necho other >>ran\n", **asked)
        assert third.journal.rows() == []
        again = third.submit(script_text=script, **asked)
        assert (again.id, again.last.state) == (job.id, "completed")
    assert (room.path / "ran").read_text() == "ran\n"


def test_what_another_machine_knows_stays(room: Room, laptop: Cluster, tmp_path: Path) -> None:
    job = room.submit("true")
    job.wait(timeout=30)
    before = entries(room)
    assert laptop.tidy() == Tidied()
    stranger = laptop.job(job.id)
    stranger.wait(timeout=30)
    stranger.fetch(tmp_path / "back")
    assert entries(room) == before
    assert "not submitted from here" in stranger.tidy().kept[0].reason
    assert entries(room) == before
