"""What is known of jobs over time: unknown is never finished, and nothing known is forgotten."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from openssh_jobs.cluster import evidence, tracker
from openssh_jobs.cluster.tracker import Tracker
from openssh_jobs.errors import SchedulerError
from openssh_jobs.jobs import JobState, JobStatus, Snapshot
from openssh_jobs.jobs.status import array_status

DOWN = SchedulerError("controller down", kind="transient")


class Clock:
    """Our own seconds: nothing here waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (evidence, tracker):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def watch(clock: Clock) -> Tracker:
    return Tracker(grace=60)


def status(job_id: str, state: str, **facts: object) -> JobStatus:
    return JobStatus(job_id, state, **{"source": "queue", "raw_state": state, **facts})  # type: ignore[arg-type]


@pytest.fixture
def answer(watch: Tracker, clock: Clock) -> Callable[..., None]:
    """The queue answers now."""

    def answer(
        *known: JobStatus, absent: tuple[str, ...] = (), unknown: tuple[str, ...] = ()
    ) -> None:
        listed = {one.job_id: one for one in known}
        snapshot = Snapshot(known=listed, absent=absent, unknown=unknown)
        watch.take_answer(snapshot, datetime.now(UTC), clock.now)

    return answer


Answer = Callable[..., None]

# -- unknown is not finished ------------------------------------------------------------------


def test_a_failed_query_changes_nothing_but_the_answer(watch: Tracker, answer: Answer) -> None:
    watch.follow("1", "2", "3")
    answer(status("1", "running"), status("2", "completed"), absent=("3",))
    before = [watch.status(one) for one in "123"]
    watch.take_failure(DOWN, ["1", "3"], 1001.0)
    assert [watch.status(one) for one in "123"] == before
    snapshot = watch.snapshot(["1", "2", "3"])
    assert snapshot.error is DOWN
    assert snapshot.unknown == ("1", "3")
    assert (list(snapshot.known), snapshot.absent) == (["2"], ()), "what is over stays over"
    assert not watch.is_over("1")
    answer(status("1", "running"), absent=("3",))
    snapshot = watch.snapshot(["1", "2", "3"])
    assert (snapshot.error, sorted(snapshot.known), snapshot.absent) == (None, ["1", "2"], ("3",))


def test_an_answer_that_could_not_say_leaves_the_status(watch: Tracker, answer: Answer) -> None:
    watch.follow("1", "2")
    answer(status("1", "running"), status("2", "running"))
    answer(status("2", "running"), unknown=("1",))
    assert watch.status("1").state is JobState.RUNNING
    snapshot = watch.snapshot(["1", "2"])
    assert (snapshot.unknown, list(snapshot.known)) == (("1",), ["2"])


def test_an_unparsed_line_is_no_new_information(watch: Tracker, answer: Answer) -> None:
    watch.follow("1")
    answer(status("1", "running"))
    answer(status("1", "unknown", raw_state="??"))
    assert watch.status("1").state is JobState.RUNNING


def test_absent_counts_only_if_asked_after_the_job_was_known(watch: Tracker, clock: Clock) -> None:
    before = clock.now - 1
    watch.follow("1")
    watch.take_answer(Snapshot(absent=("1",)), datetime.now(UTC), before)
    assert watch.last("1") is None
    assert watch.gone(["1"]) == []
    assert watch.never_queried(["1"]) == ["1"], "it has to be asked about still"
    watch.take_answer(Snapshot(absent=("1",)), datetime.now(UTC), clock.now)
    assert watch.gone(["1"]) == ["1"]


def test_a_job_that_left_the_queue_is_unknown_and_over_after_the_grace_time(
    watch: Tracker, clock: Clock, answer: Answer
) -> None:
    watch.follow("1")
    answer(status("1", "running", name="n", nodes=("n1",)))
    answer(absent=("1",))
    gone = watch.status("1")
    assert (gone.state, gone.reason) == (JobState.UNKNOWN, "left the queue")
    assert (gone.name, gone.nodes) == ("n", ("n1",))
    watch.lack_history(["1"], "sacct is switched off")
    clock.now += 59
    assert not watch.is_over("1")
    assert watch.snapshot(["1"]).absent == ("1",)
    clock.now += 2
    assert not watch.is_over("1"), "one answer and then silence is not two answers"
    answer(absent=("1",))
    assert not watch.is_over("1"), "the history is to be asked about it first"
    watch.defer_history(["1"])
    assert not watch.is_over("1"), "and still is"
    watch.lack_history(["1"], "sacct is switched off")
    assert watch.is_over("1")
    watch.lack_record("1", "no exit record")
    answer(absent=("1",))
    assert watch.is_over("1"), "no later answer takes that back"
    watch.defer_history(["1"])
    watch.lack_record("1", "no exit record")
    assert watch.is_over("1"), "nor does another query of the history"
    said = "left the queue; sacct is switched off; no exit record"
    assert watch.status("1").reason == said
    assert watch.status("1").state is JobState.UNKNOWN
    assert watch.unsettled() == []
    assert watch.unsettled(["1"]) == ["1"], "who asks for it by name is still answered"
    answer(status("1", "running"))
    answer(absent=("1",))
    assert not watch.is_over("1"), "that is another run"
    clock.now += 61
    answer(absent=("1",))
    watch.defer_history(["1"])
    assert not watch.is_over("1"), "which has not been looked for"


