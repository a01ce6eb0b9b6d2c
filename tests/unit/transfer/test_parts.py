"""Removing the stage of a tree, by real shells and here: what others put in its place stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from openssh_jobs.commands import scripts
from openssh_jobs.openssh import pid_file
from openssh_jobs.transfer import parts
from openssh_jobs.transfer.lanes import SCRIPTS
from tests.helpers import give_default_acl

SHELLS = ["sh", *filter(shutil.which, ("bash", "mksh", "busybox"))]


def run(shell: str, function: str, *words: scripts.Value) -> subprocess.CompletedProcess[bytes]:
    argv = [shell, "sh", "-s"] if shell == "busybox" else [shell, "-s"]
    text = b"(\n" + scripts.call(SCRIPTS, function, *words) + b"\n)\n"
    return subprocess.run(argv, input=text, capture_output=True, timeout=30, check=False)


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A directory for the stage that has a name for trouble."""
    (tmp_path / "group").mkdir()
    return tmp_path / "group" / ".oj- 'x'\n.part"


HERE = "this machine"


def made(shell: str, stage: Path) -> int:
    if shell == HERE:
        number = parts.make_local_stage(bytes(stage))
    else:
        number = int(run(shell, "oj_make_stage", str(stage)).stdout)
    assert (stage.stat().st_ino, stage.stat().st_mode & 0o777) == (number, 0o700)
    (stage / "d").mkdir()
    (stage / "d" / "f").write_bytes(b"x")
    (stage / ".hidden").symlink_to("/")
    return number


def remove(shell: str, stage: Path, number: int) -> None:
    if shell == HERE:
        parts.remove_local_stage(bytes(stage), number)
    else:
        run(shell, "oj_remove_stage", str(stage), number)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("style", ["literal", "shell-always", "c", "padded"])
def test_a_stage_is_entered(shell: str, stage: Path, tmp_path: Path, style: str) -> None:
    """Whatever ls(1) puts around the number and the name of the directory."""
    if style == "padded":
        (tmp_path / "ls").write_text('#!/bin/sh\nprintf "   "; exec /bin/ls "$@"\n')
        (tmp_path / "ls").chmod(0o755)
    number = made(shell, stage)
    argv = [shell, "sh", "-c"] if shell == "busybox" else [shell, "-c"]
    for expected, code in ((number, 0), (number + 1, 1)):
        text = parts.enter_stage(bytes(stage), expected)
        environment = {"PATH": f"{tmp_path}:{os.defpath}", "QUOTING_STYLE": style}
        done = subprocess.run([*argv, text], env=environment, capture_output=True, timeout=30,
                              check=False)  # fmt: skip
        assert done.returncode == code, done.stderr


@pytest.mark.parametrize("shell", [*SHELLS, HERE])
@pytest.mark.parametrize("mode", [0o700, 0o000])
def test_a_stage_is_removed(shell: str, stage: Path, mode: int) -> None:
    number = made(shell, stage)
    (stage / "d").chmod(0o500)
    stage.chmod(mode)
    remove(shell, stage, number)
    assert os.listdir(stage.parent) == []


def test_a_stage_of_any_depth_is_removed(stage: Path) -> None:
    """A host chooses the depth: more levels than a function can call itself, or files be open."""
    number = made(HERE, stage)
    place = os.open(stage, os.O_RDONLY)
    for level in range(1300):
        os.mkdir("d ", dir_fd=place)
        below = os.open("d ", os.O_RDONLY, dir_fd=place)
        if level:
            os.fchmod(place, 0)
        os.close(place)
        place = below
    os.close(place)
    remove(HERE, stage, number)
    assert os.listdir(stage.parent) == []


