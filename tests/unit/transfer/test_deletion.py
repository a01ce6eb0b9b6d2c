"""Which members of a target are deleted, and in which order."""

from __future__ import annotations

import pytest

from openssh_jobs.errors import InputError
from openssh_jobs.transfer.deletion import surplus
from openssh_jobs.transfer.listing import Filter, Member

ALL = Filter(None, None)


def members(*names: str) -> list[Member]:
    """A name that ends in a slash is a directory."""
    return [
        Member(name.rstrip("/").encode(), "d" if name.endswith("/") else "f", 1) for name in names
    ]


def deleted(source: set[bytes], target: list[Member], patterns: Filter = ALL) -> list[bytes]:
    return [member.name for member in surplus(source, target, patterns, host="h")]


def test_what_the_source_lacks_is_deleted_members_before_their_directory() -> None:
    target = members("a", "gone/", "gone/deep/", "gone/deep/x", "gone!", "d/", "d/old")
    assert deleted({b"a", b"d"}, target) == [
        *(b"gone/deep/x", b"gone/deep", b"gone!", b"gone", b"d/old"),
    ]


def test_what_the_patterns_leave_out_stays_and_so_do_the_directories_above_it() -> None:
    target = members("a", "x/", "x/keep.log", "x/drop", "y/", "y/drop")
    assert deleted({b"a"}, target, Filter(None, ["*.log"])) == [b"y/drop", b"y", b"x/drop"]
    assert deleted({b"a"}, target, Filter(["*.log"], None)) == [b"x/keep.log"]


def test_what_this_package_keeps_in_directories_of_jobs_stays() -> None:
    target = members(
        *("a", ".openssh_jobs/", ".openssh_jobs/t/", "d/", "d/.openssh_jobs/", ".oj-1.part", "b")
    )
    assert deleted({b"a"}, target) == [b"b"]


def test_an_empty_source_deletes_nothing() -> None:
    with pytest.raises(InputError, match="the source is empty"):
        deleted(set(), members("a"))
    assert deleted(set(), []) == []
