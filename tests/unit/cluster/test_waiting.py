"""A wait tells what changed, and warns of jobs that can never start."""

from __future__ import annotations

import logging
import threading

import pytest

from openssh_jobs.cluster.waiting import never_starts, settling
from openssh_jobs.errors import ConnectionLost
from openssh_jobs.jobs import JobState, JobStatus, Snapshot
from openssh_jobs.jobs.status import NEVER_STARTS
from openssh_jobs.schedulers.answer import Answer

from .fakes import FakeQueue, make_poller


def told_by(queue: FakeQueue, *ids: str) -> list[list[str]]:
    """What ``on_change`` was called with."""
    calls = []

    def note(changed: list[JobStatus]) -> None:
        assert threading.current_thread() is threading.main_thread()
        calls.append([f"{status.job_id} {status.state}" for status in changed])

    assert sorted(settling(make_poller(queue), ids, 30, note)) == sorted(ids)
    return calls


def test_what_changed_is_passed_on_once() -> None:
    queue = FakeQueue(
        status=["1 pending,2 running", "1 pending,2 running", "1 running,2 completed=0",
                "1 failed=3"]
    )  # fmt: skip
    assert told_by(queue, "1", "2") == [
        ["1 pending", "2 running"],
        ["1 running", "2 completed"],
        ["1 failed"],
    ]


def test_a_lost_link_is_waited_out_and_not_passed_on() -> None:
    lost = ConnectionLost("the link was lost", host="hpc")
    queue = FakeQueue(status=["1 running", lost, lost, "1 completed=0"])
    assert told_by(queue, "1") == [["1 running"], ["1 completed"]]


def test_the_reason_of_what_stays_unknown_is_passed_on_after_the_grace_time() -> None:
    poller = make_poller(FakeQueue(status=["1 running", ""]), grace=0.2)
    calls: list[JobStatus] = []
    assert list(settling(poller, ["1"], 30, calls.extend)) == ["1"]
    assert [status.state for status in calls][-1] is JobState.UNKNOWN
    assert (calls[-1].reason or "").startswith("left the queue")


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_what_it_raises_ends_the_wait_and_leaves_the_jobs(error: BaseException) -> None:
    queue = FakeQueue(status="1 running")
    poller = make_poller(queue)

    def fail(changed: list[JobStatus]) -> None:
        raise error

    with pytest.raises(type(error)):
        list(settling(poller, ["1"], 30, fail))
    assert {script for script, _ in queue.asked} == {"status"}, "nothing was done to the job"
    assert poller.tracker.unsettled() == ["1"]
    queue.answers["status"] = ["1 completed=0"]
    assert list(settling(poller, ["1"], 30)) == ["1"], "and it can be waited for again"


class NeverQueue(FakeQueue):
    """Job 1 has a dependency that cannot come true."""

    def parse_status(self, answer: Answer, *, requested: object = None, **_: object) -> Snapshot:
        found = super().parse_status(answer, requested=requested)
        reason = f"NeverSatisfied: so {NEVER_STARTS}"
        known = {name: status.replace(reason=reason) for name, status in found.known.items()}
        return Snapshot(known=known)


def test_a_job_that_can_never_start_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    poller = make_poller(NeverQueue(status="1 pending"))
    caplog.set_level(logging.WARNING, "openssh_jobs.cluster")
    with pytest.raises(TimeoutError, match=rf"1 pending \(.*{NEVER_STARTS}\)"):
        list(settling(poller, ["1"], 1.5))
    assert len(poller._client.asked) > 1  # type: ignore[attr-defined]
    said = [record.getMessage() for record in caplog.records]
    assert [text for text in said if "journal" not in text] == [
        f"hpc: job 1: NeverSatisfied: so {NEVER_STARTS}; cancel it"
    ]


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        (JobState.PENDING, f"Word: {NEVER_STARTS}", True),
        (JobState.PENDING, "Dependency condition invalid or never satisfied", True),
        (JobState.PENDING, "Dependency", False),
        (JobState.RUNNING, f"Word: {NEVER_STARTS}", False),
        (JobState.PENDING, None, False),
    ],
)
def test_which_jobs_can_never_start(state: JobState, reason: str | None, expected: bool) -> None:
    assert never_starts(JobStatus("1", state, reason=reason)) is expected
