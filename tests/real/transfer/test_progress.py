"""Numbers in between: true ones, while bytes move, by every way that can tell."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from openssh_jobs import Connection
from openssh_jobs.transfer import local_programs, progress
from openssh_jobs.transfer.options import Method
from tests.real.transfer.straight import backend, route, there

__all__ = ["backend", "route", "there"]

_SIZE = 60_000_000

Seen = list[tuple[int, int, int, int, str]]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look every few milliseconds: the link here is fast."""
    if progress.read_counter(os.getpid(), "rchar") is None:
        pytest.skip("the system counts no bytes of processes")
    monkeypatch.setattr(progress, "EVERY", 0.005)
    monkeypatch.setattr(local_programs, "STEP", 0.005)


@pytest.mark.parametrize("method", ["tar", "scp"])
def test_a_file(connection: Connection, there: Path, tmp_path: Path, method: Method) -> None:
    with (tmp_path / "f").open("wb") as handle:
        handle.truncate(_SIZE)
    for move in (
        lambda tell: connection.put(tmp_path / "f", f"{there}/f", method=method, progress=tell),
        lambda tell: connection.get(f"{there}/f", tmp_path / "g", method=method, progress=tell),
    ):
        seen: Seen = []
        move(lambda *numbers, to=seen: to.append(numbers))
        between = [one[0] for one in seen[1:-1] if 0 < one[0] < _SIZE]
        assert between, seen
        assert between == sorted(between)
        assert seen[-1][:4] == (_SIZE, _SIZE, 1, 1)


def test_a_tree(connection: Connection, there: Path, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    for number in range(30):
        with (tmp_path / "t" / f"{number:02}").open("wb") as handle:
            handle.write(bytes(_SIZE // 30))
    seen: Seen = []
    connection.put(tmp_path / "t", f"{there}/t", progress=lambda *numbers: seen.append(numbers))
    between = [one for one in seen if 0 < one[2] < 30]
    assert between, seen
    assert all(one[0] == one[2] * (_SIZE // 30) for one in between), "files and bytes agree"
    assert [one[2] for one in between] == sorted(one[2] for one in between)
    seen.clear()
    connection.get(f"{there}/t", tmp_path / "u", progress=lambda *numbers: seen.append(numbers))
    assert [one for one in seen if 0 < one[0] < _SIZE], seen
    assert seen[-1][:4] == (_SIZE, _SIZE, 30, 30)


@pytest.mark.parametrize("method", ["sftp", "rsync"])
def test_a_tree_by_ways_that_tell_each_file(
    connection: Connection, there: Path, tmp_path: Path, method: Method
) -> None:
    (tmp_path / "t" / "empty").mkdir(parents=True)
    for number in range(30):
        (tmp_path / "t" / f"{number:02}").write_bytes(os.urandom(_SIZE // 60))
    for move in (
        lambda tell: connection.put(tmp_path / "t", f"{there}/t", method=method, progress=tell),
        lambda tell: connection.get(f"{there}/t", tmp_path / "u", method=method, progress=tell),
    ):
        seen: Seen = []
        move(lambda *numbers, to=seen: to.append(numbers))
        between = [one for one in seen if 0 < one[2] < 30]
        assert between, seen
        assert all(one[0] == one[2] * (_SIZE // 60) for one in between), "files and bytes agree"
        assert [one[2] for one in between] == sorted(one[2] for one in between)
        assert seen[-1][:4] == (_SIZE // 60 * 30, _SIZE // 60 * 30, 30, 30)


@pytest.mark.parametrize("method", ["tar", "auto"])
def test_a_callback_that_raises_ends_the_transfer_in_order(
    connection: Connection, there: Path, tmp_path: Path, method: Method
) -> None:
    (tmp_path / "f").write_bytes(bytes(_SIZE))

    def tell(done: int, *_: object) -> None:
        if done:
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        connection.put(tmp_path / "f", f"{there}/f", method=method, progress=tell)
    assert [name for name in connection.listdir(str(there)) if name.startswith(".oj-")] == []
