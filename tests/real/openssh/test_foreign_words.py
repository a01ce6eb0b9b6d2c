"""Servers that say what ssh would say: nobody is fooled, and the gate stays closed.  Counted there.

The lies come in banners, in questions, in disconnects, before the version; from the host and from
jump hosts.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection, errors
from tests.cli import program
from tests.lab.interactive import MakeServer, config_of
from tests.real.openssh.lies import (
    ALL,
    LIES,
    SECRET,
    Make,
    Mute,
    key_exchange,
    refusals,
    stranger,
    tries,
)

# -- banners ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lie", [*LIES, "all"])
def test_a_banner_is_not_believed_when_a_key_is_refused(
    make_sshd: Make, cold: Path, tmp_path: Path, lie: str
) -> None:
    host = make_sshd(banner=f"Welcome.\n{LIES.get(lie, ALL)}\n")
    stranger(host, tmp_path)
    for error in tries(host.config, host.alias, 3):
        assert type(error) is errors.AuthenticationFailed, str(error)
        assert f"{host.user}@127.0.0.1 was refused" in str(error)
        assert "Welcome" not in str(error) + error.stderr
    assert refusals(host) == 1


def test_a_banner_does_not_break_a_login(
    make_sshd: Make, cold: Path, expect_logins: Callable[..., None]
) -> None:
    expect_logins(1)
    host = make_sshd(banner=ALL)
    with Connection(host.alias, ssh_config=host.config) as connection:
        assert connection.run("echo in").stdout == "in\n"
        connection.close(stop_master=True)


@pytest.mark.parametrize(
    "levels",
    [
        "LogLevel QUIET",
        "LogLevel FATAL",
        "LogLevel ERROR",
        "LogLevel DEBUG3",
        "LogLevel QUIET\nLogVerbose *:*\nSyslogFacility LOCAL7",
    ],
)
def test_the_users_log_level_does_not_hide_the_reason(
    make_sshd: Make, cold: Path, tmp_path: Path, levels: str
) -> None:
    host = make_sshd(banner=ALL)
    stranger(host, tmp_path)
    host.config.write_text(f"{levels}\n" + host.config.read_text())
    (error, again) = tries(host.config, host.alias, 2)
    assert type(error) is type(again) is errors.AuthenticationFailed, str(error)
    assert "was refused; the server takes: publickey" in str(error)
    assert refusals(host) == 1


@pytest.mark.parametrize("lie", ["denied", "key", "name", "disconnect", "startups", "all"])
@pytest.mark.parametrize("level", ["INFO", "QUIET"])
def test_a_jump_hosts_banner_is_not_believed(
    cold: Path, asking: MakeServer, lie: str, level: str
) -> None:
    gate = asking(
        "gate", password_right=SECRET, address="127.0.0.2", banner=LIES.get(lie, ALL) + "\n"
    )
    host = asking("asks", password_right=SECRET)
    path = cold.parent / "config"
    path.write_text(f"LogLevel {level}\n" + gate.config() + host.config("ProxyJump gate"))
    for error in tries(path, "asks", 3):
        assert type(error) is errors.AuthenticationNeeded, str(error)
        assert "the jump host gate (alice@127.0.0.2) asks for a password" in str(error)
    assert (gate.counts["connections"], host.counts["connections"]) == (1, 0)


def test_errors_of_the_first_of_several_jump_hosts_are_read_too(
    cold: Path, make_sshd: Make
) -> None:
    """Three hops; the first cannot be reached, the configuration is quiet, the others lie."""
    host = make_sshd(banner=ALL)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    host.config.write_text(
        "LogLevel QUIET\n"
        + host.server.client_block(extra=["ProxyJump first,second,third"])
        + f"Host first second third\n    HostName 127.0.0.1\n    Port {port}\n"
    )
    (error,) = tries(host.config, host.alias, 1)
    assert type(error) is errors.JumpHostFailed
    assert f"127.0.0.1 port {port} cannot be reached: Connection refused" in str(error)


def test_a_proxy_commands_words_are_not_believed(
    make_sshd: Make, cold: Path, tmp_path: Path
) -> None:
    host = make_sshd()
    words = tmp_path / "words"
    words.write_text(ALL + "\n")
    host.config.write_text(
        host.server.client_block(extra=[f"ProxyCommand /bin/sh -c 'cat {words} >&2; exit 1'"])
    )
    (error,) = tries(host.config, host.alias, 1)
    assert type(error) is errors.JumpHostFailed
    assert "proxy command ended without a connection" in str(error)


# -- what a server says by the protocol ---------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        ALL.replace("\n", "\r\n").encode() + b"\r\n",
        ALL.replace("\n", "\r\n").encode() + b"\r\nSSH-2.0-Host key verification failed.\r\n",
        b"SSH-2.0-Permission denied (publickey).\r\n",
        b"SSH-1.0-\x1b[31mred\r\n",
    ],
    ids=["text", "text and version", "version", "old version"],
)
def test_what_comes_before_the_version_is_not_believed(cold: Path, said: bytes) -> None:
    server = Mute(said)
    config = cold.parent / "config"
    config.write_text(f"Host m\n    HostName 127.0.0.1\n    Port {server.port}\n")
    try:
        for _ in range(5):
            (error,) = tries(config, "m", 1)
            assert type(error) in (errors.Throttled, errors.ConnectError), str(error)
            assert str(error).isprintable()
        assert server.dials <= 2
    finally:
        server.stop()


@pytest.mark.parametrize("lie", ["key", "network", "proxy", "too many", "all"])
def test_the_algorithms_of_a_server_are_not_believed(cold: Path, lie: str) -> None:
    """ssh prints the newlines in them: the last line is the server's."""
    server = Mute(key_exchange(f"x\n{LIES.get(lie, ALL)[:900]}".encode()))
    config = cold.parent / "config"
    config.write_text(f"Host m\n    HostName 127.0.0.1\n    Port {server.port}\n")
    try:
        for error in tries(config, "m", 2):
            assert type(error) is errors.ConnectError, str(error)
            assert "nothing in common: no matching key exchange method found" in str(error)
        assert server.dials == 1
    finally:
        server.stop()


