"""What answers change in the journal: which win, what is followed, and how many transactions."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from openssh_jobs.cluster.evidence import CANCEL_ACCEPTED
from openssh_jobs.cluster.job import Job
from openssh_jobs.cluster.journal import MOST_EVENTS, Journal
from openssh_jobs.cluster.journal_view import queue_names, status_of
from openssh_jobs.cluster.learned import news
from openssh_jobs.jobs import CancelOutcome, JobState, JobStatus

from .fakes import JournalQueue, jobs_of, row, submit


class Queue(JournalQueue):
    """A queue that also cancels and shows details."""

    def cancel_script(self, ids: Any) -> str:
        return "cancel"

    hold_script = cancel_script

    def parse_cancel(self, answer: Any, *, requested: Any) -> dict[str, CancelOutcome]:
        return dict.fromkeys(requested, CancelOutcome.REQUESTED)

    def detail_script(self, job_id: str) -> str:
        return "detail"

    def parse_detail(self, answer: Any) -> JobStatus:
        (status,) = self.parse_status(answer).known.values()
        return status


def states(journal: Journal) -> dict[str | None, str]:
    return {one.job_id: one.state for one in journal.rows()}


class Commits:
    """Counts the transactions of a journal that wrote something."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        journal.rows()
        self._said: list[str] = []
        connection = journal.file._connection
        assert connection is not None
        connection.set_trace_callback(self._said.append)

    def count(self) -> int:
        found = sum(text.startswith("COMMIT") for text in self._said)
        single = [
            text for text in self._said if text.startswith(("INSERT", "UPDATE", "DELETE"))
        ]  # would be transactions of their own outside BEGIN
        assert found or not single
        self._said.clear()
        return found


# -- one transaction a query --------------------------------------------------------------------


def test_a_query_about_many_jobs_is_one_transaction(journal: Journal) -> None:
    ids = [str(number) for number in range(1, 301)]
    submit(journal, *ids)
    answer = ",".join(f"{job_id} running" for job_id in ids)
    jobs = jobs_of(Queue(journal, status=[answer, answer, answer.replace("running", "pending")]))
    commits = Commits(journal)
    jobs.status(ids)
    assert commits.count() == 1
    assert set(states(journal).values()) == {"running"}
    jobs.status(ids)
    assert commits.count() == 0, "nothing was new"
    jobs.status(ids)
    assert commits.count() == 1


def test_a_listing_writes_the_jobs_of_the_journal_and_no_others(journal: Journal) -> None:
    submit(journal, "1", "2", "3")
    jobs = jobs_of(Queue(journal, mine="1 running,2 failed=3,9 running", all="3 running,8 failed"))
    commits = Commits(journal)
    jobs.poller.jobs(all_users=False)
    assert commits.count() == 1
    assert states(journal) == {"1": "running", "2": "failed", "3": "pending"}
    found = journal.by_job("hpc", "2")
    assert found is not None
    assert found.exit_code == 3
    jobs.poller.jobs(all_users=True)
    assert states(journal) == {"1": "running", "2": "failed", "3": "running"}


def test_a_listing_does_not_take_a_cancellation_away(journal: Journal) -> None:
    submit(journal, "1")
    journal.change("hpc", "t1", reason=CANCEL_ACCEPTED)
    jobs_of(Queue(journal, mine="1 running")).poller.jobs(all_users=False)
    found = journal.by_job("hpc", "1")
    assert found is not None
    assert (found.state, found.reason) == ("running", CANCEL_ACCEPTED)


def test_the_history_is_written(journal: Journal) -> None:
    submit(journal, "1")
    jobs_of(Queue(journal, status="", history="1 completed")).status(["1"])
    assert states(journal) == {"1": "completed"}


def test_an_exit_code_that_comes_later_is_written(journal: Journal) -> None:
    submit(journal, "1")
    jobs_of(Queue(journal, status="1 failed", history="")).status(["1"])
    jobs_of(Queue(journal, mine="1 failed=4")).poller.jobs(all_users=False)
    found = journal.by_job("hpc", "1")
    assert found is not None
    assert (found.state, found.exit_code) == ("failed", 4)


