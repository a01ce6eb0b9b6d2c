"""The history of many jobs: one look through the accounting, whatever their number."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from openssh_jobs.errors import SchedulerError
from openssh_jobs.jobs import Snapshot
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.schedulers.gridengine.history import FEW

from .test_output import record

SGE = get("sge")
IDS = [str(100 + n) for n in range(4 * FEW)]
QACCT = """\
echo "$*" >>calls
case $* in
  "-o $(id -un) -j") cat accounting ;;
  *) echo "error: job id $2 not found" >&2; exit 1 ;;
esac
"""
QSTAT = """\
echo "qstat $*" >>calls
case $2 in 100) echo "Following jobs do not exist:" >&2; echo 100 >&2; exit 1;; esac
echo listed
"""


def ask(place: Path, ids: list[str], accounting: str, qacct: str = QACCT) -> Snapshot:
    (place / "accounting").write_text(accounting)
    for name, text in (("qacct", qacct), ("qstat", QSTAT)):
        (place / name).write_text(f"#!/bin/sh\n{text}")
        (place / name).chmod(0o755)
    done = subprocess.run(
        ["/bin/sh"], input=SGE.history_script(ids), text=True, capture_output=True, cwd=place,
        env={**os.environ, "PATH": f"{place}:{os.environ['PATH']}"}, timeout=60, check=False,
    )  # fmt: skip
    return SGE.parse_history(Answer(done.stdout, done.stderr, done.returncode), requested=ids)


def test_many_jobs_are_one_look(tmp_path: Path) -> None:
    others = "".join(record(5000 + n, "0", "9") for n in range(50))
    records = [record(int(job_id), "0", str(int(job_id) % 3)) for job_id in IDS[1:]]
    found = ask(tmp_path, [*IDS, "99"], others + "".join(reversed(records)))
    assert {one: status.exit_code for one, status in found.known.items()} == {
        job_id: int(job_id) % 3 for job_id in IDS[1:]
    }
    assert (found.absent, found.unparsed) == (("100", "99"), ())
    assert len((tmp_path / "calls").read_text().splitlines()) == 1


def test_the_last_run_of_a_job_counts(tmp_path: Path) -> None:
    text = record(101, "25", "0") + record(102, "0", "0") + record(101, "0", "4")
    assert ask(tmp_path, IDS, text)["101"].exit_code == 4


def test_arrays_among_them(tmp_path: Path) -> None:
    """Of 100 the queue has no task any more, of 101 it has."""
    text = "".join(
        record(number, "0", code, taskid=str(at))
        for number in (100, 101, 102)
        for at, code in enumerate("07", 1)
    )
    ids = ["100", "101", "102.2", *IDS[3:]]
    found = ask(tmp_path, ids, text)
    states = {job_id: str(status.state) for job_id, status in found.known.items()}
    assert states == {"100": "failed", "102.2": "failed"}
    asked = (tmp_path / "calls").read_text().splitlines()[1:]
    assert asked == ["qstat -j 100", "qstat -j 101"], "one task is no whole array"


@pytest.mark.parametrize("said", ["error: job id 5 not found", "no jobs running since startup"])
def test_an_accounting_without_any(tmp_path: Path, said: str) -> None:
    found = ask(tmp_path, IDS, "", f"echo '{said}' >&2; exit 1")
    assert (set(found.absent), found.error) == (set(IDS), None)


def test_an_accounting_that_fails(tmp_path: Path) -> None:
    with pytest.raises(SchedulerError, match="cannot open the file"):
        ask(tmp_path, IDS, "", "echo 'error: cannot open the file' >&2; exit 1")
