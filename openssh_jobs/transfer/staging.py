"""Checks received files and trees in their local stage, then renames them into place.

The second check after ``host_names``, of the files that local programs created from a hostile
host's data: everything is received into a new directory, which must then hold exactly the listed
members, without hard links to files outside.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .. import permissions
from ..commands import limits
from ..commands.quoting import to_text
from ..errors import TransferError
from ..files import host_names
from . import listing, streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def check(
    stage: bytes,
    members: Sequence[listing.Member],
    host: str,
    *,
    strangers: bool,
    keep_special_modes: bool,
) -> int:
    """Check a stage; returns the bytes of all files.  Raises ``TransferError`` for a violation.

    ``strangers``: allow names that were not listed (files created meanwhile).  Set-id bits of
    files are removed unless ``keep_special_modes``: other users could run them as this user.
    """
    arrived = list(listing.scan(stage))
    kinds = {member.name: member.kind for member, _ in arrived}
    listed = {member.name for member in members}
    for member in members:
        got = kinds.get(member.name)
        if got is None and os.path.lexists(os.path.join(stage, member.name)):
            why = "is the same as another one to the file system here"
            raise host_names.refused(member.name, why, host=host, call="the listing")
        if got != member.kind:
            raise TransferError(f"{to_text(member.name)!r} did not arrive", host=host, sent="yes")
    unwanted = [
        name
        for name, kind in kinds.items()
        if name not in listed and (not strangers or kind == "o")
    ]
    if unwanted:
        name = to_text(min(unwanted))
        raise _refused(f"{name!r}, which was not asked for", host)
    total = 0
    counts: dict[tuple[int, int], int] = {}
    links: dict[tuple[int, int], tuple[int, bytes]] = {}
    special = []
    for member, facts in arrived:
        if member.kind != "f":
            continue
        total += facts.st_size
        if facts.st_nlink > 1:
            key = (facts.st_dev, facts.st_ino)
            counts[key] = counts.get(key, 0) + 1
            links[key] = (facts.st_nlink, member.name)
        if facts.st_mode & (stat.S_ISUID | stat.S_ISGID):
            path = os.path.join(stage, member.name)
            special.append((path, stat.S_IMODE(facts.st_mode) & ~(stat.S_ISUID | stat.S_ISGID)))
    for key, (number, linked) in links.items():
        if number != counts[key]:
            raise _refused(f"{to_text(linked)!r} as a hard link to a file outside of it", host)
    if not keep_special_modes:
        # Only after this check, so that the mode of no outside file is changed.
        for path, mode in special:
            os.chmod(path, mode)
    return total


def _refused(what: str, host: str) -> TransferError:
    return TransferError(f"the host's archive holds {what}: nothing was kept", host=host,
                         sent="yes")  # fmt: skip


def is_whole_file(path: bytes, host: str) -> os.stat_result:
    """The facts of a received file; ``TransferError`` if it is a link or has hard links."""
    facts = os.lstat(path)
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
        why = "what arrived is not a plain file without hard links: nothing was kept"
        raise TransferError(why, host=host, sent="yes")
    return facts


def finish_file(
    part: bytes,
    target: bytes,
    size: int,
    size_now: Callable[[], int],
    *,
    mode: int,
    times: tuple[int, int] | None,
    what: str,
    host: str,
) -> int:
    """Check that a file is complete, and set its mode, times and name; returns its size.

    ``size`` is the size that the host listed; if the file has another one ``size_now`` asks the
    host again.  Raises ``TransferError`` if the file has neither size.
    """
    is_whole_file(part, host)
    # If a group can write the directory, names can be swapped; an open descriptor stays the same.
    with open(part, "rb", buffering=0, opener=permissions.opener) as handle:
        arrived = os.fstat(handle.fileno()).st_size
        if arrived != size and size_now() != arrived:
            raise TransferError(
                f"{what!r} is not whole: {arrived} bytes arrived of {size}; the source may have "
                "changed meanwhile",
                host=host,
                sent="yes",
            )
        os.fchmod(handle.fileno(), mode)
        if times is not None:
            os.utime(handle.fileno(), ns=times)
    os.replace(part, target)
    return arrived


@contextmanager
def held(path: bytes, number: int | None = None) -> Iterator[bytes]:
    """A file or a directory that was made here, opened; a name of it that stays with it.

    Others who can rename in its directory could put a link in its place before another program
    opens it.  ``number``: of a directory.  Without /proc the name is the path itself.  Raises
    ``OSError`` if it is another one by now.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(path, flags) if number is not None else permissions.opener(path, os.O_RDONLY)
    try:
        facts = os.fstat(handle)
        if number is not None and facts.st_ino != number:
            raise PermissionError(errno.EPERM, "replaced by another user", os.fsdecode(path))
        name = b"/proc/%d/fd/%d" % (os.getpid(), handle)
        if not os.path.exists(name):
            name = path
        yield name + b"/." if number is not None else name
    finally:
        os.close(handle)


