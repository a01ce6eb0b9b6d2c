"""File systems: what the one that holds the journal can do for SQLite."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
from typing import NamedTuple

# Known to give SQLite's shared memory and locks what they need; on all else a rollback journal.
LOCAL = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "zfs", "f2fs"))
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def type_of(path: str) -> str:
    """The type of the file system that holds a path; empty if unknown."""
    try:
        device = os.stat(path).st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as handle:
            for line in handle:
                left, _, right = line.partition(" - ")
                if left.split()[2] == wanted:
                    return right.split()[0]
    except (OSError, IndexError):
        pass
    return ""


class Abilities(NamedTuple):
    """What the file system of the journal has: locks of fcntl(2), and shared memory with them."""

    locks: bool
    shared_memory: bool


def abilities(directory: str) -> Abilities:
    """Try both with a new file; what prevents that (a full disk) is left for SQLite to report.

    SQLite takes ENOLCK for a lock that another process holds, and would wait for it.
    """
    local = type_of(directory) in LOCAL
    name = os.path.join(directory, f".oj-{os.urandom(8).hex()}")
    try:
        handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:
        return Abilities(locks=True, shared_memory=local)
    try:
        locks, shared_memory = True, local
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            locks = error.errno not in _NO_LOCKS
        try:
            os.ftruncate(handle, mmap.PAGESIZE)
            mmap.mmap(handle, mmap.PAGESIZE, mmap.MAP_SHARED).close()
        except OSError:
            shared_memory = False
        return Abilities(locks, shared_memory and locks)
    finally:
        os.close(handle)
        with contextlib.suppress(OSError):
            os.unlink(name)
