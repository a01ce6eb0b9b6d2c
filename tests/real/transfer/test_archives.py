"""Archives from a host that means harm: nothing is written outside of the target."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openssh_jobs import Connection
from openssh_jobs.errors import OpenSSHJobsError, TransferError
from openssh_jobs.transfer import listing, parts, staging
from openssh_jobs.transfer.options import TransferOptions
from tests.helpers import tar_in
from tests.lab.site import Host
from tests.real.transfer.straight import backend, route

__all__ = ["backend", "route"]

_numbers = itertools.count()


@pytest.fixture
def top(host: Host) -> Iterator[Path]:
    """A harmless tree on the host."""
    directory = host.make_directory(f"a{os.getpid()}-{next(_numbers)}")
    host.make(f"{directory.name}/t/good", b"good")
    host.make(f"{directory.name}/t/link/evil", b"x")
    yield directory
    shutil.rmtree(directory)


def archive(members: list[tuple[str, str, str]]) -> bytes:
    """A tar of (name, kind, content or link target), written without any check."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind, value in members:
            info = tarfile.TarInfo(name)
            info.mode = 0o755
            if kind == "f":
                info.size = len(value)
                tar.addfile(info, io.BytesIO(value.encode()))
                continue
            info.type = {"d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE, "h": tarfile.LNKTYPE}[kind]
            info.linkname = value
            tar.addfile(info)
    return buffer.getvalue()


HONEST = [("./", "d", ""), ("./good", "f", "good"), ("./link", "d", ""), ("./link/evil", "f", "x")]

# {out} is a directory outside of the target that exists, {up} the way to it from the stage.
ATTACKS: dict[str, list[tuple[str, str, str]]] = {
    "absolute": [*HONEST, ("{out}/evil", "f", "evil")],
    "dotdot": [*HONEST, ("{up}/evil", "f", "evil")],
    "dotdot inside": [*HONEST, ("./link/../../out/evil", "f", "evil")],
    "through an absolute link": [
        *HONEST[:2],
        ("./link", "l", "{out}"),
        ("./link/evil", "f", "evil"),
    ],
    "through a relative link": [*HONEST[:2], ("./link", "l", "{up}"), ("./link/evil", "f", "evil")],
    "through two links": [
        *HONEST[:2],
        ("./a", "l", "."),
        ("./a/link", "l", "{up}"),
        ("./link/evil", "f", "evil"),
    ],
    "hard link, absolute": [*HONEST[:1], *HONEST[2:], ("./good", "h", "{out}/secret")],
    "hard link, relative": [*HONEST[:1], *HONEST[2:], ("./good", "h", "{up}/secret")],
    "hard link, then written": [
        *HONEST[:1],
        *HONEST[2:],
        ("./good", "h", "{out}/secret"),
        ("./good", "f", "evil"),
    ],
    "link to a file, then written": [
        *HONEST[:1],
        *HONEST[2:],
        ("./good", "l", "{out}/secret"),
        ("./good", "h", "./good"),
    ],
}


@pytest.fixture
def hostile(host: Host, connection: Connection) -> Iterator[Callable[[bytes], Connection]]:
    """``hostile(data)``: the host's ``tar -c`` prints these bytes from now on."""
    binary = host.make_directory(f"bin{next(_numbers)}")

    def become(data: bytes) -> Connection:
        (binary / "data").write_bytes(data)
        (binary / "data").chmod(0o644)
        fake = (
            f"#!/bin/sh\ncase $1 in -c) cat {binary}/data; cat >/dev/null; exit 0;; esac\n"
            'exec /bin/tar "$@"\n'
        )
        host.make(f"{binary.name}/tar", fake.encode(), 0o755)
        return connection

    connection.features  # noqa: B018 - asked of the honest tar
    plan = connection._commands.plan

    def with_path(command: bytes, **options: object) -> object:
        line = b"PATH=%b:$PATH; export PATH; " % os.fsencode(binary)
        return plan(line + command, **options)  # type: ignore[arg-type]

    connection._commands.plan = with_path  # type: ignore[method-assign,assignment]
    yield become
    shutil.rmtree(binary)


@pytest.fixture(params=["tar", "busybox", "bsdtar"])
def local_tar(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The tar of this machine, BusyBox's, and that of macOS and the BSDs."""
    if request.param != "tar":
        directory = tar_in(tmp_path / "bin", request.param)
        monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return str(request.param)


@pytest.mark.parametrize("name", list(ATTACKS))
@pytest.mark.parametrize("filtered", [False, True])
def test_nothing_is_written_outside(
    hostile: Callable[[bytes], Connection],
    top: Path,
    tmp_path: Path,
    local_tar: str,
    name: str,
    filtered: bool,
) -> None:
    outside = tmp_path / "in" / "out"
    outside.mkdir(parents=True)
    (outside / "secret").write_bytes(b"secret")
    members = [
        (one.format(out=outside, up="../out"), kind, value.format(out=outside, up="../out"))
        for one, kind, value in ATTACKS[name]
    ]
    connection = hostile(archive(members))
    options: TransferOptions = {}
    if filtered:
        options = {"exclude": ["nothing"], "only": ["good", "evil"]}
    with pytest.raises((TransferError, OSError)) as caught:
        connection.get(f"{top}/t", tmp_path / "in" / "t", method="tar", **options)
    assert str(caught.value)
    assert os.listdir(tmp_path / "in") == ["out"]
    assert os.listdir(outside) == ["secret"]
    assert (outside / "secret").read_bytes() == b"secret"
    assert (outside / "secret").stat().st_nlink == 1


def test_an_honest_archive_passes_the_same_way(
    hostile: Callable[[bytes], Connection], top: Path, tmp_path: Path, local_tar: str
) -> None:
    """Else the tests above would prove nothing."""
    connection = hostile(archive(HONEST))
    connection.get(f"{top}/t", tmp_path / "t", method="tar")
    assert (tmp_path / "t" / "good").read_bytes() == b"good"


RECORDS = {
    "an attribute": {"SCHILY.xattr.user.x": "y", "LIBARCHIVE.xattr.user.x": "eQ=="},
    "another user may write": {
        "SCHILY.acl.access": "user::rwx,group::r-x,other::r-x,user:nobody:rwx:65534,mask::rwx"
    },
    "it cannot be removed": {"SCHILY.fflags": "schg"},
}


@pytest.mark.parametrize("name", RECORDS)
def test_no_tar_sets_more_than_modes_and_times(
    hostile: Callable[[bytes], Connection], top: Path, tmp_path: Path, local_tar: str, name: str
) -> None:
    """What it sets with -p differs: bsdtar, that of macOS, would give rights to other users."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for one, kind, value in HONEST:
            info = tarfile.TarInfo(one)
            info.type = tarfile.DIRTYPE if kind == "d" else tarfile.REGTYPE
            info.mode, info.size, info.pax_headers = 0o755, len(value), dict(RECORDS[name])
            tar.addfile(info, io.BytesIO(value.encode()))
    connection = hostile(buffer.getvalue())
    if local_tar == "busybox":
        with pytest.raises(TransferError, match="does not know"):
            connection.get(f"{top}/t", tmp_path / "t", method="tar")
        return
    connection.get(f"{top}/t", tmp_path / "t", method="tar")
    for path in (tmp_path / "t", tmp_path / "t" / "good"):
        assert os.listxattr(path) == []
        path.rename(path.with_name("moved"))
        path.with_name("moved").rename(path)


def test_what_was_not_asked_for_is_refused_by_name(
    hostile: Callable[[bytes], Connection], top: Path, tmp_path: Path
) -> None:
    connection = hostile(archive([*HONEST, ("./.bashrc", "f", "evil")]))
    with pytest.raises(TransferError, match=r"\.bashrc"):
        connection.get(f"{top}/t", tmp_path / "t", only=["good", "evil"], method="tar")
    assert not (tmp_path / "t").exists()


def test_a_hard_link_to_outside_is_found_whatever_tar_did(tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    stage.mkdir()
    (tmp_path / "secret").write_bytes(b"s")
    os.link(tmp_path / "secret", stage / "f")
    (stage / "one").write_bytes(b"1")
    os.link(stage / "one", stage / "two")
    members = listing.walk(os.fsencode(stage))
    with pytest.raises(TransferError, match="'f' as a hard link"):
        staging.check(os.fsencode(stage), members, "h", strangers=False, keep_special_modes=False)
    (stage / "f").unlink()
    members = listing.walk(os.fsencode(stage))
    staging.check(os.fsencode(stage), members, "h", strangers=False, keep_special_modes=False)


def test_set_id_bits_come_only_when_asked_for(
    connection: Connection, top: Path, tmp_path: Path
) -> None:
    """Who gets a file and runs it would run it as himself, and others with his rights."""
    (top / "t" / "good").chmod(0o4755)
    connection.get(f"{top}/t", tmp_path / "t")
    assert stat.S_IMODE((tmp_path / "t" / "good").stat().st_mode) == 0o755
    connection.get(f"{top}/t", tmp_path / "u", preserve=True)
    assert stat.S_IMODE((tmp_path / "u" / "good").stat().st_mode) == 0o4755


def test_a_merge_does_not_go_through_a_link(
    connection: Connection, top: Path, tmp_path: Path
) -> None:
    """The link may have come from the same host the day before."""
    outside = tmp_path / "out"
    outside.mkdir()
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "link").symlink_to(outside)
    with pytest.raises((OSError, OpenSSHJobsError), match="not followed"):
        connection.get(f"{top}/t", tmp_path / "t", merge=True)
    assert os.listdir(outside) == []


def test_what_is_thrown_away_changes_nothing_outside(tmp_path: Path) -> None:
    """A link in a directory that may not be written to: the directory is opened, not its target."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become a user whom modes hold off")
    tmp_path.chmod(0o755)
    stage, outside = tmp_path / "stage", tmp_path / "outside"
    (stage / "closed").mkdir(parents=True)
    outside.write_bytes(b"mine")
    outside.chmod(0o640)
    (stage / "closed" / "link").symlink_to(outside)
    for path in (stage / "closed", stage, outside, tmp_path):
        os.chown(path, 7001, 7001)
    (stage / "closed").chmod(0o500)
    above = [one for one in tmp_path.parents if not one.stat().st_mode & 0o001]
    for path in above:
        path.chmod(path.stat().st_mode | 0o011)
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(7001)
            os.setuid(7001)
            parts.remove_local_stage(os.fsencode(stage), stage.lstat().st_ino)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    for path in above:
        path.chmod(path.stat().st_mode & ~0o011)
    assert not stage.exists()
    assert stat.S_IMODE(outside.stat().st_mode) == 0o640
