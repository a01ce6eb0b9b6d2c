"""The command line of an ssh on the open connection: what reaches it of the caller's words."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import pytest

from openssh_jobs.errors import ConfigurationError, MasterRequired
from openssh_jobs.openssh import guest, guest_command, ssh_arguments
from openssh_jobs.openssh.destination import Destination
from openssh_jobs.openssh.master import Master
from openssh_jobs.openssh.mux_protocol import Link

SSH = shutil.which("ssh")
pytestmark = pytest.mark.skipif(SSH is None, reason="no ssh here")


def arguments(words: str, ssh_config_file: str | Path | None = None) -> list[str]:
    line = ssh_arguments.read(shlex.split(words))
    file = None if ssh_config_file is None else str(ssh_config_file)
    return guest_command.arguments(line, ssh_config_file=file)


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A configuration for ``h``, whose plain route is the only one with a master."""
    config = tmp_path / "config"
    config.write_text("Host h\n  HostName 192.0.2.1\n  User alice\n  Port 2222\n  SendEnv LANG\n")
    config.chmod(0o600)
    plain = Master(Destination(host="h", ssh_config=str(config))).name

    def find(master: Master) -> Link | None:
        return Link("/run/x%y", os.getpid(), True) if master.name == plain else None

    monkeypatch.setattr(Master, "find", find)
    return config


@pytest.mark.parametrize(
    "words",
    [
        "h",
        "-p 2222 -l alice h",
        "-oPort=2222 alice@h",
        "-o 'Port 2222' ssh://alice@h:2222",
        "-oHostName=192.0.2.1 -4 -C h",
        "-oStrictHostKeyChecking=no -oUserKnownHostsFile=/x h",
    ],
)
def test_the_same_host_and_account_ride_one_connection(only: Path, words: str) -> None:
    guarded = [*guest.arguments("ssh", "/run/x%y"), "-o", "SendEnv=LANG"]
    host = shlex.split(words)[-1]
    argv = arguments(words + " ls '-l  a'", ssh_config_file=only)
    assert [word for word in argv if not word.startswith("EscapeChar=")][: len(guarded)] == guarded
    assert argv[-4:] == [host, "--", "ls", "-l  a"]
    assert {"-F", "none", "ProxyCommand=false", "ControlMaster=no", "/run/x%%y"} <= set(argv)


@pytest.mark.parametrize(
    "words",
    ["-p 22 h", "bob@h", "-l bob h", "-oHostName=192.0.2.2 h", "-i /etc/hostname h", "-oUser=bob h",
     "-oBindAddress=127.0.0.1 h", "-oHostKeyAlias=x h", "-oIdentityFile=other h"],
)  # fmt: skip
def test_another_account_or_key_does_not(only: Path, words: str) -> None:
    with pytest.raises(MasterRequired) as caught:
        arguments(words, ssh_config_file=only)
    assert caught.value.advice is not None
    assert caught.value.advice.startswith(f"Type `openssh-jobs login -F {only} ")


def test_only_the_sessions_options_are_handed_on(only: Path) -> None:
    words = "-tt -q -x -p2222 -oSendEnv=GIT_PROTOCOL -oBatchMode=no -s -c aes128-ctr h sftp"
    argv = arguments(words, ssh_config_file=only)
    at = argv.index("/run/x%%y") + 1
    assert argv[at : at + 5] == ["-t", "-t", "-q", "-oSendEnv=GIT_PROTOCOL", "-s"]
    assert not {"-x", "-p2222", "-oBatchMode=no", "aes128-ctr"} & set(argv)


def test_what_the_real_ssh_answers(only: Path) -> None:
    assert SSH is not None
    assert arguments("-V") == [SSH, "-V"]
    assert arguments("-Q cipher") == [SSH, "-Qcipher"]
    argv = arguments("-G -oSendEnv=X -p 22 other ls -l", ssh_config_file=only)
    assert argv == [SSH, "-F", str(only), "-oSendEnv=X", "-p22", "-G", "other", "--", "ls", "-l"]


@pytest.mark.parametrize("words", ["", "-T", "--", "-", "-- -oProxyCommand=x", "'a b'", "-l -x h"])
def test_what_is_no_host_is_refused(words: str) -> None:
    with pytest.raises(ConfigurationError):
        arguments(words)
