"""``fetch`` and ``tail`` of jobs that wait, of arrays, and of jobs from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli import program, script, started, submitted
from tests.lab.site import Host
from tests.lab.slurm import SlurmLab

pytestmark = pytest.mark.usefixtures("own_journal")


@pytest.fixture
def way(sshd: Host, slurm: SlurmLab) -> list[str]:
    """The options and the name of the login node."""
    return ["-F", str(sshd.config), "--scheduler", "slurm", sshd.alias]


@pytest.fixture
def by_hand(sshd: Host, slurm: SlurmLab) -> Iterator[Callable[..., str]]:
    """Submits with sbatch from the home directory of the host."""
    made: list[str] = []

    def submit(text: str, *options: str) -> str:
        words = ("sbatch", "--parsable", "-D", str(sshd.home), *options, f"--wrap={text}")
        made.append(slurm.command(*words, user=sshd.user).strip())
        return made[-1]

    yield submit
    slurm.command("scancel", *made, user=sshd.user, check=False)


def test_a_pending_job_is_waited_for(
    way: list[str], slurm: SlurmLab, sshd: Host, there: str, tmp_path: Path
) -> None:
    """``fetch`` makes nothing of it; ``tail -f`` says why, and follows once it begins."""
    path = script(tmp_path, "echo begun; exit 3")
    job = submitted(way, there, path, "--option=--hold")
    followed = started("tail", *way, job, "-f")
    waiting = started("fetch", *way, job, str(tmp_path / "later"), "--wait", "--quiet")
    try:
        assert followed.stderr is not None
        assert f"job {job} is " in (said := followed.stderr.readline().decode())
        assert "waiting" in said
        done = program("fetch", *way, job, str(tmp_path / "r"), "--json")
        assert done.code == 6
        assert done.data["error"]["type"] == "JobPending"
        assert f"job {job} is " in done.sentence()
        assert f"`openssh-jobs fetch --wait -F {' '.join(way[1:])} {job} " in done.sentence()
        assert not (tmp_path / "r").exists()
        slurm.command("scontrol", "release", job, user=sshd.user)
        assert followed.communicate(timeout=60)[0] == b"begun\n"
        assert followed.returncode == 1
        assert waiting.wait(30) == 1, "the job failed"
    finally:
        for child in (followed, waiting):
            child.kill()
            child.communicate()
    assert any("begun" in found.read_text() for found in (tmp_path / "later").glob("slurm-*"))


def test_elements_of_an_array_and_the_home_of_a_job_from_elsewhere(
    way: list[str], by_hand: Callable[..., str], sshd: Host, tmp_path: Path
) -> None:
    waiting = by_hand("echo hello", "--array=0-49", "--hold")
    done = program("tail", *way, waiting)
    assert done.code == 2
    assert f"job {waiting} is an array" in done.sentence()
    assert f"{waiting}_[0-49]" in done.sentence()
    array = by_hand("echo hello; sleep 60", "--array=7")
    home = by_hand("sleep 60", f"--output={tmp_path}/o")
    link = sshd.home / "way-home"
    link.symlink_to(sshd.home)
    through = by_hand("sleep 60", "-D", str(link))
    try:
        for job in (home, through):
            done = program("fetch", *way, job, str(tmp_path / "r"))
            while done.code == 6:
                done = program("fetch", *way, job, str(tmp_path / "r"))
            assert done.code == 2, done
            assert "is your home directory" in done.sentence()
            assert f"`openssh-jobs fetch --all -F {' '.join(way[1:])} {job} " in done.sentence()
            assert not (tmp_path / "r").exists()
        words = ("fetch", *way, home, str(tmp_path / "r"), "--all", "--only", "nothing-like-it")
        done = program(*words)
        assert done.code == 0
        assert "0 files, 0 B" in done.sentence()
    finally:
        os.unlink(link)
    done = program("tail", *way, array)
    assert done.code == 2
    assert f"`openssh-jobs tail -F {' '.join(way[1:])} {array}_7`" in done.sentence()
