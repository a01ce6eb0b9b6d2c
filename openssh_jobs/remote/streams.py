"""Byte streams between a file or a local tar and a command on the host.

A local descriptor is handed to the master where it can be; only what comes from the host is
looked at first, up to the mark that ends what rc files print.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import posixpath
import shutil
import threading
from typing import TYPE_CHECKING

from .. import private_directory
from ..errors import OpenSSHJobsError, TransferError
from .exchange import Exchange, close_fd
from .oserrors import error_of
from .quoting import quote_path, to_bytes, to_text
from .watching import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from .command import Commands
    from .running import Running

log = logging.getLogger("openssh_jobs.transfer")

_CHUNK = 1 << 20
_NO_SUCH_COMMAND = 127
"""What a POSIX shell ends with then (XCU 2.8.2)."""


def remote_end(
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
        if status == _NO_SUCH_COMMAND:
            # "not found" is not about the path.
            said = " ".join(to_text(err).split())
            raise TransferError(f"a command is missing there: {said}", host=host, sent="yes")
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
        plan = commands.plan(b"umask 077; set -C; exec cat > " + quote_path(part), prologue="")
        running = commands.launch(plan, stdin=fd)
        # The descriptor that was handed over and ours are one: the offset tells how far ssh is.
        watch = None if tell is None else lambda: tell(os.lseek(fd, 0, os.SEEK_CUR))
        with Watch(watch):
            remote_end(running, commands, part, host)


def receive_file(
    commands: Commands,
    source: bytes,
    part: bytes,
    host: str,
    tell: Callable[[int], object] | None = None,
) -> None:
    """A file of the host into the local file ``part`` (which exists), through ``cat``."""
    plan = commands.plan(b"exec cat < " + quote_path(source), prologue="")
    with open(part, "wb", opener=private_directory.opener) as handle:
        read_end, write_end = wide_pipe()
        try:
            running = commands.launch(plan, stdout=write_end)
        except BaseException:
            close_fd(read_end)
            raise
        finally:
            close_fd(write_end)
        fd = handle.fileno()
        copier = Background(lambda: _copy(read_end, running.nonce, fd))
        try:
            with Watch(None if tell is None else lambda: tell(os.fstat(fd).st_size)):
                remote_end(running, commands, source, host)
        except OpenSSHJobsError:
            # A disk that is full here broke the pipe of the command there.
            copier.join_for_oserror()
            raise
        finally:
            copier.join_quietly()
        copier.join()


class Background:
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
        if _spliced(read_end, to):
            return
        while data := os.read(read_end, _CHUNK):
            view = memoryview(data)
            while view:
                view = view[os.write(to, view) :]
    finally:
        close_fd(read_end)


def _spliced(read_end: int, to: int) -> bool:
    """Let the system move the bytes (Linux); false where it does not, for this file system."""
    if not hasattr(os, "splice"):
        return False
    moved = 0
    while True:
        try:
            count = os.splice(read_end, to, _CHUNK)
        except OSError as error:
            if moved == 0 and error.errno in (errno.EINVAL, errno.ENOSYS):
                return False
            raise
        if count == 0:
            return True
        moved += count


def wide_pipe() -> tuple[int, int]:
    """A pipe that takes a megabyte, where the system lets it: fewer turns for the same bytes."""
    read_end, write_end = os.pipe()
    size = getattr(fcntl, "F_SETPIPE_SZ", None)
    if size is not None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(read_end, size, _CHUNK)
    return read_end, write_end


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


# --------------------------------------------------------------------------- this machine


def remove_local(path: bytes) -> None:
    """Remove what did not become a target; directories without permissions included."""

    def mend(function: object, name: str, _: object) -> None:
        os.chmod(os.path.dirname(name) or ".", 0o700)
        if not os.path.islink(name):  # chmod(2) would change what it points to
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
        if os.path.lexists(path):
            log.warning("left behind: %s (%s)", os.fsdecode(path), error)


def write_file(commands: Commands, part: bytes, target: bytes, data: bytes, host: str) -> None:
    """Bytes onto a file on the host: written beside it, counted, and renamed over it."""
    part_word, word = quote_path(part), quote_path(target)
    script = (
        b"set -C; p=%b; t=%b; if [ -d \"$t\" ]; then echo 'Is a directory' >&2; exit 1; fi; "
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
