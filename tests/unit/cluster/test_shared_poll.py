"""Polls of several processes on one journal: who queries, for what, and what the others hear."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.cluster import journal_view, shared_poll, tracker, waiting
from openssh_jobs.cluster.journal_file import JournalFile
from openssh_jobs.cluster.poller import Poller
from openssh_jobs.cluster.shared_poll import Lease, Pause, SharedPoll
from openssh_jobs.errors import ConnectionLost, SchedulerError
from openssh_jobs.jobs import JobState
from openssh_jobs.openssh import pid_file
from openssh_jobs.schedulers.answer import Answer
from tests.unit.cluster.fakes import FakeQueue, NoFile, make_poller

TAKEN = datetime.now(UTC)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[JournalFile]:
    made = JournalFile(tmp_path / "journal" / "j.sqlite")
    yield made
    made.close()


@pytest.fixture
def queue_of(file: JournalFile) -> Callable[..., FakeQueue]:
    """What a process has: a client of its own on the journal of all."""

    def make(**answers: Any) -> FakeQueue:
        queue = FakeQueue(**answers)
        queue.file = file
        return queue

    return make


@pytest.fixture
def shared(queue_of: Callable[..., FakeQueue]) -> Callable[[], SharedPoll]:
    def make() -> SharedPoll:
        client: Any = queue_of()
        return SharedPoll(client)

    return make


def lease(of: SharedPoll, *ids: str, seen: int = 0, interval: float = 10) -> Lease:
    taken = of.take("queue", ids, interval=interval, seen=seen)
    assert isinstance(taken, Lease)
    return taken


def answered(of: SharedPoll, text: str, *ids: str, began: float | None = None) -> int:
    with lease(of, *ids) as held:
        stamp = held.answered(Answer(text), held.ids, began or time.monotonic(), TAKEN)
    assert stamp is not None
    return stamp


def change(file: JournalFile, names: str, *values: object) -> None:
    file.execute(f"UPDATE polls SET {names}", values)


# -- one query for all --------------------------------------------------------------------------


def test_one_query_serves_several_processes(queue_of: Callable[..., FakeQueue]) -> None:
    queues = [queue_of(status="1 running,2 running,3 held") for _ in range(3)]
    pollers = [make_poller(queue, interval=10) for queue in queues]
    for number, poller in enumerate(pollers, 1):
        poller.status([str(number)])
    # The second did not know its job when the first asked, but finds it in the answer.
    assert [queue.count("status") for queue in queues] == [1, 0, 0]
    assert pollers[2].tracker.status("3").state is JobState.HELD


def test_waits_of_several_processes_share_their_queries(
    queue_of: Callable[..., FakeQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_PEEK", 0.05)
    over = threading.Event()

    def answer() -> str:
        state = "completed" if over.is_set() else "running"
        return ",".join(f"{number} {state}" for number in range(8))

    queues = [queue_of(status=answer) for _ in range(8)]
    pollers = [make_poller(queue, interval=0.5) for queue in queues]
    ended: list[float] = []

    def wait(poller: Poller, job_id: str) -> None:
        assert list(waiting.settling(poller, [job_id], 30)) == [job_id]
        ended.append(time.monotonic())

    threads = [
        threading.Thread(target=wait, args=(poller, str(number)))
        for number, poller in enumerate(pollers)
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    time.sleep(2.5)
    over.set()
    for thread in threads:
        thread.join(20)
    assert len(ended) == 8
    took = max(ended) - began
    asked = sum(queue.count("status") for queue in queues)
    assert 2 <= asked <= took / 0.5 + 4


def test_a_query_is_for_what_all_follow(shared: Callable[[], SharedPoll]) -> None:
    first, second = shared(), shared()
    answered(first, "", "1", "2")
    time.sleep(0.01)
    held = lease(second, "3", seen=1, interval=0)
    assert sorted(held.ids) == ["1", "2", "3"]
    first.follow("queue", ())
    with held:
        pass
    assert lease(second, "3", seen=1, interval=0).ids == ("3",)


def test_what_an_ended_process_followed_is_dropped(
    shared: Callable[[], SharedPoll], file: JournalFile
) -> None:
    first = shared()
    answered(first, "", "1")
    pid, _, machine = pid_file.call().split("-", 2)
    gone = f"{pid}-1-{machine}"  # the same pid, started earlier
    file.execute("UPDATE polls_followed SET follower = ?", (f"{gone}/x",))
    assert lease(shared(), "2", seen=1, interval=0).ids == ("2",)
    assert file.execute("SELECT count(*) FROM polls_followed") == [(1,)]


def test_a_forked_child_follows_by_itself(
    shared: Callable[[], SharedPoll], file: JournalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = shared()
    answered(one, "", "1")
    mine = pid_file.call()
    monkeypatch.setattr(pid_file, "call", lambda: f"1{mine}")
    one.follow("queue", ["1"])
    assert file.execute("SELECT count(*) FROM polls_followed") == [(2,)]


def test_rows_of_long_ago_are_removed(shared: Callable[[], SharedPoll], file: JournalFile) -> None:
    answered(shared(), "", "1")
    change(file, "taken = taken - 1e6, query = 'old ' || query")
    file.execute("UPDATE polls_followed SET query = 'old ' || query")
    answered(shared(), "", "2")
    assert file.execute("SELECT count(*) FROM polls") == [(1,)]
    assert file.execute("SELECT ids FROM polls_followed") == [("2",)]


@pytest.mark.parametrize("until", [-1.0, 1e6])
def test_what_has_had_no_sign_of_life_for_long_is_dropped(
    shared: Callable[[], SharedPoll], file: JournalFile, until: float
) -> None:
    answered(shared(), "", "1")
    file.execute("UPDATE polls_followed SET until = ?", (time.monotonic() + until,))
    assert lease(shared(), "2", seen=1, interval=0).ids == ("2",)


# -- what an answer says ------------------------------------------------------------------------


def test_an_answer_says_nothing_of_a_job_that_its_query_was_not_about(
    queue_of: Callable[..., FakeQueue],
) -> None:
    first, second = queue_of(status="1 running"), queue_of(status="1 running,2 pending")
    make_poller(first, interval=10).status(["1"])
    poller = make_poller(second, interval=0.2)
    poller.tracker.follow("2")
    assert poller.status(["2"]).absent == (), "the first did not know it"
    assert second.count("status") == 1
    assert poller.tracker.status("2").state is JobState.PENDING


def test_an_answer_from_before_the_submission_says_nothing(
    queue_of: Callable[..., FakeQueue],
) -> None:
    """Even where another process asked for this id, as after a reset of the scheduler."""
    make_poller(queue_of(status="7 completed"), interval=10).status(["7"])
    queue = queue_of(status="7 running")
    poller = make_poller(queue, interval=10)
    poller.outdate("7")
    poller.status(["7"])
    assert poller.tracker.status("7").state is not JobState.COMPLETED
    assert not poller.tracker.is_over("7")


def test_silence_about_a_job_that_another_process_followed_counts(
    queue_of: Callable[..., FakeQueue],
) -> None:
    make_poller(queue_of(status="1 running"), interval=10).status(["1", "2"])
    queue = queue_of(status="")
    assert make_poller(queue, interval=10).status(["2"]).absent == ("2",)
    assert queue.asked == []


def test_an_older_answer_does_not_replace_a_newer_one() -> None:
    watch = tracker.Tracker(30)
    watch.follow("1")
    fake: Any = FakeQueue()
    now = time.monotonic()
    watch.take_answer(fake.parse_status(Answer("1 completed")), TAKEN, now)
    watch.take_answer(fake.parse_status(Answer("")), TAKEN, now - 1, covers=("1",))
    assert watch.is_over("1")


# -- the lease ----------------------------------------------------------------------------------


def test_only_one_process_queries_at_a_time(shared: Callable[[], SharedPoll]) -> None:
    first, second = shared(), shared()
    with lease(first, "1") as held:
        pause = second.take("queue", ("2",), interval=10, seen=0)
        assert isinstance(pause, Pause)
        assert pause.busy
        assert 0 < pause.seconds <= 10
        assert held.answered(Answer("x"), held.ids, time.monotonic(), TAKEN) == 1
    assert second.take("queue", ("2",), interval=10, seen=0) == Pause(0.0), "there is news"
    news = second.news("queue", 0)
    assert news is not None
    assert news.answer == Answer("x")
    assert news.covers == {"1"}
    assert second.news("queue", news.stamp) is None


def test_a_lease_without_an_answer_is_given_back(shared: Callable[[], SharedPoll]) -> None:
    first, second = shared(), shared()
    with pytest.raises(KeyboardInterrupt), lease(first, "1"):
        raise KeyboardInterrupt
    lease(second, "2")


def test_a_lease_is_renewed_as_long_as_its_query_runs(
    shared: Callable[[], SharedPoll], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_poll, "_SHORTEST_LEASE", 0.3)
    first, second = shared(), shared()
    with lease(first, "1", interval=0.3):
        time.sleep(1)
        assert isinstance(second.take("queue", ("2",), interval=0.3, seen=0), Pause)


def test_a_holder_that_was_stopped_is_passed_over_and_does_not_overwrite(
    shared: Callable[[], SharedPoll], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_poll, "_SHORTEST_LEASE", 0.2)
    first, second = shared(), shared()
    began = time.monotonic()
    stopped = lease(first, "1", interval=0.2)  # not entered: nothing renews it
    time.sleep(0.3)
    with lease(second, "2", interval=0.2) as held:
        assert held.answered(Answer("new"), held.ids, time.monotonic(), TAKEN) == 1
    assert stopped.answered(Answer("old"), stopped.ids, began, TAKEN) == 0
    error = SchedulerError("late", kind="transient")
    assert stopped.failed(error, began, TAKEN, rests=True) == 0
    news = first.news("queue", 0)
    assert news is not None
    assert news.answer == Answer("new")


@pytest.mark.parametrize("what", ["answers", "fails", "another answers"])
def test_the_time_for_which_a_process_was_stopped_is_no_slow_query(
    queue_of: Callable[..., FakeQueue],
    shared: Callable[[], SharedPoll],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """It asks again at once, unless another process has asked meanwhile."""
    monkeypatch.setattr(shared_poll, "_SHORTEST_LEASE", 0.2)
    monkeypatch.setattr(Lease, "_renew", lambda _: None)

    def slow() -> str:
        time.sleep(3)
        if what == "another answers":
            answered(shared(), "1 running", "1")
        if what == "fails":
            raise ConnectionLost("cut", sent="maybe")
        return "1 running"

    poller = make_poller(queue_of(status=slow), interval=0.5)
    poller.tracker.follow("1")
    poller.status(["1"])
    due = poller.tracker.seconds_until_due(0.5)
    assert due <= (0.5 if what == "another answers" else 0), "not twice 2 s"
    last = shared().news("queue", 0)
    assert last is not None
    assert last.ended - last.began < 0.5 or what == "another answers"


def test_the_lease_of_an_ended_process_is_free_at_once(
    shared: Callable[[], SharedPoll], file: JournalFile
) -> None:
    lease(shared(), "1")
    pid, _, machine = pid_file.call().split("-", 2)
    change(file, "holder = ?", f"{pid}-1-{machine}/abc-def")  # the same pid, started earlier
    lease(shared(), "2")


def test_a_lease_that_ends_in_the_far_future_is_not_believed(
    shared: Callable[[], SharedPoll], file: JournalFile
) -> None:
    lease(shared(), "1")
    change(file, "held_until = ?", time.monotonic() + 1e6)
    lease(shared(), "2")


def test_an_answer_from_the_future_is_not_believed(
    shared: Callable[[], SharedPoll], file: JournalFile
) -> None:
    first, second = shared(), shared()
    stamp = answered(first, "x", "1")
    change(file, "began = began + 1e6, ended = ended + 1e6")
    assert second.news("queue", 0) is None
    lease(second, "2", seen=0)
    assert stamp == 1


def test_a_restart_of_the_machine_begins_anew(
    shared: Callable[[], SharedPoll], monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(shared(), "x", "1")
    monkeypatch.setattr(pid_file, "clock", lambda: "another boot")
    later = shared()
    held = lease(later, "2")
    assert held.ids == ("2",)
    assert later.news("queue", 0) is None


def test_a_wall_clock_that_jumps_moves_nothing(
    shared: Callable[[], SharedPoll], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = shared(), shared()
    answered(first, "x", "1")
    for jump in (-1e6, 1e6):
        now = time.time() + jump
        monkeypatch.setattr(time, "time", lambda now=now: now)
        assert second.news("queue", 0) is not None
        assert second.take("queue", ("2",), interval=10, seen=0) == Pause(0.0)


# -- how often ----------------------------------------------------------------------------------


def test_early_looks_come_from_one_budget(shared: Callable[[], SharedPoll]) -> None:
    """Over a time T all processes together make at most T/interval + 4 queries."""
    interval, began = 0.5, time.monotonic()
    processes = [shared() for _ in range(6)]
    seen = count = 0
    while time.monotonic() < began + 4:
        for one in processes:
            taken = one.take("queue", ("1",), interval=interval, seen=seen)
            if isinstance(taken, Lease):
                with taken:
                    seen = taken.answered(Answer("x"), ("1",), time.monotonic(), TAKEN) or seen
                count += 1
        time.sleep(0.01)
    took = time.monotonic() - began
    assert 2 <= count <= took / interval + 5


def test_the_back_off_is_shared(queue_of: Callable[..., FakeQueue]) -> None:
    down = SchedulerError("slurmctld is down", kind="transient")
    first, second = queue_of(status=down), queue_of(status="1 running")
    make_poller(first, interval=5).status(["1"])
    poller = make_poller(second, interval=5)
    snapshot = poller.status(["1"])
    assert second.asked == []
    assert snapshot.unknown == ("1",)
    assert snapshot.error is not None
    assert snapshot.error.message == "slurmctld is down"
    assert poller.tracker.seconds_until_due(5) > 6, "it rests twice as long"


def test_a_final_error_is_raised_in_each_process_that_waits(
    queue_of: Callable[..., FakeQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_FINAL_REST", 0.2)
    wrong = SchedulerError("no permission", kind="permission")
    queues = [queue_of(status=wrong) for _ in range(4)]
    raised: list[str] = []

    def wait(queue: FakeQueue) -> None:
        with pytest.raises(SchedulerError) as caught:
            list(waiting.settling(make_poller(queue, interval=0.5), ["1"], 20))
        raised.append(caught.value.kind)

    threads = [threading.Thread(target=wait, args=(queue,)) for queue in queues]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert raised == ["permission"] * 4
    assert sum(queue.count("status") for queue in queues) <= 6


def test_a_lost_link_is_no_answer_for_all(queue_of: Callable[..., FakeQueue]) -> None:
    first, second = queue_of(status=ConnectionLost("gone")), queue_of(status="1 running")
    make_poller(first, interval=5).status(["1"])
    assert make_poller(second, interval=5).status(["1"]).unknown == ("1",)
    assert second.asked == []


# -- listings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("all_users", [False, True])
def test_a_listing_is_shared_until_a_job_is_changed(
    queue_of: Callable[..., FakeQueue], all_users: bool
) -> None:
    name = "all" if all_users else "mine"
    first, second = (queue_of(**{name: "1 running"}) for _ in range(2))
    one, other = make_poller(first, interval=10), make_poller(second, interval=10)
    one.jobs(all_users)
    assert [status.job_id for status in other.jobs(all_users)] == ["1"]
    assert (first.count(name), second.count(name)) == (1, 0)
    one.outdate("2")
    third = queue_of(**{name: "1 running,2 pending"})
    assert len(make_poller(third, interval=10).jobs(all_users)) == 2
    assert third.count(name) == 1


# -- a journal in trouble -----------------------------------------------------------------------


def test_without_a_journal_each_process_polls_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue = FakeQueue(status=["1 running", "1 running", "1 completed"])
    assert isinstance(queue.file, NoFile)
    with caplog.at_level(logging.WARNING, "openssh_jobs.cluster"):
        assert list(waiting.settling(make_poller(queue, interval=0.1), ["1"], 20)) == ["1"]
    said = [record for record in caplog.records if "not shared" in record.getMessage()]
    assert len(said) == 1


def test_a_busy_journal_does_not_stop_a_wait(
    queue_of: Callable[..., FakeQueue], file: JournalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openssh_jobs.cluster import journal_file

    for name in ("_BRIEF_TIMEOUT", "BUSY_TIMEOUT"):
        monkeypatch.setattr(journal_file, name, 0.2)
    file.execute("SELECT 1")
    other = sqlite3.connect(file.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        queue = queue_of(status=["1 running", "1 completed"])
        began = time.monotonic()
        assert list(waiting.settling(make_poller(queue, interval=0.2), ["1"], 20)) == ["1"]
        assert time.monotonic() - began < 10
    finally:
        other.execute("ROLLBACK")
        other.close()


@pytest.mark.parametrize("data", [b"", b"nonsense", b"x\x9c"])
def test_an_answer_that_cannot_be_read_is_none(
    shared: Callable[[], SharedPoll], file: JournalFile, data: bytes
) -> None:
    answered(shared(), "x", "1")
    change(file, "answer = ?", data)
    news = shared().news("queue", 0)
    assert news is not None
    assert news.answer is None


def test_an_answer_that_is_too_large_is_not_stored(
    shared: Callable[[], SharedPoll], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_view, "LARGEST_ANSWER", 2000)
    answered(shared(), os.urandom(4000).hex(), "1")
    assert getattr(shared().news("queue", 0), "answer", "") is None


def test_text_that_is_no_utf_8_comes_back_as_it_was(shared: Callable[[], SharedPoll]) -> None:
    answered(shared(), "caf\udce9 \u00e9", "1")
    assert getattr(shared().news("queue", 0), "answer", None) == Answer("caf\udce9 \u00e9")


def test_an_error_that_is_no_utf_8_reaches_the_others(shared: Callable[[], SharedPoll]) -> None:
    error = SchedulerError("caf\udce9\x1b", kind="transient")
    with lease(shared(), "1") as held:
        assert held.failed(error, time.monotonic(), TAKEN, rests=True) == 1
    assert str(getattr(shared().news("queue", 0), "error", None)).endswith(str(error))
