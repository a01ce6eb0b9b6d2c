"""What is in a tree and which of it is wanted, compared with the real find and with the disk."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from openssh_jobs.transfer import listing
from openssh_jobs.transfer.listing import Filter, Member
from tests.names import NAMES


@pytest.fixture
def top(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        (tmp_path / name).write_bytes(b"x" * number)
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "f").write_bytes(b"12")
    (tmp_path / "d" / "link").symlink_to("e")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    return tmp_path


def short(members: list[Member], *, size: bool = True) -> list[tuple[bytes, str, int]]:
    return sorted((m.name, m.kind, m.size if size and m.kind == "f" else 0) for m in members)


@pytest.mark.parametrize("find_printf", [True, False])
def test_here_and_there_see_the_same(top: Path, find_printf: bool) -> None:
    tried = ["find", ".", "-maxdepth", "0", "-printf", ""]
    if find_printf and subprocess.run(tried, capture_output=True, timeout=20).returncode:
        pytest.skip("find has no -printf here")
    script = listing.list_script(find_printf=find_printf)
    done = subprocess.run(
        ["sh", "-c", script], cwd=top, capture_output=True, timeout=20, check=True
    )
    assert short(listing.parse_find(done.stdout)) == short(listing.walk(os.fsencode(top)))
    assert len(listing.walk(os.fsencode(top))) == len(NAMES) + 6


def test_followed_links_count_as_what_they_point_to(top: Path) -> None:
    (top / "dangling").unlink()
    found = {m.name: m.kind for m in listing.walk(os.fsencode(top), follow_symlinks=True)}
    assert (found[b"d/link"], found[b"d/link/f"]) == ("d", "f")
    (top / "d" / "round").symlink_to("..")
    with pytest.raises(OSError, match="loop"):
        listing.walk(os.fsencode(top), follow_symlinks=True)


def test_a_directory_that_cannot_be_read_is_no_empty_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        listing.walk(os.fsencode(tmp_path / "none"))


def names(only: list[str] | None, exclude: list[str] | None) -> list[str]:
    members = [
        Member(name.encode(), kind, 0)
        for name, kind in {
            "a.log": "f",
            "b.txt": "f",
            "sub": "d",
            "sub/c.log": "f",
            "sub/deep": "d",
            "sub/deep/d.txt": "f",
            "empty": "d",
            "[x].log": "f",
        }.items()
    ]
    return [m.name.decode() for m in Filter(only, exclude).select(members)]


@pytest.mark.parametrize(
    ("only", "exclude", "left"),
    [
        (None, None, ["[x].log", "a.log", "b.txt", "empty", "sub", "sub/c.log", "sub/deep",
                      "sub/deep/d.txt"]),
        (["*.log"], None, ["[x].log", "a.log", "sub", "sub/c.log"]),
        (["sub/*"], None, ["sub", "sub/c.log", "sub/deep", "sub/deep/d.txt"]),
        (None, ["sub"], ["[x].log", "a.log", "b.txt", "empty"]),
        (None, ["sub/deep/"], ["[x].log", "a.log", "b.txt", "empty", "sub", "sub/c.log"]),
        (["*.log"], ["sub"], ["[x].log", "a.log"]),
        (["[[]x].log"], None, ["[x].log"]),
        ([], None, []),
        (["none"], None, []),
    ],
)  # fmt: skip
def test_patterns(only: list[str] | None, exclude: list[str] | None, left: list[str]) -> None:
    assert names(only, exclude) == left


def test_what_is_no_list_of_patterns_is_refused() -> None:
    with pytest.raises(TypeError, match="only must be a list"):
        Filter("*.log", None)
    with pytest.raises(TypeError, match="exclude must be a list"):
        Filter(None, "*.log")
    with pytest.raises(ValueError, match="empty pattern"):
        Filter([""], None)


def test_a_name_of_any_bytes_can_be_kept() -> None:
    kept = Filter(["x\udcff*"], None).select([Member(b"x\xffy", "f", 0), Member(b"xy", "f", 0)])
    assert [member.name for member in kept] == [b"x\xffy"]
