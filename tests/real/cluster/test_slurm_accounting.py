"""Slurm with slurmdbd: the status of each job is what sacct prints of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openssh_jobs import Cluster, Job, JobState, JobStatus
from openssh_jobs.errors import SchedulerError, SubmitLimit, SubmitRejected
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer
from tests.lab import memory, parts
from tests.lab.endings import (
    AGAIN,
    HUNGRY,
    begin_again,
    fail_node,
    mend_node,
    start_one_that_expires,
    step_runs,
)
from tests.lab.room import Room, open_room
from tests.lab.site import Host, Site
from tests.lab.slurm import SlurmLab, in_place_of


@pytest.fixture(scope="module")
def accounting(slurm: SlurmLab, site: Site, lab_directory: Path) -> Iterator[SlurmLab]:
    """A Slurm that keeps accounts and forgets ended jobs in seconds, in place of the other."""
    parts.require("accounting")
    assert site.network is not None
    lab = SlurmLab(
        lab_directory / "slurmdbd",
        site.network.login,
        accounting=True,
        remembers=2,
        cpus=8,
        limits_memory=memory.why_not() is None,
        preempts=True,
    )
    with in_place_of(slurm, lab):
        yield lab


@pytest.fixture(scope="module")
def expiring(accounting: SlurmLab) -> str:
    """A job whose time is up: it takes half a minute until Slurm acts on it."""
    return start_one_that_expires(accounting)


@pytest.fixture
def room(sshd: Host, accounting: SlurmLab, expiring: str, tmp_path: Path) -> Iterator[Room]:
    with open_room(sshd, "slurm", accounting, tmp_path, others=[expiring]) as room:
        yield room


class Record:
    """What sacct prints of a job."""

    fields = ("State", "ExitCode", "Submit", "Start", "End", "NodeList", "User", "Partition")

    def __init__(self, line: str) -> None:
        said = dict(zip(self.fields, line.split("|"), strict=True))
        self.state, self.code, self.nodes = said["State"], said["ExitCode"], said["NodeList"]
        self.submitted, self.started, self.ended = (
            None if said[one] in ("Unknown", "None") else datetime.fromisoformat(said[one] + "Z")
            for one in ("Submit", "Start", "End")
        )
        self.user, self.queue = said["User"], said["Partition"]


def records(lab: SlurmLab, job_id: str, *options: str) -> list[Record]:
    said = lab.command(
        *("env", "TZ=UTC0", "sacct", "-X", "-n", "-P", "-o", ",".join(Record.fields)),
        *("-j", job_id, *options),
    )
    return [Record(line) for line in said.splitlines()]


def whole_record(room: Room, lab: SlurmLab, job: Job) -> Record:
    """What sacct says of a job that ended; its database is filled in several steps."""

    def is_whole() -> bool:
        found = records(lab, job.id)
        return bool(found and found[0].ended and found[0].started and found[0].queue)

    room.until(job, is_whole, "the record")
    return records(lab, job.id)[0]


def until_forgotten(lab: SlurmLab, ids: list[str]) -> None:
    """Wait until neither squeue nor scontrol knows any of these jobs."""
    deadline = time.monotonic() + 90
    while set(lab.command("squeue", "-h", "-a", "-t", "all", "-o", "%A").split()) & set(ids):
        assert time.monotonic() < deadline, "the controller does not forget"
        time.sleep(0.5)


STATES = {
    "COMPLETED": JobState.COMPLETED,
    "FAILED": JobState.FAILED,
    "CANCELLED": JobState.CANCELLED,
    "TIMEOUT": JobState.TIMEOUT,
    "OUT_OF_MEMORY": JobState.OUT_OF_MEMORY,
    "NODE_FAIL": JobState.NODE_FAIL,
    "PREEMPTED": JobState.CANCELLED,
}


def assert_same(reported: JobStatus, word: Record) -> None:
    """What we tell, in sacct's own words."""
    assert str(reported.raw_state).split()[0] == word.state.split()[0]
    assert STATES[word.state.split()[0]] is reported.state
    assert reported.nodes == (None if word.nodes == "None assigned" else (word.nodes,))
    assert (reported.submitted, reported.ended) == (word.submitted, word.ended)
    assert reported.started == word.started
    assert (reported.user, reported.queue) == (word.user, word.queue)
    # Slurm's 0:125 is out of memory, and no signal; a job that was killed has no exit code.
    if reported.state is not JobState.CANCELLED and word.code != "0:125":
        assert f"{reported.exit_code or 0}:{reported.signal or 0}" == word.code
    if reported.state is not JobState.COMPLETED and word.code in ("0:0", "0:125"):
        assert (reported.exit_code, reported.signal) == (None, None)


