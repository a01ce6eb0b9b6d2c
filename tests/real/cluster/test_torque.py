"""Torque's commands as Slurm's wrappers play them (slurm-wlm-torque), on a real Slurm.

They are lossy: a job that ended is ``C`` whatever it was, nothing tells its exit code.  What they
tell of each kind of end is in test_cluster_slurm_states.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openssh_jobs import JobState
from openssh_jobs.errors import SchedulerError, SubmitRejected
from openssh_jobs.jobs import CancelOutcome
from openssh_jobs.schedulers import detection_script, parse_detection
from tests.lab.room import Room, open_room
from tests.lab.site import Host
from tests.lab.slurm import SlurmLab
from tests.lab.wrappers import prologue


@pytest.fixture(scope="module")
def wrappers(lab_directory: Path) -> str:
    return prologue(lab_directory)


@pytest.fixture
def room(sshd: Host, slurm: SlurmLab, wrappers: str, tmp_path: Path) -> Iterator[Room]:
    with open_room(sshd, "torque", slurm, tmp_path, prologue=wrappers, grace=1) as room:
        yield room


def own_state(slurm: SlurmLab, job_id: str) -> str:
    """The state in Slurm itself."""
    return slurm.command("squeue", "-h", "-a", "-t", "all", "-j", job_id, "-o", "%T").strip()


def test_that_it_ended_is_known_and_how_is_not(room: Room, slurm: SlurmLab) -> None:
    job = room.submit("echo hello; exit 3", name="three")
    assert job.id.isdigit()
    status = job.wait(timeout=60)
    assert own_state(slurm, job.id) == "FAILED"
    assert (status.state, status.exit_code) == (JobState.UNKNOWN, None)
    assert str(status.reason).startswith("ended, and the scheduler does not say how")
    assert room.cluster.is_over(job)
    assert (status.name, status.user, status.queue) == ("three", "hpcalice", "batch")
    assert list(job.tail()) == ["hello\n"]


def test_running_waiting_and_cancelled(room: Room, slurm: SlurmLab) -> None:
    running = room.submit("sleep 300", time_limit="00:05:00", memory="100M", cpus=1)
    waiting = room.submit(after_any=[running])
    room.until_state(running, JobState.RUNNING)
    assert waiting.status().state is JobState.PENDING
    assert {one.job_id for one in room.cluster.jobs()} >= {running.id, waiting.id}
    assert slurm.command("squeue", "-h", "-j", running.id, "-o", "%l %m").split() == [
        "5:00",
        "100M",
    ]
    outcomes = room.cluster.cancel([waiting, running])
    assert set(outcomes.values()) == {CancelOutcome.REQUESTED}
    for job in (waiting, running):
        assert job.wait(timeout=60).state is JobState.UNKNOWN
        assert own_state(slurm, job.id) == "CANCELLED"


def test_refusals_and_an_unknown_id(room: Room) -> None:
    with pytest.raises(SubmitRejected) as refused:
        room.submit(queue="nowhere")
    assert refused.value.kind == "invalid_request"
    known = room.submit("sleep 300")
    snapshot = room.cluster.status(["99999999"])
    assert (snapshot.absent, snapshot.error) == (("99999999",), None)
    snapshot = room.cluster.status([known.id, "99999999"])
    assert (list(snapshot.known), snapshot.absent) == ([known.id], ("99999999",))


def test_a_controller_that_is_away_ends_no_job(room: Room, stopped: Callable[[], None]) -> None:
    job = room.submit("sleep 300")
    room.until_state(job, JobState.RUNNING)
    stopped()
    time.sleep(0.3)
    snapshot = room.cluster.status([job])
    assert (snapshot.unknown, snapshot.absent) == ((job.id,), ())
    assert snapshot.error is not None
    assert snapshot.error.kind == "transient"
    assert job.last.state is JobState.RUNNING
    with pytest.raises(SchedulerError):
        room.cluster.jobs()


def test_nodes(room: Room) -> None:
    nodes = {node.name: node for node in room.cluster.nodes()}
    assert set(nodes) == {"n1", "n2"}
    assert all(node.cpus == 2 and node.state == "idle" for node in nodes.values())


def test_the_wrappers_are_not_what_is_found(room: Room) -> None:
    """Where Slurm's own commands are, they tell the truth: ``auto`` takes them."""
    done = room.cluster.internal.client.ask(detection_script())
    assert next(iter(parse_detection(done.stdout))) == "slurm"
