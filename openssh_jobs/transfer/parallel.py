"""One large file as several ranges at once, for connections with a long round trip.

An SSH channel has a window of 2 MB, so one stream moves at most that in a round trip.  Each range
is a ``dd`` on the host with a separate channel; a second login would gain nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from .. import permissions
from ..commands import limits, scripts
from ..commands.child import STATUS_WAIT
from ..commands.os_errors import error_of
from ..commands.quoting import quote_path, to_text
from ..commands.stdio import Exchange, Movement, close_fd
from ..errors import TransferError
from ..files import private_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..commands.child import Plan, Running
    from ..commands.runner import Commands

SMALLEST = 8 << 20
"""Minimum size in bytes for which several ranges are worth their sessions."""
LONG = 0.015
"""Round trip time in seconds above which the window is the limit, not the cipher."""
BLOCK = 1 << 20
"""Bytes; every range begins at a multiple of it."""
_PIECE = 1 << 18
_LOOK = 1.0
"""Seconds between two checks whether the host reads its stdin."""


class Range(NamedTuple):
    """A part of a file: ``size`` bytes starting at block ``first``."""

    first: int
    size: int


def split(size: int, ranges: int = limits.STREAMS, begin: int = 0) -> list[Range]:
    """Split a file of ``size`` bytes into at most ``ranges`` ranges.

    ``begin``: the first block; those before it are left out.
    """
    blocks = -(-size // BLOCK) - begin
    found, first = [], begin
    for number in range(ranges):
        count = blocks // ranges + (number < blocks % ranges)
        if count:
            found.append(Range(first, min(count * BLOCK, size - first * BLOCK)))
            first += count
    return found


class RangeThreads:
    """One thread for each range of a file at ``path`` on the host; the first error ends all.

    ``done`` counts the bytes that have been moved.
    """

    def __init__(self, commands: Commands, path: bytes, host: str) -> None:
        self._commands = commands
        self._path = path
        self._host = host
        self._lock = threading.Lock()
        self._running: list[Running] = []
        self._error: BaseException | None = None
        self._movement = Movement()
        self.done = 0

    def run(
        self, work: Callable[[Range], None], ranges: list[Range], tick: Callable[[], object]
    ) -> None:
        """Do ``work`` for all ranges; raises the first error after all threads have ended."""
        threads = [threading.Thread(target=self._try, args=(work, piece)) for piece in ranges]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(0.1)
                tick()
        except BaseException as error:
            self._fail(error)
            for thread in threads:
                thread.join()
            raise
        if self._error is not None:
            raise self._error

    def _try(self, work: Callable[[Range], None], piece: Range) -> None:
        try:
            work(piece)
        except BaseException as error:  # noqa: BLE001 - raised again in run
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self._error is None:
                self._error = error
            running, self._running = self._running, []
        for command in running:
            command.end()

    @contextlib.contextmanager
    def command(self, plan: Plan, *, reads: bool) -> Iterator[tuple[Running, int]]:
        """Run the command of a range to its end, with a pipe of ours to its stdin (``reads``).

        Without ``reads`` the pipe comes from its stdout.
        """
        read_end, write_end = os.pipe()
        ours, theirs = (write_end, read_end) if reads else (read_end, write_end)
        try:
            try:
                launch = self._commands.launch
                running = launch(plan, stdin=theirs) if reads else launch(plan, stdout=theirs)
            finally:
                close_fd(theirs)
            try:
                self._started(running)
                yield running, ours
                if reads:  # the end of its input; what writes would fail without a reader
                    close_fd(ours)
                    ours = -1
                self._end(running)
            finally:
                running.close()
        finally:
            close_fd(ours)

    def _started(self, running: Running) -> None:
        """Add the command of a range, to be ended if another range fails."""
        with self._lock:
            failed = self._error is not None
            if not failed:
                self._running.append(running)
        if failed:
            running.end()

    def moved(self, count: int) -> None:
        """Count bytes that have been moved.  Raises if another range failed."""
        with self._lock:
            if self._error is not None:
                raise TransferError("another range of the file failed", host=self._host)
            self.done += count
            self._movement.add(count)
            if time.monotonic() - self._movement.at > limits.SILENCE:
                raise self._stalled()

    def wait(self, fd: int, event: int, reader: Running | None = None) -> bool:
        """Wait until bytes can move; ``TransferError`` after ``limits.SILENCE`` seconds.

        ``reader``: the command that has to read the head of its stdin first.
        """
        poll = select.poll()
        poll.register(fd, event)
        until = time.monotonic() + limits.SILENCE
        while not poll.poll(_LOOK * 1000 if reader is not None else limits.SILENCE * 1000):
            if reader is not None:
                reader.take_errors()
                if not reader.reads_input():
                    raise reader.refusal() or AssertionError("not reached")
            if time.monotonic() >= until:
                raise self._stalled()
        return True

    def _stalled(self) -> TransferError:
        return TransferError(
            f"nothing moved for {limits.SILENCE:.0f} s", host=self._host, sent="yes"
        )

    @staticmethod
    def has_ended(source: int, running: Running) -> bool:
        """After the last byte that is wanted: whether the command ended; else its stdout did."""
        poll = select.poll()
        poll.register(source, select.POLLIN)
        until = time.monotonic() + STATUS_WAIT
        while not poll.poll(50) and time.monotonic() < until:
            running.take_errors()
            if running.marked_status is not None:
                return True
        return False

    def _end(self, running: Running) -> None:
        """Wait for the command of a range; raises the error of the path where it failed."""
        exchange = Exchange(running, b"", most=limits.WORDS)
        if not exchange.run(time.monotonic() + limits.SILENCE):
            raise self._commands.sessions.lost(running.link, running.plan.what)
        if not running.await_end():
            raise self._commands.sessions.lost(running.link, running.plan.what)
        failed = running.refusal()
        if failed is not None:
            raise failed
        status = running.status()
        if status is None:
            raise self._commands.no_status(running)
        if status != 0:
            _, stderr = exchange.output()
            raise error_of(to_text(stderr), self._path, host=self._host)


def send(
    commands: Commands,
    source: bytes,
    part: bytes,
    size: int,
    host: str,
    tick: Callable[[int], object],
    *,
    ranges: int | None = None,
    begin: int = 0,
) -> None:
    """Send a local file of ``size`` bytes to ``part``, which exists, from block ``begin`` on."""
    threads = RangeThreads(commands, part, host)

    def work(piece: Range) -> None:
        # dd writes a short read as a short block, but `seek` counts whole blocks.
        script = private_directory.opening()
        script += b"oj_open %b write || exit; " % scripts.path(part)
        script += b"exec dd bs=%d seek=%d conv=notrunc >&9" % (BLOCK, piece.first)
        plan = commands.plan(script, prologue="", inert=True)
        with threads.command(plan, reads=True) as (running, pipe):
            os.write(pipe, running.preamble)  # fits into any pipe
            with open(source, "rb", buffering=0, opener=permissions.regular) as handle:
                _pump(handle.fileno(), piece, pipe, threads, running)

    pieces = split(size, ranges or commands.streams, begin)
    threads.run(work, pieces, lambda: tick(begin * BLOCK + threads.done))


def _pump(source: int, piece: Range, to: int, threads: RangeThreads, running: Running) -> None:
    at, left = piece.first * BLOCK, piece.size
    os.set_blocking(to, False)
    while left:
        data = os.pread(source, min(_PIECE, left), at)
        if not data:
            raise TransferError("the file became shorter while it was read")
        view = memoryview(data)
        while view:
            threads.wait(to, select.POLLOUT, running)
            try:
                view = view[os.write(to, view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return  # the command on the host has ended: its status says why
        threads.moved(len(data))
        at += len(data)
        left -= len(data)


def receive(
    commands: Commands,
    source: bytes,
    part: bytes,
    size: int,
    host: str,
    tick: Callable[[int], object],
    *,
    ranges: int | None = None,
    begin: int = 0,
) -> None:
    """Receive a file of ``size`` bytes into the local file ``part``, which exists."""
    from .streams import skip_to_mark

    threads = RangeThreads(commands, source, host)

    def work(piece: Range) -> None:
        script = b"exec dd if=%b bs=%d skip=%d count=%d" % (
            quote_path(source),
            BLOCK,
            piece.first,
            -(-piece.size // BLOCK),
        )
        plan = commands.plan(script, prologue="")
        with threads.command(plan, reads=False) as (running, pipe):
            skip_to_mark(pipe, running)
            with open(part, "r+b", buffering=0, opener=permissions.opener) as handle:
                _store(pipe, piece, handle.fileno(), threads, running)

    pieces = split(size, ranges or commands.streams, begin)
    threads.run(work, pieces, lambda: tick(begin * BLOCK + threads.done))


def _store(source: int, piece: Range, to: int, threads: RangeThreads, running: Running) -> None:
    at, left = piece.first * BLOCK, piece.size
    over = 0
    while left or not threads.has_ended(source, running):
        threads.wait(source, select.POLLIN)
        data = os.read(source, _PIECE)
        if not data:
            break
        over += max(0, len(data) - left)
        if over > BLOCK:
            # dd reads whole blocks, so up to one block more than asked for may arrive.
            raise TransferError("a range of the file does not end", sent="yes")
        data = data[:left]  # a file that grew meanwhile is cut to its size in the listing
        view, place = memoryview(data), at
        while view:
            count = os.pwrite(to, view, place)
            view, place = view[count:], place + count
        threads.moved(len(data))
        at += len(data)
        left -= len(data)
    if left:
        raise TransferError(f"a range of the file is {left} bytes short", sent="yes")
