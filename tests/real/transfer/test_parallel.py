"""Large files in several ranges at once: what arrives is what was sent, or nothing is there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs import Connection
from openssh_jobs.errors import ConnectionLost, OpenSSHJobsError
from openssh_jobs.transfer import parallel
from tests.lab.site import Host

_BLOCK = 1 << 20


@given(st.integers(1, 1 << 40), st.integers(1, 8))
def test_ranges_cover_a_file_without_gap_or_overlap(size: int, lanes: int) -> None:
    found = parallel.split(size, lanes)
    assert 1 <= len(found) <= lanes
    at = 0
    for one in found:
        assert one.first * _BLOCK == at
        assert one.size > 0
        at += one.size
    assert at == size


@pytest.fixture
def far(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> Connection:
    """A connection that takes its round trip for a long one."""
    monkeypatch.setattr(parallel, "LONG", 0.0)
    monkeypatch.setattr(parallel, "SMALLEST", 1)
    return connection


@pytest.mark.parametrize("size", [1, _BLOCK, 9 * _BLOCK + 12345])
def test_there_and_back(far: Connection, host: Host, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "one").write_bytes(content)
    seen: list[int] = []
    opened = far.stats().sessions
    far.put(tmp_path / "one", "ranges/a b", progress=lambda done, *_: seen.append(done))
    assert far.stats().sessions - opened >= len(parallel.split(size))
    assert (host.home / "ranges" / "a b").read_bytes() == content
    assert seen[0] == 0
    assert seen[-1] == size
    far.get("ranges/a b", tmp_path / "two", verify=True)
    assert (tmp_path / "two").read_bytes() == content
    far.rmtree("ranges")


def test_a_full_range_leaves_nothing(far: Connection, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x" * (5 * _BLOCK))
    far.mkdir("ro")
    far.write_text("ro/old", "old")
    far.chmod("ro", 0o555)
    with pytest.raises(PermissionError):
        far.put(tmp_path / "one", "ro/old")
    far.chmod("ro", 0o755)
    assert far.listdir("ro") == ["old"]
    assert far.read_text("ro/old") == "old"
    far.rmtree("ro")


def test_a_lost_range_ends_the_others(
    far: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").write_bytes(b"x" * (9 * _BLOCK))
    launch, count = far._commands.launch, [0]

    def failing(*args: object, **options: object) -> object:
        count[0] += 1
        if count[0] == 3:
            raise ConnectionLost("cut", host=far.host)
        return launch(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(far._commands, "launch", failing)
    with pytest.raises(OpenSSHJobsError):
        far.put(tmp_path / "one", "lost")
    assert not far.exists("lost")
    assert [name for name in far.listdir() if name.startswith(".oj-")] == []


def test_the_checksum_of_a_large_file(far: Connection, host: Host, tmp_path: Path) -> None:
    content = os.urandom(3 * _BLOCK + 1)
    host.make("sum", content)
    far.get("sum", tmp_path / "sum")
    assert hashlib.sha256((tmp_path / "sum").read_bytes()).digest() == (
        hashlib.sha256(content).digest()
    )
    far.remove("sum")
