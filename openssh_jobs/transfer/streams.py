"""Byte streams between a file or a local tar and a command on the host.

The bytes go through pipes that the system fills and empties.  Nothing is sent before the command on
the host has started; the output of rc files, up to the start mark, is skipped.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import threading
import time
from typing import TYPE_CHECKING

from .. import permissions
from ..commands import limits, scripts
from ..commands.child import STATUS_WAIT
from ..commands.os_errors import error_of
from ..commands.quoting import quote_path, to_text
from ..commands.stdio import Exchange, Movement, close_fd
from ..errors import InvalidAnswer, OpenSSHJobsError, TransferError, remote_oserror
from .progress import ProgressWatcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..commands.child import Plan, Running
    from ..commands.runner import Commands

_CHUNK = 1 << 20
_LOOK = 5.0
"""Seconds between two checks whether data moves."""
_NO_SUCH_COMMAND = 127
"""The status of a POSIX shell for a command that was not found (XCU 2.8.2)."""
_FILE_SIZE = 128 + 25
"""The status after SIGXFSZ, on Linux and the BSDs."""


def remote_end(
    running: Running,
    commands: Commands,
    path: bytes,
    host: str,
    data: bytes = b"",
    moved: Callable[[], int] | None = None,
    whole: Callable[[], bool] = lambda: True,
) -> bytes:
    """Wait for a streaming command; returns its stdout, or raises the error of ``path``.

    ``moved`` returns the count of bytes that have moved; if it stays the same for
    ``limits.SILENCE`` seconds the command is ended and ``ConnectionLost`` is raised.  ``whole``:
    whether all of a stdout has arrived that is read elsewhere; something there may hold it open.
    """
    try:
        exchange = Exchange(running, data, most=limits.WORDS)
        seen, movement = 0, Movement()
        while not exchange.run(time.monotonic() + _LOOK):
            now = moved() if moved is not None else 0
            movement.add(abs(now - seen))
            seen = now
            if time.monotonic() - max(movement.at, exchange.moved_at) > limits.SILENCE:
                raise commands.sessions.lost(
                    running.link,
                    running.plan.what,
                    why=f"nothing moved for {limits.SILENCE:.0f} s",
                )
        out, err = exchange.output()
        if running.left:
            _await_rest(whole, moved)
        if not running.await_end():
            raise commands.sessions.lost(running.link, running.plan.what)
        failed = running.refusal()
        if failed is not None:
            raise failed
        status = running.status()
        if status is None:
            raise commands.no_status(running)
        commands.sessions.confirmed()
        if status == _NO_SUCH_COMMAND:
            # Here "not found" means the command, not the path.
            message = " ".join(to_text(err).split())
            raise TransferError(f"the host lacks a command: {message}", host=host, sent="yes")
        if status == _FILE_SIZE:
            raise remote_oserror(
                errno.EFBIG, path, host=host, detail="a limit there (`ulimit -f`, an rc file)"
            )
        if status != 0:
            raise error_of(to_text(err), path, host=host)
        return out
    except BaseException:
        if not running.is_over:
            running.end()
        raise
    finally:
        running.close()


def _await_rest(whole: Callable[[], bool], moved: Callable[[], int] | None) -> None:
    """After the end of the command: wait for its last bytes; what is missing is found later."""
    seen, until = -1, time.monotonic() + STATUS_WAIT
    while not whole() and time.monotonic() < until:
        time.sleep(0.05)
        now = moved() if moved is not None else -1
        if now != seen:
            seen, until = now, time.monotonic() + STATUS_WAIT


# --------------------------------------------------------------------------- one file


def send_file(
    commands: Commands,
    source: bytes,
    part: bytes,
    host: str,
    report: Callable[[int], object] | None = None,
) -> None:
    """Send a local file to ``cat`` on the host; ``report`` is called with the bytes read."""
    script = scripts.functions(scripts.COMMON, "oj_close_to_others")
    script += b"umask 077; set -C; exec 9>%b && " % quote_path(part)
    script += b"oj_close_to_others %b && exec cat >&9" % quote_path(part)
    plan = commands.plan(script, prologue="", inert=True)
    with open(source, "rb", buffering=0, opener=permissions.regular) as handle:
        fd = handle.fileno()

        def offset() -> int:
            return os.lseek(fd, 0, os.SEEK_CUR)

        running, write_end = launch_fed(commands, plan)
        feeder = Background(lambda: _feed(fd, write_end))
        try:
            with ProgressWatcher(None if report is None else lambda: report(offset())):
                remote_end(running, commands, part, host, moved=offset)
        except BaseException:
            # If the command ends the pipe breaks; a local read error is the cause of that end.
            feeder.join_for_oserror()
            raise
        feeder.join()


def launch_fed(commands: Commands, plan: Plan) -> tuple[Running, int]:
    """Start a command whose stdin is a large pipe; returns our end of it, ready for the data.

    Data may be written only after the command has started: a program that an rc file starts
    could read data that is written earlier.
    """
    read_end, write_end = wide_pipe()
    try:
        running = commands.launch(plan, stdin=read_end)
        os.write(write_end, running.preamble)  # fits into any pipe
        return running, write_end
    except BaseException:
        close_fd(write_end)
        raise
    finally:
        close_fd(read_end)


def _feed(fd: int, write_end: int) -> None:
    """Copy a file into a pipe; a command that stops reading reports the reason itself."""
    try:
        if not spliced(fd, write_end):
            while data := os.read(fd, _CHUNK):
                view = memoryview(data)
                while view:
                    view = view[os.write(write_end, view) :]
    except BrokenPipeError:
        pass
    finally:
        close_fd(write_end)


def receive_file(
    commands: Commands,
    source: bytes,
    part: bytes,
    host: str,
    size: int,
    report: Callable[[int], object] | None = None,
) -> None:
    """Receive a file into the local file ``part`` (which exists), from ``cat``.

    ``size`` is the listed one; ``TransferError`` if far more arrives.
    """
    plan = commands.plan(b"exec cat < " + quote_path(source), prologue="")
    with open(part, "wb", opener=permissions.opener) as handle:
        read_end, write_end = wide_pipe()
        try:
            running = commands.launch(plan, stdout=write_end)
        except BaseException:
            close_fd(read_end)
            raise
        finally:
            close_fd(write_end)
        fd = handle.fileno()
        copier = Background(lambda: _copy(read_end, running, fd, limits.grown(size)))

        def arrived() -> int:
            return os.fstat(fd).st_size

        try:
            with ProgressWatcher(None if report is None else lambda: report(arrived())):
                remote_end(
                    running, commands, source, host, moved=arrived, whole=lambda: arrived() >= size
                )
        except OpenSSHJobsError:
            # A full local disk, and too many bytes, break the pipe of the command on the host.
            copier.join_for_oserror()
            if arrived() >= limits.grown(size):
                raise too_much(source, size, host) from None
            raise
        finally:
            copier.join_quietly()
        copier.join()


class Background:
    """A thread whose exception is raised where it is joined."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - raised again in join
            self._error = error

    @property
    def at_work(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def join_for_oserror(self) -> None:
        """Wait for the thread; raises its exception only if that is an ``OSError``."""
        self._thread.join()
        if isinstance(self._error, OSError):
            raise self._error

    def join_quietly(self) -> None:
        """Wait for the thread; raises nothing."""
        self._thread.join()

    def join(self) -> None:
        """Wait for the thread; raises its exception."""
        self._thread.join()
        if self._error is not None:
            raise self._error


def too_much(source: bytes, size: int, host: str) -> TransferError:
    """The error for a host that sends far more than it listed."""
    return TransferError(
        f"{to_text(source)!r} was listed with {size} bytes, and far more arrived: nothing was kept",
        host=host,
        sent="yes",
    )


def _copy(read_end: int, running: Running, to: int, most: int) -> None:
    """Copy the data after the mark, up to ``most`` bytes; closes the pipe then and on an error."""
    try:
        skip_to_mark(read_end, running)
        if spliced(read_end, to, most):
            return
        while most > 0 and (data := os.read(read_end, min(_CHUNK, most))):
            most -= len(data)
            view = memoryview(data)
            while view:
                view = view[os.write(to, view) :]
    finally:
        close_fd(read_end)


def spliced(read_end: int, to: int, most: int | None = None) -> bool:
    """Copy with splice(2) (Linux), ``most`` bytes or all; false if it is not supported here."""
    if not hasattr(os, "splice"):
        return False
    moved = 0
    while most is None or moved < most:
        try:
            count = os.splice(read_end, to, _CHUNK)
        except OSError as error:
            if moved == 0 and error.errno in (errno.EINVAL, errno.ENOSYS):
                return False
            raise
        if count == 0:
            return True
        moved += count
    return True


def wide_pipe() -> tuple[int, int]:
    """A pipe with a buffer of 1 MB, if the system allows it: fewer switches for the same bytes."""
    read_end, write_end = os.pipe()
    size = getattr(fcntl, "F_SETPIPE_SZ", None)
    if size is not None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(read_end, size, _CHUNK)
    return read_end, write_end


def skip_to_mark(read_end: int, running: Running) -> None:
    """Read, byte by byte, up to the line of the mark, which the command prints when it begins.

    Raises ``InvalidAnswer`` where none arrives in ``limits.CALL`` seconds, ``TransferError`` at
    the end of the stream.
    """
    seen = bytearray()
    marked = running.nonce + b"\n"
    poll = select.poll()
    poll.register(read_end, select.POLLIN)
    deadline = time.monotonic() + limits.CALL
    host, what = running.out_marks.host, running.plan.what
    while not seen.endswith(marked):
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise InvalidAnswer("the host's answer does not begin", host=host, command=what)
        byte = os.read(read_end, 1)
        if not byte:
            raise TransferError("the host's answer ended before it began", host=host)
        seen += byte
        if len(seen) > limits.NOISE:
            raise InvalidAnswer(
                f"more than {limits.NOISE} bytes came before the answer", host=host, command=what
            )
