"""A fifo in the place of a file: whoever opens it would wait for a program at its other end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection
from openssh_jobs.commands import scripts
from openssh_jobs.errors import RemoteOSError
from openssh_jobs.transfer import checksums, streams
from tests.lab.site import Host

SOON = 20.0


@pytest.mark.parametrize("call", ["read_bytes", "read_text", "copy"])
@pytest.mark.parametrize("link", [False, True])
def test_a_fifo_is_refused_and_the_next_call_is_answered(
    sshd: Host, tmp_path: Path, call: str, link: bool
) -> None:
    there = sshd.make_directory(f"fifo-{call}-{link}")
    os.mkfifo(there / "fifo")
    (there / "link").symlink_to("fifo")
    name = f"{there}/{'link' if link else 'fifo'}"
    calls: dict[str, Callable[[Connection], Any]] = {
        "read_bytes": lambda c: c.read_bytes(name),
        "read_text": lambda c: c.read_text(name),
        "copy": lambda c: c.copy(name, f"{there}/new"),
    }
    with Connection(sshd.alias, ssh_config=sshd.config) as connection:
        began = time.monotonic()
        with pytest.raises(RemoteOSError, match="Is a fifo"):
            calls[call](connection)
        assert sorted(connection.listdir(str(there))) == ["fifo", "link"]
        assert time.monotonic() - began < SOON


@pytest.mark.parametrize("has_z", [True, False])
@pytest.mark.parametrize("side", ["host", "here"])
def test_a_file_that_becomes_a_fifo_before_it_is_compared(
    sshd: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: str, has_z: bool
) -> None:
    there, here = sshd.make_directory(f"compared-{side}-{has_z}"), tmp_path / "here"
    sshd.make(f"{there.name}/a", b"one")
    here.mkdir()
    (here / "a").write_bytes(b"two")
    os.utime(here / "a", (1, 1))
    swapped = (there if side == "host" else here) / "a"
    if not has_z:
        monkeypatch.setattr(scripts, "call", without_z(scripts.call))
    real = checksums.local_many

    def swap(top: bytes, names: Any) -> dict[bytes, str]:
        found = real(top, names) if side == "host" else {}
        swapped.unlink()
        os.mkfifo(swapped)
        return found or real(top, names)

    monkeypatch.setattr(checksums, "local_many", swap)
    with Connection(sshd.alias, ssh_config=sshd.config) as connection:
        began = time.monotonic()
        with pytest.raises(OSError, match="not a regular file"):
            connection.get(str(there), here, update=True)
        assert time.monotonic() - began < SOON


def without_z(call: Callable[..., bytes]) -> Callable[..., bytes]:
    """As on a host whose sha256sum has no ``-z``."""
    return lambda *words: b"sha256sum() { false; }; " + call(*words)


def test_one_file_that_becomes_a_fifo_before_it_is_compared(
    sshd: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sshd.make("compared-alone", b"one")
    (tmp_path / "got").write_bytes(b"two")
    os.utime(tmp_path / "got", (1, 1))
    real = checksums.local

    def swap(name: bytes, size: int | None = None) -> str:
        path.unlink()
        os.mkfifo(path)
        return real(name, size)

    monkeypatch.setattr(checksums, "local", swap)
    with Connection(sshd.alias, ssh_config=sshd.config) as connection:
        began = time.monotonic()
        with pytest.raises(RemoteOSError, match="not a regular file"):
            connection.get(str(path), tmp_path / "got", update=True)
        assert time.monotonic() - began < SOON
    path.unlink()


def test_a_source_here_that_becomes_a_fifo_is_not_opened(
    sshd: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    real = streams.send_file

    def swap(*words: Any, **options: Any) -> Any:
        source.unlink()
        os.mkfifo(source)
        return real(*words, **options)

    monkeypatch.setattr(streams, "send_file", swap)
    with Connection(sshd.alias, ssh_config=sshd.config) as connection:
        began = time.monotonic()
        with pytest.raises(OSError, match="not a regular file"):
            connection.put(source, "fifo-put", method="tar")
        assert time.monotonic() - began < SOON
        assert not connection.exists("fifo-put")
