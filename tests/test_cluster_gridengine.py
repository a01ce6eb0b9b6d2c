"""A real Grid Engine over ssh: what is reported is what its own accounting says."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from openssh_jobs import Cluster, JobState
from openssh_jobs.errors import SchedulerError, SubmitRejected
from openssh_jobs.jobs import CancelOutcome
from tests.real.gridengine import GridEngineLab
from tests.real.room import Room, open_room
from tests.real.site import Host


@contextlib.contextmanager
def _open(host: Host, lab: GridEngineLab, local: Path) -> Iterator[Room]:
    with open_room(host, "sge", None, local, prologue=lab.prologue) as room:
        yield room
        lab.command("qdel", "-u", host.user, check=False)
        deadline = time.monotonic() + 20
        while lab.command("qstat", "-u", host.user).strip():
            assert time.monotonic() < deadline, "jobs that do not go"
            time.sleep(0.1)


@pytest.fixture
def room(sshd: Host, gridengine: GridEngineLab, tmp_path: Path) -> Iterator[Room]:
    with _open(sshd, gridengine, tmp_path) as room:
        yield room


def own_word(lab: GridEngineLab, job_id: str) -> tuple[str, str]:
    """The words ``failed`` and ``exit_status`` of the accounting, of the last run of a job."""
    record = lab.accounting(job_id)[-1]
    return record["failed"].partition(":")[0].strip(), record["exit_status"].split()[0]


# -- submitting -----------------------------------------------------------------------------


def test_a_text_is_submitted_and_its_output_read(room: Room, gridengine: GridEngineLab) -> None:
    job = room.submit("echo hello; echo oops >&2; pwd", name="hi|there")
    assert job.id.isdigit()
    status = job.wait(timeout=60)
    assert (status.state, job.exit_code, status.source) == ("completed", 0, "accounting")
    assert (job.name, status.name, job.directory) == ("hi|there", "hi|there", room.here)
    assert (status.user, status.queue, status.nodes) == ("hpcalice", "all.q", ("login",))
    assert list(job.tail()) == ["hello\n", f"{room.here}\n"]
    assert list(job.tail("stderr")) == ["oops\n"]
    assert own_word(gridengine, job.id) == ("0", "0")
    record = gridengine.accounting(job.id)[0]
    for key, said in (("qsub_time", status.submitted), ("end_time", status.ended)):
        assert said is not None
        assert said.strftime("%a %b %e %H:%M:%S %Y") == record[key]


def test_a_local_file_and_an_uploaded_directory(room: Room, tmp_path: Path) -> None:
    script = tmp_path / "step.sh"
    script.write_text("#!/bin/sh\necho $REQNAME\n")
    job = room.cluster.submit(script_file=script, directory=room.here)
    assert job.wait(timeout=60).state is JobState.COMPLETED
    assert (job.name, list(job.tail())) == ("step.sh", ["step.sh\n"])
    source = tmp_path / "input"
    source.mkdir()
    (source / "run.sh").write_text("#!/bin/sh\ncat data > result\n")
    (source / "data").write_text("42\n")
    other = room.cluster.submit("run.sh", upload=source, directory=f"{room.here}/new/work")
    assert other.wait(timeout=60).state is JobState.COMPLETED
    other.fetch(tmp_path / "back")
    assert (tmp_path / "back" / "result").read_text() == "42\n"


@pytest.mark.parametrize("name", ["1st", "a b", "é", "a:b", "a@b", "a/b", "a\nb", "*"])
def test_a_name_that_it_does_not_take_makes_no_job(
    room: Room, gridengine: GridEngineLab, name: str
) -> None:
    with pytest.raises(SchedulerError):
        room.submit("sleep 300", name=name)
    assert gridengine.command("qstat", "-u", "*") == ""


def test_directives_and_wishes_arrive(room: Room, gridengine: GridEngineLab) -> None:
    job = room.submit(
        "#$ -q short.q\nsleep 300",
        time_limit=timedelta(minutes=2),
        memory="300M",
        name="wishes",
        env={"COLOUR": "b'l ue"},
        options=["-v", "COLOUR"],
    )
    said = gridengine.command("qstat", "-j", job.id)
    assert "h_rt=120" in said
    assert "h_vmem=300M" in said
    assert "short.q" in said
    assert "COLOUR=b'l ue" in said


def test_a_queue_that_is_none_is_refused(room: Room) -> None:
    with pytest.raises(SubmitRejected) as caught:
        room.submit(queue="nowhere.q")
    assert caught.value.kind == "invalid_request"


def test_an_array_and_its_tasks(room: Room, gridengine: GridEngineLab) -> None:
    job = room.submit("exit $((SGE_TASK_ID == 2))", array="1-3")
    ids = [f"{job.id}.{number}" for number in (1, 2, 3)]
    states = room.cluster.wait(ids, timeout=60)
    assert [one.state for one in states] == ["completed", "failed", "completed"]
    assert [one.exit_code for one in states] == [0, 1, 0]
    assert [own_word(gridengine, one)[1] for one in ids] == ["0", "1", "0"]
    assert job.wait(timeout=60).state is JobState.FAILED


# -- order ------------------------------------------------------------------------------------


def test_hold_release_and_a_job_that_waits_for_another(room: Room) -> None:
    first = room.submit("exit 1", hold=True)
    second = room.submit(after_any=[first])
    room.until_state(first, JobState.HELD)
    assert second.status().state is JobState.PENDING, "it waits for a job, nobody holds it"
    assert first.release() is CancelOutcome.REQUESTED
    assert first.wait(timeout=60).state is JobState.FAILED
    assert second.wait(timeout=60).state is JobState.COMPLETED
    third = room.submit(queue="short.q", hold=True)
    third.release()
    third.wait(timeout=60)
    with pytest.raises(SchedulerError, match="after_ok"):
        room.submit(after_ok=[first])


def test_hold_of_a_waiting_job(room: Room, gridengine: GridEngineLab) -> None:
    before = room.submit("sleep 300", queue="short.q")
    room.until_state(before, JobState.RUNNING)
    job = room.submit(queue="short.q")
    room.until_state(job, JobState.PENDING)
    assert job.hold() is CancelOutcome.REQUESTED
    room.until_state(job, JobState.HELD)
    assert "hqw" in gridengine.command("qstat", "-u", "*")


# -- how jobs end -------------------------------------------------------------------------------


def test_a_failing_job_and_one_that_a_signal_ends(room: Room, gridengine: GridEngineLab) -> None:
    failing, killed = room.submit("exit 3"), room.submit("kill -9 $$")
    first, second = room.cluster.wait([failing, killed], timeout=60)
    assert (first.state, first.exit_code, first.signal) == (JobState.FAILED, 3, None)
    assert own_word(gridengine, failing.id) == ("0", "3")
    assert (second.state, second.exit_code, second.signal) == (JobState.FAILED, None, 9)
    assert own_word(gridengine, killed.id) == ("100", "137")


def test_limits_of_time_and_memory(room: Room, gridengine: GridEngineLab) -> None:
    slow = room.submit("sleep 300", time_limit=timedelta(seconds=2))
    greedy = room.submit("head -c 300M /dev/zero | { tail || exit 7; }", memory="100M")
    timed, starved = room.cluster.wait([slow, greedy], timeout=60)
    assert timed.state is JobState.TIMEOUT
    assert own_word(gridengine, slow.id) == ("37", "137")
    # h_vmem is an rlimit: the program gets no more memory, and what it makes of that is its own.
    assert (starved.state, starved.exit_code) == (JobState.FAILED, 7)
    assert own_word(gridengine, greedy.id) == ("0", "7")


def test_cancelled_while_it_waits_and_while_it_runs(room: Room, gridengine: GridEngineLab) -> None:
    running = room.submit("sleep 300")
    waiting = room.submit("true", hold=True)
    room.until_state(running, JobState.RUNNING)
    room.until_state(waiting, JobState.HELD)
    outcomes = room.cluster.cancel([running, waiting, "99999999"])
    assert outcomes == {
        running.id: CancelOutcome.REQUESTED,
        waiting.id: CancelOutcome.REQUESTED,
        "99999999": CancelOutcome.NOT_FOUND,
    }
    ended = running.wait(timeout=60)
    # Its accounting cannot tell a deletion from kill -9: it says how the job ended, not why.
    assert own_word(gridengine, running.id) == ("100", "137")
    assert (ended.state, ended.signal, ended.source) == (JobState.CANCELLED, 9, "accounting")
    assert str(ended.reason).startswith("cancelled; ")
    # Of a job that never ran there is no record at all.
    assert gridengine.accounting(waiting.id) == []
    status = waiting.wait(timeout=60)
    assert (status.state, status.reason) == (JobState.CANCELLED, "cancelled before it ran")
    assert status.exit_code is None


def test_deleted_by_another_hand(room: Room, gridengine: GridEngineLab, sshd: Host) -> None:
    """Nobody tells who deleted a job: what can be known is how it ended, or that it is gone."""
    running, waiting = room.submit("sleep 300"), room.submit("true", hold=True)
    room.until_state(running, JobState.RUNNING)
    room.until_state(waiting, JobState.HELD)
    gridengine.command("qdel", running.id, waiting.id, user=sshd.user)
    ended = running.wait(timeout=60)
    assert (ended.state, ended.signal) == (JobState.FAILED, 9)
    room.until_state(waiting, JobState.UNKNOWN)
    assert not room.cluster.is_over(waiting)


def test_a_job_that_cannot_start_is_failed(room: Room, gridengine: GridEngineLab) -> None:
    job = room.submit("true", options=["-wd", "/nowhere"])
    room.until_state(job, JobState.FAILED)
    assert "Eqw" in gridengine.command("qstat", "-u", "*")
    # The try is on record, with a reason and without an exit code of the job's own.
    assert own_word(gridengine, job.id) == ("28", "0")
    assert (job.exit_code, job.reason) == (None, "changing into working directory")
    assert job.cancel() is CancelOutcome.REQUESTED


def test_a_job_that_asks_to_run_again(room: Room, gridengine: GridEngineLab) -> None:
    """Exit status 99 sends a job back to the queue: the record of that run is no end."""
    job = room.submit("[ -e again ] && exit 5; touch again; sleep 1; exit 99")
    status = job.wait(timeout=60)
    assert (status.state, status.exit_code) == (JobState.FAILED, 5)
    assert [record["failed"].split()[0] for record in gridengine.accounting(job.id)] == ["25", "0"]


# -- the scheduler away -----------------------------------------------------------------------


@pytest.fixture
def stopped(gridengine: GridEngineLab) -> Iterator[Callable[[], None]]:
    """No master, until the test is over."""
    yield gridengine.master.stop
    if not gridengine.master.running():
        gridengine.start_master()


def test_a_master_that_is_away_ends_no_job(
    room: Room, gridengine: GridEngineLab, stopped: Callable[[], None]
) -> None:
    job = room.submit(f"while [ ! -e {room.here}/go ]; do sleep 0.1; done; exit 4")
    room.until_state(job, JobState.RUNNING)
    stopped()
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
    gridengine.start_master()
    # Until the host has reported itself, the master only repeats what it knew before.
    assert job.status().state in (JobState.UNKNOWN, JobState.RUNNING)
    room.make("go", "")
    status = job.wait(timeout=60)
    assert (status.state, status.exit_code) == (JobState.FAILED, 4)


# -- the machine --------------------------------------------------------------------------------


def test_jobs_of_mine_and_of_all(
    room: Room, gridengine: GridEngineLab, sshd: Host, tmp_path: Path
) -> None:
    job = room.submit("true", hold=True)
    theirs = gridengine.command("qsub", "-h", "-terse", "-b", "y", "/bin/true", user="hpcbob")
    try:
        assert [one.job_id for one in room.cluster.jobs()] == [job.id]
        everybody = {one.job_id: one.user for one in room.cluster.jobs(all_users=True)}
        assert everybody == {job.id: "hpcalice", theirs.strip(): "hpcbob"}
        outcome = room.cluster.cancel(theirs.strip())
        assert outcome == {theirs.strip(): CancelOutcome.PERMISSION}
    finally:
        gridengine.command("qdel", theirs.strip())


def test_nodes_and_queues(room: Room) -> None:
    (node,) = room.cluster.nodes()
    assert (node.name, node.state, set(node.queues)) == ("login", "idle", {"all.q", "short.q"})
    queues = {one.name: one for one in room.cluster.queues()}
    assert (queues["all.q"].cpus, queues["short.q"].cpus) == (4, 1)
    assert queues["all.q"].state == "up"


def test_it_is_found(room: Room, gridengine: GridEngineLab, tmp_path: Path) -> None:
    # Slurm's programs are on the path of the lab's host whether it runs or not.
    tools = room.path / "tools"
    tools.mkdir()
    for name in ("sh", "id", "sed", "grep", "od", "tr", "cat", "uname", "date"):
        (tools / name).symlink_to(str(shutil.which(name)))
    prologue = f"{gridengine.prologue}\nPATH={gridengine.directory}/bin:{tools}; export PATH"
    with Cluster(
        room.host.alias,
        ssh_config=room.host.config,
        prologue=prologue,
        journal=str(tmp_path / "other"),
    ) as cluster:
        assert cluster.jobs() == []
        assert cluster.scheduler == "sge"


def test_a_job_of_another_hand_is_attached_to(room: Room, gridengine: GridEngineLab) -> None:
    script = room.make("hand.sh", "#!/bin/sh\nexit 6\n")
    said = gridengine.command("qsub", "-wd", room.here, f"{room.here}/{script}", user="hpcalice")
    job = room.cluster.job(int(said.split()[2]))
    status = job.wait(timeout=60)
    assert (status.state, status.exit_code) == (JobState.FAILED, 6)
    assert own_word(gridengine, job.id) == ("0", "6")
