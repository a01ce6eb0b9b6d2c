"""What cannot be waited for is named before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Cluster, LocalConnection
from openssh_jobs.cli import main
from openssh_jobs.errors import InputError
from tests.lab.growth import FakeSlurm

TEXT = "#!/bin/sh\ntrue\n"


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    slurm = FakeSlurm(tmp_path / "slurm")
    path = slurm.directory / "sbatch"
    path.write_text(path.read_text() + "echo 4711\n")
    return slurm


@pytest.fixture
def cluster(slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster with the array 4711, submitted as 0-8:2."""
    (tmp_path / "home").mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    config = tmp_path / "servers.toml"
    config.write_text(
        f'[defaults]\nscheduler = "slurm"\nlogin_shell = false\nprologue = "{slurm.prologue}"\n'
    )
    monkeypatch.setenv("OPENSSH_JOBS_CONFIG", str(config))
    with Cluster(LocalConnection()) as cluster:
        cluster.submit(script_text=TEXT, directory="~/a", array="0-8:2")
        yield cluster


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"after_ok": "4711_9"}, "the array 4711 has no element 9"),
        ({"after_any": ["1", "4711_[2-4]"]}, "the array 4711 has no element 3"),
        ({"after_failed": "4711_1"}, "the array 4711 has no element 1"),
        ({"after_ok": "12", "after_failed": ["12"]}, "both name the job 12: that can never"),
        ({"after_ok": "latest"}, "not a job id"),
    ],
)
def test_nothing_is_sent(
    cluster: Cluster, slurm: FakeSlurm, asked: dict[str, Any], words: str
) -> None:
    before = slurm.commands(), cluster.connection.stats().commands
    with pytest.raises(InputError, match=words):
        cluster.submit(script_text=TEXT, directory="~/b", **asked)
    with pytest.raises(InputError, match=words):
        cluster.submit_many([{"script_text": TEXT, "name": "x"}, asked], script_text=TEXT)
    assert (slurm.commands(), cluster.connection.stats().commands) == before


def test_the_command_line_sends_nothing_either(
    cluster: Cluster, slurm: FakeSlurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.sh").write_text(TEXT)
    before = slurm.commands()
    words = ["submit", ".", "b", "--script", str(tmp_path / "x.sh"), "--after-ok", "4711_9"]
    assert main(words) == 2
    assert "the array 4711 has no element 9" in capsys.readouterr().err
    assert slurm.commands() == before


@pytest.mark.parametrize("asked", ["4711_8", "4711_[0,4]", "4711", "99_7", "5"])
def test_what_may_be_is_sent(cluster: Cluster, slurm: FakeSlurm, asked: str) -> None:
    before = slurm.commands()
    cluster.submit(script_text=TEXT, directory="~/b", after_ok=asked)
    assert slurm.commands() > before


def test_jobs_from_a_generator_are_waited_for(cluster: Cluster) -> None:
    def ids() -> Iterator[str]:
        yield from ("5", "6")

    one = cluster.submit(script_text=TEXT, directory="~/b", after_ok=ids(), dry_run=True)
    assert "afterok:5:6" in one.command
    many = cluster.submit_many(
        [{"name": "a"}, {"name": "b"}], script_text=TEXT, after_any=ids(), dry_run=True
    )
    assert ["afterany:5:6" in each.command for each in many] == [True, True]
