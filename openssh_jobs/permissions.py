"""Checks of private directories on this machine: no other user can write or replace their files.

The same checks for the host are shell text, in ``files/private_directory.sh``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from .errors import ConfigurationError

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def problem_with(path: str, *, open_to_read: bool = True) -> str | None:
    """Why other users could change a directory; ``None`` if they cannot.

    The directory must belong to the user and must not be a link, and no other user may be able to
    replace it or a directory above it.  ``open_to_read=False``: others must not be able to read it
    either.  POSIX ACLs need no separate check: the mode's group bits show their write permission.
    """
    try:
        facts = os.lstat(path)
    except OSError as error:
        return f"cannot be used: {error}"
    if stat.S_ISLNK(facts.st_mode):
        return "is not a directory (a link is not followed)"
    if not stat.S_ISDIR(facts.st_mode):
        return "is not a directory"
    if facts.st_uid != os.geteuid():
        return f"belongs to user {facts.st_uid}"
    if facts.st_mode & 0o077 and not open_to_read:
        return f"is open to others (mode {facts.st_mode & 0o777:o})"
    if _others_write(facts):
        return f"can be written by others (mode {facts.st_mode & 0o7777:o})"
    return _problem_above(os.path.abspath(path))


def problem_of_new(path: str) -> str | None:
    """Why others could replace a directory that were made now, or lead us elsewhere on the way."""
    return _problem_above(os.path.abspath(path), new=True)


def problem_of_path(path: str) -> str | None:
    """Why others can replace a file that exists, or a directory or link on the way to it."""
    try:
        return _problem_above(os.path.abspath(path))
    except OSError:
        return None  # opening it raises the error


def _problem_above(path: str, *, new: bool = False) -> str | None:
    """Why others can replace a component of a path, links included; ``None`` if they cannot.

    ``new``: its last components may be missing.
    """
    todo, at, hops = path.split("/"), "/", 0
    while todo:
        name = todo.pop(0)
        if name in ("", "."):
            continue
        if name == "..":
            at = os.path.dirname(at)
            continue
        here = os.lstat(at)
        if not _is_trusted(here.st_uid):
            return f"lies below {at}, which belongs to user {here.st_uid}"
        below = os.path.join(at, name)
        facts = _lstat_if_there(below) if new else os.lstat(below)
        if _others_write(here):
            if not here.st_mode & stat.S_ISVTX:
                return f"lies below {at}, which others can write (mode {here.st_mode & 0o7777:o})"
            if facts is not None and not _is_trusted(facts.st_uid):
                return f"is reached by {below}, which belongs to user {facts.st_uid}"
        if facts is None:
            return None
        if stat.S_ISLNK(facts.st_mode):
            hops += 1
            if hops > 40:
                return "is reached by too many links"
            target = os.readlink(below)
            todo = target.split("/") + todo
            at = "/" if target.startswith("/") else at
        else:
            at = below
    return None


def _lstat_if_there(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def make_directories(path: str, what: str) -> None:
    """Make a directory, and those above it that are missing, for their owner alone.

    It may be there already, also as a link to one.  Raises ``ConfigurationError`` if others can
    change it; nothing is made where they could.  Raises ``OSError``.
    """
    _refuse(path, what, problem_of_new(path))
    missing = []
    above = os.path.abspath(path)
    while not os.path.lexists(above):
        missing.append(above)
        above = os.path.dirname(above)
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o700)
    check(path, what)


def check(path: str, what: str) -> None:
    """Raise ``ConfigurationError`` if others can change a directory; it may be a link to one."""
    _refuse(
        path, what, problem_with(os.path.realpath(path)) or _problem_above(os.path.abspath(path))
    )


def _refuse(path: str, what: str, problem: str | None) -> None:
    if problem is not None:
        raise ConfigurationError(
            f"{what} {path} {problem}",
            advice="Take its permissions from others (chmod go-w), or name another one.",
        )


def make_file(path: str, what: str) -> None:
    """Make an empty file with mode 0600, or check that the existing one is safe to use.

    The directory must have passed ``check``.  Raises ``ConfigurationError``, ``OSError``.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        os.close(os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        # Not opened: closing it would release the locks that this process has on it (fcntl(2)).
        facts = os.lstat(path)
        if not stat.S_ISREG(facts.st_mode) or not is_trusted_file(facts):
            raise ConfigurationError(
                f"{what} {path} must be a regular file that only its owner, you, can write",
                advice="Remove it.",
            ) from None


def is_own_file(facts: os.stat_result) -> bool:
    """Whether a file is regular, ours, has one hard link, and cannot be written by others."""
    return (
        stat.S_ISREG(facts.st_mode)
        and facts.st_uid == os.geteuid()
        and facts.st_nlink == 1
        and not _others_write(facts)
    )


def opener(path: str | bytes, flags: int) -> int:
    """An opener for ``open()`` that accepts only an existing file for which ``is_own_file`` holds.

    In a directory that a group can write others can replace the file before it is opened.
    Raises ``PermissionError`` for such a file, and ``OSError``.
    """
    plain = flags & ~(os.O_CREAT | os.O_TRUNC) | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    handle = os.open(path, plain)
    try:
        if not is_own_file(os.fstat(handle)):
            detail = "not a regular file that only you can write"
            raise PermissionError(errno.EPERM, detail, os.fsdecode(path))
        if flags & os.O_TRUNC:
            os.ftruncate(handle, 0)
    except BaseException:
        os.close(handle)
        raise
    return handle


def regular(path: str | bytes, flags: int) -> int:
    """An opener for ``open()`` that accepts only a regular file; opening a fifo would block.

    Raises ``OSError``, with EINVAL for anything else.
    """
    handle = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", os.fsdecode(path))
    return handle


def is_trusted_file(facts: os.stat_result) -> bool:
    """Whether a file belongs to us or to root and cannot be written by others."""
    return _is_trusted(facts.st_uid) and not _others_write(facts)


def _is_trusted(uid: int) -> bool:
    return uid in (0, os.geteuid()) or uid == _unmapped()


def _unmapped() -> int | None:
    """The number that stands for root in a user namespace that root is not mapped into."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as handle:
            lines = [line.split() for line in handle]
        if any(int(line[1]) == 0 for line in lines):
            return None
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as handle:
            return int(handle.read())
    except (OSError, ValueError, IndexError):
        return None


def _others_write(facts: os.stat_result) -> bool:
    if facts.st_mode & stat.S_IWOTH:
        return True
    return bool(facts.st_mode & stat.S_IWGRP) and not _is_own_group(facts.st_gid)


def _is_own_group(gid: int) -> bool:
    """Whether a group is this user's alone, as where umask 002 is usual."""
    import grp
    import pwd

    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return user.pw_gid == gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {
        user.pw_name
    }  # fmt: skip
