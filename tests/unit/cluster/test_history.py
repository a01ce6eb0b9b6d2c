"""The history: one query for all processes, less often than the queue is queried."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.cluster import waiting
from openssh_jobs.cluster.journal_file import JournalFile
from openssh_jobs.errors import SchedulerError
from openssh_jobs.jobs import JobState
from tests.unit.cluster.fakes import FakeQueue, make_poller


@pytest.fixture
def queue_of(tmp_path: Path) -> Iterator[Callable[..., FakeQueue]]:
    file = JournalFile(tmp_path / "journal" / "j.sqlite")

    def make(history_floor: float = 30.0, **answers: Any) -> FakeQueue:
        queue = FakeQueue(**answers)
        queue.file, queue.poll_floor, queue.history_floor = file, 10.0, history_floor
        return queue

    yield make
    file.close()


def test_processes_share_a_query_of_the_history(queue_of: Callable[..., FakeQueue]) -> None:
    first = queue_of(status="", history="1 completed,2 failed=3")
    second = queue_of(status="", history="")
    one, other = make_poller(first, interval=10), make_poller(second, interval=10)
    one.status(["1", "2"])
    other.status(["2"])
    assert first.count("history") == 1
    assert second.asked == []
    assert other.tracker.status("2").exit_code == 3


def test_what_was_answered_is_not_queried_for_again(queue_of: Callable[..., FakeQueue]) -> None:
    asked: list[list[str]] = []

    def history_script(ids: Any, *, since: object = None) -> str:
        asked.append(list(ids))
        return "history"

    for job_id in "12":
        queue = queue_of(history_floor=0.0, status="", history="1 completed,2 completed")
        queue.history_script = history_script  # type: ignore[method-assign]
        make_poller(queue, interval=0.05).status([job_id])
        time.sleep(0.1)
    assert asked[-1] == ["2"]


def test_a_job_whose_history_was_put_off_is_not_over(queue_of: Callable[..., FakeQueue]) -> None:
    """Its turn comes, and until then the time of grace does not end the wait."""
    queue = queue_of(
        status=["1 running,2 running,3 running", "", ""],
        history=["1 completed,2 completed", "3 completed"],
    )
    poller = make_poller(queue, interval=0.3, grace=0.0)
    queue.history_floor = 60.0  # 1.8 s at this interval
    budget = "UPDATE polls SET budget = 0 WHERE query LIKE '% history'"
    poller.status(["1", "2"])
    time.sleep(0.4)
    poller.status(["1", "2"])
    assert poller.tracker.status("2").state is JobState.COMPLETED
    queue.file.execute(budget)
    began = time.monotonic()
    assert list(waiting.settling(poller, ["3"], 20)) == ["3"]
    assert poller.tracker.status("3").state is JobState.COMPLETED
    assert queue.count("history") == 2
    assert time.monotonic() - began > 1


def test_a_history_that_does_not_answer_is_so_for_all(queue_of: Callable[..., FakeQueue]) -> None:
    down = SchedulerError("slurmdbd is down", kind="transient")
    first, second = queue_of(status="", history=down), queue_of(status="", history="1 completed")
    make_poller(first, interval=10).status(["1"])
    poller = make_poller(second, interval=10, grace=0)
    poller.status(["1"])
    assert second.count("history") == 0
    assert "slurmdbd is down" in (poller.tracker.status("1").reason or "")


def test_the_interval_of_the_history_follows_that_of_the_caller(
    queue_of: Callable[..., FakeQueue],
) -> None:
    assert make_poller(queue_of(), interval=1)._history_interval == pytest.approx(3)
    assert make_poller(queue_of(), interval=120)._history_interval == 120
    assert make_poller(queue_of(), interval=0)._history_interval is None


def test_a_job_that_is_over_stays_so_while_the_history_is_put_off(
    queue_of: Callable[..., FakeQueue],
) -> None:
    """The grace time is shorter than the least time between two queries of the history."""
    queue = queue_of(status=["1 running", ""], history="")
    poller = make_poller(queue, interval=0.1, grace=0.3)
    queue.history_floor = 6000.0  # 60 s at this interval
    poller.status(["1"])
    deadline = time.monotonic() + 20
    said: list[bool] = []
    while len(said) < 5:
        assert time.monotonic() < deadline, said
        time.sleep(0.11)
        queue.file.execute(
            "UPDATE polls SET budget = ? WHERE query LIKE '% history'", (0 if any(said) else 4,)
        )
        queue.file.execute("UPDATE polls SET budget_at = ?", (time.monotonic(),))
        poller.status(["1"])
        if said or poller.tracker.is_over("1"):
            said.append(poller.tracker.is_over("1"))
    assert said == [True] * 5
    assert poller._history.due_at is not None, "it was put off"


def test_a_query_put_off_for_a_job_that_is_listed_again_holds_no_others(
    queue_of: Callable[..., FakeQueue],
) -> None:
    """A job of Grid Engine that is sent back to the queue is in no list for a moment."""
    both = "1 running,2 running"
    queue = queue_of(
        status=[f"{both},3 running", both, "1 running", *[both] * 5, "1 completed"],
        history=["3 completed", "2 completed"],
    )
    poller = make_poller(queue, interval=0.15)
    queue.history_floor = 60.0  # 0.9 s at this interval
    for _ in range(2):
        poller.status(["1", "2", "3"])
        time.sleep(0.2)
    queue.file.execute("UPDATE polls SET budget = 0 WHERE query LIKE '% history'")
    assert sorted(waiting.settling(poller, ["1", "2"], 20)) == ["1", "2"]
    assert queue.count("status") >= 8
