"""The client side of a ControlMaster's multiplexing protocol (PROTOCOL.mux, version 4).

A session that is requested here never logs in: without a master there is an error.  The three
streams are passed as file descriptors, so their bytes do not go through Python.  Proxy mode
(MUX_C_PROXY) is not used: in OpenSSH 9.2 closing the socket at a bad moment ends the master and
all of its sessions.
"""

from __future__ import annotations

import array
import errno
import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..errors import Sent

VERSION = 4
MAX_REQUEST_BYTES = 256 * 1024 - 1024
"""Measured: the master closes a control connection with a packet of more than 256 KiB."""

_HELLO = 0x00000001
_NEW_SESSION = 0x10000002
_ALIVE_CHECK = 0x10000004
_TERMINATE = 0x10000005
_OPEN_FORWARD = 0x10000006
_CLOSE_FORWARD = 0x10000007
_STOP_LISTENING = 0x10000009
_OK = 0x80000001
_PERMISSION_DENIED = 0x80000002
_FAILURE = 0x80000003
_EXIT_MESSAGE = 0x80000004
_ALIVE = 0x80000005
_SESSION_OPENED = 0x80000006
_REMOTE_PORT = 0x80000007

FORWARD_LOCAL = 1
FORWARD_REMOTE = 2


@dataclass(frozen=True, slots=True)
class Link:
    """A live master: the path of its socket, its pid, and whether this package may end it."""

    path: str
    pid: int
    ours: bool


class MuxError(Exception):
    """The request failed.  ``sent``: whether the command may have reached the host."""

    def __init__(self, message: str, *, sent: Sent = "no") -> None:
        super().__init__(message)
        self.sent: Sent = sent


class NoMaster(MuxError):
    """There is no socket (ENOENT) or no process listens on it (ECONNREFUSED, stale)."""

    def __init__(self, message: str, *, stale: bool = False) -> None:
        super().__init__(message)
        self.stale = stale


class MuxTimeout(MuxError):
    """The master did not answer in time (stopped, or its connection hangs)."""


class MuxLost(MuxError):
    """The master closed the control connection during the request."""


class MuxVersion(MuxError):
    """The master uses another version of the protocol, or it is no master."""


class MuxSessionRefused(MuxError):
    """The server would not open another session (MaxSessions); nothing was run."""


class MuxRefused(MuxError):
    """The master refused a request, with its reason."""


class Packet(NamedTuple):
    """One message of the master: its type and what follows."""

    kind: int
    body: bytes


