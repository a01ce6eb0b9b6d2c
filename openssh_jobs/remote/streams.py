"""Byte streams between a file or a local tar and a command on the host.

A local descriptor is handed to the master where it can be; only what comes from the host is
looked at first, up to the mark that ends what rc files print.
"""

from __future__ import annotations

import bisect
import logging
import os
import posixpath
import re
import shutil
import threading
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, OpenSSHJobsError, TransferError
from ..openssh import process
from . import helpers, trees
from .exchange import Exchange, close_fd
from .oserrors import error_of, local_error
from .quoting import quote_path, to_bytes, to_text
from .watching import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import FileIO

    from .command import Commands
    from .files import Files
    from .options import Options
    from .running import Running
    from .shell import ControlShell

log = logging.getLogger("openssh_jobs.transfer")

_CHUNK = 1 << 20
_TAR_END = 60.0
# What tars say of a member that leads out of the directory: the first sort is no error to them.
_STRIPPED = re.compile("[Rr]emoving leading|Removing leading|unsafe|Path contains")
_HOSTILE = re.compile(
    r"contains '\.\.'|contains \.\.|unsafe|through (?:a )?symlink|[Cc]annot hard link|"
    r"[Cc]an't create (?:sym|hard)?link|Hard-link target"
)


def _local_tar() -> str:
    found = shutil.which("tar")
    if found is None:
        raise ConfigurationError("there is no tar on this machine", advice='Use method="sftp".')
    return found


def _remote_end(
    running: Running, commands: Commands, path: bytes, host: str, data: bytes = b""
) -> bytes:
    """Wait for a streaming command; its stdout, or the error of ``path`` in its stderr."""
    try:
        exchange = Exchange(running, data)
        exchange.run(None)
        out, err = exchange.output()
        if not running.session.wait(15.0):
            raise commands.sessions.master.lost(running.link, running.plan.what)
        status = running.status()
        if status is None:
            raise commands.no_status(running)
        commands.sessions.confirmed()
        if status != 0:
            raise error_of(to_text(err), path, host=host)
        return out
    except BaseException:
        if running.session.status is None:
            running.end()
        raise
    finally:
        running.close()


# --------------------------------------------------------------------------- one file


def send_file(
    commands: Commands,
    source: bytes,
    part: bytes,
    host: str,
    tell: Callable[[int], object] | None = None,
) -> None:
    """A local file onto ``part`` on the host, through ``cat``; ``tell`` hears of bytes read."""
    with open(source, "rb", buffering=0) as handle:
        fd = handle.fileno()
        plan = commands.plan(b"umask 077; exec cat > " + quote_path(part), prologue="")
        running = commands.launch(plan, stdin=fd)
        # The descriptor that was handed over and ours are one: the offset tells how far ssh is.
        watch = None if tell is None else lambda: tell(os.lseek(fd, 0, os.SEEK_CUR))
        with Watch(watch):
            _remote_end(running, commands, part, host)


def receive_file(
    commands: Commands,
    source: bytes,
    part: bytes,
    host: str,
    tell: Callable[[int], object] | None = None,
) -> None:
    """A file of the host into the local file ``part`` (which exists), through ``cat``."""
    plan = commands.plan(b"exec cat < " + quote_path(source), prologue="")
    with open(part, "wb") as handle:
        read_end, write_end = os.pipe()
        try:
            running = commands.launch(plan, stdout=write_end)
        except BaseException:
            close_fd(read_end)
            raise
        finally:
            close_fd(write_end)
        fd = handle.fileno()
        copier = _Background(lambda: _copy(read_end, running.nonce, fd))
        try:
            with Watch(None if tell is None else lambda: tell(os.fstat(fd).st_size)):
                _remote_end(running, commands, source, host)
        except OpenSSHJobsError:
            # A disk that is full here broke the pipe of the command there.
            copier.join_for_oserror()
            raise
        finally:
            copier.join_quietly()
        copier.join()


class _Background:
    """A thread whose exception is raised where it is joined."""

    def __init__(self, work: object) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001 - raised again in join
            self._error = error

    @property
    def at_work(self) -> bool:
        """Whether the work goes on."""
        return self._thread.is_alive()

    def join_for_oserror(self) -> None:
        """Wait for the end of the work; raises only what the system here refused."""
        self._thread.join()
        if isinstance(self._error, OSError):
            raise self._error

    def join_quietly(self) -> None:
        """Wait for the end of the work, however it ended."""
        self._thread.join()

    def join(self) -> None:
        """Wait for the end of the work."""
        self._thread.join()
        if self._error is not None:
            raise self._error


