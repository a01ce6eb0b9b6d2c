"""``take_over``: what a host shows of submissions, honest and otherwise."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openssh_jobs.cluster.job_files import JobFiles
from openssh_jobs.cluster.journal import Journal, Row
from openssh_jobs.cluster.takeover import BY_ITS_FILES, take_over
from openssh_jobs.commands import control_shell
from openssh_jobs.errors import InvalidAnswer, OpenSSHJobsError, SchedulerError
from openssh_jobs.jobs import JobState, JobStatus
from openssh_jobs.schedulers.answer import Answer
from tests.unit.cluster.fakes import LocalHost, make_private, row

ME = pwd.getpwuid(os.getuid()).pw_name


class Jobs:
    """What ``take_over`` needs of ``HostJobs``; ``details`` is what the scheduler says by id."""

    def __init__(self, host: LocalHost, journal: Journal) -> None:
        self.connection = host
        self.journal = journal
        self.host = "h"
        self.details: dict[str, JobStatus] = {}
        self.fault: SchedulerError | None = None
        self.asked = 0
        self.client = SimpleNamespace(
            scheduler=lambda: self, ask=self.ask, placed=lambda error: error
        )
        self.name = "slurm"

    def detail_script(self, job_id: str) -> str:
        return f"echo {job_id}"

    def parse_detail(self, answer: Answer) -> JobStatus:
        if self.fault is not None:
            raise self.fault
        found = self.details.get(answer.stdout.strip())
        if found is None:
            raise SchedulerError("Invalid job id specified", kind="not_found")
        return found

    def ask(self, script: str) -> Answer:
        self.asked += 1
        return Answer(self.connection.run(script.encode()).stdout, "", 0)

    def parse_submit(self, answer: Answer) -> str:
        if answer.returncode:
            raise SchedulerError("refused", kind="limit")
        return answer.stdout.split()[-1]

    def recover(self, directory: str) -> list[Row]:
        jobs: Any = self
        return take_over(jobs, directory)


@pytest.fixture
def jobs(tmp_path: Path, journal: Journal) -> Jobs:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return Jobs(LocalHost(home), journal)


def submission(jobs: Jobs, directory: str, token: str = "t1", **files: str) -> Path:
    connection: Any = jobs.connection
    made = make_private(JobFiles(connection, "h"), directory, token, "c1")
    place = Path(made.path)
    for name, text in {"run.sh": "#!/bin/sh\n", **files}.items():
        (place / name.replace("_", "-")).write_text(text)
    return place


def status(job_id: str, **facts: Any) -> JobStatus:
    return JobStatus(job_id, JobState.RUNNING, **facts)


def test_rows_are_written_and_never_overwritten(jobs: Jobs) -> None:
    top = jobs.connection.home
    odd = f"{top}/runs/new\nline 'q' $(touch x)"
    place = submission(
        jobs,
        odd,
        "t1",
        result_1="0\0Submitted batch job 11\0.",
        attempt_1=f"nonce a\nbegan 1700000000\ndeadline 5\ndigest {'0a' * 32}\n.\n",
    )
    submission(jobs, f"{top}/runs/a/b", "t2", owner="12\n")
    submission(jobs, f"{top}/elsewhere", "t3", owner="13\n")
    jobs.details["11"] = status("11", user=ME, command=f"{place}/run.sh", name="mine")
    found = {one.token: one for one in jobs.recover(f"{top}/runs")}
    assert set(found) == {"t1", "t2"}
    one, two = found["t1"], found["t2"]
    assert (one.job_id, one.directory, one.place) == ("11", odd, str(place))
    assert (one.name, one.submitted, one.reason) == ("mine", 1.7e9, None)
    assert (two.job_id, two.name, two.reason) == ("12", "run.sh", BY_ITS_FILES)
    assert (one.digest, two.digest) == ("0a" * 32, "")
    jobs.journal.change("h", "t2", state="completed", exit_code=4)
    again = {one.token: one for one in jobs.recover("runs")}
    assert again["t2"].exit_code == 4
    assert len(jobs.journal.rows()) == 2
    assert not (top / "x").exists()


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"user": "mallory"}, "it belongs to mallory"),
        ({"user": ME, "command": "/home/me/other.sh"}, "it runs /home/me/other.sh"),
        ({"user": ME, "command": "/d/.openssh_jobs/t11/run.sh"}, "it runs /d/.openssh_jobs/t11"),
    ],
)
def test_what_the_scheduler_contradicts_is_left_out(
    jobs: Jobs, facts: dict[str, Any], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    submission(jobs, f"{jobs.connection.home}/runs", "t1", owner="11\n")
    jobs.details["11"] = status("11", **facts)
    assert jobs.recover("runs") == []
    assert says in caplog.text
    assert jobs.journal.rows() == []


def test_a_command_that_names_no_path_contradicts_nothing(jobs: Jobs) -> None:
    submission(jobs, f"{jobs.connection.home}/runs", "t1", owner="11\n")
    jobs.details["11"] = status("11", user=ME, command="run.sh")
    assert [one.job_id for one in jobs.recover("runs")] == ["11"]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "no job of"),
        ({"owner": "* all\n"}, "no job of"),
        ({"result_1": "1\0\0sbatch: error\0."}, "no job of"),
        ({"result_1": "²\0Submitted batch job 12\0\0.", "attempt_1": "began ٣\n"}, "no job of"),
        ({"owner": "11\n", "result_1": "0\0Submitted batch job 12\0."}, "names several jobs"),
    ],
)
def test_without_a_job_no_row_is_written(
    jobs: Jobs, files: dict[str, str], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    submission(jobs, f"{jobs.connection.home}/runs", "t1", **files)
    assert jobs.recover("runs") == []
    assert says in caplog.text


def test_an_id_that_is_a_row_already_is_left_alone(jobs: Jobs) -> None:
    submission(jobs, f"{jobs.connection.home}/runs", "t1", owner="11\n")
    jobs.journal.open_row(row("mine", job_id="11"))
    assert jobs.recover("runs") == []
    assert [one.token for one in jobs.journal.rows()] == ["mine"]


def test_what_cannot_be_trusted_is_left_out(jobs: Jobs, caplog: pytest.LogCaptureFixture) -> None:
    top = jobs.connection.home / "runs"
    good = submission(jobs, f"{top}/good", "t1", owner="11\n")
    shutil.copytree(top / "good", top / "copy")
    submission(jobs, f"{top}/open", "t2", owner="12\n").chmod(0o777)
    (submission(jobs, f"{top}/bare", "t3", owner="13\n") / ".oj-mark").unlink()
    linked = submission(jobs, f"{top}/linked", "t4", owner="14\n")
    linked.rename(top / "moved")
    linked.symlink_to(top / "moved")
    renamed = submission(jobs, f"{top}/renamed", "t5", owner="15\n")
    renamed.rename(renamed.parent / "no token!")
    (top / "away").mkdir()
    (top / "away/.openssh_jobs").symlink_to(good.parent)
    assert [(one.token, one.place) for one in jobs.recover("runs")] == [("t1", str(good))]
    for words in (
        "its mark names another directory",
        f"others can change {top}/open",
        "carries no mark",
        "is a link",
        "is not taken over",
    ):
        assert words in caplog.text


def test_the_home_directory_counts_for_what_lies_below(jobs: Jobs) -> None:
    home = jobs.connection.home
    for directory, token in (("runs/in", "t1"), ("other", "t2"), ("runs2", "t3")):
        (home / directory).mkdir(parents=True)
        place = home / ".openssh_jobs" / token
        place.mkdir(parents=True, mode=0o700)
        (place / ".oj-mark").write_text(f"openssh_jobs c\n{home}/{directory}\n.")
        (place / "owner").write_text(f"1{token[1]}\n")
    (home / ".openssh_jobs").chmod(0o700)
    assert [one.job_id for one in jobs.recover("runs")] == ["11"]
    assert {one.job_id for one in jobs.recover("~/")} == {"11", "12", "13"}


def test_many_are_checked_by_few_commands(jobs: Jobs) -> None:
    for number in range(30):
        submission(
            jobs, f"{jobs.connection.home}/runs/{number}", f"t{number}", owner=f"1{number}\n"
        )
        jobs.details[f"1{number}"] = status(f"1{number}", user=ME, name=f"n{number}")
    found = jobs.recover("runs")
    assert {(one.token, one.job_id, one.name) for one in found} == {
        (f"t{number}", f"1{number}", f"n{number}") for number in range(30)
    }
    assert jobs.asked == 2


def test_a_scheduler_that_does_not_answer_confirms_nothing(jobs: Jobs) -> None:
    submission(jobs, f"{jobs.connection.home}/runs", "t1", owner="11\n")
    jobs.fault = SchedulerError("Socket timed out", kind="transient")
    with pytest.raises(SchedulerError, match="timed out"):
        jobs.recover("runs")
    assert jobs.journal.rows() == []


# -- a host that lies ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", "too many"),
        (b"/d\0/d/a/.openssh_jobs\0", "too many"),
        (b"/d\0/etc/.openssh_jobs\0end\0", "lies elsewhere"),
        (b"/d\0/d/../etc/.openssh_jobs\0end\0", "has the part"),
        (b"/d\0d/.openssh_jobs\0end\0", "is not absolute"),
    ],
)
def test_names_of_the_search_are_checked(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, answer: bytes, error: str
) -> None:
    done = SimpleNamespace(returncode=0, stdout=answer)
    monkeypatch.setattr(jobs.connection.internal, "run", lambda *_, **__: done)
    with pytest.raises(OpenSSHJobsError, match=error):
        jobs.recover("/d")
    assert jobs.journal.rows() == []


def test_a_listing_that_is_cut_off(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    submission(jobs, f"{jobs.connection.home}/runs", "t1", owner="11\n")
    whole = jobs.connection.internal.call

    def shorter(script: bytes, **_: Any) -> control_shell.ShellAnswer:
        answer = whole(script)
        return control_shell.ShellAnswer(0, answer.stdout[:-9], b"")

    monkeypatch.setattr(jobs.connection.internal, "call", shorter)
    with pytest.raises(InvalidAnswer, match="cut off"):
        jobs.recover("runs")


@pytest.mark.parametrize("directory", ["../x", "relative", "/a/../b"])
def test_a_mark_with_a_strange_directory(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, directory: str
) -> None:
    (jobs.connection.home / "runs").mkdir()
    fields = ["found", "/d/.openssh_jobs/t1", "t1", directory, "", "", "", "11", "", "run.sh"]
    said = "\0".join([*fields, "user", ME, ""]).encode()
    monkeypatch.setattr(
        jobs.connection.internal, "call",
        lambda *_, **__: control_shell.ShellAnswer(0, said, b""),
    )  # fmt: skip
    assert jobs.recover("runs") == []
