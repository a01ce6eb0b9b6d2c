"""Any login shell, however noisy or odd: commands, the control shell and files all the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from openssh_jobs import Connection
from openssh_jobs.errors import CommandFailed, CommandNotStarted, CommandTimeout, OpenSSHJobsError
from tests.helpers import Backend, processes
from tests.lab import parts
from tests.lab.site import Host

WORDS = ["a b", "it's", "!!", "!x", "$HOME", "`id`", "\\", "\\\\n", "a\nb", "%d", "*", "~", "ä"]

NOISE = "echo noise on stdout\necho noise on stderr >&2\n"


def _as_login_shell(shell: str) -> tuple[str, ...]:
    """The forced command that makes a shell the login shell, SHELL included."""
    return ("env", f"SHELL=$(command -v {shell})", shell)


@pytest.mark.parametrize("shell", ["bash", "dash", "tcsh", "fish"])
def test_every_lane_through_a_login_shell(
    make_sshd: Callable[..., Host],
    cold: Path,
    expect_logins: Callable[..., None],
    backend: Backend,
    shell: str,
) -> None:
    if shell != "bash":
        parts.require(shell)
    host = make_sshd(shell=_as_login_shell(shell))
    expect_logins(1)
    with Connection(host.alias, ssh_config=host.config, exec_backend=backend) as c:
        try:
            for _ in range(2):  # once before it is known what the shell is, once after
                assert c.run(["printf", r"%s\0", *WORDS]).stdout.split("\0")[:-1] == WORDS
                assert c.run("kill -9 $$").returncode == 137
                assert c.run("kill -9 $$").stderr == ""
                assert c.run("exit 255").returncode == 255
                long = "x=0\n" * 50_000 + "echo $x"
                assert c.run(long).stdout == "0\n"
            assert c.run("cat; echo $A", input="in", env={"A": "a 'b'"}).stdout == "ina 'b'\n"
            with pytest.raises(CommandTimeout) as caught:
                c.run("sleep 314159; true", timeout=0.5)
            assert caught.value.confirmed
            assert processes("314159") == []
            assert c.write_text("f !$ 'x", "text") == 4
            assert c.listdir("~/") == ["f !$ 'x"] or "f !$ 'x" in c.listdir("~/")
            assert c.read_text("f !$ 'x") == "text"
        finally:
            c.close(stop_master=True)


@pytest.mark.parametrize("shell", ["bash", "dash", "tcsh", "fish"])
def test_the_login_shell_itself(
    make_sshd: Callable[..., Host],
    cold: Path,
    expect_logins: Callable[..., None],
    backend: Backend,
    shell: str,
) -> None:
    """What a login sets up is there; script, status, directory and environment are as ever."""
    if shell != "bash":
        parts.require(shell)
    files = {
        ".profile": "export MODULES=loaded\necho noise\n",
        ".login": "setenv MODULES loaded\necho noise\n",
        ".config/fish/config.fish": "if status is-login\nset -x MODULES loaded\necho noise\nend\n",
    }
    host = make_sshd(shell=_as_login_shell(shell), files=files)
    expect_logins(1)
    with Connection(host.alias, ssh_config=host.config, exec_backend=backend) as c:
        try:
            assert c.run("echo [$MODULES]").stdout == "[]\n"
            result = c.run("echo [$MODULES]; echo err >&2; exit 7", login_shell=True)
            assert (result.returncode, result.stdout) == (7, "[loaded]\n")
            assert "err\n" in result.stderr
            result = c.run(
                'pwd; echo "$MODULES $A"', cwd="/usr", env={"A": "it's !x $HOME"}, login_shell=True
            )
            assert result.stdout == "/usr\nloaded it's !x $HOME\n"
            assert c.run(["printf", r"%s\0", *WORDS], login_shell=True).stdout.split("\0")[:-1] == (
                WORDS
            )
            data = "through\n" * 100_000
            assert c.run("cat", input=data, login_shell=True).stdout == data
            with c.popen("read line; echo $line; exit 5", login_shell=True) as process:
                assert process.stdin is not None
                process.stdin.write("first\n")
                assert process.wait(timeout=20) == 5, "though its stdin is open"
                assert process.stdout is not None
                assert process.stdout.read() == "first\n"
            with pytest.raises(FileNotFoundError):
                c.run("true", cwd="/no/such", login_shell=True)
        finally:
            c.close(stop_master=True)


@pytest.mark.parametrize("shell", ["bash", "tcsh", "fish"])
def test_noisy_rc_files(
    make_sshd: Callable[..., Host],
    cold: Path,
    expect_logins: Callable[..., None],
    backend: Backend,
    shell: str,
) -> None:
    if shell != "bash":
        parts.require(shell)
    noise = "echo noise on stdout\n"
    host = make_sshd(
        shell=_as_login_shell(shell),
        files={".bashrc": NOISE, ".cshrc": noise, ".config/fish/config.fish": noise},
        banner="Authorised use only: Permission denied (publickey).\n",
    )
    expect_logins(1)
    with Connection(host.alias, ssh_config=host.config, exec_backend=backend) as c:
        try:
            result = c.run("echo payload; cat", input="in")
            assert result.stdout == "payload\nin"
            with c.popen("cat") as process:
                assert process.communicate("talk", timeout=20)[0] == "talk"
            host.make("file", b"content")
            assert c.read_bytes("file") == b"content"
            source = cold / "tree"
            (source / "sub").mkdir(parents=True)
            (source / "sub" / "file").write_bytes(os.urandom(5000))
            # sftp cannot live with noise, so files take the other way.
            assert c.put(source / "sub" / "file", "copied").bytes == 5000
            assert c.put(source, "there").files == 1
            assert c.get("there", cold / "back").files == 1
            assert (cold / "back/sub/file").read_bytes() == (source / "sub/file").read_bytes()
            with pytest.raises(OpenSSHJobsError, match="sftp"):
                c.put(source / "sub" / "file", "copied", method="sftp")
        finally:
            c.close(stop_master=True)


def test_a_login_shell_that_moves_and_fails(
    make_sshd: Callable[..., Host], cold: Path, expect_logins: Callable[..., None], backend: Backend
) -> None:
    """``cd`` in an rc file moves nobody, and the status of the rc file is nobody's."""
    host = make_sshd(files={".bashrc": "cd /usr\nfalse\n"})
    expect_logins(1)
    with Connection(host.alias, ssh_config=host.config, exec_backend=backend) as c:
        try:
            assert c.run("pwd; exit 0").stdout in (f"{host.home}\n", "/usr\n")
            assert c.run("pwd", cwd="~/").stdout == f"{host.home}\n"
            c.write_text("~/here", "x")
            assert (host.home / "here").read_text() == "x"
        finally:
            c.close(stop_master=True)


def test_an_account_without_a_shell(
    make_sshd: Callable[..., Host], cold: Path, expect_logins: Callable[..., None], backend: Backend
) -> None:
    refusal = "ForceCommand echo 'This account is not available.'; exit 1"
    host = make_sshd(config_extra=refusal)
    expect_logins(1)
    with Connection(host.alias, ssh_config=host.config, exec_backend=backend) as c:
        try:
            with pytest.raises(CommandFailed, match="This account is not available") as caught:
                c.run("echo ran")
            assert isinstance(caught.value, CommandNotStarted)
            assert caught.value.returncode == 1
            with pytest.raises(CommandNotStarted, match="This account is not available"):
                c.exists("/")
        finally:
            c.close(stop_master=True)
