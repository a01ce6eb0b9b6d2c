"""``FileStat``, ``DirEntry``, ``DiskUsage``, and the lines of stat(1) and find(1).  Pure."""

from __future__ import annotations

import re
import stat as stat_bits
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStat:
    """A file's facts under the names of ``os.stat_result``.

    Times are nanoseconds since 1970; whole seconds if the host's stat(1) prints no fractions.
    """

    st_mode: int
    st_size: int
    st_uid: int
    st_gid: int
    st_nlink: int
    st_ino: int
    st_dev: int
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int

    @property
    def st_mtime(self) -> float:
        """Time of the last change of the contents, seconds since 1970."""
        return self.st_mtime_ns / 1e9

    @property
    def st_atime(self) -> float:
        """Time of the last access, seconds since 1970."""
        return self.st_atime_ns / 1e9

    @property
    def st_ctime(self) -> float:
        """Time of the last change of the inode, seconds since 1970."""
        return self.st_ctime_ns / 1e9

    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return stat_bits.S_ISDIR(self.st_mode)

    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat_bits.S_ISREG(self.st_mode)

    def is_symlink(self) -> bool:
        """Whether it is a symbolic link (only ``lstat`` and ``scandir`` can say)."""
        return stat_bits.S_ISLNK(self.st_mode)


class DirEntry(NamedTuple):
    """One entry of ``scandir``: its name, its path, and its own facts (links not followed)."""

    name: str
    path: str
    stat: FileStat


class DiskUsage(NamedTuple):
    """Bytes of a file system, as ``shutil.disk_usage``."""

    total: int
    used: int
    free: int


FIND_FORMAT = b"%y %m %s %U %G %n %i %D %A@ %T@ %C@"
"""For ``find -printf``: the same facts, but the type letter and permissions for ``st_mode``."""
_FIND_KINDS = {
    "f": stat_bits.S_IFREG,
    "d": stat_bits.S_IFDIR,
    "l": stat_bits.S_IFLNK,
    "p": stat_bits.S_IFIFO,
    "s": stat_bits.S_IFSOCK,
    "c": stat_bits.S_IFCHR,
    "b": stat_bits.S_IFBLK,
}
_WHOLE = re.compile(r"-?[0-9]{1,19}\Z")
_TIME = re.compile(r"(-?[0-9]{1,10})(?:\.([0-9]{1,20}))?\Z")
_MODE = re.compile(r"[0-9a-f]{1,8}\Z")
_PERMISSIONS = re.compile(r"[0-7]{1,7}\Z")


def _whole(text: str) -> int:
    if not _WHOLE.match(text) or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"not a number of 64 bits: {text[:40]!r}")
    return int(text)


def _nanoseconds(text: str) -> int:
    match = _TIME.match(text)
    if match is None:
        raise ValueError(f"not a time: {text[:40]!r}")
    whole, fraction = match.groups()
    # Beyond 64 bits of nanoseconds (the year 2262) no system takes a time.
    return _whole(str(int(whole) * 10**9 + int(((fraction or "") + "000000000")[:9])))


def parse_stat(text: str) -> FileStat:
    """Parse a line in the format of ``STAT_ARGUMENTS``; raises ``ValueError`` for other text."""
    words = text.split()
    if len(words) != 10 or not _MODE.match(words[0]):
        raise ValueError(f"not a line of stat: {text[:200]!r}")
    size, uid, gid, links, inode, device = map(_whole, words[1:7])
    if size < 0:
        raise ValueError(f"a file of {size} bytes")
    return FileStat(
        st_mode=int(words[0], 16),
        st_size=size,
        st_uid=uid,
        st_gid=gid,
        st_nlink=links,
        st_ino=inode,
        st_dev=device,
        st_atime_ns=_nanoseconds(words[7]),
        st_mtime_ns=_nanoseconds(words[8]),
        st_ctime_ns=_nanoseconds(words[9]),
    )


def parse_find(text: str) -> FileStat:
    """Parse a record in the format of ``FIND_FORMAT``; raises ``ValueError`` for other text."""
    kind, permissions, rest = (*text.split(" ", 2), "", "")[:3]
    if not _PERMISSIONS.match(permissions):
        raise ValueError(f"not a record of find: {text[:200]!r}")
    return parse_stat(f"{_FIND_KINDS.get(kind, 0) | int(permissions, 8):x} {rest}")
