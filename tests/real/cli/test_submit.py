"""``submit``, and a day of work with it; without a scheduler and with Slurm."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli import on_terminal, program, script, submitted, without_colour
from tests.lab.site import Host
from tests.lab.slurm import SlurmLab

pytestmark = pytest.mark.usefixtures("own_journal")


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


def test_a_dry_run_shows_what_would_be_sent(
    sshd: Host, slurm: SlurmLab, there: str, tmp_path: Path
) -> None:
    (tmp_path / "freq.sh").write_text("#!/bin/sh\n#SBATCH -N 1\ndate\n")
    options = ("-F", str(sshd.config), "--scheduler", "slurm", "--cpus", "2")
    words = ("submit", *options, sshd.alias, f"{there}/new", "--script", str(tmp_path / "freq.sh"))
    done = program(*words, "--dry-run", "--token", "k1")
    assert (done.code, done.err) == (0, "")
    assert "sbatch --parsable --cpus-per-task=2 " in done.out
    assert f"{there}/new/.openssh_jobs/k1/freq.sh" in done.out
    assert done.out.endswith("#!/bin/sh\n#SBATCH -N 1\ndate\n")
    done = program(*words, "--dry-run", "--json")
    assert done.data["script"] == "#!/bin/sh\n#SBATCH -N 1\ndate\n"
    assert (done.data["scheduler"], done.data["env"]) == ("slurm", [])
    assert not (sshd.home / there / "new").exists()
    assert slurm.command("squeue", "-h", "-u", sshd.user) == ""


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


def test_slurm_from_start_to_end(sshd: Host, slurm: SlurmLab, there: str, tmp_path: Path) -> None:
    way = ["-F", str(sshd.config), sshd.alias]
    done = program("queues", "--nodes", *way)
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
    listed = program("list", *way)
    assert job in {row.split()[1] for row in listed.out.splitlines()[1:]}
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


def test_once_more(direct: list[str], there: str, tmp_path: Path) -> None:
    source = tmp_path / "relax"
    source.mkdir()
    (source / "in.txt").write_text("41\n")
    (source / "run.sh").write_text("read n <in.txt; echo $((n + ${MORE-1}))\n")
    text = 'echo "${0##*/}" $# "$2"; exit 3'
    words = ("--argument", "a b", "--argument=-v 'x'")
    first = submitted(direct, f"{there}/plain", script(tmp_path, text), *words)
    (tmp_path / "job.sh").unlink()
    done = program("submit", *direct, "--again", first, "--json")
    assert (done.code, done.err) == (0, "")
    assert done.data["job_id"] != first
    assert done.data["directory"].endswith(f"{there}/plain")
    done = program("tail", *direct, done.data["job_id"], "-f")
    assert (done.code, done.out) == (1, "job.sh 2 -v 'x'\n")

    done = program(
        *("submit", "--upload", str(source), "--env", "MORE=2", "--json"),
        *(*direct, f"{there}/relax", "--script", "run.sh"),
    )
    second = done.data["job_id"]
    done = program("submit", *direct, "--again", second)
    assert (done.code, done.out) == (2, "")
    assert "MORE in env, whose values are not kept" in done.sentence()
    done = program("submit", *direct, "--again", second, "--env", "MORE=5", "--json")
    assert (done.code, done.err) == (0, "")
    assert f"{there}/relax-again-" in done.data["directory"]
    assert program("tail", *direct, done.data["job_id"], "-f").out == "46\n"
    (source / "in.txt").write_text("42\n")
    done = program("submit", *direct, "--again", second, "--env", "MORE=5")
    assert (done.code, done.out) == (2, "")
    assert "has changed: in.txt" in done.sentence()
    assert program("submit", *direct, f"{there}/x", "--again", "99999").code == 2
    assert program("submit", *direct, "--script", "x").code == 2
