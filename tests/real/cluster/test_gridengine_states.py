"""What becomes of jobs of a real Grid Engine, and what its own accounting says of them.

The accounting (``qacct``) decides, but for one wrong record: see the forced deletion.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Job, JobState
from openssh_jobs.errors import InputError, SchedulerError, SubmitRejected
from openssh_jobs.jobs import CancelOutcome, JobId
from tests.helpers import until
from tests.lab.gridengine import GridEngineLab, open_grid_room
from tests.lab.room import Room
from tests.lab.site import Host

AGAIN = "[ -e {0} ] && exit {1}; touch {0}; "
# State, exit code, signal, and the accounting's own "failed" and "exit_status".
ENDS: dict[str, tuple[str, dict[str, Any], tuple[object, ...], tuple[str, str]]] = {
    "fine": ("true", {}, ("completed", 0, None), ("0", "0")),
    "failing": ("exit 3", {}, ("failed", 3, None), ("0", "3")),
    "killed": ("kill -9 $$", {}, ("failed", None, 9), ("100", "137")),
    "late": ("sleep 300", {"time_limit": timedelta(seconds=2)}, ("timeout", None, 9),
             ("37", "137")),
    # A soft limit sends USR1: nothing tells it from a USR1 of anybody's.
    "soft": ("sleep 300", {"options": ["-l", "s_rt=2"]}, ("failed", None, 10), ("100", "138")),
    "warned": ("trap 'exit 9' USR1; sleep 300 & wait", {"options": ["-l", "s_rt=2"]},
               ("failed", 9, None), ("0", "9")),
    # h_vmem is an rlimit: the program gets no more memory, and what it makes of that is its own.
    "greedy": ("head -c 300M /dev/zero | { tail || exit 7; }", {"memory": "100M"},
               ("failed", 7, None), ("0", "7")),
    # Several processes that take it together are killed, with the number of the time limit.
    "many": ("for i in 1 2 3; do { head -c 60M /dev/zero; sleep 300; } | tail & done; wait",
             {"memory": "100M"}, ("out_of_memory", None, 9), ("37", "137")),
    # Exit status 99 sends a job back to the queue: the record of that run is no end.
    "again": (AGAIN.format("again", 5) + "sleep 1; exit 99", {}, ("failed", 5, None), ("0", "5")),
    "moved": (AGAIN.format("moved", 0) + "sleep 300", {"options": ["-r", "y"]},
              ("completed", 0, None), ("0", "0")),
}  # fmt: skip


@pytest.fixture
def room(sshd: Host, gridengine: GridEngineLab, tmp_path: Path) -> Iterator[Room]:
    with open_grid_room(sshd, gridengine, tmp_path) as room:
        yield room


@pytest.fixture
def daemons(gridengine: GridEngineLab) -> Iterator[GridEngineLab]:
    """The lab, both of whose daemons run again when the test is over."""
    yield gridengine
    if not gridengine.master.running():
        gridengine.start_master()
    if not gridengine.host.running():
        gridengine.start_host()
    # The host looks at jobs of an earlier daemon of its only once a minute.
    gridengine.command("qdel", "-f", "-u", "*", check=False)


# -- how jobs end -----------------------------------------------------------------------------


def test_ends_as_the_accounting_tells_them(room: Room, gridengine: GridEngineLab) -> None:
    jobs = {name: room.submit(text, **asked) for name, (text, asked, _, _) in ENDS.items()}
    after = room.submit(after_any=[jobs["failing"]])
    array = room.submit("exit $((SGE_TASK_ID == 2))", array="1-3")
    members = [f"{array.id}.{number}" for number in (1, 2, 3)]
    held = room.submit("true", hold=True)
    behind, never = room.submit(after_any=[held]), room.submit(after_any=[held, jobs["fine"]])
    room.until_state(held, JobState.HELD)
    room.until(jobs["moved"], (room.path / "moved").exists, "its first run")
    gridengine.command("qmod", "-rj", jobs["moved"].id)
    statuses = room.cluster.wait([*jobs.values(), after, *members], timeout=90)
    for status, (name, (_, _, reported, word)) in zip(statuses, ENDS.items(), strict=False):
        assert (status.state, status.exit_code, status.signal) == reported, name
        assert gridengine.own_word(status.job_id) == word, name
    for name, runs in (("again", ["25", "0"]), ("moved", ["25", "0"])):
        records = gridengine.accounting(jobs[name].id)
        assert [record["failed"].split()[0] for record in records] == runs
    # The dependency of a job that failed: Grid Engine has no other than "has ended".
    assert after.last.state is JobState.COMPLETED
    assert [one.state for one in statuses[-3:]] == ["completed", "failed", "completed"]
    assert [gridengine.own_word(one)[1] for one in members] == ["0", "1", "0"]
    assert array.wait(timeout=60).state is JobState.FAILED
    # They wait for a job that nobody releases; nobody holds them.
    assert [one.status().state for one in (held, behind, never)] == ["held", "pending", "pending"]
    assert {gridengine.letters(one.id) for one in (held, behind, never)} == {"hqw"}
    assert held.release() is CancelOutcome.REQUESTED
    assert {one.state for one in room.cluster.wait([held, behind, never], timeout=60)} == {
        JobState.COMPLETED
    }


def test_a_limit_of_the_queue(room: Room, gridengine: GridEngineLab) -> None:
    """Its record does not say which limit it was, and the job asked for none."""
    with gridengine.queue_with("short.q", "h_rt", "0:0:2", "0:10:0"):
        late = room.submit("sleep 300", queue="short.q").wait(timeout=60)
    assert (late.state, late.signal) == (JobState.TIMEOUT, 9)
    (record,) = gridengine.accounting(late.job_id)
    assert "h_rt, h_cpu, or h_vmem" in record["failed"]
    assert "h_rt" not in record["category"]


def test_arrays_that_wait_for_each_other(room: Room) -> None:
    """-hold_jid of an array waits for all of its tasks, -tc limits how many run at a time."""
    text = f"mkdir {room.here}/on || exit 9; sleep 0.2; rmdir {room.here}/on\n"
    array = room.submit(text, array="1-3%1", hold=True)
    after = room.submit(f"[ ! -e {room.here}/on ]", after_any=array)
    last = room.submit("exit 4", after_any=[after, array], array="1-2")
    with pytest.raises(InputError, match=rf"for one task: {array.id}\.2") as caught:
        room.submit("true", after_any=array[2])
    assert caught.value.sent == "no"
    array.release()
    ended = {
        job.id: job.last.exit_code
        for job in room.cluster.as_completed([array, after, last], timeout=90)
    }
    assert ended == {
        **{f"{array.id}.{n}": 0 for n in (1, 2, 3)},
        after.id: 0,
        **{f"{last.id}.{n}": 4 for n in (1, 2)},
    }


def test_after_ok_is_no_guess(room: Room, gridengine: GridEngineLab) -> None:
    """-hold_jid would start the job after a failure, too."""
    first = room.submit("exit 1", hold=True)
    for wanted in ("after_ok", "after_failed"):
        with pytest.raises(SchedulerError, match=wanted) as caught:
            room.submit(token=wanted, **{wanted: [first]})  # type: ignore[arg-type]
        assert (caught.value.kind, caught.value.sent) == ("unsupported", "no")
        assert not any(path.match(f"*/{wanted}") for path in room.private())
    assert gridengine.command("qstat", "-u", room.host.user).count(" hqw ") == 1


@pytest.fixture
def slow_accounting(gridengine: GridEngineLab) -> Iterator[None]:
    """Records are written some seconds late, as at most sites (15 s is the default)."""
    flushed = "accounting=true reporting=false accounting_flush_time=00:00:03 joblog=false"
    with gridengine.configured(reporting_params=f"{flushed} flush_time=00:00:03"):
        yield


@pytest.mark.usefixtures("slow_accounting")
def test_jobs_that_cannot_start(room: Room, gridengine: GridEngineLab) -> None:
    """The error state: failed, and kept by the queue; when it is cleared, active again.

    Until the record of the second try is written, that of the first is all that there is.
    """
    lost = room.submit(options=["-wd", "/nowhere"])
    mute = room.submit(options=["-o", f"{room.here}/missing/out"])
    shy = room.submit("[ -e shy ] && exit 0; touch shy; exit 100", array="7-7")
    task = room.cluster.job(f"{shy.id}.7")
    tries = {lost: ("28", "can't chdir to /nowhere"), mute: ("26", "can't open output file"),
             task: ("30", "100")}  # fmt: skip
    for job, (_, reason) in tries.items():
        room.until_state(job, JobState.FAILED)
        assert gridengine.letters(JobId.parse(job.id).number) == "Eqw"
        assert reason in str(job.reason)
    for job, (number, reason) in tries.items():
        room.until(job, lambda one=job: bool(gridengine.accounting(one.id)), "record")  # type: ignore[misc]
        assert gridengine.own_word(job.id)[0] == number
        # The record only names the kind of trouble.
        room.until(job, lambda one=job: one.status().source == "accounting", "its end")  # type: ignore[misc]
        assert job.last.state is JobState.FAILED
        assert reason in str(job.reason)
    (room.path / "missing").mkdir()
    (room.path / "missing").chmod(0o777)
    for job in (mute, shy):
        # Its status is 1 although it did it.
        assert "cleared" in gridengine.command("qmod", "-cj", job.id, check=False)

    def are_active() -> bool:
        listed = [one for one in room.cluster.jobs() if one.state.is_active]
        return {one.job_id for one in listed} >= {mute.id, task.id}

    room.until(mute, are_active, "a new try")
    seen = set()
    for job in (mute, task):
        room.until(job, lambda one=job: seen.add(one.status().state) or one.last.is_final, "end")  # type: ignore[misc]
        assert (job.last.state, gridengine.own_word(job.id)) == ("completed", ("0", "0"))
    assert JobState.FAILED not in seen
    assert JobState.UNKNOWN in seen, "between the queue and the accounting"
    assert lost.cancel() is CancelOutcome.REQUESTED
    assert lost.status().state is JobState.FAILED


def test_a_suspended_job(room: Room, gridengine: GridEngineLab) -> None:
    job = room.submit("sleep 300")
    room.until(job, lambda: gridengine.letters(job.id) == "r", "its start")
    gridengine.command("qmod", "-sj", job.id)
    room.until_state(job, JobState.SUSPENDED)
    assert gridengine.letters(job.id) == "s"
    gridengine.command("qmod", "-usj", job.id)
    room.until_state(job, JobState.RUNNING)


# -- cancelled -------------------------------------------------------------------------------


def test_cancelled_while_it_waits_and_while_it_runs(room: Room, gridengine: GridEngineLab) -> None:
    running, warned = room.submit("sleep 300"), room.submit("sleep 300", options=["-notify"])
    waiting = room.submit("true", hold=True)
    for job in (running, warned):
        room.until_state(job, JobState.RUNNING)
    room.until_state(waiting, JobState.HELD)
    outcomes = room.cluster.cancel([running, warned, waiting, "99999999"])
    assert outcomes == {
        running.id: CancelOutcome.REQUESTED,
        warned.id: CancelOutcome.REQUESTED,
        waiting.id: CancelOutcome.REQUESTED,
        "99999999": CancelOutcome.NOT_FOUND,
    }
    for job, number in ((running, 9), (warned, 12)):
        ended = job.wait(timeout=60)
        # Its accounting cannot tell a deletion from a signal: it says how the job ended, not why.
        assert gridengine.own_word(job.id) == ("100", str(128 + number))
        assert (ended.state, ended.signal) == (JobState.CANCELLED, number)
        assert (ended.source, str(ended.reason)[:11]) == ("accounting", "cancelled; ")
    # Of a job that never ran there is no record at all.
    assert gridengine.accounting(waiting.id) == []
    status = waiting.wait(timeout=60)
    assert (status.state, status.reason) == (JobState.CANCELLED, "cancelled before it ran")
    assert status.exit_code is None


def test_deleted_by_another_hand(room: Room, gridengine: GridEngineLab, sshd: Host) -> None:
    """Nobody tells who deleted a job: what can be known is how it ended, or that it is gone."""
    running, forced = room.submit("sleep 300"), room.submit("sleep 300")
    waiting = room.submit("true", hold=True)
    for job in (running, forced):
        room.until_state(job, JobState.RUNNING)
    room.until_state(waiting, JobState.HELD)
    gridengine.command("qdel", running.id, waiting.id, user=sshd.user)
    gridengine.command("qdel", "-f", forced.id)
    ended = running.wait(timeout=60)
    assert (ended.state, ended.signal) == (JobState.FAILED, 9)
    room.until_state(waiting, JobState.UNKNOWN)
    assert not room.cluster.is_over(waiting)
    assert_forced(forced, gridengine)


def assert_forced(job: Job, lab: GridEngineLab) -> None:
    """The accounting calls a forced deletion a success; nothing in it was measured, though."""
    status = job.wait(timeout=30)
    assert (status.state, status.exit_code) == (JobState.CANCELLED, None)
    assert str(status.reason).startswith("deleted by force")
    assert lab.own_word(job.id) == ("0", "0")
    (record,) = lab.accounting(job.id)
    assert (record["ru_wallclock"], record["ru_minflt"]) == ("0s", "0")


# -- nobody there -----------------------------------------------------------------------------


def test_a_host_that_falls_silent(room: Room, daemons: GridEngineLab) -> None:
    """The queue calls its jobs running for ever; they are unknown, and end when it is back."""
    lab = daemons
    job = room.submit("while [ ! -e go ]; do sleep 0.1; done; exit 4", queue="all.q")
    room.until(job, lambda: lab.letters(job.id) == "r", "its start")
    room.until_state(job, JobState.RUNNING)
    with (
        lab.configured(max_unheard="00:00:01"),
        lab.queue_with("all.q", "load_thresholds", "np_load_avg=100", "NONE"),
    ):
        lab.host.stop(number=signal.SIGKILL)
        room.until_state(job, JobState.UNKNOWN)
        assert " au" in lab.command("qstat", "-f", "-q", "all.q")
        assert lab.letters(job.id) == "r"
        assert "does not answer" in str(job.reason)
        assert not room.cluster.is_over(job)
        room.make("go", "")
        assert job.status().state is JobState.UNKNOWN
    lab.start_host()
    status = job.wait(timeout=60)
    assert (status.state, status.exit_code) == ("failed", 4)
    assert lab.own_word(job.id) == ("0", "4")


def test_a_master_and_a_host_that_are_away_end_no_job(room: Room, daemons: GridEngineLab) -> None:
    lab = daemons
    until_told = "while [ ! -e {} ]; do sleep 0.1; done; touch {}; exit {}"
    first = room.submit(until_told.format("go", "first", 4))
    doomed = room.submit(until_told.format("doom", "second", 6))
    stays, forced = room.submit("sleep 300"), room.submit("sleep 300")
    jobs = [first, doomed, stays, forced]
    for job in jobs:
        # "t" is running, too, but its host has not said so yet.
        room.until(job, lambda job=job: lab.letters(job.id) == "r", "r")  # type: ignore[misc]
        room.until_state(job, JobState.RUNNING)
    lab.master.stop(number=signal.SIGKILL)
    assert_no_master(room, first)
    # It ends while nobody listens, and then its host falls silent.
    room.make("go", "")
    assert until((room.path / "first").exists)
    lab.host.stop(number=signal.SIGKILL)
    lab.start_master()
    # Who did not answer is left alone for a while.
    room.until(first, lambda: room.cluster.status(jobs).error is None, "an answer")
    for job in jobs:
        status = job.status()
        assert (status.state, status.raw_state) == (JobState.UNKNOWN, "r")
        assert status.reason == "its host login does not answer; the queue still calls it running"
        assert not room.cluster.is_over(job)
        assert lab.letters(job.id) == "r", "that is what is not to be believed"
    (node,) = room.cluster.nodes()
    assert (node.state, node.raw_state) == ("down", "u u")
    assert doomed.cancel() is CancelOutcome.REQUESTED
    room.until(doomed, lambda: doomed.status().raw_state == "dr", "its deletion")
    assert (doomed.last.state, lab.letters(doomed.id)) == ("unknown", "dr")
    lab.command("qdel", "-f", forced.id)
    assert_forced(forced, lab)
    # This one ends by itself before anybody comes to end it.
    room.make("doom", "")
    assert until((room.path / "second").exists)
    lab.start_host()
    ended, other = room.cluster.wait([first, doomed], timeout=90)
    assert (ended.state, ended.exit_code, other.state, other.exit_code) == (
        "failed",
        4,
        "failed",
        6,
    )
    assert [lab.own_word(job.id) for job in (first, doomed)] == [("0", "4"), ("0", "6")]
    room.until_state(stays, JobState.RUNNING)
    lab.command("qdel", "-f", stays.id)
    assert_forced(stays, lab)


def assert_no_master(room: Room, job: Job) -> None:
    """Every question is answered by an error, and nothing is learned."""
    assert until(lambda: room.cluster.status([job]).error)
    snapshot = room.cluster.status([job])
    assert snapshot.error is not None
    assert (snapshot.error.kind, snapshot.unknown) == ("transient", (job.id,))
    assert job.last.state is JobState.RUNNING
    assert job.cancel() is CancelOutcome.TRANSIENT
    with pytest.raises(SchedulerError) as caught:
        room.cluster.jobs()
    assert caught.value.kind == "transient"
    with pytest.raises(SubmitRejected) as refused:
        room.submit()
    assert refused.value.kind == "transient"
