"""A lock made of a link: one holder at a time, and none that has ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openssh_jobs.cluster.lock_file import LockFile
from openssh_jobs.openssh import pid_file

ENDS = """
import os, sys
from openssh_jobs.cluster.lock_file import LockFile
with LockFile(sys.argv[1]).held(10):
    os._exit(0)
"""
COUNTS = """
import sys
from openssh_jobs.cluster.lock_file import LockFile
for _ in range(30):
    with LockFile(sys.argv[1]).held(60):
        with open(sys.argv[2]) as handle:
            number = int(handle.read())
        with open(sys.argv[2], "w") as handle:
            handle.write(str(number + 1))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def test_it_is_held_once_and_released(path: Path) -> None:
    with LockFile(str(path)).held(1):
        assert os.readlink(path).endswith(pid_file.call())
        with pytest.raises(TimeoutError, match=str(path)), LockFile(str(path)).held(0.1):
            pass
    assert not os.path.lexists(path)


def test_that_of_a_process_that_ended_is_taken_over(path: Path) -> None:
    subprocess.run([sys.executable, "-c", ENDS, path], check=True, timeout=60)
    assert os.path.lexists(path)
    with LockFile(str(path)).held(10):
        assert os.readlink(path).endswith(pid_file.call())
    assert os.listdir(path.parent) == []


def test_that_of_another_machine_is_waited_for(path: Path) -> None:
    path.symlink_to("0123456789abcdef.17-4-00000000-00000000")
    with pytest.raises(TimeoutError, match="17-4-"), LockFile(str(path)).held(0.1):
        pass
    assert os.path.lexists(path)


def test_processes_are_alone_and_take_over_one_after_the_other(path: Path) -> None:
    subprocess.run([sys.executable, "-c", ENDS, path], check=True, timeout=60)
    number = path.parent / "number"
    number.write_text("0")
    running = [subprocess.Popen([sys.executable, "-c", COUNTS, path, number]) for _ in range(6)]
    assert [one.wait(120) for one in running] == [0] * 6
    assert number.read_text() == "180"
    assert os.listdir(path.parent) == ["number"]
