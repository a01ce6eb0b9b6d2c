"""Real processes on one journal; their host is this machine, whose squeue notes each call."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import until
from tests.paths import CHECKOUT
from tests.unit.cluster.fakes import LocalHost

# Its last argument but some is the format, which begins with the mark of the answer.
_SQUEUE = """
echo >> "$HOME/asked"
[ ! -e "$HOME/slow" ] || sleep 0.5
for word; do case $word in *'|%i|'*) mark=${word%%|*};; esac; done
for path in "$HOME"/jobs/*; do
  id=${path##*/}
  read -r state < "$path"
  printf '%s|%s|%s|%s|me|batch||1|N/A|N/A|N/A|0:01|10:00|%s|None|%s|a|%s|/tmp|%s|x\\n' \
    "$mark" "$id" "$id" "$state" "$mark" "$mark" "$mark" "$mark"
done
"""
_WAIT = """
import json, sys, time
from openssh_jobs import Cluster, LocalConnection
home, journal, jobs = json.loads(sys.argv[1])
with Cluster(
    LocalConnection(),
    scheduler="slurm",
    login_shell=False,
    prologue=f"HOME={home} PATH={home}/bin:$PATH; export HOME PATH",
    journal=journal,
    poll_interval=1.0,
) as cluster:
    for job in cluster.as_completed([cluster.job(job_id) for job_id in jobs]):
        print(job.id, job.last.state, time.time(), flush=True)
"""


class Processes:
    def __init__(self, home: Path, jobs: list[list[str]]) -> None:
        self.home = home
        self.journal = home / "state" / "journal.sqlite"
        (home / "jobs").mkdir()
        LocalHost(home).program("squeue", _SQUEUE)
        self.jobs = [job_id for some in jobs for job_id in some]
        for job_id in self.jobs:
            self.note(job_id, "RUNNING")
        self.all = [
            subprocess.Popen(
                [sys.executable, "-c", _WAIT, json.dumps([str(home), str(self.journal), some])],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                cwd=CHECKOUT,
            )
            for some in jobs
        ]

    def note(self, job_id: str, state: str) -> None:
        path = self.home / "jobs" / job_id
        path.with_suffix(".new").write_text(f"{state}\n")
        path.with_suffix(".new").replace(path)

    def asked(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            return len((self.home / "asked").read_text())
        return 0

    def column(self, text: str) -> list[object]:
        try:
            with contextlib.closing(sqlite3.connect(self.journal)) as file:
                return [row[0] for row in file.execute(text)]
        except sqlite3.OperationalError:
            return []

    def follow_all(self) -> bool:
        return len(self.column("SELECT ids FROM polls_followed")) == len(self.all)

    def is_written(self) -> bool:
        """Whether some process holds SQLite's lock for writing."""
        with contextlib.closing(sqlite3.connect(self.journal, timeout=0.3)) as file:
            try:
                file.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
        return False

    def stop(self, pid: int) -> None:
        """Stop a process outside of its writes; inside, all others would wait for SQLite's lock."""

        def is_stopped() -> bool:
            os.kill(pid, signal.SIGSTOP)
            if not self.is_written():
                return True
            os.kill(pid, signal.SIGCONT)
            return False

        assert until(is_stopped, patience=30)

    def holder(self) -> int:
        found: list[object] = []
        assert until(
            lambda: (
                found.extend(self.column("SELECT holder FROM polls WHERE holder IS NOT NULL"))
                or found
            ),
            patience=30,
        )
        return int(str(found[0]).partition("-")[0])

    def end(self) -> None:
        for process in self.all:
            process.kill()
            process.communicate()


@pytest.fixture(params=[3, pytest.param(6, marks=pytest.mark.long)])
def waiting_processes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Processes]:
    numbers = range(10, 10 * (request.param + 1), 10)
    made = Processes(tmp_path, [[str(number), str(number + 1)] for number in numbers])
    try:
        assert until(made.follow_all, patience=60)
        yield made
    finally:
        made.end()


def test_several_processes_ask_as_often_as_one(waiting_processes: Processes) -> None:
    before, began = waiting_processes.asked(), time.monotonic()
    time.sleep(3)
    ended = time.time()
    for job_id in waiting_processes.jobs:
        waiting_processes.note(job_id, "COMPLETED")
    printed: list[str] = []
    for process in waiting_processes.all:
        printed += process.communicate(timeout=60)[0].splitlines()
    took = time.monotonic() - began
    assert sorted(line.split()[0] for line in printed) == sorted(waiting_processes.jobs)
    assert {line.split()[1] for line in printed} == {"completed"}
    assert waiting_processes.asked() - before <= took + 4, "one a second, and some first looks"
    # The pause has grown to some seconds by then.
    assert max(float(line.split()[2]) for line in printed) - ended < 15


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.long)]
)
def test_a_holder_that_goes_away_costs_one_interval(
    waiting_processes: Processes, number: signal.Signals
) -> None:
    (waiting_processes.home / "slow").touch()
    pid = waiting_processes.holder()
    before = waiting_processes.column("SELECT max(stamp) FROM polls")
    if number == signal.SIGSTOP:
        waiting_processes.stop(pid)
    else:
        os.kill(pid, number)
    try:
        # The lease of 2 s, and the pause of the others.
        assert until(
            lambda: waiting_processes.column("SELECT max(stamp) FROM polls") != before, patience=60
        )
        for job_id in waiting_processes.jobs:
            waiting_processes.note(job_id, "COMPLETED")
        others = [process for process in waiting_processes.all if process.pid != pid]
        assert all(len(process.communicate(timeout=60)[0].splitlines()) == 2 for process in others)
    finally:
        if number == signal.SIGSTOP:
            os.kill(pid, signal.SIGCONT)
    if number == signal.SIGSTOP:
        (late,) = (process for process in waiting_processes.all if process.pid == pid)
        assert len(late.communicate(timeout=60)[0].splitlines()) == 2, "it goes on, too"
