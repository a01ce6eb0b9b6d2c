"""What watching thousands of jobs costs, counted: nothing grows faster than the number of jobs.

``scripts/lab growth`` measures the same in seconds.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.cluster.journal import Journal
from openssh_jobs.cluster.waiting import settling
from openssh_jobs.jobs import CancelOutcome, JobId, JobState, JobStatus, Snapshot
from openssh_jobs.jobs.job_id import JobIds
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.schedulers.gridengine.array import arrays_over
from openssh_jobs.schedulers.outcomes import outcomes_for
from openssh_jobs.schedulers.pbs.output import QstatRows
from openssh_jobs.schedulers.slurm.scheduler import Slurm
from openssh_jobs.schedulers.slurm.tables import Table

from .fakes import FakeQueue, jobs_of, make_poller, submit
from .test_learned import Commits, Queue

FEW, MANY = 150, 600


def calls_of(work: Callable[[], object]) -> int:
    """How many functions were called, those in C and resumed generators among them."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def check_growth(prepare: Callable[[int], Callable[[], object]]) -> None:
    """Of four times as many jobs the work must be about four times as much."""
    few, many = calls_of(prepare(FEW)), calls_of(prepare(MANY))
    assert many < 5.5 * few + 2000, (few, many)


def element(index: int, state: JobState = JobState.RUNNING) -> JobStatus:
    return JobStatus(f"77_{index}", state, raw_state=str(state), source="queue")


# -- comparisons --------------------------------------------------------------------------------


