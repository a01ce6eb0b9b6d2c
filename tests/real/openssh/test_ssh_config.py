"""What a user's ssh configuration can hold, honoured: whatever ``ssh HOST`` does, we do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openssh_jobs import Connection
from openssh_jobs.errors import HostKeyChanged, HostKeyUnknown, TooManyKeys
from tests.helpers import start_client
from tests.lab.agent import Agent
from tests.lab.site import Host

pytest_plugins = ("tests.fixtures",)

Make = Callable[..., Host]
Connect = Callable[..., Connection]
Expect = Callable[..., None]

# What `nc` does, for machines that have none.
RELAY = """\
import os, socket, sys, threading
link = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
link.settimeout(None)
def up():
    while data := os.read(0, 65536):
        link.sendall(data)
    link.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := link.recv(65536):
    while data:
        data = data[os.write(1, data):]
"""


def test_include_and_match_decide_as_for_ssh(
    make_sshd: Make, connect: Connect, expect_logins: Expect, tmp_path: Path
) -> None:
    host = make_sshd()
    expect_logins(1)
    block = host.server.client_block()
    inner = tmp_path / "inner"
    inner.write_text(block.replace(f"Port {host.server.port}\n", ""))
    config = tmp_path / "config"
    config.write_text(f"Include {inner}\nMatch host {host.server.address}\n"
                      f"    Port {host.server.port}\n")  # fmt: skip
    # The port comes from a Match on the name that the included block gave.
    connection = connect(host, ssh_config=config)
    assert connection.run("echo included").stdout == "included\n"


def test_a_proxy_command_is_run_as_it_stands(
    make_sshd: Make, connect: Connect, expect_logins: Expect, tmp_path: Path
) -> None:
    host = make_sshd()
    expect_logins(1)
    relay, used = tmp_path / "relay.py", tmp_path / "used"
    relay.write_text(RELAY)
    command = f"sh -c 'echo %r >>{used}; exec {sys.executable} {relay} %h %p'"
    host.config.write_text(host.server.client_block(extra=[f"ProxyCommand {command}"]))
    connection = connect(host)
    for _ in range(3):
        assert connection.run("echo relayed").stdout == "relayed\n"
    assert connection.exists("/")
    assert used.read_text() == f"{host.user}\n", "once for the login, never for a command"


def test_a_host_key_alias_names_the_key(
    make_sshd: Make, connect: Connect, expect_logins: Expect
) -> None:
    host = make_sshd()
    expect_logins(1)
    known = host.server.known_hosts
    kind, key = known.read_text().split()[1:3]
    host.config.write_text(host.server.client_block(extra=["HostKeyAlias the-cluster"]))
    with pytest.raises(HostKeyUnknown):
        connect(host).open()
    known.write_text(f"the-cluster {kind} {key}\n")
    assert connect(host).run("echo known").stdout == "known\n"
    other = "AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
    known.write_text(f"the-cluster {kind} {other}\n")
    with pytest.raises(HostKeyChanged):
        connect(host, ssh_options={"ServerAliveInterval": "14"}).open()


def test_a_canonical_name_is_one_route(
    make_sshd: Make, connect: Connect, expect_logins: Expect
) -> None:
    host = make_sshd()
    expect_logins(1)
    host.config.write_text(
        "CanonicalizeHostname yes\nCanonicalizeFallbackLocal yes\n"
        "CanonicalizeMaxDots 0\n" + host.server.client_block()
    )
    assert connect(host).run("echo canonical").stdout == "canonical\n"
    assert connect(host).run("echo again").stdout == "again\n"


@pytest.fixture
def full_agent(tmp_path: Path) -> Iterator[Agent]:
    """An agent with more keys than a server lets anyone try."""
    agent = Agent(tmp_path / "agent")
    agent.start()
    for number in range(7):
        agent.new_key(f"key{number}")
    yield agent
    agent.stop()


def test_too_many_keys_are_named_and_one_key_helps(
    make_sshd: Make, connect: Connect, expect_logins: Expect, full_agent: Agent
) -> None:
    host = make_sshd()
    expect_logins(1)
    assert len(full_agent.keys()) == 7
    with_agent = [f'IdentityAgent "{full_agent.socket}"']
    host.config.write_text(host.server.client_block(extra=with_agent, with_identity=False))
    with pytest.raises(TooManyKeys, match="IdentitiesOnly"):
        connect(host).open()
    # A key that is asked for comes alone, though the agent has others to offer.
    with_key = connect(host, identity_file=host.server.identity)
    assert with_key.run("echo one key").stdout == "one key\n"


def test_a_forwarded_agent_is_there_for_who_asks(
    make_sshd: Make,
    connect: Connect,
    expect_logins: Expect,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
) -> None:
    host = make_sshd()
    expect_logins(2)
    agent = Agent(tmp_path / "agent")
    agent.start()
    try:
        public = agent.new_key("forwarded").split()[1]
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
        # The private key file logs in; what is forwarded is the agent of our environment.
        plain = host.server.client_block().replace("IdentityAgent none", "")
        host.config.write_text(plain)
        silent = connect(host, exec_backend=backend)
        assert silent.run('echo "[$SSH_AUTH_SOCK]"').stdout == "[]\n"
        # All sessions of a login see what was forwarded once: it takes one of its own.
        asking = connect(host, forward_agent=True, exec_backend=backend)
        assert public in asking.run("ssh-add -L").stdout
        assert silent.run('echo "[$SSH_AUTH_SOCK]"').stdout == "[]\n"
    finally:
        agent.stop()


def test_slow_rc_files_are_paid_once_for_all_short_calls(
    make_sshd: Make, connect: Connect, expect_logins: Expect, backend: str
) -> None:
    host = make_sshd(files={".bashrc": 'echo x >>"$HOME/started"; sleep 0.3\n'})
    expect_logins(1)
    connection = connect(host, exec_backend=backend)
    assert connection.is_dir("/")
    at_first = (host.home / "started").read_text()
    for _ in range(5):
        assert connection.exists("started")
        assert connection.is_dir("/")
    assert (host.home / "started").read_text() == at_first
    connection.run("true")
    assert (host.home / "started").read_text() == at_first * 2, "a command has its own shell"


@pytest.mark.parametrize("limit", [1, 2, 10])
def test_five_processes_that_hold_shells_leave_room(
    make_sshd: Make, connect: Connect, expect_logins: Expect, limit: int
) -> None:
    """50 callers here and 5 processes with a shell each: all get their turn, on one login."""
    host = make_sshd(max_sessions=limit)
    expect_logins(1)
    connection = connect(host)
    connection.open()
    code = (
        "for i in range(4):\n"
        "    assert c.is_dir('/')\n"
        "    assert c.run(f'echo {i}').stdout == f'{i}\\n'\n"
    )
    children = [start_client(code, host) for _ in range(5)]
    results = connection.run_many([f"echo {i}" for i in range(50)], concurrency=50)
    assert [one.error for one in results] == [None] * 50
    assert [one.stdout for one in results] == [f"{i}\n" for i in range(50)]
    for child in children:
        assert child.communicate(timeout=100) == ("", "")
        assert child.returncode == 0
    assert host.logins() == 1


def test_a_hundred_megabytes_in_and_out_at_once_in_little_memory(host: Host) -> None:
    """Streamed through ``cat`` on the host: no deadlock, and no growth with the size."""
    code = """
import resource, threading
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
piece, count = bytes(range(256)) * 4096, 100
with c.popen("cat", text=False) as process:
    def feed():
        for _ in range(count):
            process.stdin.write(piece)
        process.stdin.close()
    feeder = threading.Thread(target=feed)
    feeder.start()
    got = 0
    while data := process.stdout.read(len(piece)):
        assert data == piece[: len(data)] or len(data) == len(piece)
        got += len(data)
    feeder.join()
    assert process.wait() == 0
assert got == count * len(piece), got
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
assert grown < 30_000, f"{grown} KB more"
"""
    child = start_client(code, host)
    assert child.communicate(timeout=100) == ("", "")