def test_what_is_done_to_jobs_is_one_transaction(journal: Journal) -> None:
    submit(journal, "1", "2")
    submit(journal, "3", state="completed")
    jobs = jobs_of(Queue(journal, cancel=""))
    commits = Commits(journal)
    jobs.act("cancel", ["1", "2", "3", "4"])
    assert commits.count() == 2, "and one, not synced, that listings are out of date"
    assert {one.job_id: one.reason for one in journal.rows()} == {
        "1": CANCEL_ACCEPTED,
        "2": CANCEL_ACCEPTED,
        "3": None,
    }
    jobs.act("hold", ["1"])
    assert [event.source for event in journal.events("hpc", "t1")] == ["journal", "cancel", "hold"]


def test_the_details_of_a_job_are_written(journal: Journal) -> None:
    submit(journal, "1")
    jobs = jobs_of(Queue(journal, detail="1 running"))
    jobs.detail("1")
    assert states(journal) == {"1": "running"}
    jobs_of(Queue(journal, detail="2 running")).detail("2")
    assert states(journal) == {"1": "running"}, "only what is followed gets a row"


def test_the_queues_of_jobs_are_remembered_beside_those_of_the_list(journal: Journal) -> None:
    submit(journal, "1", "2")
    learned = jobs_of(Queue(journal)).learned
    learned.write_queues(["short", "batch", "short", "a\x1b[2J"])
    assert queue_names(journal, "hpc") == ["short", "batch"]
    now = datetime.now(UTC)
    commits = Commits(journal)
    learned.write_one(JobStatus("1", "held", queue="gpu,batch"), now)
    learned.write_one(JobStatus("2", "running", queue="gpu"), now)
    assert commits.count() == 2, "with what is new of the jobs"
    assert queue_names(journal, "hpc") == ["short", "batch", "gpu"]
    learned.add_queues(["gpu", "large", None, "all.q@n1", "g*"])
    assert queue_names(journal, "hpc") == ["short", "batch", "gpu", "large"]
    learned.write_queues(["batch"])
    assert queue_names(journal, "hpc") == ["batch"], "what there is no more"
    assert queue_names(journal, "elsewhere") == []


