"""Feeding and reading a command's three streams at once."""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from . import wrapper
    from .running import Running

_CHUNK = 65536


def close_fd(fd: int) -> None:
    """Close a descriptor; -1 and closed ones are no error."""
    if fd >= 0:
        with contextlib.suppress(OSError):
            os.close(fd)


class Exchange:
    """Feeds stdin and collects stdout and stderr at once, so that no side waits for the other."""

    def __init__(
        self,
        running: Running,
        data: bytes,
        on_stdout: Callable[[bytes], object] | None = None,
        on_stderr: Callable[[bytes], object] | None = None,
    ) -> None:
        self._running = running
        self._data = memoryview(running.preamble + data if running.preamble else data)
        self._at = running.sent_input
        self._out: list[bytes] = []
        self._err: list[bytes] = []
        self._on_out = on_stdout
        self._on_err = on_stderr
        if running.early_err:
            self._emit(running.early_err, self._err, on_stderr)
            running.early_err = b""

    @staticmethod
    def _emit(data: bytes, to: list[bytes], tell: Callable[[bytes], object] | None) -> None:
        if data:
            to.append(data)
            if tell is not None:
                tell(data)

    def output(self) -> tuple[bytes, bytes]:
        """What has come so far on stdout and stderr."""
        return b"".join(self._out), b"".join(self._err)

    def run(self, deadline: float | None) -> bool:
        """Until both streams end; false at the deadline (``time.monotonic``)."""
        running = self._running
        poll = select.poll()
        for fd in (running.out, running.err):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        if running.inp >= 0:
            poll.register(running.inp, select.POLLOUT)
        while running.out >= 0 or running.err >= 0:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            # In steps of a minute, so that a signal handler of the caller's gets its turn.
            for fd, _ in poll.poll(min(60.0, 60.0 if left is None else left) * 1000):
                if fd == running.inp:
                    self._write(poll)
                elif fd == running.out:
                    running.out = self._read(poll, fd, running.out_marks, self._out, self._on_out)
                elif fd == running.err:
                    running.err = self._read(poll, fd, running.err_marks, self._err, self._on_err)
        return True

    def _write(self, poll: select.poll) -> None:
        running = self._running
        try:
            self._at += os.write(running.inp, self._data[self._at : self._at + _CHUNK])
        except BlockingIOError:
            return
        except OSError:
            # The command reads no more (EPIPE); as with subprocess that is its own affair.
            self._at = len(self._data)
        if self._at >= len(self._data):
            poll.unregister(running.inp)
            close_fd(running.inp)
            running.inp = -1

    def _read(
        self,
        poll: select.poll,
        fd: int,
        marks: wrapper.Marks,
        to: list[bytes],
        tell: Callable[[bytes], object] | None,
    ) -> int:
        data = os.read(fd, _CHUNK)
        if data:
            self._emit(marks.feed(data), to, tell)
            return fd
        self._emit(marks.rest(), to, tell)
        poll.unregister(fd)
        close_fd(fd)
        return -1


def line_splitter(
    tell: Callable[[Any], object], text: bool, encoding: str, errors: str
) -> tuple[Callable[[bytes], object], Callable[[], object]]:
    """Two functions, for the next bytes and for the end, that call ``tell`` line by line."""
    decoder: Any = codecs.getincrementaldecoder(encoding)(errors) if text else None
    newline: Any = "\n" if text else b"\n"
    kept: list[Any] = []

    def feed(data: bytes) -> None:
        piece = decoder.decode(data) if text else data
        while piece:
            at = piece.find(newline)
            if at < 0:
                kept.append(piece)
                return
            tell((piece[:0]).join([*kept, piece[: at + 1]]))
            kept.clear()
            piece = piece[at + 1 :]

    def end() -> None:
        last = decoder.decode(b"", True) if text else b""
        if kept or last:
            tell(last[:0].join([*kept, last]))
            kept.clear()

    return feed, end
