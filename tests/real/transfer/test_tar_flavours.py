"""Trees between all pairs of tars that people have: GNU, BusyBox, and bsdtar (macOS, the BSDs)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from openssh_jobs import Connection
from openssh_jobs.commands import command_line, runner
from openssh_jobs.errors import ConfigurationError, TransferError
from openssh_jobs.transfer import tar_flavours
from openssh_jobs.transfer.listing import Member
from tests.conftest import LEDGER
from tests.helpers import facts, hidden, make_tree, tar_in
from tests.lab import namespaces, parts
from tests.lab.site import Host
from tests.lab.sshd import Sshd
from tests.names import EXPRESSIBLE, NAMES

KINDS = {"gnu": "", "bsd": "bsdtar", "other": "busybox"}
_HOLE = 8 << 20


@pytest.fixture(scope="module", params=list(KINDS))
def far(request: pytest.FixtureRequest, lab_directory: Path) -> Iterator[Connection]:
    """A connection to a host with this tar."""
    parts.require("ssh", "sshd")
    program, path = KINDS[request.param], os.environ["PATH"]
    if program:
        path = f"{tar_in(lab_directory / f'tar-{request.param}', program)}:{path}"
    server = Sshd(
        lab_directory / f"far-{request.param}",
        alias=f"far-{request.param}",
        user="hpcalice" if namespaces.inside() else None,
        shell=("env", f"PATH={path}", "/bin/sh"),
    )
    server.start()
    LEDGER.add(server)
    with Connection(server.alias, ssh_config=server.config) as connection:
        connection.open()
        LEDGER.by_fixtures += 1
        assert tar_flavours.kind(connection.features.tar) == request.param
        yield connection
        connection.close(stop_master=True)
    server.stop()


@pytest.fixture(params=list(KINDS))
def near(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tar_flavours.Kind:
    """The tar of this machine."""
    if KINDS[request.param]:
        directory = tar_in(tmp_path / "bin", KINDS[request.param])
        monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    assert tar_flavours.required().kind == request.param
    kind: tar_flavours.Kind = request.param
    return kind


@pytest.fixture
def there(far: Connection) -> Iterator[str]:
    name = f"t{os.urandom(4).hex()}"
    far.mkdir(name)
    yield name
    far.rmtree(name)


def make_everything(top: Path) -> None:
    """All sorts of names and members, hard links, and a file with holes."""
    make_tree(top, NAMES)
    deep = top / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    (deep / "f").write_bytes(b"deep")
    os.link(deep / "f", top / "twin")
    (top / "far").symlink_to("/".join(["x" * 50] * 4))
    with (top / "holes").open("wb") as handle:
        handle.write(b"begin" * 1000)
        handle.seek(_HOLE)
        handle.write(b"middle" * 1000)
        handle.truncate(2 * _HOLE)


def links_of(top: Path) -> bool:
    return (top / "twin").stat().st_ino == (top / ("d" * 60) / ("e" * 60) / "f").stat().st_ino


def home_of(connection: Connection) -> Path:
    return Path(connection.features.home)


def test_a_tree_there_and_back(
    far: Connection, near: tar_flavours.Kind, there: str, tmp_path: Path
) -> None:
    make_everything(tmp_path / "tree")
    wanted = facts(tmp_path / "tree")
    far.put(tmp_path / "tree", f"{there}/tree", method="tar", preserve=True)
    arrived = home_of(far) / there / "tree"
    assert facts(arrived) == wanted
    assert links_of(arrived)
    far.get(f"{there}/tree", tmp_path / "back", method="tar", preserve=True)
    assert facts(tmp_path / "back") == wanted
    assert links_of(tmp_path / "back")
    assert hidden(arrived.parent) == hidden(tmp_path) == []
    # Holes stay where both tars know them; BusyBox fills them when it writes and knows no such
    # archive when it reads.
    both = "other" not in (near, tar_flavours.kind(far.features.tar))
    if os.stat(tmp_path / "tree" / "holes").st_blocks * 512 < _HOLE:
        for copy in (arrived / "holes", tmp_path / "back" / "holes"):
            assert (copy.stat().st_blocks * 512 < _HOLE) is both, copy


def test_part_of_a_tree(
    far: Connection, near: tar_flavours.Kind, there: str, tmp_path: Path
) -> None:
    """What takes no list of names goes by sftp, or is refused where tar is asked for by name."""
    top = tmp_path / "tree"
    make_tree(top, EXPRESSIBLE)
    done = far.put(top, f"{there}/some", exclude=["a b"])
    assert done.skipped == 1
    left = facts(top)
    del left["a b"]
    assert facts(home_of(far) / there / "some") == left
    far.get(f"{there}/some", tmp_path / "back", exclude=["--"])
    del left["--"]
    assert facts(tmp_path / "back") == left
    if not tar_flavours.reads_lists(near):
        with pytest.raises(ConfigurationError, match="list of names"):
            far.put(top, f"{there}/more", exclude=["a b"], method="tar")
        assert far.listdir(there) == ["some"]
    if not tar_flavours.reads_lists(tar_flavours.kind(far.features.tar)):
        with pytest.raises(ConfigurationError, match="list of names"):
            far.get(f"{there}/some", tmp_path / "more", exclude=["~"], method="tar")
        assert not (tmp_path / "more").exists()


def test_a_machine_without_tar(
    connection: Connection, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything but tar is on its PATH."""
    binary = tmp_path / "bin"
    binary.mkdir()
    for name in ("ssh", "sftp", "ssh-keygen"):
        (binary / name).symlink_to(str(shutil.which(name)))
    make_tree(tmp_path / "tree", ["a b"])
    top = host.make_directory(f"no tar {os.getpid()}")
    monkeypatch.setenv("PATH", str(binary))
    try:
        connection.put(tmp_path / "tree", f"{top}/t")
        assert facts(top / "t") == facts(tmp_path / "tree")
        with pytest.raises(ConfigurationError, match="no tar on this machine"):
            connection.get(f"{top}/t", tmp_path / "back", method="tar")
        connection.get(f"{top}/t", tmp_path / "back")
        assert facts(tmp_path / "back") == facts(tmp_path / "tree")
    finally:
        shutil.rmtree(top)


