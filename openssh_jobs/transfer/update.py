"""``update=True``: which members differ, found by one listing of each side."""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import time
from typing import TYPE_CHECKING, NamedTuple

from ..commands import limits, scripts
from ..commands.os_errors import error_of
from ..commands.quoting import quote_path, to_text
from ..errors import remote_oserror
from ..files.host_names import HostNames
from . import checksums, listing, staging
from .lanes import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .lanes import Lanes

_ABSENT = 44
"""Status of the script if the tree does not exist."""
_TIMES_AT_ONCE, _CALLS_AT_ONCE = 20, 200


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


class Difference(NamedTuple):
    """What an update does: ``members`` are moved; of ``retimed`` only the time differs."""

    members: list[listing.Member]
    retimed: list[listing.Member]


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
) -> Difference:
    """The members of ``wanted`` that have to be moved, with the directories above them.

    Files of the same size but another time are compared by their checksums, where the host has a
    program for that: a transfer without ``update`` does not keep times.  ``by_content``: also those
    of the same time.  Raises the ``OSError`` of a directory that would have to become a file.
    """
    alike: set[bytes] = set()
    doubtful: dict[bytes, listing.Member] = {}
    can_compare = by_content or checksums.can_compare(lanes)
    for member in wanted:
        here, there = source[member.name], target.get(member.name)
        if there is None:
            continue
        if there.kind == "d" and here.kind != "d":
            raise _in_the_way(lanes, sides, member.name)
        if not by_content and same(here, there):
            alike.add(member.name)
        elif here.kind == there.kind == "f":
            if here.size == there.size and can_compare:
                doubtful[member.name] = member
        elif same(here, there):
            alike.add(member.name)
    names = list(doubtful)
    if names:
        ours = checksums.local_many(sides.local, names)
        theirs = checksums.remote_many(lanes, sides.remote, names)
        alike.update(name for name in names if ours[name] == theirs[name])
    needed: set[bytes] = set()
    for member in wanted:
        if member.name not in alike:
            name = member.name
            while name and name not in needed:
                needed.add(name)
                name = name.rpartition(b"/")[0]
    retimed = [
        member._replace(mtime_ns=source[name].seconds * 10**9)
        for name, member in doubtful.items()
        if name in alike and source[name].seconds != target[name].seconds
    ]
    return Difference([member for member in wanted if member.name in needed], retimed)


def set_remote_times(lanes: Lanes, top: bytes, members: Sequence[listing.Member]) -> None:
    """Give files on the host the times of these members; one that cannot get it keeps its own."""
    by_time: dict[int, list[bytes]] = {}
    for member in members:
        by_time.setdefault(member.mtime_ns // 10**9, []).append(b"./" + member.name)
    calls = []
    for seconds, names in by_time.items():
        stamp = time.strftime("%Y%m%d%H%M.%S", time.gmtime(seconds))
        for start in range(0, len(names), _TIMES_AT_ONCE):
            some = names[start : start + _TIMES_AT_ONCE]
            calls.append(scripts.words(scripts.path(top), stamp, some))
    functions = scripts.functions(SCRIPTS, "oj_set_times")
    for start in range(0, len(calls), _CALLS_AT_ONCE):
        lines = [b"(oj_set_times %b)\n" % call for call in calls[start : start + _CALLS_AT_ONCE]]
        lanes.shell.call(functions + b"".join(lines), again=True, timeout=listing.LIST_TIMEOUT)


def set_local_times(top: bytes, members: Sequence[listing.Member]) -> None:
    """The same of files on this machine."""
    for member in members:
        parent, _, name = member.name.rpartition(b"/")
        with contextlib.suppress(OSError), staging.entered(top, parent) as place:
            times = (member.mtime_ns, member.mtime_ns)
            os.utime(name, ns=times, dir_fd=place, follow_symlinks=False)


def _in_the_way(lanes: Lanes, sides: Sides, name: bytes) -> OSError:
    if sides.upwards:
        return remote_oserror(errno.EISDIR, posixpath.join(sides.remote, name), host=lanes.host)
    return IsADirectoryError(
        errno.EISDIR, "Is a directory", os.fsdecode(os.path.join(sides.local, name))
    )