@contextmanager
def named(inside: bytes, target: bytes) -> Iterator[None]:
    """Errors about ``inside``, the name that ``held`` gave, or what lies in it name the target."""
    try:
        yield
    except OSError as error:
        for attribute in ("filename", "filename2"):
            name = getattr(error, attribute)
            if isinstance(name, str | bytes) and os.fsencode(name).startswith(inside):
                below = os.fsencode(name)[len(inside) :].lstrip(b"/")
                setattr(error, attribute, os.fsdecode(os.path.join(target, below)))
        raise


_PLACE = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def entered(top: bytes, below: bytes) -> Iterator[int]:
    """A descriptor of a directory below a local one, opened without following links.

    ``top`` itself may be a link of ours, but none of another user.
    """
    handle = os.open(top, _PLACE)
    try:
        opened, named = os.fstat(handle), os.lstat(top.rstrip(b"/") or top)
        if stat.S_ISLNK(named.st_mode):
            is_right = named.st_uid in (0, os.geteuid())
        else:
            is_right = os.path.samestat(opened, named)
        if not is_right:
            raise PermissionError(errno.EPERM, "a link of another user", os.fsdecode(top))
        for part in below.split(b"/") if below else ():
            inner = os.open(part, _PLACE | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


def place(stage: bytes, inside: bytes, target: bytes, *, merge: bool, host: str) -> None:
    """Rename a whole local tree to its target, or move its members into an existing one.

    ``inside`` is the name that ``held`` gave of the stage.
    A link in the place of a directory is refused, not followed: an earlier transfer from the same
    host may have made it.
    """
    target = target.rstrip(b"/") or target
    if not merge or not os.path.lexists(target):
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "File exists", os.fsdecode(target))
        os.rename(stage, target)
        return
    members = sorted(listing.walk(inside))
    host_names.check_target(target, members, host=host)
    by_parent: dict[bytes, list[listing.Member]] = {b"": []}
    for member in members:
        by_parent.setdefault(posixpath.dirname(member.name), []).append(member)
    # Members can only be moved out of a writable directory.
    os.chmod(inside, 0o700)
    modes = []
    # Sorted: each directory is made while the one above it is handled.
    for parent, children in sorted(by_parent.items()):
        with entered(target, parent) as there:
            for member in children:
                name = posixpath.basename(member.name)
                here = os.path.join(inside, member.name)
                if member.kind != "d":
                    os.replace(here, name, dst_dir_fd=there)
                    continue
                os.chmod(here, 0o700)
                try:
                    os.mkdir(name, 0o700, dir_fd=there)
                except FileExistsError:
                    continue
                modes.append((parent, name, stat.S_IMODE(member.mode)))
    for parent, name, number in reversed(modes):
        with entered(target, posixpath.join(parent, name)) as made:
            os.chmod(".", number, dir_fd=made)  # fchmod(2) rejects descriptors of O_PATH


class SizeWatch:
    """Looks from time to time how much another program has received below a directory.

    Raises ``TransferError`` where that is far more than the ``size`` that was listed: a host that
    does not stop would fill the disk.
    """

    def __init__(self, directory: bytes, size: int, source: bytes, host: str) -> None:
        self._directory = directory
        self._size = size
        self._source = source
        self._host = host
        self._next = 0.0

    def look(self, _pid: int) -> None:
        """Look, unless that would take more than a small part of the time."""
        began = time.monotonic()
        if began < self._next:
            return
        arrived = sum(facts.st_size for facts in listing.facts_below(self._directory))
        if arrived > limits.grown(self._size):
            raise streams.too_much(self._source, self._size, self._host)
        now = time.monotonic()
        self._next = now + 20 * (now - began)


def create_private(path: bytes, mode: int, preserve: bool) -> int:
    """Create a file with mode 0600; returns the mode to set when it is complete.

    The kernel applies the umask to a mode; reading it with umask(2) would change it for all
    threads, and two that read it at once would leave it changed.
    """
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode & 0o777)
    try:
        left = stat.S_IMODE(os.fstat(handle).st_mode)
        os.fchmod(handle, 0o600)
    finally:
        os.close(handle)
    return mode if preserve else left


_SURELY_TAKEN = 120
"""Bytes of a name that every file system takes (eCryptfs: 143)."""


def refuse_too_long(path: bytes) -> None:
    """Raise ``OSError`` (ENAMETOOLONG) for a local path that is longer than the system takes.

    It is tried: a file system may count bytes, characters or something else.
    """
    long = [part for part in path.split(b"/") if len(part) > _SURELY_TAKEN]
    if not long and len(path) < 1000:
        return
    directory = os.path.dirname(os.path.abspath(path))
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    for tried in (path, *(os.path.join(directory, part) for part in long)):
        try:
            os.lstat(tried)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise OSError(error.errno, error.strerror, os.fsdecode(path)) from None


def make_directories(path: bytes) -> None:
    """Make a local directory and those above it, if they are missing.

    Of a path that is too long for the system nothing is made: ``OSError`` with ENAMETOOLONG.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.lstat(path)
    missing = [path]
    while (above := os.path.dirname(missing[-1])) and not os.path.lexists(above):
        missing.append(above)
    # One by one: os.makedirs calls itself for each.
    for directory in reversed(missing):
        os.makedirs(directory, exist_ok=True)
