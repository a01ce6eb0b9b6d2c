"""The thread that gives idle sessions back: nothing ends it, and it loses nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from openssh_jobs.openssh import reaper
from tests.helpers import until


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A reaper for these tests alone, with a short interval."""
    assert until(lambda: not reaper._running, 20), "another test holds something"
    monkeypatch.setattr(reaper, "_STEP", 0.01)
    yield
    with reaper._lock:
        reaper._holders.clear()
    assert until(lambda: not reaper._running, 20)


class Holder:
    """Holds something until it was asked ``looks`` times."""

    def __init__(self, looks: int = 0) -> None:
        self.looks = looks
        self.asked = 0

    def give_back(self, *, idle_for: float) -> bool:
        assert idle_for > 0
        self.asked += 1
        return self.asked > self.looks


class Broken(Holder):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def give_back(self, *, idle_for: float) -> bool:
        self.asked += 1
        if self.asked < 4:
            raise self.error
        return True


@pytest.mark.parametrize(
    "error", [OSError("x"), RuntimeError("x"), SystemExit(1), KeyboardInterrupt()], ids=repr
)
def test_no_exception_ends_it(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    broken, well = Broken(error), Holder(looks=10)
    reaper.watch(broken)
    reaper.watch(well)
    assert until(lambda: well.asked == 11)
    assert until(lambda: broken.asked == 4), "it is asked again, too"
    assert len([one for one in caplog.records if "could not be given back" in one.message]) == 1


def test_what_is_held_anew_during_the_look_is_watched() -> None:
    """``give_back`` says that nothing is held, and somebody takes a session before that is used."""

    class Racing(Holder):
        def give_back(self, *, idle_for: float) -> bool:
            self.asked += 1
            if self.asked == 1:
                taken = threading.Thread(target=reaper.watch, args=(self,))
                taken.start()
                taken.join(20)
            return True

    racing = Racing()
    reaper.watch(racing)
    assert until(lambda: racing.asked == 2)


def test_it_ends_with_the_last_holder_and_begins_again() -> None:
    for _ in range(3):
        one = Holder(looks=2)
        reaper.watch(one)
        assert until(lambda: not reaper._running)
        assert one.asked == 3


def test_where_no_thread_can_be_started_the_next_one_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    first, second = Holder(), Holder()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        reaper.watch(first)
    reaper.watch(second)
    assert until(lambda: first.asked and second.asked)
    time.sleep(0.05)
    assert (first.asked, second.asked) == (1, 1)
