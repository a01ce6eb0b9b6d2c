"""The records of several jobs from one scontrol that reads its commands."""

from __future__ import annotations

import pytest

from openssh_jobs.errors import SchedulerError
from openssh_jobs.jobs import CancelOutcome
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer

SLURM = get("slurm")
RECORD = (
    "JobId={number} JobName={name} UserId=u(1) GroupId=u(1) JobState=PENDING Reason=JobHeldUser "
    "WorkDir=/w StdErr=/w/{number}.err StdOut=/w/my out-{number}{last}\n"
)


def said(*jobs: tuple[int, str], prompt: str, last: str) -> Answer:
    text = "".join(
        prompt.format(number=number) + RECORD.format(number=number, name=name, last=last) + "\n"
        for number, name in jobs
    )
    text += prompt.format(number=9) + "scontrol: "
    return Answer(f"OJ+a1\nOJ:a1 begin scontrol\n{text}\nOJ:a1 end scontrol 1\nOJ-a1\n")


@pytest.mark.parametrize("prompt", ["scontrol: show job {number}\n", "scontrol: ", ""])
@pytest.mark.parametrize("last", [" Power=", ""])
def test_with_and_without_readline(prompt: str, last: str) -> None:
    answer = said((3, "a"), (12, "b c"), prompt=prompt, last=last)
    found = SLURM.parse_details(answer, ["12", "3", "9"])
    assert list(found) == ["12", "3"]
    assert [status.stdout_path for status in found.values()] == ["/w/my out-12", "/w/my out-3"]
    assert found["12"].name == "b c"


def test_a_name_that_holds_a_record_takes_nothing_from_others() -> None:
    forged = "x\nJobId=12 JobName=y UserId=u(1) JobState=RUNNING StdOut=/etc/x"
    answer = said((3, forged), (12, "b"), prompt="scontrol: ", last="")
    found = SLURM.parse_details(answer, ["3", "12"])
    assert "3" not in found
    assert found["12"].stdout_path == "/w/my out-12"


def test_of_two_commands_the_one_that_failed_did_nothing() -> None:
    """One names a job that is not there; the other got no answer, and names none."""
    mark = "OJ:ab "
    first = "scancel: error: Kill job error on job id 5: Invalid job id specified"
    second = "scancel: error: Unable to contact slurm controller (connect failure)"
    parts = "".join(f"{mark}begin act\n{text}\n\n{mark}end act 1\n" for text in (first, second))
    said = SLURM.parse_cancel(Answer(f"OJ+ab\n{parts}OJ-ab\n"), requested=["5", "6", "7"])
    assert said["5"] is CancelOutcome.NOT_FOUND
    assert {said["6"], said["7"]} == {CancelOutcome.TRANSIENT}
    both = parts.replace(first, second)
    with pytest.raises(SchedulerError):
        SLURM.parse_cancel(Answer(f"OJ+ab\n{both}OJ-ab\n"), requested=["5", "6"])


def cancelled(*commands: tuple[str, int]) -> dict[str, CancelOutcome]:
    parts = "".join(f"OJ:ab begin act\n{text}\n\nOJ:ab end act {code}\n" for text, code in commands)
    return SLURM.parse_cancel(Answer(f"OJ+ab\n{parts}OJ-ab\n"), requested=["5", "6"])


def test_what_one_command_did_not_find_says_nothing_about_the_jobs_of_another() -> None:
    not_there = "scancel: error: Invalid job id specified", 1
    silent = "scancel: error: Unable to contact slurm controller (connect failure)", 1
    assert set(cancelled(not_there, not_there).values()) == {CancelOutcome.NOT_FOUND}
    assert set(cancelled(("", 0), not_there).values()) == {CancelOutcome.UNKNOWN}
    for commands in ((not_there, silent), (silent, not_there)):
        with pytest.raises(SchedulerError, match="Unable to contact"):
            cancelled(*commands)
