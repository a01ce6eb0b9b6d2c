"""``put`` and ``get``: whole or absent, by both methods, any name, nothing left behind."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
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
from openssh_jobs.remote import streams
from tests.helpers import start_client, until
from tests.names import EXPRESSIBLE, NAMES
from tests.real import parts
from tests.real.site import Host

_numbers = itertools.count()


@pytest.fixture(params=["sftp", "tar"])
def method(request: pytest.FixtureRequest) -> str:
    """Both ways to move files."""
    return str(request.param)


@pytest.fixture
def there(host: Host) -> Iterator[Path]:
    """An empty directory of the user's on the host."""
    directory = host.make_directory(f"t {os.getpid()} {next(_numbers)}")
    yield directory
    for path in directory.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(os.fsencode(directory))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """An empty directory of ours."""
    directory = tmp_path / "here"
    directory.mkdir()
    return directory


def facts(top: Path) -> dict[str, Any]:
    """Everything that has to arrive: names, kinds, modes, contents, targets of links."""
    found: dict[str, Any] = {}
    for path in [top, *top.rglob("*")]:
        name, info = str(path.relative_to(top)), path.lstat()
        if stat.S_ISLNK(info.st_mode):
            found[name] = ("link", os.readlink(path))
        elif stat.S_ISDIR(info.st_mode):
            found[name] = ("directory", stat.S_IMODE(info.st_mode))
        else:
            found[name] = ("file", stat.S_IMODE(info.st_mode), path.read_bytes())
    return found


def make_tree(top: Path, names: list[str]) -> None:
    """A tree with everything in it that a plain user can make."""
    top.mkdir()
    for number, name in enumerate(names):
        (top / name).write_bytes(os.urandom(number * 7))
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "sub" / "empty").mkdir(mode=0o700)
    (top / "sub" / "deep" / "run.sh").write_bytes(b"#!/bin/sh\n")
    (top / "sub" / "deep" / "run.sh").chmod(0o755)
    (top / "sub" / "read-only").write_bytes(b"r")
    (top / "sub" / "read-only").chmod(0o444)
    (top / "nothing").write_bytes(b"")
    (top / "link").symlink_to("sub/deep/run.sh")
    (top / "dangling").symlink_to("no where")
    (top / "absolute").symlink_to("/etc/passwd")
    (top / "dirlink").symlink_to("sub")


def hidden(directory: Path) -> list[str]:
    """Parts that did not become a file."""
    return [path.name for path in directory.rglob(".oj-*")]


