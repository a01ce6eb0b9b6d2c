"""GNU tar, bsdtar, BusyBox: the kind of tar on each side, and flags that the other understands."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..errors import ConfigurationError
from ..openssh import process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .listing import Member

Kind = Literal["gnu", "bsd", "other"]

WORTHWHILE = 1 << 20
"""Minimum bytes of holes in one file for which holes are kept."""
_BLOCK = 512


class Tar(NamedTuple):
    """A tar of this machine."""

    path: str
    kind: Kind


_known: dict[str, Tar] = {}


def local() -> Tar | None:
    """The tar on PATH, whose kind is determined once; ``None`` if there is no tar."""
    path = shutil.which("tar")
    if path is None:
        return None
    if path not in _known:
        version = process.run([path, "--version"], timeout=10)
        _known[path] = Tar(path, kind((version.stdout + version.stderr).decode("utf-8", "replace")))
    return _known[path]


def required() -> Tar:
    """The tar on PATH.  Raises ``ConfigurationError`` if there is no tar."""
    found = local()
    if found is None:
        raise ConfigurationError("there is no tar on this machine", advice='Use method="sftp".')
    return found


def kind(version: str) -> Kind:
    """The kind of a tar, from what ``tar --version`` prints."""
    return "gnu" if "GNU tar" in version else "bsd" if "bsdtar" in version else "other"


def reads_lists(tar: Kind) -> bool:
    """Whether ``tar --no-recursion --null -T -`` works: not with BusyBox."""
    return tar != "other"


def create_flags(sender: Kind, receiver: Kind, *, holes: bool) -> list[str]:
    """Flags with which ``sender`` writes an archive that ``receiver`` reads completely.

    BusyBox reads GNU's long names, but neither pax records (long names, and bsdtar's format of
    sparse files) nor GNU's format of sparse files.  bsdtar writes records in UTF-8, which another
    bsdtar may not be able to convert to its locale; with hdrcharset=BINARY no conversion is needed.
    """
    if sender == "bsd":
        binary = ["--format=pax", "--options", "hdrcharset=BINARY"]
        return ["--format=gnutar"] if receiver == "other" else binary
    if sender == "gnu":
        return ["--format=gnu"] if receiver == "other" else ["-S"] if holes else []
    return []


def extract_flags(receiver: Kind) -> list[str]:
    """Flags with which ``receiver`` sets of an archive's files what all tars set, and no more.

    With -p bsdtar sets ACLs, extended attributes and file flags, too: a host could let other users
    write to a file, give a program capabilities, or make a file that cannot be removed.  A bsdtar
    before libarchive 3.3 (2017) does not know these flags, and refuses to work.
    """
    if receiver != "bsd":
        return []
    return ["--no-acls", "--no-xattrs", "--no-fflags", "--no-mac-metadata"]


def keeps_holes(members: Iterable[Member], is_hole: Callable[[bytes], bool]) -> bool:
    """Whether to let GNU tar look for holes (``-S``).

    With ``-S`` GNU tar does not read a file without blocks and treats it as one hole.  If blocks
    are counted late (Lustre, ZFS) or elsewhere (files moved to tape) the contents would be lost.
    So if one such file is not a hole (``is_hole``), or blocks are unknown, no holes are kept.
    """
    found = False
    for member in members:
        if member.kind == "f" and member.size >= _BLOCK:
            if member.blocks < 0 or (member.blocks == 0 and not is_hole(member.name)):
                return False
            found = found or member.size - member.blocks * _BLOCK >= WORTHWHILE
    return found


def is_local_hole(path: bytes) -> bool:
    """Whether a local file has no data, according to lseek(2), not to its count of blocks."""
    if not hasattr(os, "SEEK_DATA"):
        return False
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.lseek(fd, 0, os.SEEK_DATA)
    except OSError as error:
        return error.errno == errno.ENXIO
    finally:
        os.close(fd)
    return False