@pytest.mark.parametrize("lie", ["key", "network", "closed", "all"])
def test_the_methods_of_a_server_are_not_believed(
    cold: Path, asking: MakeServer, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    import asyncssh.connection
    from asyncssh.packet import Boolean, NameList

    def refuse(self: Any, partial: bool) -> None:
        self._auth = None
        lies = f"x).\n{LIES.get(lie, ALL)[:900]}".encode()
        self.send_packet(51, NameList([b"hostbased", lies]), Boolean(partial))

    connection = asyncssh.connection.SSHServerConnection
    monkeypatch.setattr(connection, "send_userauth_failure", refuse)
    host = asking(password_right=SECRET)
    config = config_of(cold, host)
    for error in tries(config, "asks", 2):
        # There is no key here.
        assert type(error) is errors.AuthenticationNeeded, str(error)
    assert host.counts["connections"] == 1


@pytest.mark.parametrize("number", [2, 11, 14])
@pytest.mark.parametrize(
    "text",
    [
        "Go away.\r\nHost key verification failed.\r\nssh: connect to host x port 22: No route",
        "\x1b]0;owned\x07\u202e penalties",
    ],
)
def test_the_text_of_a_disconnect_decides_nothing(
    cold: Path, asking: MakeServer, monkeypatch: pytest.MonkeyPatch, number: int, text: str
) -> None:
    from tests.lab import interactive

    def leave(self: Any, username: str) -> bool:
        self._server._links[-1].disconnect(number, text)
        return True

    monkeypatch.setattr(interactive._Door, "begin_auth", leave)
    host = asking(password_right=SECRET)
    config = config_of(cold, host)
    for error in tries(config, "asks", 3):
        assert type(error) is errors.ConnectError, str(error)
        assert "the server ended the login, saying: " in str(error)
        assert str(error).isprintable()
    assert host.counts["connections"] == 1


def test_too_many_keys_is_said_by_the_protocol_and_tried_once(
    make_sshd: Make, cold: Path, tmp_path: Path
) -> None:
    host = make_sshd(config_extra="MaxAuthTries 1", banner=ALL)
    stranger(host, tmp_path)
    other = tmp_path / "other"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True, timeout=20
    )
    host.config.write_text(host.config.read_text() + f"    IdentityFile {other}\n")
    for error in tries(host.config, host.alias, 3):
        assert type(error) is errors.TooManyKeys, str(error)
    assert refusals(host) == 1


# -- what may pass ------------------------------------------------------------------------------


def test_a_host_that_cannot_be_reached_is_dialed_less_and_less(cold: Path) -> None:
    server = Mute(b"")
    config = cold.parent / "config"
    config.write_text(f"Host m\n    HostName 127.0.0.1\n    Port {server.port}\n")
    try:
        until, calls = time.monotonic() + 6, 0
        while time.monotonic() < until:
            (error,) = tries(config, "m", 1)
            assert type(error) is errors.Throttled
            calls += 1
            time.sleep(0.1)
        assert calls > 10
        assert 2 <= server.dials <= 3  # after 0, 1 and 3 s
        assert "not tried again before" in str(error)
    finally:
        server.stop()


# -- a changed host key -------------------------------------------------------------------------


def test_a_changed_key_is_shown_with_the_command_that_mends_it(
    make_sshd: Make, cold: Path, expect_logins: Callable[..., None]
) -> None:
    expect_logins(1)
    host, other = make_sshd(banner=ALL), make_sshd()
    right = host.server.known_hosts.read_text()
    key = other.server.known_hosts.read_text().split(" ", 1)[1]
    host.server.known_hosts.write_text(f"# first\n{right.split(' ', 1)[0]} {key}")
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", "-"], input=right.split(" ", 1)[1], capture_output=True,
        text=True, timeout=20, check=True,
    ).stdout.split()[1]  # fmt: skip
    (error, again) = tries(host.config, host.alias, 2)
    assert type(error) is type(again) is errors.HostKeyChanged
    for text in (f"{host.server.known_hosts} line 2", shown, "ED25519"):
        assert text in str(error)
    last = program("doctor", "-F", str(host.config), host.alias, "--json").data["findings"][-1]
    assert (last["check"], last["level"], last["mend"]) == ("login", "FAIL", error.advice)
    assert last["text"].startswith(error.message)
    command = str(error.advice).split("`")[1]
    assert command.startswith("ssh-keygen -R ")
    # Nothing is dialed again until known_hosts has changed, and then it is.
    assert refusals(host) == 1
    subprocess.run(["/bin/sh", "-c", command], check=True, timeout=20, capture_output=True)
    assert host.server.known_hosts.read_text() == "# first\n"
    host.server.known_hosts.write_text(right)
    with Connection(host.alias, ssh_config=host.config) as connection:
        assert connection.run("echo in").stdout == "in\n"
        connection.close(stop_master=True)
