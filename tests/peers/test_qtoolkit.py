"""The same transcripts through another parser (qtoolkit): every difference, and whose fault it is.

Needs the extra ``opinions``; without it there is nobody to ask.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from openssh_jobs.jobs import JobState
from tests.unit.test_parser import captures, status_of

pytest.importorskip("qtoolkit", reason="no second parser here (pip install -e '.[opinions]')")

# What their states can mean; they know neither a timeout nor a cancellation of its own.
SAME = {
    JobState.PENDING: {"QUEUED", "REQUEUED"},
    JobState.HELD: {"QUEUED_HELD", "REQUEUED_HELD"},
    JobState.RUNNING: {"RUNNING"},
    JobState.COMPLETING: {"RUNNING"},
    JobState.SUSPENDED: {"SUSPENDED"},
    JobState.COMPLETED: {"DONE"},
    JobState.FAILED: {"FAILED"},
    JobState.CANCELLED: {"FAILED"},
    JobState.TIMEOUT: {"FAILED"},
    JobState.OUT_OF_MEMORY: {"FAILED"},
    JobState.NODE_FAIL: {"FAILED"},
    JobState.UNKNOWN: {"UNDETERMINED"},
}


def their_view(scheduler: str, record: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    """State and name by id, as qtoolkit reads the text; its exception where it reads none."""
    from qtoolkit.io.pbs import PBSIO
    from qtoolkit.io.sge import SGEIO
    from qtoolkit.io.slurm import SlurmIO

    answer = (record["returncode"], record["stdout"], record["stderr"])
    try:
        if scheduler == "slurm":
            jobs: Sequence[Any] = [SlurmIO().parse_job_output(*answer)]
        else:
            jobs = {"pbs": PBSIO, "sge": SGEIO}[scheduler]().parse_jobs_list_output(*answer)
    except Exception as error:  # noqa: BLE001 - of any kind: it is what is compared
        return {"": (type(error).__name__, None)}
    return {str(job.job_id): (job.state.value, job.name) for job in jobs if job is not None}


CASES = [
    (scheduler, record)
    for scheduler, file, command in (
        ("slurm", "slurm", r"scontrol (?:-o )?show job (?:-o )?[0-9]+$"),
        ("pbs", "openpbs", r"qstat (?:-x )?-f(?!.*-F)(?: |$)"),
        ("sge", "sge", r"qstat (?:-r |-u '\*' )?-xml"),
    )
    for record in (*captures(file), *captures("versions"))
    if record["scheduler"] in (scheduler, file)
    and re.match(command, record["command"])
    and not record["returncode"]
    and record["stdout"]
]


def differences(scheduler: str, record: dict[str, Any]) -> set[tuple[str, str]]:
    """Pairs of our word and theirs, where they are not the same."""
    ours = status_of(record, scheduler)
    theirs = their_view(scheduler, record)
    found: set[tuple[str, str]] = set()
    if "" in theirs:
        return {(" ".join(sorted({str(one.state) for one in ours.known.values()})), theirs[""][0])}
    for job_id, status in ours.known.items():
        number = job_id.partition(".")[0] if scheduler == "sge" else job_id
        if number not in theirs:
            found.add((str(status.state), "not in the answer"))
            continue
        state, name = theirs[number]
        if state not in SAME[status.state]:
            found.add((str(status.state), state))
        if name != status.name:
            found.add((f"name {status.name!r}", f"name {name!r}"))
    return found


# Each difference that the transcripts show.  None of them is a fault of ours that is left.
THEIR_FAULTS = {
    "slurm": {
        # The answer is split at every blank, so a value with one in it ends in an error.
        *((state, "IndexError") for state in ("held", "node_fail", "running", "suspended")),
        ("timeout", "IndexError"),
        # JobState=PENDING Reason=JobHeldAdmin: the reason is not looked at.
        ("held", "QUEUED"),
    },
    "pbs": {
        # F is taken for success, whatever Exit_status and substate say.
        *((state, "DONE") for state in ("failed", "cancelled", "timeout")),
    },
    "sge": {
        # The tasks of an array are not distinguished: running ones and the rest have one number.
        ("running", "QUEUED"),
        # "dr": about to be deleted, and not gone yet.
        ("completing", "FAILED"),
        # "S" and "Rq" are not in their table, and one such job hides all others.
        ("failed held pending suspended", "OutputParsingError"),
        ("pending", "OutputParsingError"),
        # Nor is "Rr", a job that was sent back and runs again.
        ("held running", "OutputParsingError"),
    },
}
NOBODYS_FAULT = {
    # PBS shows a job that waits for another as held: two words for one thing.
    "pbs": {("pending", "QUEUED_HELD")},
}


@pytest.mark.parametrize(
    ("scheduler", "record"),
    CASES,
    ids=lambda one: one["id"] if isinstance(one, dict) else "",
)
def test_every_difference_is_explained(scheduler: str, record: dict[str, Any]) -> None:
    explained = THEIR_FAULTS[scheduler] | NOBODYS_FAULT.get(scheduler, set())
    assert differences(scheduler, record) <= explained


@pytest.mark.parametrize("scheduler", ["slurm", "pbs", "sge"])
def test_every_explanation_is_needed(scheduler: str) -> None:
    explained = THEIR_FAULTS[scheduler] | NOBODYS_FAULT.get(scheduler, set())
    seen = {one for name, record in CASES if name == scheduler for one in differences(name, record)}
    assert explained == seen


def test_most_transcripts_are_read_alike() -> None:
    same = [record for scheduler, record in CASES if not differences(scheduler, record)]
    assert len(same) >= 25
