"""The checks of names from a host: what passes, what is refused, and how the refusal reads."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs.errors import TransferError, UnsafeName
from openssh_jobs.files import host_names
from openssh_jobs.files.host_names import HostNames
from openssh_jobs.transfer import listing, update
from openssh_jobs.transfer.listing import Member

BAD = (b"", b"/", b"/x", b".", b"..", b"x/", b"/x/", b"x//y", b"x/./y", b"x/../y", b"../x",
       b"x/..", b"x\0y", b"x/" * 2048 + b"y")  # fmt: skip
GOOD = (b"x", b"x/y", b"...", b"..x", b"x..", b" ", b"\n", b"a\n..\nb", b"\xff", b"-rf", b"~",
        b"$HOME", b"*")  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_leads_elsewhere_is_refused(name: bytes) -> None:
    assert host_names.fault(name) is not None


@pytest.mark.parametrize("name", GOOD)
def test_what_is_only_odd_passes(name: bytes) -> None:
    assert host_names.fault(name) is None


@given(st.binary(max_size=40).map(lambda data: data.replace(b"x", b"/").replace(b"y", b"..")))
def test_what_passes_stays_below_the_top(name: bytes) -> None:
    if host_names.fault(name) is None:
        path = os.path.normpath(b"/top/" + name)
        assert path == b"/top/" + name


def listed(*records: tuple[str, str]) -> bytes:
    return b"".join(b"%b 1 8 %b\0" % (kind.encode(), name.encode()) for kind, name in records)


def listed_long(*records: tuple[str, str]) -> bytes:
    return b"".join(
        b"%b 1 8 1700000000.0 %b\0\0" % (kind.encode(), name.encode()) for kind, name in records
    )


TOP = ("d", ".")


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([], "'.'.*missing"),
        ([("f", "./x")], "'.'.*missing"),
        ([TOP, TOP], "twice"),
        ([("f", ".")], "not a directory"),
        ([TOP, ("f", "./x"), ("f", "./x")], "'x', which came twice"),
        ([TOP, ("l", "./x"), ("f", "x")], "'x', which came twice"),
        ([TOP, ("f", "./x"), ("f", "./x/y")], "below 'x', which is a file"),
        ([TOP, ("l", "./x"), ("f", "./x/y")], "below 'x', which is a link"),
        ([TOP, ("f", "./x/y")], "below 'x', which is not there"),
        ([TOP, ("f", "./../x")], r"'\.\./x', which has the part '\.\.'"),
        ([TOP, ("f", "/x")], "absolute"),
    ],
)
def test_a_listing_holds_together(records: list[tuple[str, str]], said: str) -> None:
    with pytest.raises(UnsafeName, match=said):
        listing.parse_find(listed(*records), "h")
    with pytest.raises(UnsafeName, match=said):
        update.parse_listing(listed_long(*records), "h")


def test_what_lies_below_may_come_first() -> None:
    """No order is promised by find(1)."""
    found = listing.parse_find(listed(("f", "./x/y"), ("d", "./x"), TOP), "h")
    assert [member.name for member in found] == [b"x/y", b"x"]


@pytest.mark.parametrize(
    "text",
    [b"f 1_0 8 ./x\0", b"f -1 8 ./x\0", b"f %b 8 ./x\0" % (b"9" * 30), b"f 1 8 ./x", b"f\0"],
)
def test_what_is_no_listing_is_no_value(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"number|within|unpack"):
        listing.parse_find(listed(TOP) + text)


def test_the_error_names_host_call_and_name_without_control_characters() -> None:
    error = HostNames("h", "the listing").refuse(b"\x1b[31m\n\xe2\x80\xae/..", "is bad")
    assert isinstance(error, TransferError)
    assert str(error).startswith("h: the listing gave the name '\\x1b[31m\\n\\u202e/..'")
    assert str(error).isprintable()
    long = str(HostNames("h", "the listing").refuse(b"\xff" * 10**6, "is bad"))
    assert "(1000000 bytes), which is bad" in long
    assert len(long) < 4000


@pytest.mark.parametrize("path", [b"/", b"/home/..", b"/home/../", b"/home/.", b""])
def test_a_home_without_a_name_of_its_own(path: bytes) -> None:
    with pytest.raises(UnsafeName, match="Give the local target a name"):
        host_names.last_part(path, host="h")
    assert host_names.last_part(b"/home/me", host="h") == b"me"


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        (b"*", b"../x"),
        (b"*", b"a/b"),
        (b"*", b".."),
        (b"*", b""),
        (b"*", b"/x"),
        (b"d/*", b"e/x"),
        (b"d/*", b"d/.."),
        (b"d/*", b"d/x/y"),
        (b"/d/*", b"d/x"),
        (b"*/x", b"../x"),
        (b"*", b".bashrc"),
        (b"?*", b".bashrc"),
        (b"[.]*", b".bashrc"),
        (b"*.log", b"authorized_keys"),
        (b"*.log", b".log"),
        (b"d/run?.out", b"d/run.out"),
        (b"a*b*c", b"acb"),
        (b"a*a", b"a"),
        (b"x[1", b"x1"),
    ],
)
def test_a_path_that_the_pattern_does_not_match(pattern: bytes, path: bytes) -> None:
    with pytest.raises(UnsafeName):
        host_names.matching([path], pattern, host="h")


def test_a_path_that_a_pattern_matches() -> None:
    pairs = {b"*": b"x", b"d//*": b"d//x", b"[ab]/x": b"a/x", b"x[1]": b"x1", b"a*a": b"aa",
             b"?.log": "\u00e9.log".encode(), b"[[:alpha:]]x": b"ax", b"[]a]x": b"]x",
             b".b*": b".bashrc", b"**": b"x"}  # fmt: skip
    for pattern, path in pairs.items():
        assert host_names.matching([path], pattern, host="h") == [path]


@given(st.text("ab*?[]!.-", max_size=6), st.text("ab.-]", min_size=1, max_size=6))
def test_what_a_pattern_matches_is_never_refused(pattern: str, name: str) -> None:
    hidden = name.startswith(".") and not pattern.startswith(".")
    if host_names.fault(name.encode()) is None and not hidden and fnmatchcase(name, pattern):
        found = host_names.matching([name.encode()], pattern.encode(), host="h")
        assert found == [name.encode()]


def test_paths_that_repeat_or_are_made_to_take_long() -> None:
    with pytest.raises(UnsafeName, match="'x', which came twice"):
        host_names.matching([b"x", b"y", b"x"], b"*", host="h")
    with pytest.raises(UnsafeName, match="does not match"):
        host_names.matching([b"a" * 4000], b"*a" * 40 + b"b", host="h")


def test_names_that_shells_find_for_a_dot() -> None:
    # Some shells find these for .*, and mean no harm.
    assert host_names.matching([b".", b"..", b".x"], b".*", host="h") == [b".x"]


# -- names that fall together -------------------------------------------------------------------


def members(*names: str) -> list[Member]:
    return [Member(os.fsencode(name), "f", 0) for name in names]


ALIKE = (
    ("readme", "README"),
    ("\u00e9", "e\u0301"),
    ("stra\u00dfe", "STRASSE"),
    ("x", "x."),
    ("x", "x "),
    (".git", ".g\u200cit"),
    ("longname.txt", "LONGNA~1.TXT"),
    ("K", "\u212a"),
    ("x", "x\u3164"),
    ("x", "\u115fx"),
    ("x", "x\u2065"),
)


@pytest.mark.parametrize(("one", "two"), ALIKE)
def test_what_might_fall_together_is_tried(one: str, two: str) -> None:
    assert host_names.groups([os.fsencode(one), os.fsencode(two), b"other"]) != []


def test_plain_letters_are_alike_as_all_others_are() -> None:
    """The short way for ASCII; a sign without a width is no ASCII, and counts for nothing."""
    plain = "".join(map(chr, range(128)))
    for text in (plain, *plain, "Read.Me. .", "a ", ". ."):
        long = host_names.alike(os.fsencode(text + "\u200c"))
        assert host_names.alike(text.encode()) == long


def test_a_file_system_that_keeps_names_apart(tmp_path: Path) -> None:
    top = os.fsencode(tmp_path)
    host_names.check_apart(
        top, [member for pair in ALIKE for member in members(*pair)][:4], host="h"
    )
    assert os.listdir(tmp_path) == []
