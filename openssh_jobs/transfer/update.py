"""``update=True``: which members differ, found by one listing of each side."""

from __future__ import annotations

import errno
import os
import posixpath
from typing import TYPE_CHECKING, NamedTuple

from ..commands import limits, scripts
from ..commands.os_errors import error_of
from ..commands.quoting import quote_path, to_text
from ..errors import remote_oserror
from ..files.host_names import HostNames
from . import checksums, listing
from .lanes import SCRIPTS

if TYPE_CHECKING:
    from .lanes import Lanes

_ABSENT = 44
"""Status of the script if the tree does not exist."""


class MemberFacts(NamedTuple):
    """The facts of a member that are compared: ``seconds`` is its mtime, ``link`` a link's target.

    ``kind``, ``size`` and ``blocks`` are those of ``listing.Member``.
    """

    kind: str
    size: int
    seconds: int
    link: bytes = b""
    blocks: int = -1


def list_remote(
    lanes: Lanes, top: bytes, *, follow_symlinks: bool = False
) -> dict[bytes, MemberFacts] | None:
    """List a tree on the host by names, in one round trip; ``None`` if it does not exist."""
    features = lanes.files.features
    follow = "-L" if follow_symlinks else ""
    if features.find_printf:
        form = rb"%bfind %b . -printf '%%y %%s %%b %%T@ %%p\0%%l\0'"
        script = form % (features.gently, follow.encode())
    else:
        seconds = ("-f", "%m") if features.stat == "bsd" else ("-c", "%Y")
        script = scripts.call(SCRIPTS, "oj_list_times", follow, seconds)
    where = quote_path(top)
    there = b"[ -e %b ] || [ -L %b ] || exit %d\ncd -- %b || exit\n"
    script = there % (where, where, _ABSENT, where) + script
    answer = lanes.shell.call(script, again=True, timeout=listing.LIST_TIMEOUT, most=limits.LISTING)
    if answer.status == _ABSENT:
        return None
    if answer.status != 0:
        raise error_of(to_text(answer.stderr), top, host=lanes.host)
    try:
        return parse_listing(answer.stdout, lanes.host)
    except ValueError as error:
        raise listing.unreadable(top, error, lanes.host) from error


def parse_listing(output: bytes, host: str = "") -> dict[bytes, MemberFacts]:
    """Read ``KIND SIZE BLOCKS SECONDS ./NAME`` and a link's target, each ended by NUL.

    The top itself is among them.  Raises ``ValueError`` for anything else, ``UnsafeName`` for a
    name that is refused.
    """
    *records, rest = output.split(b"\0")
    if rest:
        raise ValueError(f"it ends within the record {rest[:200]!r}")
    names = HostNames(host, "the listing")
    found: dict[bytes, MemberFacts] = {}
    for record, link in zip(records[::2], records[1::2], strict=True):
        kind, size, blocks, seconds, name = record.split(b" ", 4)
        letter = kind.decode() if kind in (b"f", b"d", b"l") else "o"
        plain = names.add(name, letter)
        if plain is not None:
            when = listing.count_of(seconds.partition(b".")[0], signed=True)
            number = listing.count_of(size)
            found[plain] = MemberFacts(
                letter, number, when, link, listing.count_of(blocks, signed=True)
            )
    names.close()
    return found


def list_local(top: bytes, *, follow_symlinks: bool = False) -> dict[bytes, MemberFacts] | None:
    """List a local tree by names; ``None`` if it does not exist."""
    if not os.path.lexists(top):
        return None
    found = {}
    for member in listing.walk(top, follow_symlinks=follow_symlinks):
        link = os.readlink(os.path.join(top, member.name)) if member.kind == "l" else b""
        seconds = member.mtime_ns // 10**9
        found[member.name] = MemberFacts(member.kind, member.size, seconds, link)
    return found


def members(facts: dict[bytes, MemberFacts]) -> list[listing.Member]:
    """A listing as the members of a tree."""
    return [
        listing.Member(name, known.kind, known.size, 0, known.seconds * 10**9, known.blocks)
        for name, known in facts.items()
    ]


def same(source: MemberFacts, target: MemberFacts) -> bool:
    """Whether kind, size and time to the second agree (of links: their targets)."""
    if source.kind != target.kind or source.kind == "o":
        return False
    if source.kind == "f":
        return source.size == target.size and source.seconds == target.seconds
    return source.kind == "d" or source.link == target.link


class Sides(NamedTuple):
    """A local directory and one on the host, and which of them is the source."""

    local: bytes
    remote: bytes
    upwards: bool


def changed(
    lanes: Lanes,
    sides: Sides,
    wanted: list[listing.Member],
    source: dict[bytes, MemberFacts],
    target: dict[bytes, MemberFacts],
    *,
    by_content: bool,
) -> list[listing.Member]:
    """The members of ``wanted`` that have to be moved, with the directories above them.

    ``by_content``: compare the checksums of files of the same size.  Raises the ``OSError`` of a
    directory that would have to become a file.
    """
    alike: set[bytes] = set()
    doubtful: list[bytes] = []
    for member in wanted:
        here, there = source[member.name], target.get(member.name)
        if there is None:
            continue
        if there.kind == "d" and here.kind != "d":
            raise _in_the_way(lanes, sides, member.name)
        if by_content and here.kind == there.kind == "f":
            if here.size == there.size:
                doubtful.append(member.name)
        elif same(here, there):
            alike.add(member.name)
    if doubtful:
        ours = checksums.local_many(sides.local, doubtful)
        theirs = checksums.remote_many(lanes, sides.remote, doubtful)
        alike.update(name for name in doubtful if ours[name] == theirs[name])
    needed: set[bytes] = set()
    for member in wanted:
        if member.name not in alike:
            name = member.name
            while name:
                needed.add(name)
                name = name.rpartition(b"/")[0]
    return [member for member in wanted if member.name in needed]


def _in_the_way(lanes: Lanes, sides: Sides, name: bytes) -> OSError:
    if sides.upwards:
        return remote_oserror(errno.EISDIR, posixpath.join(sides.remote, name), host=lanes.host)
    return IsADirectoryError(
        errno.EISDIR, "Is a directory", os.fsdecode(os.path.join(sides.local, name))
    )
