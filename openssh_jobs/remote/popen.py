"""``RemoteProcess``: a command at work on the host, in the manner of ``subprocess.Popen``."""

from __future__ import annotations

import io
import os
import signal
import threading
from typing import IO, TYPE_CHECKING, Any

from ..errors import CommandTimeout, OpenSSHJobsError
from .exchange import close_fd
from .result import NO_STATUS

if TYPE_CHECKING:
    from .command import Commands, Running
    from .wrapper import Marks

_CHUNK = 65536
_FOREVER = 1e9


class _MarkedReader(io.RawIOBase):
    """The host's bytes without the marks of the wrapper."""

    def __init__(self, fd: int, marks: Marks, early: bytes) -> None:
        self._fd = fd
        self._marks = marks
        self._ready = bytearray(early)
        self._ended = False

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def _fill(self) -> None:
        data = os.read(self._fd, _CHUNK)
        if data:
            self._ready += self._marks.feed(data)
        else:
            self._ended = True
            self._ready += self._marks.rest()

    def readinto(self, buffer: Any) -> int:
        while not self._ready and not self._ended:
            self._fill()
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        del self._ready[:count]
        return count

    def drain(self) -> None:
        """Read to the end into memory: the wrapper's last mark is there."""
        while not self._ended:
            self._fill()

    def close(self) -> None:
        if not self.closed:
            close_fd(self._fd)
        super().close()


class RemoteProcess:
    """A running command: ``stdin``, ``stdout`` and ``stderr`` are files, ``args`` what was asked.

    As with ``subprocess``, reading one pipe while the other fills can block both: ``communicate``
    reads them together.  Leaving a ``with`` block closes the pipes and waits.
    """

    def __init__(
        self,
        commands: Commands,
        running: Running,
        args: Any,
        *,
        text: bool,
        encoding: str,
        errors: str,
        with_stderr: bool,
    ) -> None:
        self.args = args
        self.host = commands.host
        self.returncode: int | None = None
        self._commands = commands
        self._running = running
        self._text = (text, encoding, errors)
        self._lock = threading.RLock()
        self._ended_by: int | None = None
        self._err_raw = _MarkedReader(running.err, running.err_marks, running.early_err)
        out_raw = _MarkedReader(running.out, running.out_marks, b"")
        self.stdin: IO[Any] | None = None
        if running.inp >= 0:
            os.set_blocking(running.inp, True)
            raw = io.FileIO(running.inp, "wb")
            self.stdin = self._wrap_writer(raw)
        self.stdout: IO[Any] | None = self._wrap_reader(out_raw)
        self.stderr: IO[Any] | None = self._wrap_reader(self._err_raw) if with_stderr else None
        running.inp = running.out = running.err = -1

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
        return io.TextIOWrapper(
            buffered, encoding=encoding, errors=errors, newline="\n", write_through=True
        )

    # ------------------------------------------------------------------ waiting

    def poll(self) -> int | None:
        """The exit status if the command is over, else ``None``."""
        try:
            return self.wait(timeout=0)
        except CommandTimeout:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; ``CommandTimeout`` after ``timeout`` seconds (the command goes on).

        Raises ``ConnectionLost`` where the link died, ``CommandFailed`` where no status came.
        """
        with self._lock:
            if self.returncode is not None:
                return self.returncode
            if not self._running.session.wait(_FOREVER if timeout is None else timeout):
                what = self._running.plan.what
                raise CommandTimeout(
                    f"`{what}` was not over after {timeout or 0:g} s; it goes on",
                    host=self.host,
                    command=what,
                    timeout=timeout or 0,
                )
            if not self._err_raw.closed and self._running.status() is None:
                self._err_raw.drain()
            status = self._running.status()
            self._running.session.close()
            if self._running.slot is not None:
                self._running.slot.release()
            if status is None and self._ended_by is not None:
                # Our own signal took the waiting shell along with the command.
                status = 128 + self._ended_by
            if status is None:
                self.returncode = NO_STATUS
                raise self._commands.no_status(self._running.plan.what)
            self.returncode = status
            return status

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:
        """Send ``input``, read both streams to their ends and wait; returns (stdout, stderr)."""
        text = self._text[0]
        results: dict[str, Any] = {}

        def read(name: str, stream: IO[Any]) -> None:
            try:
                results[name] = stream.read()
            except ValueError:
                pass  # closed under us, after the timeout

        readers = [
            threading.Thread(target=read, args=(name, stream), daemon=True)
            for name, stream in (("out", self.stdout), ("err", self.stderr))
            if stream is not None
        ]
        for reader in readers:
            reader.start()
        if self.stdin is not None:
            try:
                if input:
                    self.stdin.write(input)
                self.stdin.close()
            except BrokenPipeError:
                pass
        self.wait(timeout)
        for reader in readers:
            reader.join()
        empty = "" if text else b""
        return results.get("out", empty), results.get("err", None if self.stderr is None else empty)

    # ------------------------------------------------------------------ ending

    def send_signal(self, name: str) -> bool:
        """Send a signal (``TERM``, ``USR1``…) to the remote process group; true if confirmed."""
        short = name.upper().removeprefix("SIG")
        number = getattr(signal, f"SIG{short}", None)
        if number is None:
            raise ValueError(f"{name!r} is no signal")
        if short in ("TERM", "KILL", "INT", "HUP"):
            self._ended_by = int(number)
        return self._running.signal(short)

    def terminate(self) -> bool:
        """TERM to the remote process group; true where that was confirmed."""
        return self.send_signal("TERM")

    def kill(self) -> bool:
        """KILL to the remote process group; true where that was confirmed."""
        return self.send_signal("KILL")

    def end(self) -> bool:
        """TERM, then KILL; true where no process of the group is left."""
        self._ended_by = int(signal.SIGTERM)
        return self._running.end()

    def close(self) -> None:
        """Close the pipes and let go of the session, without waiting and without a signal."""
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                try:
                    stream.close()
                except (BrokenPipeError, ValueError):
                    pass
        if not self._err_raw.closed:
            self._err_raw.close()
        self._running.close()

    def __enter__(self) -> RemoteProcess:
        return self

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        try:
            if kind is not None and self.returncode is None:
                self.end()
            if self.stdin is not None:
                try:
                    self.stdin.close()
                except BrokenPipeError:
                    pass
            if self.returncode is None:
                try:
                    self.wait(timeout=None if kind is None else 5)
                except OpenSSHJobsError:
                    if kind is None:
                        raise
        finally:
            self.close()

    def __repr__(self) -> str:
        return f"<RemoteProcess {self._running.plan.what!r} on {self.host}: {self.returncode}>"