def start_all(room: Room) -> SimpleNamespace:
    """A job for each way to end, those that are to be requeued in their first run."""
    sound: dict[str, Any] = {"options": ["-w", "n1"]}  # the other node is going to fail
    fine = room.submit("sleep 1", name="a|b c", **sound)
    jobs = SimpleNamespace(
        fine=fine,
        # Next, because Slurm starts a job at once that depends on one that it has forgotten.
        never=room.submit(after_failed=[fine]),
        not_at_all=room.submit(after_failed=[fine], options=["--kill-on-invalid-dep=yes"]),
        failed=room.submit("exit 3", **sound),
        killed=room.submit("kill -9 $$", **sound),
        held=room.submit(hold=True, **sound),
        released=room.submit(hold=True, **sound),
        array=room.submit("exit $((SLURM_ARRAY_TASK_ID == 2))", array="1-2", **sound),
        running=room.submit("sleep 300", **sound),
        lost=room.submit("exec sleep 300", options=["-w", "n2", "--no-requeue"]),
        moved=room.submit(AGAIN.format("moved"), options=["-w", "n2", "--requeue"]),
        back=room.submit(AGAIN.format("back"), options=["-w", "n1", "--requeue"]),
    )
    for job in (jobs.running, jobs.lost):
        room.until_state(job, JobState.RUNNING)
    for job, name in ((jobs.moved, "moved"), (jobs.back, "back")):
        room.until(job, (room.path / name).exists, "a first run")
    return jobs


def break_and_mend(room: Room, lab: SlurmLab, jobs: SimpleNamespace) -> None:
    """A node fails, and comes back; what may be requeued runs again."""
    fail_node(lab, "n2")
    lab.command("scontrol", "requeue", jobs.back.id)
    assert jobs.lost.wait(timeout=30).state is JobState.NODE_FAIL
    assert jobs.lost.reason == "NodeDown"
    for job in (jobs.moved, jobs.back):
        room.until_state(job, JobState.PENDING)
    an_earlier_run_is_no_end(room, lab, jobs.moved)
    mend_node(lab, "n2")
    begin_again(lab, jobs.moved.id, jobs.back.id)
    room.until(jobs.lost, lambda: not step_runs(jobs.lost.id), "the word that it is over")


