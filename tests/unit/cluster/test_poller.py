"""When the queue is asked, and who waits for what: on a client that answers as it is told to."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Cluster, Connection
from openssh_jobs.cluster.poller import Poller
from openssh_jobs.cluster.scheduler_client import Asker
from openssh_jobs.cluster.tracker import Watch
from openssh_jobs.commands.result import CommandResult
from openssh_jobs.errors import (
    AuthenticationNeeded,
    CommandTimeout,
    ConnectionLost,
    HostUnreachable,
    SchedulerError,
    SessionLimit,
)
from openssh_jobs.jobs import JobState, JobStatus, Snapshot
from tests.helpers import processes, until
from tests.lab.site import Host

PASSING = ("transient", "transport", "parse_error", "limit", "not_found")
FINAL = ("permission", "scheduler_missing", "invalid_request", "unsupported")


class Queue:
    """A scheduler and the client that asks it.  ``answers`` are taken in turn, the last stays."""

    name = "fake"
    convention = None
    poll_floor = 0.0
    host = "hpc"

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, list[Any]] = {
            kind: given if isinstance(given, list) else [given] for kind, given in answers.items()
        }
        self.asked: list[tuple[str, float]] = []
        self.known = self
        self.connection = self
        self.journal = self
        self._commands = self

    def by_job(self, *_: object) -> None: ...

    def accounting_script(self) -> None: ...

    def scheduler(self) -> Queue:
        return self

    def placed(self, error: SchedulerError) -> SchedulerError:
        return error

    def status_script(self, ids: Any = (), *, all_users: bool = False) -> str:
        return "status" if ids else "all" if all_users else "mine"

    def history_script(self, ids: Any, *, since: object = None) -> str | None:
        return "history" if "history" in self.answers else None

    def end_groups(self, groups: Any) -> bool:
        return True

    def ask(self, script: str, timeout: float = 0) -> CommandResult[str]:
        self.asked.append((script, time.monotonic()))
        answers = self.answers[script]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        while callable(answer):
            answer = answer()
        if isinstance(answer, Exception):
            raise answer
        return CommandResult(script, 0, answer, "", "hpc")

    def count(self, script: str) -> int:
        return [one for one, _ in self.asked].count(script)

    def parse_status(self, text: str, *, requested: Any = None, **_: object) -> Snapshot:
        known = {}
        for line in text.split(","):
            one, _, state = line.partition(" ")
            if one:
                state, _, code = state.partition("=")
                known[one] = JobStatus(
                    one,
                    JobState(state),
                    exit_code=int(code) if code else None,
                    source="queue",
                    raw_state=state,
                )
        snapshot = Snapshot(known=known)
        return snapshot if requested is None else snapshot.select(requested)

    def parse_history(self, text: str, *, requested: Any, **_: object) -> Snapshot:
        return self.parse_status(text, requested=requested)


def poller(queue: Queue, interval: float = 0.05, grace: float = 30) -> Poller:
    return Poller(queue, Watch(grace), interval)  # type: ignore[arg-type]


def settle(one: Poller, ids: str, timeout: float | None = 30) -> list[str]:
    return list(one.settling(ids.split(), timeout))


def after(seconds: float, answer: str) -> Callable[[], str]:
    def slow() -> str:
        time.sleep(seconds)
        return answer

    return slow


@contextmanager
def threads_end() -> Iterator[None]:
    before = threading.active_count()
    yield
    deadline = time.monotonic() + 20
    while threading.active_count() > before:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)


# -- bounds -------------------------------------------------------------------------------------


def test_a_wait_ends_in_time_while_a_query_is_at_work() -> None:
    queue = Queue(status=after(3, "1 running"))
    one = poller(queue)
    with threads_end():
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"not over after 0\.2 s: 1 unknown"):
            settle(one, "1", 0.2)
        assert time.monotonic() - began < 1.5
    assert queue.count("status") == 1
    assert one.watch.status("1").state is JobState.RUNNING, "the query went on and was heard"


def test_a_wait_ends_in_time_though_another_thread_asks_without_an_end() -> None:
    queue = Queue(status=after(3, "1 running,2 running"))
    one = poller(queue)
    with threads_end():
        other = threading.Thread(target=one.status, args=(["1"],))
        other.start()
        time.sleep(0.2)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            settle(one, "2", 0.2)
        assert time.monotonic() - began < 1.5
        other.join(20)


def test_a_wait_of_no_time_still_hears_a_quick_answer() -> None:
    assert settle(poller(Queue(status="1 completed")), "1", 0) == ["1"]


def test_nobody_rests_while_others_could_ask() -> None:
    """A new id waits two seconds for its turn; a listing does not wait behind it."""
    queue = Queue(status="1 running", mine="1 running", all="1 running")
    one = poller(queue, interval=10)
    one.status(["1"])
    with threads_end():
        rests = threading.Thread(target=one.status, args=(["2"],))
        rests.start()
        time.sleep(0.2)
        began = time.monotonic()
        assert [job.job_id for job in one.jobs(all_users=True)] == ["1"]
        assert time.monotonic() - began < 1
        rests.join(20)


def test_threads_that_want_the_same_share_a_query() -> None:
    queue = Queue(status=after(0.5, "1 running"))
    one = poller(queue, interval=10)
    with threads_end():
        threads = [threading.Thread(target=one.status, args=(["1"],)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert queue.count("status") == 1


# -- rests --------------------------------------------------------------------------------------


def test_the_rest_is_counted_from_the_end_of_a_query() -> None:
    queue = Queue(status=after(0.6, "1 running"))
    one = poller(queue, interval=0.5)
    one.status(["1"])
    one.status(["1"])
    assert queue.count("status") == 1, "the interval has only begun"
    time.sleep(0.55)
    one.status(["1"])
    assert queue.count("status") == 2


def test_who_does_not_answer_is_asked_ever_less() -> None:
    queue = Queue(status=SchedulerError("down", kind="transient"))
    one = poller(queue, interval=0.2)
    with pytest.raises(TimeoutError):
        settle(one, "1", 4)
    times = [when for _, when in queue.asked]
    assert 3 <= len(times) <= 5
    assert times[-1] - times[-2] > 1.5 * (times[1] - times[0])
    began = time.monotonic()
    snapshot = one.status(["1", "2"])
    assert time.monotonic() - began < 0.2, "nobody rests for one who does not answer"
    assert snapshot.error is not None
    assert sorted(snapshot.unknown) == ["1", "2"]


# -- listings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("all_users", [False, True])
def test_a_listing_is_old_until_a_query_was_begun_after_the_change(all_users: bool) -> None:
    name = "all" if all_users else "mine"
    queue = Queue(mine="1 running", all="1 running")
    one = poller(queue, interval=60)
    one.jobs(all_users)
    one.jobs(all_users)
    assert queue.count(name) == 1, "as long as nothing is done it is used again"

    def meanwhile() -> str:
        one.watch.disturbed()  # another thread cancels a job while the query is under way
        return "1 running"

    one.watch.disturbed()
    queue.answers[name] = [meanwhile, "1 cancelled"]
    one.jobs(all_users)
    assert [job.state for job in one.jobs(all_users)] == ["cancelled"]
    assert queue.count(name) == 3
    one.jobs(not all_users)
    one.watch.disturbed()
    one.jobs(not all_users)
    one.jobs(all_users)
    assert queue.count(name) == 4, "the other listing does not make this one new"


@pytest.mark.parametrize("all_users", [False, True])
def test_a_listing_that_failed_is_no_new_one(all_users: bool) -> None:
    name = "all" if all_users else "mine"
    queue = Queue(**{name: ["1 running", ConnectionLost("gone"), "1 cancelled"]})
    one = poller(queue, interval=60)
    one.jobs(all_users)
    one.watch.disturbed()
    with pytest.raises(ConnectionLost):
        one.jobs(all_users)
    assert [job.state for job in one.jobs(all_users)] == ["cancelled"]


def test_an_answer_from_before_a_change_does_not_put_off_the_look_after_it() -> None:
    queue = Queue(status="1 held")
    one = poller(queue, interval=60)
    queue.answers["status"] = [lambda: one.watch.disturbed() or "1 held", "1 pending"]
    one.status(["1"])
    assert one.watch.seconds_until_due(60) < 3


# -- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*PASSING, *FINAL])
def test_no_error_ends_a_wait_at_once(kind: str) -> None:
    queue = Queue(status=["1 running", SchedulerError("no", kind=kind), "1 completed"])
    assert settle(poller(queue), "1") == ["1"]


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
    queue = Queue(status=["1 running", error, "1 completed"])
    assert settle(poller(queue), "1") == ["1"]


@pytest.mark.parametrize("kind", FINAL)
def test_what_is_final_twice_ends_it(kind: str) -> None:
    queue = Queue(status=["1 running", SchedulerError("no", kind=kind)])
    began = time.monotonic()
    with pytest.raises(SchedulerError, match="no"):
        settle(poller(queue), "1")
    assert queue.count("status") == 3
    assert time.monotonic() - began >= 2, "not twice within a moment"


def test_final_words_that_others_came_between_are_not_twice() -> None:
    queue = Queue(
        status=[
            SchedulerError("no", kind="permission"),
            "1 running",
            SchedulerError("no", kind="permission"),
            "1 completed",
        ]
    )
    assert settle(poller(queue), "1") == ["1"]


def test_a_host_that_was_never_reached_and_wants_somebody_says_so_at_once() -> None:
    queue = Queue(status=AuthenticationNeeded("a code"))
    with pytest.raises(AuthenticationNeeded):
        settle(poller(queue), "1")
    assert queue.count("status") == 1


# -- exit codes ---------------------------------------------------------------------------------


def test_an_exit_code_that_the_accounting_does_not_have_yet_is_asked_for_again() -> None:
    queue = Queue(status="1 failed", history=["", "1 running", "1 failed=3"])
    one = poller(queue)
    assert settle(one, "1") == ["1"]
    assert one.watch.status("1").exit_code == 3
    asked = len(queue.asked)
    one.status(["1"])
    assert len(queue.asked) == asked, "nothing is left to be asked"


def test_but_only_within_the_grace_time() -> None:
    queue = Queue(status="1 failed", history=ConnectionLost("lost"))
    one = poller(queue, grace=1)
    began = time.monotonic()
    assert settle(one, "1") == ["1"]
    assert 0.9 < time.monotonic() - began < 6
    told = one.watch.status("1")
    assert (told.state, told.exit_code) == (JobState.FAILED, None)


@pytest.mark.parametrize("history", [{}, {"history": "1 failed"}], ids=["none", "without"])
def test_where_nobody_has_an_exit_code_nothing_waits_for_it(history: dict[str, str]) -> None:
    queue = Queue(status="1 failed", **history)
    one = poller(queue)
    assert settle(one, "1", 5) == ["1"]
    assert len(queue.asked) == 1 + len(history)


# -- who interrupts -----------------------------------------------------------------------------


def test_a_signal_handler_may_ask_for_what_it_interrupts() -> None:
    queue = Queue(status=after(0.6, "1 running"))
    one = poller(queue, interval=10)
    heard: list[Any] = []
    before = signal.signal(signal.SIGALRM, lambda *_: heard.append(one.status(["1"])))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        told = one.status(["1"])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert [snapshot.known["1"].state for snapshot in (told, *heard)] == ["running"] * 2
    assert queue.count("status") == 1


def test_ctrl_c_ends_the_query_that_nobody_else_waits_for() -> None:
    ended = threading.Event()
    queue = Queue(status=lambda: (ended.wait(20) and "1 running") or "")
    queue.end_groups = lambda groups: ended.set() or True  # type: ignore[method-assign]
    one = poller(queue, interval=10)

    def interrupt(*_: object) -> None:
        query = one._queries.at_work
        assert query is not None
        query._scope._at_work.add(type("Running", (), {"group": 4711})())  # type: ignore[arg-type]
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with threads_end():
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                one.status(["1"])
            assert ended.is_set()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# -- the host's clock ---------------------------------------------------------------------------


class _Clock:
    """A connection to a host whose clock goes by ``ahead`` seconds ahead."""

    host = "hpc"

    def __init__(self, ahead: float | None) -> None:
        self.ahead = ahead

    def run(self, script: bytes, **_: object) -> CommandResult[str]:
        mark = script.decode().split("OJT+")[1].split(" ")[0]
        seconds = "" if self.ahead is None else f"{time.time() + self.ahead:.0f}"
        return CommandResult("", 0, f"rc noise\nOJT+{mark} {seconds}\n1 2\n", "", "hpc")


@pytest.mark.parametrize(("ahead", "skew"), [(5400, 5400), (-5400, -5400), (0.4, 0), (None, 0)])
def test_times_are_by_the_clock_of_the_host(ahead: float | None, skew: float) -> None:
    client: Any = _Clock(ahead)
    asker = Asker(client, None, "hpc", "slurm", login_shell=True, prologue="")  # type: ignore[arg-type]
    assert abs(asker.host_time() - time.time()) < 1, "not known yet"
    assert asker.ask("squeue").stdout == "rc noise\n1 2\n", "nobody else gets to see it"
    assert asker.host_time() - time.time() == pytest.approx(skew, abs=1.5)


# -- on a real host -----------------------------------------------------------------------------


def test_a_submission_is_written_down_by_the_clock_of_the_host(sshd: Host, tmp_path: Path) -> None:
    """Where it is 90 minutes ahead, its accounting would seem to be of another job."""
    sshd.make_directory("oj-clock")
    sshd.make("oj-clock/date", b'#!/bin/sh\nexec /bin/date -d "+90 minutes" "$@"\n', 0o755)
    with Cluster(
        Connection(sshd.alias, ssh_config=sshd.config),
        scheduler="direct",
        prologue=f"PATH={sshd.home}/oj-clock:$PATH; export PATH",
        journal=str(tmp_path / "journal"),
    ) as cluster:
        job = cluster.submit(script_text="#!/bin/sh\ntrue\n", directory="oj-clock/job")
        (row,) = cluster.journal.rows()
        assert row.submitted == pytest.approx(time.time() + 5400, abs=60)
        job.wait(timeout=60)


def test_a_real_query_does_not_hold_a_wait(sshd: Host, tmp_path: Path) -> None:
    with (
        threads_end(),
        Cluster(
            Connection(sshd.alias, ssh_config=sshd.config),
            scheduler="direct",
            prologue="sleep 211321.5; true",
            journal=str(tmp_path / "journal"),
        ) as cluster,
    ):
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            cluster.wait("4711", timeout=1)
        assert time.monotonic() - began < 3
        assert processes("211321.5"), "it goes on while somebody may want its answer"
    assert until(lambda: processes("211321.5") == []), "and ends with the cluster's handle"
