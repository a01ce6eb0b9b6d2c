"""When the queue is asked, and who waits for what: on a client that answers as it is set up."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.cluster import poller as poller_module
from openssh_jobs.cluster import shared_poll, tracker, waiting
from openssh_jobs.cluster.journal import Journal
from openssh_jobs.cluster.journal_file import JournalFile
from openssh_jobs.cluster.poller import Poller
from openssh_jobs.cluster.scheduler_client import SchedulerClient
from openssh_jobs.commands.result import CommandResult
from openssh_jobs.errors import (
    AuthenticationNeeded,
    CommandTimeout,
    ConnectionLost,
    HostUnreachable,
    SchedulerError,
    SessionLimit,
)
from openssh_jobs.jobs import JobState
from openssh_jobs.site_policy import SitePolicy
from tests.helpers import until
from tests.unit.cluster.fakes import FakeQueue, after, make_poller, threads_end

PASSING = ("transient", "transport", "parse_error", "limit", "not_found")
FINAL = ("permission", "scheduler_missing", "invalid_request", "unsupported")


@pytest.fixture(autouse=True, params=["alone", "shared"])
def journal_file(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Once without a journal, and once with one that other processes could use."""
    if request.param == "alone":
        yield
        return
    file = JournalFile(tmp_path / "journal" / "j.sqlite")
    monkeypatch.setattr(FakeQueue, "make_file", lambda _: file)
    yield
    file.close()


@pytest.fixture(autouse=True)
def short_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixed rests are a fifth as long; what a test compares with them is shortened alike."""
    rest_after = tracker.rest_after

    def shorter(duration: float, interval: float, failures: int = 0) -> float:
        return rest_after(duration, interval, failures) / (5 if failures else 1)

    for module in (tracker, shared_poll, poller_module, waiting):
        monkeypatch.setattr(module, "FIRST_LOOK", 0.4)
        monkeypatch.setattr(module, "rest_after", shorter, raising=False)
    monkeypatch.setattr(waiting, "_FINAL_REST", 0.4)
    monkeypatch.setattr(waiting, "_QUICKEST", 0.05)


def settle(poller: Poller, ids: str, timeout: float | None = 30) -> list[str]:
    return list(waiting.settling(poller, ids.split(), timeout))


# -- bounds -------------------------------------------------------------------------------------


def test_a_wait_ends_in_time_while_a_query_is_at_work() -> None:
    answers = threading.Event()
    queue = FakeQueue(status=lambda: (answers.wait(20) and "1 running") or "")
    poller = make_poller(queue)
    with threads_end():
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"not over after 0\.2 s: 1 unknown"):
            settle(poller, "1", 0.2)
        assert time.monotonic() - began < 10
        answers.set()
    assert queue.count("status") == 1
    assert poller.tracker.status("1").state is JobState.RUNNING, "the query went on and was heard"


def test_a_wait_ends_in_time_though_another_thread_asks_without_an_end() -> None:
    answers = threading.Event()
    queue = FakeQueue(status=lambda: (answers.wait(20) and "1 running,2 running") or "")
    poller = make_poller(queue)
    with threads_end():
        other = threading.Thread(target=poller.status, args=(["1"],))
        other.start()
        assert until(lambda: queue.asked)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            settle(poller, "2", 0.2)
        assert time.monotonic() - began < 10
        answers.set()
        other.join(20)


def test_a_wait_of_no_time_still_hears_a_quick_answer() -> None:
    assert settle(make_poller(FakeQueue(status="1 completed")), "1", 0) == ["1"]


def test_a_pause_blocks_no_other_query(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new id waits for its turn; a listing does not wait behind it."""
    monkeypatch.setattr(tracker, "FIRST_LOOK", 2.0)
    queue = FakeQueue(status="1 running", mine="1 running", all="1 running")
    poller = make_poller(queue, interval=10)
    poller.status(["1"])
    with threads_end():
        rests = threading.Thread(target=poller.status, args=(["2"],))
        rests.start()
        time.sleep(0.2)
        began = time.monotonic()
        assert [job.job_id for job in poller.jobs(all_users=True)] == ["1"]
        assert time.monotonic() - began < 1
        rests.join(20)


