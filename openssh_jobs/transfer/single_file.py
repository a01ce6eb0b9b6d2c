"""One file: sent or received as a part beside its target, checked, then renamed over it.

By the held sftp, by one stream, by several ranges at once, by scp or by rsync.  Only with several
ranges the bytes pass through Python.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ..commands import limits, scripts
from ..commands.os_errors import error_of
from ..commands.quoting import sftp_quote, to_text
from ..errors import ConfigurationError, RemoteOSError, TransferError, remote_oserror
from ..files import private_directory, writing
from ..files.writing import part_name
from . import listing, parallel, parts, progress, resume, sftp_tree, staging, streams, update
from .lanes import SCRIPTS
from .options import TransferResult
from .plan import FilePlan, Stat
from .sftp import NoSubsystem

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..files.stat import FileStat
    from .lanes import Lanes
    from .options import Options

_STREAMED = 8 << 20
"""Minimum size in bytes of a file that is sent as a stream: sftp waits for answers meanwhile."""
_INCOMPLETE = 3
"""Status of ``oj_finish_file`` if the part has another size."""


class FileMoves:
    """Moves single files between this machine and one host."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._commands = lanes.commands
        self._shell = lanes.shell
        self._sftp = lanes.sftp
        self._files = lanes.files
        self._host = lanes.host

    # ------------------------------------------------------------------ put

    def plan_put(
        self, source: bytes, target: bytes, facts: os.stat_result, options: Options
    ) -> FilePlan[os.stat_result]:
        """What sending a local file would do."""
        plan = _plan(source, target, facts, options)
        if not options.update:
            if options.dry_run and self._is_directory(target):
                raise remote_oserror(errno.EISDIR, target, host=self._host)
            return plan
        try:
            there = self._files.stat(target, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return plan
        if there.is_dir() and options.dry_run:
            raise remote_oserror(errno.EISDIR, target, host=self._host)
        if not there.is_file() or there.st_size != facts.st_size:
            return plan
        times = facts.st_mtime_ns, there.st_mtime_ns
        return self._compared(plan, source, target, times, options)

    def _is_directory(self, target: bytes) -> bool:
        try:
            return self._files.stat(target).is_dir()
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _compared(
        self,
        plan: FilePlan[Stat],
        here: bytes,
        there: bytes,
        times: tuple[int, int],
        options: Options,
    ) -> FilePlan[Stat]:
        """The plan for two files of the same size; ``times`` are those of source and target."""
        from . import checksums

        same_time = times[0] // 10**9 == times[1] // 10**9
        alike = same_time
        if options.verify or not (same_time or not checksums.can_compare(self._lanes)):
            alike = checksums.local(here) == checksums.remote(self._lanes, there)
        if not alike:
            return plan
        return replace(plan, members=(), skipped=1, retimed=() if same_time else plan.members)

    def put(self, plan: FilePlan[os.stat_result], options: Options, began: float) -> TransferResult:
        """Send a local file; ``began`` is when the call began (``time.monotonic``)."""
        source, target, facts = plan.source, plan.target, plan.facts
        if not plan.members:
            if plan.retimed:
                parent, _, name = target.rpartition(b"/")
                retimed = [plan.retimed[0]._replace(name=name)]
                update.set_remote_times(self._lanes, parent or b"/", retimed)
            return _nothing(began)
        parent = posixpath.dirname(target) or b"/"
        part = posixpath.join(parent, part_name())
        self._prepare(target, parent)
        options.report(0, facts.st_size, 0, 1, source)
        if options.resume:
            self._put_resumed(source, target, facts, options)
            options.report(facts.st_size, facts.st_size, 1, 1, source)
            return _moved(facts.st_size, began)
        try:
            self._send(source, part, target, facts.st_size, options)
            if options.verify:
                from . import checksums

                checksums.compare(self._lanes, source, part)
            self._finish(part, target, facts, options)
        except RemoteOSError as error:
            parts.remove_remote(self._lanes, error, part)
            if error.path != to_text(part):
                raise
            # The caller knows the target, not the part: name the target in the error.
            raise remote_oserror(error.number, target, host=self._host) from error
        except BaseException as error:
            parts.remove_remote(self._lanes, error, part)
            raise
        options.report(facts.st_size, facts.st_size, 1, 1, source)
        return _moved(facts.st_size, began)

    def _put_resumed(
        self, source: bytes, target: bytes, facts: os.stat_result, options: Options
    ) -> None:
        part = resume.find_remote(self._lanes, source, target, facts)
        try:
            resume.send(self._lanes, source, part, facts.st_size, options)
            now = os.stat(source)
            if (now.st_size, now.st_mtime_ns) != (facts.st_size, facts.st_mtime_ns):
                raise resume.changed(source, self._host)
            self._finish(part.path, target, facts, options)
        except BaseException as error:
            if resume.is_worthless(error):
                parts.remove_remote(self._lanes, error, part.path)
            else:
                resume.say_how_to_go_on(error, part.path)
            raise

    def _prepare(self, target: bytes, parent: bytes) -> None:
        """Make the parent of the target, and remove parts of dead processes in it."""
        paths = scripts.path(target), scripts.path(parent)
        script = scripts.call(SCRIPTS, "oj_prepare_file", paths, *parts.list_words())
        answer = self._shell.call(script, again=True)
        if answer.status != 0:
            path = target if answer.status == 2 else parent
            raise error_of(to_text(answer.stderr), path, host=self._host)
        self._files.check_done("put", target, answer)
        parts.sweep_there(self._lanes, parent, answer.stdout.removesuffix(b"done\n"))

    def _send(self, source: bytes, part: bytes, target: bytes, size: int, options: Options) -> None:
        """Send the bytes by the requested method, or by the best one."""

        def report(done: int) -> None:
            options.report(min(done, size), size, 0, 1, source)

        here = os.path.abspath(source)
        if options.method == "scp":
            from . import scp

            scp.send(self._lanes, here, part, report)
        elif options.method == "rsync":
            from . import rsync

            rsync.send_file(self._lanes, here, part, target, options)
        elif self._in_ranges(size, options):
            parts.make_remote(self._lanes, part)
            parallel.send(self._commands, source, part, size, self._host, report)
        elif not (
            _by_sftp(options, source + part, size)
            and self._send_by_sftp(here, part, options, report)
        ):
            streams.send_file(
                self._commands, source, part, self._host, report if options.progress else None
            )

    def _send_by_sftp(
        self, here: bytes, part: bytes, options: Options, report: Callable[[int], object]
    ) -> bool:
        """Send by sftp; false if the server has no sftp and another method may be used."""

        def tick() -> None:
            pid = self._sftp.pid
            done = progress.descriptor_offset(pid, here) if pid is not None else None
            if done is not None:
                report(done)

        line = b"put " + sftp_quote(here) + b" " + sftp_quote(part)
        try:
            self._sftp.call([line], path=part, tick=tick if options.progress else None)
        except NoSubsystem:
            if options.method == "sftp":
                raise sftp_tree.no_sftp(self._host) from None
            return False
        except TransferError as error:
            raise writing.explain(self._shell, self._host, error, part) from error
        return True

    def _in_ranges(self, size: int, options: Options) -> bool:
        """Whether several ranges at once are faster: a large file over a long round trip."""
        long = self._shell.round_trip >= parallel.LONG
        return options.method == "auto" and long and size >= parallel.SMALLEST

    def _finish(self, part: bytes, target: bytes, facts: os.stat_result, options: Options) -> None:
        """Compare the size of a part on the host; give it its mode, times and name."""
        mode = stat.S_IMODE(facts.st_mode)
        words = [f"{mode:o}", "exact"] if options.preserve else [f"{mode & 0o777:o}", "umask"]
        stamp = time.strftime("%Y%m%d%H%M.%S", time.gmtime(facts.st_mtime))
        words.append(stamp if options.keeps_times else "")
        paths = scripts.path(part), scripts.path(target)
        script = scripts.call(SCRIPTS, "oj_finish_file", paths, facts.st_size, words)
        answer = self._shell.call(private_directory.opening() + script)
        if answer.status == _INCOMPLETE:
            raise TransferError(
                f"{to_text(target)!r} is not whole: {to_text(answer.stderr).strip()} of "
                f"{facts.st_size}; the source may have changed meanwhile",
                host=self._host,
                sent="yes",
            )
        if answer.status != 0:
            raise error_of(to_text(answer.stderr), target, host=self._host)
        self._files.check_done("put", target, answer)

    # ------------------------------------------------------------------ get

    def plan_get(
        self, source: bytes, target: bytes, facts: FileStat, options: Options
    ) -> FilePlan[FileStat]:
        """What receiving a file of the host would do."""
        plan = _plan(source, target, facts, options)
        if os.path.isdir(target):
            raise IsADirectoryError(errno.EISDIR, "Is a directory", os.fsdecode(target))
        if not options.update:
            return plan
        try:
            here = os.lstat(target)
        except (FileNotFoundError, NotADirectoryError):
            return plan
        if not stat.S_ISREG(here.st_mode) or here.st_size != facts.st_size:
            return plan
        times = facts.st_mtime_ns, here.st_mtime_ns
        return self._compared(plan, target, source, times, options)

    def get(self, plan: FilePlan[FileStat], options: Options, began: float) -> TransferResult:
        """Receive a file of the host; ``began`` is when the call began (``time.monotonic``)."""
        source, target, facts = plan.source, plan.target, plan.facts
        if not plan.members:
            if plan.retimed:
                parent, name = os.path.split(target)
                update.set_local_times(parent or b".", [plan.retimed[0]._replace(name=name)])
            return _nothing(began)
        parent = os.path.dirname(target) or b"."
        staging.make_directories(parent)
        parts.sweep_here(parent)
        options.report(0, facts.st_size, 0, 1, source)
        if options.resume:
            arrived = self._get_resumed(source, target, facts, options)
            options.report(arrived, arrived, 1, 1, source)
            return _moved(arrived, began)
        part = os.path.join(parent, part_name())
        try:
            mode = staging.create_private(part, stat.S_IMODE(facts.st_mode), options.preserve)
            self._receive(source, part, target, facts, options)
            if options.verify:
                from . import checksums

                checksums.compare(self._lanes, part, source)
            arrived = self._finish_here(source, part, target, facts, mode, options)
        except BaseException:
            parts.remove_local(part)
            raise
        options.report(arrived, arrived, 1, 1, source)
        return _moved(arrived, began)

    def _finish_here(
        self,
        source: bytes,
        part: bytes,
        target: bytes,
        facts: FileStat,
        mode: int,
        options: Options,
    ) -> int:
        """Check a local part and give it its mode, times and name; returns its size."""
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
            parts.remove_local(probe)
        part = resume.LocalPart(self._lanes, source, target, facts.st_size, facts.st_mtime_ns)
        try:
            part.receive(self._lanes, source, facts.st_size, options)
            now = self._files.stat(source)
            if (now.st_size, now.st_mtime_ns) != (facts.st_size, facts.st_mtime_ns):
                raise resume.changed(source, self._host)
            return self._finish_here(source, part.path, target, facts, mode, options)
        except BaseException as error:
            if resume.is_worthless(error):
                parts.remove_local(part.path)
            else:
                resume.say_how_to_go_on(error, part.path)
            raise
        finally:
            part.close()

    def _receive(
        self, source: bytes, part: bytes, target: bytes, facts: FileStat, options: Options
    ) -> None:
        """Receive the bytes by the requested method, or by the best one."""
        size = facts.st_size

        def report(done: int) -> None:
            options.report(min(done, size), size, 0, 1, source)

        def arrived() -> int:
            try:
                return os.stat(part).st_size
            except OSError:
                return 0

        def tick(_pid: int = 0) -> None:
            if arrived() > limits.grown(size):
                raise streams.too_much(source, size, self._host)
            report(arrived())

        here = os.path.abspath(part)
        if options.method == "scp":
            from . import scp

            with staging.held(here) as name:
                scp.receive(self._lanes, source, name, size, tick)
            tick()
            return
        if options.method == "rsync":
            from . import rsync

            rsync.receive_file(self._lanes, source, here, target, size, options)
            tick()
            return
        if self._in_ranges(size, options):
            parallel.receive(self._commands, source, part, size, self._host, report)
            return
        if _by_sftp(options, source + part, size):
            try:
                with staging.held(here) as name:
                    line = b"get " + sftp_quote(source) + b" " + sftp_quote(name)
                    self._sftp.call([line], path=source, moved=arrived, tick=tick)
                tick()
                return
            except NoSubsystem:
                if options.method == "sftp":
                    raise sftp_tree.no_sftp(self._host) from None
        streams.receive_file(
            self._commands, source, part, self._host, size, report if options.progress else None
        )


def _by_sftp(options: Options, names: bytes, size: int) -> bool:
    """Whether to try the held sftp, whose batch language cannot express newlines."""
    if options.method != "auto":
        return options.method == "sftp"
    return size < _STREAMED and b"\n" not in names


def _plan(source: bytes, target: bytes, facts: Stat, options: Options) -> FilePlan[Stat]:
    if options.delete:
        raise ConfigurationError("delete=True is for trees", advice="Leave delete= out.")
    whole = listing.Member(b"", "f", facts.st_size, mtime_ns=facts.st_mtime_ns)
    return FilePlan(source=source, target=target, members=[whole], skipped=0, facts=facts)


def _moved(size: int, began: float) -> TransferResult:
    return TransferResult(files=1, bytes=size, skipped=0, elapsed=time.monotonic() - began)


def _nothing(began: float) -> TransferResult:
    return TransferResult(files=0, bytes=0, skipped=1, elapsed=time.monotonic() - began)
