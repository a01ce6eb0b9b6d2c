"""``ssh``: git and rsync over the connection that is open, and never over another."""

from __future__ import annotations

import dataclasses
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openssh_jobs import Connection
from openssh_jobs.openssh import guest_command, ssh_arguments
from tests.cli import PROGRAM, program, started, stop_master
from tests.helpers import master_of
from tests.lab import chain
from tests.lab.site import Host

pytest_plugins = ("tests.fixtures",)

_AS_TESTER = {
    f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
}


def words(host: Host, *more: str) -> list[str]:
    """The words of ``ssh`` up to the host."""
    return ["ssh", "--ssh-config", str(host.config), *more, host.alias]


@pytest.fixture
def remote_shell(sshd: Host) -> Iterator[str]:
    """The value of ``GIT_SSH_COMMAND`` and of ``rsync -e``; nobody logs in."""
    before = sshd.logins()
    yield shlex.join([*PROGRAM, *words(sshd)[:-1]])
    assert sshd.logins() == before


def test_git_clones_and_pushes(sshd: Host, remote_shell: str, there: str, tmp_path: Path) -> None:
    """With protocol 2, for which git asks ``ssh -G`` and sends a variable."""
    assert program(*words(sshd), f"git init -q --bare {there}/r").code == 0
    copy = tmp_path / "copy"

    def git(*line: str, **env: str) -> str:
        done = subprocess.run(
            ["git", *line],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, **_AS_TESTER, "GIT_SSH_COMMAND": remote_shell, **env},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    trace = tmp_path / "trace"
    git("clone", "-q", f"{sshd.alias}:{there}/r", str(copy), GIT_TRACE=str(trace))
    assert " -G " in trace.read_text()
    assert "SendEnv=GIT_PROTOCOL" in trace.read_text()
    (copy / "a").write_text("text")
    git("-C", str(copy), "add", "a")
    git("-C", str(copy), "commit", "-qm", "first")
    git("-C", str(copy), "push", "-q", "origin", "HEAD:main")
    url = f"ssh://{sshd.user}@{sshd.alias}/{sshd.home}/{there}/r"
    assert "refs/heads/main" in git("ls-remote", url)


def test_rsync_copies_a_tree(
    sshd: Host, remote_shell: str, there: str, tree: Path, tmp_path: Path
) -> None:
    def rsync(source: str, target: str) -> None:
        line = ["rsync", "-a", "-e", remote_shell, source, target]
        subprocess.run(line, check=True, timeout=60, capture_output=True)

    rsync(f"{tree}/", f"{sshd.alias}:{there}/tree")
    rsync(f"{sshd.user}@{sshd.alias}:{there}/tree/", f"{tmp_path}/back")
    assert (tmp_path / "back" / "inner" / "c.inp").read_text() == "ccc"


def test_streams_and_status_are_those_of_ssh(sshd: Host, remote_shell: str) -> None:
    data = bytes(range(256)) * 4000
    done = subprocess.run(
        [*PROGRAM, *words(sshd, "-T"), "-q", "cat; echo e >&2; exit 7"],
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, data, b"e\n")
    assert program(*words(sshd), "--", "echo", "--json").out == "--json\n"


def test_a_signal_reaches_ssh(sshd: Host) -> None:
    child = started(*words(sshd), "echo ready; cat", stdin=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        assert child.stdout.readline() == b"ready\n"
        name = Path(f"/proc/{child.pid}/comm")
        assert not name.exists() or name.read_text() == "ssh\n"
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) in (-signal.SIGTERM, 255)


@pytest.mark.parametrize(
    "option",
    ["-Oexit", "-M", "-Snone", "-Fnone", "-Jx", "-oProxyCommand=true", "-oControlPath=none"],
)
def test_what_could_leave_the_connection_is_refused(
    sshd: Host, remote_shell: str, option: str
) -> None:
    for line in ([*words(sshd, option), "true"], [*words(sshd), option, "true"]):
        done = program(*line)
        assert (done.code, done.out) == (255, "")
        assert f"openssh-jobs ssh: {option[:2]}" in done.sentence()
        assert "is refused" in done.sentence()


def test_without_a_connection_nothing_dials(
    make_sshd: Callable[..., Host],
    connect: Callable[..., Connection],
    cold: Path,
    expect_logins: Callable[..., None],
    tmp_path: Path,
) -> None:
    """Before there is one; when it ends below a running ssh; and between the look and the ssh.

    The host's name is its address, which an ssh without a configuration could reach, too.
    """
    expect_logins(1)
    host = make_sshd(config_extra="LogLevel VERBOSE")
    config = tmp_path / "config"
    config.write_text(host.config.read_text().replace(f"Host {host.alias}", "Host *"))
    url = f"ssh://{host.user}@{host.server.address}:{host.server.port}"
    host = dataclasses.replace(host, config=config, alias=url)
    done = program(*words(host), "true")
    assert done.code == 255
    assert done.sentence().endswith(f"Type `openssh-jobs login -F {config} {url}`.")
    assert program(*words(host, "-G")).code == program("ssh", "-V").code == 0
    assert chain.connections(host.server) == 0
    link = master_of(connect(host).open()).find()
    assert link is not None
    line = ssh_arguments.read([url, "true"])
    argv = guest_command.arguments(line, ssh_config_file=str(config))
    assert subprocess.run(argv, timeout=20, check=False).returncode == 0
    child = started(*words(host), "echo ready; cat", stdin=subprocess.PIPE)
    assert child.stdout is not None
    with child:
        assert child.stdout.readline() == b"ready\n"
        os.kill(link.pid, signal.SIGKILL)
        assert child.wait(20) == 255
    raced = subprocess.run(argv, timeout=20, capture_output=True, check=False)
    assert raced.returncode == 255
    assert program(*words(host), "true").code == 255
    assert chain.connections(host.server) == 1
    stop_master(host)