class PacketReader:
    """Reads the fields of a message; raises ``MuxVersion`` for one that is too short."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def uint32(self) -> int:
        """The next four bytes as a big-endian number."""
        if self._at + 4 > len(self._body):
            raise MuxVersion("the master's message is cut short", sent="maybe")
        (value,) = struct.unpack_from(">I", self._body, self._at)
        self._at += 4
        return int(value)

    def string(self) -> bytes:
        """The next string, which follows its length."""
        length = self.uint32()
        if self._at + length > len(self._body):
            raise MuxVersion("the master's message is cut short", sent="maybe")
        value = self._body[self._at : self._at + length]
        self._at += length
        return value


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _packet(kind: int, body: bytes) -> bytes:
    return struct.pack(">II", len(body) + 4, kind) + body


class MuxConnection:
    """One control connection to a master: HELLO, then one request, then its answers.

    Deadlines are in seconds of ``time.monotonic``.
    """

    def __init__(self, path: str, *, deadline: float) -> None:
        self._buffer = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect(path, deadline)
        except BaseException:
            self._socket.close()
            raise

    def _connect(self, path: str, deadline: float) -> None:
        while True:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                self._socket.connect(path)
                break
            except TimeoutError:
                raise MuxTimeout(f"the master behind {path} does not accept connections") from None
            except (FileNotFoundError, NotADirectoryError):
                raise NoMaster(f"there is no socket {path}") from None
            except ConnectionRefusedError:
                raise NoMaster(f"no process listens on {path}", stale=True) from None
            except OSError as error:
                # With a full backlog a Unix socket gives EAGAIN at once instead of waiting.
                if error.errno != errno.EAGAIN:
                    raise NoMaster(f"{path}: {error.strerror or error}") from None
                if time.monotonic() >= deadline:
                    raise MuxTimeout(
                        f"the master behind {path} does not accept connections"
                    ) from None
                time.sleep(0.005)
        self._socket.settimeout(None)

    def greet(self, deadline: float) -> None:
        """Exchange HELLO; ``MuxVersion`` for any version but 4."""
        self.send(_packet(_HELLO, struct.pack(">I", VERSION)), deadline)
        self.read_greeting(deadline)

    def read_greeting(self, deadline: float) -> None:
        """Read the master's HELLO."""
        kind, body = self.read(deadline, sent="no")
        if kind != _HELLO:
            raise MuxVersion("the listener on the socket is not an ssh master")
        version = PacketReader(body).uint32()
        if version != VERSION:
            raise MuxVersion(f"the master uses version {version} of the protocol, not {VERSION}")

    def send(self, data: bytes, deadline: float) -> None:
        """Send bytes to the master."""
        self._socket.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise MuxTimeout("the master does not read its socket") from None
        except OSError as error:
            raise MuxLost(f"the master closed its socket: {error.strerror}") from None

    def send_fd(self, fd: int, deadline: float) -> None:
        """Pass a descriptor with one byte, as monitor_fdpass.c reads it."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        self._socket.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            self._socket.sendmsg([b"\0"], rights)
        except TimeoutError:
            raise MuxTimeout("the master does not read its socket") from None
        except OSError as error:
            raise MuxLost(f"the master closed its socket: {error.strerror}") from None

    def read(self, deadline: float, *, sent: Sent = "maybe") -> Packet:
        """The next message; ``MuxTimeout`` at the deadline, ``MuxLost`` if the socket is closed."""
        while True:
            if len(self._buffer) >= 4:
                (length,) = struct.unpack_from(">I", self._buffer)
                if not 4 <= length <= 1 << 20:
                    raise MuxVersion("the listener on the socket is not an ssh master", sent=sent)
                if len(self._buffer) >= 4 + length:
                    (kind,) = struct.unpack_from(">I", self._buffer, 4)
                    body = self._buffer[8 : 4 + length]
                    self._buffer = self._buffer[4 + length :]
                    return Packet(kind, body)
            if not self.readable(deadline):
                raise MuxTimeout("the master does not answer", sent=sent)
            try:
                data = self._socket.recv(65536)
            except OSError:
                data = b""
            if not data:
                raise MuxLost("the master closed the control connection", sent=sent)
            self._buffer += data

    def readable(self, deadline: float) -> bool:
        """Wait until there is data or the end to read; false at the deadline."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            # In steps: poll(2) takes some weeks at most, and a deadline may be infinite.
            if poll.poll(min(max(0.0, left), 3600.0) * 1000):
                return True
            if left <= 3600.0:
                return False

    def wait_closed(self, deadline: float) -> bool:
        """Wait until the master closes the connection; false at the deadline."""
        while self.readable(deadline):
            try:
                if not self._socket.recv(65536):
                    return True
            except OSError:
                return True
        return False

    def fileno(self) -> int:
        """The socket's descriptor, for a selector."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the control connection; the master then closes its session, if it has one."""
        self._socket.close()


def _request(path: str, kind: int, body: bytes, *, timeout: float) -> Packet:
    deadline = time.monotonic() + timeout
    connection = MuxConnection(path, deadline=deadline)
    try:
        connection.greet(deadline)
        connection.send(_packet(kind, body), deadline)
        return connection.read(deadline)
    finally:
        connection.close()


def _reason(packet: Packet) -> str:
    reader = PacketReader(packet.body)
    reader.uint32()
    return reader.string().decode("utf-8", "replace")


def alive(path: str, *, timeout: float) -> int:
    """The pid of the master of a socket.  Does not check its connection to the host."""
    packet = _request(path, _ALIVE_CHECK, struct.pack(">I", 0), timeout=timeout)
    if packet.kind != _ALIVE:
        raise MuxVersion(f"the master answered an alive check with message {packet.kind:#x}")
    reader = PacketReader(packet.body)
    reader.uint32()
    return reader.uint32()


def stop(path: str, *, timeout: float) -> None:
    """Ask the master to take no new sessions and end after the last one (``-O stop``)."""
    packet = _request(path, _STOP_LISTENING, struct.pack(">I", 0), timeout=timeout)
    if packet.kind != _OK:
        raise MuxRefused(_reason(packet))


