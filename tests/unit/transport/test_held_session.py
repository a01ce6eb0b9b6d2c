"""``HeldSession``: one worker for many calls, and who takes its session away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from openssh_jobs.errors import ConfigurationError, ConnectionLost, HostUnreachable, SessionLimit
from openssh_jobs.openssh import reaper
from openssh_jobs.transport import session_limit
from openssh_jobs.transport.base import Link
from openssh_jobs.transport.held_session import GRACE, HeldSession, WorkerLost
from openssh_jobs.transport.sessions import Sessions
from tests.helpers import until
from tests.unit.transport.fakes import FakeSession, FakeTransport, lost


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reaper takes nothing away, unless a test lets it; no wait takes minutes."""
    monkeypatch.setattr(reaper, "IDLE_SECONDS", 1000.0)
    monkeypatch.setattr(session_limit, "SLOT_TIMEOUT", 3.0)


class FakeWorker:
    """Counts what is done with it."""

    def __init__(self, link: Link, session: FakeSession) -> None:
        self.link = link
        self.session = session
        self.is_alive = True
        self.calls = 0
        self.graces: list[float] = []
        self.abandoned = False

    def close(self, *, grace: float) -> None:
        self.graces.append(grace)
        self.session.end()

    def abandon(self) -> None:
        self.abandoned = True


class Lane:
    """A held session, its workers and the host behind them."""

    def __init__(self, transport: FakeTransport, *, limit: int | None = None) -> None:
        self.transport = transport
        self.sessions = Sessions(transport, max_sessions=limit)
        self.workers: list[FakeWorker] = []
        self.held = HeldSession(self.sessions, self._start, "a call of the test")

    def _start(self, link: Link, what: str) -> FakeWorker:
        session = self.sessions.open(link, what.encode(), (0, 1, 2))
        assert isinstance(session, FakeSession)
        self.workers.append(FakeWorker(link, session))
        return self.workers[-1]

    def call(self, *fates: BaseException | None, again: bool = False) -> FakeWorker:
        """One call, which raises the next of ``fates`` each time that it is run."""
        left = list(fates)

        def work(worker: FakeWorker) -> FakeWorker:
            worker.calls += 1
            fate = left.pop(0) if left else None
            if fate is not None:
                raise fate
            return worker

        with self.held.lock:
            return self.held.call(work, "work", again=again)

    @property
    def used(self) -> int:
        return self.sessions.slots.used

    def other(self, within: float) -> Callable[[], None]:
        """Open a session for another call; returns what releases it."""
        transport = self.transport
        began = time.monotonic()
        session, slot = self.sessions.start(
            lambda link: transport.open(link, b"other", ()), what="other", until=began + within
        )

        def end() -> None:
            session.end()
            slot.release()

        return end


@pytest.fixture
def lane() -> Lane:
    return Lane(FakeTransport())


def gone(text: str = "the shell ended") -> WorkerLost:
    return WorkerLost(ConnectionLost(text, host="hpc", command="work", sent="maybe"))


# -- hold and reuse -----------------------------------------------------------------------------


def test_nothing_is_opened_before_the_first_call(lane: Lane) -> None:
    assert lane.transport.requests == []
    assert not lane.held.is_ready
    assert lane.held.give_back(idle_for=0.0), "it holds nothing"


def test_calls_share_a_worker(lane: Lane) -> None:
    first = lane.call()
    assert lane.held.is_ready
    assert lane.call() is first
    assert lane.call() is first
    assert (first.calls, lane.held.started, lane.used) == (3, 1, 1)
    assert lane.transport.requests == [b"work"]
    assert first.graces == []


def test_a_worker_that_has_ended_is_replaced_before_a_call(lane: Lane) -> None:
    first = lane.call()
    first.is_alive = False
    assert not lane.held.is_ready
    second = lane.call()
    assert second is not first
    assert (first.calls, second.calls, lane.used) == (1, 1, 1)
    assert first.graces == [0.0]


def test_the_held_session_is_no_session_of_the_call_that_opened_it() -> None:
    """Else a later call of the same thread would take itself for a nested one."""
    lane = Lane(FakeTransport(), limit=1)
    lane.call()
    assert not lane.sessions.slots.interrupted_all


def test_a_call_in_the_middle_of_a_call_is_an_error(lane: Lane) -> None:
    def work(worker: FakeWorker) -> None:
        lane.call()

    with lane.held.lock, pytest.raises(ConfigurationError, match="a call of the test"):
        lane.held.call(work, "work", again=False)
    assert lane.used == 0


# -- failures -----------------------------------------------------------------------------------


def test_a_lost_worker_is_dropped_and_its_link_not_used_again(lane: Lane) -> None:
    with pytest.raises(ConnectionLost, match="the shell ended"):
        lane.call(gone())
    assert lane.workers[0].graces == [0.0]
    assert (lane.used, lane.held.started, lane.held.is_ready) == (0, 1, False)
    worker = lane.call()
    assert worker.link == lane.transport.links[1]
    assert worker.link != lane.workers[0].link


