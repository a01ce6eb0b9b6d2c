"""Each way to end on a Slurm without accounting, and what Slurm's qstat wrapper tells of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openssh_jobs import Job, JobState
from openssh_jobs.schedulers.pbs.output import NO_LETTER
from tests.lab import memory
from tests.lab.endings import (
    AGAIN,
    HUNGRY,
    begin_again,
    fail_node,
    mend_node,
    start_one_that_expires,
    step_runs,
)
from tests.lab.room import FORGETFUL, Room, open_room
from tests.lab.site import Host, Site
from tests.lab.slurm import SlurmLab, in_place_of
from tests.lab.wrappers import prologue

ENDED = (JobState.UNKNOWN, None, "ended, and the scheduler does not say how")


@pytest.fixture(scope="module")
def lab(slurm: SlurmLab, site: Site, lab_directory: Path) -> Iterator[SlurmLab]:
    """A Slurm whose nodes may fail, in place of the one that all share."""
    assert site.network is not None
    lab = SlurmLab(
        lab_directory / "slurm-ends",
        site.network.login,
        cpus=8,
        limits_memory=memory.why_not() is None,
    )
    with in_place_of(slurm, lab):
        yield lab


@pytest.fixture(scope="module")
def expiring(lab: SlurmLab) -> str:
    """A job whose time is up: it takes half a minute until Slurm acts on it."""
    return start_one_that_expires(lab)


@pytest.fixture
def room(sshd: Host, lab: SlurmLab, expiring: str, tmp_path: Path) -> Iterator[Room]:
    with open_room(sshd, "slurm", lab, tmp_path, others=[expiring]) as room:
        yield room


@pytest.fixture
def torque(
    sshd: Host, lab: SlurmLab, expiring: str, lab_directory: Path, tmp_path: Path
) -> Iterator[Room]:
    """The same Slurm by its wrappers."""
    there = tmp_path / "torque"
    there.mkdir()
    options = {"prologue": prologue(lab_directory), "grace": 1}
    with open_room(sshd, "torque", lab, there, others=[expiring], **options) as room:
        yield room


class Word:
    """What scontrol prints of a job: its own words."""

    def __init__(self, lab: SlurmLab, job_id: str) -> None:
        text = lab.command("scontrol", "-o", "show", "job", job_id)
        said = dict(re.findall(r"(\w+)=(\S*)", text))
        self.state, self.reason, self.code = said["JobState"], said["Reason"], said["ExitCode"]
        self.nodes, self.restarts = said["NodeList"], int(said["Restarts"])


def assert_as_slurm_says(lab: SlurmLab, job: Job, state: JobState, word: str) -> None:
    """Our status against scontrol's words."""
    own, reported = Word(lab, job.id), job.last
    assert own.state == word, job.id
    assert (reported.state, reported.raw_state) == (state, own.state), job.id
    assert reported.reason == (None if own.reason == "None" else own.reason)
    assert reported.nodes == (None if own.nodes in ("", "(null)") else (own.nodes,))
    if state in (JobState.COMPLETED, JobState.FAILED):
        assert f"{reported.exit_code or 0}:{reported.signal or 0}" == own.code
    else:
        assert reported.exit_code is None


def start_all(room: Room) -> SimpleNamespace:
    """A job for each way to end, those that are to be requeued in their first run."""
    sound: dict[str, Any] = {"options": ["-w", "n1"]}  # the other node is going to fail
    jobs = SimpleNamespace(
        failed=room.submit("exit 3", **sound),
        killed=room.submit("kill -9 $$", **sound),
        held=room.submit(hold=True, **sound),
        released=room.submit(hold=True, **sound),
        running=room.submit("exec sleep 300", **sound),
        lost=room.submit("exec sleep 300", options=["-w", "n2", "--no-requeue"]),
        moved=room.submit(AGAIN.format("moved"), options=["-w", "n2", "--requeue"]),
        back=room.submit(AGAIN.format("back"), options=["-w", "n1", "--requeue"]),
    )
    jobs.never = room.submit(after_ok=[jobs.failed])
    jobs.not_at_all = room.submit(after_ok=[jobs.failed], options=["--kill-on-invalid-dep=yes"])
    return jobs


