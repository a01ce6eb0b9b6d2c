"""A tree as one batch of the held sftp, file by file; used if one side has no tar."""

from __future__ import annotations

import itertools
import os
import posixpath
import stat
import time
from typing import TYPE_CHECKING

from ..commands import limits, scripts
from ..commands.os_errors import error_of
from ..commands.quoting import quote, quote_path, sftp_quote, to_text
from ..errors import TransferError
from ..files import writing
from . import progress, streams
from .lanes import SCRIPTS
from .sftp import NoSubsystem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from . import listing
    from .lanes import Lanes
    from .options import Options

_LINKS_AT_ONCE = 500


def no_sftp(host: str) -> TransferError:
    """The error for ``method="sftp"`` if the host has no sftp server."""
    return TransferError("the host offers no working sftp", host=host, advice='Use method="tar".')


def _reporting(
    lines: list[listing.Member], options: Options, name: bytes
) -> Callable[[int], object] | None:
    """Reports how many lines of a batch, one for each of these members, are done."""
    if options.progress is None:
        return None
    files = [member.kind == "f" for member in lines]
    counts = list(itertools.accumulate(files, initial=0))
    sums = list(itertools.accumulate((m.size * (m.kind == "f") for m in lines), initial=0))
    last = 0.0

    def through(done: int) -> None:
        nonlocal last
        if time.monotonic() - last >= progress.EVERY:
            last = time.monotonic()
            done = min(done, len(lines))
            options.report(sums[done], sums[-1], counts[done], counts[-1], name)

    return through


def send_tree(
    lanes: Lanes, source: bytes, stage: bytes, members: list[listing.Member], options: Options
) -> None:
    """Send a tree: directories, files, then links; modes of directories last, deepest first."""
    lines, links, modes = [], [], []
    for member in sorted(members):
        there = posixpath.join(stage, member.name)
        if member.kind == "d":
            lines.append(b"mkdir " + sftp_quote(there))
            modes.append(b"chmod %o " % stat.S_IMODE(member.mode) + sftp_quote(there))
        elif member.kind == "f":
            here = os.path.join(source, member.name)
            # -p keeps the modes regardless of the host's umask.
            lines.append(b"put -p " + sftp_quote(here) + b" " + sftp_quote(there))
        else:
            link = os.readlink(os.path.join(source, member.name))
            links.append(b"ln -s -- %b %b" % (quote(link), quote_path(there)))
    top = stat.S_IMODE(os.stat(source).st_mode)
    modes = [b"chmod %o " % top + sftp_quote(stage), *modes]
    try:
        through = _reporting([m for m in sorted(members) if m.kind != "l"], options, source)
        lanes.sftp.call(lines or [b"pwd"], path=stage, again=False, through=through)
        for start in range(0, len(links), _LINKS_AT_ONCE):
            answer = lanes.shell.call(b" && ".join(links[start : start + _LINKS_AT_ONCE]))
            if answer.status != 0:
                raise error_of(to_text(answer.stderr), stage, host=lanes.host)
        if not options.preserve:
            # `put -p` keeps times as well as modes.
            lanes.shell.call(b"find %b -type f -exec touch -c {} +" % quote_path(stage))
        lanes.sftp.call(list(reversed(modes)), path=stage)
    except NoSubsystem:
        raise no_sftp(lanes.host) from None
    except TransferError as error:
        raise writing.explain(lanes.shell, lanes.host, error, stage) from error


def receive_tree(
    lanes: Lanes, source: bytes, stage: bytes, members: list[listing.Member], options: Options
) -> None:
    """Receive a tree: directories are made here, files arrive with their modes, links come last.

    sftp follows links when it writes, so the stage holds no link while sftp runs.
    """
    lines, files = [], []
    for member in sorted(members):
        here = os.path.join(stage, member.name)
        there = posixpath.join(source, member.name)
        if member.kind == "d":
            os.mkdir(here, 0o700)
        elif member.kind == "f":
            files.append(here)
            lines.append(b"get -p " + sftp_quote(there) + b" " + sftp_quote(here))
    try:
        report = _reporting([m for m in sorted(members) if m.kind == "f"], options, source)
        size = sum(member.size for member in members if member.kind == "f")
        arrivals = Arrivals(files, size, source, lanes.host, report)
        lanes.sftp.call(
            lines or [b"pwd"],
            path=source,
            again=False,
            through=arrivals.through,
            moved=arrivals.moved,
        )
    except NoSubsystem:
        raise no_sftp(lanes.host) from None
    if not options.preserve:
        for here in files:
            if not os.path.lexists(here):
                raise TransferError(
                    f"{os.fsdecode(here)!r} did not arrive", host=lanes.host, sent="yes"
                )
            os.utime(here, follow_symlinks=False)
    receive_links(lanes, source, stage, members)
    _copy_directory_modes(lanes, source, stage, members)


class Arrivals:
    """Counts what arrives of the local ``files``, one after the other.

    sftp's own counter would go up with answers that hold nothing, too.
    """

    def __init__(
        self,
        files: Sequence[bytes],
        size: int,
        source: bytes,
        host: str,
        report: Callable[[int], object] | None,
    ) -> None:
        self._files = files
        self._size = size
        self._source = source
        self._host = host
        self._report = report
        self._done = self._bytes = 0

    def through(self, done: int) -> None:
        """The count of files that are complete."""
        for path in self._files[self._done : done]:
            self._bytes += _size_of(path)
        self._done = max(self._done, done)
        if self._report is not None:
            self._report(done)

    def moved(self) -> int:
        """The count of bytes.  ``TransferError`` for far more than was listed."""
        current = self._files[self._done : self._done + 1]
        arrived = self._bytes + sum(map(_size_of, current))
        if arrived > limits.grown(self._size):
            raise streams.too_much(self._source, self._size, self._host)
        return arrived


def _size_of(path: bytes) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def receive_links(
    lanes: Lanes, source: bytes, stage: bytes, members: Sequence[listing.Member]
) -> None:
    """Make the symbolic links of a tree in ``stage``, which holds all other members."""
    links = [member for member in members if member.kind == "l"]
    for start in range(0, len(links), _LINKS_AT_ONCE):
        some = links[start : start + _LINKS_AT_ONCE]
        paths = [scripts.path(posixpath.join(source, link.name)) for link in some]
        script = scripts.call(SCRIPTS, "oj_read_links", paths)
        *targets, rest = lanes.shell.call(script, again=True).stdout.split(b"\0")
        if len(targets) != len(some) or rest or not all(targets):
            raise TransferError("a link changed meanwhile", host=lanes.host, sent="yes")
        for link, points_to in zip(some, targets, strict=True):
            os.symlink(points_to, os.path.join(stage, link.name))


def _copy_directory_modes(
    lanes: Lanes, source: bytes, stage: bytes, members: list[listing.Member]
) -> None:
    names = [b"", *(member.name for member in members if member.kind == "d")]
    facts = lanes.files.stat_many([posixpath.join(source, name) for name in names])
    for name, known in sorted(zip(names, facts, strict=True), reverse=True):
        if known is not None:
            # receive_tree made them, as directories, in a stage that is ours alone.
            os.chmod(os.path.join(stage, name), stat.S_IMODE(known.st_mode))
