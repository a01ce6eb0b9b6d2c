"""What old code does with ``SSHClient._ssh`` and ``._sftp`` as paramiko's objects.

The calls that ARC and its users make are here under paramiko's names and types (bytes from
``read``, text from ``readline`` and ``readlines``); all of them ride the one connection.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

from ..errors import OpenSSHJobsError
from ..files.stat import FileStat
from ..host import Host

Progress = Callable[[int, int], object]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _bytes(data: str | bytes) -> bytes:
    return data.encode("utf-8", "surrogateescape") if isinstance(data, str) else bytes(data)


class _File:
    """Reading and the end of a ``with`` block, as paramiko's ``BufferedFile`` has them."""

    def __init__(self, *, binary: bool = False) -> None:
        self._binary = binary

    def _reader(self) -> io.BytesIO:
        raise NotImplementedError

    def _line(self, data: bytes) -> Any:
        return data if self._binary else _text(data)

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes, all by default."""
        return self._reader().read(size)

    def readline(self, size: int = -1) -> Any:
        """The next line with its newline: text, or bytes where the mode has a ``b``."""
        return self._line(self._reader().readline(size))

    def readlines(self, sizehint: int = -1) -> list[Any]:
        """The rest, as lines."""
        return [self._line(line) for line in self._reader().readlines(sizehint)]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.readlines())

    def close(self) -> None:
        """Let go."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()


# --------------------------------------------------------------------------- commands


class _Channel:
    """A command on the host; its output is read by a thread, so that its session ends with it."""

    def __init__(self, connection: Host, command: str, timeout: float | None, env: Any):
        self._timeout = timeout
        self._process = connection.popen(command, text=False, env=env)
        self._output: dict[str, io.BytesIO] = {}
        self._error: OpenSSHJobsError | None = None
        self._threads = [
            threading.Thread(target=self._collect, args=(name,), daemon=True)
            for name in ("stdout", "stderr")
        ]
        self._waiter = threading.Thread(target=self._wait, daemon=True)
        for thread in [*self._threads, self._waiter]:
            thread.start()

    def _collect(self, name: str) -> None:
        data = b""
        try:
            data = getattr(self._process, name).read()
        except (OSError, ValueError) as error:
            self._error = OpenSSHJobsError(f"the output was not read: {error}")
        self._output[name] = io.BytesIO(data)

    def _wait(self) -> None:
        for thread in self._threads:
            thread.join()
        try:
            self._process.wait()
        except OpenSSHJobsError as error:
            self._error = error
        finally:
            self._process.close()

    def ended(self) -> _Channel:
        """Wait for the end of the command; raises what went wrong, ``TimeoutError`` if it lasts."""
        self._waiter.join(self._timeout)
        if self._waiter.is_alive():
            raise TimeoutError(f"the command has not ended within {self._timeout} seconds")
        if self._error is not None:
            raise self._error
        return self

    def output(self, name: str) -> io.BytesIO:
        """What the command printed, once it has ended."""
        return self.ended()._output[name]

    def write(self, data: bytes) -> None:
        """Send to the command's stdin."""
        if self._process.stdin is not None:
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def shutdown_write(self) -> None:
        """Tell the command that its input is over."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def exit_status_ready(self) -> bool:
        """Whether the command has ended."""
        return not self._waiter.is_alive()

    def recv_exit_status(self) -> int:
        """Wait for the end of the command; its exit status."""
        return int(self.ended()._process.returncode or 0)

    def close(self) -> None:
        """End the command where it still runs."""
        if not self.exit_status_ready():
            self._process.terminate()


class _Output(_File):
    def __init__(self, channel: _Channel, name: str) -> None:
        super().__init__()
        self.channel = channel
        self._name = name

    def _reader(self) -> io.BytesIO:
        return self.channel.output(self._name)


class _Input(_File):
    def __init__(self, channel: _Channel) -> None:
        super().__init__()
        self.channel = channel

    def write(self, data: str | bytes) -> None:
        """Send text or bytes to the command."""
        self.channel.write(_bytes(data))

    def flush(self) -> None:
        """Do nothing: what is written was sent."""

    def close(self) -> None:
        """Tell the command that its input is over."""
        self.channel.shutdown_write()


class TransportAdapter:
    """The link as paramiko's ``Transport`` shows it."""

    def __init__(self, connection: Host) -> None:
        self._connection = connection

    def is_active(self) -> bool:
        """Whether the host answers now; one bounded round trip, never a login."""
        return bool(self._connection.check())

    def set_keepalive(self, interval: int) -> None:
        """Do nothing: the master keeps itself alive as the ssh configuration says."""


