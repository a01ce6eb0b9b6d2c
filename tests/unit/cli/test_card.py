"""Cards: what to type next."""

from __future__ import annotations

from openssh_jobs import JobStatus
from openssh_jobs.cli.card import Card
from openssh_jobs.cli.listed_job import ListedJob
from openssh_jobs.jobs.cause import Cause
from openssh_jobs.jobs.explanation import Explanation


def lines(cause: Cause, width: int | None = None) -> list[str]:
    status = JobStatus("7", "held", name="relax")
    explanation = Explanation(status=status, cause=cause)
    return Card(job=ListedJob(host="hpc", status=status), explanation=explanation).lines(width)


def test_a_job_that_its_owner_holds_can_be_released() -> None:
    assert lines(Cause.HELD_BY_USER) == [
        "relax (7)",
        "held by its owner.",
        "`openssh-jobs release hpc 7` lets it start.",
    ]


def test_nobody_but_an_administrator_releases_what_one_holds() -> None:
    assert lines(Cause.HELD_BY_ADMIN) == [
        "relax (7)",
        "held by an administrator, who has to release it.",
    ]
