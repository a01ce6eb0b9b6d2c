"""``update=True``: which files differ, found by one listing of each side."""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING, NamedTuple

from ..commands import limits
from ..commands.os_errors import error_of
from ..commands.quoting import quote_path, to_text
from ..errors import remote_oserror
from ..files.host_names import HostNames
from . import checksums, listing

if TYPE_CHECKING:
    from .options import Site

_LIST_TIMEOUT = 600.0

# KIND SIZE BLOCKS SECONDS ./NAME, then where a link points to; both ended by NUL.
_PRINTF = rb"find%b . -printf '%%y %%s %%b %%T@ %%p\0%%l\0'"
_PLAIN = (
    rb"""find%b . -exec /bin/sh -c 'for p; do s=0; l=; if %b; then k=l; """
    rb"""l=$(readlink "$p"; echo x); l=${l%%?x}; """
    rb"""elif [ -d "$p" ]; then k=d; elif [ -f "$p" ]; then k=f; """
    rb"""s=$(wc -c < "$p"); else k=o; fi; t=$(%b "$p") || exit 1; """
    rb"""printf "%%s %%d -1 %%s %%s\0%%s\0" $k $s $t "$p" "$l"; done' sh {} +"""
)


class Entry(NamedTuple):
    """One thing in a listing: ``seconds`` is its mtime, whole, ``link`` where a link points to.

    ``blocks`` is as with ``listing.Member``.
    """

    kind: str
    size: int
    seconds: int
    link: bytes = b""
    blocks: int = -1


def list_remote(
    site: Site, top: bytes, *, follow_symlinks: bool = False
) -> dict[bytes, Entry] | None:
    """A tree on the host by names; ``None`` where there is nothing.  One round trip."""
    features = site.files.features
    follow = b" -L" if follow_symlinks else b""
    if features.find_printf:
        script = _PRINTF % follow
    else:
        is_link = b"false" if follow_symlinks else b'[ -L "$p" ]'
        stat = b"stat -f %m" if features.stat == "bsd" else b"stat -c %Y"
        script = _PLAIN % (follow, is_link, stat + (b" -L" if follow_symlinks else b""))
    where = quote_path(top)
    script = b"if [ -e %b ] || [ -L %b ]; then cd -- %b && %b; else exit 44; fi" % (
        where,
        where,
        where,
        script,
    )
    answer = site.shell.call(script, again=True, timeout=_LIST_TIMEOUT, most=limits.LISTING)
    if answer.status == 44:
        return None
    if answer.status != 0:
        raise error_of(to_text(answer.stderr), top, host=site.host)
    try:
        return parse_listing(answer.stdout, site.host)
    except ValueError as error:
        raise listing.unreadable(top, error, site.host) from error


def parse_listing(output: bytes, host: str = "") -> dict[bytes, Entry]:
    """Read the answer to a listing, the top itself in it.

    ``ValueError`` where it is none, ``UnsafeName`` for a name that is refused.
    """
    *records, rest = output.split(b"\0")
    if rest:
        raise ValueError(f"it ends in the middle of {rest[:200]!r}")
    names = HostNames(host, "the listing")
    found: dict[bytes, Entry] = {}
    for record, link in zip(records[::2], records[1::2], strict=True):
        kind, size, blocks, seconds, name = record.split(b" ", 4)
        letter = kind.decode() if kind in (b"f", b"d", b"l") else "o"
        plain = names.add(name, letter)
        if plain is not None:
            when = listing.count_of(seconds.partition(b".")[0], signed=True)
            number = listing.count_of(size)
            found[plain] = Entry(letter, number, when, link, listing.count_of(blocks, signed=True))
    names.close()
    return found


def list_local(top: bytes, *, follow_symlinks: bool = False) -> dict[bytes, Entry] | None:
    """A local tree by names; ``None`` where there is nothing."""
    if not os.path.lexists(top):
        return None
    found = {}
    for member in listing.walk(top, follow_symlinks=follow_symlinks):
        link = os.readlink(os.path.join(top, member.name)) if member.kind == "l" else b""
        seconds = member.mtime_ns // 10**9
        found[member.name] = Entry(member.kind, member.size, seconds, link)
    return found


def members(entries: dict[bytes, Entry]) -> list[listing.Member]:
    """A listing as the members of a tree."""
    return [
        listing.Member(name, one.kind, one.size, 0, one.seconds * 10**9, one.blocks)
        for name, one in entries.items()
    ]


def same(one: Entry, two: Entry) -> bool:
    """Whether two things are alike in kind, size and time to the second (links: their targets)."""
    if one.kind != two.kind or one.kind == "o":
        return False
    if one.kind == "f":
        return one.size == two.size and one.seconds == two.seconds
    return one.kind == "d" or one.link == two.link


class Sides(NamedTuple):
    """A local directory and one on the host, and which of them is the source."""

    local: bytes
    remote: bytes
    upwards: bool


def changed(
    site: Site,
    sides: Sides,
    wanted: list[listing.Member],
    source: dict[bytes, Entry],
    target: dict[bytes, Entry],
    *,
    by_content: bool,
) -> list[listing.Member]:
    """The members that have to be moved, with the directories above them.

    Raises the ``OSError`` of a directory that would have to become a file.
    """
    alike: set[bytes] = set()
    doubtful: list[bytes] = []
    for member in wanted:
        here, there = source[member.name], target.get(member.name)
        if there is None:
            continue
        if there.kind == "d" and here.kind != "d":
            raise _in_the_way(site, sides, member.name)
        if by_content and here.kind == there.kind == "f":
            if here.size == there.size:
                doubtful.append(member.name)
        elif same(here, there):
            alike.add(member.name)
    if doubtful:
        ours = checksums.local_many(sides.local, doubtful)
        theirs = checksums.remote_many(site, sides.remote, doubtful)
        alike.update(name for name in doubtful if ours[name] == theirs[name])
    needed: set[bytes] = set()
    for member in wanted:
        if member.name not in alike:
            name = member.name
            while name:
                needed.add(name)
                name = name.rpartition(b"/")[0]
    return [member for member in wanted if member.name in needed]


def _in_the_way(site: Site, sides: Sides, name: bytes) -> OSError:
    if sides.upwards:
        return remote_oserror(21, posixpath.join(sides.remote, name), host=site.host)
    return IsADirectoryError(21, "Is a directory", os.fsdecode(os.path.join(sides.local, name)))
