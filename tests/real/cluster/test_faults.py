"""A scheduler that does not answer, many who ask at once, and what all of that costs the host."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Cluster, JobState
from openssh_jobs.errors import SchedulerError, SubmitRejected, SubmitUnknown
from openssh_jobs.jobs import CancelOutcome
from tests.lab.room import Room, open_room
from tests.lab.site import Host
from tests.lab.slurm import SlurmLab


@pytest.fixture
def room(sshd: Host, slurm: SlurmLab, tmp_path: Path) -> Iterator[Room]:
    with open_room(sshd, "slurm", slurm, tmp_path) as room:
        yield room


@pytest.fixture
def frozen(slurm: SlurmLab) -> Iterator[Callable[[], None]]:
    """A controller that takes connections and never answers, until the test is over."""
    yield slurm.controller.freeze
    slurm.controller.thaw()
    slurm.wait_until_ready()


def own_jobs(slurm: SlurmLab, host: Host) -> list[str]:
    """The ids of the user's jobs, as the real queue has them."""
    return slurm.command("squeue", "-h", "-a", "-t", "all", "-u", host.user, "-o", "%i").split()


def test_a_controller_that_is_away_ends_no_job(
    room: Room, slurm: SlurmLab, stopped: Callable[[], None], tmp_path: Path
) -> None:
    cluster = room.cluster
    job, ended = room.submit("sleep 300"), room.submit("exit 3")
    room.until_state(job, JobState.RUNNING)
    ended.wait(timeout=60)
    stopped()
    time.sleep(0.3)
    snapshot = cluster.status([job, ended])
    assert snapshot.error is not None
    assert snapshot.error.kind in ("transient", "transport")
    assert (snapshot.unknown, list(snapshot.known), snapshot.absent) == ((job.id,), [ended.id], ())
    assert snapshot[job.id].state is JobState.UNKNOWN
    assert job.last.state is JobState.RUNNING, "what was known before stays known"
    assert job.status().state is JobState.RUNNING
    assert not cluster.is_over(job)
    row = cluster.journal.by_job(cluster.host, job.id)
    assert row is not None
    assert row.state == "running"
    with ThreadPoolExecutor(3) as pool:  # each takes nine seconds
        listed = pool.submit(cluster.jobs)
        cancelled = pool.submit(job.cancel)
        submitted = pool.submit(room.submit, "true", token="later")
        assert isinstance(listed.exception(60), SchedulerError), "and never an empty list"
        assert cancelled.result(60) is CancelOutcome.TRANSIENT
        rejected = submitted.exception(60)
    assert isinstance(rejected, SubmitRejected), "certainly no job: sbatch reached nobody"
    assert rejected.kind == "transient"
    assert "Unable to contact slurm controller" in str(rejected)
    slurm.controller.start()
    slurm.wait_until_ready()
    # Who did not answer is left alone for longer than the query took.
    room.until(job, lambda: cluster.status([job]).error is None, "an answer", patience=90)
    assert job.status().state is JobState.RUNNING
    assert room.submit("true", token="later").wait(timeout=60).state is JobState.COMPLETED


def test_waiting_outlasts_a_controller_that_is_away(
    room: Room, slurm: SlurmLab, stopped: Callable[[], None]
) -> None:
    job = room.submit(f"while [ ! -e {room.here}/go ]; do sleep 0.1; done; exit 4")
    room.until_state(job, JobState.RUNNING)
    stopped()
    with ThreadPoolExecutor(1) as pool:
        over = pool.submit(job.wait, 100)
        queries = room.cluster.queries
        deadline = time.monotonic() + 60
        while room.cluster.queries < queries + 1 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not over.done()
        # The job goes on without its controller, and even ends.
        room.make("go", "")
        slurm.controller.start()
        slurm.wait_until_ready()
        status = over.result(100)
    assert (status.state, status.exit_code) == (JobState.FAILED, 4)


