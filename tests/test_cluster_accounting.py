"""Slurm with slurmdbd: what is told of jobs that the controller forgot is what sacct says."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from openssh_jobs import Cluster, JobState, JobStatus
from openssh_jobs.errors import SubmitLimit, SubmitRejected
from tests.real import parts
from tests.real.room import Room, open_room
from tests.real.site import Host, Site
from tests.real.slurm import SlurmLab


@pytest.fixture(scope="module")
def accounting(slurm: SlurmLab, site: Site, lab_directory: Path) -> Iterator[SlurmLab]:
    """A Slurm that keeps accounts and forgets ended jobs in seconds, in place of the other."""
    parts.require("accounting")
    assert site.network is not None
    slurm.stop()
    lab = SlurmLab(lab_directory / "slurmdbd", site.network.login, accounting=True, remembers=2)
    try:
        lab.start()
        yield lab
    finally:
        lab.stop()
        slurm.start()


@pytest.fixture
def room(sshd: Host, accounting: SlurmLab, tmp_path: Path) -> Iterator[Room]:
    with open_room(sshd, "slurm", accounting, tmp_path) as room:
        yield room


def own_word(lab: SlurmLab, job_id: str) -> tuple[str, str]:
    """State (its first word) and ExitCode as sacct prints them."""
    said = lab.command("sacct", "-X", "-n", "-P", "-o", "State,ExitCode", "-j", job_id)
    state, code = said.strip().split("|")
    return state.split()[0], code


def until_forgotten(lab: SlurmLab, ids: list[str]) -> None:
    """Wait until neither squeue nor scontrol knows any of these jobs."""
    deadline = time.monotonic() + 90
    while set(lab.command("squeue", "-h", "-a", "-t", "all", "-o", "%A").split()) & set(ids):
        assert time.monotonic() < deadline, "the controller does not forget"
        time.sleep(0.5)


def test_what_the_history_says_of_forgotten_jobs(
    room: Room, accounting: SlurmLab, tmp_path: Path
) -> None:
    fine = room.submit("sleep 1", name="a|b c")
    failed, killed = room.submit("exit 3"), room.submit("kill -9 $$")
    held = room.submit(hold=True)
    array = room.submit("exit $((SLURM_ARRAY_TASK_ID == 2))", array="1-2")
    running = room.submit("sleep 300")
    never = room.submit(after_failed=[fine])
    room.until_state(running, JobState.RUNNING)
    room.cluster.wait([fine, failed], timeout=60)
    room.cluster.cancel([held, running, never])
    expected = {
        fine.id: (JobState.COMPLETED, 0, None),
        failed.id: (JobState.FAILED, 3, None),
        killed.id: (JobState.FAILED, None, 9),
        held.id: (JobState.CANCELLED, None, None),
        running.id: (JobState.CANCELLED, None, 15),
        never.id: (JobState.CANCELLED, None, None),
        f"{array.id}_1": (JobState.COMPLETED, 0, None),
        f"{array.id}_2": (JobState.FAILED, 1, None),
    }
    room.cluster.wait(list(expected), timeout=60)
    until_forgotten(accounting, [one.partition("_")[0] for one in expected])
    # Somebody who never saw them in the queue.
    with Cluster(
        room.host.alias,
        ssh_config=room.host.config,
        scheduler="slurm",
        poll_interval=0.2,
        journal=str(tmp_path / "other"),
    ) as stranger:
        statuses = {one.job_id: one for one in stranger.wait(list(expected), timeout=30)}
        assert {one.source for one in statuses.values()} == {"accounting"}
        for job_id, (state, code, signal) in expected.items():
            told = statuses[job_id]
            assert (told.state, told.exit_code) == (state, code), job_id
            if signal is not None and state is JobState.FAILED:
                assert told.signal == signal
            assert_same(told, own_word(accounting, job_id))
            assert told.user == room.host.user
        assert statuses[fine.id].name == "a|b c"
        times = statuses[fine.id]
        assert times.submitted is not None
        assert times.started is not None
        assert times.ended is not None
        assert times.submitted <= times.started < times.ended
        unknown = stranger.job("99999999").status()
        assert (unknown.state, stranger.is_over("99999999")) == (JobState.UNKNOWN, False)
    # And the one who did says the same.
    for job_id, told in statuses.items():
        assert room.cluster.job(job_id).last.state is told.state


def assert_same(told: JobStatus, word: tuple[str, str]) -> None:
    """What we tell, in sacct's own words."""
    state, code = word
    assert str(told.raw_state).split()[0] == state
    assert {
        "COMPLETED": JobState.COMPLETED,
        "FAILED": JobState.FAILED,
        "CANCELLED": JobState.CANCELLED,
    }[state] is told.state
    if told.state is not JobState.CANCELLED:
        assert f"{told.exit_code or 0}:{told.signal or 0}" == code


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
    finally:
        daemon.start()
    ended = job.wait(timeout=60)
    assert (ended.state, ended.exit_code, ended.source) == (JobState.FAILED, 3, "accounting")