@pytest.mark.usefixtures("cold")
def test_a_command_that_the_host_lacks_is_named(
    make_sshd: Callable[..., Host],
    expect_logins: Callable[..., None],
    lab_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its shell says "not found", which is not about the file."""
    parts.require("busybox")
    for module in (runner, command_line):  # the tar of this machine would be found behind the PATH
        monkeypatch.setattr(module, "OWN_ENVIRONMENT", b"")
    applets = lab_directory / "no-tar"
    applets.mkdir()
    busybox = str(shutil.which("busybox"))
    for name in subprocess.run(
        [busybox, "--list"], capture_output=True, text=True, timeout=20, check=True
    ).stdout.split():
        if name != "tar":
            (applets / name).symlink_to(busybox)
    host = make_sshd(shell=("env", f"PATH={applets}", "/bin/sh"))
    expect_logins(1)
    with Connection(host.alias, ssh_config=host.config) as connection:
        make_tree(tmp_path / "tree", ["a b"])
        features = connection.features
        assert features.tar == ""
        connection._files.known_features = replace(features, tar="tar")
        with pytest.raises(TransferError, match="tar: not found"):
            connection.put(tmp_path / "tree", "t")
        assert not connection.exists("t")
        connection._files.known_features = features
        connection.put(tmp_path / "tree", "t")
        assert facts(host.home / "t") == facts(tmp_path / "tree")
        connection.close(stop_master=True)


def member(name: bytes, size: int, blocks: int) -> Member:
    return Member(name, "f", size, blocks=blocks)


@pytest.mark.parametrize(
    ("members", "kept"),
    [
        ([], False),
        ([member(b"small", 100, 0)], False),
        ([member(b"full", 8 << 20, 16 << 10)], False),
        ([member(b"a little", 8192, 8)], False),
        ([member(b"holes", 8 << 20, 8)], True),
        ([member(b"one hole", 8 << 20, 0)], True),
        ([member(b"holes", 8 << 20, 8), member(b"late", 8192, 0)], False),
        ([member(b"holes", 8 << 20, 8), member(b"unknown", 8192, -1)], False),
    ],
)
def test_a_file_without_a_count_of_blocks_is_read(members: list[Member], kept: bool) -> None:
    """GNU tar would take it for one hole."""
    assert tar_flavours.keeps_holes(members, lambda name: name == b"one hole") is kept


def test_what_the_system_calls_a_hole(tmp_path: Path) -> None:
    probes: dict[str, Callable[[Path], object]] = {
        "hole": lambda path: os.truncate(path, 1 << 20),
        "data": lambda path: path.write_bytes(bytes(1 << 20)),
    }
    for name, fill in probes.items():
        (tmp_path / name).touch()
        fill(tmp_path / name)
    assert tar_flavours.is_local_hole(os.fsencode(tmp_path / "hole"))
    assert not tar_flavours.is_local_hole(os.fsencode(tmp_path / "data"))
    assert not tar_flavours.is_local_hole(os.fsencode(tmp_path / "gone"))
