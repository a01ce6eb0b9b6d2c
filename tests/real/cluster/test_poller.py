"""A query and a wait, on a real host."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from openssh_jobs import Cluster, Connection
from tests.helpers import processes, until
from tests.lab.room import open_room
from tests.lab.site import Host
from tests.lab.slurm import SlurmLab
from tests.unit.cluster.fakes import threads_end


def test_a_submission_is_written_down_by_the_clock_of_the_host(sshd: Host, tmp_path: Path) -> None:
    """Where it is 90 minutes ahead, its accounting would seem to be of another job."""
    sshd.make_directory("oj-clock")
    sshd.make("oj-clock/date", b'#!/bin/sh\nexec /bin/date -d "+90 minutes" "$@"\n', 0o755)
    with Cluster(
        Connection(sshd.alias, ssh_config=sshd.config),
        scheduler="direct",
        prologue=f"PATH={sshd.home}/oj-clock:$PATH; export PATH",
        journal=str(tmp_path / "journal"),
    ) as cluster:
        job = cluster.submit(script_text="#!/bin/sh\ntrue\n", directory="oj-clock/job")
        (row,) = cluster.journal.rows()
        assert row.submitted == pytest.approx(time.time() + 5400, abs=60)
        job.wait(timeout=60)


def test_a_real_query_does_not_hold_a_wait(sshd: Host, tmp_path: Path) -> None:
    with (
        threads_end(),
        Cluster(
            Connection(sshd.alias, ssh_config=sshd.config),
            scheduler="direct",
            prologue="sleep 211321.5; true",
            journal=str(tmp_path / "journal"),
        ) as cluster,
    ):
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            cluster.wait("4711", timeout=1)
        assert time.monotonic() - began < 3
        assert processes("211321.5"), "it goes on while a caller may want its answer"
    assert until(lambda: processes("211321.5") == []), "and ends with the cluster's handle"


@pytest.mark.parametrize("login_shell", [True, False])
def test_a_question_about_more_jobs_than_an_argument_holds(
    sshd: Host, slurm: SlurmLab, tmp_path: Path, login_shell: bool
) -> None:
    ids = [str(1_000_000 + n) for n in range(12_000)]
    with open_room(sshd, "slurm", slurm, tmp_path, login_shell=login_shell) as room:
        job = room.submit("true", hold=True)
        client = room.cluster.internal.client
        before = room.cluster.connection.stats().commands
        answer = client.ask(client.scheduler().cancel_script([*ids, job.id]))
        assert room.cluster.connection.stats().commands == before + 1
        found = client.scheduler().parse_cancel(answer, requested=[*ids, job.id])
        assert (found[job.id], found[ids[-1]]) == ("requested", "not_found")
        long = client.scheduler().history_script(ids)
        assert long is not None
        assert len(long) > 128 * 1024
        assert "Argument list too long" not in client.ask(long).stderr
        assert room.cluster.connection.stats().commands == before + 2