def test_an_id_that_never_was_did_not_leave_the_queue(watch: Tracker, answer: Answer) -> None:
    watch.follow("1")
    answer(absent=("1",))
    assert watch.status("1").reason == "the queue does not list it"


def test_a_job_that_comes_back_is_not_gone(watch: Tracker, answer: Answer) -> None:
    watch.follow("1")
    answer(status("1", "running"))
    answer(absent=("1",))
    answer(status("1", "pending", reason="requeued"))
    assert watch.status("1").state is JobState.PENDING
    assert not watch.is_over("1")


def test_what_is_left_of_a_dead_process_ends_after_the_grace_time(
    watch: Tracker, clock: Clock, answer: Answer
) -> None:
    watch.follow("1", "2")
    gone = status("1", "unknown", raw_state="gone", reason="no exit record")
    far = status("2", "unknown", raw_state="elsewhere", reason="runs on another node")
    answer(status("1", "running"), status("2", "running"))
    answer(gone, far)
    clock.now += 59
    answer(gone, far)
    assert not watch.is_over("1")
    assert watch.gone(["1"]) == [], "there is no history to ask"
    clock.now += 2
    answer(gone, far)
    assert watch.is_over("1")
    assert (watch.status("1").state, watch.status("1").reason) == (
        JobState.UNKNOWN,
        "no exit record",
    )
    clock.now += 10000
    answer(gone, far)
    assert not watch.is_over("2"), "a job on another node may run for days"


# -- final states -----------------------------------------------------------------------------


def test_a_final_state_is_taken_back_by_a_requeue_only(watch: Tracker, answer: Answer) -> None:
    watch.follow("1")
    answer(status("1", "failed", exit_code=3, reason="NonZeroExitCode"))
    answer(status("1", "completed"))
    answer(status("1", "unknown", reason="?"))
    answer(absent=("1",))
    assert watch.status("1").state is JobState.FAILED
    answer(status("1", "running"))
    again = watch.status("1")
    assert (again.state, again.exit_code, again.reason) == (JobState.RUNNING, None, None)


def test_a_reason_does_not_outlive_its_state(watch: Tracker, answer: Answer) -> None:
    watch.follow("1")
    answer(status("1", "pending", reason="Resources", name="n", started=datetime.now(UTC)))
    answer(status("1", "cancelled"))
    snapshot = watch.status("1")
    assert (snapshot.reason, snapshot.started, snapshot.name) == (None, None, "n")


def test_what_completed_ended_with_zero(watch: Tracker, answer: Answer) -> None:
    watch.follow("1", "2")
    answer(status("1", "completed"), status("2", "failed"))
    assert (watch.status("1").exit_code, watch.status("2").exit_code) == (0, None)
    assert watch.without_exit_code(["1", "2"]) == ["2"]


# -- history ------------------------------------------------------------------------------------


def test_the_history_says_how_it_ended(watch: Tracker, answer: Answer) -> None:
    watch.follow("1", "2", "3")
    answer(*(status(one, "running", queue="batch") for one in "123"))
    answer(absent=("1", "2", "3"))
    found = Snapshot(
        known={
            "1": status("1", "timeout", source="accounting"),
            "2": status("2", "running", source="accounting"),
        },
        absent=("3",),
    )
    watch.take_history(found, ["1", "2", "3"])
    assert (watch.status("1").state, watch.status("1").queue) == (JobState.TIMEOUT, "batch")
    assert watch.status("2").state is JobState.UNKNOWN, "a late record is no running job"
    assert watch.gone(["1", "2", "3"]) == ["2", "3"]
    watch.grace = 0
    assert "still calls it running" in str(watch.status("2").reason)
    assert "does not know it" in str(watch.status("3").reason)


def test_what_the_queue_could_not_say_the_history_may(watch: Tracker, answer: Answer) -> None:
    watch.follow("1", "2", "3")
    answer(status("3", "running"), unknown=("1", "2"))
    assert watch.unclear(["1", "2", "3"]) == ["1", "2"]
    found = Snapshot(
        known={
            "1": status("1", "completed", source="accounting"),
            "2": status("2", "running", source="accounting"),
        }
    )
    watch.take_history(found, ["1", "2"])
    assert watch.status("1").state is JobState.COMPLETED
    assert watch.snapshot(["1", "2"]).unknown == ("2",)
    watch.take_failure(DOWN, ["2", "3"], 1001.0)
    assert watch.unclear(["2", "3"]) == [], "a scheduler that is down is not asked twice"


