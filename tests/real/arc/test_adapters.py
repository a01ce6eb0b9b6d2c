"""``_ssh`` and ``_sftp`` as code that was written for paramiko uses them, on a real sshd."""

from __future__ import annotations

import contextlib
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import arc
from openssh_jobs.arc import SSHClient, pool, settings
from tests.lab.site import Host


@pytest.fixture
def ssh(sshd: Host, tmp_path: Path) -> Iterator[SSHClient]:
    saved = dict(settings.servers)
    settings.servers["plain"] = {
        "cluster_soft": "local", "address": sshd.alias, "ssh_config": str(sshd.config),
        "journal": str(tmp_path / "journal"),
    }  # fmt: skip
    try:
        with SSHClient("plain", connection_attempts=1) as client:
            yield client
    finally:
        settings.servers.clear()
        settings.servers.update(saved)


@pytest.fixture
def there(sshd: Host) -> Iterator[str]:
    path = sshd.make_directory("adapters")
    yield str(path)
    shutil.rmtree(path)


def test_commands(ssh: SSHClient) -> None:
    stdin, stdout, stderr = ssh._ssh.exec_command("cat; echo é; echo oops >&2; exit 7")
    stdin.write("in\n")
    stdin.flush()
    stdin.write(b"put\n")
    assert not stdout.channel.exit_status_ready()
    stdin.close()
    assert stdout.readlines() == ["in\n", "put\n", "é\n"]
    assert stderr.read() == b"oops\n"
    assert stdout.channel.recv_exit_status() == 7
    assert stdout.channel.exit_status_ready()
    _, stdout, _ = ssh._ssh.exec_command("printf 'a\\377\\nb\\nc'")
    assert stdout.readline() == "a\udcff\n"
    assert stdout.read() == b"b\nc"
    _, stdout, _ = ssh._ssh.exec_command("echo $A", environment={"A": "b"})
    assert list(stdout) == ["b\n"]
    with pytest.raises(ValueError, match="get_pty"):
        ssh._ssh.exec_command("ls", get_pty=True)


def test_a_command_that_lasts_longer_than_its_timeout(ssh: SSHClient) -> None:
    _, stdout, _ = ssh._ssh.exec_command("exec sleep 60", timeout=0.3)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"0\.3"):
        stdout.read()
    assert time.monotonic() - began < 5
    stdout.channel.close()
    deadline = time.monotonic() + 10
    while not stdout.channel.exit_status_ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_commands_whose_output_is_never_read_keep_no_session(ssh: SSHClient) -> None:
    """``exec_command('ls')`` before every call, the way ARC looked whether the link lives."""
    for _ in range(40):
        ssh._ssh.exec_command("ls")
    _, stdout, _ = ssh._ssh.exec_command("echo here")
    assert stdout.read() == b"here\n"


def test_files(ssh: SSHClient, there: str, tmp_path: Path) -> None:
    sftp = ssh._ssh.open_sftp()
    assert type(sftp) is type(ssh._sftp)
    local = tmp_path / "in"
    local.write_bytes(b"\x00\xff")
    reported: list[tuple[int, int]] = []
    facts = sftp.put(str(local), f"{there}/put", callback=lambda *counts: reported.append(counts))
    assert facts.st_size == 2
    assert reported[-1] == (2, 2)
    assert abs(sftp.stat(f"{there}/put").st_mtime - time.time()) < 60
    sftp.get(remotepath=f"{there}/put", localpath=str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == b"\x00\xff"
    for name in ("stat", "open", "listdir", "lstat", "remove"):
        with pytest.raises(IOError, match="none"):
            getattr(sftp, name)(f"{there}/none")
    sftp.mkdir(f"{there}/sub")
    sftp.rename(f"{there}/put", f"{there}/sub/moved")
    assert sftp.listdir(there) == ["sub"]
    sftp.chmod(f"{there}/sub/moved", 0o600)
    assert stat.S_IMODE(sftp.stat(f"{there}/sub/moved").st_mode) == 0o600
    sftp.remove(f"{there}/sub/moved")
    sftp.rmdir(f"{there}/sub")
    assert sftp.listdir(there) == []
    sftp.close()
    assert ssh._sftp.normalize(".") == ssh._connection.features.cwd


def test_opening_files(ssh: SSHClient, there: str) -> None:
    sftp, path = ssh._sftp, f"{there}/text"
    with sftp.open(path, "w") as handle:
        handle.write("one\n")
        handle.write(b"two\n")
        handle.writelines(["three\n"])
        assert sftp.listdir(there) == [], "it appears when it is whole"
    with sftp.open(path, "r") as handle:
        assert handle.readlines() == ["one\n", "two\n", "three\n"]
    with sftp.file(path, "rb") as handle:
        assert handle.readline() == b"one\n"
        assert handle.read(2) == b"tw"
        with pytest.raises(OSError, match="not open for writing"):
            handle.write("x")
    with sftp.open(path, "a") as handle:
        handle.write("four\n")
    assert sftp.open(path).read() == b"one\ntwo\nthree\nfour\n"
    with contextlib.suppress(KeyError), sftp.open(path, "w") as handle:
        handle.write("half")
        raise KeyError
    assert sftp.open(path).read() == b"one\ntwo\nthree\nfour\n", "as it was"
    with pytest.raises(FileExistsError):
        sftp.open(path, "x")
    with pytest.raises(ValueError, match="r\\+"):
        sftp.open(path, "r+")


def test_removing_a_jobs_files(ssh: SSHClient, sshd: Host, there: str) -> None:
    for name in ("a b/$(x)/one", "a b/two", "other/three"):
        sshd.make(f"adapters/{name}")
    ssh.remove_remote_files(remote_path=f"{there}/a b")
    ssh.remove_remote_files(remote_path=f"{there}/a b")
    assert ssh.list_dir(there) == ["other"]
    with pytest.raises(arc.InputError, match="empty"):
        ssh.remove_remote_files("")
    for precious in ("/", ".", "~/", str(sshd.home), f"{there}/.."):
        with pytest.raises(arc.ServerError):
            ssh.remove_remote_files(precious)
    ssh.remove_dir(f"{there}/other")
    assert ssh.list_dir(there) == []


def test_the_pool_lends_one_client_and_counts_its_logins(
    ssh: SSHClient, sshd: Host, cold: Path, expect_logins: Any
) -> None:
    """A hundred borrows from several threads on a machine that has no master yet: one login."""
    expect_logins(1)
    before = sshd.logins()
    settings.servers["cold"] = {**settings.servers["plain"], "cpus": 1}
    lending = pool.SSHConnectionPool()
    pool.set_default_pool(lending)
    seen: set[int] = set()

    def work() -> None:
        for _ in range(25):
            with pool.borrow_ssh_client("cold") as client:
                seen.add(id(client))
                assert client._send_command_to_server("echo here")[0] == ["here\n"]

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (sshd.logins() - before, lending.opens, lending.borrows, len(seen)) == (1, 1, 100, 1)
    with lending.borrow("cold") as client:
        assert client._ssh.get_transport().is_active()
        client._connection.close(stop_master=True)
        assert not client._ssh.get_transport().is_active()
    pool.reset_default_pool()
    assert client._ssh is None
