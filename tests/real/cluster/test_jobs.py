"""Jobs over ssh, with a real Slurm and with no scheduler: watched, ended, and what they wrote."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Cluster, JobState, JobStatus
from openssh_jobs.errors import InputError, SchedulerError
from openssh_jobs.jobs import CancelOutcome
from tests.lab.room import FORGETFUL, Room
from tests.lab.slurm import SlurmLab
from tests.real.cluster.both_rooms import only_direct, only_slurm, room, scheduler

__all__ = ["room", "scheduler"]


# -- watching ---------------------------------------------------------------------------------


def test_a_failing_job_has_its_exit_code(room: Room) -> None:
    job = room.submit("exit 7")
    status = job.wait(timeout=60)
    assert (status.state, status.exit_code, job.exit_code) == (JobState.FAILED, 7, 7)
    assert status.is_final
    assert status.nodes
    row = room.cluster.journal.by_job(room.cluster.host, job.id)
    assert row is not None
    assert (row.state, row.exit_code) == ("failed", 7)


def test_a_killed_job_is_no_success(room: Room) -> None:
    job = room.submit("kill -9 $$")
    status = job.wait(timeout=60)
    assert status.state is JobState.FAILED
    assert (status.exit_code or 0) != 0 or status.signal == 9


def test_a_job_is_pending_or_running_until_it_ends(room: Room) -> None:
    job = room.submit(f"while [ ! -e {room.here}/go ]; do sleep 0.1; done")
    with pytest.raises(TimeoutError, match=job.id):
        job.wait(timeout=0.5)
    room.until_state(job, JobState.RUNNING)
    snapshot = room.cluster.status([job])
    assert snapshot[job.id].state is JobState.RUNNING
    assert snapshot.taken_at is not None
    assert (snapshot.absent, snapshot.unknown, snapshot.error) == ((), (), None)
    listed = {one.job_id: one for one in room.cluster.jobs()}
    assert listed[job.id].state is JobState.RUNNING
    everybody = {one.job_id for one in room.cluster.jobs(all_users=True)}
    assert job.id in everybody
    room.make("go", "")
    assert job.wait(timeout=60).state is JobState.COMPLETED


def test_many_are_waited_for_in_order_and_as_they_come(room: Room) -> None:
    slow = room.submit(f"while [ ! -e {room.here}/go ]; do sleep 0.1; done; exit 2")
    quick = room.submit("true")
    came = []
    for job in room.cluster.as_completed([slow, quick], timeout=60):
        came.append(job)
        room.make("go", "")
    assert came == [quick, slow]
    statuses = room.cluster.wait([slow, quick.id], timeout=60)
    assert [one.job_id for one in statuses] == [slow.id, quick.id]
    assert [one.exit_code for one in statuses] == [2, 0]


def test_cancelling_a_running_job(room: Room) -> None:
    job = room.submit("sleep 31415 & wait")
    room.until_state(job, JobState.RUNNING)
    assert job.cancel() is CancelOutcome.REQUESTED
    status = job.wait(timeout=60)
    assert status.state is JobState.CANCELLED
    assert job.cancel() is CancelOutcome.ALREADY_FINISHED
    sleepers = subprocess.run(
        ["pgrep", "-f", "^sleep 31415$"], capture_output=True, text=True, check=False
    )
    assert sleepers.stdout == "", "nothing of it still runs"


@only_slurm
def test_holding_releasing_and_cancelling_a_pending_job(room: Room) -> None:
    job = room.submit(hold=True)
    room.until_state(job, JobState.HELD)
    assert job.release() is CancelOutcome.REQUESTED
    assert job.wait(timeout=60).state is JobState.COMPLETED
    pending = room.submit(options=["--begin=now+1hour"])
    room.until(pending, lambda: pending.status().reason == "BeginTime", "the wait for its time")
    assert pending.last.state is JobState.PENDING
    assert pending.hold() is CancelOutcome.REQUESTED
    room.until_state(pending, JobState.HELD)
    both = room.cluster.cancel([pending, job.id, "99999999"])
    assert both == {
        pending.id: CancelOutcome.REQUESTED,
        job.id: CancelOutcome.ALREADY_FINISHED,
        "99999999": CancelOutcome.NOT_FOUND,
    }
    assert pending.wait(timeout=60).state is JobState.CANCELLED


@only_direct
def test_holding_without_a_scheduler_is_refused_by_name(room: Room) -> None:
    job = room.submit()
    with pytest.raises(SchedulerError, match="hold") as caught:
        job.hold()
    assert caught.value.kind == "unsupported"
    job.wait(timeout=60)


@only_slurm
def test_dependencies(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    first = room.submit("exit 3", hold=True)
    ok = room.submit(after_ok=first)
    failed = room.submit(after_failed=[first.id], after_any=first)
    room.until(failed, lambda: failed.status().reason == "Dependency", "the dependency")
    assert failed.last.state is JobState.PENDING
    first.release()
    assert failed.wait(timeout=60).state is JobState.COMPLETED
    assert first.status().exit_code == 3
    with caplog.at_level("WARNING", "openssh_jobs.cluster"), pytest.raises(TimeoutError) as caught:
        ok.wait(timeout=8)
    sentence = (
        "DependencyNeverSatisfied: a job that it depends on did not end as required, so it can "
        "never start"
    )
    assert f"{ok.id} pending ({sentence})" in str(caught.value)
    said = [one.getMessage() for one in caplog.records if f"job {ok.id}: " in one.getMessage()]
    assert said == [f"{room.cluster.host}: job {ok.id}: {sentence}; cancel it"], "logged once"
    assert ok.status().reason == sentence
    assert ok.status().state is JobState.PENDING
    assert ok.cancel() is CancelOutcome.REQUESTED


@only_slurm
def test_arrays_and_elements_that_wait_for_each_other(room: Room) -> None:
    """A chain, fan-in, one element, and a limit of elements that run at a time."""
    text = f"mkdir {room.here}/on || exit 9; sleep 0.2; rmdir {room.here}/on\n"
    array = room.submit(f"{text}exit $((SLURM_ARRAY_TASK_ID == 2))", array="1-4%1", hold=True)
    element = room.submit("true", after_ok=array[3])
    failed = room.submit("true", after_failed=[array[2]], after_any=array[1])
    whole = room.submit("true", after_any=array)
    never = room.submit("true", after_ok=[array])
    chain = room.submit("true", after_ok=[element])
    last = room.submit("exit 4", after_ok=[chain, whole, failed], array="1-2")
    changes: list[JobStatus] = []
    array.release()
    ended = {
        job.id: job.last.exit_code
        for job in room.cluster.as_completed(
            [array, element, failed, whole, chain, last], timeout=90, on_change=changes.extend
        )
    }
    elements = {f"{array.id}_{n}": int(n == 2) for n in (1, 2, 3, 4)}
    others = dict.fromkeys([element.id, failed.id, whole.id, chain.id], 0)
    assert ended == {**elements, **others, f"{last.id}_1": 4, f"{last.id}_2": 4}
    assert {one.job_id for one in changes} == ended.keys()
    assert {one.state for one in changes if one.job_id == f"{array.id}_2"} >= {JobState.FAILED}
    room.until(never, lambda: "it can never start" in (never.status().reason or ""), "never")
    never.cancel()


@only_slurm
def test_an_array_and_its_elements(room: Room) -> None:
    text = "echo $SLURM_ARRAY_TASK_ID; exit $((SLURM_ARRAY_TASK_ID == 2))"
    job = room.submit(text, array="1-3")
    assert (len(job), bool(job)) == (3, True)
    over = {element.id: element for element in room.cluster.as_completed([job], timeout=60)}
    assert sorted(over) == [f"{job.id}_{number}" for number in (1, 2, 3)]
    states = [room.cluster.job(f"{job.id}_{number}").last for number in (1, 2, 3)]
    assert [one.id for one in job] == [one.id for one in job.elements()] == sorted(over)
    assert [one.exit_code for one in job] == [0, 1, 0]
    assert list(job[3].tail()) == ["3\n"]
    assert job[2].status().state is JobState.FAILED
    assert job[1].directory == job.directory
    assert job[1].cancel() is CancelOutcome.ALREADY_FINISHED
    for wrong in (0, 4, -1):
        with pytest.raises(InputError, match=f"has no element {wrong}.*submitted as 1-3"):
            job[wrong]
    assert [one.state for one in states] == ["completed", "failed", "completed"]
    assert [one.exit_code for one in states] == [0, 1, 0]
    assert job.wait(timeout=60).state is JobState.FAILED


def test_a_job_submitted_elsewhere_is_attached_to(room: Room, tmp_path: Path) -> None:
    if room.scheduler == "direct":
        other = Cluster(
            room.host.alias,
            ssh_config=room.host.config,
            scheduler="direct",
            journal=str(tmp_path / "j2"),
        )
        with other:
            job_id = other.submit(script_text="echo by hand; sleep 1", directory=room.here).id
    else:
        room.make("hand.sh", "#!/bin/sh\necho by hand; sleep 1\n")
        done = room.cluster.connection.run("sbatch --parsable hand.sh", cwd=room.here, check=True)
        job_id = done.stdout.strip()
    job = room.cluster.job(int(job_id))
    assert (job.id, job.token, job.last.state) == (job_id, None, JobState.UNKNOWN)
    assert job.status().state.is_active
    assert job.wait(timeout=60).state is JobState.COMPLETED
    assert list(job.tail()) == ["by hand\n"]
    assert job.directory == room.here


def test_an_unknown_id(room: Room) -> None:
    job = room.cluster.job("99999999")
    status = job.status()
    assert (status.state, status.reason) == (JobState.UNKNOWN, "the queue does not list it")
    snapshot = room.cluster.status(["99999999"])
    assert snapshot.absent == ("99999999",)
    assert job.cancel() is CancelOutcome.NOT_FOUND
    with pytest.raises(TimeoutError):
        job.wait(timeout=1)
    with pytest.raises(InputError, match="not known where the stdout"):
        list(job.tail())
    with pytest.raises(InputError, match=r"directory of job 99999999 is not known"):
        job.fetch("/nowhere")


@only_slurm
def test_a_job_that_slurm_forgot_is_unknown_until_the_grace_time_is_over(room: Room) -> None:
    """MinJobAge is five minutes here, so squeue and its kin are played by scripts."""
    cluster = room.cluster
    job = room.submit("true", record_exit=False)
    job.wait(timeout=60)
    cluster.journal.change(cluster.host, str(job.token), state="running", exit_code=None)
    other = room.another(grace=1)
    for name, body in FORGETFUL.items():
        room.program(name, body)
    with other:
        gone = other.job(job.id)
        assert gone.status().state is JobState.UNKNOWN
        assert gone.last.reason == "left the queue"
        assert not other.is_over(gone)
        assert gone.exit_code is None
        status = gone.wait(timeout=30)
        assert status.state is JobState.UNKNOWN
        assert "left the queue; the history did not answer" in str(status.reason)
        assert "disabled" in str(status.reason)
        row = cluster.journal.by_job(cluster.host, job.id)
        assert row is not None
        assert row.state == "unknown"


@only_direct
def test_a_job_whose_launcher_was_killed_is_unknown(room: Room, tmp_path: Path) -> None:
    """No exit record after a SIGKILL: how it ended is unknown, and waiting for it ends."""
    with Cluster(
        room.host.alias,
        ssh_config=room.host.config,
        scheduler="direct",
        grace=1,
        journal=str(tmp_path / "j2"),
    ) as cluster:
        job = cluster.submit(script_text="#!/bin/sh\nsleep 300\n", directory=room.here)
        assert job.status().state is JobState.RUNNING
        start = room.host.home / ".openssh_jobs" / "direct" / job.id / "start"
        facts = dict(line.split(" ", 1) for line in start.read_text().splitlines())
        os.kill(int(facts["pid"]), signal.SIGKILL)
        os.killpg(int(facts["child"]), signal.SIGKILL)
        status = job.wait(timeout=30)
        assert status.state is JobState.UNKNOWN
        assert "no exit record" in str(status.reason)
        assert (job.exit_code, cluster.following()) == (None, [])
        row = cluster.journal.by_job(cluster.host, job.id)
        assert row is not None
        assert row.state == "unknown"


# -- output -----------------------------------------------------------------------------------


def test_output_is_followed_from_before_it_exists(room: Room) -> None:
    job = room.submit(
        "sleep 1; echo one; printf 'half '; sleep 1; echo line; printf '\\303'; printf '\\251 end'"
    )
    assert list(job.tail(follow=True)) == ["one\n", "half line\n", "é end"]
    assert job.last.state is JobState.COMPLETED


def test_output_that_is_no_text_and_a_lot_of_it(room: Room) -> None:
    job = room.submit(
        "head -c 700000 /dev/zero | tr '\\0' x; echo; printf '\\377\\303\\n'; printf 'tail\\303'"
    )
    job.wait(timeout=60)
    lines = list(job.tail())
    assert [len(line) for line in lines] == [700001, 3, 5]
    assert os.fsencode(lines[1]) == b"\xff\xc3\n"
    assert os.fsencode(lines[2]) == b"tail\xc3"


def test_output_that_is_not_there(room: Room) -> None:
    job = room.submit("sleep 300")
    room.until_state(job, JobState.RUNNING)
    job.cancel()
    job.wait(timeout=60)
    list(job.tail())
    os.remove(str(job.stdout_path))
    with pytest.raises(FileNotFoundError):
        list(job.tail())
    with pytest.raises(FileNotFoundError):
        list(job.tail(follow=True))


# -- the machine --------------------------------------------------------------------------------


def test_nodes_and_queues(room: Room) -> None:
    nodes = {node.name: node for node in room.cluster.nodes()}
    if room.scheduler == "slurm":
        assert set(nodes) == {"n1", "n2"}
        assert all(node.cpus == 2 for node in nodes.values())
        queues = {queue.name: queue for queue in room.cluster.queues()}
        assert set(queues) == set(SlurmLab.partitions)
        assert queues["batch"].is_default
    else:
        (node,) = nodes.values()
        assert node.is_usable
        with pytest.raises(SchedulerError, match="list of queues"):
            room.cluster.queues()


def test_the_scheduler_is_found_and_remembered(room: Room, tmp_path: Path) -> None:
    journal = str(tmp_path / "other")
    host: dict[str, Any] = {"ssh_config": room.host.config, "journal": journal}
    # Slurm's programs are on the path of the lab's host whether it runs or not.
    prologue = "" if room.scheduler == "slurm" else "PATH=/nowhere; export PATH"
    if room.scheduler == "direct":
        tools = room.host.make_directory(f"{room.path.name}/tools")
        for name in ("od", "tr", "uname", "sh", "cat", "date", "mkdir"):
            found = shutil.which(name)
            assert found is not None
            (tools / name).symlink_to(found)
        prologue = f"PATH={tools}; export PATH"
    with Cluster(room.host.alias, prologue=prologue, **host) as cluster:
        assert cluster.scheduler is None
        assert isinstance(cluster.nodes() if room.scheduler == "slurm" else cluster.jobs(), list)
        assert cluster.scheduler == room.scheduler
        assert cluster.journal.scheduler_of(cluster.host) == room.scheduler
    with Cluster(room.host.alias, prologue=prologue, **host) as cluster:
        cluster.jobs()
        assert cluster.connection.stats().commands == 1, "asked once, remembered for ever"
