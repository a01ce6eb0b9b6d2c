"""What tells the end of a job where the scheduler keeps no history."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from openssh_jobs.cluster.evidence import CANCEL_ACCEPTED
from openssh_jobs.cluster.tracker import Tracker
from openssh_jobs.jobs import JobState, JobStatus, Snapshot

NO_MARKER = "no exit record was written: it never started"


def watch(state: JobState, reason: str | None = None) -> Tracker:
    """Job 1 in this state; then the queue does not list it any more."""
    found = Tracker(grace=0)
    found.add_known(JobStatus("1", state, reason=reason, source="queue"))
    return found


def leave(found: Tracker, *, ever: bool = True, why: str = NO_MARKER) -> JobStatus:
    found.take_answer(Snapshot(absent=("1",)), datetime.now(UTC), time.monotonic())
    assert found.gone(["1"]) == ["1"]
    found.lack_history(["1"], "pbs keeps no history", none_kept=ever)
    found.lack_record("1", why)
    return found.status("1")


@pytest.mark.parametrize(
    ("state", "reason"),
    [(JobState.HELD, "cancelled before it ran"), (JobState.RUNNING, CANCEL_ACCEPTED)],
)
def test_a_cancellation_of_ours_that_was_accepted(state: JobState, reason: str) -> None:
    found = watch(state)
    found.cancel_accepted(["1"])
    status = leave(found)
    assert status.state is JobState.CANCELLED
    assert str(status.reason).startswith(reason)


def test_another_program_has_cancelled_it() -> None:
    found = watch(JobState.RUNNING, CANCEL_ACCEPTED)
    assert found.lasting_reason(found.status("1")) == CANCEL_ACCEPTED
    assert leave(found).state is JobState.CANCELLED


def test_without_evidence_it_is_unknown() -> None:
    status = leave(watch(JobState.RUNNING))
    assert status.state is JobState.UNKNOWN
    assert "keeps no history" in str(status.reason)
    # A history that does not answer now may say more later.
    late = watch(JobState.RUNNING)
    late.cancel_accepted(["1"])
    assert leave(late, ever=False).state is JobState.UNKNOWN


def test_what_ended_without_a_word_but_is_listed_may_have_ended_by_itself() -> None:
    for signal, state in ((None, JobState.UNKNOWN), (15, JobState.CANCELLED)):
        found = watch(JobState.RUNNING)
        found.cancel_accepted(["1"])
        ended = JobStatus("1", JobState.UNKNOWN, reason="?", signal=signal, source="accounting")
        found.take_answer(Snapshot(known={"1": ended}), datetime.now(UTC), time.monotonic())
        found.lack_history(["1"], "torque keeps no history", none_kept=True)
        found.lack_record("1", NO_MARKER)
        assert found.status("1").state is state


def test_what_is_listed_as_ended_and_never_began_was_cancelled() -> None:
    """A member of an array that still goes on: PBS keeps no record of it, and lists it."""
    for why, state in ((NO_MARKER, JobState.CANCELLED), ("no launcher", JobState.UNKNOWN)):
        found = watch(JobState.PENDING)
        found.cancel_accepted(["1"])
        ended = JobStatus("1", JobState.UNKNOWN, reason="?", source="accounting")
        found.take_answer(Snapshot(known={"1": ended}), datetime.now(UTC), time.monotonic())
        found.lack_history(["1"], "pbs keeps no history", none_kept=True)
        found.lack_record("1", why)
        assert found.status("1").state is state


def test_an_element_that_is_first_asked_for_after_its_array_was_cancelled() -> None:
    for why, state in ((NO_MARKER, JobState.CANCELLED), ("no launcher", JobState.UNKNOWN)):
        found = Tracker(grace=0)
        found.add_known(JobStatus("5[].s", JobState.HELD, source="queue"))
        found.cancel_accepted(["5[].s"])
        found.follow("5[2].s", "6[2].s")
        absent = Snapshot(absent=("5[2].s", "6[2].s"))
        found.take_answer(absent, datetime.now(UTC), time.monotonic())
        for member, expected in (("5[2].s", state), ("6[2].s", JobState.UNKNOWN)):
            found.lack_history([member], "pbs keeps no history", none_kept=True)
            found.lack_record(member, why)
            assert found.status(member).state is expected


def test_a_record_of_the_job_corrects_the_scheduler() -> None:
    found = watch(JobState.RUNNING)
    found.take_answer(
        Snapshot(known={"1": JobStatus("1", JobState.COMPLETED, exit_code=0, source="accounting")}),
        datetime.now(UTC),
        time.monotonic(),
    )
    record = JobStatus("1", JobState.FAILED, exit_code=3, source="marker")
    found.correct(record, "torque")
    status = found.status("1")
    assert (status.state, status.exit_code) == (JobState.FAILED, 3)
    assert status.reason == "exit status 3 by its own record; torque says 0"


def test_a_record_that_says_the_same_changes_nothing() -> None:
    known = JobStatus("1", JobState.FAILED, signal=9, source="accounting", reason="killed")
    found = Tracker(grace=0)
    found.add_known(known)
    found.correct(JobStatus("1", JobState.FAILED, exit_code=137, source="marker"), "pbs")
    assert found.status("1") == known
