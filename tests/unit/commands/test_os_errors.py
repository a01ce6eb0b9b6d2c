"""Which errno the tools' messages mean: those of the real tools here, GNU and BusyBox."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs.commands.os_errors import errno_of, error_of, refused
from tests.lab import parts


@pytest.mark.parametrize("busybox", [False, True])
@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("cat none", errno.ENOENT),
        ("cat f/x", errno.ENOTDIR),
        ("cat d", errno.EISDIR),
        ("mkdir d", errno.EEXIST),
        ("mkdir no/such", errno.ENOENT),
        ("rmdir full", errno.ENOTEMPTY),
        ("rmdir f", errno.ENOTDIR),
        ("ls loop/x", errno.ELOOP),
        ("touch " + "n" * 300, errno.ENAMETOOLONG),
        ("stat none", errno.ENOENT),
        ("mv f none/x", errno.ENOENT),
        ("cat < none", errno.ENOENT),
        ("echo x > d", errno.EISDIR),
        ("echo x > no/such", errno.ENOENT),
        ("cat /dev/zero > /dev/full", errno.ENOSPC),
        ("readlink -f none/x/y; ls none", errno.ENOENT),
    ],
)
def test_what_real_tools_say(tmp_path: Path, command: str, number: int, busybox: bool) -> None:
    if busybox:
        parts.require("busybox")
        words = command.split()
        applet = f"{shutil.which('busybox')} {words[0]}"
        command = " ".join([applet if words[0] != "echo" else "echo", *words[1:]])
    (tmp_path / "f").touch()
    (tmp_path / "d").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "loop").symlink_to("loop")
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=tmp_path,
        env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert errno_of(done.stderr) == number, done.stderr


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("mkdir: x: Disc quota exceeded", errno.EDQUOT),
        ("mkdir: cannot create directory 'x': Disk quota exceeded", errno.EDQUOT),
        ('File "/nonexistent" not found.', errno.ENOENT),
        ('dest open "/nodir/x": No such file or directory', errno.ENOENT),
        (
            "tar: ./f: Wrote only 1024 of 10240 bytes\ntar: Exiting with failure status",
            errno.ENOSPC,
        ),
        ("touch: x: Read-only file system", errno.EROFS),
        ("mv: cannot move 'a' to 'b': Invalid cross-device link", errno.EXDEV),
        ("cat: x: Stale file handle", errno.ESTALE),
        ("chmod: changing permissions of 'x': Operation not permitted", errno.EPERM),
        ('remote mkdir "/srv/x": Failure', None),
        ("No such file or directory is what my script is called, and it is fine", None),
        ("", None),
    ],
)
def test_what_other_systems_say(said: str, number: int | None) -> None:
    assert errno_of(said) == number


@given(st.text(max_size=200))
def test_any_words_make_an_oserror_of_that_path(said: str) -> None:
    error = error_of(said, "/some/path", host="hpc")
    assert error.filename == "/some/path"
    assert error.errno
    assert error.host == "hpc"
    assert error.sent == "yes"


def test_what_is_refused_here_was_not_sent() -> None:
    error = refused(errno.EPERM, "/", host="hpc", detail="the root")
    assert isinstance(error, PermissionError)
    assert (error.sent, error.errno) == ("no", errno.EPERM)
    assert "the root" in str(error)