def test_the_history_adds_the_exit_code_of_one_that_the_queue_saw_end(
    watch: Tracker, answer: Answer
) -> None:
    watch.follow("1", "2")
    answer(status("1", "failed"), status("2", "failed"))
    found = Snapshot(known={"1": status("1", "failed", exit_code=7)}, absent=("2",))
    watch.take_history(found, ["1", "2"])
    assert watch.status("1").exit_code == 7
    assert watch.status("2").state is JobState.FAILED


def test_the_end_of_an_earlier_run_is_none(watch: Tracker, answer: Answer) -> None:
    first, again = (
        datetime(2026, 1, 1, 12, 0, 1, tzinfo=UTC),
        datetime(2026, 1, 1, 12, 5, tzinfo=UTC),
    )
    watch.follow("1", "2", "3")
    answer(
        status("1", "running", submitted=again),
        status("2", "failed", submitted=again),
        status("3", "running", submitted=again),
    )
    answer(absent=("1", "3"))
    known = {one: status(one, "node_fail", submitted=first) for one in "123"}
    watch.take_history(Snapshot(known=known, submitted_per_run=True), ["1", "2", "3"])
    assert watch.status("1").state is JobState.UNKNOWN
    assert watch.status("2").state is JobState.FAILED, "the queue saw the last run end"
    assert watch.gone(["1", "3"]) == ["1", "3"]
    known = {"1": status("1", "completed", submitted=again)}
    watch.take_history(Snapshot(known=known, submitted_per_run=True), ["1"])
    assert watch.status("1").state is JobState.COMPLETED
    # Elsewhere a job keeps its time of submission, and clocks may differ.
    watch.take_history(Snapshot(known={"3": status("3", "node_fail", submitted=first)}), ["3"])
    assert watch.status("3").state is JobState.NODE_FAIL


def test_what_the_queue_gave_as_the_reason_of_an_end_stays(watch: Tracker, answer: Answer) -> None:
    watch.follow("1", "2")
    answer(*(status(one, "timeout", reason="TimeLimit") for one in "12"))
    known = {
        "1": status("1", "timeout", source="accounting"),
        "2": status("2", "out_of_memory", source="accounting"),
    }
    watch.take_history(Snapshot(known=known), ["1", "2"])
    assert (watch.status("1").reason, watch.status("1").source) == ("TimeLimit", "accounting")
    assert watch.status("2").reason is None, "of another end it is none"
    # The record of a job that could not start says less: only which step it was.
    watch.follow("3", "4")
    answer(status("3", "failed", reason="no such directory: /nowhere"), status("4", "failed"))
    record = {one: status(one, "failed", source="accounting", reason="cd") for one in "34"}
    watch.take_history(Snapshot(known=record, tries=frozenset("34")), ["3", "4"])
    assert watch.status("3").reason == "no such directory: /nowhere"
    assert [watch.status(one).source for one in "34"] == ["accounting"] * 2
    assert watch.status("4").reason == "cd", "where the queue said nothing"


def test_the_time_of_submission_has_to_be_known_of_all(watch: Tracker, answer: Answer) -> None:
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    watch.follow("1", "2", "3")
    answer(status("1", "running", submitted=late), status("2", "running", submitted=early))
    assert watch.submitted_since(["1", "2"]) == early
    assert watch.submitted_since(["1", "3"]) is None


# -- when to ask --------------------------------------------------------------------------------


def test_one_query_an_interval(watch: Tracker, clock: Clock, answer: Answer) -> None:
    watch.follow("1", "2")
    assert watch.seconds_until(["1"], 10) == 0
    answer(status("1", "running"), status("2", "running"))
    clock.now += 9
    assert watch.seconds_until(["1", "2"], 10) is None
    assert watch.seconds_until_due(10) == pytest.approx(1)
    clock.now += 1
    assert watch.seconds_until(["1"], 10) == 0
    watch.take_failure(DOWN, ["1", "2"], clock.now)
    assert watch.seconds_until(["1"], 10) is None, "a failure is no reason to ask at once"


def test_a_slow_query_is_followed_by_a_longer_rest(watch: Tracker, clock: Clock) -> None:
    watch.follow("1")
    rests = []
    for seconds in (0.2, 5, 30):
        began = clock.now
        clock.now += seconds
        watch.take_answer(Snapshot(known={"1": status("1", "running")}), datetime.now(UTC), began)
        rests.append(watch.seconds_until_due(10))
        clock.now += rests[-1]
        assert watch.seconds_until(["1"], 10) == 0
    assert rests[0] == pytest.approx(10), "an ordinary one by nothing but the interval"
    assert 10 < rests[1] < rests[2]
    assert rests[2] > 30, "it is not asked for half of the time"


