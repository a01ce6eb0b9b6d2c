"""``put`` and ``get``: a file or a tree is whole or absent.

Everything lands under another name in the directory of its target and is renamed when it is
complete and its size is right.  Files ride the held sftp, trees one tar stream; the bytes of either
do not pass through Python.
"""

from __future__ import annotations

import os
import posixpath
import stat
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ..commands.os_errors import error_of, refused
from ..commands.quoting import RENAME, quote_path, sftp_quote, to_bytes, to_text
from ..errors import ConnectionLost, OpenSSHJobsError, RemoteOSError, TransferError, remote_oserror
from ..files import host_names, write_errors
from ..files.part_name import part_name
from . import listing, local_programs, parallel, resume, sftp_tree, staging, streams
from .options import METHODS, Options, Site, TransferResult
from .sftp import NoSubsystem
from .tree import TreeMoves

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..commands.control_shell import ControlShell
    from ..commands.runner import Commands
    from ..files.remote_files import Files
    from ..files.stat import FileStat
    from .sftp import Sftp

_STREAMED = 8 << 20
"""Bytes from which on a single file is a stream."""

__all__ = ["METHODS", "Options", "Transfer", "TransferResult"]


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
        self._site = Site(commands, shell, sftp, files, host)
        self._trees = TreeMoves(self._site, self._discard)

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
            return self._trees.put(source, target, options, began)
        if not stat.S_ISREG(facts.st_mode):
            raise TransferError(f"{os.fsdecode(source)!r} is neither a file nor a directory")
        if options.update and self._is_there(source, target, facts, options):
            return _nothing(began)
        return self._put_file(source, target, facts, options, began)

    def _target(self, remote: str, name: bytes) -> bytes:
        """The remote target: the name itself, or below it where it ends in a slash."""
        target = to_bytes(self._files.absolute(remote))
        if target.endswith(b"/"):
            target = target.rstrip(b"/") + b"/" + name
        if not target.strip(b"/"):
            raise refused(1, remote, host=self._host, detail="replacing / is refused")
        return target

    def _is_there(
        self, source: bytes, target: bytes, facts: os.stat_result, options: Options
    ) -> bool:
        """Whether an update has nothing to do: size and time agree, or the checksums."""
        try:
            there = self._files.stat(target, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not there.is_file() or there.st_size != facts.st_size:
            return False
        if options.verify:
            from . import checksums

            return checksums.local(source) == checksums.remote(self._site, target)
        return there.st_mtime_ns // 10**9 == facts.st_mtime_ns // 10**9

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
        options.report(0, facts.st_size, 0, 1, source)
        if options.resume:
            self._put_resumed(source, target, facts, options)
            options.report(facts.st_size, facts.st_size, 1, 1, source)
            return _one(facts.st_size, began)
        try:
            self._send_file(source, part, target, facts.st_size, options)
            if options.verify:
                from . import checksums

                checksums.compare(self._site, source, part)
            self._finish_file(part, target, facts, options)
        except RemoteOSError as error:
            self._discard(error, part)
            if error.path != to_text(part):
                raise
            # The name that it had meanwhile means nothing to anybody.
            raise remote_oserror(error.number, target, host=self._host) from error
        except BaseException as error:
            self._discard(error, part)
            raise
        options.report(facts.st_size, facts.st_size, 1, 1, source)
        return _one(facts.st_size, began)

    def _put_resumed(
        self, source: bytes, target: bytes, facts: os.stat_result, options: Options
    ) -> None:
        part = resume.find_remote(self._site, source, target, facts)
        try:
            resume.send(self._site, source, part, facts.st_size, options)
            now = os.stat(source)
            if (now.st_size, now.st_mtime_ns) != (facts.st_size, facts.st_mtime_ns):
                raise resume.changed(source, self._host)
            self._finish_file(part.path, target, facts, options)
        except BaseException as error:
            if resume.is_worthless(error):
                self._discard(error, part.path)
            else:
                resume.say_how_to_go_on(error, part.path)
            raise

    def _prepare_file(self, target: bytes, parent: bytes) -> None:
        script = (
            b"if [ -d %b ]; then echo 'Is a directory' >&2; exit 2; fi; "
            b"mkdir -p -- %b && { %b; } && echo done"
        )
        script %= quote_path(target), quote_path(parent), resume.list_left(parent)
        answer = self._shell.call(script, again=True)
        if answer.status != 0:
            path = target if answer.status == 2 else parent
            raise error_of(to_text(answer.stderr), path, host=self._host)
        self._files.check_done("put", target, answer)
        resume.sweep_there(self._site, parent, answer.stdout.removesuffix(b"done\n"))

    def _send_file(
        self, source: bytes, part: bytes, target: bytes, size: int, options: Options
    ) -> None:
        def tell(done: int) -> None:
            options.report(min(done, size), size, 0, 1, source)

        here = os.path.abspath(source)
        if options.method in ("scp", "rsync"):
            self._send_by_program(here, part, target, options, tell)
        elif self._in_ranges(size, options):
            parallel.send(self._commands, source, part, size, self._host, tell)
        elif not (
            _by_sftp(options, source + part, size) and self._send_by_sftp(here, part, options, tell)
        ):
            streams.send_file(
                self._commands, source, part, self._host, tell if options.progress else None
            )

    def _send_by_sftp(
        self, here: bytes, part: bytes, options: Options, tell: Callable[[int], object]
    ) -> bool:
        """False where the server has no sftp and another way may be taken."""

        def tick() -> None:
            pid = self._sftp.pid
            done = local_programs.descriptor_offset(pid, here) if pid is not None else None
            if done is not None:
                tell(done)

        line = b"put " + sftp_quote(here) + b" " + sftp_quote(part)
        try:
            self._sftp.call([line], path=part, tick=tick if options.progress else None)
        except NoSubsystem:
            if options.method == "sftp":
                raise sftp_tree.no_sftp(self._host) from None
            return False
        except TransferError as error:
            raise write_errors.reason(self._shell, self._host, error, part) from error
        return True

    def _send_by_program(
        self,
        here: bytes,
        part: bytes,
        target: bytes,
        options: Options,
        tell: Callable[[int], object],
    ) -> None:
        if options.method == "scp":
            from . import scp

            def tick(pid: int) -> None:
                done = local_programs.descriptor_offset(pid, here)
                if done is not None:
                    tell(done)

            scp.remote_word(part)
            # scp would make it with the mode of the source: nobody else is to read it yet.
            made = self._shell.call(b"umask 077; : > " + quote_path(part), again=True)
            if made.status != 0:
                raise error_of(to_text(made.stderr), part, host=self._host)
            scp.send(self._site, here, part, tick)
            return
        from . import rsync

        # rsync keeps names: it lands in a directory of its own and is moved from there.
        stage, name = part + b"d", os.path.basename(here)
        basis = posixpath.dirname(target) if posixpath.basename(target) == name else None
        rsync.require(self._site)
        try:
            made = self._shell.call(b"mkdir -m 700 -- " + quote_path(stage))
            if made.status != 0:
                raise error_of(to_text(made.stderr), part, host=self._host)
            only = [listing.Member(name, "f", 0)]
            rsync.send(self._site, os.path.dirname(here), stage, only, _followed(options), basis)
            moved = b"mv -f -- %b %b" % (quote_path(posixpath.join(stage, name)), quote_path(part))
            answer = self._shell.call(moved)
            if answer.status != 0:
                raise error_of(to_text(answer.stderr), part, host=self._host)
        except BaseException as error:
            self._discard(error, stage)
            raise
        self._shell.call(b"rmdir -- " + quote_path(stage), again=True)

    def _in_ranges(self, size: int, options: Options) -> bool:
        """Whether several ranges at once pay: a large file over a long round trip."""
        long = self._shell.round_trip >= parallel.LONG
        return options.method == "auto" and long and size >= parallel.SMALLEST

    def _finish_file(
        self, part: bytes, target: bytes, facts: os.stat_result, options: Options
    ) -> None:
        mode = stat.S_IMODE(facts.st_mode)
        number = (
            b"%o" % mode
            if options.preserve
            else b"$(printf %%o $((0%o & ~0$(umask))))" % (mode & 0o777)
        )
        times = b""
        if options.keeps_times:
            stamp = time.strftime("%Y%m%d%H%M.%S", time.gmtime(facts.st_mtime)).encode()
            times = b'TZ=UTC0 touch -t %b "$p" && ' % stamp
        script = (
            b't=%b; p=%b; n=$(wc -c < "$p") || exit 1; '
            b'if [ $n -ne %d ]; then echo "$n bytes arrived" >&2; exit 3; fi; '
            # No "--": to BusyBox and the BSDs it would be a file, and the path is absolute.
            b'chmod %b "$p" && %b{ '
            % (quote_path(target), quote_path(part), facts.st_size, number, times)
        )
        script += RENAME + b" && echo done; }"
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
        self._files.check_done("put", target, answer)

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

    # ------------------------------------------------------------------ get

    def get(self, remote: str, local: str | os.PathLike[str], options: Options) -> TransferResult:
        """Copy a file or directory of the host to this machine."""
        began = time.monotonic()
        source = to_bytes(self._files.absolute(remote)).rstrip(b"/") or b"/"
        target = os.fsencode(local)
        if not target:
            raise FileNotFoundError(2, "an empty path names no file", "")
        if target.endswith(b"/"):
            target = os.path.join(target, host_names.last_part(source, host=self._host))
        if (facts := self._files.stat(source)).is_dir():
            return self._trees.get(source, target, facts.st_mode, options, began)
        if not facts.is_file():
            raise TransferError(
                f"{remote!r} is neither a file nor a directory", host=self._host, sent="yes"
            )
        if options.update and self._is_here(source, target, facts, options):
            return _nothing(began)
        return self._get_file(source, target, facts, options, began)

    def _is_here(self, source: bytes, target: bytes, facts: FileStat, options: Options) -> bool:
        try:
            here = os.lstat(target)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not stat.S_ISREG(here.st_mode) or here.st_size != facts.st_size:
            return False
        if options.verify:
            from . import checksums

            return checksums.local(target) == checksums.remote(self._site, source)
        return here.st_mtime_ns // 10**9 == facts.st_mtime_ns // 10**9

    def _get_file(
        self, source: bytes, target: bytes, facts: FileStat, options: Options, began: float
    ) -> TransferResult:
        if os.path.isdir(target):
            raise IsADirectoryError(21, "Is a directory", os.fsdecode(target))
        parent = os.path.dirname(target) or b"."
        os.makedirs(parent, exist_ok=True)
        resume.sweep_here(parent)
        options.report(0, facts.st_size, 0, 1, source)
        if options.resume:
            arrived = self._get_resumed(source, target, facts, options)
            options.report(arrived, arrived, 1, 1, source)
            return _one(arrived, began)
        part = os.path.join(parent, part_name())
        try:
            mode = staging.create_private(part, stat.S_IMODE(facts.st_mode), options.preserve)
            self._receive_file(source, part, target, facts, options)
            if options.verify:
                from . import checksums

                checksums.compare(self._site, part, source)
            arrived = self._finish_local(source, part, target, facts, mode, options)
        except BaseException:
            streams.remove_local(part)
            raise
        options.report(arrived, arrived, 1, 1, source)
        return _one(arrived, began)

    def _finish_local(
        self,
        source: bytes,
        part: bytes,
        target: bytes,
        facts: FileStat,
        mode: int,
        options: Options,
    ) -> int:
        """Look whether a file is whole, and give it its mode, times and name; its size."""
        return staging.finish_file(
            part,
            target,
            facts.st_size,
            lambda: self._files.stat(source).st_size,
            mode=mode,
            times=(facts.st_atime_ns, facts.st_mtime_ns) if options.keeps_times else None,
            what=to_text(source),
            host=self._host,
        )

    def _get_resumed(self, source: bytes, target: bytes, facts: FileStat, options: Options) -> int:
        probe = os.path.join(os.path.dirname(target) or b".", part_name())
        try:
            mode = staging.create_private(probe, stat.S_IMODE(facts.st_mode), options.preserve)
        finally:
            streams.remove_local(probe)
        part = resume.Local(self._site, source, target, facts.st_size, facts.st_mtime_ns)
        try:
            part.receive(self._site, source, facts.st_size, options)
            now = self._files.stat(source)
            if (now.st_size, now.st_mtime_ns) != (facts.st_size, facts.st_mtime_ns):
                raise resume.changed(source, self._host)
            return self._finish_local(source, part.path, target, facts, mode, options)
        except BaseException as error:
            if resume.is_worthless(error):
                streams.remove_local(part.path)
            else:
                resume.say_how_to_go_on(error, part.path)
            raise
        finally:
            part.close()

    def _receive_file(
        self, source: bytes, part: bytes, target: bytes, facts: FileStat, options: Options
    ) -> None:
        size = facts.st_size

        def tell(done: int) -> None:
            options.report(min(done, size), size, 0, 1, source)

        def moved() -> int:
            try:
                return os.stat(part).st_size
            except OSError:
                return 0

        here = os.path.abspath(part)
        if options.method in ("scp", "rsync"):
            self._receive_by_program(source, here, target, options, lambda pid: tell(moved()))
            return
        if self._in_ranges(size, options):
            parallel.receive(self._commands, source, part, size, self._host, tell)
            return
        if _by_sftp(options, source + part, size):
            line = b"get " + sftp_quote(source) + b" " + sftp_quote(here)
            try:
                self._sftp.call([line], path=source, moved=moved, tick=lambda: tell(moved()))
                return
            except NoSubsystem:
                if options.method == "sftp":
                    raise sftp_tree.no_sftp(self._host) from None
        streams.receive_file(
            self._commands, source, part, self._host, tell if options.progress else None
        )

    def _receive_by_program(
        self,
        source: bytes,
        here: bytes,
        target: bytes,
        options: Options,
        tick: Callable[[int], object],
    ) -> None:
        if options.method == "scp":
            from . import scp

            scp.receive(self._site, source, here, tick)
            return
        from . import rsync

        directory, name = posixpath.dirname(source), host_names.last_part(source, host=self._host)
        rsync.require(self._site)
        stage = here + b"d"
        try:
            os.mkdir(stage, 0o700)
            basis = None
            is_file = os.path.isfile(target) and not os.path.islink(target)
            if os.path.basename(target) == name and is_file:
                basis = os.path.dirname(os.path.abspath(target))
            one = [listing.Member(name, "f", 0)]
            rsync.receive(self._site, directory, stage, one, _followed(options), basis)
            staging.is_whole_file(os.path.join(stage, name), self._host)
            os.replace(os.path.join(stage, name), here)
        finally:
            streams.remove_local(stage)


def _by_sftp(options: Options, names: bytes, size: int) -> bool:
    """Whether the held sftp is to be tried.

    A newline cannot be said in its language, and one stream moves many bytes faster: sftp waits for
    answers in between.
    """
    if options.method != "auto":
        return options.method == "sftp"
    return size < _STREAMED and b"\n" not in names


def _followed(options: Options) -> Options:
    """For a single file: what a link points to is meant, as with all other methods."""
    return replace(options.with_times(), follow_symlinks=True, progress=None)


def _one(size: int, began: float) -> TransferResult:
    return TransferResult(files=1, bytes=size, skipped=0, elapsed=time.monotonic() - began)


def _nothing(began: float) -> TransferResult:
    return TransferResult(files=0, bytes=0, skipped=1, elapsed=time.monotonic() - began)
