"""One login a host: found, shared, guarded, replaced when it is dead, and never made in silence.

Every test that logs in says how often; the server's own log is what is counted.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection
from openssh_jobs.cli.private_sshd import free_port
from openssh_jobs.errors import (
    AuthenticationFailed,
    AuthenticationNeeded,
    CommandTimeout,
    ConfigurationError,
    ConnectError,
    HostKeyChanged,
    HostKeyUnknown,
    HostUnreachable,
    JumpHostFailed,
    MasterRequired,
)
from openssh_jobs.openssh import sessions
from openssh_jobs.remote import sftp
from tests.helpers import processes, start_client, until
from tests.real.site import Host

Expect = Callable[..., None]
Make = Callable[..., Host]


@pytest.fixture
def connect(cold: Path) -> Iterator[Callable[..., Connection]]:
    """Connections of this test alone; their masters end with it."""
    opened: list[Connection] = []

    def connect(host: Host, **options: Any) -> Connection:
        connection = Connection(host.alias, **{"ssh_config": host.config, **options})
        opened.append(connection)
        return connection

    yield connect
    for connection in opened:
        connection.close(stop_master=True)


def socket_of(cold: Path) -> Path:
    """The one socket in the private directory."""
    (found,) = [path for path in cold.iterdir() if path.is_socket()]
    return found


# -- open, find, use, close -----------------------------------------------------------------------


def test_nothing_is_dialed_before_the_first_use(
    make_sshd: Make, connect: Callable[..., Connection]
) -> None:
    connection = connect(make_sshd())
    assert not connection.check()
    assert connection.check().reason == "no master is open"
    assert connection.stats().logins == 0


def test_one_login_for_everything(
    make_sshd: Make, connect: Callable[..., Connection], expect_logins: Expect, backend: str
) -> None:
    host = make_sshd()
    expect_logins(1)
    with connect(host, exec_backend=backend) as first:
        assert first.run("echo $0").returncode == 0
        first.write_text("file", "text")
        first.get("file", host.server.directory / "got")
        assert first.stats().logins == 1
        assert first.stats().sessions >= 3
    second = connect(host, exec_backend=backend)
    live = second.check()
    assert live
    assert live.ours
    assert live.seconds is not None
    assert second.read_text("file") == "text"
    assert second.stats().logins == 0


def test_closing_leaves_the_master_and_stopping_leaves_nothing(
    make_sshd: Make, connect: Callable[..., Connection], expect_logins: Expect, cold: Path
) -> None:
    expect_logins(2)
    connection = connect(make_sshd())
    connection.open()
    master = connection.check().master
    assert master is not None
    connection.close()
    connection.close()
    os.kill(master, 0)
    assert connection.run("echo again").stdout == "again\n"
    connection.close(stop_master=True)
    assert until(lambda: not Path(f"/proc/{master}").exists())
    left = {path.suffix for path in cold.iterdir()}
    assert not [path for path in cold.iterdir() if path.is_socket()]
    assert left <= {".lock", ".dials", ".json", ""} - {".pid", ".log"}
    assert connection.run("echo anew").stdout == "anew\n"


def test_stopping_lets_the_sessions_of_others_end(
    make_sshd: Make, connect: Callable[..., Connection], expect_logins: Expect
) -> None:
    expect_logins(2)
    host = make_sshd()
    one, two = connect(host), connect(host)
    with one.popen("read line; echo got $line") as process:
        stopper = threading.Thread(target=two.close, kwargs={"stop_master": True})
        stopper.start()
        # From now on there is no master to be found, and the old one drains.
        assert until(lambda: two.check().master is None)
        third = connect(host)
        assert third.run("echo new").stdout == "new\n"
        assert process.communicate("it\n", timeout=20)[0] == "got it\n"
        stopper.join(20)
    assert third.check(), "the end of the old master took nothing from the new one"
    assert third.run("echo still").stdout == "still\n"
    assert third.stats().logins == 1


@pytest.mark.parametrize("way", ["threads", "processes"])
def test_all_at_once_make_one_login(
    make_sshd: Make, connect: Callable[..., Connection], expect_logins: Expect, way: str
) -> None:
    host = make_sshd()
    expect_logins(1)
    if way == "threads":
        connections = [connect(host) for _ in range(20)]
        answers: list[str] = []
        threads = [
            threading.Thread(target=lambda c=c: answers.append(c.run("echo up").stdout))
            for c in connections
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert answers == ["up\n"] * 20
        assert sum(c.stats().logins for c in connections) == 1
    else:
        connect(host)  # ends the master
        code = "sys.stdin.readline(); print(c.run('echo up').stdout, end=''); c.close()"
        children = [start_client(code, host) for _ in range(8)]
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        for child in children:
            assert child.communicate(timeout=60) == ("up\n", "")


# -- whose master ---------------------------------------------------------------------------------


@pytest.fixture
def users_master(make_sshd: Make, cold: Path, expect_logins: Expect) -> Iterator[Host]:
    """A host whose ControlPath names a master that the user opened by hand."""
    host = make_sshd()
    expect_logins(1)
    control = cold.parent / "user.sock"
    host.config.write_text(host.server.client_block(extra=[f"ControlPath {control}"]))
    ssh = ["ssh", "-F", str(host.config)]
    subprocess.run([*ssh, "-M", "-f", "-N", host.alias], check=True, timeout=30)
    yield host
    done = subprocess.run([*ssh, "-O", "exit", host.alias], capture_output=True, timeout=30)
    assert done.returncode == 0, "the user's master was gone"


@pytest.mark.parametrize("policy", ["own", "existing", "user"])
def test_the_users_master_is_used_and_never_closed(
    users_master: Host, connect: Callable[..., Connection], policy: str, backend: str
) -> None:
    connection = connect(users_master, master=policy, exec_backend=backend)
    assert connection.run("echo through").stdout == "through\n"
    assert connection.listdir("/")
    live = connection.check()
    assert live
    assert not live.ours
    connection.reconnect()
    connection.close(stop_master=True)
    assert connection.check().master == live.master


@pytest.mark.parametrize("policy", ["existing", "user"])
def test_who_may_not_open_says_how_to(
    make_sshd: Make, connect: Callable[..., Connection], policy: str
) -> None:
    host = make_sshd()
    connection = connect(host, master=policy)
    with pytest.raises(MasterRequired) as caught:
        connection.run("true")
    assert caught.value.sent == "no"
    assert f"ssh -F {host.config}" in str(caught.value)


def test_an_existing_master_of_ours_is_enough(
    make_sshd: Make, connect: Callable[..., Connection], expect_logins: Expect
) -> None:
    expect_logins(1)
    host = make_sshd()
    connect(host).open()
    assert connect(host, master="existing").run("echo here").stdout == "here\n"
    with pytest.raises(MasterRequired):
        connect(host, master="user").run("true")


# -- missing, stale, full -------------------------------------------------------------------------


def test_the_guard_fails_where_ssh_would_dial(make_sshd: Make, cold: Path) -> None:
    """Without a socket, on a stale one, on a file: not one login, whatever the program."""
    host = make_sshd()
    stale = cold / "stale"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    (cold / "file").write_bytes(b"")
    for name in ("none", "stale", "file"):
        path = str(cold / name)
        ssh = ["ssh", *sessions.guarded_arguments(path), "-T", "--", host.alias, "echo ran"]
        done = subprocess.run(ssh, capture_output=True, timeout=30, check=False)
        assert (done.returncode, done.stdout) == (255, b"")
        done = subprocess.run(
            sftp.arguments(path), input=b"pwd\n", capture_output=True, timeout=30, check=False
        )
        assert done.returncode == 255


def _kill(master: int, path: Path) -> None:
    os.kill(master, signal.SIGKILL)
    assert until(lambda: not Path(f"/proc/{master}").exists())


def _kill_and_delete(master: int, path: Path) -> None:
    _kill(master, path)
    path.unlink()


def _replace_by_file(master: int, path: Path) -> None:
    _kill(master, path)
    path.unlink()
    path.write_bytes(b"not a socket")


def _delete(master: int, path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("fault", [_kill, _kill_and_delete, _replace_by_file, _delete])
def test_a_lost_master_is_replaced_once_by_whoever_comes(
    make_sshd: Make,
    connect: Callable[..., Connection],
    expect_logins: Expect,
    cold: Path,
    backend: str,
    fault: Callable[[int, Path], None],
) -> None:
    expect_logins(2)
    host = make_sshd()
    connections = [connect(host, exec_backend=backend) for _ in range(4)]
    for connection in connections:
        assert connection.is_dir("/")  # each holds a shell
    master = connections[0].check().master
    assert master is not None
    fault(master, socket_of(cold))
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda c=c: answers.append(c.run("echo up").stdout))
        for c in connections * 3
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == ["up\n"] * 12
    assert all(connection.is_dir("/") for connection in connections)
    for connection in connections:
        connection.close()
    assert connections[0].check().master != master
    if fault is _delete:
        # It still served somebody, so it was left alone; and when it ends, as ControlPersist
        # would have it, it removes the file of its name, which is no longer the successor's.
        os.kill(master, signal.SIGTERM)
        assert until(lambda: not Path(f"/proc/{master}").exists())
    assert connections[0].run("echo last").stdout == "last\n"


def test_a_lost_master_is_not_replaced_by_who_may_not(
    make_sshd: Make, connect: Callable[..., Connection], expect_logins: Expect, cold: Path
) -> None:
    expect_logins(1)
    host = make_sshd()
    owner, guest = connect(host), connect(host, master="existing")
    owner.open()
    assert guest.run("echo up").stdout == "up\n"
    master = owner.check().master
    assert master is not None
    _kill(master, socket_of(cold))
    for _ in range(3):
        with pytest.raises(MasterRequired):
            guest.run("echo up")


@pytest.mark.parametrize("limit", [1, 2, 10])
def test_a_full_master_is_waited_for(
    make_sshd: Make,
    connect: Callable[..., Connection],
    expect_logins: Expect,
    backend: str,
    limit: int,
) -> None:
    """30 callers in one process, and 2 processes that hold shells, on MaxSessions 1, 2, 10."""
    host = make_sshd(max_sessions=limit)
    expect_logins(1)
    connection = connect(host, exec_backend=backend)
    connection.open()
    code = (
        "assert c.is_dir('/')\n"
        "print('held', flush=True)\n"
        "for i in '01234':\n"
        "    assert c.run('echo ' + i).stdout == i + '\\n'\n"
        "    assert c.is_dir('/')\n"
        "c.close()\n"
    )
    children = [start_client(code, host, backend) for _ in range(2)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
    answers: list[str] = []

    def work(i: int) -> None:
        assert connection.is_dir("/")
        answers.append(connection.run(f"echo {i}").stdout)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert sorted(answers) == sorted(f"{i}\n" for i in range(30))
    for child in children:
        assert child.communicate(timeout=60) == ("", "")
    assert host.logins() == 1


@pytest.mark.parametrize("method", ["sftp", "tar"])
def test_one_session_is_enough_for_every_lane(
    make_sshd: Make,
    connect: Callable[..., Connection],
    expect_logins: Expect,
    tmp_path: Path,
    backend: str,
    method: str,
) -> None:
    host = make_sshd(max_sessions=1)
    expect_logins(1)
    connection = connect(host, exec_backend=backend)
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "file").write_text("content")
    for turn in range(2):
        assert connection.put(tmp_path / "tree", f"t{turn}", method=method).files == 1
        assert connection.run("cat", input="x").stdout == "x"
        assert connection.get(f"t{turn}/sub/file", tmp_path / f"f{turn}", method=method).bytes == 7
        with connection.popen("cat") as process:
            assert process.communicate("y", timeout=30)[0] == "y"
    with pytest.raises(CommandTimeout, match="not over") as caught:
        connection.run("trap '' TERM; sleep 271828; true", timeout=0.3)
    assert caught.value.confirmed, "though the only session was the command's own"
    assert processes("271828") == []


# -- the user's configuration ---------------------------------------------------------------------


def test_a_hostile_configuration_is_neutralised(
    make_sshd: Make,
    connect: Callable[..., Connection],
    expect_logins: Expect,
    cold: Path,
    backend: str,
) -> None:
    host = make_sshd()
    expect_logins(1)
    ran = cold.parent / "match"
    busy = free_port()
    host.config.write_text(
        host.server.client_block(
            extra=[
                "RemoteCommand echo hijacked",
                "RequestTTY force",
                f"LocalForward 127.0.0.1:{busy} 127.0.0.1:1",
                "PermitLocalCommand yes",
                "LocalCommand echo local noise",
                "ControlMaster auto",
                f"ControlPath {cold.parent}/theirs-%C",
                "ControlPersist 3",
                "ExitOnForwardFailure yes",
                "LogLevel DEBUG",
            ]
        )
        + f'Match exec "echo x >> {ran}"\n    ServerAliveCountMax 2\n'
    )
    with socket.create_server(("127.0.0.1", busy)):
        connection = connect(host, exec_backend=backend)
        for i in range(3):
            result = connection.run(f"echo {i}")
            assert (result.returncode, result.stdout, result.stderr) == (0, f"{i}\n", "")
        connection.write_text("file", "text")
        connection.get("file", cold.parent / "got")
        assert (cold.parent / "got").read_text() == "text"
        connection.close()
    assert not list(cold.parent.glob("theirs-*"))
    # `ssh -G` and the one dial, whatever the number of commands.
    assert len(ran.read_text().splitlines()) == 2


def test_options_of_the_caller_beat_ours_but_for_the_guard(
    make_sshd: Make, connect: Callable[..., Connection]
) -> None:
    host = make_sshd()
    connection = connect(host, ssh_options={"ServerAliveInterval": "7", "LogLevel": "VERBOSE"})
    argv = connection._master.open_arguments("/x/y", None)
    done = subprocess.run([argv[0], "-G", *argv[1:]], capture_output=True, text=True, check=True)
    assert "serveraliveinterval 7\n" in done.stdout
    assert "serveralivecountmax 3\n" in done.stdout
    for keyword in ("ControlMaster", "controlpath", "BatchMode", "RemoteCommand", "ControlPersist"):
        with pytest.raises(ConfigurationError, match=keyword):
            connect(host, ssh_options={keyword: "no"})


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
    with pytest.raises(ConnectError, match="before a word") as caught:
        connection.run("true")
    assert caught.value.sent == "no"
    assert accepted == [1]


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


def test_a_password_is_wanted_and_nobody_is_here(
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
    assert "nobody was asked" in str(error)
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
