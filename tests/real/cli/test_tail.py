"""``tail``: lines, bytes, and Ctrl-C."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.cli import program, script, started, submitted

pytestmark = pytest.mark.usefixtures("own_journal")


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
    assert program("status", *direct, job, "--json").data["jobs"][0]["state"] == "running"
    assert program("cancel", *direct, job).code == 0


def test_the_last_lines_only_and_bytes_as_they_are(
    direct: list[str], there: str, tmp_path: Path
) -> None:
    job = submitted(direct, there, script(tmp_path, r"seq 5; printf 'a\377\033[31m'"))
    assert program("tail", *direct, job, "-f").out == "1\n2\n3\n4\n5\na\udcff\x1b[31m"
    assert program("tail", *direct, job, "-n", "2").out == "5\na\udcff\x1b[31m"