def half_an_array(count: int) -> tuple[Snapshot, list[str]]:
    """A queue that lists the second half of an array, and the ids of all its elements."""
    listed = Snapshot(known={f"77_{n}": element(n) for n in range(count // 2, count)})
    return listed, [f"77_{n}" for n in range(count)]


def test_selecting_the_elements_of_an_array_is_linear() -> None:
    def prepare(count: int) -> Callable[[], object]:
        listed, wanted = half_an_array(count)

        def work() -> None:
            found = listed.select(wanted)
            assert len(found.known) == len(found.absent) == count // 2

        return work

    check_growth(prepare)


def test_looking_up_each_element_in_a_snapshot_is_linear() -> None:
    def prepare(count: int) -> Callable[[], object]:
        listed, wanted = half_an_array(count)
        found = listed.select(wanted)
        return lambda: [found[f"{job_id};east"] for job_id in wanted]

    check_growth(prepare)


def test_elements_of_a_sparse_pending_range_are_found_in_linear_time() -> None:
    def prepare(count: int) -> Callable[[], object]:
        rest = f"77_[{','.join(str(n) for n in range(1, 2 * count, 2))}]"
        listed = Snapshot(known={rest: JobStatus(rest, JobState.PENDING, source="queue")})

        def work() -> None:
            found = listed.select([f"77_{n}" for n in range(1, 2 * count, 2)])
            assert len(found.known) == count

        return work

    check_growth(prepare)


def test_cancelling_is_linear() -> None:
    def prepare(count: int) -> Callable[[], object]:
        poller = make_poller(FakeQueue(status=""))
        ids = [f"77_{n}" for n in range(count)]
        poller.tracker.follow(*ids)

        def work() -> None:
            poller.tracker.cancel_accepted(ids)
            said = dict.fromkeys(ids, CancelOutcome.ALREADY_FINISHED)
            assert outcomes_for(ids, said, CancelOutcome.REQUESTED) == said

        return work

    check_growth(prepare)


def test_the_members_of_many_arrays_of_pbs_are_found_in_linear_time() -> None:
    def prepare(count: int) -> Callable[[], object]:
        rows = QstatRows()
        for number in range(count):
            attributes = {"job_state": "B", "array_indices_submitted": "1-2"}
            array = JobStatus(f"{number}[].pbs", JobState.RUNNING, source="queue")
            rows.add_job(array, "", attributes)
            for index in (1, 2):
                running = JobStatus(f"{number}[{index}].pbs", JobState.RUNNING, source="queue")
                rows.add_job(running, "", {})

        def work() -> None:
            found = rows.settled()
            assert found["7[].pbs"].reason == "2 members: 2 running"

        return work

    check_growth(prepare)


def test_the_ends_of_grid_engines_arrays_are_found_in_linear_time() -> None:
    def prepare(count: int) -> Callable[[], object]:
        known = {f"{n}.1": JobStatus(f"{n}.1", JobState.FAILED) for n in range(count)}

        def work() -> None:
            assert len(arrays_over([JobId.parse(str(n)) for n in range(count)], known)) == count

        return work

    check_growth(prepare)


class Compared(str):
    """An id that counts how often it is compared."""

    __slots__ = ()
    times = 0

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return str.__eq__(self, other)

    def __hash__(self) -> int:
        return str.__hash__(self)


def test_waiting_for_jobs_that_end_together_is_linear() -> None:
    def compared(count: int) -> int:
        # The last one ends first, so that a list would be searched from its beginning.
        ids = [Compared(n) for n in range(1, count + 1)]
        last = [
            f"{n} {'running' if n < count // 2 else 'completed=0'}" for n in range(1, count + 1)
        ]
        all_ended = ",".join(f"{n} completed=0" for n in range(1, count + 1))
        poller = make_poller(FakeQueue(status=[",".join(last), all_ended]))
        Compared.times = 0
        assert sorted(map(int, settling(poller, ids, 60))) == list(range(1, count + 1))
        return Compared.times

    few, many = compared(100), compared(400)
    assert many < 5.5 * few + 2000, (few, many)


def test_an_index_of_ids_finds_what_comparing_each_with_each_finds() -> None:
    words = [
        "5", "5_1", "5_[1-9%2]", "5_[1,4,8-12:2]", "5[]", "5[3]", "5[].srv", "5[3].srv.site", "5+1",
        "5.0", "5.1", "5.1-4:2", "5;east", "5_1;east", "5_[7-9];west", "6", "6_1", "5_8", "5_10",
    ]  # fmt: skip
    ids = [JobId.parse(word) for word in words]
    index = JobIds((job_id, job_id.text) for job_id in ids)
    for wanted in ids:
        assert index.matching(wanted) == [o.text for o in ids if o.matches(wanted)]
        assert [o.text for o, _ in index.around(wanted)] == [
            o.text for o in ids if o.contains(wanted)
        ]
        assert index.within(wanted) == [o.text for o in ids if wanted.contains(o)]


def test_ranges_that_overlap_are_all_looked_at() -> None:
    chosen = random.Random(4)
    for _ in range(200):
        ranges = [
            (low, low + chosen.randrange(12), chosen.randrange(1, 4))
            for low in (chosen.randrange(40) for _ in range(chosen.randrange(1, 6)))
        ]
        text = ",".join(f"{low}-{high}:{step}" for low, high, step in ranges)
        meant = {n for low, high, step in ranges for n in range(low, high + 1, step)}
        array = JobId.parse(f"5_[{text}]")
        found = {n for n in range(60) if array.contains(JobId.parse(f"5_{n}"))}
        assert found == meant, text


# -- one query ----------------------------------------------------------------------------------


class SlurmQueue(Queue):
    """Slurm's own reader before a queue that is played; ``listed`` is what it lists."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal, status=self._answer)
        self.listed: dict[str, str] = {}
        self.elapsed = 0
        self._slurm = Slurm()

    def _answer(self) -> str:
        self.elapsed += 1
        when = "2026-01-01T08:00:00"
        rows = "".join(
            f"ab|{job_id}|{job_id}|{state}|u|p|n[1-4]|4|{when}|{when}|{when}|0:{self.elapsed:02}|"
            f"1:00:00|ab|None|ab|a|ab|/d|ab|name\n"
            for job_id, state in self.listed.items()
        )
        return f"OJ+ab\nOJ:ab begin squeue@\n{rows}\nOJ:ab end 0\nOJ-ab\n"

    def parse_status(self, answer: Answer, *, requested: Any = None, **more: object) -> Snapshot:
        return self._slurm.parse_status(answer, requested=requested)


class Facts:
    """Counts the rows of Slurm's tables of which all facts were read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        read = Table.facts

        def counted(table: Table, cells: Any) -> dict[str, Any]:
            self.count += 1
            return read(table, cells)

        monkeypatch.setattr(Table, "facts", counted)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.sqlite")
    yield made
    made.close()


def test_a_query_with_nothing_new_reads_no_facts_and_writes_nothing(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [str(n) for n in range(1, 401)]
    submit(journal, *ids)
    queue = SlurmQueue(journal)
    queue.listed = dict.fromkeys(ids, "RUNNING")
    jobs, facts = jobs_of(queue), Facts(monkeypatch)
    jobs.status(ids)
    assert facts.count == len(ids)
    commits, facts.count = Commits(journal), 0
    for _ in range(3):
        asked = len(queue.asked)
        assert len(jobs.status(ids).known) == len(ids)
        assert len(queue.asked) - asked == 1, "one command"
        assert facts.count == 0
        assert commits.count() == 0
    elapsed = jobs.tracker.status("7").elapsed
    assert elapsed is not None
    assert elapsed.seconds == queue.elapsed, "the figure is that of the last answer"
    queue.listed["7"] = "COMPLETING"
    facts.count = 0
    jobs.status(ids)
    assert facts.count <= 4, "of the job that changed only"
    assert commits.count() == 1


def test_what_the_first_status_knew_is_kept_after_many_answers(journal: Journal) -> None:
    submit(journal, "7")
    journal.change("hpc", "t7", stdout_path="/d/out", name="mine")
    queue = SlurmQueue(journal)
    queue.listed = {"7": "PENDING"}
    jobs = jobs_of(queue)
    known = JobStatus("7", JobState.PENDING, stdout_path="/d/out", source="journal")
    jobs.tracker.add_known(known)
    for state in ("PENDING", "PENDING", "RUNNING", "RUNNING", "COMPLETED"):
        queue.listed = {"7": state}
        jobs.status(["7"])
    status = jobs.tracker.status("7")
    assert (status.state, status.stdout_path, status.name) == ("completed", "/d/out", "name")
    assert status.exit_code == 0


def test_a_job_of_which_nothing_is_new_is_written_all_the_same_after_a_while(
    journal: Journal,
) -> None:
    """Another process may have written something else meanwhile."""
    submit(journal, "7")
    queue = SlurmQueue(journal)
    queue.listed = {"7": "RUNNING"}
    jobs = jobs_of(queue)
    jobs.status(["7"])
    journal.change("hpc", "t7", state="unknown")
    jobs.status(["7"])
    jobs.poller._learned._all_at = 0.0  # some minutes later
    jobs.status(["7"])
    found = journal.by_job("hpc", "7")
    assert found is not None
    assert found.state == "running"


def steps_of(journal: Journal, work: Callable[[], object]) -> int:
    """Thousands of instructions of SQLite's machine."""
    journal.active("hpc")
    connection = journal.file._connection
    assert connection is not None
    count = 0

    def note() -> int:
        nonlocal count
        count += 1
        return 0

    connection.set_progress_handler(note, 100)
    try:
        work()
    finally:
        connection.set_progress_handler(None, 0)
    return count


@pytest.mark.parametrize("ended", [100, 20_000])
def test_a_query_costs_the_journal_the_same_after_thousands_of_ended_jobs(
    journal: Journal, ended: int
) -> None:
    columns = "host, token, digest, scheduler, directory, job_id, state, opened, changed"
    journal.rows()
    with journal.file.transaction() as database:
        database.executemany(
            f"INSERT INTO submissions ({columns}) VALUES ('hpc', ?, 'd', 'slurm', '/d', ?, "
            "'completed', 1, 1)",
            [(f"old{n}", str(100_000 + n)) for n in range(ended)],
        )
    ids = [str(n) for n in range(1, 51)]
    submit(journal, *ids)
    queue = SlurmQueue(journal)
    queue.listed = dict.fromkeys(ids, "RUNNING")
    jobs = jobs_of(queue)
    assert steps_of(journal, lambda: jobs.status(ids)) < 400
    queue.listed = {}
    assert steps_of(journal, lambda: jobs.recovery.open_rows()) < 20
    assert steps_of(journal, lambda: journal.by_member("hpc", "7")) < 20
    assert steps_of(journal, lambda: journal.active("hpc")) < 100
