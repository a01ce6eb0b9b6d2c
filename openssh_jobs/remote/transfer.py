"""``put`` and ``get``: a file or a tree is whole or absent.

Everything lands under another name in the directory of its target and is renamed when it is
complete and its size is right.  Files ride the held sftp, trees one tar stream; either way the
bytes go from the file or from tar to the master without passing through Python.
"""

from __future__ import annotations

import os
import posixpath
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import (
    ConfigurationError,
    ConnectionLost,
    OpenSSHJobsError,
    RemoteOSError,
    TransferError,
    VerifyFailed,
    remote_oserror,
)
from . import ranges, sftp_trees, streams, trees
from .oserrors import error_of, refused
from .quoting import RENAME, quote_path, sftp_quote, to_bytes, to_text
from .sftp import NoSubsystem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .command import Commands
    from .files import Files, FileStat
    from .sftp import Sftp
    from .shell import ControlShell

    Progress = Callable[[int, int, int, int, str], object]

METHODS = ("auto", "sftp", "tar")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferResult:
    """What a ``put`` or ``get`` moved: counts of files, bytes, and seconds."""

    files: int
    bytes: int
    skipped: int
    elapsed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to move files; checked before anything is touched."""

    method: str = "auto"
    only: Sequence[str] | None = None
    exclude: Sequence[str] | None = None
    merge: bool = False
    verify: bool = False
    preserve: bool = False
    follow_symlinks: bool = False
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigurationError(f"method={self.method!r} is none of {', '.join(METHODS)}")

    @property
    def filter(self) -> trees.Filter:
        """The patterns of ``only`` and ``exclude``."""
        return trees.Filter(self.only, self.exclude)


def part_name() -> bytes:
    """A name for what is not complete: short, so that a long target's name is no trouble."""
    return b".oj-" + os.urandom(6).hex().encode() + b".part"