def _copy(read_end: int, nonce: bytes, to: int) -> None:
    """Copy what follows the mark; the pipe is closed at once where that cannot go on."""
    try:
        skip_to_mark(read_end, nonce)
        while data := os.read(read_end, _CHUNK):
            view = memoryview(data)
            while view:
                view = view[os.write(to, view) :]
    finally:
        close_fd(read_end)


def skip_to_mark(read_end: int, nonce: bytes) -> bytes:
    """Read, byte by byte, up to the line of the mark; returns what stood before it."""
    seen = bytearray()
    mark = nonce + b"\n"
    while not seen.endswith(mark):
        byte = os.read(read_end, 1)
        if not byte:
            raise TransferError("the host's answer ended before it began")
        seen += byte
    return bytes(seen[: -len(mark)])


# --------------------------------------------------------------------------- trees


def _flags(options: Options) -> list[str]:
    return [] if options.preserve else ["-m"]


def send_tree(
    commands: Commands,
    source: bytes,
    stage: bytes,
    members: Sequence[trees.Member],
    host: str,
    options: Options,
    files: Files,
) -> None:
    """Members of a local tree into the directory ``stage`` on the host, as one tar stream."""
    argv: list[str | bytes] = [_local_tar(), "-c", "-f", "-", "-C", source, "--no-recursion"]
    if options.follow_symlinks:
        argv.append("-h")
    argv += ["--null", "-T", "-"]
    flags = " ".join(["-x", "-f", "-", "-o", "-p", *_flags(options)])
    plan = commands.plan(
        b"cd -- %b && exec tar %b" % (quote_path(stage), flags.encode()), prologue=""
    )
    import tempfile

    with tempfile.TemporaryFile() as wanted, tempfile.TemporaryFile() as said:
        wanted.write(trees.tar_list(members))
        wanted.seek(0)
        child = process.spawn(
            argv,
            stdin=wanted,
            stdout=process.PIPE,
            stderr=said,
            # macOS would add ._ files of its own.
            env={"COPYFILE_DISABLE": "1"},
        )
        try:
            if child.stdout is None:
                raise AssertionError("tar was started without a pipe")
            with child.stdout:
                running = commands.launch(plan, stdin=child.stdout.fileno())
            with Watch(_told_by_tar(child.pid, "wchar", members, options, source, ordered=True)):
                _remote_end(running, commands, stage, host)
            _local_end(child, said, source)
        except BaseException:
            process.end(child)
            raise


