"""Many jobs as one: round trips, files, and what exists after something went wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Cluster
from openssh_jobs.errors import SubmitIncomplete, SubmitRejected
from openssh_jobs.openssh import reaper
from openssh_jobs.testing.sshd import client_block
from tests.helpers import PYTHON
from tests.lab.gridengine import GridEngineLab, open_grid_room
from tests.lab.room import Room, open_room
from tests.lab.site import Host
from tests.lab.slurm import SlurmLab
from tests.lab.turns import CountingLink

SCRIPT = "#!/bin/sh\necho $T $1\n"


@pytest.fixture
def room(sshd: Host, slurm: SlurmLab, tmp_path: Path) -> Iterator[Room]:
    with open_room(sshd, "slurm", slurm, tmp_path) as room:
        yield room


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "md.sh"
    path.write_text(SCRIPT)
    return path


def sweep(number: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {"name": f"t{n}", "token": f"sweep-{n}", "env": {"T": str(n)}, **more}
        for n in range(number)
    ]


def names(room: Room) -> Counter[str]:
    """The names of this test's jobs in Slurm's queue, from its own squeue.

    Those of other tests may hold anything, such as blanks and bytes that are no text.
    """
    assert room.slurm is not None
    listed = room.slurm.command("squeue", "-h", "-u", room.host.user, "-t", "all", "-o", "%Z|%j")
    lines = (line.partition("|")[::2] for line in listed.splitlines())
    return Counter(name for where, name in lines if where.startswith(room.here))


# -- round trips --------------------------------------------------------------------------------


@pytest.fixture
def slow(
    room: Room, expect_logins: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Cluster, CountingLink]]:
    """A cluster behind a slow link, with what is learned of a host once already learned."""
    # Closing an idle shell takes messages, too.
    monkeypatch.setattr(reaper, "IDLE_SECONDS", 600)
    expect_logins(1)
    server = room.host.server
    with CountingLink(server.address, server.port, 0.02) as link:
        config, known = tmp_path / "slow", tmp_path / "known"
        key = server.known_hosts.read_text().split(None, 1)[1]
        known.write_text(f"[127.0.0.1]:{link.port} {key}")
        config.write_text(
            client_block(
                "slow", address="127.0.0.1", port=link.port, user=server.user,
                known_hosts=known, identity=server.identity,
            )
        )  # fmt: skip
        journal = str(tmp_path / "slow-journal")
        with Cluster("slow", ssh_config=config, scheduler="slurm", journal=journal) as cluster:
            cluster.submit(script_text=SCRIPT, directory=room.here, hold=True, name="first")
            yield cluster, link
            cluster.cancel([row.job_id for row in cluster.journal.rows() if row.job_id])
            cluster.connection.close(stop_master=True)


def test_many_jobs_take_six_round_trips_more_than_one_command(
    room: Room, script: Path, slow: tuple[Cluster, CountingLink]
) -> None:
    cluster, link = slow
    common: Any = {"script_file": script, "directory": room.here, "hold": True}
    before = link.turns
    jobs = cluster.submit_many(sweep(60), **common)
    turns = link.turns - before
    assert names(room) == Counter([*(f"t{n}" for n in range(60)), "first"])
    assert [job.name for job in jobs] == [f"t{n}" for n in range(60)]
    # One for the files, and one command: at most four (open, run, end of input, close), and one for
    # ssh's windows, for which nobody waits.  Where the output goes comes with the answer.
    assert turns <= 1 + 4 + 1
    assert all(job._row.stdout_path for job in jobs)
    before = link.turns
    assert [job.id for job in cluster.submit_many(sweep(60), **common)] == [j.id for j in jobs]
    assert link.turns == before, "the journal knows them"


# -- what is submitted --------------------------------------------------------------------------


def test_a_sweep_runs_with_what_each_row_gives(sshd: Host, script: Path, tmp_path: Path) -> None:
    with open_room(sshd, "direct", None, tmp_path) as room:
        rows = [row | {"arguments": [f"a {row['name']}"]} for row in sweep(12)]
        jobs = room.cluster.submit_many(
            rows, script_file=script, directory=room.here, env={"T": "lost", "U": "u"}
        )
        assert {status.state for status in room.cluster.wait(jobs, timeout=60)} == {"completed"}
        assert [list(job.tail()) for job in jobs] == [[f"{n} a t{n}\n"] for n in range(12)]
        assert [job.name for job in jobs] == [f"t{n}" for n in range(12)]


def test_a_directory_of_scripts_goes_up_once(
    sshd: Host, gridengine: GridEngineLab, tmp_path: Path
) -> None:
    source = tmp_path / "scripts"
    source.mkdir()
    for name in "abc":
        (source / f"{name}.sh").write_text(f"#!/bin/sh\ncat data >{name}.out\n")
    (source / "data").write_text("42\n")
    with open_grid_room(sshd, gridengine, tmp_path) as room:
        jobs = room.cluster.submit_many(source, directory=f"{room.here}/work")
        assert [job.name for job in jobs] == ["a.sh", "b.sh", "c.sh"]
        assert {status.state for status in room.cluster.wait(jobs, timeout=90)} == {"completed"}
        outputs = [(room.path / "work" / f"{name}.out").read_text() for name in "abc"]
        assert outputs == ["42\n"] * 3
        left = [path.name for path in (room.path / "work").glob(".oj-*")]
        assert left == [], "no mark stays"


# -- something happens in the middle --------------------------------------------------------------


def test_one_is_refused_and_the_others_are_there(room: Room, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "run.sh").write_text(SCRIPT)
    common: Any = {"upload": source, "directory": f"{room.here}/up", "script": "run.sh"}
    wanted = sweep(5, hold=True)
    wanted[2]["queue"] = "nowhere"
    with pytest.raises(
        SubmitIncomplete, match=r"4 of 5 jobs were submitted; 1 have no job"
    ) as caught:
        room.cluster.submit_many(wanted, **common)
    error = caught.value
    assert (sorted(error.jobs), list(error.refused), error.unknown) == ([0, 1, 3, 4], [2], {})
    assert isinstance(error.refused[2], SubmitRejected)
    assert "nowhere" not in names(room)
    assert names(room) == Counter(["t0", "t1", "t3", "t4"])
    assert (room.path / "up/run.sh").exists()
    assert not (room.path / "up/.openssh_jobs/sweep-2").exists()
    wanted[2]["queue"] = None
    jobs = room.cluster.submit_many(wanted, **common)
    assert {at: job.id for at, job in enumerate(jobs) if at != 2} == error.jobs
    assert names(room) == Counter(f"t{n}" for n in range(5))


def test_all_are_refused_and_nothing_is_left(room: Room, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "run.sh").write_text(SCRIPT)
    with pytest.raises(SubmitIncomplete) as caught:
        room.cluster.submit_many(
            sweep(3), upload=source, directory=f"{room.here}/up", script="run.sh", queue="nowhere"
        )
    assert sorted(caught.value.refused) == [0, 1, 2]
    assert os.listdir(room.path) == []
    assert room.cluster.journal.rows() == []


CLIENT = """\
import sys
from openssh_jobs import Cluster
from openssh_jobs.errors import SubmitIncomplete, SubmitRejected
cluster = Cluster(sys.argv[1], ssh_config=sys.argv[2], scheduler="slurm", journal=sys.argv[3])
wanted = [{"name": f"t{n}", "token": f"sweep-{n}", "env": {"T": str(n)}, "hold": True}
          for n in range(int(sys.argv[6]))]
