"""What users would pick instead does what docs/files.rst says of it: scp, sftp and rsync."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from openssh_jobs import Connection
from tests.helpers import until
from tests.lab import parts
from tests.lab.site import Host
from tests.real.transfer.straight import backend, route, there

__all__ = ["backend", "route", "there"]

PEERS = ["scp", "sftp", "rsync"]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


class Peer:
    """One of them on the master of a connection, or on a socket where there is none."""

    def __init__(self, name: str, host: Host, socket: str) -> None:
        parts.require("ssh" if name != "rsync" else name)
        self._name = name
        self._alias = host.alias
        self._options = ["-F", str(host.config), "-o", f"ControlPath={socket}"]
        self._batch = ["-o", "ControlMaster=no", "-o", "BatchMode=yes"]

    def command(self, up: bool, source: object, target: object) -> tuple[list[str], str]:
        """Its command line and its input."""
        far = f"{self._alias}:"
        one, two = (str(source), f"{far}{target}") if up else (f"{far}{source}", str(target))
        options = [*self._options, *self._batch]
        if self._name == "scp":
            return ["scp", "-q", "-r", *options, one, two], ""
        if self._name == "rsync":
            return ["rsync", "-a", "-s", "-e", " ".join(["ssh", *options]), one, two], ""
        word = "put" if up else "get"
        line = f'{word} -r "{source}" "{target}"\n'
        return ["sftp", "-q", *options, "-b", "-", self._alias], line

    def start(self, up: bool, source: object, target: object) -> subprocess.Popen[str]:
        """Begin to copy, in a session of its own."""
        argv, text = self.command(up, source, target)
        child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="surrogateescape",
            start_new_session=True,
        )
        assert child.stdin is not None
        child.stdin.write(text)
        child.stdin.close()
        child.stdin = None
        return child

    def copy(self, up: bool, source: object, target: object) -> tuple[int, str]:
        """Copy; its status and what it says."""
        child = self.start(up, source, target)
        out, error = child.communicate(timeout=60)
        return child.returncode, out + error


@pytest.fixture(params=PEERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def peer(name: str, connection: Connection, host: Host) -> Peer:
    connection.exists("/")
    link = connection._master.find()
    assert link is not None
    return Peer(name, host, link.path)


def test_a_file_that_is_cut_off(peer: Peer, name: str, host: Host, here: Path, there: Path) -> None:
    with (here / "f").open("wb") as handle:
        handle.truncate(1 << 34)
    old = host.make(f"{there.name}/f", b"old")
    child = peer.start(True, here / "f", old)

    def moving() -> bool:
        return any(path.stat().st_size > 1 << 20 for path in there.iterdir())

    assert until(moving)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate(timeout=20)
    if name == "rsync":
        assert old.read_bytes() == b"old"
    else:
        assert 1 << 20 < old.stat().st_size < 1 << 34
    assert until(lambda: len(list(there.iterdir())) == 1)


def test_a_disk_that_is_full(peer: Peer, name: str, host: Host, here: Path, there: Path) -> None:
    parts.require_namespaces("a disk of its own")
    (here / "f").write_bytes(os.urandom(3_000_000))
    small = there / "small"
    small.mkdir()
    options = f"size=1m,uid={host.server.uid},mode=755"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(small)]
    subprocess.run(mount, check=True, timeout=20)
    try:
        code, said = peer.copy(True, here / "f", small / "f")
        assert code != 0
        arrived = (small / "f").stat().st_size if (small / "f").exists() else None
        if name == "scp":
            assert arrived == 3_000_000, "full size, with holes"
        elif name == "sftp":
            assert arrived is not None
            assert 0 < arrived < 3_000_000
            assert "Failure" in said
        else:
            assert arrived is None
            assert "No space left" in said
    finally:
        umount = ["umount", str(small)]
        assert until(lambda: subprocess.run(umount, timeout=20, check=False).returncode == 0)


def test_links_fifos_and_hard_links_in_a_tree(
    peer: Peer, name: str, here: Path, there: Path
) -> None:
    top = here / "t"
    (top / "d").mkdir(parents=True)
    (top / "d" / "f").write_bytes(b"content")
    os.link(top / "d" / "f", top / "twin")
    (top / "link").symlink_to("d/f")
    code, said = peer.copy(True, top, there)
    arrived = there / "t"
    assert (arrived / "d" / "f").read_bytes() == b"content", said
    assert (arrived / "twin").stat().st_nlink == 1, "copies"
    link = arrived / "link"
    if name == "scp":
        assert code == 0
        assert not link.is_symlink()
        assert link.read_bytes() == b"content"
    elif name == "sftp":
        assert code == 0
        assert "/link" not in said
        assert not os.path.lexists(link)
    else:
        assert link.is_symlink()
    (top / "dangling").symlink_to("nowhere")
    assert (peer.copy(True, top, there / "2")[0] != 0) is (name == "scp")
    (top / "dangling").unlink()
    os.mkfifo(top / "pipe")
    code, said = peer.copy(True, top, there / "3")
    pipes = list((there / "3").rglob("pipe"))
    assert (code, "pipe" in said) == (0, name == "scp")
    assert [path.is_fifo() for path in pipes] == ([True] if name == "rsync" else [])


def test_names_with_patterns_and_newlines(
    peer: Peer, name: str, host: Host, here: Path, there: Path
) -> None:
    for one in ("a*", "ab"):
        host.make(f"{there.name}/{one}", b"x")
    code, said = peer.copy(False, there / "a*", here)
    assert code == 0, said
    # rsync matches patterns with -s as well: not the shell there, but rsync itself.
    assert sorted(os.listdir(here)) == (["a*"] if name == "sftp" else ["a*", "ab"])
    if name == "sftp":
        batch = ["-b", "-", host.alias]
        argv = [*peer.command(False, "", "")[0][: -len(batch)], *batch]
        line = f"get {there}/a* {here}\n".encode()
        subprocess.run(argv, input=line, check=True, timeout=60, capture_output=True)
        assert sorted(os.listdir(here)) == ["a*", "ab"], "unless it is quoted"
    (here / "new\nline").write_bytes(b"n")
    code, _ = peer.copy(True, here / "new\nline", there)
    assert (there / "new\nline").exists() is (name != "sftp")
    assert (code == 0) is (name != "sftp")


@pytest.mark.parametrize("name", ["sftp", "rsync"])  # scp goes on with nothing
def test_going_on_with_a_part_of_something_else(
    connection: Connection, peer: Peer, name: str, host: Host, here: Path, there: Path
) -> None:
    (here / "f").write_bytes(b"right" * 1000)
    part = host.make(f"{there.name}/f", b"wrong" * 500)
    argv, _ = peer.command(True, here / "f", part)
    text = f'put -a "{here}/f" "{part}"\n' if name == "sftp" else ""
    subprocess.run(argv, input=text.encode(), check=True, timeout=60, capture_output=True)
    right = part.read_bytes() == b"right" * 1000
    assert right is (name == "rsync")
    part.write_bytes(b"wrong" * 500)
    connection.put(here / "f", str(part), resume=True)
    assert part.read_bytes() == b"right" * 1000


@pytest.mark.usefixtures("cold")
def test_a_master_that_is_gone(
    make_sshd: Callable[..., Host], expect_logins: Callable[..., None], name: str, here: Path
) -> None:
    """They log in by themselves, silently: on a host with a second factor they would ask."""
    host = make_sshd()
    (here / "f").write_bytes(b"x")
    expect_logins(2)
    for _ in range(2):
        code, said = Peer(name, host, str(here / "no-socket")).copy(True, here / "f", "f")
        assert code == 0, said
