"""Names that are the same file on a real file system that folds case."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from openssh_jobs import Connection, LocalConnection
from openssh_jobs.errors import UnsafeName
from openssh_jobs.files import host_names
from openssh_jobs.transfer.listing import Member
from openssh_jobs.transfer.options import Method, TransferOptions
from tests.lab import namespaces, parts
from tests.lab.site import Host


def members(*names: str) -> list[Member]:
    return [Member(os.fsencode(name), "f", 0) for name in names]


@pytest.fixture
def folding(tmp_path: Path) -> Iterator[Path]:
    """A real file system that folds case."""
    parts.require("folding")
    if not namespaces.inside():
        parts.require_namespaces("a file system of its own")
    image, disk = tmp_path / "image", tmp_path / "disk"
    with image.open("wb") as handle:
        handle.truncate(8 << 20)
    disk.mkdir()
    subprocess.run(["mkfs.exfat", str(image)], check=True, timeout=60, capture_output=True)
    mount = ["mount", "-t", "exfat-fuse", "-o", "loop", str(image), str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        pytest.skip(f"no exFAT can be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True, timeout=60)


def test_names_that_are_one_here_are_found_by_trying(folding: Path) -> None:
    top = os.fsencode(folding)
    with pytest.raises(UnsafeName, match="'README', which is the same as 'readme'"):
        host_names.check_apart(top, members("readme", "README", "x"), host="h")
    host_names.check_apart(top, members("readme", "x"), host="h")
    assert os.listdir(folding) == []
    (folding / "t").mkdir()
    (folding / "t" / "Old").write_bytes(b"old")
    with pytest.raises(UnsafeName, match="the same as"):
        host_names.check_target(top + b"/t", members("OLD"), host="h")
    host_names.check_target(top + b"/t", members("Old", "new"), host="h")
    assert os.listdir(folding / "t") == ["Old"]


def test_names_that_this_file_system_does_not_take_are_refused_by_name(
    sshd: Host, folding: Path
) -> None:
    """Not by what the programs say that transfer files, which is no reason: ENOENT of the stage."""
    top = sshd.make_directory("not taken")
    with Connection(sshd.alias, ssh_config=sshd.config) as connection:
        for number, name in enumerate(("a:b", "d\tx", "new\nline", os.fsdecode(b"\xff"))):
            sshd.make(f"{top.name}/{number}/d/{name}", b"x")
            for way in ("tar", "rsync"):
                with pytest.raises(
                    UnsafeName, match="the file system here does not take"
                ) as caught:
                    connection.get(f"{top}/{number}", folding / "t", method=way)
                assert repr(f"d/{name}") in caught.value.message
        assert os.listdir(folding) == []
        connection.get(f"{top}/0", folding.parent / "other")
    assert (folding.parent / "other" / "d" / "a:b").exists()


def test_trees_where_nothing_has_a_mode(folding: Path) -> None:
    """All directories there can be written by others, as far as their modes say."""
    (folding.parent / "t" / "d").mkdir(parents=True)
    (folding.parent / "t" / "d" / "f").write_bytes(b"x")
    with LocalConnection() as connection:
        connection.put(folding.parent / "t", str(folding / "put"))
        connection.get(str(folding.parent / "t"), folding / "got")
    assert sorted(os.listdir(folding)) == ["got", "put"]
    assert (folding / "put" / "d" / "f").read_bytes() == b"x"


@pytest.mark.parametrize("way", ["sftp", "tar", "rsync"])
@pytest.mark.parametrize("options", [{}, {"merge": True}, {"update": True}])
def test_trees_with_names_that_are_one_here(
    sshd: Host, folding: Path, way: Method, options: TransferOptions
) -> None:
    """Nothing is there that was not there, and what was there is what it was."""
    top = sshd.make_directory(f"fold {way} {len(options)}{options.get('merge')}")
    for name in ("readme", "README", "x"):
        sshd.make(f"{top.name}/t/{name}", b"new")
    with Connection(sshd.alias, ssh_config=sshd.config) as connection:
        if options:
            (folding / "t").mkdir()
            (folding / "t" / "Readme").write_bytes(b"old")
        before = sorted(os.listdir(folding))
        with pytest.raises(UnsafeName, match="is the same as"):
            connection.get(f"{top}/t", folding / "t", method=way, **options)
        assert sorted(os.listdir(folding)) == before
        (top / "t" / "readme").unlink()
        if options:
            with pytest.raises(UnsafeName, match="is the same as"):
                connection.get(f"{top}/t", folding / "t", method=way, **options)
            assert (folding / "t" / "Readme").read_bytes() == b"old"
            assert os.listdir(folding / "t") == ["Readme"]
            (folding / "t" / "Readme").rename(folding / "t" / "Other")
        connection.get(f"{top}/t", folding / "t", method=way, **options)
    assert (folding / "t" / "README").read_bytes() == b"new"
