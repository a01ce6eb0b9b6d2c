"""The tars at both ends of a stream: which they are, and what both of them understand."""

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
"""Bytes of holes in one file from which on they are kept."""
_BLOCK = 512


class Tar(NamedTuple):
    """A tar of this machine."""

    path: str
    kind: Kind


_known: dict[str, Tar] = {}


def local() -> Tar | None:
    """The tar on PATH, asked once what it is; ``None`` where there is none."""
    path = shutil.which("tar")
    if path is None:
        return None
    if path not in _known:
        said = process.run([path, "--version"], timeout=10)
        _known[path] = Tar(path, kind((said.stdout + said.stderr).decode("utf-8", "replace")))
    return _known[path]


def required() -> Tar:
    """The same; ``ConfigurationError`` where there is none."""
    found = local()
    if found is None:
        raise ConfigurationError("there is no tar on this machine", advice='Use method="sftp".')
    return found


def kind(version: str) -> Kind:
    """What a tar is, by what ``tar --version`` prints."""
    return "gnu" if "GNU tar" in version else "bsd" if "bsdtar" in version else "other"


def reads_lists(tar: Kind) -> bool:
    """Whether ``tar --no-recursion --null -T -`` works: not with BusyBox."""
    return tar != "other"


def create_flags(sender: Kind, receiver: Kind, *, holes: bool) -> list[str]:
    """How ``sender`` writes an archive that ``receiver`` reads to the last name and byte.

    BusyBox knows neither the records of pax (long names, and bsdtar's form of files with holes)
    nor GNU's form of files with holes; GNU's long names it does.  bsdtar's records are in UTF-8,
    which another bsdtar refuses to turn into names of its locale: as they are they suit all.
    """
    if sender == "bsd":
        binary = ["--format=pax", "--options", "hdrcharset=BINARY"]
        return ["--format=gnutar"] if receiver == "other" else binary
    if sender == "gnu":
        return ["--format=gnu"] if receiver == "other" else ["-S"] if holes else []
    return []


def keeps_holes(members: Iterable[Member], is_hole: Callable[[bytes], bool]) -> bool:
    """Whether GNU tar is to look for holes (``-S``).

    It takes a file without any block for one hole and does not read it.  Where blocks are counted
    late (Lustre, ZFS) or elsewhere (files moved to tape) that would lose what is in it.  So where
    such a file is no hole (``is_hole``), and where blocks are not known, all holes are filled.
    """
    found = False
    for member in members:
        if member.kind == "f" and member.size >= _BLOCK:
            if member.blocks < 0 or (member.blocks == 0 and not is_hole(member.name)):
                return False
            found = found or member.size - member.blocks * _BLOCK >= WORTHWHILE
    return found


def is_local_hole(path: bytes) -> bool:
    """Whether the system says that there are no data in a file, whatever its count of blocks."""
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
