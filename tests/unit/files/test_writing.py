"""Small files as shell text: every shell writes the same bytes, or says that it cannot."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from openssh_jobs.files import writing

# yash and mksh have no printf of their own that everything could be handed to unseen.
SHELLS = {
    "sh": True, "dash": True, "bash": True, "busybox sh": True, "ksh93": True, "zsh": True,
    "mksh": False, "yash": False,
}  # fmt: skip


@pytest.mark.parametrize("shell", SHELLS)
def test_shells_write_the_same_bytes(shell: str, tmp_path: Path) -> None:
    argv = shell.split()
    if shutil.which(argv[0]) is None:
        pytest.skip(f"no {shell} here")
    target, data = tmp_path / "f", b"-%s\\101" + bytes(range(256)) * 12
    target.touch(0o640)
    text = writing.shell_text(data)
    assert text is not None
    script = writing.BUILTIN_PRINTF + writing.write_script(
        bytes(target), text + b" | cat", len(data)
    )
    env = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}
    lines = b"(\n" + script + b"\n)\n"
    done = subprocess.run(
        [*argv, "-s"], input=lines, capture_output=True, timeout=30, env=env, check=False
    )
    if not SHELLS[shell]:
        assert (done.returncode, target.read_bytes()) == (writing.NO_BUILTIN_PRINTF, b"")
        return
    assert (done.returncode, done.stdout, done.stderr) == (0, b"done\n", b"")
    assert target.read_bytes() == data
    assert target.stat().st_mode & 0o777 == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize(
    ("data", "small"),
    [
        (b"", True),
        (b"x" * 15_000, True),
        (b"\n" * 3_900, True),
        (b"\n" * 4_200, False),
        (b"x" * 17_000, False),
    ],
)
def test_what_is_small(data: bytes, small: bool) -> None:
    assert (writing.shell_text(data) is not None) == small
