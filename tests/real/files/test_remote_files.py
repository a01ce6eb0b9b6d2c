"""The short file calls: exact answers, exact errors, any name, on GNU and on BusyBox."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection
from openssh_jobs.errors import NoSpace, RemoteOSError
from tests.conftest import LEDGER
from tests.lab import namespaces, parts
from tests.lab.site import Host
from tests.lab.sshd import Sshd
from tests.names import NAMES

_numbers = itertools.count()


@pytest.fixture(scope="module")
def busybox(lab_directory: Path) -> Iterator[Host]:
    """A server on which every tool but the shell is BusyBox's, its master open."""
    parts.require("ssh", "sshd", "busybox")
    applets = lab_directory / "bb"
    applets.mkdir()
    program = shutil.which("busybox")
    subprocess.run([str(program), "--install", "-s", str(applets)], check=True, timeout=20)
    for name in ("sh", "ash"):
        (applets / name).unlink(missing_ok=True)
    server = Sshd(
        lab_directory / "bbhost",
        alias="busybox",
        user="hpcalice" if namespaces.inside() else None,
        shell=("env", f"PATH={applets}", "/bin/sh"),
    )
    server.start()
    LEDGER.add(server)
    host = Host(
        alias=server.alias,
        config=server.config,
        home=server.home,
        user=server.user,
        server=server,
    )
    connection = Connection(host.alias, ssh_config=host.config)
    connection.open()
    LEDGER.by_fixtures += 1
    yield host
    connection.close(stop_master=True)
    server.stop()


@pytest.fixture(params=["gnu", "busybox"])
def userland(request: pytest.FixtureRequest) -> Host:
    """The same calls on both."""
    host: Host = request.getfixturevalue("sshd" if request.param == "gnu" else "busybox")
    return host


@pytest.fixture
def c(userland: Host) -> Iterator[Connection]:
    """A connection on the shared master of each userland."""
    with Connection(userland.alias, ssh_config=userland.config) as connection:
        yield connection


@pytest.fixture
def work(userland: Host) -> Iterator[Path]:
    """An empty directory of the user's on the host."""
    directory = userland.make_directory(f"w {os.getpid()} {next(_numbers)}")
    yield directory
    for path in directory.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(os.fsencode(directory))


def fails(number: int, call: Callable[..., Any], *arguments: Any, **options: Any) -> RemoteOSError:
    """The call's error, which has to be the builtin's subclass for this errno, with its path."""
    with pytest.raises(OSError, match=r".") as caught:
        call(*arguments, **options)
    error = caught.value
    assert isinstance(error, RemoteOSError)
    assert error.errno == number, str(error)
    assert isinstance(error, type(OSError(number, "x")))
    assert error.host
    assert error.filename
    return error


def test_what_is_busybox_is_known(busybox: Host, sshd: Host) -> None:
    with Connection(busybox.alias, ssh_config=busybox.config) as there:
        assert there.run("stat --help 2>&1 | head -1").stdout.startswith("BusyBox")
        assert there.features.tar
        assert not there.features.gnu_tar
    with Connection(sshd.alias, ssh_config=sshd.config) as here:
        assert here.features.gnu_tar
        assert here.features.stat == "gnu"
        assert here.features.home == str(sshd.home)
        assert here.features.user == sshd.user


# -- asking ---------------------------------------------------------------------------------------


def test_the_facts_of_a_file(c: Connection, userland: Host, work: Path) -> None:
    file = userland.make(f"{work.name}/f", b"12345", 0o4640)
    os.utime(file, ns=(1_700_000_000_123_456_789, 1_600_000_000_987_654_321))
    (work / "link").symlink_to("f")
    (work / "dangling").symlink_to("nowhere")
    real, said = os.stat(file), c.stat(str(file))
    for name in ("st_mode", "st_size", "st_uid", "st_gid", "st_nlink", "st_ino", "st_dev"):
        assert getattr(said, name) == getattr(real, name), name
    whole = 1 if c.features.stat == "gnu" else 10**9
    assert said.st_mtime_ns == real.st_mtime_ns // whole * whole
    assert said.st_atime_ns == real.st_atime_ns // whole * whole
    assert said.is_file()
    assert c.stat(str(work / "link")) == said
    assert c.lstat(str(work / "link")).is_symlink()
    assert c.lstat(str(work / "dangling")).is_symlink()
    fails(errno.ENOENT, c.stat, str(work / "dangling"))
    assert c.stat(str(work)).is_dir()


