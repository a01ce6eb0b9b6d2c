"""``tidy``: what is left on a host, what goes and what the journal forgets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli import program, script, submitted
from tests.lab.site import Host

pytestmark = pytest.mark.usefixtures("own_journal")


@pytest.fixture
def job(direct: list[str], there: str, tmp_path: Path) -> str:
    """A job that is over, as nobody here knows yet."""
    job = submitted(direct, there, script(tmp_path, "echo x >out"))
    assert program("tail", *direct, job, "-f").code == 0
    return job


def test_tidy(direct: list[str], there: str, tmp_path: Path, sshd: Host, job: str) -> None:
    running = submitted(direct, there, script(tmp_path, "sleep 300"))
    would = program("tidy", *direct, "--dry-run", "--json").data
    assert (would["dry_run"], would["forgotten"]) == (True, [])
    assert [left["job_id"] for left in would["removed"]] == [job, job]
    assert [(left["job_id"], left["reason"]) for left in would["kept"]] == [
        (running, "it is running")
    ]
    shown = program("tidy", *direct, "--dry-run")
    lines = [line.split() for line in shown.out.splitlines()]
    assert [line[0] for line in lines] == ["WHAT", "would", "would", "kept"]
    assert all((sshd.home / there / ".openssh_jobs").iterdir())
    assert program("tidy", *direct, "--older-than", "1h", "--json").data["removed"] == []
    done = program("tidy", *direct, "--json").data
    assert done == {**would, "dry_run": False}
    left = [path.name for path in (sshd.home / there / ".openssh_jobs").iterdir()]
    assert left == [would["kept"][0]["token"]]
    assert (sshd.home / there / "out").read_text() == "x\n"
    assert len(program("list", "--json").data["jobs"]) == 2, "the journal keeps it"
    assert program("cancel", *direct, running).code == 0


def test_forget(direct: list[str], there: str, tmp_path: Path, job: str) -> None:
    running = submitted(direct, there, script(tmp_path, "sleep 300"))
    would = program("tidy", *direct, "--dry-run", "--forget", "--json").data
    assert would["forgotten"] == [job]
    assert len(program("list", "--json").data["jobs"]) == 2
    done = program("tidy", *direct, "--forget", "--older-than", "7d", "--json").data
    assert done["forgotten"] == []
    done = program("tidy", *direct, "--forget", "--json").data
    assert done["forgotten"] == [job]
    assert [row["job_id"] for row in program("list", "--json").data["jobs"]] == [running]
    assert program("cancel", *direct, running).code == 0


@pytest.mark.parametrize("age", ["7", "7w", "-1d", "1.5d", "", "d", "٣d"])
def test_an_age_that_is_none(age: str) -> None:
    done = program("tidy", "nowhere", f"--older-than={age}")
    assert done.code == 2
    assert "--older-than must be a number of days, hours or minutes such as 7d" in done.sentence()


def test_jobs_of_another_machine(
    direct: list[str], there: str, tmp_path: Path, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "laptop"))
    assert program("list", "--json").data["jobs"] == []
    assert program("tidy", *direct, "--json").data["removed"] == []
    found = program("recover", *direct, there, "--json")
    assert found.code == 0
    assert [one["job_id"] for one in found.data["jobs"]] == [job]
    assert program("tidy", *direct, "--json").data["removed"] != []
    assert program("recover", *direct, f"{there}/no").code != 0