def break_and_mend(room: Room, torque: Room, lab: SlurmLab, jobs: SimpleNamespace) -> None:
    """A node fails, and comes back; what may be requeued runs again."""
    for job, name in ((jobs.moved, "moved"), (jobs.back, "back")):
        room.until(job, (room.path / name).exists, "a first run")
    fail_node(lab, "n2")
    lab.command("scontrol", "requeue", jobs.back.id)
    for job in (jobs.moved, jobs.back):
        room.until_state(job, JobState.PENDING)
        seen = torque.cluster.job(job.id)
        torque.until_state(seen, JobState.PENDING)
        assert not torque.cluster.is_over(seen)
    jobs.lost.wait(timeout=30)
    mend_node(lab, "n2")
    begin_again(lab, jobs.moved.id, jobs.back.id)
    room.until(jobs.lost, lambda: not step_runs(jobs.lost.id), "the word that it is over")


def test_every_end_is_reported_as_scontrol_has_it(room: Room, torque: Room, lab: SlurmLab) -> None:
    jobs = start_all(room)
    by_qsub = submitted_by_qsub(torque, jobs.failed)
    for job in (jobs.running, jobs.lost, by_qsub["running"]):
        room.until_state(room.cluster.job(job.id), JobState.RUNNING)
    break_and_mend(room, torque, lab, jobs)
    jobs.released.release()
    never = jobs.never
    room.until(never, lambda: "it can never start" in (never.status().reason or ""), "never")
    assert never.last.state is JobState.PENDING
    room.cluster.cancel([jobs.held, jobs.running, never])
    expected = {
        "COMPLETED": (jobs.released, jobs.moved, jobs.back),
        "FAILED": (jobs.failed, jobs.killed),
        "NODE_FAIL": (jobs.lost,),
        "CANCELLED": (jobs.held, jobs.running, never, jobs.not_at_all),
    }
    for word, ended in expected.items():
        room.cluster.wait(ended, timeout=60)
        for job in ended:
            assert_as_slurm_says(lab, job, JobState[word], word)
    # To Slurm the launcher has ended, which hands on what a shell says of a signal.
    assert (jobs.failed.exit_code, jobs.killed.exit_code) == (3, 128 + 9)
    assert [Word(lab, job.id).restarts for job in (jobs.moved, jobs.back, jobs.lost)] == [1, 1, 0]
    seen_by_qstat(torque, lab, by_qsub)
    for job in (jobs.lost, jobs.moved, jobs.back):
        assert reported(torque.cluster.job(job.id)) == ENDED
    known_by_their_exit_records(room, [jobs.moved, jobs.back])


# -- the wrappers -----------------------------------------------------------------------------


def submitted_by_qsub(torque: Room, failed: Job) -> dict[str, Job]:
    """What the wrappers can express: options of their own, and none of Slurm's."""
    return {
        "failed": torque.submit("exit 3", options=["-l", "mppnodes=n1"]),
        "killed": torque.submit("kill -9 $$", options=["-l", "mppnodes=n1"]),
        "array": torque.submit("exit $((SLURM_ARRAY_TASK_ID - 1))", array="1-2"),
        "held": torque.submit(hold=True),
        "released": torque.submit(hold=True),
        "running": torque.submit("exec sleep 300", options=["-l", "mppnodes=n1"]),
        "never": torque.submit(after_ok=[failed.id]),
        "marked": torque.submit("exit 4", record_exit=True),
    }