def test_every_end_is_reported_as_sacct_has_it(
    room: Room, accounting: SlurmLab, tmp_path: Path
) -> None:
    jobs = start_all(room)
    break_and_mend(room, accounting, jobs)
    jobs.released.release()
    never = jobs.never
    room.until(never, lambda: "it can never start" in (never.status().reason or ""), "never")
    assert never.last.state is JobState.PENDING
    room.cluster.cancel([jobs.held, jobs.running, never])
    expected = {
        jobs.fine.id: (JobState.COMPLETED, 0, None),
        jobs.failed.id: (JobState.FAILED, 3, None),
        jobs.killed.id: (JobState.FAILED, None, 9),
        jobs.held.id: (JobState.CANCELLED, None, None),
        jobs.released.id: (JobState.COMPLETED, 0, None),
        jobs.running.id: (JobState.CANCELLED, None, 15),
        never.id: (JobState.CANCELLED, None, None),
        jobs.not_at_all.id: (JobState.CANCELLED, None, None),
        jobs.lost.id: (JobState.NODE_FAIL, None, None),
        jobs.moved.id: (JobState.COMPLETED, 0, None),
        jobs.back.id: (JobState.COMPLETED, 0, None),
        f"{jobs.array.id}_1": (JobState.COMPLETED, 0, None),
        f"{jobs.array.id}_2": (JobState.FAILED, 1, None),
    }
    for reported in room.cluster.wait(list(expected), timeout=60):
        # By scontrol, should sacct be late.
        assert (reported.state, reported.exit_code) == expected[reported.job_id][:2], repr(reported)
    until_forgotten(accounting, [one.partition("_")[0] for one in expected])
    # Somebody who never saw them in the queue.
    with stranger(room, tmp_path) as other:
        statuses = {one.job_id: one for one in other.wait(list(expected), timeout=30)}
        assert {one.source for one in statuses.values()} == {"accounting"}
        for job_id, (state, code, signal) in expected.items():
            reported = statuses[job_id]
            assert (reported.state, reported.exit_code) == (state, code), job_id
            if signal is not None and state is JobState.FAILED:
                assert reported.signal == signal
            (word,) = records(accounting, job_id)
            assert_same(reported, word)
        assert statuses[jobs.fine.id].name == "a|b c"
        unknown = other.job("99999999").status()
        assert (unknown.state, other.is_over("99999999")) == (JobState.UNKNOWN, False)
    for job, first in ((jobs.moved, "NODE_FAIL"), (jobs.back, "REQUEUED")):
        runs = records(accounting, job.id, "-D")
        assert [one.state for one in runs] == [first, "COMPLETED"]


def stranger(room: Room, tmp_path: Path) -> Cluster:
    """Another program, that knows nothing yet."""
    return room.another(journal=str(tmp_path / "other"), prologue="")


def an_earlier_run_is_no_end(room: Room, accounting: SlurmLab, moved: Job) -> None:
    """For some seconds sacct only has the end of the run whose node died.

    The queue knows better, but for once it does not list the job, and the history is asked.
    """
    for name, body in (("squeue", "exit 0"), ("sacct", '/usr/bin/sacct -D "$@" | sed 1q')):
        room.program(name, body)
    room.until(
        moved, lambda: records(accounting, moved.id, "-D")[0].state == "NODE_FAIL", "the record"
    )
    prologue = f"PATH=$(cat {room.here}/where):$PATH; export PATH"
    with room.another(poll_interval=0.1, grace=0, prologue=prologue) as other:
        room.make("where", "/nowhere")
        seen = other.job(moved.id)
        assert seen.status().state is JobState.PENDING
        room.make("where", f"{room.here}/bin")
        time.sleep(0.2)
        status = seen.status()
        assert status.state is JobState.UNKNOWN
        assert "only knows an earlier run" in str(status.reason)


def test_preempted_jobs(room: Room, accounting: SlurmLab, tmp_path: Path) -> None:
    """Slurm ends one that may not be requeued, and sends the other back to the queue."""
    whole = {"cpus": 7, "memory": "100M"}  # a node has eight
    ended = room.submit("exec sleep 300", options=["-w", "n1", "--no-requeue"], **whole)
    back = room.submit(AGAIN.format("back"), options=["-w", "n2", "--requeue"], **whole)
    for job in (ended, back):
        room.until_state(job, JobState.RUNNING)
    urgent = [
        room.submit("exec sleep 300", queue="urgent", options=["-w", node], **whole)
        for node in ("n1", "n2")
    ]
    assert ended.wait(timeout=30).state is JobState.CANCELLED
    room.until_state(back, JobState.PENDING)
    word = whole_record(room, accounting, ended)
    assert word.state == "PREEMPTED"
    with stranger(room, tmp_path) as other:
        assert_same(other.job(ended.id).wait(timeout=30), word)
        assert other.job(back.id).status().state is JobState.PENDING
    assert records(accounting, back.id, "-D")[0].state == "PREEMPTED"
    room.cluster.cancel(urgent)
    begin_again(accounting, back.id)
    assert back.wait(timeout=60).state is JobState.COMPLETED


