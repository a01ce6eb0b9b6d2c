"""Each test of a room with a real Slurm, and of one with no scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.room import Room, open_room
from tests.lab.site import Host


@pytest.fixture(params=["slurm", "direct"])
def scheduler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def room(
    scheduler: str, request: pytest.FixtureRequest, sshd: Host, tmp_path: Path
) -> Iterator[Room]:
    slurm = request.getfixturevalue("slurm") if scheduler == "slurm" else None
    with open_room(sshd, scheduler, slurm, tmp_path) as room:
        yield room


only_slurm = pytest.mark.parametrize("scheduler", ["slurm"], indirect=True)
only_direct = pytest.mark.parametrize("scheduler", ["direct"], indirect=True)
