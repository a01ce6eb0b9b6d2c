"""What the tests of several files share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.room import Room


@pytest.fixture
def shared(room: Room) -> Iterator[Path]:
    """A directory that everybody may write, without a sticky bit."""
    path = Path(os.environ["TMPDIR"]) / f"shared-{os.getpid()}"
    path.mkdir()
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)