def seen_by_qstat(torque: Room, lab: SlurmLab, jobs: dict[str, Job]) -> None:
    """Held jobs and those that never start wait; of an end nothing else is known."""
    for name in ("held", "never"):
        assert jobs[name].status().state is JobState.PENDING
        assert Word(lab, jobs[name].id).state == "PENDING"
    assert Word(lab, jobs["held"].id).reason == "JobHeldUser"
    assert Word(lab, jobs["never"].id).reason == "DependencyNeverSatisfied"
    jobs["released"].release()
    torque.cluster.cancel([jobs["held"], jobs["running"], jobs["never"]])
    torque.cluster.wait(list(jobs.values()), timeout=60)
    marked = jobs["marked"].last
    assert (marked.state, marked.exit_code, marked.source) == (JobState.FAILED, 4, "marker")
    for name, job in jobs.items():
        assert name == "marked" or reported(job) == ENDED
        assert torque.cluster.is_over(job)
    own = {name: Word(lab, job.id).state for name, job in jobs.items() if name != "array"}
    assert own == {
        "failed": "FAILED",
        "killed": "FAILED",
        "held": "CANCELLED",
        "released": "COMPLETED",
        "running": "CANCELLED",
        "never": "CANCELLED",
        "marked": "FAILED",
    }


def reported(job: Job) -> tuple[JobState, int | None, str]:
    """State, exit code, and the reason without what was not found."""
    status = job.status()
    return status.state, status.exit_code, str(status.reason).partition(";")[0]


# -- forgotten --------------------------------------------------------------------------------


def known_by_their_exit_records(room: Room, again: list[Job]) -> None:
    """Of jobs that ran twice the second run counts, also where Slurm has forgotten them."""
    for name, body in FORGETFUL.items():
        room.program(name, body)
    journal = room.cluster.journal
    for job in again:
        journal.change(room.cluster.host, str(job.token), state="running", exit_code=None)
    with room.another(poll_interval=0.1) as forgetful:
        for job in again:
            status = forgetful.job(job.id).status()
            assert (status.state, status.exit_code) == (JobState.COMPLETED, 0)
            assert (status.source, status.restarts) == ("marker", 1)


def test_an_exit_code_that_sacct_does_not_have_yet(room: Room) -> None:
    """sacct runs late: the queue says that a job failed, and scontrol knows its exit code."""
    room.program("sacct", "")
    job = room.submit("exit 3", record_exit=False)
    array = room.submit("exit $((SLURM_ARRAY_TASK_ID + 3))", array="1-2", record_exit=False)
    with room.another() as other:
        ids = [job.id, f"{array.id}_1", f"{array.id}_2"]
        statuses = other.wait(ids, timeout=60)
    assert [one.state for one in statuses] == [JobState.FAILED] * 3
    assert [one.exit_code for one in statuses] == [3, 4, 5]
    assert {one.reason for one in statuses} == {"NonZeroExitCode"}


# -- limits -----------------------------------------------------------------------------------


def test_out_of_memory(room: Room, torque: Room, lab: SlurmLab) -> None:
    reason = memory.why_not()
    if reason is not None:
        pytest.skip(reason)
    job = room.submit(HUNGRY, memory="40M")
    wrapped = torque.submit(HUNGRY, memory="40mb")
    job.wait(timeout=60)
    assert_as_slurm_says(lab, job, JobState.OUT_OF_MEMORY, "OUT_OF_MEMORY")
    assert (job.last.reason, Word(lab, job.id).code) == ("OutOfMemory", "0:125")
    room.cluster.wait([wrapped.id], timeout=60)
    # The wrapper has no letter for it: U, which is no end.
    torque.until_state(wrapped, JobState.UNKNOWN)
    assert (wrapped.last.raw_state, wrapped.reason) == ("U", NO_LETTER)
    assert not torque.cluster.is_over(wrapped)


def test_the_time_limit(room: Room, torque: Room, lab: SlurmLab, expiring: str) -> None:
    job = room.cluster.job(expiring)
    job.wait(timeout=60)
    assert_as_slurm_says(lab, job, JobState.TIMEOUT, "TIMEOUT")
    assert job.last.reason == "TimeLimit"
    assert reported(torque.cluster.job(expiring)) == ENDED
