"""Trees, and what is cut off in the middle: whole or absent, nothing left behind."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from openssh_jobs import Connection
from openssh_jobs.errors import OpenSSHJobsError, TransferError
from openssh_jobs.transfer.options import Method
from tests.helpers import facts, hidden, make_tree, start_client, until
from tests.lab import parts
from tests.lab.site import Host
from tests.names import EXPRESSIBLE, NAMES

pytest_plugins = ("tests.fixtures",)


# -- trees ----------------------------------------------------------------------------------------


def test_a_tree_there_and_back(
    connection: Connection, host: Host, here: Path, there: Path, method: Method
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


@pytest.mark.parametrize("way", ["tar", "rsync"])
def test_variables_that_give_programs_more_options_do_not_count(
    connection: Connection, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch, way: Method
) -> None:
    parts.require("rsync")
    monkeypatch.setenv("TAR_OPTIONS", "--exclude=f* --nonsense")
    monkeypatch.setenv("RSYNC_ICONV", "utf-8,nonsense")
    monkeypatch.setenv("RSYNC_PROXY", "nonsense")
    make_tree(here / "tree", ["file", "a b"])
    wanted = facts(here / "tree")
    connection.put(here / "tree", f"{there}/tree", method=way)
    assert facts(there / "tree") == wanted
    connection.get(f"{there}/tree", here / "back", method=way)
    assert facts(here / "back") == wanted


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
    connection: Connection, here: Path, there: Path, method: Method
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


def test_directories_that_are_not_writable_are_merged(
    connection: Connection, here: Path, there: Path, method: Method
) -> None:
    """Their modes arrive, and are no obstacle on the way."""
    (here / "tree" / "sub").mkdir(parents=True)
    for name in ("one", "sub/two"):
        (here / "tree" / name).write_bytes(b"x")
    for name in ("sub", ""):
        (here / "tree" / name).chmod(0o555)
    (here / "other").mkdir()
    (here / "other" / "mine").write_bytes(b"y")
    connection.put(here / "other", f"{there}/t", method=method)
    connection.put(here / "tree", f"{there}/t", method=method, merge=True)
    assert facts(there / "t")["sub"] == facts(here / "tree")["sub"]
    assert sorted(os.listdir(there / "t")) == ["mine", "one", "sub"]
    connection.get(f"{there}/t", here / "other", method=method, merge=True)
    assert facts(here / "other")["sub"] == facts(there / "t")["sub"]
    assert (here / "other" / "sub" / "two").read_bytes() == b"x"
    assert hidden(there) == hidden(here) == []


def test_a_directory_in_the_way_of_a_merge(
    connection: Connection, host: Host, here: Path, there: Path, method: Method
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


def test_filters(connection: Connection, here: Path, there: Path, method: Method) -> None:
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
    connection: Connection, here: Path, there: Path, method: Method
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
    connection: Connection, host: Host, here: Path, there: Path, method: Method
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
    host: Host, here: Path, there: Path, method: Method, what: str
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
    host: Host, here: Path, there: Path, method: Method, what: str
) -> None:
    big, target = (here, there) if what == "put" else (there, here)
    (big / "tree").mkdir()
    with (big / "tree" / "big").open("wb") as handle:
        handle.truncate(1 << 40)
    # As a hole it would be through before the key is pressed.
    code = "from openssh_jobs.transfer import tar_flavours as tars; "
    code += "tars.keeps_holes = lambda *_: False; "
    code += f"c.{what}({str(big / 'tree')!r}, {str(target / 't')!r}, method={method!r})"
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
    connection: Connection, host: Host, here: Path, there: Path, method: Method, kind: str
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
            reported = getattr(caught.value, "host", None)
            assert reported == (connection.host if small.parent == there else None), caught.value
            assert os.listdir(small) == ["old"]
        finally:
            undo()


def test_a_target_directory_that_may_not_be_written(
    connection: Connection, host: Host, here: Path, there: Path, method: Method
) -> None:
    make_tree(here / "tree", [])
    closed = host.make_directory(f"{there.name}/closed", 0o555)
    with pytest.raises(PermissionError):
        connection.put(here / "tree", f"{closed}/t", method=method)
    assert os.listdir(closed) == []


def test_many_threads_move_files_at_once(
    connection: Connection, here: Path, there: Path, method: Method
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


def test_no_other_user_can_read_the_part(
    host: Host, here: Path, there: Path, method: Method
) -> None:
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
