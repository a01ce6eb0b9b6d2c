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

import pytest

from openssh_jobs import Connection
from openssh_jobs.errors import CommandTimeout, ConfigurationError, MasterRequired
from openssh_jobs.openssh import guest, login
from openssh_jobs.testing.sshd import free_port
from openssh_jobs.transfer.options import Method
from tests.helpers import processes, start_client, until
from tests.lab.site import Host

Expect = Callable[..., None]
Make = Callable[..., Host]

pytest_plugins = ("tests.fixtures",)


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
        ssh = [*guest.arguments("ssh", path), "-T", "--", host.alias, "echo ran"]
        done = subprocess.run(ssh, capture_output=True, timeout=30, check=False)
        assert (done.returncode, done.stdout) == (255, b"")
        done = subprocess.run(
            [*guest.arguments("sftp", path), "-b", "-", "none"],
            input=b"pwd\n",
            capture_output=True,
            timeout=30,
            check=False,
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
        # It still served a client, so it was left alone; and when it ends, as ControlPersist
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
    method: Method,
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
    make_sshd: Make, connect: Callable[..., Connection], cold: Path
) -> None:
    host = make_sshd()
    connection = connect(host, ssh_options={"ServerAliveInterval": "7", "LogLevel": "VERBOSE"})
    argv = login.open_arguments(connection._master.login_request(), str(cold / "y"))
    done = subprocess.run([argv[0], "-G", *argv[1:]], capture_output=True, text=True, check=True)
    assert "serveraliveinterval 7\n" in done.stdout
    assert "serveralivecountmax 3\n" in done.stdout
    for keyword in ("ControlMaster", "controlpath", "BatchMode", "RemoteCommand", "ControlPersist"):
        with pytest.raises(ConfigurationError, match=keyword):
            connect(host, ssh_options={keyword: "no"})
