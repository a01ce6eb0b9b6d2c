"""What others have put in the place of our own files is not written, read or followed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import permissions, settings
from openssh_jobs.cluster.journal import Journal
from openssh_jobs.errors import (
    ConfigurationError,
    TransferError,
)
from openssh_jobs.openssh import runtime_directory
from openssh_jobs.transfer import resume
from openssh_jobs.transfer.sftp import Sftp
from tests.lab.room import Room, open_room
from tests.lab.site import Host
from tests.real.cluster.neighbours import MALLORY, as_mallory, two_users


@pytest.fixture
def room(sshd: Host, tmp_path: Path) -> Iterator[Room]:
    with open_room(sshd, "direct", None, tmp_path) as room:
        yield room


def plant_own(path: Path, precious: Path) -> None:
    path.write_text("theirs")
    os.chown(path, MALLORY, MALLORY)
    path.chmod(0o666)


PLANTS = {
    "file of another user": plant_own,
    "link": lambda path, precious: path.symlink_to(precious),
    "dangling link": lambda path, precious: path.symlink_to(precious.parent / "new"),
    "hard link": lambda path, precious: os.link(precious, path),
    "fifo": lambda path, precious: os.mkfifo(path),
    "directory": lambda path, precious: path.mkdir(),
    "file that others can write": lambda path, precious: (path.touch(), path.chmod(0o666)),
}


@two_users
@pytest.mark.parametrize("plant", list(PLANTS))
def test_a_part_that_others_have_made_is_not_written(
    room: Room, tmp_path: Path, plant: str
) -> None:
    room.make("f", "of the host")
    precious = tmp_path / "precious"
    precious.write_text("precious")
    here = tmp_path / "group"
    here.mkdir()
    here.chmod(0o2777)
    facts = room.cluster.connection.stat(f"{room.here}/f")
    name = resume.resumable_name(os.fsencode(here / "f"), facts.st_size, facts.st_mtime_ns)
    part = here / os.fsdecode(name)
    PLANTS[plant](part, precious)
    before = part.lstat()
    with pytest.raises(TransferError, match=r"not a regular file that only you can write"):
        room.cluster.connection.get(f"{room.here}/f", here / "f", resume=True)
    assert precious.read_text() == "precious"
    assert not (tmp_path / "new").exists()
    now = part.lstat()
    assert (now.st_ino, now.st_size, now.st_mode) == (before.st_ino, before.st_size, before.st_mode)
    assert not (here / "f").exists()


@two_users
@pytest.mark.parametrize("plant", ["file of another user", "link", "dangling link", "fifo"])
def test_a_part_on_the_host_that_others_have_made_is_not_written(
    room: Room, shared: Path, tmp_path: Path, plant: str
) -> None:
    (tmp_path / "f").write_text("mine")
    room.make("precious", "precious")
    facts = os.stat(tmp_path / "f")
    name = resume.resumable_name(os.fsencode(shared / "f"), facts.st_size, facts.st_mtime_ns)
    part = shared / os.fsdecode(name)
    PLANTS[plant](part, room.path / "precious")
    before = part.lstat()
    with pytest.raises(TransferError, match=r"not a regular file that only you can write"):
        room.cluster.connection.put(tmp_path / "f", f"{shared}/f", resume=True)
    now = part.lstat()
    assert (now.st_ino, now.st_size, now.st_mode) == (before.st_ino, before.st_size, before.st_mode)
    assert (room.path / "precious").read_text() == "precious"
    assert not (room.path / "new").exists()


@two_users
@pytest.mark.parametrize("when", ["resumed", "probed"])
@pytest.mark.parametrize("plant", [*PLANTS, None])
def test_a_part_on_the_host_that_is_replaced_before_it_is_opened_again(
    room: Room,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plant: str | None,
    when: str,
) -> None:
    (tmp_path / "f").write_text("mine")
    room.make("precious", "precious")

    def swap(part: Path) -> None:
        if plant is not None:
            part.unlink(missing_ok=True)
            PLANTS[plant](part, room.path / "precious")

    find, connection = resume.find_remote, room.cluster.connection

    def found(*args: Any) -> resume.RemotePart:
        part = find(*args)
        swap(Path(os.fsdecode(part.path)))
        return part

    def failed(sftp: Sftp, lines: object, *, path: bytes, **rest: object) -> None:
        Path(os.fsdecode(path)).touch(0o600)
        os.chown(path, room.path.stat().st_uid, -1)
        swap(Path(os.fsdecode(path)))
        raise TransferError("Failure")

    if when == "resumed":
        monkeypatch.setattr(resume, "find_remote", found)
    else:
        monkeypatch.setattr(Sftp, "call", failed)
    began = time.monotonic()
    if (plant, when) == (None, "resumed"):
        connection.put(tmp_path / "f", f"{shared}/f", resume=True)
        assert [path.name for path in shared.iterdir()] == ["f"]
    else:
        with pytest.raises((TransferError, OSError)):
            connection.put(tmp_path / "f", f"{shared}/f", resume=when == "resumed")
        assert not (shared / "f").exists()
    assert time.monotonic() - began < 20
    assert not list(shared.glob("*.partd"))
    assert (room.path / "precious").read_text() == "precious"
    assert not (room.path / "new").exists()


@two_users
def test_a_name_that_was_swapped_meanwhile_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "theirs").write_text("theirs")
    os.chown(tmp_path / "theirs", MALLORY, MALLORY)
    (tmp_path / "link").symlink_to("mine")
    (tmp_path / "dir").mkdir()
    with open(tmp_path / "mine", "rb", opener=permissions.opener) as handle:
        assert handle.read() == b"mine"
    for name in ("theirs", "link", "dir", "none"):
        with pytest.raises(OSError, match=name):
            permissions.opener(str(tmp_path / name), os.O_WRONLY | os.O_TRUNC)
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert (tmp_path / "mine").read_text() == "mine"
    with open(tmp_path / "mine", "wb", opener=permissions.opener):
        assert (tmp_path / "mine").stat().st_size == 0


@two_users
@pytest.mark.parametrize("what", ["runtime", "journal"])
def test_directories_here_that_others_can_replace_are_not_used(
    cold: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    base = cold.parent

    def use(path: Path) -> None:
        if what == "runtime":
            monkeypatch.setenv("OPENSSH_JOBS_RUNTIME_DIR", str(path))
            runtime_directory.prepare_directory()
        else:
            journal = Journal(path / "journal")
            try:
                journal.rows()
            finally:
                journal.close()

    (base / "a").mkdir()
    use(base / "a" / "fine")
    (base / "a").chmod(0o777)
    with pytest.raises(ConfigurationError, match=r"below .*/a, which others can write"):
        use(base / "a" / "fine")
    (base / "a").chmod(0o1777)
    use(base / "a" / "fine")
    as_mallory("mkdir -m 777 theirs; ln -s fine link", base / "a")
    for name in ("theirs", "link"):
        with pytest.raises(ConfigurationError, match=r"user 7002|is not a directory"):
            use(base / "a" / name)
    os.chown(base / "a", MALLORY, MALLORY)
    with pytest.raises(ConfigurationError, match=f"belongs to user {MALLORY}"):
        use(base / "a" / "fine")


@two_users
def test_a_planted_journal_is_not_read(tmp_path: Path) -> None:
    for plant in ("file of another user", "link", "fifo", "file that others can write"):
        path = tmp_path / plant
        PLANTS[plant](path, tmp_path / "elsewhere")
        with pytest.raises(ConfigurationError):
            Journal(path).rows()
    assert not (tmp_path / "elsewhere").exists()


@two_users
def test_settings_of_others_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "servers.toml"
    monkeypatch.setenv("OPENSSH_JOBS_CONFIG", str(path))
    path.write_text('[servers.hpc]\nprologue = "theirs"\n')
    assert settings.servers()["hpc"]["prologue"] == "theirs"
    path.chmod(0o666)
    with pytest.raises(ConfigurationError, match="others can write it"):
        settings.servers()
    path.chmod(0o644)
    os.chown(path, MALLORY, MALLORY)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        settings.servers()