def test_whether_something_is_there(c: Connection, userland: Host, work: Path) -> None:
    file = userland.make(f"{work.name}/f")
    (work / "dangling").symlink_to("nowhere")
    closed = userland.make_directory(f"{work.name}/closed", 0o000)
    d, f = str(work), str(file)
    assert (c.exists(f), c.is_file(f), c.is_dir(f)) == (True, True, False)
    assert (c.exists(d), c.is_file(d), c.is_dir(d)) == (True, False, True)
    for absent in ("none", "f/below", "dangling"):
        path = str(work / absent)
        assert (c.exists(path), c.is_file(path), c.is_dir(path)) == (False, False, False)
    for call in (c.exists, c.is_file, c.is_dir, c.stat, c.read_bytes):
        fails(errno.EACCES, call, str(closed / "x"))
    assert c.exists_many([f, str(work / "none"), d]) == [True, False, True]
    assert c.exists_many([]) == []
    facts = c.stat_many([d, str(work / "none"), f])
    assert [one and one.st_ino for one in facts] == [work.stat().st_ino, None, file.stat().st_ino]
    fails(errno.EACCES, c.exists_many, [f, str(closed / "x")])


def test_three_hundred_questions_are_one_round_trip(c: Connection, work: Path) -> None:
    assert c.features
    before = c.stats().control_calls
    assert c.exists_many([str(work / str(i)) for i in range(300)]) == [False] * 300
    assert c.stats().control_calls == before + 1


def test_directories_are_listed_whole(c: Connection, userland: Host, work: Path) -> None:
    for name in NAMES:
        userland.make(f"{work.name}/{name}", name.encode("utf-8", "surrogateescape"))
    (work / "dir").mkdir()
    (work / "link").symlink_to("dir")
    wanted = sorted([*NAMES, "dir", "link"])
    assert sorted(c.listdir(str(work))) == wanted
    entries = {entry.name: entry for entry in c.scandir(str(work))}
    assert sorted(entries) == wanted
    for name, entry in entries.items():
        real = os.lstat(work / name)
        assert entry.path == f"{work}/{name}"
        assert (entry.stat.st_ino, entry.stat.st_mode) == (real.st_ino, real.st_mode)
    assert c.listdir(str(work / "dir")) == []
    fails(errno.ENOENT, c.listdir, str(work / "none"))
    fails(errno.ENOTDIR, c.listdir, str(work / "a b"))
    fails(errno.ENOENT, c.scandir, str(work / "none"))
    assert not (userland.home / "pwned").exists()


def test_patterns(c: Connection, userland: Host, work: Path) -> None:
    for name in (
        "a.log",
        "b.log",
        "c.out",
        "x y.log",
        "[z].log",
        ".hidden.log",
        "d-1",
        "$HOME.log",
    ):
        userland.make(f"{work.name}/{name}")

    def found(pattern: str) -> list[str]:
        return sorted(os.path.basename(path) for path in c.glob(f"{work}/{pattern}"))

    assert found("*.log") == sorted(["a.log", "b.log", "x y.log", "[z].log", "$HOME.log"])
    assert found("[ab].log") == ["a.log", "b.log"]
    assert found("[!a].log") == ["b.log"]
    assert found("[a-b].*") == ["a.log", "b.log"]
    assert found("x y*") == ["x y.log"]
    assert found("$HOME*") == ["$HOME.log"]
    assert found("?.out") == ["c.out"]
    assert found("none*") == []
    relative = c.glob(f"{work.name}/c.*")
    assert relative == [f"{work.name}/c.out"]
    with pytest.raises(ValueError, match="empty"):
        c.glob("")


def test_links(c: Connection, userland: Host, work: Path) -> None:
    userland.make(f"{work.name}/f")
    for number, target in enumerate(["f", "no where", "-x", "$HOME", "a\nb", "x\udcff"]):
        path = str(work / f"l{number}")
        c.symlink(target, path)
        assert os.readlink(path) == target
        assert c.readlink(path) == target
    assert c.realpath(str(work / "l0")) == str((work / "f").resolve())
    assert c.realpath(str(work / "new")) == str(work.resolve() / "new")
    fails(errno.EEXIST, c.symlink, "f", str(work / "l0"))
    fails(errno.EINVAL, c.readlink, str(work / "f"))
    fails(errno.ENOENT, c.readlink, str(work / "none"))
    fails(errno.ENOENT, c.realpath, str(work / "none" / "x"))


