"""One large file as several ranges at once on one connection, for links with a long round trip.

An SSH channel has a window of 2 MB, so one stream moves at most that in a round trip.  Each range
is a ``dd`` on the host with a channel of its own; a login more would win nothing.
"""

from __future__ import annotations

import os
import select
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from .. import permissions
from ..commands import limits
from ..commands.os_errors import error_of
from ..commands.quoting import quote_path, to_text
from ..commands.stdio import Exchange, close_fd
from ..errors import TransferError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..commands.child import Running
    from ..commands.runner import Commands

LANES = 4
SMALLEST = 8 << 20
"""Bytes from which on it is worth the sessions."""
LONG = 0.015
"""Seconds of a round trip from which on the window is the limit, not the cipher."""
BLOCK = 1 << 20
_PIECE = 1 << 18


class Range(NamedTuple):
    """A part of a file: from block ``first`` on, ``size`` bytes."""

    first: int
    size: int


def split(size: int, lanes: int = LANES, begin: int = 0) -> list[Range]:
    """A file of ``size`` bytes in at most ``lanes`` ranges that begin at whole blocks.

    ``begin``: a number of blocks that are left out.
    """
    blocks = -(-size // BLOCK) - begin
    found, first = [], begin
    for lane in range(lanes):
        count = blocks // lanes + (lane < blocks % lanes)
        if count:
            found.append(Range(first, min(count * BLOCK, size - first * BLOCK)))
            first += count
    return found


class _Lanes:
    """Threads, one a range; the first error ends them all."""

    def __init__(self, commands: Commands, path: bytes, host: str) -> None:
        self._commands = commands
        self._path = path
        self._host = host
        self._lock = threading.Lock()
        self._running: list[Running] = []
        self._error: BaseException | None = None
        self.done = 0

    def run(
        self, work: Callable[[Range], None], ranges: list[Range], tick: Callable[[], object]
    ) -> None:
        """Do the work of all ranges; raises the first error after all threads have ended."""
        threads = [threading.Thread(target=self._one, args=(work, one)) for one in ranges]
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

    def _one(self, work: Callable[[Range], None], one: Range) -> None:
        try:
            work(one)
        except BaseException as error:  # noqa: BLE001 - raised again in run
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self._error is None:
                self._error = error
            running, self._running = self._running, []
        for one in running:
            one.end()

    def started(self, running: Running) -> None:
        """A range's command is at work."""
        with self._lock:
            failed = self._error is not None
            if not failed:
                self._running.append(running)
        if failed:
            running.end()

    def moved(self, count: int) -> None:
        """So many bytes more have gone through."""
        with self._lock:
            if self._error is not None:
                raise TransferError("another range of the file failed", host=self._host)
            self.done += count

    def wait(self, fd: int, event: int) -> bool:
        """Wait until bytes can move; an error where none do for ``limits.SILENCE``."""
        poll = select.poll()
        poll.register(fd, event)
        if not poll.poll(limits.SILENCE * 1000):
            raise TransferError(
                f"nothing moved for {limits.SILENCE:.0f} s", host=self._host, sent="yes"
            )
        return True

    def end(self, running: Running) -> None:
        """Wait for a range's command; the error of the path where it failed."""
        exchange = Exchange(running, b"", most=limits.WORDS)
        if not exchange.run(time.monotonic() + limits.SILENCE):
            raise self._commands.sessions.master.lost(running.link, running.plan.what)
        if not running.session.wait(15.0):
            raise self._commands.sessions.master.lost(running.link, running.plan.what)
        status = running.status()
        if status is None:
            raise self._commands.no_status(running)
        if status != 0:
            _, said = exchange.output()
            raise error_of(to_text(said), self._path, host=self._host)


def send(
    commands: Commands,
    source: bytes,
    part: bytes,
    size: int,
    host: str,
    tick: Callable[[int], object],
    *,
    lanes: int = LANES,
    begin: int = 0,
) -> None:
    """A local file of ``size`` bytes onto ``part`` on the host, from block ``begin`` on."""
    at_work = _Lanes(commands, part, host)

    def work(one: Range) -> None:
        # What comes short from the pipe is written short: the blocks of `seek` stay in place.
        script = b"umask 077; exec dd of=%b bs=%d seek=%d conv=notrunc" % (
            quote_path(part),
            BLOCK,
            one.first,
        )
        read_end, write_end = os.pipe()
        try:
            try:
                plan = commands.plan(script, prologue="", inert=True)
                running = commands.launch(plan, stdin=read_end)
            finally:
                close_fd(read_end)
            try:
                at_work.started(running)
                with open(source, "rb", buffering=0) as handle:
                    _pump(handle.fileno(), one, write_end, at_work)
                close_fd(write_end)
                write_end = -1
                at_work.end(running)
            finally:
                running.close()
        finally:
            close_fd(write_end)

    at_work.run(work, split(size, lanes, begin), lambda: tick(begin * BLOCK + at_work.done))


def _pump(source: int, one: Range, to: int, lanes: _Lanes) -> None:
    at, left = one.first * BLOCK, one.size
    os.set_blocking(to, False)
    while left:
        data = os.pread(source, min(_PIECE, left), at)
        if not data:
            raise TransferError("the file became shorter while it was read")
        view = memoryview(data)
        while view:
            lanes.wait(to, select.POLLOUT)
            try:
                view = view[os.write(to, view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return  # the command there has ended: its status says why
        lanes.moved(len(data))
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
    lanes: int = LANES,
    begin: int = 0,
) -> None:
    """A file of ``size`` bytes on the host into the local file ``part``, which exists."""
    from .streams import skip_to_mark

    at_work = _Lanes(commands, source, host)

    def work(one: Range) -> None:
        script = b"exec dd if=%b bs=%d skip=%d count=%d" % (
            quote_path(source),
            BLOCK,
            one.first,
            -(-one.size // BLOCK),
        )
        read_end, write_end = os.pipe()
        try:
            try:
                running = commands.launch(commands.plan(script, prologue=""), stdout=write_end)
            finally:
                close_fd(write_end)
            try:
                at_work.started(running)
                skip_to_mark(read_end, running)
                with open(part, "r+b", buffering=0, opener=permissions.opener) as handle:
                    _store(read_end, one, handle.fileno(), at_work)
                at_work.end(running)
            finally:
                running.close()
        finally:
            close_fd(read_end)

    at_work.run(work, split(size, lanes, begin), lambda: tick(begin * BLOCK + at_work.done))


def _store(source: int, one: Range, to: int, lanes: _Lanes) -> None:
    at, left = one.first * BLOCK, one.size
    over = 0
    while lanes.wait(source, select.POLLIN) and (data := os.read(source, _PIECE)):
        over += max(0, len(data) - left)
        if over > BLOCK:
            # dd was asked for whole blocks, and these are more.
            raise TransferError("a range of the file does not end", sent="yes")
        data = data[:left]  # a file that grew meanwhile is cut where it was
        view, place = memoryview(data), at
        while view:
            count = os.pwrite(to, view, place)
            view, place = view[count:], place + count
        lanes.moved(len(data))
        at += len(data)
        left -= len(data)
    if left:
        raise TransferError(f"a range of the file came {left} bytes short", sent="yes")