def test_threads_that_want_the_same_share_a_query() -> None:
    queue = FakeQueue(status=after(0.5, "1 running"))
    poller = make_poller(queue, interval=10)
    with threads_end():
        threads = [threading.Thread(target=poller.status, args=(["1"],)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert queue.count("status") == 1


# -- rests --------------------------------------------------------------------------------------


def test_the_rest_is_counted_from_the_end_of_a_query() -> None:
    queue = FakeQueue(status=after(0.6, "1 running"))
    poller = make_poller(queue, interval=0.5)
    poller.status(["1"])
    poller.status(["1"])
    assert queue.count("status") == 1, "the interval has only begun"
    time.sleep(0.55)
    poller.status(["1"])
    assert queue.count("status") == 2


def test_a_host_that_does_not_answer_is_queried_ever_less() -> None:
    queue = FakeQueue(status=SchedulerError("down", kind="transient"))
    poller = make_poller(queue, interval=0.2)
    with pytest.raises(TimeoutError):
        settle(poller, "1", 2)
    times = [when for _, when in queue.asked]
    assert 3 <= len(times) <= 5
    rests = [tracker.rest_after(0, 0.2, failures) for failures in range(1, len(times))]
    gaps = [later - when for when, later in itertools.pairwise(times)]
    assert all(gap >= rest for gap, rest in zip(gaps, rests, strict=True))
    assert rests == sorted(set(rests)), "each is longer than the one before"
    began = time.monotonic()
    snapshot = poller.status(["1", "2"])
    assert time.monotonic() - began < rests[0], "nobody rests for one who does not answer"
    assert snapshot.error is not None
    assert sorted(snapshot.unknown) == ["1", "2"]


# -- listings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("all_users", [False, True])
def test_a_listing_is_old_until_a_query_was_begun_after_the_change(all_users: bool) -> None:
    name = "all" if all_users else "mine"
    queue = FakeQueue(mine="1 running", all="1 running")
    poller = make_poller(queue, interval=60)
    poller.jobs(all_users)
    poller.jobs(all_users)
    assert queue.count(name) == 1, "as long as nothing is done it is used again"

    def meanwhile() -> str:
        poller.tracker.outdate()  # another thread cancels a job while the query is under way
        return "1 running"

    poller.tracker.outdate()
    queue.answers[name] = [meanwhile, "1 cancelled"]
    poller.jobs(all_users)
    assert [job.state for job in poller.jobs(all_users)] == ["cancelled"]
    assert queue.count(name) == 3
    poller.jobs(not all_users)
    poller.tracker.outdate()
    poller.jobs(not all_users)
    poller.jobs(all_users)
    assert queue.count(name) == 4, "the other listing does not make this one new"


@pytest.mark.parametrize("all_users", [False, True])
def test_a_listing_that_failed_is_no_new_one(all_users: bool) -> None:
    name = "all" if all_users else "mine"
    queue = FakeQueue(**{name: ["1 running", ConnectionLost("gone"), "1 cancelled"]})
    poller = make_poller(queue, interval=60)
    poller.jobs(all_users)
    poller.tracker.outdate()
    with pytest.raises(ConnectionLost):
        poller.jobs(all_users)
    assert [job.state for job in poller.jobs(all_users)] == ["cancelled"]


def test_an_answer_from_before_a_change_does_not_put_off_the_look_after_it() -> None:
    queue = FakeQueue(status="1 held")
    poller = make_poller(queue, interval=60)
    queue.answers["status"] = [lambda: poller.tracker.outdate() or "1 held", "1 pending"]
    poller.status(["1"])
    assert poller.tracker.seconds_until_due(60) < 3


# -- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*PASSING, *FINAL])
def test_no_error_ends_a_wait_at_once(kind: str) -> None:
    queue = FakeQueue(status=["1 running", SchedulerError("no", kind=kind), "1 completed"])
    assert settle(make_poller(queue), "1") == ["1"]


@pytest.mark.parametrize(
    "error",
    [
        ConnectionLost("lost"),
        CommandTimeout("slow"),
        SessionLimit("full"),
        HostUnreachable("away"),
        AuthenticationNeeded("a code"),
        OSError(24, "Too many open files"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_nor_does_a_link_that_was_lost(error: Exception) -> None:
    queue = FakeQueue(status=["1 running", error, "1 completed"])
    assert settle(make_poller(queue), "1") == ["1"]


@pytest.mark.parametrize("kind", FINAL)
def test_what_is_final_twice_ends_it(kind: str) -> None:
    queue = FakeQueue(status=["1 running", SchedulerError("no", kind=kind)])
    began = time.monotonic()
    with pytest.raises(SchedulerError, match="no"):
        settle(make_poller(queue), "1")
    assert queue.count("status") == 3
    assert time.monotonic() - began >= 0.4, "not twice within a moment"


def test_final_words_that_others_came_between_are_not_twice() -> None:
    queue = FakeQueue(
        status=[
            SchedulerError("no", kind="permission"),
            "1 running",
            SchedulerError("no", kind="permission"),
            "1 completed",
        ]
    )
    assert settle(make_poller(queue), "1") == ["1"]


def test_a_host_that_was_never_reached_and_needs_a_person_is_an_error_at_once() -> None:
    queue = FakeQueue(status=AuthenticationNeeded("a code"))
    with pytest.raises(AuthenticationNeeded):
        settle(make_poller(queue), "1")
    assert queue.count("status") == 1


# -- exit codes ---------------------------------------------------------------------------------


def test_an_exit_code_that_the_accounting_does_not_have_yet_is_asked_for_again() -> None:
    queue = FakeQueue(status="1 failed", history=["", "1 running", "1 failed=3"])
    poller = make_poller(queue)
    assert settle(poller, "1") == ["1"]
    assert poller.tracker.status("1").exit_code == 3
    asked = len(queue.asked)
    poller.status(["1"])
    assert len(queue.asked) == asked, "nothing is left to be asked"


def test_but_only_within_the_grace_time() -> None:
    queue = FakeQueue(status="1 failed", history=ConnectionLost("lost"))
    poller = make_poller(queue, grace=1)
    began = time.monotonic()
    assert settle(poller, "1") == ["1"]
    assert 0.9 < time.monotonic() - began < 6
    status = poller.tracker.status("1")
    assert (status.state, status.exit_code) == (JobState.FAILED, None)


@pytest.mark.parametrize("history", [{}, {"history": "1 failed"}], ids=["none", "without"])
def test_an_exit_code_that_is_nowhere_is_not_waited_for(history: dict[str, str]) -> None:
    queue = FakeQueue(status="1 failed", **history)
    poller = make_poller(queue)
    assert settle(poller, "1", 5) == ["1"]
    assert len(queue.asked) == 1 + len(history)


# -- who interrupts -----------------------------------------------------------------------------


def test_a_signal_handler_may_ask_for_what_it_interrupts() -> None:
    queue = FakeQueue(status=after(0.6, "1 running"))
    poller = make_poller(queue, interval=10)
    heard: list[Any] = []
    before = signal.signal(signal.SIGALRM, lambda *_: heard.append(poller.status(["1"])))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        first = poller.status(["1"])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert [snapshot.known["1"].state for snapshot in (first, *heard)] == ["running"] * 2
    assert queue.count("status") == 1


def test_ctrl_c_ends_the_query_that_has_no_other_caller() -> None:
    queue = FakeQueue()
    queue.answers["status"] = [lambda: (queue.scopes[0].ended.wait(20) and "1 running") or ""]
    poller = make_poller(queue, interval=10)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with threads_end():
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                poller.status(["1"])
            assert queue.scopes[0].ended.is_set()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_ctrl_c_while_its_thread_starts_ends_the_query(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FakeQueue()
    queue.answers["status"] = [lambda: (queue.scopes[0].ended.wait(20) and "1 running") or ""]
    poller = make_poller(queue, interval=10)
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    with threads_end(), monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            poller.status(["1"])
        assert queue.scopes[0].ended.is_set()
    assert poller.status(["1"])["1"].state is JobState.RUNNING, "the next query begins"


# -- the host's clock ---------------------------------------------------------------------------


class _Clock:
    """A connection to a host whose clock goes by ``ahead`` seconds ahead."""

    host = "hpc"

    def __init__(self, ahead: float | None) -> None:
        self.ahead = ahead
        self.internal = self

    def run(self, script: bytes, **_: object) -> CommandResult[str]:
        mark = script.decode().split("OJT+")[1].split(" ")[0]
        seconds = "" if self.ahead is None else f"{time.time() + self.ahead:.0f}"
        return CommandResult("", 0, f"rc noise\nOJT+{mark} {seconds}\n1 2\n", "", "hpc")


@pytest.mark.parametrize(("ahead", "skew"), [(5400, 5400), (-5400, -5400), (0.4, 0), (None, 0)])
def test_times_are_by_the_clock_of_the_host(
    journal: Journal, ahead: float | None, skew: float
) -> None:
    connection: Any = _Clock(ahead)
    client = SchedulerClient(connection, journal, "hpc", "slurm", login_shell=True, prologue="")
    assert abs(client.host_time() - time.time()) < 1, "not known yet"
    assert client.ask("squeue").stdout == "rc noise\n1 2\n", "nobody else gets to see it"
    assert client.host_time() - time.time() == pytest.approx(skew, abs=1.5)


# -- floors -------------------------------------------------------------------------------------


def test_floors_only_raise_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FakeQueue()
    queue.policy = SitePolicy(poll_floor=20, history_floor=90)
    assert make_poller(queue, interval=5).interval == 20
    assert make_poller(queue, interval=40).interval == 40
    monkeypatch.setenv("OPENSSH_JOBS_POLL_INTERVAL", "30")
    assert make_poller(queue, interval=5).interval == 30