def test_space(c: Connection, work: Path) -> None:
    said, real = c.disk_usage(str(work)), shutil.disk_usage(work)
    assert said.total == pytest.approx(real.total, rel=0.01)
    assert 0 < said.free <= said.total
    fails(errno.ENOENT, c.disk_usage, str(work / "none"))


# -- reading and writing --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 3_000_000])
def test_contents_come_back_the_same(c: Connection, work: Path, size: int) -> None:
    data, path = os.urandom(size), str(work / "f")
    assert c.write_bytes(path, data) == size
    assert (work / "f").read_bytes() == data
    assert c.read_bytes(path) == data
    assert os.listdir(work) == ["f"]


def test_a_small_file_is_one_round_trip(c: Connection, work: Path) -> None:
    """Whatever bytes it holds; no session is opened for it."""
    c.is_dir(str(work))
    before = c.stats()
    data = b"-n %s\\101\\c" + bytes(range(256)) * 12
    c.write_bytes(str(work / "f"), data)
    after = c.stats()
    assert (work / "f").read_bytes() == data
    assert (after.sessions, after.commands) == (before.sessions, before.commands)
    assert after.control_calls == before.control_calls + 1


def test_text_and_modes(c: Connection, userland: Host, work: Path) -> None:
    path = str(work / "f")
    c.write_text(path, "ä\n\udcff", encoding="utf-8")
    assert c.read_text(path) == "ä\n\udcff"
    assert (work / "f").read_bytes() == b"\xc3\xa4\n\xff"
    (work / "f").chmod(0o751)
    c.write_text(path, "other")
    assert stat.S_IMODE((work / "f").stat().st_mode) == 0o751
    assert (work / "f").stat().st_uid == userland.server.uid


def test_reading_and_writing_what_cannot_be(c: Connection, userland: Host, work: Path) -> None:
    userland.make(f"{work.name}/f", b"old")
    secret = userland.make(f"{work.name}/secret", b"", 0o000)
    closed = userland.make_directory(f"{work.name}/closed", 0o555)
    fails(errno.ENOENT, c.read_bytes, str(work / "none"))
    fails(errno.ENOTDIR, c.read_bytes, str(work / "f" / "g"))
    fails(errno.EISDIR, c.read_bytes, str(work))
    fails(errno.EACCES, c.read_bytes, str(secret))
    fails(errno.ENOENT, c.write_bytes, str(work / "none" / "f"), b"x")
    fails(errno.ENOTDIR, c.write_bytes, str(work / "f" / "g"), b"x")
    fails(errno.EISDIR, c.write_bytes, str(closed), b"x")
    fails(errno.EACCES, c.write_bytes, str(closed / "f"), b"x")
    fails(errno.ENAMETOOLONG, c.write_bytes, str(work / ("n" * 300)), b"x")
    assert sorted(os.listdir(work)) == ["closed", "f", "secret"]


def test_a_full_disk_leaves_the_old_file(c: Connection, userland: Host, work: Path) -> None:
    parts.require_namespaces("a full disk")
    small = userland.make_directory(f"{work.name}/small")
    uid = userland.server.uid
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size=256k,uid={uid}", "tmpfs", small],
        check=True,
        timeout=20,
    )
    try:
        c.write_bytes(str(small / "f"), b"old")
        error = fails(errno.ENOSPC, c.write_bytes, str(small / "f"), bytes(1_000_000))
        assert isinstance(error, NoSpace)
        assert os.listdir(small) == ["f"]
        assert (small / "f").read_bytes() == b"old"
        (small / "rest").write_bytes(bytes(shutil.disk_usage(small).free))
        fails(errno.ENOSPC, c.write_bytes, str(small / "f"), b"x" * 8192)
        assert sorted(os.listdir(small)) == ["f", "rest"]
        assert (small / "f").read_bytes() == b"old"
    finally:
        subprocess.run(["umount", small], check=True, timeout=20)


# -- changing -------------------------------------------------------------------------------------