def test_failures_in_a_row_double_the_rest(watch: Tracker, clock: Clock, answer: Answer) -> None:
    watch.follow("1")
    rests = []
    for _ in range(12):
        watch.take_failure(DOWN, ["1"], clock.now)
        rests.append(watch.seconds_until_due(10))
        watch.outdate()
        assert watch.seconds_until_due(10) == rests[-1], "a change is no reason to hurry"
        clock.now += rests[-1]
    assert rests[:4] == [20, 40, 80, 160]
    assert max(rests) == 300
    answer(status("1", "running"))
    assert watch.seconds_until_due(10) == pytest.approx(10)


def test_a_new_id_waits_two_seconds_at_most(watch: Tracker, clock: Clock, answer: Answer) -> None:
    watch.follow("1")
    answer(status("1", "running"))
    watch.follow("2")
    clock.now += 0.5
    assert watch.seconds_until(["2"], 10) == pytest.approx(1.5)
    clock.now += 2
    assert watch.seconds_until(["2"], 10) == 0
    watch.take_more(Snapshot(known={"2": status("2", "pending")}))
    assert watch.seconds_until(["2"], 10) is None


def test_the_first_look_after_a_submission_comes_after_two_seconds(
    watch: Tracker, clock: Clock, answer: Answer
) -> None:
    watch.add_known(status("1", "pending", source="journal"))
    watch.add_submitted("1", 10)
    assert watch.seconds_until(["1"], 10) is None
    assert watch.snapshot(["1"]).known["1"].source == "journal"
    clock.now += 1
    watch.add_known(status("2", "pending", source="journal"))
    watch.add_submitted("2", 10)
    clock.now += 1
    assert watch.seconds_until(["1", "2"], 10) == 0, "later ones do not put it off"
    answer(status("1", "running"), status("2", "pending"))
    clock.now += 3
    assert watch.seconds_until(["1", "2"], 10) is None


def test_many_submissions_ask_no_more_than_every_two_seconds(
    watch: Tracker, clock: Clock, answer: Answer
) -> None:
    looks = 0
    for number in range(100):
        job_id = str(number)
        watch.add_known(status(job_id, "pending", source="journal"))
        watch.add_submitted(job_id, 10)
        if watch.seconds_until([job_id, "0"], 10) is not None:
            looks += 1
            answer(*(status(str(one), "pending") for one in range(number + 1)))
        clock.now += 0.2
    assert looks <= 10


def test_a_scheduler_without_an_interval_is_asked_each_time(watch: Tracker, answer: Answer) -> None:
    watch.add_known(status("1", "pending"))
    watch.add_submitted("1", 0)
    for _ in range(3):
        assert watch.seconds_until(["1"], 0) == 0
        answer(status("1", "running"))
    answer(status("1", "completed"))
    assert watch.seconds_until(["1"], 0) is None, "what is over is asked about no more"


def test_after_something_was_done_the_answer_is_old(
    watch: Tracker, clock: Clock, answer: Answer
) -> None:
    watch.follow("1")
    answer(status("1", "running"))
    watch.outdate()
    assert watch.seconds_until(["1"], 10) is None, "but two seconds have to pass"
    clock.now += 2
    assert watch.seconds_until(["1"], 10) == 0


def test_a_job_of_the_journal_is_asked_about_but_not_made_unknown(watch: Tracker) -> None:
    watch.add_known(status("1", "running", source="journal"))
    watch.add_known(status("2", "completed", source="journal"))
    assert watch.seconds_until(["1"], 10) == 0
    assert watch.seconds_until(["2"], 10) is None
    assert watch.status("1").state is JobState.RUNNING
    watch.add_known(status("2", "running", source="journal"))
    assert watch.status("2").state is JobState.COMPLETED


def test_threads_may_follow_while_others_look(watch: Tracker) -> None:
    trouble: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for number in range(first, first + 100):
                watch.follow(str(number))
                watch.unsettled()
                watch.snapshot([str(number)])
        except BaseException as error:  # noqa: BLE001 - handed to the test
            trouble.append(error)

    threads = [threading.Thread(target=work, args=(100 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert trouble == []
    assert len(watch.unsettled()) == 400


def test_an_array_that_is_known_by_its_elements_waits_for_no_exit_code(
    watch: Tracker, answer: Callable[..., None]
) -> None:
    watch.follow("7")
    whole = array_status("7", [status("7_1", "completed"), status("7_2", "failed")], whole=True)
    assert whole is not None
    answer(whole)
    assert watch.is_over("7")
    assert watch.without_exit_code(["7"]) == []