def terminate(path: str, *, timeout: float) -> None:
    """Ask the master to end now, with all its sessions (``-O exit``)."""
    packet = _request(path, _TERMINATE, struct.pack(">I", 0), timeout=timeout)
    if packet.kind != _OK:
        raise MuxRefused(_reason(packet))


class MuxSession:
    """A session that the master opened: a command that runs on the host."""

    def __init__(self, connection: MuxConnection) -> None:
        self._connection = connection
        self._status: int | None = None
        self._over = False

    def fileno(self) -> int:
        """The control socket's descriptor."""
        return self._connection.fileno()

    def wait(self, timeout: float) -> bool:
        """Wait for the end of the session, at most ``timeout`` seconds; false if it still runs."""
        deadline = time.monotonic() + timeout
        while not self._over:
            try:
                packet = self._connection.read(deadline)
            except MuxTimeout:
                return False
            except MuxError:
                self._over = True
                break
            if packet.kind == _EXIT_MESSAGE:
                reader = PacketReader(packet.body)
                reader.uint32()
                self._status = reader.uint32()
                # The exit message can overtake the last bytes of output: the session is over
                # when the master closes the control connection.
                self._over = self._connection.wait_closed(deadline)
                if not self._over:
                    return False
        return True

    @property
    def status(self) -> int | None:
        """The exit status that the host sent; ``None`` if it sent none."""
        return self._status

    def close(self) -> None:
        """Close the control connection; the master then closes the channel."""
        self._over = True
        self._connection.close()

    def abandon(self) -> None:
        """In a forked child: close its copy of the socket, which the master does not notice."""
        self.close()


def open_session(
    path: str,
    command: bytes,
    fds: Sequence[int],
    *,
    timeout: float,
    subsystem: bool = False,
    forward_agent: bool = False,
) -> MuxSession:
    """Have the master run a command, with ``fds`` as its stdin, stdout and stderr.

    The master sets O_NONBLOCK on the descriptors, so pass private pipes or files.  Raises
    ``MuxSessionRefused`` where the server has no free session, ``NoMaster``, ``MuxTimeout`` or
    ``MuxLost`` with ``sent`` as far as it is known.
    """
    deadline = time.monotonic() + timeout
    body = struct.pack(">I", 1) + _string(b"")
    # No terminal, no X11; escape character: none.
    body += struct.pack(">IIII", 0, 0, int(forward_agent), int(subsystem))
    body += struct.pack(">I", 0xFFFFFFFF) + _string(b"") + _string(command)
    if len(body) > MAX_REQUEST_BYTES:
        raise ValueError(f"a request of {len(body)} bytes is too long for the master")
    connection = MuxConnection(path, deadline=deadline)
    try:
        # One write saves a round trip: the master reads the greeting, then the rest.
        connection.send(
            _packet(_HELLO, struct.pack(">I", VERSION)) + _packet(_NEW_SESSION, body), deadline
        )
        connection.read_greeting(deadline)
        for fd in fds:
            connection.send_fd(fd, deadline)
        packet = connection.read(deadline)
        if packet.kind == _SESSION_OPENED:
            return MuxSession(connection)
        if packet.kind in (_FAILURE, _PERMISSION_DENIED):
            reason = _reason(packet)
            # mux.c has other reasons too: "did not receive file descriptors".
            by_peer = packet.kind == _FAILURE and "refused by peer" in reason
            raise (MuxSessionRefused if by_peer else MuxRefused)(reason)
        raise MuxVersion(f"the master answered with message {packet.kind:#x}", sent="maybe")
    except BaseException:
        connection.close()
        raise


def forward(
    path: str,
    kind: int,
    *,
    listen_host: str,
    listen_port: int,
    connect_host: str,
    connect_port: int,
    timeout: float,
    cancel: bool = False,
) -> int:
    """Open (or cancel) a forwarding; returns the port that a remote forwarding got.

    Always give ``listen_host``: without it ssh reports success for a port that is taken on IPv4.
    """
    body = struct.pack(">II", 0, kind)
    body += _string(listen_host.encode()) + struct.pack(">I", listen_port)
    body += _string(connect_host.encode()) + struct.pack(">I", connect_port)
    packet = _request(path, _CLOSE_FORWARD if cancel else _OPEN_FORWARD, body, timeout=timeout)
    if packet.kind == _REMOTE_PORT:
        reader = PacketReader(packet.body)
        reader.uint32()
        return reader.uint32()
    if packet.kind != _OK:
        raise MuxRefused(_reason(packet))
    return listen_port
