"""What clients cost a server: logins, counted there, and what is never tried again."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from openssh_jobs import arc
from openssh_jobs.arc import SSHClient
from tests.lab.site import Host
from tests.real.arc.places import local_entry

TRIES = "Connection closed by authenticating user"


class ArcServer:
    """A server of these tests' own, with ARC's settings for it."""

    def __init__(self, host: Host, tmp_path: Path) -> None:
        self.host = host
        self.entry = local_entry(host.alias, host.user, host.config, tmp_path)
        arc.configure(servers={"hpc": self.entry})

    def tries(self) -> int:
        """Connections whose user did not get in."""
        return self.host.server.log_text().count(TRIES)


@pytest.fixture
def server(own_settings: None, make_sshd: Callable[..., Host], tmp_path: Path) -> ArcServer:
    return ArcServer(make_sshd(), tmp_path)


# -- one login ----------------------------------------------------------------------------------


def test_a_hundred_blocks_are_one_login_and_no_noticeable_time(
    server: ArcServer, expect_logins: Callable[..., None]
) -> None:
    expect_logins(1)
    with SSHClient("hpc") as ssh:
        assert ssh.logins == 1
    began = time.monotonic()
    for _ in range(100):
        with SSHClient("hpc") as ssh:
            assert ssh._ssh is not None
    took = time.monotonic() - began
    assert server.host.logins() == 1
    assert took < 1.0, "a login takes longer than a hundred of them"


def test_a_search_that_opened_a_hundred_connections(
    server: ArcServer, expect_logins: Callable[..., None]
) -> None:
    """Fifty jobs, each with a client to upload and one to submit, then to look, and to download."""
    expect_logins(1)
    ids = []
    for number in range(50):
        remote_path = f"runs/ARC_Projects/p/TS0/tsg{number}"
        with SSHClient("hpc") as ssh:
            ssh.upload_file(
                remote_file_path=f"{remote_path}/submit.sh", file_string="#!/bin/sh\ntrue\n"
            )
            ssh.change_mode(mode="+x", file_name="submit.sh", remote_path=remote_path)
        if number < 5:  # submitting costs no login more than running does, but time
            with SSHClient("hpc") as ssh:
                ids.append(ssh.submit_job(remote_path=remote_path)[1])
        with SSHClient("hpc") as ssh:
            assert ssh.read_remote_file(f"{remote_path}/submit.sh")
    with SSHClient("hpc") as ssh:
        ssh.check_running_jobs_ids()
        for job_id in ids:
            deadline = time.monotonic() + 30
            while ssh.check_job_status(job_id) != "done":
                assert time.monotonic() < deadline
                time.sleep(0.05)
    assert server.host.logins() == 1


def test_threads_share_a_client(server: ArcServer, expect_logins: Callable[..., None]) -> None:
    expect_logins(1)
    ssh = SSHClient("hpc")
    begin, wrong = threading.Barrier(8), []

    def work(number: int) -> None:
        begin.wait(20)
        for turn in range(10):
            text = f"{number}-{turn}"
            ssh.upload_file(remote_file_path=f"shared/{text}", file_string=text)
            said, _ = ssh._send_command_to_server(f"cat shared/{text}")
            if said != [text] or ssh.read_remote_file(f"shared/{text}") != [text]:
                wrong.append((text, said))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert wrong == []
    assert len(ssh.list_dir("shared")) == 80
    assert server.host.logins() == 1


def test_processes_share_the_login(server: ArcServer, expect_logins: Callable[..., None]) -> None:
    expect_logins(1)
    code = (
        "import sys; from openssh_jobs import arc; arc.configure(servers={'hpc': "
        f"{server.entry!r}}})\nwith arc.SSHClient('hpc') as ssh: print(ssh.list_dir() is not None)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(4)
    ]
    assert [process.communicate(timeout=60)[0] for process in running] == [b"True\n"] * 4
    assert server.host.logins() == 1


# -- what is not tried again ----------------------------------------------------------------------


def test_a_refused_key_is_tried_once_by_all_clients_together(
    server: ArcServer, sleeps: list[float], tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong_key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(wrong)], check=True, timeout=20
    )
    config = tmp_path / "config"
    lines = server.host.config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if "IdentityFile" not in line))
    server.entry |= {"key": str(wrong), "ssh_config": str(config)}
    arc.configure(servers={"hpc": server.entry})
    for _ in range(5):
        with pytest.raises(arc.ServerError, match="hpc"), SSHClient("hpc"):
            raise AssertionError("not reached")
    with pytest.raises(arc.ServerError):
        SSHClient("hpc").list_dir()
    arc.delete_check_files_on_servers({"hpc": "runs"})
    assert server.tries() == 1, "sites ban who keeps knocking"
    assert sleeps == []


def test_a_changed_host_key_is_said_at_once(server: ArcServer, sleeps: list[float]) -> None:
    known = server.host.server.known_hosts
    before = known.read_text()
    key = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(server.host.server.identity)],
        capture_output=True, text=True, check=True, timeout=20,
    ).stdout.split()[:2]  # fmt: skip
    known.write_text(f"{before.split()[0]} {' '.join(key)}\n")
    for _ in range(3):
        with pytest.raises(arc.ServerError, match="is not the one in known_hosts"):
            SSHClient("hpc").connect()
    assert sleeps == []
    assert server.host.logins() == 0


def test_a_server_that_is_down_is_tried_once_a_minute_and_found_when_it_is_back(
    server: ArcServer,
    sleeps: list[float],
    expect_logins: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expect_logins(1)
    server.host.server.stop()
    with pytest.raises(arc.ServerError, match="even after 3 trials"):
        SSHClient("hpc", connection_attempts=3).connect()
    assert sleeps == [60.0, 60.0]
    waits: list[float] = []

    def back(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1:
            server.host.server.start()
        time.sleep(min(2.0 ** len(waits), 15))  # the pause of the record of logins is shorter

    monkeypatch.setattr(arc.time, "sleep", back)  # that of the Clock
    with SSHClient("hpc") as ssh:
        assert ssh.list_dir() is not None
    assert set(waits) == {60.0}
    assert server.host.logins() == 1


def test_more_logins_an_hour_than_allowed_are_not_made(
    server: ArcServer, sleeps: list[float], expect_logins: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    """A link that breaks again and again does not become a hundred logins."""
    expect_logins(2)
    config = tmp_path / "servers.toml"
    config.write_text(f"[servers.{server.host.alias}]\ndials_per_hour = 2\n")
    monkeypatch.setenv("OPENSSH_JOBS_CONFIG", str(config))
    for _ in range(2):
        with SSHClient("hpc") as ssh:
            ssh._connection.close(stop_master=True)
    for _ in range(3):
        with pytest.raises(arc.ServerError, match="2 logins"):
            SSHClient("hpc", connection_attempts=5).connect()
    assert server.host.logins() == 2
    assert sleeps == [60.0] * 12