def test_a_journal_that_cannot_be_written_hides_no_answer(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    submit(journal, "1")
    journal.file.execute("PRAGMA query_only=1")
    snapshot = jobs_of(Queue(journal, status="1 running")).status(["1"])
    assert snapshot["1"].state == "running"
    assert "the journal was not written" in caplog.text


# -- which answer wins --------------------------------------------------------------------------


def test_an_answer_of_an_older_query_changes_nothing(journal: Journal) -> None:
    submit(journal, "1")
    taken = datetime.now(UTC)
    jobs_of(Queue(journal, status="1 running")).status(["1"])
    found = journal.by_job("hpc", "1")
    assert found is not None
    assert found.learned is not None
    late = JobStatus("1", JobState.PENDING, source="queue")
    assert news(found, late, taken.timestamp() - 1) == {}
    assert news(found, late, found.learned) != {}
    jobs = jobs_of(Queue(journal))
    jobs.learned.write_one(late, taken)
    assert states(journal) == {"1": "running"}


def test_a_clock_that_was_set_back_stops_nothing(journal: Journal) -> None:
    found = row(state="running", learned=time.time() + 3600)
    assert news(found, JobStatus("1", JobState.PENDING, source="queue"), time.time()) != {}


@pytest.mark.parametrize(
    ("status", "wins"),
    [
        (JobStatus("1", JobState.RUNNING, source="queue"), True),
        (JobStatus("1", JobState.RUNNING, source="accounting"), False),
        (JobStatus("1", JobState.UNKNOWN, source="queue", reason="left the queue"), False),
        (JobStatus("1", JobState.CANCELLED, source="accounting"), True),
    ],
)
def test_a_final_state_is_taken_back_by_a_requeue_only(status: JobStatus, wins: bool) -> None:
    found = row(state="failed", exit_code=3, changed=time.time())
    assert bool(news(found, status, time.time())) is wins


def test_an_id_that_comes_again_long_after_the_end_is_another_job() -> None:
    status = JobStatus("1", JobState.RUNNING, source="queue")
    for ended, wins in ((time.time() - 60, True), (time.time() - 30 * 86400, False)):
        assert bool(news(row(state="failed", changed=ended), status, time.time())) is wins
        followed = row(state="failed", changed=ended, stage="followed")
        assert news(followed, status, time.time()), "it is followed by its id, whatever it is"


def test_what_a_status_lacks_stays(journal: Journal) -> None:
    found = row(state="running", nodes="n1", stdout_path="/out")
    facts = news(found, JobStatus("1", JobState.COMPLETED, source="accounting"), 5.0)
    assert facts == {"state": "completed", "learned": 5.0}
    again = news(found, JobStatus("1", JobState.PENDING, source="queue"), 5.0)
    assert again["nodes"] is None, "it will run elsewhere"


# -- jobs from elsewhere ------------------------------------------------------------------------


def test_a_job_from_elsewhere_is_in_the_journal_once_it_is_followed(journal: Journal) -> None:
    jobs = jobs_of(Queue(journal, status=["7 running", "7 failed=3"], mine="7 running,8 running"))
    jobs.poller.jobs(all_users=False)
    assert journal.rows() == []
    jobs.status(["7", "77"])
    (found,) = journal.rows()
    assert (found.job_id, found.state, found.is_followed, found.scheduler) == (
        "7", "running", True, "fake",
    )  # fmt: skip
    assert found.directory == ""
    assert journal.by_token("hpc", found.token) is None, "it is no submission"
    assert journal.by_member("hpc", "7") is None
    handle = Job(jobs, "7", None)
    assert (handle.token, handle.directory) == (None, None)
    jobs.status(["7"])
    (found,) = journal.rows()
    assert (found.state, found.exit_code) == ("failed", 3)
    assert status_of(found, "7").directory is None


def test_a_submission_takes_the_place_of_the_job_that_was_followed(journal: Journal) -> None:
    jobs_of(Queue(journal, status="7 running")).status(["7"])
    submit(journal, "7")
    (found,) = journal.rows()
    assert (found.token, found.is_followed) == ("t7", False)


def test_members_of_an_array_from_here_get_no_rows(journal: Journal) -> None:
    submit(journal, "5")
    jobs_of(Queue(journal, status="5_1 running")).status(["5_1"])
    assert [one.job_id for one in journal.rows()] == ["5"]


# -- what was learned when ----------------------------------------------------------------------


def test_events_are_kept_in_order_and_not_for_ever(journal: Journal) -> None:
    submit(journal, "1")
    jobs_of(Queue(journal, status="1 running")).status(["1"])
    jobs_of(Queue(journal, status="", history="1 completed")).status(["1"])
    events = journal.events("hpc", "t1")
    assert [(event.state, event.source) for event in events] == [
        ("pending", "journal"), ("running", "queue"), ("completed", "queue"),
    ]  # fmt: skip
    assert [event.time for event in events] == sorted(event.time for event in events)
    for number in range(MOST_EVENTS + 20):
        journal.change("hpc", "t1", reason=str(number))
    events = journal.events("hpc", "t1")
    assert (len(events), events[-1].reason) == (MOST_EVENTS, str(MOST_EVENTS + 19))
    journal.forget("hpc", "t1")
    assert journal.events("hpc", "t1") == []


# -- times ---------------------------------------------------------------------------------------


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(1_700_000_000 + seconds, UTC)


def test_the_times_of_the_last_run_are_kept(journal: Journal) -> None:
    submit(journal, "1", state="pending")

    def take(began: float, state: str, **facts: Any) -> dict[str, Any]:
        known = journal.by_job("hpc", "1")
        assert known is not None
        new: dict[str, Any] = news(
            known, JobStatus("1", state, source="queue", **facts), _at(began).timestamp()
        )
        if new:
            journal.change("hpc", "t1", **new)
        return new

    limit = timedelta(hours=2)
    take(0, "running", started=_at(-10), time_limit=limit)
    known = journal.by_job("hpc", "1")
    assert known is not None
    assert (known.started, known.time_limit) == (_at(-10).timestamp(), 7200.0)
    assert take(30, "running", elapsed=timedelta(seconds=43)) == {}, "3 s are no other start"
    take(40, "pending")
    known = journal.by_job("hpc", "1")
    assert known is not None
    assert (known.started, known.time_limit) == (None, 7200.0)
    take(50, "running", elapsed=timedelta(seconds=5))
    take(60, "completed", started=_at(45), ended=_at(58))
    known = journal.by_job("hpc", "1")
    assert known is not None
    status = status_of(known, "1")
    assert (status.started, status.ended) == (_at(45), _at(58))
    assert (status.elapsed, status.time_limit) == (timedelta(seconds=13), limit)
    assert take(70, "completed", started=_at(45), ended=_at(59)) == {}, "the same end"
