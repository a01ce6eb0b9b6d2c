"""``submit status cancel tail fetch nodes queues`` on the command line, without and with Slurm."""

from __future__ import annotations

import itertools
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli import on_terminal, program, started, without_colour
from tests.lab.site import Host
from tests.lab.slurm import SlurmLab

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _own_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def there(sshd: Host) -> Iterator[str]:
    """A directory of the test's own on the host, relative to its home."""
    name = f"oj-jobs-{next(_numbers)}"
    sshd.make_directory(name)
    yield name
    shutil.rmtree(sshd.home / name)


@pytest.fixture
def direct(sshd: Host) -> list[str]:
    """The options for jobs without a scheduler, and the host."""
    return ["-F", str(sshd.config), "--scheduler", "direct", sshd.alias]


def script(tmp_path: Path, text: str) -> str:
    """A batch script here."""
    path = tmp_path / "job.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    return str(path)


def submitted(direct: list[str], directory: str, path: str, *more: str) -> str:
    """Submit; the id of the job."""
    done = program("submit", *more, *direct, directory, "--script", path)
    assert (done.code, done.err) == (0, ""), done
    assert re.fullmatch(r"\d+\n", done.out)
    return done.out.strip()


# -- without a scheduler ------------------------------------------------------------------------


def test_a_day_s_work(direct: list[str], there: str, tmp_path: Path) -> None:
    source = tmp_path / "relax"
    source.mkdir()
    (source / "in.txt").write_text("41\n")
    (source / "run.sh").write_text("read n <in.txt; echo $((n + 1)) | tee out.txt; echo e >&2\n")
    done = program(
        *("submit", "--upload", str(source), "--name", "relax-7", "--json"),
        *(*direct, f"{there}/relax", "--script", "run.sh"),
    )
    assert (done.code, done.err) == (0, "")
    job = done.data["job_id"]
    assert done.data["name"] == "relax-7"
    assert done.data["scheduler"] == "direct"
    assert done.data["directory"].endswith(f"{there}/relax")

    done = program("tail", *direct, job, "-f")
    assert (done.code, done.out, done.err) == (0, "42\n", "")
    assert program("tail", *direct, job, "--stderr").out == "e\n"
    assert program("tail", *direct, job, "--json").data == {
        "host": direct[-1],
        "job_id": job,
        "stdout": "42\n",
    }

    done = program("status", *direct, job, "--json")
    assert done.code == 0
    (status,) = done.data["jobs"]
    assert (status["job_id"], status["state"], status["exit_code"]) == (job, "completed", 0)
    assert (done.data["unknown"], done.data["error"]) == ([], None)

    done = program("fetch", *direct, job, str(tmp_path / "results"), "--only", "out.txt")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["out.txt"]
    assert (tmp_path / "results" / "out.txt").read_text() == "42\n"
    again = program("fetch", *direct, job, str(tmp_path / "results"), "--only", "out.txt")
    assert again.code == 2
    assert "--merge" in again.sentence()


def test_upload_of_the_same_path(
    direct: list[str], there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / there / "d").mkdir(parents=True)
    (tmp_path / there / "d" / "run.sh").write_text("echo here\n")
    monkeypatch.chdir(tmp_path)
    job = submitted(direct, f"{there}/d", "run.sh", "--upload")
    assert program("tail", *direct, job, "-f").out == "here\n"
    again = program("submit", *direct, f"{there}/d", "--upload", "--script", "run.sh")
    assert again.code == 1
    assert "File exists" in again.sentence()
    assert "leave --upload out" in again.sentence()


def test_scripts_from_everywhere(sshd: Host, direct: list[str], there: str, tmp_path: Path) -> None:
    done = program("submit", *direct, there, "--script", "-", input=b"echo from stdin\n")
    assert done.code == 0
    assert program("tail", *direct, done.out.strip(), "-f").out == "from stdin\n"
    job = submitted(direct, there, script(tmp_path, "echo $GREETING"), "--env", "GREETING=a b")
    assert program("tail", *direct, job, "-f").out == "a b\n"
    sshd.make(f"{there}/job.sh", b"echo was there")
    done = program("submit", *direct, there, "--remote-script", "job.sh")
    assert done.code == 0
    assert program("tail", *direct, done.out.strip(), "-f").out == "was there\n"


