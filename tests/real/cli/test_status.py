"""``status``: jobs of a host, the journal, and no answer."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from openssh_jobs.cluster.journal import Journal
from tests.cli import on_terminal, program, script, submitted, without_colour
from tests.lab.site import Host
from tests.lab.slurm import SlurmLab

pytestmark = pytest.mark.usefixtures("own_journal")


def test_a_failed_job_is_1(direct: list[str], there: str, tmp_path: Path) -> None:
    job = submitted(direct, there, script(tmp_path, "echo before; exit 3"))
    done = program("tail", *direct, job, "-f")
    assert (done.code, done.out) == (1, "before\n")
    assert done.sentence() == f"{direct[-1]}: job {job}: failed with exit code 3"
    done = program("status", *direct, job)
    assert (done.code, done.err) == (1, "")
    title, sentence = done.out.splitlines()
    assert title.startswith(f"job.sh ({job}) · ")
    assert sentence.startswith("failed: its script ended with exit code 3")
    (row,) = program("status", *direct, job, "--json").data["jobs"]
    assert (row["cause"], row["exit_code"]) == ("exit_code", 3)
    assert row["sentence"] == sentence
    both = program("status", *direct, job, submitted(direct, there, script(tmp_path, "true")))
    assert both.code == 1


def test_the_journal_remembers(direct: list[str], there: str, tmp_path: Path) -> None:
    assert program("list").out == ""
    nothing = on_terminal("list")
    assert (nothing.code, without_colour(nothing.out).splitlines()) == (
        0,
        ["Nothing was submitted from this machine; `openssh-jobs list HOST` asks a host."],
    )
    job = submitted(direct, there, script(tmp_path, "true"), "--name", "known")
    assert program("tail", *direct, job, "-f").code == 0
    done = program("list")
    assert done.code == 0
    assert done.out.splitlines()[1].split()[:4] == [direct[-1], job, "known", "completed"]
    (row,) = program("list", "--json").data["jobs"]
    assert (row["host"], row["job_id"], row["state"]) == (direct[-1], job, "completed")


def test_a_job_from_elsewhere_is_followed_by_its_id(
    direct: list[str], there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
        job = submitted(direct, there, script(tmp_path, "exit 3"))
    assert program("tail", *direct, job, "-f").code == 1
    (row,) = program("list", "--json").data["jobs"]
    assert (row["host"], row["job_id"], row["state"]) == (direct[-1], job, "failed")
    assert (row["exit_code"], row["token"]) == (3, None)
    done = program("status", *direct, job, "--json")
    assert (done.code, done.data["jobs"][0]["state"]) == (1, "failed")


def test_the_history_says_what_was_learned_when_and_from_whom(
    direct: list[str], there: str, tmp_path: Path
) -> None:
    job = submitted(direct, there, script(tmp_path, "exit 3"))
    assert program("tail", *direct, job, "-f").code == 1
    done = program("status", *direct, job, "--history", "--json")
    assert done.code == 0
    events = done.data["events"]
    assert {event["job_id"] for event in events} == {job}
    assert [events[0]["state"], events[-1]["state"]] == ["pending", "failed"]
    assert [events[0]["source"], events[-1]["source"]] == ["journal", "marker"]
    shown = program("status", *direct, job, "--history")
    assert shown.out.splitlines()[0].split() == ["JOB", "WHEN", "STATE", "REASON", "FROM"]
    assert len(shown.out.splitlines()) == 1 + len(events)
    assert program("status", *direct, "99999", "--history").code == 5
    assert program("status", *direct, "--history").code == 2


def test_a_narrow_terminal(direct: list[str], there: str, tmp_path: Path) -> None:
    name = "a-very-long-name-of-a-job-that-does-not-fit-into-the-line-of-anybody"
    job = submitted(direct, there, script(tmp_path, "exit 7"), "--name", name)
    assert program("tail", *direct, job, "-f").code == 1
    shown = on_terminal("status", *direct, job, columns=80)
    assert shown.code == 1
    plain = without_colour(shown.out)
    assert max(map(len, plain.splitlines())) <= 80
    assert "failed: its script ended with exit code 7" in plain
    assert "\x1b[31mfailed" in shown.out
    quiet = on_terminal("status", *direct, job, NO_COLOR="1")
    assert "\x1b[31m" not in quiet.out
    assert name in program("status", *direct, job).out


@pytest.mark.parametrize("command", ["status", "cancel", "tail"])
@pytest.mark.parametrize("job", ["*", "5;id", "", "x", "$(id)"])
def test_an_id_that_is_none_is_refused(direct: list[str], command: str, job: str) -> None:
    done = program(command, *direct, job)
    assert done.code == 2
    assert done.out == ""
    assert done.sentence()


def test_a_silent_controller_is_5_and_changes_nothing(
    sshd: Host, slurm: SlurmLab, there: str, tmp_path: Path
) -> None:
    way = ["-F", str(sshd.config), "--scheduler", "slurm", sshd.alias]
    job = submitted(way, there, script(tmp_path, "sleep 300"))
    assert program("status", *way, job).code == 0
    slurm.controller.stop()
    try:
        with contextlib.closing(Journal()) as journal:
            journal.file.execute("DELETE FROM polls")  # no answer of a moment ago
        done = program("status", *way, job, "--json")
        assert done.code == 5
        assert done.data["unknown"] == [job]
        assert done.data["jobs"][0]["state"] == "unknown"
        assert done.data["error"]["kind"] == "transient"
        assert "no new information" in done.sentence()
        assert "At the last answer," in done.sentence()
    finally:
        slurm.controller.start()
        slurm.wait_until_ready()
    assert program("cancel", *way, job).code == 0
