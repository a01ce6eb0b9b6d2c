"""Output of jobs that Slurm has forgotten: the path was queried while Slurm still had it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from openssh_jobs import Cluster
from openssh_jobs.errors import InputError
from tests.lab.room import FORGETFUL, Room, open_room
from tests.lab.site import Host
from tests.lab.slurm import SlurmLab


@pytest.fixture
def room(sshd: Host, slurm: SlurmLab, tmp_path: Path) -> Iterator[Room]:
    with open_room(sshd, "slurm", slurm, tmp_path) as room:
        yield room


@pytest.fixture
def forgetful(room: Room) -> Iterator[Cluster]:
    """Another program, and a controller that remembers nothing.

    MinJobAge is five minutes here, so scontrol is played by a script.
    """
    room.program("scontrol", FORGETFUL["scontrol"])
    with room.another() as other:
        yield other


def test_what_the_directives_of_a_script_say(room: Room, forgetful: Cluster) -> None:
    own = room.submit("#SBATCH -o %x-%j.out -e err.txt -J own\necho out; echo err >&2")
    usual = room.submit("echo out; echo err >&2")
    room.cluster.wait([own, usual], timeout=60)
    for job, name in ((own, f"own-{own.id}.out"), (usual, f"slurm-{usual.id}.out")):
        later = forgetful.job(job.id)
        assert later.stdout_path == f"{room.here}/{name}"
        assert "out\n" in list(later.tail())
    assert forgetful.job(own.id).name == "own"
    assert list(forgetful.job(own.id).tail("stderr")) == ["err\n"]


def test_members_of_an_array_have_their_files(room: Room, forgetful: Cluster) -> None:
    """scontrol tells of an array that waits with a number that stands for each member's."""
    job = room.submit("#SBATCH -o %A-%a\necho member $SLURM_ARRAY_TASK_ID", array="1-2", hold=True)
    assert job.stdout_path is None
    with pytest.raises(InputError, match="an array, whose elements"):
        list(forgetful.job(job.id).tail())
    assert forgetful.job(f"{job.id}_1").stdout_path == f"{room.here}/{job.id}-1"
    job.release()
    room.cluster.wait([f"{job.id}_{index}" for index in (1, 2)], timeout=60)
    for index in (1, 2):
        assert list(forgetful.job(f"{job.id}_{index}").tail()) == [f"member {index}\n"]
