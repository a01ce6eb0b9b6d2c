"""A server of ARC's settings behind several bastions; logins counted in every server's log."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection, arc
from openssh_jobs.arc import SSHClient
from tests.lab.chain import Chain, Way, WayIn
from tests.real.arc.places import local_entry
from tests.real.openssh.ways import log_in

pytest_plugins = ("tests.fixtures",)

SCRIPT = "#!/bin/sh\nn=0\nuntil [ -e go ] || [ $n -gt 1200 ]; do sleep 0.1; n=$((n+1)); done\n"


@pytest.fixture
def configured(own_settings: None, tmp_path: Path) -> Callable[[WayIn], None]:
    """``configured(way_in)``: ARC's settings name the login node by its alias, and no key."""

    def configure(way_in: WayIn) -> None:
        entry = local_entry(way_in.way.host, "hpcalice", way_in.config, tmp_path)
        arc.configure(servers={"hpc": entry})

    return configure


def submit(name: str) -> str:
    with SSHClient("hpc") as ssh:
        ssh.upload_file(remote_file_path=f"{name}/submit.sh", file_string=SCRIPT)
        status, job_id = ssh.submit_job(remote_path=name)
    assert status == "running"
    return job_id


def kill_master() -> None:
    connection = SSHClient("hpc")._connection
    assert isinstance(connection, Connection)
    pid = connection.check().master
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def asks_on_until(way_in: WayIn, logins: list[int], job_id: str) -> None:
    """ARC's loop: the job is listed in every answer, and at last by a new login."""
    deadline = time.monotonic() + 60
    while way_in.logins() != logins:
        assert time.monotonic() < deadline, way_in.logins()
        with SSHClient("hpc") as ssh:
            assert job_id in ssh.check_running_jobs_ids()
            assert ssh.check_job_status(job_id) == "running"
        time.sleep(0.1)


def let_go(way_in: WayIn, name: str, job_id: str) -> None:
    (way_in.servers[-1].home / name / "go").touch()
    deadline = time.monotonic() + 60
    with SSHClient("hpc") as ssh:
        while ssh.check_job_status(job_id) != "done":
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_server_behind_two_bastions_is_found_again(
    chain: Chain, cold: Path, configured: Any, sleeps: list[float]
) -> None:
    way_in = WayIn(chain, Way(passes=("bastion", "second", "login")), cold.parent / "config")
    configured(way_in)
    job_id = submit("behind-two")
    assert way_in.logins() == [1, 1, 1]
    kill_master()
    asks_on_until(way_in, [2, 2, 2], job_id)
    assert way_in.servers[1].kill_sessions()
    asks_on_until(way_in, [3, 3, 3], job_id)
    let_go(way_in, "behind-two", job_id)
    assert way_in.logins() == way_in.dials() == [3, 3, 3]
    assert set(sleeps) <= {60.0}, "what was under way when it was lost is asked again"


def test_a_bastion_with_a_second_factor_is_not_asked_once_a_minute(
    chain: Chain, cold: Path, configured: Any, sleeps: list[float]
) -> None:
    """ARC's client would try 1440 times."""
    way_in = WayIn(chain, Way(passes=("bastion", "second-code", "login")), cold.parent / "config")
    configured(way_in)
    login = f"openssh-jobs login -F {way_in.config} -l hpcalice login"
    for _ in range(3):
        with pytest.raises(arc.ServerError, match="the jump host second-code") as caught:
            SSHClient("hpc").connect()
        assert login in str(caught.value)
    assert way_in.dials() == [1, 1, 0]
    log_in(way_in, user="hpcalice")
    job_id = submit("behind-code")
    assert way_in.dials() == [2, 2, 1]
    kill_master()
    with pytest.raises(arc.ServerError, match="needed a person to answer"):
        SSHClient("hpc").check_running_jobs_ids()
    with pytest.raises(arc.ServerError, match="needed a person to answer"):
        SSHClient("hpc").check_job_status(job_id)
    assert way_in.dials() == [2, 2, 1]
    log_in(way_in, user="hpcalice")
    let_go(way_in, "behind-code", job_id)
    assert way_in.dials() == [3, 3, 2]
    assert sleeps == []
