"""``put`` and ``get``: whole or absent, by both methods, any name, nothing left behind."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection
from openssh_jobs.errors import (
    ConfigurationError,
    OpenSSHJobsError,
    TransferError,
    UnrepresentableName,
    VerifyFailed,
)
from openssh_jobs.transfer import checksums
from openssh_jobs.transfer.options import Method
from openssh_jobs.transfer.single_file import FileMoves
from tests.helpers import facts, give_default_acl, hidden
from tests.lab.site import Host
from tests.names import EXPRESSIBLE, NAMES

pytest_plugins = ("tests.fixtures",)


# -- one file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 70_000, 5_000_000])
def test_a_file_there_and_back(
    connection: Connection, here: Path, there: Path, method: Method, size: int
) -> None:
    data = os.urandom(size)
    (here / "f").write_bytes(data)
    done = connection.put(here / "f", f"{there}/g", method=method)
    assert (done.files, done.bytes, done.skipped) == (1, size, 0)
    assert (there / "g").read_bytes() == data
    done = connection.get(f"{there}/g", here / "back", method=method)
    assert (done.files, done.bytes, done.skipped) == (1, size, 0)
    assert (here / "back").read_bytes() == data
    assert (os.listdir(there), sorted(os.listdir(here))) == (["g"], ["back", "f"])


@pytest.mark.parametrize("route", ["direct"], indirect=True)
def test_every_name_there_and_back(
    connection: Connection, host: Host, here: Path, there: Path, method: Method
) -> None:
    for name in EXPRESSIBLE if method == "sftp" else NAMES:
        content = name.encode("utf-8", "surrogateescape")
        (here / name).write_bytes(content)
        connection.put(here / name, f"{there.name}/{name}", method=method)
        assert (there / name).read_bytes() == content, name
        (here / name).unlink()
        connection.get(f"{there.name}/{name}", here / name, method=method)
        assert (here / name).read_bytes() == content, name
        (there / name).unlink()
    assert not (host.home / "pwned").exists()
    assert not Path("pwned").exists()
    assert os.listdir(there) == []


def test_sftp_refuses_a_newline_by_name_and_auto_goes_another_way(sshd: Host, here: Path) -> None:
    (here / "a\nb").write_bytes(b"x")
    (here / "tree").mkdir()
    (here / "tree" / "c\nd").write_bytes(b"y")
    with Connection(sshd.alias, ssh_config=sshd.config) as c:
        base = f"n{os.getpid()}"
        for what in ("a\nb", "tree"):
            with pytest.raises(UnrepresentableName, match=r"\\n"):
                c.put(here / what, f"{base}/x", method="sftp")
        c.put(here / "a\nb", f"{base}/")
        c.put(here / "tree", f"{base}/")
        assert sorted(c.listdir(base)) == ["a\nb", "tree"]
        with pytest.raises(UnrepresentableName, match=r"\\n"):
            c.get(f"{base}/a\nb", here / "x", method="sftp")
        c.get(f"{base}/a\nb", here / "x")
        assert (here / "x").read_bytes() == b"x"
        c.rmtree(base)


def test_where_a_file_goes(connection: Connection, host: Host, here: Path, there: Path) -> None:
    (here / "f").write_bytes(b"x")
    (there / "d").mkdir()
    (there / "d").chmod(0o777)
    connection.put(here / "f", f"{there}/new/parents/g")
    connection.put(here / "f", f"{there}/into/")
    assert (there / "new/parents/g").read_bytes() == (there / "into/f").read_bytes() == b"x"
    with pytest.raises(IsADirectoryError):
        connection.put(here / "f", f"{there}/d")
    connection.get(f"{there}/into/f", here / "a/b/c")
    connection.get(f"{there}/into/f", f"{here}/a/")
    assert (here / "a/b/c").read_bytes() == (here / "a/f").read_bytes() == b"x"
    with pytest.raises(IsADirectoryError):
        connection.get(f"{there}/into/f", here / "a")
    assert hidden(there) == hidden(here) == []


def test_modes_and_times(
    connection: Connection, host: Host, here: Path, there: Path, method: Method
) -> None:
    (here / "run").write_bytes(b"#!/bin/sh\n")
    (here / "run").chmod(0o4775)
    os.utime(here / "run", (1_600_000_000, 1_600_000_000))
    connection.put(here / "run", f"{there}/run", method=method)
    assert stat.S_IMODE((there / "run").stat().st_mode) == 0o755, "less the umask there"
    connection.put(here / "run", f"{there}/same", method=method, preserve=True)
    assert stat.S_IMODE((there / "same").stat().st_mode) == 0o4775
    assert (there / "same").stat().st_mtime == 1_600_000_000
    old = os.umask(0o027)
    try:
        connection.get(f"{there}/same", here / "got", method=method)
        assert os.umask(0o027) == 0o027, "the umask of all threads is left alone"
    finally:
        os.umask(old)
    assert stat.S_IMODE((here / "got").stat().st_mode) == 0o750
    connection.get(f"{there}/same", here / "exact", method=method, preserve=True)
    assert stat.S_IMODE((here / "exact").stat().st_mode) == 0o4775
    assert (here / "exact").stat().st_mtime == 1_600_000_000


@pytest.mark.parametrize("route", ["direct"], indirect=True)
def test_a_part_is_closed_to_others_where_a_default_acl_opens_files(
    connection: Connection, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_default_acl(there)
    (here / "f").write_bytes(b"secret")
    (here / "f").chmod(0o600)
    modes: list[int] = []
    finish = FileMoves._finish

    def seen(self: FileMoves, part: bytes, *words: Any) -> None:
        modes.append(stat.S_IMODE(os.stat(part).st_mode))
        finish(self, part, *words)

    monkeypatch.setattr(FileMoves, "_finish", seen)
    ways: tuple[dict[str, Any], ...] = (*({"method": way} for way in METHODS), {"resume": True})
    for number, way in enumerate(ways):
        connection.put(here / "f", f"{there}/f{number}", **way)
        assert modes.pop() & 0o077 == 0, way
        assert (there / f"f{number}").stat().st_mode & 0o077 == 0, way


METHODS: tuple[Method, ...] = ("auto", "tar", "sftp", "scp", "rsync")


def test_a_file_replaces_a_file_and_a_link(
    connection: Connection, host: Host, here: Path, there: Path, method: Method
) -> None:
    host.make(f"{there.name}/f", b"old")
    host.make(f"{there.name}/behind", b"behind")
    (there / "link").symlink_to("behind")
    (here / "f").write_bytes(b"new")
    for name in ("f", "link"):
        connection.put(here / "f", f"{there}/{name}", method=method)
        assert (there / name).read_bytes() == b"new"
    assert (there / "behind").read_bytes() == b"behind"
    connection.get(f"{there}/behind", here / "f", method=method)
    assert (here / "f").read_bytes() == b"behind"


def test_what_cannot_be_put_leaves_everything_as_it_was(
    connection: Connection, host: Host, here: Path, there: Path, method: Method
) -> None:
    (here / "f").write_bytes(b"new")
    host.make(f"{there.name}/f", b"old")
    closed = host.make_directory(f"{there.name}/closed", 0o555)
    before = facts(there)
    for target, number in (
        (f"{closed}/f", errno.EACCES),
        (f"{there}/f/g", errno.ENOTDIR),
        (f"{there}/{'n' * 300}", errno.ENAMETOOLONG),
        (f"{there}/closed", errno.EISDIR),
    ):
        with pytest.raises(OSError, match=r".") as caught:
            connection.put(here / "f", target, method=method)
        assert caught.value.errno in (number, errno.EEXIST), str(caught.value)
        assert isinstance(caught.value, OpenSSHJobsError)
        assert ".oj-" not in str(caught.value)
    with pytest.raises(FileNotFoundError):
        connection.put(here / "none", f"{there}/x", method=method)
    with pytest.raises(PermissionError) as caught:
        connection.put(here / "f", "/", method=method)
    assert caught.value.filename == "/f", "the target, and not the name that it had meanwhile"
    os.mkfifo(here / "fifo")
    with pytest.raises(TransferError, match="neither"):
        connection.put(here / "fifo", f"{there}/x", method=method)
    assert facts(there) == before


def test_what_cannot_be_got_leaves_everything_as_it_was(
    connection: Connection, host: Host, here: Path, there: Path, method: Method
) -> None:
    host.make(f"{there.name}/secret", b"x", 0o000)
    (here / "old").write_bytes(b"old")
    before = facts(here)
    with pytest.raises(PermissionError):
        connection.get(f"{there}/secret", here / "old", method=method)
    with pytest.raises(FileNotFoundError):
        connection.get(f"{there}/none", here / "old", method=method)
    os.mkfifo(there / "fifo")
    with pytest.raises(TransferError, match="neither"):
        connection.get(f"{there}/fifo", here / "old", method=method)
    assert facts(here) == before


def test_options_that_make_no_sense(connection: Connection, here: Path) -> None:
    (here / "f").write_bytes(b"x")
    for wrong in ("ftp", ""):
        with pytest.raises(ConfigurationError):
            connection.put(here / "f", "x", method=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="list of patterns"):
        connection.put(here, "x", only="*.log")
    with pytest.raises(TypeError):
        connection.put(here / "f", "x", no_such_option=True)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="empty"):
        connection.put(here / "f", "")
    assert not connection.exists("x")


def test_checksums(
    connection: Connection, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "f").write_bytes(os.urandom(100_000))
    connection.put(here / "f", f"{there}/f", verify=True)
    connection.get(f"{there}/f", here / "g", verify=True)
    assert (here / "g").read_bytes() == (here / "f").read_bytes()
    monkeypatch.setattr(checksums, "local", lambda path: "0" * 64)
    for move in (
        lambda: connection.put(here / "f", f"{there}/other", verify=True),
        lambda: connection.get(f"{there}/f", here / "other", verify=True),
    ):
        with pytest.raises(VerifyFailed):
            move()
    assert (os.listdir(there), sorted(os.listdir(here))) == (["f"], ["f", "g"])


def test_two_files_in_a_row_start_one_sftp(connection: Connection, here: Path, there: Path) -> None:
    (here / "f").write_bytes(b"x")
    for name in ("a", "b", "c"):
        connection.put(here / "f", f"{there}/{name}")
        connection.get(f"{there}/{name}", here / name)
    assert connection.stats().sftp_processes == 1


def test_progress_goes_up_to_the_end(
    connection: Connection, here: Path, there: Path, method: Method
) -> None:
    (here / "f").write_bytes(bytes(3_000_000))
    for move in (
        lambda tell: connection.put(here / "f", f"{there}/f", method=method, progress=tell),
        lambda tell: connection.get(f"{there}/f", here / "g", method=method, progress=tell),
    ):
        seen: list[tuple[Any, ...]] = []
        move(lambda *numbers, to=seen: to.append(numbers))
        assert seen[0] == (0, 3_000_000, 0, 1, "f")
        assert seen[-1] == (3_000_000, 3_000_000, 1, 1, "f")
        assert [one[0] for one in seen] == sorted(one[0] for one in seen)