def test_a_submission_without_an_answer_stays_open(
    room: Room, slurm: SlurmLab, frozen: Callable[[], None], sshd: Host
) -> None:
    cluster = room.cluster
    assert len(own_jobs(slurm, sshd)) == len(set(own_jobs(slurm, sshd)))
    before = set(own_jobs(slurm, sshd))
    frozen()
    with pytest.raises(SubmitUnknown, match="not known whether the job was submitted") as caught:
        room.submit("true", token="open-1")
    assert (caught.value.token, caught.value.sent) == ("open-1", "maybe")
    assert "open-1" in str(caught.value)
    assert "Socket timed out" in caught.value.stderr
    row = cluster.journal.by_token(cluster.host, "open-1")
    assert row is not None
    assert (row.state, row.job_id) == ("new", None)
    slurm.controller.thaw()
    slurm.wait_until_ready()
    with pytest.raises(SubmitUnknown, match="may exist"):
        cluster.job(token="open-1")
    # Whatever became of the first: the same call does not make a second one.
    job = room.submit("true", token="open-1")
    assert cluster.job(token="open-1").id == job.id
    assert set(own_jobs(slurm, sshd)) - before == {job.id}
    assert (room.path / ".openssh_jobs" / "open-1").is_dir(), "what the job may need stays"


def test_a_frozen_controller_blocks_no_question_about_what_is_known(
    room: Room, frozen: Callable[[], None]
) -> None:
    job = room.submit("sleep 300")
    room.until_state(job, JobState.RUNNING)
    frozen()
    time.sleep(0.3)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(job.status)
        time.sleep(0.5)
        assert not asking.done(), "the query hangs"
        reported = threading.Event()

        def cheap() -> None:
            assert job.last.state is JobState.RUNNING
            assert not room.cluster.is_over(job)
            assert room.cluster.following() == [job.id]
            assert room.cluster.job(job.id).reason is None
            assert room.cluster.connection.exists(room.here)
            assert room.cluster.poll_interval == 0.2
            reported.set()

        other = pool.submit(asking.result, 100)
        cheap()
        assert reported.is_set()
        assert not asking.done(), "and all of that was answered meanwhile"
        assert other is not asking
        assert asking.result(100).state is JobState.RUNNING


# -- what it costs ----------------------------------------------------------------------------


def test_fifty_handles_make_one_query_an_interval(
    sshd: Host, slurm: SlurmLab, tmp_path: Path
) -> None:
    with open_room(sshd, "slurm", slurm, tmp_path, poll_interval=5) as room:
        cluster = room.cluster
        array = room.submit("sleep 300", array="1-50", options=["--hold"])
        jobs = [cluster.job(f"{array.id}_{number}") for number in range(1, 51)]
        commands = cluster.connection.stats().commands
        with ThreadPoolExecutor(10) as pool:
            states = list(pool.map(lambda job: job.status().state, jobs))
            states += list(pool.map(lambda job: job.status().state, jobs))
        assert set(states) == {JobState.HELD}
        assert cluster.queries == 1
        assert cluster.connection.stats().commands == commands + 1
        # One that comes under watch later is in the same answer; so is the list of all.
        assert cluster.job(array.id).status().state is JobState.HELD
        assert cluster.queries == 1
        assert len(own_jobs(slurm, sshd)) >= 1


def test_the_list_of_all_jobs_serves_the_handles_too(
    sshd: Host, slurm: SlurmLab, tmp_path: Path
) -> None:
    with open_room(sshd, "slurm", slurm, tmp_path, poll_interval=5) as room:
        cluster = room.cluster
        job = room.submit(hold=True)
        listed = {one.job_id: one.state for one in cluster.jobs()}
        assert listed[job.id] is JobState.HELD
        assert (job.status().state, job.last.source) == (JobState.HELD, "queue")
        cluster.jobs()
        assert cluster.queries == 1
        other = room.submit(hold=True)
        assert other.id in {one.job_id for one in cluster.jobs()}, "a list from before is old"
        assert cluster.queries == 2