try:
    cluster.submit_many(wanted, script_file=sys.argv[4], directory=sys.argv[5])
except SubmitIncomplete as error:
    assert not error.refused, error
"""


def client(room: Room, script: Path, number: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*PYTHON, CLIENT, room.host.alias, str(room.host.config), str(room.cluster.journal.path),
         str(script), room.here, str(number)]
    )  # fmt: skip


@pytest.mark.parametrize("how", ["recover", "again"])
def test_a_client_that_is_killed_in_the_middle(room: Room, script: Path, how: str) -> None:
    number = 25
    with client(room, script, number) as process:
        deadline = time.monotonic() + 60
        while len(names(room)) < 4:
            assert time.monotonic() < deadline
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    if how == "recover":
        room.cluster.recover()
    wanted: Any = sweep(number, hold=True)
    jobs = room.cluster.submit_many(wanted, script_file=script, directory=room.here)
    assert names(room) == Counter(f"t{n}" for n in range(number))
    assert len({job.id for job in jobs}) == number


def test_two_processes_with_the_same_tokens(room: Room, script: Path) -> None:
    number = 12
    running = [client(room, script, number) for _ in range(2)]
    assert [process.wait(60) for process in running] == [0, 0]
    wanted: Any = sweep(number, hold=True)
    jobs = room.cluster.submit_many(wanted, script_file=script, directory=room.here)
    assert names(room) == Counter(f"t{n}" for n in range(number))
    assert len({job.id for job in jobs}) == number