def test_every_name_survives_every_call(c: Connection, userland: Host, work: Path) -> None:
    base = work.name  # relative to the home, and below it
    for name in NAMES:
        path = f"{base}/{name}"
        c.write_bytes(path, b"x")
        assert (work / name).read_bytes() == b"x", name
        assert c.read_bytes(path) == b"x"
        assert c.exists(path)
        assert c.stat(path).st_size == 1
        c.chmod(path, 0o600)
        c.rename(path, f"{base}/moved")
        c.copy(f"{base}/moved", path)
        c.remove(f"{base}/moved")
        assert c.listdir(base) == [name]
        c.remove(path)
        c.makedirs(f"{path}/below")
        assert c.is_dir(f"{path}/below")
        c.rmdir(f"{path}/below")
        c.rmtree(path)
    assert os.listdir(work) == []
    assert not (userland.home / "pwned").exists()


def test_names_that_begin_with_a_dash_or_a_tilde_in_the_home(c: Connection, userland: Host) -> None:
    for name in ("-rf", "~x", "$HOME", "a b"):
        try:
            c.write_bytes(name, b"x")
            assert (userland.home / name).read_bytes() == b"x"
            assert c.read_bytes("~/" + name) == b"x"
        finally:
            c.remove(name)
        assert not (userland.home / name).exists()


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_what_is_no_path_is_refused_by_name(c: Connection, path: str) -> None:
    assert c.features
    before = c.stats().control_calls
    for call in (c.stat, c.exists, c.read_bytes, c.mkdir, c.listdir):
        with pytest.raises(ValueError, match=r"empty path|NUL"):
            call(path)
    for change in (c.remove, c.rmtree):
        with pytest.raises((ValueError, OSError)):
            change(path)
    assert c.stats().control_calls == before


def test_making_directories(c: Connection, userland: Host, work: Path) -> None:
    c.mkdir(str(work / "d"), 0o750)
    assert stat.S_IMODE((work / "d").stat().st_mode) == 0o750
    fails(errno.EEXIST, c.mkdir, str(work / "d"))
    fails(errno.ENOENT, c.mkdir, str(work / "x" / "y"))
    c.makedirs(str(work / "x" / "y" / "z"))
    c.makedirs(str(work / "x" / "y" / "z"), exist_ok=True)
    fails(errno.EEXIST, c.makedirs, str(work / "x" / "y" / "z"))
    userland.make(f"{work.name}/f")
    fails(errno.EEXIST, c.makedirs, str(work / "f"), exist_ok=True)
    closed = userland.make_directory(f"{work.name}/closed", 0o555)
    fails(errno.EACCES, c.mkdir, str(closed / "d"))


def test_removing(c: Connection, userland: Host, work: Path) -> None:
    userland.make(f"{work.name}/d/f")
    (work / "link").symlink_to("d")
    fails(errno.EISDIR, c.remove, str(work / "d"))
    fails(errno.ENOTEMPTY, c.rmdir, str(work / "d"))
    fails(errno.ENOTDIR, c.rmtree, str(work / "link"))
    fails(errno.ENOTDIR, c.rmtree, str(work / "d" / "f"))
    fails(errno.ENOTDIR, c.rmdir, str(work / "d" / "f"))
    for call in (c.remove, c.rmdir, c.rmtree):
        fails(errno.ENOENT, call, str(work / "none"))
    c.remove(str(work / "link"))
    assert (work / "d" / "f").exists()
    c.rmtree(str(work / "d"))
    assert os.listdir(work) == []


def test_the_root_and_the_home_cannot_be_removed(c: Connection, userland: Host) -> None:
    home = str(userland.home)
    assert c.features
    before = c.stats().control_calls
    for path in (
        "/",
        "//",
        "/.",
        "~",
        "~/",
        ".",
        home,
        f"{home}/",
        os.path.dirname(home),
        "x/../..",
    ):
        for call in (c.rmtree, c.remove, c.rmdir):
            error = fails(errno.EPERM, call, path)
            assert error.sent == "no"
        fails(errno.EPERM, c.rename, path, "elsewhere")
        fails(errno.EPERM, c.copy, "/etc/passwd", path)
    assert c.stats().control_calls == before, "refused here, not there"


def test_renaming(c: Connection, userland: Host, work: Path) -> None:
    def at(name: str) -> str:
        return str(work / name)

    for name in ("a", "b", "d/in"):
        userland.make(f"{work.name}/{name}", name.encode())
    (work / "dlink").symlink_to("d")
    c.rename(at("a"), at("b"))
    assert (work / "b").read_bytes() == b"a"
    fails(errno.ENOENT, c.rename, at("none"), at("x"))
    fails(errno.EISDIR, c.rename, at("b"), at("d"))
    fails(errno.ENOENT, c.rename, at("b"), at("no/where"))
    c.mkdir(at("empty"))
    c.rename(at("d"), at("empty"))  # as rename(2): an empty directory is replaced
    assert sorted(os.listdir(work / "empty")) == ["in"]
    c.mkdir(at("e"))
    fails(errno.ENOTEMPTY, c.rename, at("e"), at("empty"))
    (work / "dlink").unlink()
    (work / "dlink").symlink_to("empty")
    c.rename(at("b"), at("dlink"))  # the link is replaced, and nothing lands behind it
    assert (work / "dlink").read_bytes() == b"a"
    assert not (work / "dlink").is_symlink()
    assert sorted(os.listdir(work / "empty")) == ["in"]


