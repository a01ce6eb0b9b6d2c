"""Locks: between threads and processes, against whom a call interrupts, and across a fork."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from openssh_jobs.errors import ConfigurationError, ConnectError
from openssh_jobs.openssh import locks
from openssh_jobs.openssh.locks import CallLock, StateLock, locked
from tests.helpers import PYTHON

HOLDER = """
import sys
from openssh_jobs.openssh.locks import locked
with locked(sys.argv[1], host='hpc', timeout=20, needs=float(sys.argv[2])):
    print('mine', flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def path(cold: Path) -> str:
    """A lock file in a short private directory."""
    return str(cold.parent / "lock")


@contextmanager
def another_process(path: str, needs: float = 0.0) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock until it gets a line."""
    argv = [*PYTHON, HOLDER, path, str(needs)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "mine\n"
        yield child


def let_go(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


@contextmanager
def alarm(handler: Callable[[], object], seconds: float = 0.2) -> Iterator[list[object]]:
    """Call ``handler`` from a signal handler in so many seconds; what it gave or raised."""
    heard: list[object] = []

    def on_alarm(*_: object) -> None:
        try:
            heard.append(handler())
        except Exception as error:  # noqa: BLE001 - for the test to look at
            heard.append(error)

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield heard
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# -- lock files ---------------------------------------------------------------------------------


def test_a_lock_keeps_processes_out_and_says_who_has_it(path: str) -> None:
    with another_process(path) as child:
        with (
            pytest.raises(ConnectError, match=f"hpc: the process {child.pid} has held") as caught,
            locked(path, host="hpc", timeout=0.05),
        ):
            pass
        assert path in str(caught.value.advice)
        let_go(child)
        with locked(path, host="hpc", timeout=20):
            assert child.wait(20) == 0


def test_who_waits_for_a_login_waits_as_long_as_it_may_take(path: str) -> None:
    with another_process(path, needs=30) as child:
        threading.Timer(1.5, let_go, (child,)).start()
        began = time.monotonic()
        with locked(path, host="hpc", timeout=0.1):
            assert time.monotonic() - began > 1


def test_a_thread_waits_as_long_for_one_of_its_own_program(path: str) -> None:
    inside = threading.Event()

    def work() -> None:
        with locked(path, host="hpc", timeout=1, needs=30):
            inside.set()
            time.sleep(1.5)

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(20)
    with locked(path, host="hpc", timeout=0.1):
        thread.join(20)
    assert not thread.is_alive()


def test_another_thread_is_named_as_such(path: str) -> None:
    inside, done = threading.Event(), threading.Event()

    def work() -> None:
        with locked(path, host="hpc", timeout=1):
            inside.set()
            done.wait(20)

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(20)
    with pytest.raises(ConnectError, match="another thread"), locked(path, host="h", timeout=0.1):
        pass
    done.set()
    thread.join(20)


@pytest.mark.parametrize("word", ["", "x", "7", "7 x", "-1 -1", "7 99999999999999"])
def test_a_lock_file_may_hold_anything(path: str, word: str) -> None:
    Path(path).write_text(word)
    with locked(path, host="hpc", timeout=1):
        assert Path(path).read_text().split()[0] == str(os.getpid())
    assert Path(path).read_text() == ""


def test_a_lock_that_cannot_be_used_is_an_error_with_advice(tmp_path: Path) -> None:
    with (
        pytest.raises(ConnectError, match=r"hpc: the lock .* cannot be used") as caught,
        locked(str(tmp_path / "none" / "lock"), host="hpc", timeout=1),
    ):
        pass
    assert "OPENSSH_JOBS_RUNTIME_DIR" in str(caught.value.advice)


def test_a_lock_file_is_no_other_name_of_another_file(path: str) -> None:
    precious = Path(path).parent / "precious"
    precious.write_text("precious")
    for plant in (os.symlink, os.link):
        plant(precious, path)
        with (
            pytest.raises(ConnectError, match="cannot be used"),
            locked(path, host="hpc", timeout=1),
        ):
            pass
        Path(path).unlink()
    assert precious.read_text() == "precious"


def test_threads_take_turns(path: str) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        with locked(path, host="hpc", timeout=20):
            inside += 1
            most = max(most, inside)
            time.sleep(0.001)
            inside -= 1

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == 1
    with locked(path, host="hpc", timeout=1):
        pass


FORKED = """
import os, sys, threading, time
from openssh_jobs.openssh.locks import locked
inside, done = threading.Event(), threading.Event()
def work():
    with locked(sys.argv[1], host='hpc', timeout=1):
        inside.set(); done.wait(20)
thread = threading.Thread(target=work); thread.start(); inside.wait(20)
ready, go = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    os.write(ready[1], b'x'); os.read(go[0], 1)
    with locked(sys.argv[1], host='hpc', timeout=5):  # nor does it wait for a thread it has not got
        os._exit(0)
os.read(ready[0], 1)
done.set(); thread.join(20)
with locked(sys.argv[1], host='hpc', timeout=1):  # the child is there, with a copy of all it had
    pass
os.write(go[1], b'x')
deadline = time.monotonic() + 20
while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
    time.sleep(0.02)
assert ended == (pid, 0), ended
"""


def test_a_forked_child_keeps_no_lock_of_its_parent(path: str) -> None:
    argv = [*PYTHON, FORKED, path]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# -- who interrupts -----------------------------------------------------------------------------


def test_who_holds_a_lock_is_refused_by_it() -> None:
    lock = CallLock("a test", "hpc")
    with lock:
        assert lock.is_mine
        for again in (lock.acquire, lambda: lock.acquire(blocking=False)):
            with pytest.raises(ConfigurationError, match="hpc: a test was called in the middle"):
                again()
    assert not lock.is_mine
    with lock:
        pass


def test_nor_can_one_wait_who_interrupts_a_wait() -> None:
    """Between the wish for a lock and the lock there is a moment, and a signal may come in it."""
    lock = CallLock("a test")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(20)
    with alarm(lambda: lock.acquire(timeout=20)) as heard:
        assert not lock.acquire(timeout=0.6)
    assert [type(error) for error in heard] == [ConfigurationError]
    assert not lock.is_mine, "who did not get it may ask again"
    done.set()
    thread.join(20)
    assert lock.acquire(timeout=1)
    lock.release()


@pytest.mark.parametrize("lock", [CallLock("a test"), StateLock()], ids=["call", "state"])
def test_who_needs_another_thread_is_refused_inside(lock: CallLock | StateLock) -> None:
    locks.refuse_inside("a question")
    with lock:
        with pytest.raises(ConfigurationError, match="a question was called in the middle"):
            locks.refuse_inside("a question")
        other = threading.Thread(target=locks.refuse_inside, args=("a question",))
        other.start()
        other.join(20)
    locks.refuse_inside("a question")


def test_a_login_in_the_middle_of_a_login_is_refused_at_once(path: str) -> None:
    began = time.monotonic()
    with (
        locked(path, host="hpc", timeout=20, needs=60),
        pytest.raises(ConfigurationError, match="in the middle"),
        locked(path, host="hpc", timeout=20),
    ):
        pass
    assert time.monotonic() - began < 5
    with locked(path, host="hpc", timeout=1):
        pass
