"""Jobs that ended are forgotten by the tracker, and found again in the journal."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Cluster
from openssh_jobs.cluster import learned, tracker
from openssh_jobs.cluster.host_jobs import HostJobs
from openssh_jobs.cluster.job import Job
from openssh_jobs.cluster.journal import Journal
from openssh_jobs.cluster.journal_view import status_of
from openssh_jobs.jobs import JobState, Snapshot
from openssh_jobs.schedulers.answer import Answer

from .fakes import FakeQueue, FakeScope, row


class Queue(FakeQueue):
    """A queue with a real journal; ``listed`` is what it lists, ``most`` the most ids parsed."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(status=self._status)
        self.journal = journal  # type: ignore[assignment]
        self.listed = ""
        self.most = 0

    def _status(self) -> str:
        return self.listed

    def scope(self) -> FakeScope:
        return FakeScope()

    def parse_status(self, answer: Answer, *, requested: Any = None, **more: object) -> Snapshot:
        self.most = max(self.most, len(requested or ()))
        return super().parse_status(answer, requested=requested)


class World:
    def __init__(self, directory: Path) -> None:
        self.journal = Journal(directory / "journal.sqlite")
        self.queue = Queue(self.journal)
        client: Any = self.queue
        self.jobs = HostJobs(client, grace=30, poll_interval=0.0)
        # ``Cluster`` needs a connection; its methods only need these two.
        self.cluster = Cluster.__new__(Cluster)
        self.cluster.host, self.cluster.journal = "hpc", self.journal
        self.cluster.internal = self.jobs

    def submit(self, *ids: str) -> list[Job]:
        handles = []
        for job_id in ids:
            self.journal.open_row(row(f"t{job_id}", host="hpc", name="job"))
            self.journal.change("hpc", f"t{job_id}", job_id=job_id, state="pending")
            found = self.journal.by_token("hpc", f"t{job_id}")
            assert found is not None
            self.jobs.tracker.add_known(status_of(found, job_id))
            handles.append(Job(self.jobs, job_id, found))
            self.jobs.poller.outdate(job_id)
        return handles

    def lists(self, state: str, *ids: str) -> None:
        self.queue.listed = ",".join(f"{job_id} {state}" for job_id in ids)

    def end(self, *ids: str) -> None:
        """Submit these jobs and wait for them."""
        self.submit(*ids)
        self.lists("completed=0", *ids)
        states = {status.state for status in self.jobs.wait(list(ids), 60)}
        assert states == {JobState.COMPLETED}

    def count(self) -> int:
        return self.queue.count("status")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.journal.close()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are forgotten with the next query after their end."""
    monkeypatch.setattr(tracker, "_REMEMBERED", 0.0, raising=False)


@pytest.mark.parametrize("number", [300, pytest.param(2000, marks=pytest.mark.long)])
@pytest.mark.usefixtures("at_once")
def test_jobs_that_ended_leave_nothing_in_memory(world: World, number: int) -> None:
    warm = 1000 + number // 5
    tracemalloc.start()
    try:
        for first in range(1000, 1000 + number, 20):
            if first == warm:
                gc.collect()
                before = tracemalloc.get_traced_memory()[0]
            world.end(*(str(job_id) for job_id in range(first, first + 20)))
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(world.jobs.tracker.settled()) <= 20
    assert world.queue.most <= 60, "a query is about the jobs that ended, too"
    assert grown < 125 * number * 4 // 5, "bytes for the jobs after the first fifth"


@pytest.mark.usefixtures("at_once")
def test_a_forgotten_job_is_answered_from_the_journal(world: World) -> None:
    world.end("1")
    world.end("2")
    assert world.jobs.tracker.not_followed(["1"]) == ["1"]
    world.lists("running", "9")  # the scheduler knows neither of them any more
    queries = world.count()
    assert world.cluster.is_over("1")
    world.jobs.tracker.forget(world.jobs.tracker.unused())
    (status,) = world.cluster.wait(["1"], timeout=5)
    assert (status.state, status.exit_code) == (JobState.COMPLETED, 0)
    world.jobs.tracker.forget(world.jobs.tracker.unused())
    assert world.cluster.status("1")["1"].state is JobState.COMPLETED
    world.jobs.tracker.forget(world.jobs.tracker.unused())
    last = world.cluster.job("1").last
    assert (last.state, last.exit_code) == (JobState.COMPLETED, 0)
    assert world.count() == queries, "no query for what the journal has"


@pytest.mark.usefixtures("at_once")
def test_a_requeue_is_noticed_while_a_handle_is_held(world: World) -> None:
    (held,) = world.submit("1")
    world.lists("failed=1", "1")
    assert held.wait(60).state is JobState.FAILED
    world.end("2")
    world.end("3")
    assert held.last.state is JobState.FAILED
    assert held.last.source == "queue", "nothing of it is lost"
    world.submit("4")
    world.queue.listed = "1 running,4 running"
    world.jobs.tracker.outdate()
    world.cluster.status("4")
    assert str(held.last.state) == "running"
    del held
    gc.collect()
    assert sorted(world.cluster.following()) == ["1", "4"], "a job that goes on is not forgotten"


@pytest.mark.usefixtures("at_once")
def test_what_the_journal_does_not_have_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(learned.Learned, "write", lambda *_: None)
        world.end("1")
    world.end("2")
    assert world.jobs.tracker.not_followed(["1", "2"]) == ["2"]
    last = world.jobs.tracker.last("1")
    assert last is not None
    assert last.state is JobState.COMPLETED


def test_a_job_that_was_named_lately_is_kept(world: World) -> None:
    world.end("1")
    world.end("2")
    assert world.jobs.tracker.unused() == {}
    assert world.jobs.tracker.not_followed(["1", "2"]) == []
    assert world.cluster.status("1")["1"].source == "queue"


@pytest.mark.usefixtures("at_once")
def test_a_wait_keeps_what_it_returns(world: World) -> None:
    """Jobs that end one after the other, in one wait without handles."""
    world.submit("1", "2", "3")
    answers = iter(["1 completed=0,2 running,3 running", "2 completed=0,3 running"])
    world.queue.answers["status"] = [lambda: next(answers, "3 completed=0")]
    statuses = world.cluster.wait(["1", "2", "3"], timeout=60)
    assert [status.exit_code for status in statuses] == [0, 0, 0]
    assert {status.source for status in statuses} == {"queue"}


def test_a_job_that_ended_before_this_program_began_is_a_question_to_the_host(
    world: World,
) -> None:
    world.journal.open_row(row("t1", host="hpc"))
    world.journal.change("hpc", "t1", job_id="1", state="completed", exit_code=0)
    world.jobs._began += 60
    world.lists("running", "1")
    assert world.cluster.status("1")["1"].state is JobState.RUNNING, "it was requeued"
