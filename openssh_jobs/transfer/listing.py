"""The members of a tree, local or on the host, and the patterns that select some of them."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
import re
import stat
from typing import TYPE_CHECKING, NamedTuple

from ..commands import limits, scripts
from ..commands.os_errors import error_of
from ..commands.quoting import quote_path, to_text
from ..errors import TransferError
from ..files.host_names import HostNames
from .lanes import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .lanes import Lanes


class Member(NamedTuple):
    """One member of a tree: its path below the top (bytes), its kind and its size in bytes.

    ``kind`` is one of ``f d l o`` (file, directory, link, other: a fifo or a device), ``blocks``
    the space that it takes on disk, in units of 512 bytes; -1 if unknown.
    """

    name: bytes
    kind: str
    size: int
    mode: int = 0
    mtime_ns: int = 0
    blocks: int = -1


class Filter:
    """Shell patterns that select files: ``only`` keeps, ``exclude`` drops.

    A pattern without a slash is matched with the last part of a name, one with a slash with the
    whole path below the top.  ``exclude`` also drops directories and their contents.
    """

    def __init__(self, only: Sequence[str] | None, exclude: Sequence[str] | None) -> None:
        for name, patterns in (("only", only), ("exclude", exclude)):
            if isinstance(patterns, str):
                raise TypeError(f"{name} must be a list of patterns, not a single text")
        self._only = [_compile(pattern) for pattern in only] if only is not None else None
        self._exclude = [_compile(pattern) for pattern in exclude or ()]

    @property
    def passes_all(self) -> bool:
        """Whether all members pass."""
        return self._only is None and not self._exclude

    def keeps(self, member: Member) -> bool:
        """Whether the patterns select a member, regardless of the directories above it."""
        if any(self._matches(pattern, member.name) for pattern in self._exclude):
            return False
        if self._only is None or member.kind == "d":
            return True
        return any(self._matches(pattern, member.name) for pattern in self._only)

    @staticmethod
    def _matches(pattern: tuple[bool, re.Pattern[bytes]], name: bytes) -> bool:
        whole, regex = pattern
        return regex.match(name if whole else name.rpartition(b"/")[2]) is not None

    def select(self, members: Iterable[Member]) -> list[Member]:
        """The selected members; directories that ``only`` leaves empty are dropped."""
        kept: list[Member] = []
        dropped: set[bytes] = set()
        for member in sorted(members):
            parent = member.name.rpartition(b"/")[0]
            if parent in dropped or not self.keeps(member):
                if member.kind == "d":
                    dropped.add(member.name)
                continue
            kept.append(member)
        if self._only is None:
            return kept
        needed: set[bytes] = set()
        for member in kept:
            if member.kind != "d":
                parent = member.name.rpartition(b"/")[0]
                while parent and parent not in needed:
                    needed.add(parent)
                    parent = parent.rpartition(b"/")[0]
        return [member for member in kept if member.kind != "d" or member.name in needed]


def _compile(pattern: str) -> tuple[bool, re.Pattern[bytes]]:
    if not pattern:
        raise ValueError("an empty pattern matches nothing")
    # Names are matched as bytes: each is one latin-1 character in the translation.
    text = os.fsencode(pattern.rstrip("/")).decode("latin-1")
    return "/" in text, re.compile(fnmatch.translate(text.lstrip("/")).encode("latin-1"))


def walk(top: bytes, *, follow_symlinks: bool = False) -> list[Member]:
    """List all members of a local tree; ``OSError`` for a directory that cannot be read.

    With ``follow_symlinks`` a link counts as what it points to; a loop is ``OSError`` (ELOOP).
    """
    return [member for member, _ in scan(top, follow_symlinks=follow_symlinks)]


def scan(top: bytes, *, follow_symlinks: bool = False) -> Iterator[tuple[Member, os.stat_result]]:
    """Yield what ``walk`` lists, each with the facts of ``os.stat``."""
    pending: list[tuple[bytes, tuple[tuple[int, int], ...]]] = [(b"", ())]
    while pending:
        below, above = pending.pop()
        place = os.path.join(top, below) if below else top
        facts = os.stat(place)
        here = (facts.st_dev, facts.st_ino)
        if here in above:
            raise OSError(errno.ELOOP, "a loop of symbolic links", os.fsdecode(place))
        before = below + b"/" if below else b""
        with os.scandir(place) as entries:
            for entry in entries:
                name = before + entry.name
                info = entry.stat(follow_symlinks=follow_symlinks)
                mode = info.st_mode
                kind = _KINDS.get(stat.S_IFMT(mode), "o")
                size, blocks = info.st_size, info.st_blocks
                yield Member(name, kind, size, mode, info.st_mtime_ns, blocks), info
                if kind == "d":
                    pending.append((name, (*above, here)))


def facts_below(top: bytes) -> Iterator[os.stat_result]:
    """Yield the facts of all below a directory that others change; what is gone is left out."""
    places = [top]
    for place in places:
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        places.append(entry.path)
                    yield entry.stat(follow_symlinks=False)


_KINDS = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l"}


_MOST = 1 << 63
LIST_TIMEOUT = 600.0
"""Seconds for the host to list a tree."""


def count_of(digits: bytes, *, signed: bool = False) -> int:
    """A number in a host's listing; ``ValueError`` if no file system can have it."""
    if len(digits) < 19 and digits.isdigit():
        return int(digits)
    plain = digits.removeprefix(b"-") if signed else digits
    # Not int() alone: it takes "1_0" and " 1".
    if not plain.isdigit() or len(plain) > 19 or int(plain) >= _MOST:
        raise ValueError(f"not a number: {digits[:40]!r}")
    return int(digits)


