"""``delete=True``: members of the target that the source does not have, removed at the end.

Nothing is removed outside of the target: the directory of each name is entered without passing
through a link, and names are removed inside it.  A directory is removed only once it is empty.
"""

from __future__ import annotations

import errno
import itertools
import os
import posixpath
import re
from typing import TYPE_CHECKING

from .. import logs
from ..commands import scripts
from ..commands.os_errors import error_of
from ..commands.quoting import to_text
from ..errors import InputError
from ..files.private_directory import PRIVATE
from . import staging
from .lanes import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from .lanes import Lanes
    from .listing import Filter, Member

log = logs.logger("openssh_jobs.transfer")

_AT_ONCE = 200
"""Names in one command: below the limit of a command line, with names of 255 bytes."""
_STEPS_AT_ONCE = 20
_OURS = re.compile(rb"(?:^|/)(?:%b|\.oj-[^/]*\.partd?)(?:/|\Z)" % re.escape(PRIVATE.encode()))
_NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)


def surplus(
    source: Collection[bytes], target: Sequence[Member], patterns: Filter, *, host: str
) -> list[Member]:
    """The members of a target to delete, those of a directory before it.

    ``source`` are the names of all members of the source.  What the patterns leave out stays, and
    so does what this package keeps in directories of jobs.  Raises ``InputError`` where the source
    is empty: that is more often a disk that is not mounted than what was meant.
    """
    gone = {
        member.name: member
        for member in patterns.select(target)
        if member.name not in source and not _OURS.search(member.name)
    }
    if gone and not source:
        raise InputError(
            f"the source is empty: deleting all that the target has ({len(gone)}) is refused",
            host=host,
            advice="Remove the target itself, if that is meant.",
        )
    for member in sorted(target, reverse=True):
        if member.name not in gone:
            parent = member.name.rpartition(b"/")[0]
            while gone.pop(parent, None) is not None:
                parent = parent.rpartition(b"/")[0]
    return sorted(gone.values(), reverse=True)


def _steps(members: Sequence[Member]) -> Iterator[tuple[bytes, bool, list[bytes]]]:
    """The directory, whether directories are removed, and the names in it, in order."""

    def key(member: Member) -> tuple[bytes, bool]:
        return member.name.rpartition(b"/")[0], member.kind == "d"

    for (parent, are_directories), some in itertools.groupby(members, key):
        names = [posixpath.basename(member.name) for member in some]
        for start in range(0, len(names), _AT_ONCE):
            yield parent, are_directories, names[start : start + _AT_ONCE]


def delete_remote(lanes: Lanes, top: bytes, members: Sequence[Member]) -> int:
    """Delete members of a tree on the host; the count of those that are gone, directories too.

    Raises the ``OSError`` of the first that cannot be deleted.
    """
    lanes.files.refuse_precious(top, "deleting in")
    functions = scripts.functions(SCRIPTS, "oj_delete")
    steps = _steps(members)
    kept: list[bytes] = []
    while some := list(itertools.islice(steps, _STEPS_AT_ONCE)):
        calls = [
            scripts.words(scripts.path(top), parent, "d" if are_directories else "f", names)
            for parent, are_directories, names in some
        ]
        script = functions + b"".join(b"(oj_delete %b) || exit\n" % call for call in calls)
        answer = lanes.shell.call(script + b"echo done", again=True)
        if answer.status != 0:
            raise error_of(to_text(answer.stderr), top, host=lanes.host)
        *stay, rest = answer.stdout.split(b"\0")
        if rest != b"done\n":
            raise lanes.files.invalid("delete", top, answer.stdout)
        kept += stay
    if kept:
        _say_kept(len(kept), to_text(top), lanes.host)
    return len(members) - len(kept)


def delete_local(top: bytes, members: Sequence[Member], *, host: str) -> int:
    """The same of a tree on this machine."""
    refuse_precious_here(top, host=host)
    kept = 0
    for parent, are_directories, names in _steps(members):
        with staging.entered(top, parent) as place:
            for name in names:
                try:
                    if are_directories:
                        os.rmdir(name, dir_fd=place)
                    else:
                        os.unlink(name, dir_fd=place)
                except FileNotFoundError:
                    pass
                except OSError as error:
                    if not are_directories or error.errno not in _NOT_EMPTY:
                        error.filename = os.fsdecode(os.path.join(top, parent, name))
                        raise
                    kept += 1
    if kept:
        _say_kept(kept, os.fsdecode(top), host)
    return len(members) - kept


def refuse_precious_here(top: bytes, *, host: str) -> None:
    """Raise ``InputError`` for the root, and the home directory and its parents."""
    home = os.fsencode(os.path.realpath(os.path.expanduser("~")))
    place = os.path.realpath(top)
    if place == b"/" or (home + b"/").startswith(place + b"/"):
        raise InputError(
            f"deleting in {os.fsdecode(top)!r} is refused: it is the home directory or above it",
            host=host,
        )


def _say_kept(number: int, place: str, host: str) -> None:
    log.warning("%s: %d directories in %s are not empty any more, and stay", host, number, place)
