"""Several processes that wait for jobs of a real Slurm: its own counts, and sshd's log."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openssh_jobs.cluster.journal import Journal
from tests.helpers import until
from tests.lab.poll import Waiters, counts, ended_at, reset_counts, submit_jobs
from tests.lab.site import Host
from tests.lab.slurm import SlurmLab

_INTERVAL = 2.0


@pytest.fixture
def start(sshd: Host, slurm: SlurmLab, tmp_path: Path) -> Iterator[Callable[[float], Waiters]]:
    """Six processes that wait for 24 jobs, of up to so many seconds."""
    started: list[Waiters] = []

    def make(longest: float) -> Waiters:
        ids = submit_jobs(slurm, sshd, 24, longest=longest, fails=12)
        reset_counts(slurm)
        started.append(Waiters(sshd, tmp_path, [ids[number::6] for number in range(6)], _INTERVAL))
        return started[0]

    yield make
    for waiters in started:
        waiters.end()


def test_six_processes_ask_slurm_as_often_as_one(
    start: Callable[[float], Waiters], sshd: Host, slurm: SlurmLab
) -> None:
    logins, began = sshd.logins(), time.monotonic()
    waiters = start(8.0)
    waiters.wait(120)
    took = time.monotonic() - began
    asked, reported = counts(slurm), waiters.reported()
    assert len(reported) == 24
    assert sorted({state for state, _ in reported.values()}) == ["completed", "failed"]
    assert sshd.logins() == logins, "all of them are on the master that is open"
    most = took / _INTERVAL + 4
    queries = waiters.stamp()
    assert 1 <= queries <= most
    # One more for the exit codes of several jobs that failed, with a query of the history.
    assert queries <= asked["REQUEST_JOB_USER_INFO"] <= queries + waiters.stamp("history")
    assert asked.get("REQUEST_JOB_INFO", 0) == 0
    # One for the exit code of each job that failed; more only where two asked at the same time.
    assert asked.get("REQUEST_JOB_INFO_SINGLE", 0) <= 4
    for job_id, (_, when) in reported.items():
        ended = ended_at(sshd, job_id)
        assert ended is not None
        assert -1 < when - ended < 20, (job_id, reported[job_id], took)


def test_exit_codes_of_many_jobs_are_one_query(sshd: Host, slurm: SlurmLab, tmp_path: Path) -> None:
    """Without accounting; a Slurm that forgets is asked again, and not once for each job."""
    ids = submit_jobs(slurm, sshd, 20, longest=0.5, fails=1)
    reset_counts(slurm)
    waiters = Waiters(sshd, tmp_path, [ids], _INTERVAL)
    try:
        waiters.wait(120)
        reported, asked = waiters.reported(), counts(slurm)
    finally:
        waiters.end()
    assert {state for state, _ in reported.values()} == {"failed"}
    assert len(reported) == 20
    assert asked.get("REQUEST_JOB_INFO_SINGLE", 0) <= 1, "only where one job was left alone"
    most = waiters.stamp() + waiters.stamp("history")
    assert asked["REQUEST_JOB_USER_INFO"] <= most
    journal = Journal(waiters.journal)
    assert sorted((row.job_id, row.exit_code) for row in journal.rows()) == sorted(
        (job_id, 3) for job_id in ids
    )
    journal.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_who_vanishes_in_the_middle_of_a_query_costs_one_interval(
    start: Callable[[float], Waiters], sshd: Host, number: signal.Signals
) -> None:
    logins = sshd.logins()
    waiters = start(6.0)
    pid = waiters.holder()
    assert pid is not None
    before = waiters.stamp()
    os.kill(pid, number)
    try:
        # The lease, and the pause of the others, which grows to some seconds.
        assert until(lambda: waiters.stamp() > before, patience=15)
        others = [process for process in waiters.processes if process.pid != pid]
        assert [process.wait(120) for process in others] == [0] * 5
        assert len(waiters.reported()) >= 20
    finally:
        if number == signal.SIGSTOP:
            os.kill(pid, signal.SIGCONT)
    if number == signal.SIGSTOP:
        waiters.wait(120)
        assert len(waiters.reported()) == 24
    assert sshd.logins() == logins