@pytest.mark.parametrize("shell", [*SHELLS, HERE])
@pytest.mark.parametrize("how", ["directory", "link"])
def test_what_stands_in_its_place_stays(shell: str, stage: Path, how: str) -> None:
    """A neighbour who may rename in the directory puts another tree of ours there."""
    number = made(shell, stage)
    stage.rename(stage.parent / "moved")
    precious = stage.parent / "precious"
    precious.mkdir()
    (precious / "thesis").write_bytes(b"years")
    if how == "directory":
        precious = precious.rename(stage)
    else:
        stage.symlink_to("precious")
    remove(shell, stage, number)
    assert (precious / "thesis").read_bytes() == b"years"
    assert (stage.parent / "moved" / "d" / "f").exists()


def test_without_a_number_only_an_empty_stage_is_removed(stage: Path) -> None:
    made(HERE, stage)
    parts.remove_local_stage(bytes(stage), None)
    assert (stage / "d" / "f").exists()
    shutil.rmtree(stage)
    stage.mkdir()
    parts.remove_local_stage(bytes(stage), None)
    parts.remove_local_stage(bytes(stage), None)
    assert os.listdir(stage.parent) == []


SWAPS = {
    "a link": 'rmdir "$1"; ln -s ../precious "$1"',
    "another directory of ours": 'rmdir "$1"; mv ours "$1"',
}


@pytest.mark.parametrize("name", SWAPS)
@pytest.mark.parametrize("shell", [HERE, *SHELLS])
def test_a_stage_that_was_replaced_before_it_is_entered(
    stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str, name: str
) -> None:
    """The other user is at work between mkdir and what follows."""
    for place in (tmp_path / "precious", stage.parent / "ours"):
        place.mkdir()
        (place / "thesis").write_text("three years")
    swap = tmp_path / "bin" / "mkdir"
    swap.parent.mkdir()
    words = f'"{shutil.which("mkdir")}" "$@"; shift $(($# - 1)); cd {stage.parent}; {SWAPS[name]}'
    swap.write_text("#!/bin/sh\n" + words + "\n")
    swap.chmod(0o755)
    if shell == HERE:

        def mkdir(path: bytes, mode: int) -> None:
            subprocess.run([swap, "-m", f"{mode:o}", path], check=True, timeout=30)

        monkeypatch.setattr(os, "mkdir", mkdir)
        with pytest.raises(OSError, match=r"not permitted|symbolic link|Not a directory"):
            parts.make_local_stage(bytes(stage))
        return
    monkeypatch.setenv("PATH", f"{swap.parent}:{os.environ['PATH']}")
    done = run(shell, "oj_make_stage", str(stage))
    if shell == "busybox" and done.returncode == 0:
        pytest.skip("this busybox runs its own mkdir")
    assert (done.returncode, done.stdout) == (1, b""), done.stderr
    assert b"Operation not permitted" in done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_a_part_is_closed_to_others_where_a_default_acl_opens_files(
    shell: str, tmp_path: Path
) -> None:
    give_default_acl(tmp_path)
    part = tmp_path / "part"
    done = run(shell, "oj_make_part", str(part))
    assert (done.returncode, part.stat().st_mode & 0o777) == (0, 0o600), done.stderr


def dead_name(number: int) -> str:
    """The name of a part whose process has ended."""
    code = "from openssh_jobs.openssh import pid_file; print(pid_file.call())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=30)
    return f".oj-{number:04x}.{done.stdout.decode().strip()}.part"


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError])
def test_a_dead_part_that_cannot_be_removed_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    dead = dead_name(0)
    alive = f".oj-00ff.{pid_file.call()}.part"
    names = [dead.replace("0000", f"{number:04x}") for number in range(4)]
    for name in (*names, alive, ".oj-odd", "other.part"):
        (tmp_path / name).touch()
    newest, seen = parts._newest, list[bytes]()

    def first_fails(path: bytes) -> float:
        seen.append(path)
        if len(seen) == 1:
            raise error(2, "gone or not ours")
        return newest(path)

    monkeypatch.setattr(parts, "_newest", first_fails)
    parts.sweep_here(os.fsencode(tmp_path))
    left = {".oj-odd", "other.part", alive, os.path.basename(os.fsdecode(seen[0]))}
    assert set(os.listdir(tmp_path)) == left