def test_a_failed_job_is_1(direct: list[str], there: str, tmp_path: Path) -> None:
    job = submitted(direct, there, script(tmp_path, "echo before; exit 3"))
    done = program("tail", *direct, job, "-f")
    assert (done.code, done.out) == (1, "before\n")
    assert done.sentence() == f"{direct[-1]}: job {job}: failed with exit code 3"
    done = program("status", *direct, job)
    assert (done.code, done.err) == (1, "")
    head, row = done.out.splitlines()
    assert head.split()[:3] == ["JOB", "NAME", "STATE"]
    assert row.split()[:3] == [job, "job.sh", "failed"]
    assert "exit code 3" in row
    both = program("status", *direct, job, submitted(direct, there, script(tmp_path, "true")))
    assert both.code == 1


def test_cancel(direct: list[str], there: str, tmp_path: Path) -> None:
    job = submitted(direct, there, script(tmp_path, "sleep 60"))
    listed = program("status", *direct)
    assert listed.code == 0
    assert [row.split()[0] for row in listed.out.splitlines()[1:]].count(job) == 1
    assert job in {one["job_id"] for one in program("status", *direct, "--json").data["jobs"]}
    done = program("cancel", *direct, job)
    assert (done.code, done.out, done.err) == (0, "", "")
    ended = program("tail", *direct, job, "-f")
    assert (ended.code, ended.out) == (1, "")
    assert ended.sentence().endswith(f"job {job}: cancelled")
    again = program("cancel", *direct, job, "--json")
    assert (again.code, again.data["outcomes"]) == (0, {job: "already_finished"})


def test_ids_that_are_none_of_ours(direct: list[str], there: str) -> None:
    done = program("cancel", *direct, "999999999")
    assert done.code == 1
    said = "the queue does not list it"
    assert done.sentence() == f"{direct[-1]}: job 999999999 is not known there: {said}"
    done = program("status", *direct, "999999999")
    assert done.code == 5
    assert said in done.out
    assert done.out.splitlines()[1].split()[:2] == ["999999999", "unknown"]


@pytest.mark.parametrize("command", ["status", "cancel", "tail"])
@pytest.mark.parametrize("job", ["*", "5;id", "", "x", "$(id)"])
def test_an_id_that_is_none_is_refused(direct: list[str], command: str, job: str) -> None:
    done = program(command, *direct, job)
    assert done.code == 2
    assert done.out == ""
    assert done.sentence()


def test_ctrl_c_leaves_the_job_alone(direct: list[str], there: str, tmp_path: Path) -> None:
    job = submitted(direct, there, script(tmp_path, "echo begun; sleep 60"))
    child = started("tail", *direct, job, "-f")
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        assert child.stdout.readline() == b"begun\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
        said = child.stderr.read().decode()
    assert said.startswith(f"openssh-jobs: stopped; job {job} goes on; `openssh-jobs tail -F ")
    assert said.endswith(f" {direct[-1]} {job} -f` shows it again.\n")
    assert program("status", *direct, job).out.splitlines()[1].split()[2] == "running"
    assert program("cancel", *direct, job).code == 0


def test_the_last_lines_only_and_bytes_as_they_are(
    direct: list[str], there: str, tmp_path: Path
) -> None:
    job = submitted(direct, there, script(tmp_path, r"seq 5; printf 'a\377\033[31m'"))
    assert program("tail", *direct, job, "-f").out == "1\n2\n3\n4\n5\na\udcff\x1b[31m"
    assert program("tail", *direct, job, "-n", "2").out == "5\na\udcff\x1b[31m"


