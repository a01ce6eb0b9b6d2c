"""Disks that are full or read-only, sources that change while they are read: every method."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openssh_jobs import Connection
from openssh_jobs.commands import limits
from openssh_jobs.errors import NoSpace, OpenSSHJobsError, QuotaExceeded, TransferError
from openssh_jobs.transfer import parallel
from openssh_jobs.transfer.options import Method, TransferOptions
from tests.helpers import until
from tests.lab import parts
from tests.lab.site import Host
from tests.real.transfer.straight import backend, route, there

__all__ = ["backend", "route", "there"]

FILES: list[Method] = ["sftp", "tar", "scp", "rsync"]
TREES = ["sftp", "tar", "rsync"]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here" / "tree").mkdir(parents=True)
    (tmp_path / "here" / "tree" / "f").write_bytes(os.urandom(3_000_000))
    return tmp_path / "here"


@pytest.fixture
def mounted() -> Iterator[Callable[[Path, str], None]]:
    """``mounted(directory, options)``: a tmpfs there until the end of the test."""
    parts.require_namespaces("a disk of its own")
    done: list[Path] = []

    def mount(directory: Path, options: str) -> None:
        if directory not in done:
            directory.mkdir()
            done.append(directory)
        argv = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
        if options == "ro":
            argv = ["mount", "-o", "remount,ro", str(directory)]
        subprocess.run(argv, check=True, timeout=20)

    yield mount
    for directory in reversed(done):
        # A program there whose link has just ended may be in it for a moment more.
        argv = ["umount", str(directory)]
        assert until(lambda argv=argv: subprocess.run(argv, timeout=20).returncode == 0)  # type: ignore[misc]


def wanted(kind: str, method: Method) -> bool:
    return kind == "file" or method in TREES


CASES = [(kind, m) for kind in ("file", "tree") for m in FILES if wanted(kind, m)]


@pytest.mark.parametrize(("kind", "method"), CASES)
def test_a_full_disk_there_and_here(
    connection: Connection,
    host: Host,
    here: Path,
    there: Path,
    mounted: Callable[[Path, str], None],
    kind: str,
    method: Method,
) -> None:
    source = "tree" if kind == "tree" else "tree/f"
    connection.put(here / "tree", f"{there}/tree")
    mounted(there / "small", f"size=1m,uid={host.server.uid},mode=755")
    mounted(here / "small", "size=1m,mode=755")
    host.make(f"{there.name}/small/old", b"old")
    (here / "small" / "old").write_bytes(b"old")
    with pytest.raises((OSError, TransferError)) as caught:
        connection.put(here / source, f"{there}/small/x", method=method)
    assert isinstance(caught.value, NoSpace), caught.value
    assert caught.value.host == connection.host
    assert os.listdir(there / "small") == ["old"]
    with pytest.raises((OSError, TransferError)) as caught:
        connection.get(f"{there}/{source}", here / "small" / "x", method=method)
    assert isinstance(caught.value, NoSpace) or getattr(caught.value, "errno", 0) == errno.ENOSPC
    assert os.listdir(here / "small") == ["old"]


@pytest.fixture
def quota(there: Path, tmp_path: Path, host: Host) -> Iterator[Path]:
    """A directory of the user's on the host in which all may hold one megabyte: a btrfs."""
    parts.require("btrfs")
    parts.require_namespaces("a disk with a quota")
    image, disk = tmp_path / "disk", there / "disk"
    disk.mkdir()
    with image.open("wb") as handle:
        handle.truncate(1 << 30)
    subprocess.run(["mkfs.btrfs", "-q", str(image)], check=True, timeout=60, capture_output=True)
    mount = ["mount", "-t", "btrfs", "-o", "loop", str(image), str(disk)]
    done = subprocess.run(mount, timeout=60, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        # A matter of the kernel, which nothing can install.
        pytest.skip(f"no btrfs can be mounted here: {done.stderr.strip()}")
    try:
        small = disk / "small"
        for words in (("quota", "enable", disk), ("subvolume", "create", small),
                      ("qgroup", "limit", "1M", small)):  # fmt: skip
            argv = ["btrfs", *map(str, words)]
            subprocess.run(argv, check=True, timeout=60, capture_output=True)
        os.chown(small, host.server.uid, -1)
        yield small
    finally:
        argv = ["umount", str(disk)]
        assert until(lambda: subprocess.run(argv, timeout=20).returncode == 0)


def test_a_quota_that_is_used_up(
    connection: Connection, host: Host, here: Path, there: Path, quota: Path
) -> None:
    """The system itself says EDQUOT; sftp alone would say "Failure"."""
    old = host.make(f"{quota.relative_to(host.home)}/old", b"old")
    for kind, method in CASES:
        source = here / ("tree" if kind == "tree" else "tree/f")
        with pytest.raises(QuotaExceeded) as caught:
            connection.put(source, f"{quota}/x", method=method)
        assert caught.value.errno == errno.EDQUOT, (kind, method, caught.value)
        assert caught.value.host == connection.host
        assert str(quota) in str(caught.value)
        assert os.listdir(quota) == ["old"], (kind, method)
    with pytest.raises(QuotaExceeded) as caught:
        connection.write_bytes(str(old), os.urandom(2_000_000))
    assert caught.value.errno == errno.EDQUOT
    assert old.read_bytes() == b"old"


@pytest.mark.parametrize(("kind", "method"), CASES)
def test_a_disk_that_is_read_only(
    connection: Connection,
    host: Host,
    here: Path,
    there: Path,
    mounted: Callable[[Path, str], None],
    kind: str,
    method: Method,
) -> None:
    source = "tree" if kind == "tree" else "tree/f"
    connection.put(here / "tree", f"{there}/tree")
    for small in (there / "small", here / "small"):
        mounted(small, f"size=1m,uid={host.server.uid},mode=755")
        mounted(small, "ro")
    with pytest.raises(OSError, match="Read-only") as caught:
        connection.put(here / source, f"{there}/small/x", method=method)
    assert caught.value.errno == errno.EROFS
    assert isinstance(caught.value, OpenSSHJobsError)
    assert caught.value.host == connection.host
    with pytest.raises(OSError, match="Read-only") as caught:
        connection.get(f"{there}/{source}", here / "small" / "x", method=method)
    assert caught.value.errno == errno.EROFS
    assert not isinstance(caught.value, OpenSSHJobsError), "it is this machine's"


@pytest.mark.parametrize(("kind", "method"), CASES)
def test_a_name_that_is_too_long(
    connection: Connection, here: Path, there: Path, kind: str, method: Method
) -> None:
    """Nothing is moved, and no directory is made."""
    source = "tree" if kind == "tree" else "tree/f"
    connection.put(here / "tree", f"{there}/tree")
    moved: list[object] = []
    options: TransferOptions = {"progress": lambda *facts: moved.append(facts)}
    for name in ("n" * 256, "p/" * 2100 + "n"):
        with pytest.raises(OSError, match="too long") as caught:
            connection.put(here / source, f"{there}/{name}", method=method, **options)
        assert caught.value.errno == errno.ENAMETOOLONG
        assert caught.value.filename == f"{there}/{name}"
        with pytest.raises(OSError, match="too long") as caught:
            connection.get(f"{there}/{source}", here / name, method=method, **options)
        assert caught.value.errno == errno.ENAMETOOLONG
        assert caught.value.filename == str(here / name)
    assert moved == []
    assert os.listdir(there) == ["tree"]
    assert os.listdir(here) == ["tree"]


class _Restless:
    """Does something to a file again and again, until it is stopped."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(0.0005):
            self._act()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.mark.parametrize("method", ["auto", *FILES])
def test_a_source_that_grows_is_whole_or_refused(
    connection: Connection, host: Host, here: Path, there: Path, method: Method
) -> None:
    """What arrives is a beginning of what was written, as long as the file was at some moment."""
    refusals: list[str] = []
    grown = host.make(f"{there.name}/g", b"x" * 2_000_000)
    for name, source in (("put", here / "tree" / "f"), ("get", grown)):
        source.write_bytes(b"x" * 2_000_000)

        def grow(path: Path = source) -> None:
            with path.open("ab") as handle:
                handle.write(b"y" * 1000)

        with _Restless(grow):
            assert until(lambda path=source: path.stat().st_size > 2_010_000)  # type: ignore[misc]
            try:
                if name == "put":
                    connection.put(source, f"{there}/x", method=method)
                else:
                    connection.get(str(source), here / "x", method=method)
            except TransferError as error:
                refusals.append(str(error))
        arrived = there / "x" if name == "put" else here / "x"
        if arrived.exists():
            data = arrived.read_bytes()
            assert data.startswith(b"x" * 2_000_000 + b"y" * 10_000)
            assert set(data[2_000_000:]) == set(b"y")
    assert all("whole" in said or "changed" in said for said in refusals), refusals
    assert [name for name in os.listdir(there) if name.startswith(".oj-")] == []
    assert [name for name in os.listdir(here) if name.startswith(".oj-")] == []


@pytest.mark.parametrize("method", TREES)
def test_a_member_that_vanishes_is_an_error_and_nothing_is_kept(
    connection: Connection,
    here: Path,
    there: Path,
    method: Method,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was listed, and is gone when its turn comes."""
    for number in range(5):
        (here / "tree" / f"g{number}").write_bytes(b"x")
    connection.put(here / "tree", f"{there}/tree")
    moves = connection._transfer.trees
    for name, victim in (("_send", here / "tree" / "g3"), ("_receive", there / "tree" / "g3")):
        honest = getattr(moves, name)

        def vanish(*arguments: object, path: Path = victim, then: object = honest) -> None:
            path.unlink()
            then(*arguments)  # type: ignore[operator]

        monkeypatch.setattr(moves, name, vanish)
        to, back = f"{there}/x", f"{there}/tree"
        with pytest.raises((OSError, TransferError)) as caught:
            (
                connection.put(here / "tree", to, method=method)
                if name == "_send"
                else connection.get(back, here / "x", method=method)
            )
        assert str(caught.value)
    assert os.listdir(there) == ["tree"]
    assert os.listdir(here) == ["tree"]


@pytest.mark.parametrize("method", FILES)
def test_a_directory_in_the_way(
    connection: Connection, host: Host, here: Path, there: Path, method: Method
) -> None:
    host.make_directory(f"{there.name}/d")
    host.make(f"{there.name}/f", b"x")
    (here / "d").mkdir()
    with pytest.raises(IsADirectoryError):
        connection.put(here / "tree" / "f", f"{there}/d", method=method)
    with pytest.raises(IsADirectoryError):
        connection.get(f"{there}/f", here / "d", method=method)
    assert os.listdir(there / "d") == os.listdir(here / "d") == []


@pytest.mark.parametrize(
    ("name", "method"),
    [("small", "auto"), ("large", "auto"), ("tree", "auto"), ("tree", "sftp"), ("tree", "rsync"),
     ("small", "scp"), ("small", "rsync")],
)  # fmt: skip
def test_a_host_that_sends_far_more_than_it_listed(
    connection: Connection,
    host: Host,
    here: Path,
    there: Path,
    name: str,
    method: Method,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By sftp, by a stream, as a tree: it ends there, and nothing is kept."""
    size = (4 if name == "small" else 9) << 20
    where = f"{there.name}/more" + ("/f" if name == "tree" else "")
    if name == "tree":
        host.make_directory(f"{there.name}/more")
    host.make(where, b"x" * size)
    monkeypatch.setattr(limits, "grown", lambda size: size // 4)
    # On a busy machine the way seems long: of ranges no more is read than was listed.
    monkeypatch.setattr(parallel, "LONG", 3600.0)
    before = sorted(os.listdir(here))
    with pytest.raises(TransferError, match="far more"):
        connection.get(f"{there}/more", here / "x", method=method)
    assert sorted(os.listdir(here)) == before


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(("kind", "method"), [("file", "rsync"), ("tree", "rsync")])
def test_an_rsync_that_fails_without_a_message(
    connection: Connection,
    here: Path,
    there: Path,
    tmp_path: Path,
    kind: str,
    method: Method,
    times: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The real one loses the message of its other half now and then: it runs once more."""
    parts.require("rsync")
    binary, runs = tmp_path / "bin", tmp_path / "runs"
    binary.mkdir()
    program = f"""#!/bin/sh
[ "$1" != --version ] || exec {shutil.which("rsync")} --version
echo >>{runs}
[ "$(wc -l <{runs})" -gt {times} ] || {{ {shutil.which("rsync")} "$@"; exit 11; }} 2>/dev/null
exec {shutil.which("rsync")} "$@"
"""
    (binary / "rsync").write_text(program)
    (binary / "rsync").chmod(0o755)
    monkeypatch.setenv("PATH", f"{binary}:{os.environ['PATH']}")
    source = here / ("tree" if kind == "tree" else "tree/f")
    if times == 1:
        connection.put(source, f"{there}/x", method=method)
        moved = there / ("x/f" if kind == "tree" else "x")
        assert moved.read_bytes() == (here / "tree" / "f").read_bytes()
    else:
        with pytest.raises(TransferError, match="rsync: ended with status 11 and without"):
            connection.put(source, f"{there}/x", method=method)
        assert os.listdir(there) == []
    assert runs.read_text().count("\n") == 2
