"""Feeding and reading a command's three streams at once."""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import time
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import InvalidAnswer
from . import limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer

    from .marks import Marks

_CHUNK = 65536


def close_fd(fd: int) -> None:
    """Close a descriptor; -1 and a descriptor that is closed already are ignored."""
    if fd >= 0:
        with contextlib.suppress(OSError):
            os.close(fd)


class Movement:
    """When data last moved (``at``, of ``time.monotonic``); a trickle does not count."""

    def __init__(self) -> None:
        self.at = time.monotonic()
        self._count = 0

    def add(self, count: int) -> None:
        """Count bytes that have moved."""
        self._count += count
        if self._count >= limits.TRICKLE:
            self.at, self._count = time.monotonic(), 0


class Streams(Protocol):
    """The three streams of a command, as ``Running`` has them.

    ``inp``, ``out`` and ``err`` are this side's descriptors, -1 if closed or unused.
    ``preamble`` precedes the caller's bytes on stdin; ``sent_input`` bytes are written already.
    """

    what: str
    inp: int
    out: int
    err: int
    out_marks: Marks
    err_marks: Marks
    early_out: bytes
    early_err: bytes
    preamble: bytes
    sent_input: int
    read_by: float | None
    """Until when the host has to have read the head of its stdin; ``None`` if it has."""

    def reads_input(self) -> bool:
        """Whether the host has read that, or may still do so."""

    def is_left(self, *, own: bool) -> bool:
        """Whether the command has ended and nothing of it holds the streams, though they are open.

        ``own``: it is one that leaves nothing running.
        """

    def patience(self) -> float:
        """Seconds until these two have to be asked again."""

    def refusal(self) -> Exception | None:
        """Why the command was not run, if it was not."""


class _Stream:
    """The output of one stream: kept, passed to a function, or both."""

    def __init__(
        self,
        name: str,
        running: Streams,
        marks: Marks,
        on_data: Callable[[bytes], object] | None,
        *,
        keep: bool,
        most: int | None,
    ) -> None:
        self.marks = marks
        self.pieces: list[bytes] = []
        self._name = name
        self._running = running
        self._on_data = on_data
        self._keep = keep or on_data is None
        self._most = most
        self._length = 0

    def take(self, data: bytes) -> None:
        """Take the next bytes, without marks."""
        if not data:
            return
        self._length += len(data)
        if self._most is not None and self._length > self._most:
            raise InvalidAnswer(
                f"more than {self._most} bytes came on {self._name}",
                host=self._running.out_marks.host,
                command=self._running.what,
            )
        if self._keep:
            self.pieces.append(data)
        if self._on_data is not None:
            self._on_data(data)


class Exchange:
    """Feeds stdin and reads stdout and stderr concurrently, so that no side blocks the other.

    ``keep=False``: the output of a stream that has a function is not kept.  ``most``: maximum bytes
    of stdout before ``InvalidAnswer`` is raised; the limit of stderr is then ``limits.WORDS``, with
    ``own=False`` it is the same.
    """

    def __init__(
        self,
        running: Streams,
        data: bytes,
        on_stdout: Callable[[bytes], object] | None = None,
        on_stderr: Callable[[bytes], object] | None = None,
        *,
        keep: bool = True,
        most: int | None = None,
        own: bool = True,
    ) -> None:
        self._running = running
        self._own = own and most is not None
        self._data = memoryview(running.preamble + data if running.preamble else data)
        self._at = running.sent_input
        self._out = _Stream("stdout", running, running.out_marks, on_stdout, keep=keep, most=most)
        self._err = _Stream(
            "stderr",
            running,
            running.err_marks,
            on_stderr,
            keep=keep,
            most=limits.NOISE + limits.WORDS if self._own else most,
        )
        early, running.early_out = running.early_out, b""
        self._out.take(early)
        early, running.early_err = running.early_err, b""
        self._err.take(early)
        self._movement = Movement()

    @property
    def moved_at(self) -> float:
        """When data last moved."""
        return self._movement.at

    def output(self) -> tuple[bytes, bytes]:
        """The output so far on stdout and stderr."""
        return b"".join(self._out.pieces), b"".join(self._err.pieces)

    def run(self, deadline: float | None, *, silence: float | None = None) -> bool:
        """Run until no more can come; false at the deadline (``time.monotonic``).

        Raises ``CommandNotStarted`` if the host does not read the head of its stdin in time.

        ``silence``: also return false after so many seconds without data.
        """
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
            if silence is not None and time.monotonic() - self.moved_at > silence:
                return False
            if running.read_by is not None and not running.reads_input():
                raise running.refusal() or AssertionError("not reached")
            if running.is_left(own=self._own):
                self._out.take(running.out_marks.rest())
                self._err.take(running.err_marks.rest())
                return True
            # In steps of a minute, so that signal handlers of the caller can run.
            for fd, _ in poll.poll(min(running.patience(), 60.0 if left is None else left) * 1000):
                if fd == running.inp:
                    self._write(poll)
                elif fd == running.out:
                    running.out = self._read(poll, fd, self._out)
                elif fd == running.err:
                    running.err = self._read(poll, fd, self._err)
        return True

    def _write(self, poll: select.poll) -> None:
        running = self._running
        try:
            count = os.write(running.inp, self._data[self._at : self._at + _CHUNK])
            self._at += count
            self._movement.add(count)
        except BlockingIOError:
            return
        except OSError:
            # The command has closed its stdin (EPIPE); ignored, as subprocess does.
            self._at = len(self._data)
        if self._at >= len(self._data):
            poll.unregister(running.inp)
            close_fd(running.inp)
            running.inp = -1

    def _read(self, poll: select.poll, fd: int, stream: _Stream) -> int:
        data = os.read(fd, _CHUNK)
        self._movement.add(len(data))
        if data:
            stream.take(stream.marks.feed(data))
            return fd
        stream.take(stream.marks.rest())
        poll.unregister(fd)
        close_fd(fd)
        return -1


def input_bytes(data: str | ReadableBuffer | None, encoding: str, errors: str) -> bytes:
    """The ``input`` of ``run`` as the bytes that are sent."""
    if data is None:
        return b""
    # Not bytes(): bytes(5) is five zero bytes.
    return data.encode(encoding, errors) if isinstance(data, str) else memoryview(data).tobytes()


def line_feed(
    on_line: Callable[[Any], object] | None, text: bool, encoding: str, errors: str
) -> tuple[Callable[[bytes], object] | None, Callable[[], object]]:
    """Two functions, for the next bytes and for the end, that call ``on_line`` line by line.

    Without ``on_line`` nobody needs the bytes, and the first one is None.  A line of more than
    ``limits.LINE`` bytes is passed in pieces: it may never end.
    """
    if on_line is None:
        return None, lambda: None
    decoder: Any = codecs.getincrementaldecoder(encoding)(errors) if text else None
    newline: Any = "\n" if text else b"\n"
    kept: list[Any] = []
    length = 0

    def feed(data: bytes) -> None:
        nonlocal length
        piece = decoder.decode(data) if text else data
        while piece:
            at = piece.find(newline)
            if at < 0:
                kept.append(piece)
                length += len(piece)
                if length < limits.LINE:
                    return
                at = len(piece)
                on_line(piece[:0].join(kept))
            else:
                on_line((piece[:0]).join([*kept, piece[: at + 1]]))
            kept.clear()
            length = 0
            piece = piece[at + 1 :]

    def end() -> None:
        last = decoder.decode(b"", True) if text else b""
        if kept or last:
            on_line(last[:0].join([*kept, last]))
            kept.clear()

    return feed, end
