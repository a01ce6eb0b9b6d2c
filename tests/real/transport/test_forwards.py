"""Ports over the master, both ways, each way to the login node."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection, errors
from tests.cli import program, started
from tests.lab.site import Host

LISTEN = """\
import socket
with socket.create_server((%r, 0)) as server:
    print(server.getsockname()[1], flush=True)
    while True:
        link, _ = server.accept()
        with link:
            link.sendall(b"over there: " + link.recv(100))
"""


@contextlib.contextmanager
def service_there(connection: Connection, address: str = "127.0.0.1") -> Iterator[int]:
    """A service on the host; gives its port there."""
    process = connection.popen(["python3", "-c", LISTEN % address])
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait(20)


@contextlib.contextmanager
def service_here() -> Iterator[int]:
    """A service in this process."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    link, _ = server.accept()
                    with link:
                        link.sendall(b"over here: " + link.recv(100))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def talk(port: int, text: str, address: str = "127.0.0.1") -> str:
    """Say something to a port here; what comes back."""
    with socket.create_connection((address, port), timeout=10) as link:
        link.sendall(text.encode())
        link.settimeout(10)
        return link.recv(100).decode()


def listens(port: int, address: str = "127.0.0.1") -> bool:
    try:
        socket.create_connection((address, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


# -- the library --------------------------------------------------------------------------------


def test_a_port_of_the_host_is_a_port_here(connection: Connection) -> None:
    with service_there(connection) as there, connection.forward_local(there) as forward:
        assert forward.remote_port == there
        assert forward.alive
        assert talk(forward.local_port, "hello") == "over there: hello"
        assert talk(forward.local_port, "again") == "over there: again"
    assert not forward.alive
    assert not listens(forward.local_port)


def test_many_forwards_get_ports_of_their_own(connection: Connection) -> None:
    with service_there(connection) as there, contextlib.ExitStack() as stack:
        made = [stack.enter_context(connection.forward_local(there)) for _ in range(8)]
        assert len({one.local_port for one in made}) == 8
        for one in made:
            assert talk(one.local_port, "x") == "over there: x"


def test_a_chosen_port_and_address_here(connection: Connection) -> None:
    with socket.create_server(("127.0.0.5", 0)) as probe:
        port = probe.getsockname()[1]
    with service_there(connection) as there:
        with connection.forward_local(
            there, port, remote_host="127.0.0.1", local_host="127.0.0.5"
        ) as forward:
            assert forward.local_port == port
            assert talk(port, "x", "127.0.0.5") == "over there: x"
            assert not listens(port, "127.0.0.1")
        # The same again: nothing of the first is in the way.
        with connection.forward_local(there, port, local_host="127.0.0.5"):
            assert talk(port, "y", "127.0.0.5") == "over there: y"


def test_a_port_that_is_taken_here_is_named(connection: Connection) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(errors.ConnectError, match=f"local port {port} on 127.0.0.1 is in use"):
            connection.forward_local(80, port)


def test_the_same_port_twice_is_refused_and_the_first_one_stays(connection: Connection) -> None:
    """To ssh the second would be the first once more, and the first one to leave would end both."""
    with service_there(connection) as there, connection.forward_local(there) as forward:
        with pytest.raises(errors.ConnectError, match="is in use"):
            connection.forward_local(there, forward.local_port)
        assert talk(forward.local_port, "x") == "over there: x"


def test_a_port_here_is_a_port_of_the_host(connection: Connection) -> None:
    with service_here() as here, connection.forward_remote(0, here) as forward:
        assert forward.remote_port > 0
        assert forward.local_port == here
        said = connection.run(ask_there(forward.remote_port))
        assert said.stdout == "over here: hello"
    assert connection.run(ask_there(forward.remote_port)).returncode != 0


def ask_there(port: int) -> list[str]:
    code = (
        "import socket, sys\n"
        f"link = socket.create_connection(('127.0.0.1', {port}), timeout=10)\n"
        "link.sendall(b'hello')\n"
        "sys.stdout.write(link.recv(100).decode())\n"
    )
    return ["python3", "-c", code]


def test_a_port_that_is_taken_there_is_named(connection: Connection) -> None:
    with (
        service_there(connection) as there,
        pytest.raises(errors.ConnectError, match=f"does not listen on port {there}"),
    ):
        connection.forward_remote(there, 9)


@pytest.mark.parametrize(
    "arguments",
    [(0,), (-1,), (65536,), (True,), ("80",), (80, 0), (80, 70000)],
)
def test_what_is_no_port_is_refused(connection: Connection, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(errors.ConfigurationError, match="must be a number from"):
        connection.forward_local(*arguments)


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "a\0b"])
def test_what_is_no_host_is_refused(connection: Connection, name: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="not a host name"):
        connection.forward_local(80, remote_host=name)


def test_a_forward_of_a_lost_master_is_over(cold: Path, make_sshd: Any, expect_logins: Any) -> None:
    expect_logins(1)
    host = make_sshd()
    connection = Connection(host.alias, ssh_config=host.config)
    with connection.forward_local(22) as forward:
        master = connection.check().master
        assert master is not None
        os.kill(master, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while forward.alive:
            assert time.monotonic() < deadline
    assert not listens(forward.local_port)


# -- the command --------------------------------------------------------------------------------


def test_the_command_forwards_until_ctrl_c(sshd: Host) -> None:
    connection = Connection(sshd.alias, ssh_config=sshd.config)
    with service_there(connection) as there:
        child = started("forward", "-F", str(sshd.config), sshd.alias, f"localhost:{there}")
        try:
            assert child.stdout is not None
            line = child.stdout.readline().decode()
            assert line.endswith(f" leads to localhost:{there} as {sshd.alias} sees it\n")
            port = int(line.split(" ", 1)[0].rpartition(":")[2])
            assert talk(port, "x") == "over there: x"
            assert child.stderr is not None
            # The note comes after the line: without it a signal may end the command before it.
            assert child.stderr.readline().decode() == "Ctrl-C ends it.\n"
            child.send_signal(signal.SIGINT)
            said = child.communicate(timeout=20)[1].decode()
            assert child.returncode == 0
            assert said == f"{sshd.alias}: no longer forwarded.\n"
            assert not listens(port)
        finally:
            child.kill()
            child.communicate(timeout=20)
    connection.close()


def test_the_command_forwards_again_after_a_loss(
    cold: Path, make_sshd: Any, expect_logins: Any
) -> None:
    expect_logins(2)
    host = make_sshd()
    child = started("forward", "-F", str(host.config), host.alias, f"localhost:{host.server.port}")
    try:
        assert child.stdout is not None
        line = child.stdout.readline().decode()
        port = int(line.split(" ", 1)[0].rpartition(":")[2])
        assert talk(port, "").startswith("SSH-2.0-")
        (master,) = program("login", "--json").data["connections"]
        os.kill(master["pid"], signal.SIGKILL)
        deadline = time.monotonic() + 30
        said = ""
        while not said.startswith("SSH-2.0-"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
            with contextlib.suppress(OSError):  # the old one goes, the new one is not there yet
                said = talk(port, "")
        child.send_signal(signal.SIGINT)
        noted = child.communicate(timeout=20)[1].decode()
        assert "the connection was lost; forwarding again." in noted
        assert child.returncode == 0
    finally:
        child.kill()
        child.communicate(timeout=20)
        Connection(host.alias, ssh_config=host.config).close(stop_master=True)


def test_a_taken_port_is_one_sentence(sshd: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = program("forward", "-F", str(sshd.config), sshd.alias, f"{port}:localhost:80")
    assert done.code == 3
    assert f"the local port {port} on 127.0.0.1 is in use" in done.sentence()
