"""What can go wrong with a login: the right error, what to do next, and nothing tried again."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openssh_jobs import Connection
from openssh_jobs.errors import (
    AuthenticationFailed,
    AuthenticationNeeded,
    CommandNotStarted,
    ConfigurationError,
    ConnectError,
    HostKeyChanged,
    HostKeyUnknown,
    HostUnreachable,
    JumpHostFailed,
    Throttled,
)
from openssh_jobs.testing.sshd import free_port
from tests.lab import parts
from tests.lab.site import Host

Expect = Callable[..., None]
Make = Callable[..., Host]

pytest_plugins = ("tests.fixtures",)


# -- what can go wrong with a login ---------------------------------------------------------------


@pytest.fixture
def counting_port() -> Iterator[tuple[int, list[int]]]:
    """A port that closes every connection at once, and counts them."""
    accepted: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                try:
                    client, _ = server.accept()
                except TimeoutError:
                    continue
                accepted.append(1)
                client.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1], accepted
        stop.set()
        thread.join()


def failure(connection: Connection, kind: type[ConnectError]) -> ConnectError:
    """The error of a first use; nothing was sent, and no process is left."""
    with pytest.raises(kind) as caught:
        connection.run("echo never")
    error = caught.value
    assert type(error) is kind
    assert (error.sent, error.host) == ("no", connection.host)
    assert error.advice
    assert error.stderr
    assert not connection.check()
    return error


def test_an_unknown_host(cold: Path) -> None:
    error = failure(Connection("no-such-host.invalid", ssh_config="none"), HostUnreachable)
    assert "does not know this host" in str(error)
    assert "ssh -G no-such-host.invalid" in str(error)


def test_a_closed_port(make_sshd: Make, connect: Callable[..., Connection]) -> None:
    port = free_port()
    error = failure(connect(make_sshd(), port=port), HostUnreachable)
    assert f"port {port} cannot be reached: Connection refused" in str(error)


def test_a_server_that_hangs_up_is_asked_once(
    make_sshd: Make, connect: Callable[..., Connection], counting_port: tuple[int, list[int]]
) -> None:
    port, accepted = counting_port
    connection = connect(make_sshd(), port=port)
    with pytest.raises(ConnectError, match="before it sent anything") as caught:
        connection.run("true")
    assert caught.value.sent == "no"
    assert accepted == [1]


def test_a_server_that_is_full_of_logins_is_throttled_and_reached_later(
    make_sshd: Make, connect: Callable[..., Connection], expect_logins: Callable[..., None]
) -> None:
    """A real MaxStartups 1: a client that never logs in takes the only place."""
    host = make_sshd(max_startups="1:100:1")
    expect_logins(1)
    connection = connect(host)
    with socket.create_connection((host.server.address, host.server.port), 10) as idler:
        assert idler.recv(8) == b"SSH-2.0-"
        with pytest.raises(Throttled) as caught:
            connection.run("true")
        assert caught.value.sent == "no"
        assert host.logins() == 0
    deadline = time.monotonic() + 10
    while True:
        try:
            assert connection.run("echo in").stdout == "in\n"
            break
        except Throttled:
            # sshd takes a moment to see that the place is free.
            assert time.monotonic() < deadline
            time.sleep(1)


def test_a_refused_key(make_sshd: Make, connect: Callable[..., Connection], tmp_path: Path) -> None:
    host = make_sshd()
    key = tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    host.config.write_text(host.server.client_block().replace(str(host.server.identity), str(key)))
    error = failure(connect(host), AuthenticationFailed)
    assert "was refused; the server takes: publickey" in str(error)
    assert f"login -F {host.config} {host.alias}`" in str(error)
    tries = host.server.log_text().count("Connection closed by authenticating user")
    assert tries == 1, "nobody is banned for asking again"


def test_a_password_is_wanted_and_there_is_no_responder(
    make_sshd: Make, connect: Callable[..., Connection], monkeypatch: pytest.MonkeyPatch, cold: Path
) -> None:
    """A display and an askpass program tempt ssh to open a window that nobody sees."""
    asked = cold.parent / "asked"
    askpass = cold.parent / "askpass"
    askpass.write_text(f"#!/bin/sh\necho asked >> {asked}\necho secret\n")
    askpass.chmod(0o755)
    for name, value in {
        "SSH_ASKPASS": str(askpass),
        "SSH_ASKPASS_REQUIRE": "force",
        "DISPLAY": ":9",
    }.items():
        monkeypatch.setenv(name, value)
    host = make_sshd(
        config_extra="PubkeyAuthentication no\nPasswordAuthentication yes\n"
        "AuthenticationMethods password"
    )
    host.config.write_text(
        host.server.client_block().replace("PreferredAuthentications publickey", "")
    )
    error = failure(connect(host), AuthenticationNeeded)
    assert "password" in str(error)
    through = host.config.with_name("through")
    through.write_text(
        host.config.read_text()
        + "Host behind\n    HostName 127.0.0.1\n    Port 9\n"
        + f"    ProxyJump {host.alias}\n"
    )
    with pytest.raises(ConnectError):
        Connection("behind", ssh_config=through).open()
    assert not asked.exists()


def test_an_unknown_host_key(make_sshd: Make, connect: Callable[..., Connection]) -> None:
    host = make_sshd()
    host.server.known_hosts.write_text("")
    error = failure(connect(host), HostKeyUnknown)
    assert "not in known_hosts" in str(error)
    host.config.write_text(
        host.server.client_block().replace("StrictHostKeyChecking yes", "StrictHostKeyChecking ask")
    )
    error = failure(connect(host), HostKeyUnknown)
    assert "not allowed to ask" in str(error)
    assert host.server.known_hosts.read_text() == "", "nothing was accepted on the quiet"


def test_a_changed_host_key(make_sshd: Make, connect: Callable[..., Connection]) -> None:
    host, other = make_sshd(), make_sshd()
    name = host.server.known_hosts.read_text().split(" ", 1)[0]
    key = other.server.known_hosts.read_text().split(" ", 1)[1]
    host.server.known_hosts.write_text(f"{name} {key}")
    error = failure(connect(host), HostKeyChanged)
    assert "ssh-keygen -R" in str(error)


@pytest.mark.parametrize("trouble", ["closed", "unknown", "silent"])
def test_a_jump_host_that_fails(
    make_sshd: Make, connect: Callable[..., Connection], trouble: str
) -> None:
    host = make_sshd()
    port = free_port()
    jump = {"closed": "127.0.0.1", "unknown": "no-such-gate.invalid", "silent": "127.0.0.1"}
    host.config.write_text(
        host.server.client_block(extra=["ProxyJump gate"])
        + f"Host gate\n    HostName {jump[trouble]}\n    Port {port}\n"
    )
    if trouble == "silent":
        with socket.create_server(("127.0.0.1", port)):
            error = failure(connect(host, connect_timeout=1), JumpHostFailed)
    else:
        error = failure(connect(host), JumpHostFailed)
    assert "jump host" in str(error)
    # With ControlPersist ssh throws away what the inner ssh says, unless it is started by us.
    reason = {
        "closed": f"127.0.0.1 port {port} cannot be reached: Connection refused",
        "unknown": "could not resolve hostname no-such-gate.invalid",
        "silent": "jump host",
    }
    assert reason[trouble] in str(error)


def test_a_host_that_never_answers(make_sshd: Make, connect: Callable[..., Connection]) -> None:
    host = make_sshd()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        error = failure(connect(host, port=port, connect_timeout=1), HostUnreachable)
    assert "does not answer" in str(error)


def test_a_broken_line_of_the_configuration(make_sshd: Make, cold: Path) -> None:
    host = make_sshd()
    with host.config.open("a") as config:
        config.write("NoSuchKeyword yes\n")
    with pytest.raises(ConfigurationError, match="nosuchkeyword") as caught:
        Connection(host.alias, ssh_config=host.config).run("true")
    assert caught.value.sent == "no"


@pytest.fixture
def pam_account() -> Iterator[None]:
    """PAM looks whether the account is open; afterwards it is as before."""
    parts.require_namespaces("PAM")
    service, shadow = Path("/etc/pam.d/sshd"), Path("/etc/shadow")
    before = {path: path.read_text() for path in (service, shadow) if path.exists()}
    service.write_text("account required pam_unix.so\nsession required pam_permit.so\n")
    yield
    service.unlink()
    for path, text in before.items():
        path.write_text(text)


def test_an_account_that_pam_has_closed(
    pam_account: None, make_sshd: Make, connect: Callable[..., Connection]
) -> None:
    """Only the server's banner says so: the advice leads there."""
    host = make_sshd(config_extra="UsePAM yes\n")
    subprocess.run(["chage", "-E", "1", host.user], check=True, timeout=20)
    error = failure(connect(host), Throttled)
    assert "expired" in str(error)
    assert f"ssh -v {host.alias}" in str(error)


def test_a_password_that_has_to_be_changed(
    pam_account: None, make_sshd: Make, connect: Callable[..., Connection], expect_logins: Expect
) -> None:
    """sshd looks at the login only: for an open connection it stays expired."""
    host = make_sshd(config_extra="UsePAM yes\n")
    subprocess.run(["chage", "-d", "0", host.user], check=True, timeout=20)
    expect_logins(2)
    with connect(host) as c:
        with pytest.raises(CommandNotStarted, match="Your password has expired") as caught:
            c.run("true")
        assert f"openssh-jobs logout {host.alias}" in str(caught.value)
        subprocess.run(["chage", "-d", "20000", host.user], check=True, timeout=20)
        with pytest.raises(CommandNotStarted):
            c.run("true")
        c.close(stop_master=True)
    with connect(host) as c:
        assert c.run("echo in").stdout == "in\n"
        c.close(stop_master=True)