# -- one file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 70_000, 5_000_000])
def test_a_file_there_and_back(
    connection: Connection, here: Path, there: Path, method: str, size: int
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
    connection: Connection, host: Host, here: Path, there: Path, method: str
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
    connection: Connection, host: Host, here: Path, there: Path, method: str
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


def test_a_file_replaces_a_file_and_a_link(
    connection: Connection, host: Host, here: Path, there: Path, method: str
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
    connection: Connection, host: Host, here: Path, there: Path, method: str
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
    connection: Connection, host: Host, here: Path, there: Path, method: str
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
    for wrong in ({"method": "ftp"}, {"method": ""}):
        with pytest.raises(ConfigurationError):
            connection.put(here / "f", "x", **wrong)
    with pytest.raises(TypeError, match="list of patterns"):
        connection.put(here, "x", only="*.log")
    with pytest.raises(TypeError):
        connection.put(here / "f", "x", no_such_option=True)
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
    monkeypatch.setattr(streams, "sha256_local", lambda path: "0" * 64)
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
    connection: Connection, here: Path, there: Path, method: str
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


# -- trees ----------------------------------------------------------------------------------------


def test_a_tree_there_and_back(
    connection: Connection, host: Host, here: Path, there: Path, method: str
) -> None:
    names = EXPRESSIBLE if method == "sftp" else NAMES
    make_tree(here / "tree", names)
    wanted = facts(here / "tree")
    done = connection.put(here / "tree", f"{there}/tree", method=method)
    assert done.files == len(names) + 7
    assert facts(there / "tree") == wanted
    back = connection.get(f"{there}/tree", here / "back", method=method)
    assert facts(here / "back") == wanted
    assert (back.files, back.bytes) == (done.files, done.bytes)
    assert hidden(there) == hidden(here) == []
    assert not (host.home / "pwned").exists()


def test_links_are_followed_where_asked(connection: Connection, here: Path, there: Path) -> None:
    (here / "tree").mkdir()
    (here / "out").mkdir()
    (here / "out" / "f").write_bytes(b"outside")
    (here / "tree" / "dir").symlink_to("../out")
    (here / "tree" / "file").symlink_to("../out/f")
    connection.put(here / "tree", f"{there}/tree", follow_symlinks=True)
    assert (there / "tree/dir/f").read_bytes() == b"outside"
    assert not (there / "tree/dir").is_symlink()
    assert not (there / "tree/file").is_symlink()
    (here / "tree" / "loop").symlink_to(".")
    with pytest.raises(OSError, match="loop"):
        connection.put(here / "tree", f"{there}/again", follow_symlinks=True)
    assert os.listdir(there) == ["tree"]


def test_a_tree_that_exists_is_refused_or_merged(
    connection: Connection, here: Path, there: Path, method: str
) -> None:
    make_tree(here / "tree", ["a b", "same"])
    connection.put(here / "tree", f"{there}/tree", method=method)
    before = facts(there / "tree")
    (here / "tree" / "same").write_bytes(b"changed")
    (here / "tree" / "more").mkdir()
    (here / "tree" / "more" / "f").write_bytes(b"more")
    (here / "tree" / "a b").unlink()
    with pytest.raises(FileExistsError):
        connection.put(here / "tree", f"{there}/tree", method=method)
    assert facts(there / "tree") == before
    connection.put(here / "tree", f"{there}/tree", method=method, merge=True)
    assert facts(there / "tree") == before | facts(here / "tree")

    make_tree(here / "back", ["mine"])
    mine = facts(here / "back")
    with pytest.raises(FileExistsError):
        connection.get(f"{there}/tree", here / "back", method=method)
    assert facts(here / "back") == mine
    connection.get(f"{there}/tree", here / "back", method=method, merge=True)
    assert facts(here / "back") == mine | facts(there / "tree")
    assert hidden(there) == hidden(here) == []


def test_a_directory_in_the_way_of_a_merge(
    connection: Connection, host: Host, here: Path, there: Path, method: str
) -> None:
    (here / "tree").mkdir()
    (here / "tree" / "name").write_bytes(b"x")
    host.make(f"{there.name}/tree/name/in", b"y")
    with pytest.raises(IsADirectoryError):
        connection.put(here / "tree", f"{there}/tree", method=method, merge=True)
    assert (there / "tree/name/in").read_bytes() == b"y"
    host.make(f"{there.name}/file", b"z")
    with pytest.raises(NotADirectoryError):
        connection.put(here / "tree", f"{there}/file", method=method, merge=True)
    assert (there / "file").read_bytes() == b"z"
    assert hidden(there) == []


def test_filters(connection: Connection, here: Path, there: Path, method: str) -> None:
    for name in ("a.log", "b.txt", "sub/c.log", "sub/d.txt", "big/x.wfn", "big/y.log", "end/e.txt"):
        path = here / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    done = connection.put(
        here / "tree", f"{there}/t", method=method, only=["*.log"], exclude=["big"]
    )
    assert (done.files, done.skipped) == (2, 5)
    arrived = sorted(str(path.relative_to(there / "t")) for path in (there / "t").rglob("*"))
    assert arrived == ["a.log", "sub", "sub/c.log"]
    connection.put(here / "tree", f"{there}/u", method=method)
    done = connection.get(f"{there}/u", here / "u", method=method, exclude=["sub/*.txt", "*.wfn"])
    assert (done.files, done.skipped) == (5, 2)
    assert not (here / "u/sub/d.txt").exists()
    assert (here / "u/end/e.txt").exists()


def test_what_is_no_file_is_refused_by_name(
    connection: Connection, here: Path, there: Path, method: str
) -> None:
    make_tree(here / "tree", [])
    os.mkfifo(here / "tree" / "sub" / "pipe")
    with pytest.raises(TransferError, match="sub/pipe"):
        connection.put(here / "tree", f"{there}/t", method=method)
    assert os.listdir(there) == []
    connection.put(here / "tree", f"{there}/t", method=method, exclude=["pipe"])
    os.mkfifo(there / "t" / "pipe2")
    with pytest.raises(TransferError, match="pipe2"):
        connection.get(f"{there}/t", here / "back", method=method)
    assert os.listdir(here) == ["tree"]


def test_a_tree_that_cannot_be_read_whole(
    connection: Connection, host: Host, here: Path, there: Path, method: str
) -> None:
    host.make(f"{there.name}/t/ok", b"x")
    host.make(f"{there.name}/t/secret", b"x", 0o000)
    with pytest.raises((OSError, TransferError)) as caught:
        connection.get(f"{there}/t", here / "t", method=method)
    assert isinstance(caught.value, OpenSSHJobsError)
    assert os.listdir(here) == []


# -- cut off --------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["put", "get"])
def test_ctrl_c_in_the_middle_leaves_the_old_file_and_no_part(
    host: Host, here: Path, there: Path, method: str, what: str
) -> None:
    """A terabyte of nothing takes longer than the key to press."""
    big, old = (here, there) if what == "put" else (there, here)
    with (big / "big").open("wb") as handle:
        handle.truncate(1 << 40)
    host.make(f"{there.name}/old", b"old")
    (here / "old").write_bytes(b"old")
    source, target = f"{big}/big", f"{old}/old"
    code = f"c.{what}({source!r}, {target!r}, method={method!r})"
    with start_client(code, host) as child:
        assert child.stderr is not None
        assert until(lambda: any(one.stat().st_size > 1 << 20 for one in old.glob(".oj-*")))
        child.send_signal(signal.SIGINT)
        assert child.stderr.read().rstrip().endswith("KeyboardInterrupt")
    assert sorted(os.listdir(old)) == sorted({"old", *(["big"] if big == old else [])})
    assert (old / "old").read_bytes() == b"old"


@pytest.mark.parametrize("what", ["put", "get"])
def test_ctrl_c_in_the_middle_of_a_tree(
    host: Host, here: Path, there: Path, method: str, what: str
) -> None:
    big, target = (here, there) if what == "put" else (there, here)
    (big / "tree").mkdir()
    with (big / "tree" / "big").open("wb") as handle:
        handle.truncate(1 << 40)
    code = f"c.{what}({str(big / 'tree')!r}, {str(target / 't')!r}, method={method!r})"
    with start_client(code, host) as child:
        assert child.stderr is not None
        assert until(lambda: any(f.stat().st_size > 1 << 20 for f in target.glob(".oj-*/*")))
        child.send_signal(signal.SIGINT)
        assert child.stderr.read().rstrip().endswith("KeyboardInterrupt")
    assert [name for name in os.listdir(target) if name != "tree"] == []


def _full_disk(directory: Path, uid: int) -> Callable[[], object]:
    parts.require_namespaces("a full disk")
    options = f"size=1m,uid={uid},mode=755"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    subprocess.run(mount, check=True, timeout=20)
    return lambda: subprocess.run(["umount", str(directory)], check=True, timeout=20)


@pytest.mark.parametrize("kind", ["file", "tree"])
def test_a_full_disk_on_either_side(
    connection: Connection, host: Host, here: Path, there: Path, method: str, kind: str
) -> None:
    (here / "tree").mkdir()
    (here / "tree" / "f").write_bytes(os.urandom(3_000_000))
    source = "tree" if kind == "tree" else "tree/f"
    connection.put(here / "tree", f"{there}/tree")
    for small, move in (
        (there / "small", lambda to: connection.put(here / source, f"{to}/x", method=method)),
        (here / "small", lambda to: connection.get(f"{there}/{source}", to / "x", method=method)),
    ):
        small.mkdir()
        undo = _full_disk(small, host.server.uid if small.parent == there else os.geteuid())
        try:
            (small / "old").write_bytes(b"old")
            with pytest.raises((OSError, TransferError)) as caught:
                move(small)
            assert getattr(caught.value, "errno", errno.ENOSPC) == errno.ENOSPC, caught.value
            told = getattr(caught.value, "host", None)
            assert told == (connection.host if small.parent == there else None), caught.value
            assert os.listdir(small) == ["old"]
        finally:
            undo()


def test_a_target_directory_that_may_not_be_written(
    connection: Connection, host: Host, here: Path, there: Path, method: str
) -> None:
    make_tree(here / "tree", [])
    closed = host.make_directory(f"{there.name}/closed", 0o555)
    with pytest.raises(PermissionError):
        connection.put(here / "tree", f"{closed}/t", method=method)
    assert os.listdir(closed) == []


def test_many_threads_move_files_at_once(
    connection: Connection, here: Path, there: Path, method: str
) -> None:
    for i in range(8):
        (here / str(i)).write_bytes(os.urandom(200_000 + i))
    errors: list[Exception] = []

    def move(i: int) -> None:
        try:
            connection.put(here / str(i), f"{there}/{i}", method=method)
            connection.get(f"{there}/{i}", here / f"back{i}", method=method)
        except (OSError, OpenSSHJobsError) as error:
            errors.append(error)

    threads = [threading.Thread(target=move, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert all((here / f"back{i}").read_bytes() == (here / f"{i}").read_bytes() for i in range(8))


def test_the_part_is_nobody_elses_to_read(host: Host, here: Path, there: Path, method: str) -> None:
    """Not even while it is not complete is a private file open to others."""
    (here / "secret").write_bytes(bytes(3_000_000))
    (here / "secret").chmod(0o600)
    seen: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for path in [*there.glob(".oj-*"), *here.glob(".oj-*")]:
                try:
                    info = path.stat()
                except OSError:
                    continue
                if info.st_size not in (0, 3_000_000):
                    seen.append(stat.S_IMODE(info.st_mode) & 0o077)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with Connection(host.alias, ssh_config=host.config) as c:
            for i in range(5):
                c.put(here / "secret", f"{there}/s{i}", method=method)
                c.get(f"{there}/s{i}", here / f"s{i}", method=method)
    finally:
        stop.set()
        watcher.join()
    assert set(seen) <= {0}
