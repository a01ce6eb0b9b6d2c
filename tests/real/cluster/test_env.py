"""``env=`` where the submit command hands on none of its environment: a real Grid Engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from openssh_jobs.errors import SchedulerError
from tests.lab.gridengine import GridEngineLab, open_grid_room
from tests.lab.room import Room
from tests.lab.site import Host

VALUES = {"OJ_A": "s3cr3t a|b,c\\d\"e'f $HOME `id`\n\tsecond é", "OJ_B": "", "OJ_C": "  x  "}
SHOW = """#!/bin/sh
for name in OJ_A OJ_B OJ_C; do eval "printf '%s;' \\"\\${$name-unset}\\"" | od -An -tx1; done
"""


@pytest.fixture
def room(sshd: Host, gridengine: GridEngineLab, tmp_path: Path) -> Iterator[Room]:
    with open_grid_room(sshd, gridengine, tmp_path) as room:
        yield room


def test_variables_arrive_byte_by_byte(room: Room, gridengine: GridEngineLab) -> None:
    job = room.cluster.submit(script_text=SHOW, directory=room.here, env=VALUES)
    assert "s3cr3t" not in gridengine.command("qstat", "-j", job.id)
    assert job.wait(timeout=60).exit_code == 0
    said = bytes.fromhex("".join(job.tail()))
    assert said == b"".join(value.encode() + b";" for value in VALUES.values())


def test_without_a_launcher_they_are_refused(room: Room) -> None:
    with pytest.raises(SchedulerError, match="through its launcher only") as caught:
        room.cluster.submit(script_text=SHOW, directory=room.here, env=VALUES, record_exit=False)
    assert (caught.value.kind, caught.value.sent) == ("unsupported", "no")