def test_modes(c: Connection, userland: Host, work: Path) -> None:
    file = userland.make(f"{work.name}/f", b"", 0o644)
    for mode, result in ((0o600, 0o600), ("755", 0o755), ("u-w,go=", 0o500), (0o4711, 0o4711)):
        c.chmod(str(file), mode)
        assert stat.S_IMODE(file.stat().st_mode) == result
    for wrong in ("", "9", "u+q", "-R 777", "777 /etc", "--help"):
        with pytest.raises(ValueError, match="not a file mode"):
            c.chmod(str(file), wrong)
    fails(errno.ENOENT, c.chmod, str(work / "none"), 0o600)
    fails(errno.EPERM, c.chmod, "/etc/passwd", 0o600)


def test_copying(c: Connection, userland: Host, work: Path) -> None:
    userland.make(f"{work.name}/f", b"new", 0o640)
    userland.make(f"{work.name}/old", b"old")
    (work / "d").mkdir()
    c.copy(str(work / "f"), str(work / "old"))
    assert (work / "old").read_bytes() == b"new"
    fails(errno.ENOENT, c.copy, str(work / "none"), str(work / "old"))
    fails(errno.EISDIR, c.copy, str(work / "f"), str(work / "d"))
    fails(errno.EISDIR, c.copy, str(work / "d"), str(work / "x"))
    assert sorted(os.listdir(work)) == ["d", "f", "old"]


def test_trees_are_updated_resumed_and_compared_on_every_userland(
    c: Connection, work: Path, tmp_path: Path
) -> None:
    """BusyBox's find prints no times, its tar takes no list, its sha256sum no -z."""
    top = tmp_path / "t"
    (top / "d").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        (top / "d" / name).write_bytes(b"x" * number)
    (top / "link").symlink_to("d")
    there = f"{work}/t"
    assert c.put(top, there, update=True, verify=True).files == len(NAMES) + 1
    assert c.put(top, there, update=True).files == 0
    (top / "d" / "a b").write_bytes(b"changed")
    assert c.put(top, there, update=True, verify=True).files == 1
    assert c.get(there, tmp_path / "u", update=True, verify=True).files == len(NAMES) + 1
    assert c.get(there, tmp_path / "u", update=True, verify=True).files == 0
    (work / "t" / "d" / "a b").write_bytes(b"changed again")
    done = c.get(there, tmp_path / "u", update=True)
    assert (done.files, done.skipped) == (1, len(NAMES))
    assert (tmp_path / "u" / "d" / "a b").read_bytes() == b"changed again"
    (top / "big").write_bytes(os.urandom(3_000_000))
    c.put(top / "big", f"{work}/big", resume=True)
    c.get(f"{work}/big", tmp_path / "big", resume=True, verify=True)
    assert (tmp_path / "big").read_bytes() == (top / "big").read_bytes()


@pytest.mark.parametrize("mode", [0, 0o7, 0o70, 0o644, 0o1777, 0o100640, "7", "0"])
def test_any_mode_is_a_mode(connection: Connection, host: Host, mode: int | str) -> None:
    name = f"mode-{os.getpid()}"
    host.make(name, b"x")
    connection.chmod(name, mode)
    wanted = int(mode, 8) if isinstance(mode, str) else mode
    assert connection.stat(name).st_mode & 0o7777 == wanted & 0o7777
    connection.chmod(name, connection.stat(name).st_mode | 0o200)
    assert connection.stat(name).st_mode & 0o7777 == (wanted | 0o200) & 0o7777
    connection.remove(name)


@pytest.mark.parametrize("mode", [-1, 0o7777777, "8", "", "rwx"])
def test_what_is_no_mode(connection: Connection, mode: int | str) -> None:
    with pytest.raises(ValueError, match="not a file mode"):
        connection.chmod("file", mode)
