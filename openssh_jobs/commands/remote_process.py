"""``RemoteProcess``: a running command on the host, similar to ``subprocess.Popen``."""

from __future__ import annotations

import io
import math
import os
import select
import signal
import threading
import time
from typing import IO, TYPE_CHECKING, Any, AnyStr, Generic, Self

from ..errors import CommandTimeout, OpenSSHJobsError
from ..openssh.locks import CallLock
from .child import STATUS_WAIT
from .marks import END, STATUS
from .result import NO_STATUS
from .stdio import close_fd

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from .child import Running
    from .marks import Marks
    from .options import Command
    from .runner import Commands

_CHUNK = 65536
_FOREVER = 1e9
_CLOSING = 5.0
_LOOK = 0.5
"""Seconds between two looks whether the command has ended."""
_ENOUGH = 1 << 20


class _MarkedReader(io.RawIOBase):
    """The host's bytes without the marks of the wrapper."""

    def __init__(
        self, fd: int, marks: Marks, early: bytes, running: Running, errors: _MarkedReader | None
    ) -> None:
        self._running = running
        self._errors = errors
        self._fd = fd
        self._marks = marks
        self._ready = bytearray(early)
        self._ended = False
        # One thread may read while another one waits for the status.
        self._lock = threading.Lock()

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def _is_readable(self, timeout: float | None) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(timeout))

    def _fill(self) -> None:
        # Wait without the lock, so that a status that has arrived can be read meanwhile.
        is_readable = self._is_readable(self.patience() * 1000)
        # What an rc file left may write behind the last mark, and never pause.
        is_past = any(self._marks.value(word) is not None for word in (END, STATUS))
        is_over = (is_past or not is_readable) and self._is_over()
        with self._lock:
            if not self._ended and self._is_readable(0):
                self._read()
                is_over = is_over and is_past
            if is_over and not self._ended:
                self._ended = True
                self._ready += self._marks.rest()

    def _read(self) -> None:
        data = os.read(self._fd, _CHUNK)
        if data:
            self._ready += self._marks.feed(data)
        else:
            self._ended = True
            self._ready += self._marks.rest()

    def readinto(self, buffer: WriteableBuffer) -> int:
        while not self._ready and not self._ended:
            self._fill()
        with self._lock:
            view = memoryview(buffer).cast("B")
            count = min(len(view), len(self._ready))
            view[:count] = self._ready[:count]
            del self._ready[:count]
        return count

    def patience(self) -> float:
        """Seconds until the next look whether the command reads the head of its stdin, or ended."""
        running, errors = self._running, self._errors or self
        if running.read_by is not None and running.read_by <= time.monotonic():
            errors.take_arrived()
            if not running.reads_input():
                running.end()
        return min(_LOOK, running.patience())

    def _is_over(self) -> bool:
        """Whether nothing more can come, though something there holds the stream."""
        (self._errors or self).take_arrived(_ENOUGH)
        return self._running.is_left()

    def has_begun(self, timeout: float) -> bool:
        """Whether the command's mark has come; true, too, if the reader was closed before it did.

        Waits ``timeout`` seconds for it: an exit status can overtake the last bytes.
        """
        deadline = time.monotonic() + timeout
        while self._marks.holds and not self.closed:
            with self._lock:
                left = max(0.0, deadline - time.monotonic())
                if self._ended or not self._is_readable(left * 1000):
                    return False
                self._read()
        return True

    def take_arrived(self, most: float = math.inf) -> None:
        """Read what has arrived: all bytes up to the session's end, the last mark included.

        ``most``: no more once so many bytes are not asked for.
        """
        with self._lock:
            while not (self._ended or self.closed or len(self._ready) > most):
                if not self._is_readable(0):
                    return
                self._read()

    def drain(self, *, keep: bool = True) -> None:
        """Read to the end, up to the wrapper's last mark."""
        while not self._ended and not self.closed:
            self._fill()
            if not keep:
                self._ready.clear()

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        close_fd(fd)
        super().close()


