"""Every way in that ``ssh HOST`` knows: open, run, lose, reopen, and a wait for a job across it.

Logins are counted in the log of every sshd on the way.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from openssh_jobs import Cluster, Connection, JobState, errors
from tests.lab.chain import Chain, Way, WayIn, person

pytest_plugins = ("tests.fixtures",)

GO_ON = "#!/bin/sh\nn=0\nwhile [ ! -e go ] && [ $n -lt 600 ]; do sleep 0.1; n=$((n+1)); done\n"


def cluster_of(way_in: WayIn, directory: Path) -> Cluster:
    """The login node as a program knows it that nobody watches."""
    return Cluster(
        way_in.way.host,
        ssh_config=way_in.config,
        scheduler="direct",
        poll_interval=0.1,
        journal=str(directory / "journal"),
    )


def log_in(way_in: WayIn) -> None:
    """Log in as ``openssh-jobs login`` does, with a person if the way has questions."""
    responder = person if way_in.way.asks else None
    with Connection(way_in.way.host, ssh_config=way_in.config, responder=responder) as connection:
        connection.reconnect()


def kill_master(cluster: Cluster, way_in: WayIn) -> None:
    assert isinstance(cluster.connection, Connection)
    pid = cluster.connection.check().master
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def cut_at_first(cluster: Cluster, way_in: WayIn) -> None:
    """The first server of the way ends all its connections."""
    assert way_in.servers[0].kill_sessions()


def make_go(way_in: WayIn, directory: str) -> None:
    server = way_in.servers[-1]
    path = server.home / directory / "go"
    path.touch()


def end(way_in: WayIn) -> None:
    with Connection(way_in.way.host, ssh_config=way_in.config) as connection:
        connection.close(stop_master=True)


ALONE = [
    Way(passes=("login",)),
    Way(passes=("bastion", "login")),
    Way(passes=("bastion", "second", "login")),
    Way(passes=("bastion", "second", "third", "login")),
    Way(passes=("bastion", "second", "login"), nested=True),
    Way(passes=("bastion", "second", "third", "login"), nested=True),
    Way(passes=("bastion", "login"), command=True),
    Way(passes=("bastion", "second", "login"), command=True),
]


@pytest.mark.parametrize("way", ALONE, ids=str)
def test_a_way_that_needs_nobody_is_opened_again(
    chain: Chain, cold: Path, tmp_path: Path, way: Way
) -> None:
    way_in = WayIn(chain, way, cold.parent / "config")
    with cluster_of(way_in, tmp_path) as cluster, ThreadPoolExecutor(1) as pool:
        assert cluster.connection.run("echo in").stdout == "in\n"
        assert way_in.logins() == [1] * len(way.passes)
        directory = f"w{os.getpid()}-{way}"
        job = cluster.submit(script_text=GO_ON, directory=f"~/{directory}")
        over = pool.submit(job.wait, 60)
        for number, lose in enumerate((kill_master, cut_at_first), start=2):
            lose(cluster, way_in)
            deadline = 0
            while way_in.logins() != [number] * len(way.passes):
                deadline += 1
                assert deadline < 300, way_in.logins()
                __import__("time").sleep(0.1)
            assert cluster.connection.run("echo again").stdout == "again\n"
        make_go(way_in, directory)
        assert over.result(60).state is JobState.COMPLETED
        assert way_in.logins() == way_in.dials() == [3] * len(way.passes)
    end(way_in)


ASKING = [
    Way(passes=("login-code",)),
    Way(passes=("bastion-code", "login")),
    Way(passes=("bastion", "login-code")),
    Way(passes=("bastion-code", "second", "login")),
    Way(passes=("bastion", "second-code", "login")),
    Way(passes=("bastion", "second-code", "third", "login"), nested=True),
    Way(passes=("bastion", "second", "third-code", "login")),
    Way(passes=("bastion-code", "second", "third", "login-code")),
]


@pytest.mark.parametrize("way", ASKING, ids=str)
def test_a_way_with_a_second_factor_is_opened_by_a_person_only(
    chain: Chain, cold: Path, tmp_path: Path, way: Way
) -> None:
    way_in = WayIn(chain, way, cold.parent / "config")
    with cluster_of(way_in, tmp_path) as cluster:
        log_in(way_in)
        assert cluster.connection.run("echo in").stdout == "in\n"
        directory = f"w{os.getpid()}-{way}"
        job = cluster.submit(script_text=GO_ON, directory=f"~/{directory}")
        for number, lose in enumerate((kill_master, cut_at_first), start=2):
            with ThreadPoolExecutor(1) as pool:
                over = pool.submit(job.wait, 60)
                lose(cluster, way_in)
                error = over.exception(60)
            assert isinstance(error, errors.AuthenticationNeeded)
            assert f"openssh-jobs login -F {way_in.config} {way.host}" in str(error)
            with pytest.raises(errors.AuthenticationNeeded):
                cluster.connection.run("true")
            assert way_in.dials() == [number - 1] * len(way.passes), "nobody dialed"
            log_in(way_in)
        make_go(way_in, directory)
        assert job.wait(60).state is JobState.COMPLETED
        assert way_in.logins() == way_in.dials() == [3] * len(way.passes)
    end(way_in)