class SSHAdapter:
    """The calls of ``paramiko.SSHClient`` that concern a connection that is open."""

    def __init__(self, connection: Host) -> None:
        self._connection = connection

    def exec_command(
        self,
        command: str,
        bufsize: int = -1,
        timeout: float | None = None,
        get_pty: bool = False,
        environment: dict[str, str] | None = None,
    ) -> tuple[_Input, _Output, _Output]:
        """Start shell text on the host: its stdin, stdout and stderr.

        Output can be read when the command has ended; ``timeout`` limits that wait.  There is no
        terminal: ``get_pty=True`` is a ``ValueError``.
        """
        if get_pty:
            raise ValueError("exec_command here has no terminal to give: get_pty=True")
        channel = _Channel(self._connection, command, timeout, environment)
        return _Input(channel), _Output(channel, "stdout"), _Output(channel, "stderr")

    def open_sftp(self) -> SFTPAdapter:
        """The file calls, over the same connection."""
        return SFTPAdapter(self._connection)

    def get_transport(self) -> TransportAdapter:
        """The link."""
        return TransportAdapter(self._connection)

    def close(self) -> None:
        """Do nothing: the connection is shared with other clients of this server."""


# --------------------------------------------------------------------------- files


class RemoteFile(_File):
    """A remote file that is open; what was written arrives at ``close``, whole or not at all.

    A ``with`` block that an error leaves writes nothing.
    """

    def __init__(self, connection: Host, path: str, mode: str) -> None:
        kind = mode.replace("b", "").replace("t", "").replace("U", "")
        if kind not in ("r", "w", "a", "x"):
            raise ValueError(f"the mode of a remote file must be r, w, a or x, not {mode!r}")
        super().__init__(binary="b" in mode)
        self._connection = connection
        self._path = path
        self._writes = kind != "r"
        self._closed = False
        before = b""
        if kind == "r" or (kind == "a" and connection.exists(path)):
            before = connection.read_bytes(path)
        elif kind == "x" and connection.exists(path):
            raise FileExistsError(path)
        self._content = io.BytesIO(before)
        if kind == "a":
            self._content.seek(0, io.SEEK_END)

    def _reader(self) -> io.BytesIO:
        if self._writes:
            raise OSError(f"{self._path} is not open for reading")
        return self._content

    def write(self, data: str | bytes) -> None:
        """Append text or bytes to what ``close`` will write."""
        if not self._writes:
            raise OSError(f"{self._path} is not open for writing")
        self._content.write(_bytes(data))

    def writelines(self, lines: Iterable[str | bytes]) -> None:
        """Write each of them."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Do nothing: the file appears at ``close``."""

    def close(self) -> None:
        """Write what was given."""
        if self._writes and not self._closed:
            self._connection.write_bytes(self._path, self._content.getvalue())
        self._closed = True

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._closed = True
        self.close()


class SFTPAdapter:
    """The calls of ``paramiko.SFTPClient``.  Relative paths begin at the home directory."""

    def __init__(self, connection: Host) -> None:
        self._connection = connection
        self.stat = connection.stat
        self.lstat = connection.lstat
        self.mkdir = connection.mkdir
        self.rmdir = connection.rmdir
        self.remove = self.unlink = connection.remove
        self.rename = connection.rename
        self.posix_rename = connection.replace
        self.chmod = connection.chmod
        self.listdir = connection.listdir
        self.normalize = connection.realpath
        self.readlink = connection.readlink

    def open(self, filename: str, mode: str = "r", bufsize: int = -1) -> RemoteFile:
        """A remote file, for reading (``r``) or writing (``w``, ``a``, ``x``)."""
        return RemoteFile(self._connection, filename, mode)

    file = open

    def put(
        self, localpath: str, remotepath: str, callback: Progress | None = None,
        confirm: bool = True,
    ) -> FileStat:  # fmt: skip
        """Copy a local file to the host; the facts of the remote file."""
        self._connection.put(localpath, remotepath, **_reporting(callback))
        return self._connection.stat(remotepath)

    def get(
        self, remotepath: str, localpath: str, callback: Progress | None = None,
        prefetch: bool = True, max_concurrent_prefetch_requests: int | None = None,
    ) -> None:  # fmt: skip
        """Copy a remote file here."""
        self._connection.get(remotepath, localpath, **_reporting(callback))

    def close(self) -> None:
        """Do nothing: the connection is shared with other clients of this server."""


def _reporting(callback: Progress | None) -> dict[str, Any]:
    if callback is None:
        return {}

    def tell(done: int, total: int, *_: object) -> None:
        callback(done, total)

    return {"progress": tell}
