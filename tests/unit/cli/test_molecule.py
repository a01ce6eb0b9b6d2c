"""The number that the demo computes."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path

import pytest

from openssh_jobs.cli import molecule
from tests.lab import parts


def test_the_energy_is_that_of_ethanol() -> None:
    """Bonds as they are measured; and the sum of a pair that can be done by hand."""
    atoms = [line.split() for line in molecule.XYZ.splitlines()[2:]]
    assert [atom[0] for atom in atoms].count("H") == 6
    place = [tuple(map(float, atom[1:])) for atom in atoms]
    assert math.dist(place[0], place[1]) == pytest.approx(1.512, abs=1e-3)
    assert math.dist(place[1], place[2]) == pytest.approx(1.431, abs=1e-3)
    assert math.dist(place[2], place[3]) == pytest.approx(0.971, abs=1e-3)
    assert min(math.dist(a, b) for at, a in enumerate(place) for b in place[:at]) > 0.96
    assert molecule.energy() == pytest.approx(81.7503549917, abs=1e-9)


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_the_script_runs_in_any_shell(shell: str, tmp_path: Path) -> None:
    if shell == "busybox":
        parts.require("busybox")
    (tmp_path / molecule.INPUT).write_text(molecule.XYZ)
    (tmp_path / molecule.SCRIPT).write_text(molecule.BATCH_SCRIPT.replace("sleep 0.4", "sleep 0"))
    argv = ["busybox", "sh"] if shell == "busybox" else [shell]
    done = subprocess.run(
        [*argv, molecule.SCRIPT],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.count("so far\n") == molecule.ATOMS
    result = float((tmp_path / molecule.RESULT).read_text())
    assert result == pytest.approx(molecule.energy(), abs=1e-10)
