"""The causes that texts alone show: the table's rows, and transcripts."""

from __future__ import annotations

import json

import pytest

from openssh_jobs import JobStatus
from openssh_jobs.jobs.cause import Cause
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer
from tests.lab import causes
from tests.paths import DATA


@pytest.mark.parametrize("found", causes.of_texts(), ids=lambda found: found.row.id)
def test_the_words_of_a_scheduler(found: causes.Found) -> None:
    assert found.is_right, found.cause


def test_the_table_names_causes_that_exist_and_enough_of_them() -> None:
    rows = causes.table()
    assert len(rows) >= 80
    assert {row.cause for row in rows} <= set(Cause)
    assert len({row.id for row in rows}) == len(rows)


def records(name: str) -> dict[str, dict[str, str]]:
    lines = (DATA / f"{name}.jsonl").read_text().splitlines()
    return {record["id"]: record for record in map(json.loads, lines)}


def cause_in(name: str, record_id: str, job_id: str) -> Cause:
    record = records(name)[record_id]
    scheduler = get(name)
    answer = Answer(record["stdout"], record["stderr"], 0)
    snapshot = scheduler.parse_status(answer, command=record["command"])
    return scheduler.cause_of(snapshot.known[job_id])


@pytest.mark.parametrize(
    ("record_id", "job_id", "cause"),
    [
        ("slurm/090-scontrol-show-job-held-admin", "22", Cause.HELD_BY_ADMIN),
        ("slurm/092-scontrol-show-job-depnever", "25", Cause.DEPENDENCY_NEVER_SATISFIED),
        ("slurm/093-scontrol-show-job-begin", "29", Cause.BEGIN_TIME),
        ("slurm/101-scontrol-show-job-toolong", "37", Cause.QUEUE_TIME_LIMIT),
        ("slurm/187-scontrol-show-requeuehold", "54", Cause.HELD_AFTER_REQUEUE),
        ("slurm/098-scontrol-show-job-cancelled", "13", Cause.CANCELLED),
        ("slurm/204-scontrol-nodefail", "57", Cause.NODE_FAIL),
        ("slurm/197-scontrol-timeout", "2", Cause.TIME_LIMIT),
    ],
)
def test_transcripts_of_slurm(record_id: str, job_id: str, cause: Cause) -> None:
    assert cause_in("slurm", record_id, job_id) is cause


def test_more_than_its_h_vmem_is_out_of_memory() -> None:
    """Grid Engine's own word for it is that of any limit."""
    status = JobStatus("1", "out_of_memory", raw_state="failed 37, exit_status 137")
    assert get("sge").cause_of(status) is Cause.OUT_OF_MEMORY


def test_a_kill_that_may_be_anybodys_is_unknown() -> None:
    status = JobStatus("1", "failed", raw_state="failed 100, exit_status 137", signal=9)
    assert get("sge").cause_of(status) is Cause.UNKNOWN
