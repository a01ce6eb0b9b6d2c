"""Local directories for what a host sends."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from openssh_jobs.transfer import staging


@pytest.mark.parametrize("below", [b"x/" * 2100 + b"y", b"n" * 256, b"n" * 5000])
def test_of_a_path_that_is_too_long_nothing_is_made(tmp_path: Path, below: bytes) -> None:
    with pytest.raises(OSError, match="too long") as caught:
        staging.make_directories(os.path.join(os.fsencode(tmp_path), below))
    assert caught.value.errno == errno.ENAMETOOLONG
    assert list(tmp_path.iterdir()) == []


def test_directories_by_the_thousand_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = b"x/" * 1800 + b"y"
    for _ in range(2):
        staging.make_directories(path)
        assert os.path.isdir(path)
    for _ in range(1801):
        os.rmdir(path)
        path = os.path.dirname(path)


def test_a_file_in_the_way_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for name in (b"file", b"file/below", b"link"):
        with pytest.raises((FileExistsError, NotADirectoryError)):
            staging.make_directories(os.path.join(os.fsencode(tmp_path), name))


def test_an_error_about_the_stage_names_the_target() -> None:
    """Its caller knows no stage, and least of all its name in /proc."""
    inside = b"/proc/1/fd/3/."
    for name, shown in ((inside, "/t/"), (inside + b"/d/f", "/t/d/f"), (b"/else", b"/else")):
        with pytest.raises(FileNotFoundError) as caught, staging.named(inside, b"/t"):
            raise FileNotFoundError(errno.ENOENT, "No such file", name, None, inside + b"/g")
        assert caught.value.filename == shown
        assert caught.value.filename2 == "/t/g"
