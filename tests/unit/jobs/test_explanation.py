"""Explanations: sentences, usage, and what to ask for next time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from openssh_jobs import JobState, JobStatus
from openssh_jobs.jobs.cause import Cause, cause_sentence
from openssh_jobs.jobs.explanation import Awaited, Explanation, Spread, Usage

GB = 1024**3


def explained(state: str, cause: Cause, **more: Any) -> Explanation:
    facts = {name: more.pop(name) for name in list(more) if name in JobStatus.FIELDS}
    return Explanation(status=JobStatus("7", state, **facts), cause=cause, **more)


def test_every_cause_has_a_sentence() -> None:
    for cause in Cause:
        assert bool(cause_sentence(cause)) is (cause is not Cause.UNKNOWN), cause


def test_what_is_not_understood_is_said_in_the_schedulers_words() -> None:
    reported = explained("pending", Cause.UNKNOWN, reason="NewWord", scheduler="Slurm").sentence
    assert reported == "pending: Slurm says 'NewWord'; what that means is not known here."
    assert explained("pending", Cause.UNKNOWN).sentence == "pending: why is not known."
    assert explained("failed", Cause.UNKNOWN).sentence == "failed: what ended it is not known."


def test_who_or_what_is_ahead() -> None:
    running = Awaited(job_id="5", state=JobState.RUNNING, left=timedelta(minutes=90))
    reported = explained("pending", Cause.DEPENDENCY, awaited=(running, Awaited(job_id="6")))
    assert reported.sentence == "pending: waits for 5 (running, at most 1 h 30 min more), 6."
    ahead = explained("pending", Cause.PRIORITY, ahead=1, queue="batch")
    assert ahead.sentence == "pending: 1 job of higher priority is ahead in `batch`."


def test_an_array_that_runs_says_what_its_elements_do() -> None:
    reason = "6 elements: 4 completed, 2 running"
    assert explained("running", Cause.RUNNING, reason=reason).sentence == f"running ({reason})."
    alone = explained("running", Cause.RUNNING, reason="None", nodes=("n1",))
    assert alone.sentence == "running on n1."


def test_an_end_says_what_and_where() -> None:
    failed = explained("failed", Cause.EXIT_CODE, exit_code=3, nodes=("n1",))
    assert failed.sentence == "failed: its script ended with exit code 3 on n1."
    by = explained("cancelled", Cause.CANCELLED_BY_ADMIN, by="root")
    assert by.sentence == "cancelled: by root before it ran."
    assert explained("held", Cause.HELD_BY_USER).sentence == "held by its owner."


@pytest.mark.parametrize(
    ("cause", "usage", "wanted"),
    [
        (Cause.OUT_OF_MEMORY, Usage(memory_asked=32 * GB), {"memory": "48G"}),
        (Cause.OUT_OF_MEMORY, Usage(memory_asked=50 * 1024**2), {"memory": "96M"}),
        (Cause.OUT_OF_MEMORY, None, {}),
        (Cause.TIME_LIMIT, Usage(time_limit=timedelta(hours=1)), {"time_limit": "2:00:00"}),
        (Cause.COMPLETED, Usage(memory=11 * GB, memory_asked=64 * GB), {"memory": "16G"}),
        (Cause.COMPLETED, Usage(memory=40 * GB, memory_asked=64 * GB), {}),
        (Cause.EXIT_CODE, Usage(memory=1, memory_asked=64 * GB), {}),
    ],
)
def test_what_to_ask_for_next_time(
    cause: Cause, usage: Usage | None, wanted: dict[str, str]
) -> None:
    assert explained("failed", cause, usage=usage).next_time == wanted


def test_the_usage_of_an_array_is_that_of_its_greediest_element_and_the_spread() -> None:
    minute = timedelta(minutes=1)
    found = Usage.of_elements(
        [
            Usage(cpus=2, cpu_time=minute, elapsed=minute, memory=GB),
            Usage(cpus=2, cpu_time=2 * minute, elapsed=minute, memory=3 * GB),
            Usage(cpus=2, elapsed=2 * minute),
        ]
    )
    assert found is not None
    assert (found.elements, found.memory, found.cpu_efficiency) == (3, 3 * GB, 1.0)
    assert found.cpu_spread == Spread(0.5, 0.75, 1.0)
    assert found.memory_spread == Spread(GB, 2 * GB, 3 * GB)
    assert found.elapsed_spread == Spread(60, 60, 120)
    assert Usage.of_elements([]) is None