class Transfer:
    """Moves files and trees between this machine and one host."""

    def __init__(
        self, commands: Commands, shell: ControlShell, sftp: Sftp, files: Files, host: str
    ) -> None:
        self._commands = commands
        self._shell = shell
        self._sftp = sftp
        self._files = files
        self._host = host
        self._lane = sftp_trees.Lane(sftp, shell, files, host)

    # ------------------------------------------------------------------ put

    def put(self, local: str | os.PathLike[str], remote: str, options: Options) -> TransferResult:
        """Copy a local file or directory to the host."""
        began = time.monotonic()
        source = os.fsencode(os.fspath(local))
        if not source:
            raise FileNotFoundError(2, "an empty path names no file", "")
        source = source.rstrip(b"/") or b"/"
        facts = os.stat(source)  # the builtin's error says enough
        target = self._target(remote, os.path.basename(os.path.abspath(source)))
        if stat.S_ISDIR(facts.st_mode):
            return self._put_tree(source, target, options, began)
        if not stat.S_ISREG(facts.st_mode):
            raise TransferError(f"{os.fsdecode(source)!r} is neither a file nor a directory")
        return self._put_file(source, target, facts, options, began)

    def _target(self, remote: str, name: bytes) -> bytes:
        """The remote target: the name itself, or below it where it ends in a slash."""
        target = to_bytes(self._files.absolute(remote))
        if target.endswith(b"/"):
            target = target.rstrip(b"/") + b"/" + name
        if not target.strip(b"/"):
            raise refused(1, remote, host=self._host, detail="replacing / is refused")
        return target

    def _put_file(
        self,
        source: bytes,
        target: bytes,
        facts: os.stat_result,
        options: Options,
        began: float,
    ) -> TransferResult:
        parent = posixpath.dirname(target) or b"/"
        part = posixpath.join(parent, part_name())
        self._prepare_file(target, parent)
        self._report(options, 0, facts.st_size, 0, 1, source)
        try:
            self._send_file(source, part, facts.st_size, options)
            if options.verify:
                self._verify(source, part)
            self._finish_file(part, target, facts, options.preserve)
        except RemoteOSError as error:
            self._discard(error, part)
            if error.path != to_text(part):
                raise
            # The name that it had meanwhile means nothing to anybody.
            raise remote_oserror(error.number, target, host=self._host) from error
        except BaseException as error:
            self._discard(error, part)
            raise
        self._report(options, facts.st_size, facts.st_size, 1, 1, source)
        return TransferResult(
            files=1, bytes=facts.st_size, skipped=0, elapsed=time.monotonic() - began
        )

    def _prepare_file(self, target: bytes, parent: bytes) -> None:
        script = b"if [ -d %b ]; then echo 'Is a directory' >&2; exit 2; fi; mkdir -p -- %b"
        answer = self._shell.call(script % (quote_path(target), quote_path(parent)), again=True)
        if answer.status != 0:
            path = target if answer.status == 2 else parent
            raise error_of(to_text(answer.stderr), path, host=self._host)

    def _send_file(self, source: bytes, part: bytes, size: int, options: Options) -> None:
        if self._in_ranges(size, options):
            ranges.send(
                self._commands,
                source,
                part,
                size,
                self._host,
                lambda done: self._report(options, done, size, 0, 1, source),
            )
            return
        lines = (
            [b"put " + sftp_quote(source) + b" " + sftp_quote(part)]
            if (
                options.method == "sftp"
                or (options.method == "auto" and b"\n" not in source + part)
            )
            else None
        )
        if lines is not None:
            try:
                self._sftp.call(lines, path=part)
                return
            except NoSubsystem:
                if options.method == "sftp":
                    raise sftp_trees.no_sftp(self._host) from None
        streams.send_file(self._commands, source, part, self._host)

    def _in_ranges(self, size: int, options: Options) -> bool:
        """Whether several ranges at once pay: a large file over a long round trip."""
        long = self._shell.round_trip >= ranges.LONG
        return options.method == "auto" and long and size >= ranges.SMALLEST

    def _finish_file(
        self, part: bytes, target: bytes, facts: os.stat_result, preserve: bool
    ) -> None:
        mode = stat.S_IMODE(facts.st_mode)
        number = (
            b"%o" % mode if preserve else b"$(printf %%o $((0%o & ~0$(umask))))" % (mode & 0o777)
        )
        times = b""
        if preserve:
            stamp = time.strftime("%Y%m%d%H%M.%S", time.gmtime(facts.st_mtime)).encode()
            times = b'TZ=UTC0 touch -t %b "$p" && ' % stamp
        script = (
            b't=%b; p=%b; n=$(wc -c < "$p") || exit 1; '
            b'if [ $n -ne %d ]; then echo "$n bytes arrived" >&2; exit 3; fi; '
            # No "--": to BusyBox and the BSDs it would be a file, and the path is absolute.
            b'chmod %b "$p" && %b{ '
            % (quote_path(target), quote_path(part), facts.st_size, number, times)
        )
        script += RENAME + b"; }"
        answer = self._shell.call(script)
        if answer.status == 3:
            raise TransferError(
                f"{to_text(target)!r} is not whole: {to_text(answer.stderr).strip()} of "
                f"{facts.st_size}; the source may have changed meanwhile",
                host=self._host,
                sent="yes",
            )
        if answer.status != 0:
            raise error_of(to_text(answer.stderr), target, host=self._host)

    def _discard(self, error: BaseException, part: bytes) -> None:
        """Remove what did not become a target; without a link, with the next call over one."""
        script = b"chmod -R u+rwx %b; rm -rf -- %b" % (quote_path(part), quote_path(part))
        if isinstance(error, ConnectionLost):
            self._shell.later(script)
            return
        try:
            self._shell.call(b"( %b ) 2>/dev/null" % script, again=True)
        except (OpenSSHJobsError, OSError) as problem:
            self._shell.later(script)
            streams.log.warning("%s: left for later: %s (%s)", self._host, to_text(part), problem)

    # ------------------------------------------------------------------ put, trees

    def _put_tree(
        self, source: bytes, target: bytes, options: Options, began: float
    ) -> TransferResult:
        everything = trees.walk(source, follow_symlinks=options.follow_symlinks)
        members = options.filter.select(everything)
        _refuse_others(members, source)
        method = self._tree_method(options, members)
        parent = posixpath.dirname(target.rstrip(b"/")) or b"/"
        stage = posixpath.join(parent, part_name())
        self._prepare_tree(target, parent, stage, options.merge)
        total = sum(member.size for member in members if member.kind == "f")
        count = sum(member.kind != "d" for member in members)
        self._report(options, 0, total, 0, count, source)
        try:
            if method == "tar":
                streams.send_tree(
                    self._commands, source, stage, members, self._host, options, self._files
                )
            else:
                sftp_trees.send_tree(self._lane, source, stage, members, options)
            self._check_tree(stage, members)
            self._place_tree(stage, target, options.merge)
        except BaseException as error:
            self._discard(error, stage)
            raise
        self._report(options, total, total, count, count, source)
        return TransferResult(
            files=count,
            bytes=total,
            skipped=sum(m.kind != "d" for m in everything) - count,
            elapsed=time.monotonic() - began,
        )

    def _tree_method(self, options: Options, members: list[trees.Member]) -> str:
        if options.method == "auto":
            return "tar" if self._files.features.tar else "sftp"
        if options.method == "tar" and not self._files.features.tar:
            raise TransferError("the host has no tar", host=self._host, advice='Use method="sftp".')
        if options.method == "sftp":
            for member in members:
                sftp_quote(member.name)  # refuse before anything is sent
        return options.method

    def _prepare_tree(self, target: bytes, parent: bytes, stage: bytes, merge: bool) -> None:
        where = quote_path(target)
        check = b"if [ -e %b ] || [ -L %b ]; then echo 'File exists' >&2; exit 2; fi; "
        if merge:
            check = b"if [ -e %b ] && [ ! -d %b ]; then echo 'Not a directory' >&2; exit 2; fi; "
        script = check % (where, where) + b"mkdir -p -- %b && mkdir -m 700 -- %b" % (
            quote_path(parent),
            quote_path(stage),
        )
        answer = self._shell.call(script)
        if answer.status != 0:
            path = target if answer.status == 2 else parent
            raise error_of(to_text(answer.stderr), path, host=self._host)

    def _check_tree(self, stage: bytes, members: list[trees.Member]) -> None:
        """Nothing is missing on the host: the count of what is there against what was sent."""
        script = b"cd -- %b && find . ! -name . -print0 | tr -cd '\\0' | wc -c"
        answer = self._shell.call(script % quote_path(stage), again=True)
        if answer.status != 0:
            raise error_of(to_text(answer.stderr), stage, host=self._host)
        arrived = int(answer.stdout)
        if arrived != len(members):
            raise TransferError(
                f"{arrived} of {len(members)} members arrived", host=self._host, sent="yes"
            )

    def _place_tree(self, stage: bytes, target: bytes, merge: bool) -> None:
        one, two = quote_path(stage), quote_path(target)
        if merge:
            script = (
                b's=%b; t=%b; mkdir -p -- "$t" && cd -- "$s" && '
                b"find . -type d -exec /bin/sh -c 't=$1; shift; for d; do "
                b'[ -d "$t/$d" ] || mkdir -p -- "$t/$d" || exit 1; done\' sh "$t" {} + && '
                b"find . ! -type d -exec /bin/sh -c 't=$1; shift; for f; do "
                b'if [ -d "$t/$f" ] && [ ! -L "$t/$f" ]; then echo "$f: Is a directory" >&2; '
                b'exit 1; fi; p=$f; (t=$t/$f; %b) || exit 1; done\' sh "$t" {} + && '
                b'cd / && chmod -R u+rwx "$s" && rm -rf -- "$s"' % (one, two, RENAME)
            )
        else:
            script = (
                b"if [ -e %b ] || [ -L %b ]; then echo 'File exists' >&2; exit 1; fi; "
                b"mv -- %b %b" % (two, two, one, two)
            )
        answer = self._shell.call(script)
        if answer.status != 0:
            raise error_of(to_text(answer.stderr), target, host=self._host)

    # ------------------------------------------------------------------ get

    def get(self, remote: str, local: str | os.PathLike[str], options: Options) -> TransferResult:
        """Copy a file or directory of the host to this machine."""
        began = time.monotonic()
        text = os.fspath(local)
        source = to_bytes(self._files.absolute(remote))
        source = source.rstrip(b"/") or b"/"
        target = os.fsencode(text)
        if not target:
            raise FileNotFoundError(2, "an empty path names no file", "")
        if target.endswith(b"/"):
            target = os.path.join(target, posixpath.basename(source))
        facts = self._files.stat(source)
        if facts.is_dir():
            return self._get_tree(source, target, options, began)
        if not facts.is_file():
            raise TransferError(
                f"{remote!r} is neither a file nor a directory", host=self._host, sent="yes"
            )
        return self._get_file(source, target, facts, options, began)

    def _get_file(
        self, source: bytes, target: bytes, facts: FileStat, options: Options, began: float
    ) -> TransferResult:
        if os.path.isdir(target):
            raise IsADirectoryError(21, "Is a directory", os.fsdecode(target))
        parent = os.path.dirname(target) or b"."
        os.makedirs(parent, exist_ok=True)
        part = os.path.join(parent, part_name())
        self._report(options, 0, facts.st_size, 0, 1, source)
        mode = _create_private(part, stat.S_IMODE(facts.st_mode), options.preserve)
        try:
            self._receive_file(source, part, facts, options)
            arrived = os.stat(part).st_size
            if arrived != facts.st_size and self._files.stat(source).st_size != arrived:
                raise TransferError(
                    f"{to_text(source)!r} is not whole: {arrived} bytes arrived of "
                    f"{facts.st_size}; the source may have changed meanwhile",
                    host=self._host,
                    sent="yes",
                )
            if options.verify:
                self._verify(part, source)
            os.chmod(part, mode)
            if options.preserve:
                os.utime(part, ns=(facts.st_atime_ns, facts.st_mtime_ns))
            os.replace(part, target)
        except BaseException:
            streams.remove_local(part)
            raise
        self._report(options, arrived, arrived, 1, 1, source)
        return TransferResult(files=1, bytes=arrived, skipped=0, elapsed=time.monotonic() - began)

    def _receive_file(self, source: bytes, part: bytes, facts: FileStat, options: Options) -> None:
        def moved() -> int:
            try:
                return os.stat(part).st_size
            except OSError:
                return 0

        def tick() -> None:
            self._report(options, moved(), facts.st_size, 0, 1, source)

        if self._in_ranges(facts.st_size, options):
            ranges.receive(
                self._commands,
                source,
                part,
                facts.st_size,
                self._host,
                lambda done: self._report(options, done, facts.st_size, 0, 1, source),
            )
            return
        if options.method == "sftp" or (options.method == "auto" and b"\n" not in source + part):
            here = part if part.startswith(b"/") else os.path.join(os.getcwdb(), part)
            line = b"get " + sftp_quote(source) + b" " + sftp_quote(here)
            try:
                self._sftp.call([line], path=source, moved=moved, tick=tick)
                return
            except NoSubsystem:
                if options.method == "sftp":
                    raise sftp_trees.no_sftp(self._host) from None
        streams.receive_file(self._commands, source, part, self._host)

    # ------------------------------------------------------------------ get, trees

    def _get_tree(
        self, source: bytes, target: bytes, options: Options, began: float
    ) -> TransferResult:
        if os.path.lexists(target) and not options.merge:
            raise FileExistsError(17, "File exists (merge=True adds to it)", os.fsdecode(target))
        if options.merge and os.path.lexists(target) and not os.path.isdir(target):
            raise NotADirectoryError(20, "Not a directory", os.fsdecode(target))
        everything = streams.list_remote(
            self._shell, self._files, source, self._host, options.follow_symlinks
        )
        members = options.filter.select(everything)
        _refuse_others(members, source)
        method = self._tree_method(options, members)
        parent = os.path.dirname(os.path.abspath(target))
        os.makedirs(parent, exist_ok=True)
        stage = os.path.join(parent, part_name())
        os.mkdir(stage, 0o700)
        total = sum(member.size for member in members if member.kind == "f")
        count = sum(member.kind != "d" for member in members)
        self._report(options, 0, total, 0, count, source)
        try:
            if method == "tar":
                streams.receive_tree(
                    self._commands, source, stage, members, self._host, options, self._files
                )
            else:
                sftp_trees.receive_tree(self._lane, source, stage, members, options)
            got = _compare(stage, members, self._host)
            streams.place_local(stage, target, merge=options.merge)
        except BaseException:
            streams.remove_local(stage)
            raise
        self._report(options, got, got, count, count, source)
        return TransferResult(
            files=count,
            bytes=got,
            skipped=sum(m.kind != "d" for m in everything) - count,
            elapsed=time.monotonic() - began,
        )

    # ------------------------------------------------------------------ both

    def _verify(self, local: bytes, remote: bytes) -> None:
        here = streams.sha256_local(local)
        there = streams.sha256_remote(self._commands, self._files, remote, self._host)
        if here != there:
            raise VerifyFailed(
                f"the checksums of {os.fsdecode(local)!r} and {to_text(remote)!r} differ",
                host=self._host,
                sent="yes",
            )

    @staticmethod
    def _report(options: Options, done: int, total: int, files: int, of: int, name: bytes) -> None:
        if options.progress is not None:
            options.progress(done, total, files, of, os.fsdecode(os.path.basename(name)))


def _create_private(path: bytes, mode: int, preserve: bool) -> int:
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


def _refuse_others(members: list[trees.Member], top: bytes) -> None:
    for member in members:
        if member.kind == "o":
            name = os.fsdecode(os.path.join(top, member.name))
            raise TransferError(
                f"{name!r} is a fifo, socket or device",
                advice="Leave it out with exclude=.",
            )


def _compare(stage: bytes, members: list[trees.Member], host: str) -> int:
    """What arrived is what was listed, in names and kinds; returns the bytes of all files."""
    arrived = {member.name: member for member in trees.walk(stage)}
    for member in members:
        got = arrived.get(member.name)
        if got is None or got.kind != member.kind:
            raise TransferError(f"{to_text(member.name)!r} did not arrive", host=host, sent="yes")
    return sum(got.size for got in arrived.values() if got.kind == "f")
