"""What the words of rsync, sftp and scp say about which file."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from openssh_jobs.errors import RemoteFileNotFoundError
from openssh_jobs.transfer import local_programs

LANES: Any = SimpleNamespace(host="hpc", commands=SimpleNamespace(sessions=None))
LINK: Any = None


def error_of(said: str, *, sends: bool) -> Exception:
    return local_programs._error(
        LANES, LINK, "rsync", 23, said, b"/there/top", b"/here/top", sends=sends
    )


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("/there/top/inner/x", "/there/top/inner/x"),
        ("/there/top", "/there/top"),
        ("/there/topmost", "/there/top"),
    ],
)
def test_a_file_of_a_tree_that_is_not_there_is_not_the_tree(name: str, named: str) -> None:
    said = f'rsync: [sender] link_stat "{name}" failed: No such file or directory (2)\nrsync error'
    error = error_of(said, sends=False)
    assert isinstance(error, RemoteFileNotFoundError)
    assert error.filename == named


def test_a_local_file_of_a_tree_is_named() -> None:
    said = 'rsync: [sender] send_files failed to open "/here/top/a b": Permission denied (13)'
    error = error_of(said, sends=True)
    assert isinstance(error, PermissionError)
    assert error.filename == "/here/top/a b"


def test_a_part_of_rsync_is_not_named() -> None:
    said = 'rsync: [receiver] mkstemp "/there/top/.a.Xyz123" failed: No such file or directory (2)'
    error = error_of(said, sends=True)
    assert isinstance(error, RemoteFileNotFoundError)
    assert error.filename == "/there/top"