def unreadable(top: bytes, error: ValueError, host: str) -> TransferError:
    """The error for a listing that cannot be parsed because of ``error``."""
    return TransferError(
        f"the host's listing of {to_text(top)!r} cannot be read ({error})", host=host, sent="yes"
    )


def parse_find(output: bytes, host: str = "") -> list[Member]:
    """Read ``KIND SIZE BLOCKS ./NAME`` records, each ended by NUL, one of them for the top itself.

    Raises ``ValueError`` for anything else, ``UnsafeName`` for a name that is refused.
    """
    *records, rest = output.split(b"\0")
    if rest:
        raise ValueError(f"it ends within the record {rest[:200]!r}")
    names = HostNames(host, "the listing")
    members = []
    for record in records:
        kind, size, blocks, name = record.split(b" ", 3)
        letter = kind.decode() if kind in (b"f", b"d", b"l") else "o"
        plain = names.add(name, letter)
        if plain is not None:
            number = count_of(size or b"0")
            members.append(Member(plain, letter, number, blocks=count_of(blocks, signed=True)))
    names.close()
    return members


def list_script(*, find_printf: bool, gently: bytes = b"", follow_symlinks: bool = False) -> bytes:
    """Shell text that lists the current directory for ``parse_find``."""
    follow = "-L" if follow_symlinks else ""
    if find_printf:
        return rb"%bfind %b . -printf '%%y %%s %%b %%p\0'" % (gently, follow.encode())
    return scripts.call(SCRIPTS, "oj_list", follow)


def list_remote(lanes: Lanes, source: bytes, follow_symlinks: bool) -> list[Member]:
    """List all members of a tree on the host, in one round trip."""
    script = b"cd -- %b || exit\n" % quote_path(source) + list_script(
        find_printf=lanes.files.features.find_printf,
        gently=lanes.files.features.gently,
        follow_symlinks=follow_symlinks,
    )
    answer = lanes.shell.call(script, again=True, timeout=LIST_TIMEOUT, most=limits.LISTING)
    if answer.status != 0:
        raise error_of(to_text(answer.stderr), source, host=lanes.host)
    try:
        return parse_find(answer.stdout, lanes.host)
    except ValueError as error:
        raise unreadable(source, error, lanes.host) from error


def tar_list(members: Iterable[Member]) -> bytes:
    """Members as the NUL-separated list that ``tar --null -T -`` reads, the top itself first."""
    return b"".join([b"./\0", *(b"./" + member.name + b"\0" for member in members)])
