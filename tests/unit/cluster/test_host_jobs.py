"""``HostJobs``: the journal after a comparison with the queue."""

from __future__ import annotations

import pytest

from openssh_jobs.cluster.host_jobs import whole_jobs
from openssh_jobs.cluster.journal import Journal
from openssh_jobs.errors import SchedulerError
from openssh_jobs.jobs import JobStatus
from openssh_jobs.jobs.cause import Cause
from openssh_jobs.schedulers import get

from .fakes import JournalQueue, jobs_of, submit


def states(journal: Journal) -> dict[str | None, str]:
    return {one.job_id: one.state for one in journal.rows("hpc")}


def test_the_journal_says_what_the_queue_says(journal: Journal) -> None:
    submit(journal, "1", "2", "3")
    queue = JournalQueue(
        journal,
        mine="1 running,7 held",
        status="1 running,7 held",
        history="2 completed,3 failed=4",
    )
    assert journal.listed_at("hpc") is None
    jobs_of(queue).update_journal()
    assert states(journal) == {"1": "running", "2": "completed", "3": "failed", "7": "held"}
    assert queue.count("mine") == 1
    assert queue.count("history") == 1
    elsewhere = journal.by_job("hpc", "7")
    assert elsewhere is not None
    assert elsewhere.is_followed
    assert journal.listed_at("hpc") is not None


def test_what_is_over_is_not_queried_again(journal: Journal) -> None:
    submit(journal, "1", state="completed")
    queue = JournalQueue(journal, mine="", history="")
    jobs_of(queue).update_journal()
    assert [script for script, _ in queue.asked] == ["mine"]


def test_a_queue_that_does_not_answer_changes_nothing(journal: Journal) -> None:
    submit(journal, "1", state="running")
    queue = JournalQueue(journal, mine=SchedulerError("no controller", kind="transient"))
    with pytest.raises(SchedulerError, match="no controller"):
        jobs_of(queue).update_journal()
    assert states(journal) == {"1": "running"}
    assert journal.listed_at("hpc") is None


@pytest.mark.parametrize(
    ("listed", "known", "expected"),
    [
        (["1", "2"], [], ["1", "2"]),
        (["4_1", "4_[2-9]", "5"], [], ["4", "5"]),
        (["4_1", "4_[2-9]"], ["4"], ["4"]),
        (["4_1"], ["4_1"], ["4_1"]),
        (["7[1].server.example.org"], ["7[].server"], ["7[].server"]),
        (["7[1].server"], [], ["7[].server"]),
        (["9.0"], [], ["9.0"]),
        (["9.0", "9.1"], [], ["9"]),
        (["9.0", "9.1"], ["9.0"], ["9.0", "9"]),
        (["3.server"], ["3.server.example.org"], ["3.server.example.org"]),
    ],
)
def test_an_array_in_a_listing_is_one_job(
    listed: list[str], known: list[str], expected: list[str]
) -> None:
    assert whole_jobs(listed, known) == expected


def test_without_an_answer_a_status_explains_itself(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(journal, "1", "2")
    journal.change("hpc", "t2", source="cancel", state="cancelled")
    queue = JournalQueue(journal)
    asked = []

    def ask(script: str, timeout: float = 0) -> None:
        asked.append(script)
        raise SchedulerError("no answer", kind="transient")

    monkeypatch.setattr(queue, "scheduler", lambda: get("slurm"))
    monkeypatch.setattr(queue, "ask", ask)
    statuses = [
        JobStatus("1", "pending", raw_state="PENDING", reason="Priority", source="queue"),
        JobStatus("2", "cancelled", raw_state="CANCELLED"),
    ]
    jobs = jobs_of(queue)
    for asks in (True, False):
        found = jobs.explain(statuses, asks=asks)
        assert found["1"].cause is Cause.PRIORITY
        assert found["2"].cause is Cause.CANCELLED_BY_USER, "the journal has that we asked for it"
    assert len(asked) == 1