def test_what_is_wrong_before_anything_is_sent(
    direct: list[str], there: str, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.write_text(" \n")
    done = program("submit", *direct, there, "--script", str(empty))
    assert (done.code, done.out) == (2, "")
    assert "the script is empty" in done.sentence()
    done = program("submit", *direct, there, "--script", str(tmp_path / "nothing.sh"))
    assert done.code == 2
    assert "--remote-script" in done.sentence()
    done = program("submit", *direct, there, "--upload", str(empty), "--script", "x")
    assert done.code == 2
    assert "no directory" in done.sentence()
    done = program("submit", *direct, there, "--remote-script", "nothing.sh")
    assert done.code == 1
    assert "No such file" in done.sentence()


def test_the_journal_remembers(direct: list[str], there: str, tmp_path: Path) -> None:
    assert program("status").out == ""
    nothing = on_terminal("status")
    assert (nothing.code, without_colour(nothing.out).splitlines()) == (
        0,
        ["Nothing was submitted from this machine; `openssh-jobs status HOST` asks a host."],
    )
    job = submitted(direct, there, script(tmp_path, "true"), "--name", "known")
    assert program("tail", *direct, job, "-f").code == 0
    done = program("status")
    assert done.code == 0
    assert done.out.splitlines()[1].split()[:4] == [direct[-1], job, "known", "completed"]
    (row,) = program("status", "--json").data["jobs"]
    assert (row["host"], row["job_id"], row["state"]) == (direct[-1], job, "completed")


def test_a_narrow_terminal(direct: list[str], there: str, tmp_path: Path) -> None:
    name = "a-very-long-name-of-a-job-that-does-not-fit-into-the-line-of-anybody"
    job = submitted(direct, there, script(tmp_path, "exit 7"), "--name", name)
    assert program("tail", *direct, job, "-f").code == 1
    shown = on_terminal("status", *direct, job, columns=80)
    assert shown.code == 1
    plain = without_colour(shown.out)
    assert max(map(len, plain.splitlines())) <= 80
    assert "…" in plain
    assert "failed" in plain
    assert "exit code" in plain
    assert "\x1b[31mfailed" in shown.out
    quiet = on_terminal("status", *direct, job, NO_COLOR="1")
    assert "\x1b[31m" not in quiet.out
    assert name in program("status", *direct, job).out


def test_a_scheduler_that_cannot_is_4(direct: list[str]) -> None:
    done = program("queues", *direct)
    assert done.code == 4
    assert "no support here for a list of queues" in done.sentence()
    assert program("queues", *direct, "--json").data["error"]["kind"] == "unsupported"


def test_the_one_node_of_no_scheduler(direct: list[str]) -> None:
    done = program("nodes", *direct, "--json")
    assert done.code == 0
    (node,) = done.data["nodes"]
    assert node["cpus"] >= 1
    assert program("nodes", *direct).out.split()[:2] == ["NODE", "STATE"]


# -- with Slurm ---------------------------------------------------------------------------------


def test_slurm_from_start_to_end(sshd: Host, slurm: SlurmLab, there: str, tmp_path: Path) -> None:
    way = ["-F", str(sshd.config), sshd.alias]
    done = program("nodes", *way)
    assert (done.code, done.err) == (0, "")
    assert {row.split()[0] for row in done.out.splitlines()[1:]} == {"n1", "n2"}
    done = program("queues", *way, "--json")
    assert done.code == 0
    assert [queue["name"] for queue in done.data["queues"]][:2] == ["batch", "short"]
    assert [queue["is_default"] for queue in done.data["queues"]][:2] == [True, False]
    shown = on_terminal(
        *("submit", *way, there, "--script", script(tmp_path, "hostname; sleep 1"), "-q")
    )
    job = without_colour(shown.out).strip()
    assert job.isdigit()
    listed = program("status", *way)
    assert job in {row.split()[0] for row in listed.out.splitlines()[1:]}
    done = program("tail", *way, job, "-f")
    assert (done.code, done.err) == (0, "")
    assert program("status", *way, job).code == 0
    assert program("fetch", *way, job, str(tmp_path / "out")).code == 0
    assert (tmp_path / "out" / f"slurm-{job}.out").exists()
    assert not (tmp_path / "out" / ".openssh_jobs").exists()


def test_slurm_says_no(sshd: Host, slurm: SlurmLab, there: str, tmp_path: Path) -> None:
    way = ["-F", str(sshd.config), "--scheduler", "slurm", sshd.alias]
    path = script(tmp_path, "true")
    done = program("submit", *way, there, "--script", path, "--queue", "batchh")
    assert (done.code, done.out) == (4, "")
    assert "nvalid partition" in done.sentence()
    assert "Queues there: batch, short" in done.sentence()
    data = program("submit", "--json", *way, there, "--script", path, "--queue", "batchh")
    assert data.data["error"]["type"] == "SubmitRejected"


def test_a_silent_controller_is_5_and_changes_nothing(
    sshd: Host, slurm: SlurmLab, there: str, tmp_path: Path
) -> None:
    way = ["-F", str(sshd.config), "--scheduler", "slurm", sshd.alias]
    job = submitted(way, there, script(tmp_path, "sleep 300"))
    assert program("status", *way, job).code == 0
    slurm.controller.stop()
    try:
        done = program("status", *way, job, "--json")
        assert done.code == 5
        assert done.data["unknown"] == [job]
        assert done.data["jobs"][0]["state"] == "unknown"
        assert done.data["error"]["kind"] == "transient"
        assert "nothing is known anew" in done.sentence()
        assert "When last heard of," in done.sentence()
    finally:
        slurm.controller.start()
        slurm.wait_until_ready()
    assert program("cancel", *way, job).code == 0