def _told_by_tar(
    pid: int,
    counter: str,
    members: Sequence[trees.Member],
    options: Options,
    name: bytes,
    *,
    ordered: bool,
) -> Callable[[], object] | None:
    """How far a local tar is, by the bytes that the system counts for it; ``None``: not told.

    An archive is a header of 512 bytes a member and whole blocks of 512, so that the place in the
    stream says which members are through, where their order is known.
    """
    if options.progress is None or helpers.read_counter(pid, counter) is None:
        return None
    total = sum(member.size for member in members if member.kind == "f")
    ends, sizes, at, size = [], [0], 0, 0
    for member in (one for one in members if one.kind != "d"):
        content = member.size if member.kind == "f" else 0
        at, size = at + 512 + -(-content // 512) * 512, size + content
        ends.append(at)
        sizes.append(size)
    headers = 512 * sum(member.kind == "d" for member in members)

    def tell() -> None:
        seen = helpers.read_counter(pid, counter)
        if seen is None:
            return
        if ordered:
            done = bisect.bisect_right(ends, max(0, seen - headers))
            options.report(sizes[done], total, done, len(ends), name)
        else:
            share = min(1.0, seen / max(1, at + headers))
            options.report(int(total * share), total, 0, len(ends), name)

    return tell


def _local_end(child: process.Child, said: object, path: bytes) -> None:
    """Wait for the local tar; an error of its is about a local path."""
    if not process.wait(child, _TAR_END):
        raise TransferError("the local tar does not end")
    said.seek(0)  # type: ignore[attr-defined]
    text = to_text(said.read())  # type: ignore[attr-defined]
    if child.returncode == 0 and not _STRIPPED.search(text):
        return
    if child.returncode == 0 or _HOSTILE.search(text):
        line = text.strip().splitlines()[0]
        raise TransferError(f"the archive was refused here: {line}", sent="yes")
    line = text.strip().splitlines()[0] if text.strip() else f"status {child.returncode}"
    raise local_error(os.fsdecode(path), line)


def list_remote(
    shell: ControlShell, files: Files, source: bytes, host: str, follow_symlinks: bool
) -> list[trees.Member]:
    """All members of a tree on the host, in one round trip."""
    script = trees.FIND_PRINTF if files.features.find_printf else trees.FIND_PLAIN
    if follow_symlinks:
        script = script.replace(b"find .", b"find -L .", 1)
        script = script.replace(b'if [ -L "$p" ]; then k=l; elif', b"if")
    answer = shell.call(b"cd -- %b && %b" % (quote_path(source), script), again=True, timeout=600)
    if answer.status != 0:
        raise error_of(to_text(answer.stderr), source, host=host)
    return trees.parse_find(answer.stdout)


def receive_tree(
    commands: Commands,
    source: bytes,
    stage: bytes,
    members: Sequence[trees.Member],
    host: str,
    options: Options,
    files: Files,
    *,
    whole: bool,
) -> None:
    """Members of a tree on the host into the local directory ``stage``, as one tar stream."""
    flags = b"-c -f -" + (b" -h" if options.follow_symlinks else b"")
    data = b""
    if whole:
        tar = b"tar %b ." % flags
    elif files.features.tar_reads_nul_lists:
        tar = b"tar %b --no-recursion --null -T -" % flags
        data = trees.tar_list(members)
    else:
        # BusyBox tar knows no NUL-separated lists; the names go as arguments, a few at a time.
        raise ConfigurationError(
            "the host's tar cannot take a list of names", host=host, advice='Use method="sftp".'
        )
    plan = commands.plan(b"cd -- %b && exec %b" % (quote_path(source), tar), prologue="")
    argv: list[str | bytes] = [_local_tar(), "-x", "-f", "-", "-C", stage, "-o", "-p"]
    argv += _flags(options)
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb", buffering=0) as pipe:
        try:
            running = commands.launch(plan, data=data, stdout=write_end)
        finally:
            close_fd(write_end)
        remote = _Background(lambda: _remote_end(running, commands, source, host, data))
        try:
            skip_to_mark(read_end, running.nonce)
        except TransferError:
            remote.join()  # the command said why on stderr
            raise
        tell = (members, options, source, not whole)
        _extract(argv, pipe, stage, running, remote, tell)


def _extract(
    argv: Sequence[str | bytes],
    pipe: FileIO,
    stage: bytes,
    running: Running,
    remote: _Background,
    tell: tuple[Sequence[trees.Member], Options, bytes, bool],
) -> None:
    import tempfile

    members, options, source, ordered = tell

    with tempfile.TemporaryFile() as said:
        child = process.spawn(argv, stdin=pipe.fileno(), stderr=said)
        try:
            pipe.close()  # else a tar here that dies would leave the one there writing
            try:
                with Watch(
                    _told_by_tar(child.pid, "rchar", members, options, source, ordered=ordered)
                ):
                    remote.join()
            except OSError:
                # A tar here that failed (a full disk) broke the pipe of the one there.
                if process.wait(child, 5.0):
                    _local_end(child, said, stage)
                raise
            _local_end(child, said, stage)
        except BaseException:
            process.end(child)
            if remote.at_work:
                running.end()
            remote.join_quietly()
            raise


# --------------------------------------------------------------------------- this machine


def remove_local(path: bytes) -> None:
    """Remove what did not become a target; directories without permissions included."""

    def mend(function: object, name: str, _: object) -> None:
        os.chmod(os.path.dirname(name) or ".", 0o700)
        os.chmod(name, 0o700)
        function(name)  # type: ignore[operator]

    try:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(os.fsdecode(path), onerror=mend)
        else:
            os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("left behind: %s (%s)", os.fsdecode(path), error)


def write_file(commands: Commands, part: bytes, target: bytes, data: bytes, host: str) -> None:
    """Bytes onto a file on the host: written beside it, counted, and renamed over it."""
    part_word, word = quote_path(part), quote_path(target)
    script = (
        b"p=%b; t=%b; if [ -d \"$t\" ]; then echo 'Is a directory' >&2; exit 1; fi; "
        b'm=; if [ -f "$t" ]; then m=$(stat -c %%a -- "$t" 2>/dev/null || '
        b'stat -f %%Lp -- "$t" 2>/dev/null); fi; '
        b'{ cat > "$p" && n=$(wc -c < "$p") && [ $n -eq %d ] && '
        b'{ [ -z "$m" ] || chmod "$m" "$p"; } && mv -f -- "$p" "$t"; } || '
        b'{ s=$?; rm -f -- "$p"; ls -d %b >/dev/null; exit $s; }'
        % (part_word, word, len(data), quote_path(posixpath.dirname(part) + b"/."))
    )
    plan = commands.plan(b"LC_ALL=C; export LC_ALL; " + script, prologue="")
    done = commands.run_bytes(plan, data=data)
    if done.returncode != 0:
        raise error_of(to_text(done.stderr), to_bytes(target), host=host)
