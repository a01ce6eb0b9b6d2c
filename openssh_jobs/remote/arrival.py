"""What arrived here from a host is looked at before any of it gets its name.

The host's archive may be hostile: everything was unpacked into a directory of its own, by a tar
that leaves no directory above it (GNU tar, bsdtar and BusyBox strip leading slashes and refuse
``..`` and ways through links).  What is found in there has to be what was listed, and linked to
nothing outside.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from ..errors import TransferError
from . import trees
from .quoting import to_text

if TYPE_CHECKING:
    from collections.abc import Sequence


def check(
    stage: bytes,
    members: Sequence[trees.Member],
    host: str,
    *,
    strangers: bool,
    keep_special_modes: bool,
) -> int:
    """The bytes of all files that arrived; ``TransferError`` names what is wrong.

    ``strangers``: whether names that were not listed may be there (files made meanwhile).  Set-id
    bits of files are dropped unless ``keep_special_modes``: whoever runs them here runs as us.
    """
    arrived = trees.walk(stage)
    found = {member.name: member for member in arrived}
    listed = {member.name for member in members}
    for member in members:
        got = found.get(member.name)
        if got is None or got.kind != member.kind:
            raise TransferError(f"{to_text(member.name)!r} did not arrive", host=host, sent="yes")
    unwanted = [m for m in arrived if m.name not in listed and (not strangers or m.kind == "o")]
    if unwanted:
        name = to_text(min(unwanted).name)
        raise _refused(f"{name!r}, which was not asked for", host)
    total = 0
    counts: dict[tuple[int, int], int] = {}
    links: dict[tuple[int, int], tuple[int, bytes]] = {}
    for member in arrived:
        if member.kind != "f":
            continue
        path = os.path.join(stage, member.name)
        facts = os.lstat(path)
        total += facts.st_size
        if facts.st_nlink > 1:
            key = (facts.st_dev, facts.st_ino)
            counts[key] = counts.get(key, 0) + 1
            links[key] = (facts.st_nlink, member.name)
        if not keep_special_modes and facts.st_mode & (stat.S_ISUID | stat.S_ISGID):
            os.chmod(path, stat.S_IMODE(facts.st_mode) & ~(stat.S_ISUID | stat.S_ISGID))
    for key, (number, linked) in links.items():
        if number != counts[key]:
            raise _refused(f"{to_text(linked)!r} as a hard link to a file outside of it", host)
    return total


def _refused(what: str, host: str) -> TransferError:
    return TransferError(f"the host's archive holds {what}: nothing was kept", host=host,
                         sent="yes")  # fmt: skip


def place(stage: bytes, target: bytes, *, merge: bool) -> None:
    """Rename a whole local tree into its place, or move its members into an existing one.

    A link in the place of a directory is refused, not followed: an earlier transfer from the same
    host may have brought it.
    """
    target = target.rstrip(b"/") or target
    if not merge or not os.path.lexists(target):
        if os.path.lexists(target):
            raise FileExistsError(17, "File exists", os.fsdecode(target))
        os.rename(stage, target)
        return
    members = sorted(trees.walk(stage))
    for member in members:
        there = os.path.join(target, member.name)
        try:
            mode = os.lstat(there).st_mode
        except FileNotFoundError:
            continue
        if member.kind == "d" and not stat.S_ISDIR(mode):
            detail = "Not a directory (a link is not followed)"
            raise NotADirectoryError(20, detail, os.fsdecode(there))
        if member.kind != "d" and stat.S_ISDIR(mode):
            raise IsADirectoryError(21, "Is a directory", os.fsdecode(there))
    modes = []
    # What is to leave a directory needs it to be writable.
    os.chmod(stage, 0o700)
    for member in members:
        here, there = os.path.join(stage, member.name), os.path.join(target, member.name)
        if member.kind == "d":
            if not os.path.lexists(there):
                os.mkdir(there, 0o700)
                modes.append((there, stat.S_IMODE(member.mode)))
            os.chmod(here, 0o700)
        else:
            os.replace(here, there)
    for there, number in reversed(modes):
        os.chmod(there, number)


def create_private(path: bytes, mode: int, preserve: bool) -> int:
    """Make a file that nobody else may read while it is not complete; the mode that it gets then.

    The kernel tells what the umask leaves of a mode: asking with umask(2) would change it for all
    threads, and two that ask at once would leave it changed.
    """
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode & 0o777)
    try:
        left = stat.S_IMODE(os.fstat(handle).st_mode)
        os.fchmod(handle, 0o600)
    finally:
        os.close(handle)
    return mode if preserve else left
