"""``update``, ``resume``, ``verify`` and the methods ``rsync`` and ``scp``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from openssh_jobs import Connection
from openssh_jobs.errors import (
    ConfigurationError,
    ConnectionLost,
    OpenSSHJobsError,
    TransferError,
    UnrepresentableName,
    VerifyFailed,
)
from openssh_jobs.transfer import checksums, parallel, scp, update
from openssh_jobs.transfer.options import Method, TransferOptions
from tests.lab.site import Host
from tests.names import EXPRESSIBLE, NAMES
from tests.real.transfer.straight import backend, route

pytest_plugins = ("tests.fixtures",)
__all__ = ["backend", "route"]

_OLD = 1_600_000_000


@pytest.fixture(params=["tar", "sftp", "rsync"])
def method(request: pytest.FixtureRequest) -> str:
    """The ways that move trees."""
    if request.param == "rsync" and shutil.which("rsync") is None:
        pytest.skip("no rsync: apt-get install rsync")
    return str(request.param)


def contents(top: Path) -> dict[str, object]:
    return {
        str(path.relative_to(top)): (
            os.readlink(path)
            if path.is_symlink()
            else (path.read_bytes(), int(path.stat().st_mtime))
        )
        for path in top.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def grow(top: Path) -> None:
    """A tree with hostile names, old times and links."""
    for number, name in enumerate(EXPRESSIBLE):
        (top / "d" / "e").mkdir(parents=True, exist_ok=True)
        (top / "d" / name).write_bytes(os.urandom(number + 1))
        os.utime(top / "d" / name, (_OLD, _OLD + number))
    (top / "d" / "e" / "link").symlink_to("../x")
    (top / "empty").mkdir()


def change(top: Path, number: int) -> None:
    """Four differences: one in size, one in time, a link, a new directory with a file."""
    (top / "d" / "a b").write_bytes(b"longer than before")
    os.utime(top / "d" / "~", (_OLD, _OLD + 500 + number))
    (top / "d" / "e" / "link").unlink()
    (top / "d" / "e" / "link").symlink_to(f"../y{number}")
    (top / f"new {number}" / "deep").mkdir(parents=True)
    (top / f"new {number}").chmod(0o751)
    (top / f"new {number}" / "deep" / "f").write_bytes(b"f")


def test_only_what_differs_is_put(
    connection: Connection, here: Path, there: Path, method: Method
) -> None:
    grow(here)
    total = len(contents(here))
    target = f"{there}/t"
    done = connection.put(here, target, update=True, method=method)
    assert (done.files, done.skipped) == (total, 0)
    assert contents(there / "t") == contents(here)
    again = connection.put(here, target, update=True, method=method)
    assert (again.files, again.bytes, again.skipped) == (0, 0, total)
    inode = (there / "t" / "d" / "a b").stat().st_ino
    change(here, 1)
    done = connection.put(here, target, update=True, method=method)
    assert (done.files, done.skipped) == (3, total - 2), "of one only the time differs"
    assert contents(there / "t") == contents(here)
    assert (there / "t" / "d" / "a b").stat().st_ino != inode, "renamed over it, not rewritten"
    assert (there / "t" / "new 1").stat().st_mode & 0o777 == 0o751
    assert connection.put(here, target, update=True, method=method).files == 0
    assert [name for name in connection.listdir(str(there)) if name != "t"] == []


def test_only_what_differs_is_got(
    connection: Connection, here: Path, there: Path, method: Method
) -> None:
    grow(here)
    connection.put(here, f"{there}/t", preserve=True)
    total = len(contents(here))
    home = here.parent / "home"
    done = connection.get(f"{there}/t", home, update=True, method=method)
    assert (done.files, done.skipped) == (total, 0)
    assert contents(home) == contents(here)
    assert connection.get(f"{there}/t", home, update=True, method=method).skipped == total
    change(here, 2)
    connection.put(here, f"{there}/t", update=True)
    done = connection.get(f"{there}/t", home, update=True, method=method)
    assert (done.files, done.skipped) == (3, total - 2), "of one only the time differs"
    assert contents(home) == contents(here)
    assert connection.get(f"{there}/t", home, update=True, method=method).files == 0
    assert sorted(os.listdir(here.parent)) == ["here", "home"]


def test_nothing_is_read_through_a_link_of_another_user(
    connection: Connection, here: Path, there: Path, method: Method
) -> None:
    """rsync would tell the host what it finds there, to send only what differs."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a link of another user")
    (here / "t").mkdir()
    (here / "t" / "f").write_bytes(b"theirs")
    connection.put(here / "t", f"{there}/t")
    precious, link = here / "precious", here / "link"
    precious.mkdir()
    (precious / "f").write_bytes(b"secret")
    os.utime(precious / "f", (_OLD, _OLD))
    link.symlink_to("precious")
    os.chown(link, 65534, 65534, follow_symlinks=False)
    several: list[TransferOptions] = [{"update": True}, {"update": True, "verify": True}]
    for options in several:
        with pytest.raises(PermissionError, match="a link of another user"):
            connection.get(f"{there}/t", link, method=method, **options)
        assert (precious / "f").stat().st_atime == _OLD, "it was read"
    os.chown(link, 0, 0, follow_symlinks=False)
    connection.get(f"{there}/t", link, method=method, update=True)
    assert (precious / "f").read_bytes() == b"theirs"