class RemoteProcess(Generic[AnyStr]):
    """A running command: ``stdin``, ``stdout`` and ``stderr`` are files, ``args`` the command.

    As with ``subprocess``, reading one pipe while the other fills can block both: ``communicate``
    reads them together.  Leaving a ``with`` block closes the pipes and waits.
    """

    def __init__(
        self,
        commands: Commands,
        running: Running,
        args: Command,
        *,
        text: bool,
        encoding: str,
        errors: str,
        with_stderr: bool,
    ) -> None:
        self.args: Command = args
        self.host: str = commands.host
        self.returncode: int | None = None
        self._commands: Commands = commands
        self._text: tuple[bool, str, str] = (text, encoding, errors)
        self._lock: CallLock = CallLock("a wait for a command", self.host)
        self._ended_by: int | None = None
        self._helpers: list[threading.Thread] = []
        self._results: dict[str, AnyStr] = {}
        self._err_raw = _MarkedReader(
            running.err, running.err_marks, running.early_err, running, None
        )
        self._out_raw = _MarkedReader(
            running.out, running.out_marks, running.early_out, running, self._err_raw
        )
        self._in_raw: io.FileIO | None = None
        self.stdin: IO[AnyStr] | None = None
        if running.inp >= 0:
            os.set_blocking(running.inp, True)
            self._in_raw = io.FileIO(running.inp, "wb")
            self.stdin = self._wrap_writer(self._in_raw)
        self.stdout: IO[AnyStr] | None = self._wrap_reader(self._out_raw)
        self.stderr: IO[AnyStr] | None = self._wrap_reader(self._err_raw) if with_stderr else None
        # From here on this object owns the pipes; after an earlier interruption the caller does.
        self._running = running
        running.inp = running.out = running.err = -1
        commands.took_over(self, running)

    def _wrap_reader(self, raw: _MarkedReader) -> IO[Any]:
        buffered = io.BufferedReader(raw)
        text, encoding, errors = self._text
        if not text:
            return buffered
        return io.TextIOWrapper(buffered, encoding=encoding, errors=errors, newline="\n")

    def _wrap_writer(self, raw: io.FileIO) -> IO[Any]:
        text, encoding, errors = self._text
        buffered = io.BufferedWriter(raw)
        if not text:
            return buffered
        # Line buffering: an interactive dialogue needs no flush().
        return io.TextIOWrapper(
            buffered, encoding=encoding, errors=errors, newline="\n", line_buffering=True
        )

    # ------------------------------------------------------------------ waiting

    def poll(self) -> int | None:
        """The exit status if the command is over, else ``None``; never blocks."""
        if self._lock.is_mine or not self._lock.acquire(blocking=False):
            return self.returncode  # another thread waits for it
        try:
            return self._wait(0)
        except CommandTimeout:
            return None
        finally:
            self._lock.release()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; ``CommandTimeout`` after ``timeout`` seconds (the command goes on).

        Raises ``ConnectionLost`` if the link was lost, ``CommandFailed`` if no status arrived, and
        the ``OSError`` of ``cwd``.
        """
        if not self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            raise self._not_over(timeout)
        try:
            return self._wait(timeout)
        finally:
            self._lock.release()

    def _wait(self, timeout: float | None) -> int:
        if self.returncode is None:
            until = time.monotonic() + (_FOREVER if timeout is None else timeout)
            while not self._running.session.wait(self._step(until)):
                self._err_raw.take_arrived(_ENOUGH)
                if self._running.marked_status is not None:
                    # What was left running keeps the streams; that is no part of the command.
                    self._running.session.wait(max(0.0, min(_LOOK, until - time.monotonic())))
                    break
                if time.monotonic() >= until:
                    raise self._not_over(timeout)
            self._finish()
        assert self.returncode is not None
        return self.returncode

    def _step(self, until: float) -> float:
        return max(0.0, min(until - time.monotonic(), self._err_raw.patience()))

    def _not_over(self, timeout: float | None) -> CommandTimeout:
        what = self._running.plan.what
        return CommandTimeout(
            f"`{what}` was not over after {timeout or 0:g} s; it goes on",
            host=self.host,
            command=what,
            timeout=timeout or 0,
        )

    def _finish(self) -> None:
        """Determine the exit status after the session has ended."""
        running = self._running
        # Do not read to the end: without ssh a background process may keep the stream open.
        self._err_raw.take_arrived()
        status = running.status()
        if running.is_over:
            running.session.close()
            if running.slot is not None:
                running.slot.release()
        if status is None and self._ended_by is not None:
            # Our own signal ended the waiting shell together with the command.
            status = 128 + self._ended_by
        self.returncode = NO_STATUS if status is None else status
        failed = running.refusal()
        if failed is not None:
            raise failed
        if status is None:
            raise self._commands.no_status(running)
        if self._ended_by is None and not self._out_raw.has_begun(STATUS_WAIT):
            raise self._commands.no_output(running, status)

    def communicate(
        self, input: AnyStr | None = None, timeout: float | None = None
    ) -> tuple[AnyStr, AnyStr | None]:
        """Send ``input``, read both streams to their ends and wait; returns (stdout, stderr).

        ``stderr`` is ``None`` where it is no pipe of its own.
        After a ``CommandTimeout`` nothing is lost: call it again, without ``input``.
        """
        deadline = time.monotonic() + (_FOREVER if timeout is None else timeout)
        if not self._helpers:
            self._start_helpers(input)
        for helper in self._helpers:
            helper.join(max(0.0, min(deadline - time.monotonic(), threading.TIMEOUT_MAX)))
            if helper.is_alive():
                raise self._not_over(timeout)
        self.wait(None if timeout is None else max(0.0, deadline - time.monotonic()))
        empty: Any = "" if self._text[0] else b""
        err = self._results.get("err", empty) if self.stderr is not None else None
        return self._results.get("out", empty), err

    def _start_helpers(self, input: AnyStr | None) -> None:
        def read(name: str, stream: IO[AnyStr]) -> None:
            try:
                self._results[name] = stream.read()
            except (OSError, ValueError):
                pass  # closed under us, after a timeout

        def write(stream: IO[AnyStr]) -> None:
            try:
                if input:
                    stream.write(input)
                stream.close()
            except (OSError, ValueError):
                pass  # as with subprocess: a command need not read what it is given

        for name, stream in (("out", self.stdout), ("err", self.stderr)):
            if stream is not None:
                self._helpers.append(threading.Thread(target=read, args=(name, stream)))
        if self.stdin is not None and not self.stdin.closed:
            self._helpers.append(threading.Thread(target=write, args=(self.stdin,)))
        for helper in self._helpers:
            helper.daemon = True
            helper.start()

    # ------------------------------------------------------------------ ending

    def send_signal(self, name: str) -> bool:
        """Send a signal (``TERM``, ``USR1``…) to the remote process group; true if confirmed."""
        short = name.upper().removeprefix("SIG")
        number = getattr(signal, f"SIG{short}", None)
        if number is None:
            raise ValueError(f"{name!r} is not the name of a signal")
        if short in ("TERM", "KILL", "INT", "HUP"):
            self._ended_by = int(number)
        return self._running.signal(short)

    def terminate(self) -> bool:
        """Send TERM to the remote process group; true if the host confirmed it."""
        return self.send_signal("TERM")

    def kill(self) -> bool:
        """Send KILL to the remote process group; true if the host confirmed it."""
        return self.send_signal("KILL")

    def end(self) -> bool:
        """Send TERM, then KILL; true if no process of the group is left."""
        self._ended_by = int(signal.SIGTERM)
        return self._running.end()

    def close(self) -> None:
        """Close the pipes and release the session, without waiting and without a signal.

        A command that has not begun to read its stdin gets its start limit for that, and is ended.
        """
        self._end_unread()
        self._close_quietly(self.stdin)
        # Close the session first: that ends the stream for a thread that is reading it, so that
        # no descriptor is closed while it is being read.
        self._running.close()
        for helper in self._helpers:
            if helper is not threading.current_thread():
                helper.join(_CLOSING)
        for stream in (self.stdout, self.stderr, self._out_raw, self._err_raw):
            self._close_quietly(stream)

    def _end_unread(self) -> None:
        running = self._running
        while running.read_by is not None and not running.is_over and not self._err_raw.closed:
            self._err_raw.take_arrived()
            if running.reads_input():
                running.session.wait(0.02)
            else:
                running.end()

    @staticmethod
    def _close_quietly(stream: IO[str] | IO[bytes] | io.RawIOBase | None) -> None:
        if stream is not None:
            try:
                stream.close()
            except (OSError, ValueError):
                pass

    def abandon(self) -> None:
        """In a forked child: close our copies of the pipes; what is buffered stays the parent's."""
        for raw in (self._in_raw, self._out_raw, self._err_raw):
            if raw is not None:
                raw.close()
        self._running.abandon()
        # In the child a lock that another thread held would never be released.
        self._lock = CallLock("a wait for a command", self.host)

    def __del__(self) -> None:
        if getattr(self, "_running", None) is not None:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None and self.returncode is None:
                self.end()
            for stream in (self.stdin, self.stdout):
                if stream is not None:
                    try:
                        stream.close()
                    except BrokenPipeError:
                        pass
            if self.returncode is None:
                self._wait_at_exit(failed=kind is not None)
        finally:
            self.close()

    def _wait_at_exit(self, *, failed: bool) -> None:
        # The user reads no more of stderr, but its end holds the status (backend "process").
        drain = threading.Thread(target=self._err_raw.drain, kwargs={"keep": False}, daemon=True)
        drain.start()
        self._helpers.append(drain)
        try:
            self.wait(timeout=5 if failed else None)
        except OpenSSHJobsError:
            if not failed:
                raise

    def __repr__(self) -> str:
        return f"<RemoteProcess {self._running.plan.what!r} on {self.host}: {self.returncode}>"
