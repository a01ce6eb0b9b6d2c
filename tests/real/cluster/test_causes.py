"""Why jobs wait and what ended them: the table of causes, on real schedulers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.lab import causes, parts
from tests.lab.gridengine import GridEngineLab, open_grid_room
from tests.lab.room import Room, open_room
from tests.lab.site import Host, Site
from tests.lab.slurm import SlurmLab, in_place_of


def check(found: Sequence[causes.Found], least: int) -> None:
    """At least 95 % are right, and none is another one than the expected and not "unknown"."""
    assert len(found) >= least
    odd = [one.row.id for one in found if not one.is_right]
    for one in found:
        if not one.is_right:
            print(one.row.id, one.cause, "not", one.row.cause, one.explanation)
    wrong = [one.row.id for one in found if one.is_wrong]
    assert not wrong, odd
    assert len(odd) <= len(found) * 0.05, odd


@pytest.fixture
def accounting(slurm: SlurmLab, site: Site, lab_directory: Path) -> Iterator[SlurmLab]:
    """A Slurm with accounting, and with limits of every kind."""
    parts.require("accounting")
    assert site.network is not None
    lab = causes.accounting_lab(lab_directory / "causes", site.network.login)
    with in_place_of(slurm, lab):
        yield lab


def test_of_slurm(sshd: Host, accounting: SlurmLab, tmp_path: Path) -> None:
    with open_room(sshd, "slurm", accounting, tmp_path) as room:
        check(causes.of_slurm(room, accounting), 30)


def test_of_slurm_without_accounting(sshd: Host, slurm: SlurmLab, tmp_path: Path) -> None:
    with open_room(sshd, "slurm", slurm, tmp_path) as room:
        check(causes.of_plain_slurm(room, slurm), 7)


def test_of_grid_engine(sshd: Host, gridengine: GridEngineLab, tmp_path: Path) -> None:
    with open_grid_room(sshd, gridengine, tmp_path) as room:
        check(causes.of_grid_engine(room, gridengine), 14)


def test_of_jobs_without_a_scheduler(sshd: Host, tmp_path: Path) -> None:
    room: Room
    with open_room(sshd, "direct", None, tmp_path) as room:
        check(causes.of_direct(room), 7)
