"""What the words of rsync, sftp and scp say about which file."""

from __future__ import annotations

import sys
import tempfile
from types import SimpleNamespace
from typing import Any

import pytest

from openssh_jobs.commands import limits
from openssh_jobs.errors import InvalidAnswer, RemoteFileNotFoundError
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


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_program_that_never_stops_talking_is_ended(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What a host writes on stderr comes out of rsync and scp, and so do its names."""
    monkeypatch.setattr(limits, "LISTING", 100_000)
    monkeypatch.setattr(limits, "NOISE", 100_000)
    monkeypatch.setattr(limits, "WORDS", 1000)
    sessions = SimpleNamespace(start=lambda start, what, again: (start(LINK), None))
    login_shell = SimpleNamespace(start_timeout=5)
    commands = SimpleNamespace(sessions=sessions, login_shell=login_shell)
    lanes: Any = SimpleNamespace(host="hpc", commands=commands)
    script = f"import sys, time\nfor _ in range(50): sys.{name}.write('x' * 20000); time.sleep(.1)"
    with tempfile.TemporaryFile() as out, pytest.raises(InvalidAnswer) as caught:
        local_programs.run(
            lanes,
            lambda link: [sys.executable, "-u", "-c", script],
            what="rsync",
            path=b"/there",
            local=b"/here",
            sends=False,
            stdout=out,
        )
    assert str(caught.value).startswith("hpc: more than 10")
    assert f"bytes came on {name}" in str(caught.value)
