"""The jobs of submissions by the command lines that a scheduler shows."""

from __future__ import annotations

import pytest

from openssh_jobs.schedulers.request import SubmitRequest
from openssh_jobs.schedulers.tokens import jobs_by_script

PLACE = "/home/u/runs/.openssh_jobs/t1"


def found(line: str, *arguments: str) -> bool:
    """Whether a job with this command line is that of the submission ``t1``."""
    request = SubmitRequest(script=f"{PLACE}/job.sh", token="t1", arguments=arguments)
    return jobs_by_script([("7", line)], [request]) == {"t1": frozenset(("7",))}


@pytest.mark.parametrize(
    "arguments",
    [("300",), ("-v", "a b"), ("a/b", ""), ("a\nb",), (f"{PLACE}/data",), ("it's",), ("",)],
)
def test_arguments_stand_behind_the_script(arguments: tuple[str, ...]) -> None:
    line = " ".join((f"{PLACE}/job.sh", *arguments))
    assert found(line, *arguments)
    assert found(f"sbatch --parsable '{line}'", *arguments)
    assert not found(line.replace("/t1/", "/t2/", 1).replace("/t1/", "/t3/"), *arguments)


@pytest.mark.parametrize(
    "line", [f"{PLACE}2/job.sh 300", f"/other{PLACE}/job.sh 300", "/home/u/job.sh 300", "", "300"]
)
def test_another_script_with_the_same_arguments(line: str) -> None:
    assert not found(line, "300")


def test_without_arguments_the_script_is_the_end() -> None:
    assert found(f"{PLACE}/job.sh")
    assert not found(f"{PLACE}/job.sh 300")
