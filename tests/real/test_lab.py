"""The lab itself: what the other tests stand on has to be what it says it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import until
from tests.lab import leaks, namespaces, parts
from tests.lab.site import Host, Site
from tests.lab.slurm import SlurmLab
from tests.paths import CHECKOUT


def ssh(host: Host, command: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ssh", "-F", host.config, "-o", "BatchMode=yes", *options, host.alias, command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_login_is_counted_once_and_lives_in_its_home(
    site: Site, route: str, expect_logins: Callable[..., None]
) -> None:
    host = site.host(route)
    before = host.logins()
    expect_logins(1)
    done = ssh(host, "pwd; echo $HOME; id -un")
    assert done.stdout.splitlines() == [str(host.home), str(host.home), host.user]
    assert host.logins() == before + 1


def test_the_agent_alone_opens_the_jump(site: Site, expect_logins: Callable[..., None]) -> None:
    host = site.host("jump")
    private = [path for path in site.directory.glob("agent_key*") if path.suffix != ".pub"]
    assert private == []
    assert len(site.agent.keys()) == 1
    # The option reaches the inner hop only; the bastion lets us pass.
    expect_logins(0, bastions=1)
    refused = ssh(host, "true", "-o", "IdentityAgent=none")
    assert refused.returncode == 255
    assert "Permission denied (publickey)" in refused.stderr


def test_the_inner_server_is_behind_the_bastion(site: Site) -> None:
    parts.require_namespaces("an unreachable login node")
    done = ssh(site.host("jump"), "true", "-o", "ProxyJump=none", "-o", "ConnectTimeout=3")
    assert done.returncode == 255
    assert "Network is unreachable" in done.stderr


def test_nothing_of_the_machine_is_within_reach(site: Site) -> None:
    parts.require_namespaces("the lab")
    assert os.listdir("/sys/fs/cgroup") == []
    interfaces = [name for name in os.listdir("/sys/class/net") if not name.startswith("oj")]
    # /sys is the machine's, its view of the network ours where it was mounted again.
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True)
    seen = {line.split("@")[0].split()[0] for line in links.stdout.splitlines()}
    assert seen - {"lo", "oja0", "ojc0"} == set(), interfaces


@pytest.mark.parametrize(
    ("shell", "its_pid"), [("dash", "$$"), ("tcsh", "$$"), ("fish", "$fish_pid")]
)
def test_another_login_shell(
    make_sshd: Callable[..., Host], expect_logins: Callable[..., None], shell: str, its_pid: str
) -> None:
    parts.require(shell)
    host = make_sshd(shell=(shell,))
    expect_logins(1)
    done = ssh(host, f"readlink /proc/{its_pid}/exe; pwd; echo end")
    program, directory, end = done.stdout.splitlines()
    assert Path(program).name == Path(shutil.which(shell) or "").resolve().name
    assert (directory, end) == (str(host.home), "end")


def test_noisy_rc_banner_and_no_sftp(
    make_sshd: Callable[..., Host], expect_logins: Callable[..., None]
) -> None:
    host = make_sshd(files={".bashrc": "echo noise\n"}, banner="Welcome\n", sftp=False)
    expect_logins(2)
    done = ssh(host, "echo said")
    assert set(done.stdout.splitlines()) == {"noise", "said"}
    assert done.stderr == "Welcome\n"
    sftp = subprocess.run(
        ["sftp", "-F", host.config, "-b", "-", host.alias],
        input="pwd\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert sftp.returncode == 255
    assert "subsystem request failed" in sftp.stderr


def test_max_sessions(
    make_sshd: Callable[..., Host], cold: Path, expect_logins: Callable[..., None]
) -> None:
    host = make_sshd(max_sessions=1)
    expect_logins(1)
    control = ["ssh", "-F", str(host.config), "-S", str(cold / "m")]
    subprocess.run([*control, "-M", "-f", "-N", host.alias], check=True, timeout=30)
    guard = ["-o", "ProxyCommand=false"]
    holder = [*control, *guard, host.alias, "echo up; cat"]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == b"up\n"
        refused = subprocess.run(
            [*control, *guard, host.alias, "true"], capture_output=True, text=True, timeout=30
        )
    subprocess.run([*control, "-O", "exit", host.alias], capture_output=True, timeout=30)
    assert "Session open refused by peer" in refused.stderr


def test_a_restart_leaves_connections_alone_and_a_kill_ends_them(
    make_sshd: Callable[..., Host], expect_logins: Callable[..., None]
) -> None:
    host = make_sshd()
    expect_logins(1)
    command = ["ssh", "-F", str(host.config), host.alias, "echo up; cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        old = host.server.pid
        host.server.restart()
        assert host.server.pid != old
        client.stdin.write(b"still here\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"still here\n"
        assert host.server.kill_sessions()
        assert client.wait(10) == 255


def test_a_stopped_server_takes_its_leftovers_along(
    make_sshd: Callable[..., Host], expect_logins: Callable[..., None]
) -> None:
    host = make_sshd()
    expect_logins(1)
    done = ssh(host, "setsid sleep 300 </dev/null >/dev/null 2>&1 & echo $!")
    assert done.returncode == 0
    # The session's own shell may be there for a moment more.
    assert until(lambda: len(host.server.remains()) == 1)
    host.server.stop()
    assert host.server.remains() == []


def test_a_link_can_be_cut_and_mended(site: Site, expect_logins: Callable[..., None]) -> None:
    parts.require_namespaces("a cable")
    assert site.network is not None
    quick = ("-o", "ConnectTimeout=1", "-o", "ConnectionAttempts=1")
    expect_logins(2)
    site.network.direct_cable.cut()
    assert ssh(site.host("direct"), "true", *quick).returncode == 255
    site.network.direct_cable.mend()
    assert ssh(site.host("direct"), "true").returncode == 0
    site.network.login.swallow("10.88.3.1")
    assert "timed out" in ssh(site.host("direct"), "true", *quick).stderr
    site.network.login.swallow_no_more("10.88.3.1")
    assert ssh(site.host("direct"), "true").returncode == 0


def test_a_job_goes_through_slurm(
    site: Site, slurm: SlurmLab, route: str, expect_logins: Callable[..., None]
) -> None:
    expect_logins(1)
    script = r"printf '#!/bin/sh\nid -un; exit 3\n' > lab.sh; sbatch --parsable --wait lab.sh"
    done = ssh(site.host(route), script)
    assert done.returncode == 3, done.stderr
    job = done.stdout.strip()
    assert job.isdigit()
    assert (site.host(route).home / f"slurm-{job}.out").read_text() == "hpcalice\n"
    assert "JobState=FAILED" in slurm.command("scontrol", "show", "job", job)


def test_the_controller_and_a_node_can_go_and_come_back(slurm: SlurmLab) -> None:
    slurm.controller.stop()
    assert "DOWN" in slurm.command("scontrol", "ping", check=False)
    slurm.controller.start()
    slurm.wait_until_ready()
    assert "UP" in slurm.command("scontrol", "ping")
    slurm.nodes["n2"].stop()
    assert not slurm.nodes["n2"].running()
    slurm.nodes["n2"].start()
    slurm.wait_until_ready()
    assert slurm.command("squeue", "-h") == ""


@pytest.mark.parametrize("claim", ["nothing", "none", "/run/lab"])
@pytest.mark.parametrize("what", ["slurm.SlurmLab", "gridengine.GridEngineLab"])
def test_schedulers_are_refused_outside(claim: str, what: str) -> None:
    environment = {"PATH": os.environ["PATH"]}
    if claim != "nothing":
        environment[namespaces.MARK] = claim
    module, name = what.split(".")
    code = f"from tests.lab.{module} import {name}; {name}(None, None)"
    # Outside of the lab process 1 is not ours; a namespace more is as far away as the machine is.
    outside = ["unshare", "--pid", "--fork", "--mount-proc"] if namespaces.inside() else []
    done = subprocess.run(
        [*outside, sys.executable, "-c", code],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "only ever started in the lab's own namespaces" in done.stderr


def test_a_left_process_is_found(lab_directory: Path) -> None:
    with subprocess.Popen(["sleep", "300"], env={"HOME": f"{lab_directory}/me"}) as child:
        # For a moment after its start a program has no command line yet.
        deadline = time.monotonic() + 10
        found: list[str] = []
        while f"{child.pid} sleep 300" not in found and time.monotonic() < deadline:
            found = [line.strip() for line in leaks.processes(lab_directory)]
        child.kill()
    assert f"{child.pid} sleep 300" in found


def lab(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.lab.lab", *arguments],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def test_scripts_lab_comes_up_and_leaves_nothing(lab_directory: Path) -> None:
    parts.require("ssh", "sshd")
    before = leaks.processes(lab_directory)
    try:
        said = lab("up")
        config = said.split()[2]
        for alias in ("direct", "inner"):
            assert lab("run", "ssh", "-F", config, alias, "echo there") == "there\n"
        record = json.loads(lab("capture", "direct/001-echo", "echo there; exit 3"))
        assert (record["id"], record["scheduler"]) == ("direct/001-echo", "direct")
        assert (record["stdout"], record["returncode"]) == ("there\n", 3)
        if namespaces.inside():
            script = "sbatch --parsable --wrap 'echo done'"
            assert lab("run", "ssh", "-F", config, "direct", script).strip() == "1"
            if parts.missing("gridengine") is None:
                settings = said.partition("on the login node: ")[2].splitlines()[0]
                script = f"{settings}; echo true | qsub -terse"
                assert lab("run", "ssh", "-F", config, "direct", script).strip() == "1"
        assert lab("up").startswith("The lab is up already")
    finally:
        lab("down")
    assert leaks.wait_for_processes(lab_directory) == before
    assert list(Path(tempfile.gettempdir()).glob("oj-lab-*")) == []
    assert lab("status", check=False).startswith("The lab is down")


def test_the_test_command_installs_every_part() -> None:
    script = (CHECKOUT / "scripts" / "test").read_text()
    installed = set(script.split("need_packages", 1)[1].split("need_environment")[0].split())
    for part, (_, packages) in parts.PARTS.items():
        assert set(packages) <= installed, part
