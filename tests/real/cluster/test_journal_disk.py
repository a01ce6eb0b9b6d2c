"""A journal on a full or read-only disk: nothing is submitted."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli import program, script, submitted
from tests.lab import namespaces, parts
from tests.lab.site import Host


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of the test's own."""
    parts.require_namespaces("a mount")
    namespaces.require_own("mounts")
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k,mode=700", "none", str(place)]
    subprocess.run(mount, check=True, timeout=20)
    yield place
    subprocess.run(["umount", str(place)], check=True, timeout=20)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as full:
        while full.write(b"x" * 4096):
            pass


@pytest.mark.parametrize("how", ["full", "read-only"])
@pytest.mark.parametrize("new", [True, False], ids=["new", "used"])
def test_nothing_is_submitted(
    disk: Path,
    sshd: Host,
    tmp_path: Path,
    how: str,
    new: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(disk))
    direct = ["-F", str(sshd.config), "--scheduler", "direct", sshd.alias]
    name = f"oj-disk-{how}-{new}"
    sshd.make_directory(name)
    if not new:
        submitted(direct, name, script(tmp_path, "sleep 0.1"))
    if how == "full":
        fill(disk / "full")
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, timeout=20)
    done = program("submit", *direct, f"{name}/never", "--script", script(tmp_path, "true"))
    assert (done.code, done.out) == (2, "")
    sentence = done.sentence()
    assert str(disk) in sentence
    assert f"because {'the disk is full' if how == 'full' else 'it is read-only'}: " in sentence
    assert not (sshd.home / name / "never").exists()
    if how == "full":
        (disk / "full").unlink()
        assert submitted(direct, f"{name}/never", script(tmp_path, "true"))
    shutil.rmtree(sshd.home / name, ignore_errors=True)
