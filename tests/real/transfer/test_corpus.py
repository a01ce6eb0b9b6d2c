"""Hundreds of names and contents through every lane, there and back, compared by checksum."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from openssh_jobs import Connection
from openssh_jobs.errors import UnrepresentableName
from openssh_jobs.transfer import scp
from openssh_jobs.transfer.options import Method
from tests.lab import corpus
from tests.lab.site import Host

_numbers = itertools.count()
NAMES = corpus.names()


@pytest.fixture
def route() -> str:
    return "direct"


@pytest.fixture
def here(tmp_path: Path) -> bytes:
    """The corpus as a tree of ours."""
    top = os.fsencode(tmp_path / "corpus")
    os.mkdir(top)
    for number, name in enumerate(NAMES):
        with open(os.path.join(top, name), "wb") as handle:
            handle.write(corpus.content(name, number))
    return top


@pytest.fixture
def there(host: Host) -> Iterator[Path]:
    directory = host.make_directory(f"corpus{os.getpid()}-{next(_numbers)}")
    yield directory
    assert not (host.home / "pwned").exists()
    assert not os.path.exists("pwned")
    shutil.rmtree(os.fsencode(directory))


def digests(top: bytes) -> dict[bytes, str]:
    found = {}
    for name in os.listdir(top):
        with open(os.path.join(top, name), "rb") as handle:
            found[name] = corpus.digest(handle.read())
    return found


def without(top: bytes, unwanted: list[bytes]) -> None:
    for name in unwanted:
        os.unlink(os.path.join(top, name))


def test_there_are_enough() -> None:
    assert len(NAMES) >= 300
    assert {byte for name in NAMES for byte in name} == set(range(1, 256)) - {ord("/")}
    assert max(len(name) for name in NAMES) == 255


@pytest.mark.parametrize("method", ["tar", "sftp", "rsync"])
def test_as_a_tree(
    connection: Connection, here: bytes, there: Path, tmp_path: Path, method: Method
) -> None:
    if method == "rsync" and shutil.which("rsync") is None:
        pytest.skip("no rsync: apt-get install rsync")
    if method == "sftp":
        with pytest.raises(UnrepresentableName):
            connection.put(os.fsdecode(here), f"{there}/t", method=method)
        without(here, [name for name in NAMES if b"\n" in name])
    wanted = digests(here)
    connection.put(os.fsdecode(here), f"{there}/t", method=method)
    assert digests(os.fsencode(there / "t")) == wanted
    connection.get(f"{there}/t", tmp_path / "back", method=method, verify=True)
    assert digests(os.fsencode(tmp_path / "back")) == wanted
    connection.put(os.fsdecode(here), f"{there}/t", update=True)
    again = connection.put(os.fsdecode(here), f"{there}/t", update=True, method=method)
    assert (again.files, again.skipped) == (0, len(wanted))


@pytest.mark.parametrize("method", ["sftp", "auto", "tar"])
@pytest.mark.parametrize("backend", ["mux"], indirect=True)
def test_one_by_one(
    connection: Connection, here: bytes, there: Path, tmp_path: Path, method: Method
) -> None:
    """Single files go by sftp, by what auto takes, and by a stream; a third of them each."""
    lanes = ["sftp", "auto", "tar"]
    back = os.fsencode(tmp_path / "back")
    for number, name in enumerate(NAMES):
        if number % 3 != lanes.index(method):
            continue
        source, target = os.path.join(here, name), f"{there}/{os.fsdecode(name)}"
        if method == "sftp" and b"\n" in name:
            with pytest.raises(UnrepresentableName):
                connection.put(os.fsdecode(source), target, method=method)
            continue
        connection.put(os.fsdecode(source), target, method=method)
        connection.get(target, os.fsdecode(back), method=method)
        expected = corpus.content(name, number)
        assert (there / os.fsdecode(name)).read_bytes() == expected, name
        with open(back, "rb") as handle:
            assert handle.read() == expected, name


@pytest.mark.parametrize("backend", ["mux"], indirect=True)
def test_by_scp(connection: Connection, here: bytes, there: Path, tmp_path: Path) -> None:
    back = os.fsencode(tmp_path / "back")
    count = refused = 0
    for number, name in enumerate(NAMES):
        if number % 5:
            continue
        source, target = os.fsdecode(os.path.join(here, name)), f"{there}/{os.fsdecode(name)}"
        try:
            scp.remote_word(name)
        except UnrepresentableName:
            refused += 1
            connection.put(source, target)
            with pytest.raises(UnrepresentableName):
                connection.get(target, os.fsdecode(back), method="scp")
            continue
        connection.put(source, target, method="scp")
        connection.get(target, os.fsdecode(back), method="scp")
        count += 1
        expected = corpus.content(name, number)
        assert (there / os.fsdecode(name)).read_bytes() == expected, name
        with open(back, "rb") as handle:
            assert handle.read() == expected, name
    assert count > 50
    assert refused > 5


@pytest.mark.parametrize("backend", ["mux"], indirect=True)
def test_small_calls(connection: Connection, here: bytes, there: Path) -> None:
    """The names of a directory, the facts of all of its files in one call, and their contents."""
    connection.put(os.fsdecode(here), f"{there}/t")
    listed = connection.listdir(f"{there}/t")
    assert sorted(os.fsencode(name) for name in listed) == NAMES
    facts = connection.stat_many([f"{there}/t/{os.fsdecode(name)}" for name in NAMES])
    for number, (name, one) in enumerate(zip(NAMES, facts, strict=True)):
        assert one is not None, name
        assert one.st_size == len(corpus.content(name, number)), name
    for number in range(0, len(NAMES), 12):
        path = f"{there}/t/{os.fsdecode(NAMES[number])}"
        assert connection.read_bytes(path) == corpus.content(NAMES[number], number)