def test_a_tree_that_is_gone_when_it_is_listed_is_not_an_empty_one(
    connection: Connection, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.put(here, f"{there}/t")
    before = contents(here)
    monkeypatch.setattr(update, "list_remote", lambda *_, **__: None)
    with pytest.raises(FileNotFoundError, match=f"{there.name}/t"):
        connection.get(f"{there}/t", here, update=True)
    with pytest.raises(FileNotFoundError, match=f"{there.name}/t"):
        connection.get(f"{there}/t", here, update=True, delete=True)
    assert contents(here) == before


def test_with_the_same_size_and_time_only_the_checksum_differs(
    connection: Connection, here: Path, there: Path, method: Method
) -> None:
    (here / "t").mkdir()
    (here / "t" / "f").write_bytes(b"one")
    os.utime(here / "t" / "f", (_OLD, _OLD))
    connection.put(here / "t", f"{there}/t", update=True, method=method)
    (here / "t" / "f").write_bytes(b"two")
    os.utime(here / "t" / "f", (_OLD, _OLD))
    assert connection.put(here / "t", f"{there}/t", update=True, method=method).files == 0
    done = connection.put(here / "t", f"{there}/t", update=True, verify=True, method=method)
    assert done.files == 1
    assert (there / "t" / "f").read_bytes() == b"two"
    os.utime(there / "t" / "f", (1, 1))
    done = connection.put(here / "t", f"{there}/t", update=True, verify=True, method=method)
    assert done.files == 0, "the content is the same"
    (here / "t" / "f").write_bytes(b"six")
    done = connection.get(f"{there}/t", here / "t", update=True, verify=True, method=method)
    assert done.files == 1
    assert (here / "t" / "f").read_bytes() == b"two"


@pytest.mark.parametrize("way", ["auto", "sftp", "rsync", "scp"])
def test_a_single_file_is_updated(
    connection: Connection, here: Path, there: Path, way: Method
) -> None:
    (here / "f").write_bytes(b"content")
    os.utime(here / "f", (_OLD, _OLD))
    for moved in (1, 0):
        done = connection.put(here / "f", f"{there}/g", update=True, method=way)
        assert (done.files, done.skipped) == (moved, 1 - moved)
    assert (there / "g").stat().st_mtime == _OLD
    for moved in (1, 0):
        done = connection.get(f"{there}/g", here / "h", update=True, method=way)
        assert (done.files, done.skipped) == (moved, 1 - moved)
    (here / "h").write_bytes(b"CONTENT")
    os.utime(here / "h", (_OLD, _OLD))
    assert connection.get(f"{there}/g", here / "h", update=True, method=way).files == 0
    assert connection.get(f"{there}/g", here / "h", update=True, verify=True, method=way).files
    assert (here / "h").read_bytes() == b"content"
    assert sorted(os.listdir(here)) == ["f", "h"]
    assert os.listdir(there) == ["g"]


def test_a_directory_in_the_way_of_a_file_and_a_link_in_the_way_of_a_directory(
    connection: Connection, here: Path, there: Path
) -> None:
    (here / "t" / "x").mkdir(parents=True)
    (here / "t" / "f").write_bytes(b"f")
    connection.put(here / "t", f"{there}/t")
    (here / "t" / "f").unlink()
    (here / "t" / "f").mkdir()
    with pytest.raises(IsADirectoryError):
        connection.get(f"{there}/t", here / "t", update=True)
    (here / "t" / "f").rmdir()
    (here / "t" / "x").rmdir()
    outside = here / "outside"
    outside.mkdir()
    (here / "t" / "x").symlink_to(outside)
    connection.write_text(f"{there}/t/x/new", "new")
    with pytest.raises(NotADirectoryError, match="not followed"):
        connection.get(f"{there}/t", here / "t", update=True)
    assert os.listdir(outside) == []
    assert os.listdir(here / "t") == ["x"], "nothing was moved before the refusal"


def test_filters_hold_for_an_update(
    connection: Connection, here: Path, there: Path, method: Method
) -> None:
    grow(here)
    (here / "keep.log").write_bytes(b"1")
    done = connection.put(here, f"{there}/t", update=True, only=["*.log"], method=method)
    assert done.files == 1
    assert list(contents(there / "t")) == ["keep.log"]
    done = connection.get(
        f"{there}/t", here / "back", update=True, exclude=["*.log"], method=method
    )
    assert (done.files, done.skipped) == (0, 1)


# -- checksums ------------------------------------------------------------------------------------


def test_a_tree_is_compared_whole(
    connection: Connection,
    here: Path,
    there: Path,
    method: Method,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (here / "t").mkdir()
    names = EXPRESSIBLE if method == "sftp" else NAMES
    for name in names:
        (here / "t" / name).write_bytes(os.fsencode(name))
    connection.put(here / "t", f"{there}/t", verify=True, method=method)
    connection.get(f"{there}/t", here / "u", verify=True, method=method)
    assert contents(here / "u").keys() == contents(here / "t").keys()
    monkeypatch.setattr(checksums, "local", lambda path, size=None: "0" * 64)
    with pytest.raises(VerifyFailed, match="differ"):
        connection.put(here / "t", f"{there}/bad", verify=True, method=method)
    with pytest.raises(VerifyFailed, match="differ"):
        connection.get(f"{there}/t", here / "bad", verify=True, method=method)
    assert os.listdir(there) == ["t"]
    assert sorted(os.listdir(here)) == ["t", "u"]


# -- going on -------------------------------------------------------------------------------------

_BLOCK = parallel.BLOCK


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """``cut[:] = [N]``: a transfer in ranges fails when N bytes have gone through."""
    limit: list[int] = []
    moved = parallel.RangeThreads.moved

    def counting(self: parallel.RangeThreads, count: int) -> None:
        moved(self, count)
        if limit and self.done >= limit[0]:
            raise ConnectionLost("cut", host="host")

    monkeypatch.setattr(parallel.RangeThreads, "moved", counting)
    return limit


def test_a_put_goes_on_where_it_was_cut(
    connection: Connection, here: Path, there: Path, cut: list[int]
) -> None:
    data = os.urandom(6 * _BLOCK + 5)
    (here / "f").write_bytes(data)
    (there / "f").write_bytes(b"old")
    (there / "f").chmod(0o666)
    cut[:] = [4 * _BLOCK]
    with pytest.raises(ConnectionLost, match="resume=True"):
        connection.put(here / "f", f"{there}/f", resume=True)
    assert (there / "f").read_bytes() == b"old"
    (part,) = there.glob(".oj-*.part")
    assert 2 * _BLOCK <= part.stat().st_size <= 5 * _BLOCK
    assert part.stat().st_mode & 0o077 == 0
    cut.clear()
    seen: list[int] = []
    connection.put(
        here / "f", f"{there}/f", resume=True, progress=lambda done, *_: seen.append(done)
    )
    assert (there / "f").read_bytes() == data
    assert min(seen[1:]) >= _BLOCK, "it did not begin again from the start"
    assert os.listdir(there) == ["f"]


def test_a_get_goes_on_where_it_was_cut(
    connection: Connection, host: Host, here: Path, there: Path, cut: list[int]
) -> None:
    data = os.urandom(6 * _BLOCK + 5)
    host.make(f"{there.name}/f", data)
    (here / "f").write_bytes(b"old")
    cut[:] = [4 * _BLOCK]
    with pytest.raises(ConnectionLost, match="resume=True"):
        connection.get(f"{there}/f", here / "f", resume=True)
    assert (here / "f").read_bytes() == b"old"
    cut.clear()
    seen: list[int] = []
    connection.get(
        f"{there}/f", here / "f", resume=True, progress=lambda done, *_: seen.append(done)
    )
    assert (here / "f").read_bytes() == data
    assert min(seen[1:]) >= _BLOCK
    assert os.listdir(here) == ["f"]


def test_a_part_of_something_else_is_not_used(
    connection: Connection, host: Host, here: Path, there: Path, cut: list[int]
) -> None:
    """Neither one whose bytes differ, nor one of what the source was before."""
    one, two = os.urandom(4 * _BLOCK), os.urandom(4 * _BLOCK)
    (here / "f").write_bytes(one)
    host.make(f"{there.name}/g", one)
    for spoil in ("bytes", "source"):
        cut[:] = [3 * _BLOCK]
        with pytest.raises(ConnectionLost):
            connection.put(here / "f", f"{there}/f", resume=True)
        with pytest.raises(ConnectionLost):
            connection.get(f"{there}/g", here / "g", resume=True)
        cut.clear()
        if spoil == "bytes":
            for part in (*there.glob(".oj-*.part"), *here.glob(".oj-*.part")):
                with part.open("r+b") as handle:
                    handle.write(b"spoiled")
        else:
            (here / "f").write_bytes(two)
            (there / "g").write_bytes(two)
        connection.put(here / "f", f"{there}/f", resume=True)
        connection.get(f"{there}/g", here / "g", resume=True)
        expected = one if spoil == "bytes" else two
        assert (there / "f").read_bytes() == (here / "g").read_bytes() == expected
        assert sorted(os.listdir(there)) == ["f", "g"]
        assert sorted(os.listdir(here)) == ["f", "g"]


def test_without_resume_nothing_is_kept(
    connection: Connection,
    host: Host,
    here: Path,
    there: Path,
    cut: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parallel, "LONG", 0.0)
    monkeypatch.setattr(parallel, "SMALLEST", 1)
    (here / "f").write_bytes(b"x" * 3 * _BLOCK)
    host.make(f"{there.name}/g", b"x" * 3 * _BLOCK)
    cut[:] = [2 * _BLOCK]
    with pytest.raises(ConnectionLost) as caught:
        connection.put(here / "f", f"{there}/f")
    assert "resume" not in str(caught.value)
    with pytest.raises(ConnectionLost):
        connection.get(f"{there}/g", here / "g")
    assert connection.listdir(str(there)) == ["g"]
    assert os.listdir(here) == ["f"]


def test_small_and_empty_files_may_be_resumed_too(
    connection: Connection, here: Path, there: Path
) -> None:
    for size in (0, 1, _BLOCK):
        (here / "f").write_bytes(os.urandom(size))
        connection.put(here / "f", f"{there}/f", resume=True, verify=True)
        connection.get(f"{there}/f", here / "g", resume=True, verify=True)
        assert (here / "g").read_bytes() == (here / "f").read_bytes()
    assert os.listdir(there) == ["f"]


def test_what_cannot_be_asked_together(connection: Connection, here: Path, there: Path) -> None:
    (here / "t").mkdir()
    with pytest.raises(ConfigurationError, match="single files"):
        connection.put(here / "t", f"{there}/t", resume=True)
    with pytest.raises(ConfigurationError, match="single files"):
        connection.put(here / "t", f"{there}/t", method="scp")
    with pytest.raises(ConfigurationError, match="stream"):
        connection.put(here / "t", f"{there}/t", method="sftp", resume=True)
    with pytest.raises(TypeError):
        connection.put(here / "t", f"{there}/t", updates=True)  # type: ignore[call-arg]
    assert os.listdir(there) == []


# -- rsync and scp --------------------------------------------------------------------------------


def test_rsync_is_asked_for_by_name_and_has_to_be_there(
    connection: Connection, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "t").mkdir()
    (here / "t" / "f").write_bytes(b"x")
    monkeypatch.setenv("PATH", str(here))
    with pytest.raises(ConfigurationError, match="no rsync on this machine"):
        connection.put(here / "t", f"{there}/t", method="rsync")
    assert os.listdir(there) == []


@pytest.mark.parametrize("way", ["scp", "rsync"])
def test_single_files_by_other_programs(
    connection: Connection, host: Host, here: Path, there: Path, way: Method
) -> None:
    for name in NAMES:
        content = os.fsencode(name)
        (here / name).write_bytes(content)
        try:
            scp.remote_word(os.fsencode(name))
        except UnrepresentableName:
            if way == "scp":
                host.make(f"{there.name}/{name}", content)
                with pytest.raises(UnrepresentableName):
                    connection.get(f"{there}/{name}", here / "back", method=way)
                (there / name).unlink()
                continue
        connection.put(here / name, f"{there}/{name}", method=way)
        assert (there / name).read_bytes() == content, name
        connection.get(f"{there}/{name}", here / "back", method=way)
        assert (here / "back").read_bytes() == content, name
        (there / name).unlink()
    assert not (host.home / "pwned").exists()
    assert os.listdir(there) == []
    host.make(f"{there.name}/all may write", b"x", 0o666)
    connection.get(f"{there}/all may write", here / "back", method=way, preserve=True)
    assert (here / "back").stat().st_mode & 0o777 == 0o666


@pytest.mark.parametrize("way", ["scp", "rsync"])
def test_their_failures_are_ours(
    connection: Connection, host: Host, here: Path, there: Path, way: Method
) -> None:
    (here / "f").write_bytes(b"x" * 100_000)
    closed = host.make_directory(f"{there.name}/closed", 0o555)
    with pytest.raises(PermissionError) as caught:
        connection.put(here / "f", f"{closed}/f", method=way)
    assert isinstance(caught.value, OpenSSHJobsError)
    with pytest.raises(FileNotFoundError):
        connection.get(f"{there}/none", here / "g", method=way)
    host.make(f"{there.name}/secret", b"x", 0o000)
    with pytest.raises((PermissionError, TransferError)):
        connection.get(f"{there}/secret", here / "g", method=way)
    assert os.listdir(here) == ["f"]
    closed.chmod(0o755)
    assert os.listdir(closed) == []
