"""``forward`` to the node of a job: a notebook on a compute node, through a bastion."""

from __future__ import annotations

import signal
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.cli import program, script, started
from tests.helpers import until
from tests.lab.site import Host
from tests.lab.slurm import SlurmLab, know_host

NOTEBOOK = "exec python3 -u -m http.server --bind 0.0.0.0 --directory /etc/slurm {port}"


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def page(port: int) -> str:
    """What the notebook says."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/slurm.conf", timeout=5) as answer:
        return str(answer.read().decode())


@pytest.fixture
def way(jump: Host, slurm: SlurmLab) -> list[str]:
    """The options for Slurm, and the host behind a bastion."""
    for node in slurm.nodes:
        know_host("127.0.0.1", node)
    return ["-F", str(jump.config), "--scheduler", "slurm", jump.alias]


@pytest.mark.usefixtures("own_journal")
def test_a_notebook_on_a_node(
    way: list[str], jump: Host, there: str, tmp_path: Path, slurm: SlurmLab
) -> None:
    logins, on_the_way = jump.logins(), [server.logins() for server in jump.jumps]
    port, here = free_port(), free_port()
    text = script(tmp_path, NOTEBOOK.format(port=port))
    done = program("submit", *way, there, "--script", text, "--hold")
    assert done.code == 0, done
    job = done.out.strip()
    child = started("forward", *way, f"{here}:{job}:{port}")
    try:
        assert child.stdout is not None
        assert child.stderr is not None
        line = child.stderr.readline().decode()
        assert line.startswith(f"{jump.alias}: job {job}: held"), line
        assert line.endswith("; waiting for its start.\n")
        slurm.command("scontrol", "release", job, user=jump.user)
        line = child.stdout.readline().decode()
        node = slurm.command("squeue", "-h", "-j", job, "-o", "%N").strip()
        assert line == f"127.0.0.1:{here} leads to {node}:{port} as {jump.alias} sees it\n"
        assert until(lambda: _answers(here), 30)
        assert "ClusterName" in page(here)
        slurm.command("scancel", job, user=jump.user)
        said = child.communicate(timeout=60)[1].decode()
        assert child.returncode == 0, said
        assert f"job {job} is over: cancelled." in said
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", here), timeout=5)
    finally:
        child.kill()
        child.communicate(timeout=20)
        program("cancel", *way, job)
    assert jump.logins() == logins
    assert [server.logins() for server in jump.jumps] == on_the_way


def _answers(port: int) -> bool:
    try:
        return bool(page(port))
    except OSError:
        return False


@pytest.mark.usefixtures("own_journal")
def test_a_job_that_is_over_has_no_node(way: list[str], there: str, tmp_path: Path) -> None:
    done = program("submit", *way, there, "--script", script(tmp_path, "true"))
    job = done.out.strip()
    assert program("wait", *way, job).code == 0
    done = program("forward", *way, f"{job}:8888")
    assert done.code == 1
    assert done.sentence().endswith(f"job {job} is over: completed.")


@pytest.mark.usefixtures("own_journal")
def test_a_lost_host_is_waited_for(cold: Path, make_sshd: Any, expect_logins: Any) -> None:
    expect_logins(2)
    host = make_sshd()
    way = ["-F", str(host.config), host.alias]
    child = started("forward", *way, f"localhost:{host.server.port}")
    try:
        assert child.stdout is not None
        assert child.stderr is not None
        line = child.stdout.readline().decode()
        port = int(line.split(" ", 1)[0].rpartition(":")[2])
        assert child.stderr.readline().decode() == "Ctrl-C ends it.\n"
        host.server.stop()
        host.server.kill_sessions()
        assert "was lost; forwarding again" in child.stderr.readline().decode()
        assert child.stderr.readline().decode().endswith(" Trying again.\n")
        host.server.start()

        def greets() -> bool:
            with (
                socket.create_connection(("127.0.0.1", port), timeout=5) as link,
                link.makefile("rb") as file,
            ):
                return file.readline().startswith(b"SSH-2.0-")

        assert until(lambda: _quietly(greets), 60)
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 0
    finally:
        child.kill()
        child.communicate(timeout=20)
        program("logout", *way)


def _quietly(check: Any) -> bool:
    try:
        return bool(check())
    except OSError:
        return False