def test_a_harmless_call_is_repeated_once(lane: Lane) -> None:
    worker = lane.call(gone(), again=True)
    assert worker is lane.workers[1]
    assert [worker.calls for worker in lane.workers] == [1, 1]
    with pytest.raises(ConnectionLost, match="the second time"):
        lane.call(gone("the first time"), gone("the second time"), again=True)
    assert len(lane.workers) == 3
    assert lane.used == 0


def test_the_first_error_is_the_cause(lane: Lane) -> None:
    lane.call()
    lane.transport.no_links = [HostUnreachable("no route to host", host="hpc")]
    with pytest.raises(ConnectionLost, match="the shell ended") as caught:
        lane.call(gone(), again=True)
    assert isinstance(caught.value.__cause__, HostUnreachable)


def test_an_error_before_the_call_is_raised_as_it_is(lane: Lane) -> None:
    lane.transport.no_links = [HostUnreachable("no route to host", host="hpc")]
    with pytest.raises(HostUnreachable):
        lane.call(again=True)
    assert (lane.used, lane.workers) == (0, [])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("x")], ids=repr)
def test_a_worker_that_was_interrupted_is_not_used_again(lane: Lane, error: BaseException) -> None:
    with pytest.raises(type(error)):
        lane.call(error, again=True)
    assert lane.workers[0].calls == 1
    assert lane.workers[0].graces == [0.0]
    assert lane.used == 0


def test_a_start_that_may_have_been_sent_is_repeated() -> None:
    """An idle worker changes nothing on the host."""
    lane = Lane(FakeTransport(lost("maybe")))
    lane.call()
    assert (len(lane.transport.requests), lane.used) == (2, 1)


# -- who takes it away --------------------------------------------------------------------------


def test_an_idle_worker_is_given_back(lane: Lane) -> None:
    worker = lane.call()
    assert not lane.held.give_back(idle_for=100.0)
    assert lane.held.is_ready
    assert lane.held.give_back(idle_for=0.0)
    assert worker.graces == [GRACE]
    assert (lane.used, lane.held.is_ready) == (0, False)
    assert lane.call() is not worker


def test_the_reaper_gives_it_back(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = lane.call()
    monkeypatch.setattr(reaper, "IDLE_SECONDS", 0.0)
    assert until(lambda: lane.used == 0, 20)
    assert worker.graces == [GRACE]


def test_a_worker_in_use_is_not_given_back(lane: Lane) -> None:
    begun, end = threading.Event(), threading.Event()

    def work(worker: FakeWorker) -> None:
        assert not lane.held.give_back(idle_for=0.0), "nor by the thread that uses it"
        begun.set()
        assert end.wait(10)

    def call() -> None:
        with lane.held.lock:
            lane.held.call(work, "work", again=False)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        assert begun.wait(10)
        assert not lane.held.give_back(idle_for=0.0)
        assert lane.workers[0].graces == []
    finally:
        end.set()
        thread.join(10)
    assert lane.held.is_ready
    assert lane.held.give_back(idle_for=0.0)


def test_another_call_of_this_process_reclaims_it() -> None:
    lane = Lane(FakeTransport(), limit=1)
    worker = lane.call()
    end = lane.other(within=2)
    assert worker.graces == [GRACE]
    assert not lane.held.is_ready
    assert lane.used == 1
    end()


def test_a_worker_in_use_is_not_reclaimed() -> None:
    lane = Lane(FakeTransport(), limit=1)
    worker = lane.call()
    with lane.held.lock, pytest.raises(SessionLimit):
        lane.other(within=0.2)
    assert worker.graces == []


def test_another_process_asks_for_it(tmp_path: Path) -> None:
    lane = Lane(FakeTransport(path=str(tmp_path / "socket")))
    worker = lane.call()
    assert lane.held.is_ready
    (tmp_path / "socket.wanted").touch()
    assert lane.held.give_back(idle_for=100.0), "idle or not"
    assert worker.graces == [GRACE]
    worker = lane.call()
    assert worker.graces == [GRACE], "given back after the call"
    assert (worker.calls, lane.used) == (1, 0)


# -- close and fork -----------------------------------------------------------------------------


def test_close_ends_it_with_grace(lane: Lane) -> None:
    worker = lane.call()
    lane.held.close()
    lane.held.close()
    assert worker.graces == [GRACE]
    assert (lane.used, lane.transport.open_now) == (0, 0)
    assert lane.call() is not worker


def test_a_forked_child_forgets_the_worker_of_its_parent(lane: Lane) -> None:
    theirs = lane.call()
    lane.sessions.reset()
    lane.held.reset()
    assert theirs.abandoned
    assert theirs.graces == [], "it goes on in the parent"
    assert theirs.session.is_open
    assert (lane.used, lane.held.started, lane.held.is_ready) == (0, 0, False)
    mine = lane.call()
    assert mine is not theirs
    assert (mine.link != theirs.link, lane.used) == (True, 1)


def test_a_fork_in_the_middle_of_a_call_does_not_leave_a_lock(lane: Lane) -> None:
    with lane.held.lock:
        before = lane.held.lock
        lane.held.reset()
        assert lane.held.lock is not before
        assert lane.held.lock.acquire(blocking=False)
        lane.held.lock.release()
