"""The records of several jobs from one scontrol that reads its commands."""

from __future__ import annotations

import pytest

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