def test_the_sites_own_interval_holds(
    sshd: Host, slurm: SlurmLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "servers.toml"
    config.write_text(f"[servers.{sshd.alias}]\npoll_floor = 3600\n")
    monkeypatch.setenv("OPENSSH_JOBS_CONFIG", str(config))
    with open_room(sshd, "slurm", slurm, tmp_path) as room:
        assert room.cluster.poll_interval == 3600
        job = room.submit(hold=True)
        time.sleep(2.1)
        assert job.status().state is JobState.HELD
        for _ in range(20):
            job.status()
            room.cluster.status([job])
        assert room.cluster.queries == 1
        assert job.cancel() is CancelOutcome.REQUESTED
        time.sleep(2.1)
        assert job.status().state is JobState.CANCELLED, "after an act of ours one early look"
        assert room.cluster.queries == 2


def test_many_threads_submit_and_each_job_is_one(room: Room, sshd: Host, slurm: SlurmLab) -> None:
    before = set(own_jobs(slurm, sshd))

    def submit(number: int) -> str:
        wanted = {"name": f"n{number}", "env": {"N": str(number)}, "hold": True}
        return room.submit(f"exit {number}", token=f"many-{number}", **wanted).id

    with ThreadPoolExecutor(6) as pool:
        ids = list(pool.map(submit, range(6)))
    assert len(set(ids)) == 6
    assert set(own_jobs(slurm, sshd)) - before == set(ids), "counted in the real queue"
    rows = room.cluster.journal.rows()
    assert sorted(str(row.job_id) for row in rows) == sorted(ids)


def test_the_same_token_at_the_same_time_is_one_job(
    room: Room, sshd: Host, slurm: SlurmLab
) -> None:
    before = set(own_jobs(slurm, sshd))

    def submit(_: int) -> str | None:
        try:
            return room.submit("true", token="twins", hold=True).id
        except SubmitUnknown:
            return None  # the other one is still under way

    with ThreadPoolExecutor(5) as pool:
        ids = list(pool.map(submit, range(5)))
    reported = {one for one in ids if one is not None}
    assert len(reported) == 1
    assert set(own_jobs(slurm, sshd)) - before == reported
    assert room.submit("true", token="twins", hold=True).id in reported


def test_jobs_through_a_jump_host(jump: Host, slurm: SlurmLab, tmp_path: Path) -> None:
    with open_room(jump, "slurm", slurm, tmp_path) as room:
        before = jump.logins()
        job = room.submit("echo over the bastion", upload=None)
        assert job.wait(timeout=60).state is JobState.COMPLETED
        assert list(job.tail()) == ["over the bastion\n"]
        job.fetch(tmp_path / "back")
        assert (tmp_path / "back" / f"slurm-{job.id}.out").exists()
        assert jump.logins() == before, "no login but the one that the master made"


def test_one_login_for_two_clusters_and_all_they_do(
    cold: Path, expect_logins: Callable[..., None], site: Any, slurm: SlurmLab, tmp_path: Path
) -> None:
    host = site.host("direct")
    expect_logins(1)
    before = host.logins()
    with open_room(host, "slurm", slurm, tmp_path) as room:
        job = room.submit("true")
        with Cluster(
            host.alias, ssh_config=host.config, scheduler="direct", journal=str(tmp_path / "j2")
        ) as local:
            other = local.submit(script_text="true", directory=room.here)
            other.wait(timeout=60)
        job.wait(timeout=60)
        room.cluster.nodes()
        assert host.logins() == before + 1
        room.cluster.connection.close(stop_master=True)
        # The room is tidied up below: by hand, without a second login.
        for row in room.cluster.journal.rows():
            room.cluster.journal.forget(row.host, row.token)


def test_a_broken_scheduler_is_said_so_and_ends_nothing(
    room: Room, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = room.submit("sleep 300")
    room.until_state(job, JobState.RUNNING)
    answers = {
        "empty": ("exit 0", None),
        "banner": ("echo Welcome to the cluster", None),
        "half": ('command -p squeue "$@" 2>&1 | head -c 20; kill -9 $PPID', None),
        "away": ("exit 127", "transient"),
        "missing": ("echo 'squeue: command not found' >&2; exit 127", "scheduler_missing"),
    }
    for name, (body, kind) in answers.items():
        room.make(f"{name}/squeue", f"#!/bin/sh\n{body}\n")
        (room.path / name / "squeue").chmod(0o755)
        with Cluster(
            room.host.alias,
            ssh_config=room.host.config,
            scheduler="slurm",
            journal=room.cluster.journal.path,
            poll_interval=0.1,
            prologue=f"PATH={room.here}/{name}:$PATH; export PATH",
        ) as cluster, caplog.at_level(logging.CRITICAL):  # fmt: skip
            seen = cluster.job(job.id)
            if kind == "scheduler_missing":
                with pytest.raises(SchedulerError, match="command not found") as caught:
                    seen.status()
                assert caught.value.kind == kind
            else:
                reported = cluster.status([job.id])
                assert (reported.error is None) == (name in ("empty", "banner")), name
            assert not seen.last.is_final, name
            assert not cluster.is_over(seen), name
    assert job.status().state is JobState.RUNNING
