"""A sample of ``scripts/lab once``: submissions with something happening to each of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.site import Site
from tests.lab.slurm import SlurmLab, in_place_of
from tests.once.wave import FAULTS, Wave
from tests.once.world import World

# The cable would take the connections of other tests along, and forgetting takes a minute.
SAMPLE = [fault.name for fault in FAULTS if not (fault.old or "cable" in fault.name)]


@pytest.fixture(scope="module")
def world(site: Site, slurm: SlurmLab, lab_directory: Path) -> Iterator[World]:
    assert site.network is not None
    world = World(lab_directory / "o", site.network)
    try:
        with in_place_of(slurm, world.make_slurm()):
            yield world
    finally:
        world.slurm = None
        world.stop()


@pytest.mark.parametrize("number", range(len(SAMPLE)), ids=SAMPLE)
def test_each_job_is_there_once(world: World, number: int) -> None:
    fault = next(fault for fault in FAULTS if fault.name == SAMPLE[number])
    size = 2 if fault.kills else 1
    result = Wave(world, fault, number, size, plain=False, record="auto").run()
    assert result.troubles == []
    assert result.counts["submissions"] == 2 * size