def test_out_of_memory(room: Room, accounting: SlurmLab, tmp_path: Path) -> None:
    reason = memory.why_not()
    if reason is not None:
        pytest.skip(reason)
    job = room.submit(HUNGRY, memory="40M")
    room.until_state(job, JobState.OUT_OF_MEMORY)
    assert (job.exit_code, job.reason) == (None, "OutOfMemory")
    word = whole_record(room, accounting, job)
    assert (word.state, word.code) == ("OUT_OF_MEMORY", "0:125")
    with stranger(room, tmp_path) as other:
        assert_same(other.job(job.id).wait(timeout=30), word)


def test_a_limit_that_passes_and_an_account_that_is_none(room: Room) -> None:
    jobs = [room.submit(hold=True, options=["--qos=tiny"]) for _ in range(2)]
    with pytest.raises(SubmitLimit) as limit:
        room.submit(options=["--qos=tiny"])
    assert limit.value.kind == "limit"
    room.cluster.cancel(jobs)
    with pytest.raises(SubmitRejected) as refused:
        room.submit(account="nobodys")
    assert not isinstance(refused.value, SubmitLimit)
    assert refused.value.kind == "invalid_request"


def test_accounting_that_is_away_ends_no_job(room: Room, accounting: SlurmLab) -> None:
    assert accounting.database is not None
    daemon = accounting.database.daemon
    job = room.submit("exit 3")
    daemon.stop(number=signal.SIGKILL)
    try:
        until_forgotten(accounting, [job.id])
        status = job.status()
        assert (status.state, status.exit_code) == (JobState.UNKNOWN, None)
        assert not room.cluster.is_over(job)
        slurm = get("slurm")
        script = slurm.history_script([job.id])
        assert script is not None
        done = room.cluster.connection.run(script)
        with pytest.raises(SchedulerError) as caught:
            slurm.parse_history(Answer(done.stdout, done.stderr, done.returncode))
        assert caught.value.kind == "transient"
    finally:
        daemon.start()
    ended = job.wait(timeout=60)
    assert (ended.state, ended.exit_code, ended.source) == (JobState.FAILED, 3, "accounting")


def test_the_time_limit(room: Room, accounting: SlurmLab, expiring: str, tmp_path: Path) -> None:
    reported = room.cluster.job(expiring).wait(timeout=60)
    assert (reported.state, reported.exit_code, reported.signal) == (JobState.TIMEOUT, None, None)
    until_forgotten(accounting, [expiring])
    (word,) = records(accounting, expiring)
    assert word.state == "TIMEOUT"
    with stranger(room, tmp_path) as other:
        assert_same(other.job(expiring).wait(timeout=30), word)


def test_a_controller_that_is_away_while_a_job_ends(room: Room, accounting: SlurmLab) -> None:
    job = room.submit(f"while [ ! -e {room.here}/go ]; do sleep 0.1; done; exit 4")
    room.until_state(job, JobState.RUNNING)
    accounting.controller.stop()
    try:
        room.make("go", "")
        time.sleep(1)
        room.until(job, lambda: step_runs(job.id), "it waits for the controller to tell it")
    finally:
        accounting.controller.start()
        accounting.wait_until_ready()
    ended = job.wait(timeout=60)
    assert (ended.state, ended.exit_code) == (JobState.FAILED, 4)
    word = whole_record(room, accounting, job)
    assert (word.state, word.code) == ("FAILED", "4:0")
