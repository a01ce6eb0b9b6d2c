"""The other programs on hosts that make it hard: one session, odd login shells, no link."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from openssh_jobs import Connection
from openssh_jobs.errors import ConnectionLost
from openssh_jobs.transfer import local_programs
from openssh_jobs.transfer.options import Method
from tests.lab import parts
from tests.lab.site import Host


def _stop(host: Host) -> None:
    with Connection(host.alias, ssh_config=host.config) as connection:
        connection.close(stop_master=True)


def _all_ways(connection: Connection, top: Path, base: str, name: str) -> None:
    """A tree and a file by every way, with names that a shell would read."""
    trees: list[Method] = ["tar", "sftp", "rsync"]
    for method in trees:
        there = f"{base}/{method}"
        moved = connection.put(top, there, method=method, update=True, verify=True)
        assert moved.files == 2
        assert connection.put(top, there, method=method, update=True).files == 0
        connection.get(there, top.parent / method, method=method, update=True, verify=True)
        assert (top.parent / method / name).read_bytes() == b"content"
    files: list[Method] = ["sftp", "tar", "scp", "rsync"]
    for method in files:
        connection.put(top / name, f"{base}/{method}.d/{name}", method=method, verify=True)
        connection.get(f"{base}/{method}.d/{name}", top.parent / "back", method=method)
        assert (top.parent / "back").read_bytes() == b"content"
    connection.put(top / name, f"{base}/resumed", resume=True)
    connection.get(f"{base}/resumed", top.parent / "resumed", resume=True)
    assert (top.parent / "resumed").read_bytes() == b"content"


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "a b" / "d").mkdir(parents=True)
    (tmp_path / "a b" / "it's $HOME `id` [x]*!").write_bytes(b"content")
    (tmp_path / "a b" / "d" / "f").write_bytes(b"f")
    return tmp_path / "a b"


@pytest.mark.usefixtures("cold")
@pytest.mark.parametrize("shell", ["tcsh", "fish"])
def test_login_shells(
    make_sshd: Callable[..., Host], expect_logins: Callable[..., None], top: Path, shell: str
) -> None:
    parts.require(shell)
    host = make_sshd(shell=(shell,))
    expect_logins(1)
    try:
        with Connection(host.alias, ssh_config=host.config) as connection:
            _all_ways(connection, top, "odd 'names' $x", "it's $HOME `id` [x]*!")
    finally:
        _stop(host)


@pytest.mark.usefixtures("cold")
def test_one_session(
    make_sshd: Callable[..., Host], expect_logins: Callable[..., None], top: Path
) -> None:
    """Whatever is held is given back for a program that wants the only session."""
    host = make_sshd(max_sessions=1)
    expect_logins(1)
    try:
        with Connection(host.alias, ssh_config=host.config) as connection:
            _all_ways(connection, top, "one", "it's $HOME `id` [x]*!")
    finally:
        _stop(host)


@pytest.mark.usefixtures("cold")
@pytest.mark.parametrize("method", ["rsync", "scp"])
def test_the_master_is_killed_under_it(
    make_sshd: Callable[..., Host],
    expect_logins: Callable[..., None],
    tmp_path: Path,
    method: Method,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error is that of a lost link, the next call is right, and it took one login more."""
    if shutil.which(method) is None:
        pytest.skip(f"no {method}")
    host = make_sshd()
    expect_logins(2)
    (tmp_path / "f").write_bytes(b"content")
    with (tmp_path / "big").open("wb") as handle:
        handle.truncate(1 << 33)
    honest = local_programs._run
    try:
        with Connection(host.alias, ssh_config=host.config) as connection:
            connection.exists("x")
            pid = connection.check().master
            assert pid is not None

            def cut(
                argv: list[str], stdin: bytes, stdout: BinaryIO | None, _: object, *more: Any
            ) -> tuple[int | None, str]:
                monkeypatch.setattr(local_programs, "_run", honest)
                monkeypatch.setattr(local_programs, "STEP", 0.01)
                killed: list[int] = []

                def kill(__: int) -> None:
                    parts_there = [path for path in host.home.rglob(".*") if path.is_file()]
                    moving = any(path.stat().st_size > 1 << 20 for path in parts_there)
                    if moving and not killed:
                        killed.append(pid)
                        os.kill(pid, 9)

                return honest(argv, stdin, stdout, kill, *more)

            monkeypatch.setattr(local_programs, "_run", cut)
            with pytest.raises(ConnectionLost):
                connection.put(tmp_path / "big", "f", method=method)
            connection.put(tmp_path / "f", "f", method=method)
            assert (host.home / "f").read_bytes() == (tmp_path / "f").read_bytes()
            assert [name for name in connection.listdir() if name.startswith(".oj-")] == []
    finally:
        _stop(host)
