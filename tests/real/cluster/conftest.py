"""What the tests of several files share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.room import Room
from tests.lab.slurm import SlurmLab


@pytest.fixture
def shared(room: Room) -> Iterator[Path]:
    """A directory that everybody may write, without a sticky bit."""
    path = Path(os.environ["TMPDIR"]) / f"shared-{os.getpid()}"
    path.mkdir()
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def stopped(slurm: SlurmLab) -> Iterator[Callable[[], None]]:
    """No controller, until the test is over."""
    yield slurm.controller.stop
    if not slurm.controller.running():
        slurm.controller.start()
    slurm.wait_until_ready()
