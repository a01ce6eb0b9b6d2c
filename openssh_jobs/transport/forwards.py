"""Ports forwarded over a master, and cancelled at the end."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any, Self

from .. import logs
from ..errors import ConfigurationError, ConnectError, ConnectionLost
from . import mux
from .base import LinkLost, RequestRefused, TransportError

if TYPE_CHECKING:
    from .base import Link
    from .sessions import Sessions

log = logs.logger("openssh_jobs.forwards")

TIMEOUT = 30.0
_TIMEOUT = 5.0
"""Seconds for the answer to an alive check."""
_TRIES = 10


class Forward:
    """A forwarded port, a context manager; ``close`` cancels it.

    ``local_host:local_port`` is the end on this machine, ``remote_host:remote_port`` the end on
    the host.  A forward exists as long as its master: see ``alive``.
    """

    def __init__(
        self,
        link: Link,
        kind: int,
        *,
        host: str,
        local: tuple[str, int],
        remote: tuple[str, int],
        asked_port: int,
    ) -> None:
        self._link = link
        self._kind = kind
        self._host = host
        self._asked_port = asked_port
        self._open = True
        # A forked child has a copy; the forward belongs to its parent.
        self._pid = os.getpid()
        self.local_host, self.local_port = local
        self.remote_host, self.remote_port = remote

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        arrow = "->" if self._kind == mux.FORWARD_LOCAL else "<-"
        return (
            f"Forward({self.local_host}:{self.local_port} {arrow} "
            f"{self.remote_host}:{self.remote_port} by way of {self._host})"
        )

    @property
    def alive(self) -> bool:
        """Whether its master still answers on this machine."""
        if not self._open:
            return False
        try:
            return mux.master_pid(self._link, _TIMEOUT) == self._link.pid
        except TransportError:
            return False

    def close(self) -> None:
        """Cancel the forward; its open connections continue.  A second call does nothing.

        In a forked child it does nothing: the forward belongs to the parent.
        """
        if not self._open:
            return
        self._open = False
        if self._pid != os.getpid():
            return
        try:
            # The forward ended with its master, if that has ended.
            if mux.master_pid(self._link, _TIMEOUT) == self._link.pid:
                self.ask(cancel=True)
        except TransportError as error:
            log.warning("%s: %r was not cancelled: %s", self._host, self, error)

    def ask(self, *, cancel: bool = False) -> int:
        """Request the forward, or its end, from the master; returns the port that listens."""
        local = (self.local_host, self.local_port)
        there = (self.remote_host, self._asked_port)
        listen, connect = (local, there) if self._kind == mux.FORWARD_LOCAL else (there, local)
        return mux.forward(
            self._link, self._kind, listen=listen, connect=connect, timeout=TIMEOUT, cancel=cancel
        )


def _check(what: str, host: str, port: int, *, least: int = 1) -> None:
    if isinstance(port, bool) or not isinstance(port, int) or not least <= port < 65536:
        raise ConfigurationError(f"{what} {port!r} must be a number from {least} to 65535")
    if not host or any(ord(char) <= 32 or ord(char) == 127 for char in host):
        raise ConfigurationError(f"{host!r} is not a host name to forward to")


def _occupied(host: str, port: int) -> OSError | None:
    """Why the port cannot be listened on, or ``None``.

    The master does not report it, and of two forwards of a port the first that is closed would
    cancel both.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("" if host == "*" else host, port))
            probe.listen(1)
        except OSError as error:
            return error
    return None


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind(("" if host == "*" else host, 0))
        return int(probe.getsockname()[1])


def local(
    sessions: Sessions,
    *,
    host: str,
    remote: tuple[str, int],
    local_host: str,
    local_port: int | None,
) -> Forward:
    """Forward a port of this machine to ``remote``, an address as the host resolves it.

    Raises ``ConfigurationError`` for an invalid port, ``ConnectError`` (with the port in its
    text) if no process can listen on it, ``ConnectionLost`` if the master has ended.
    """
    _check("the remote port", *remote)
    _check("the local port", local_host, 1 if local_port is None else local_port)
    why = "the master refused it"
    for _ in range(1 if local_port is not None else _TRIES):
        if local_port is None:
            try:
                port = _free_port(local_host)
            except OSError as error:
                raise _no_listener(host, local_host, None, error) from error
        else:
            port = local_port
            trouble = _occupied(local_host, port)
            if trouble is not None:
                raise _no_listener(host, local_host, port, trouble) from trouble
        try:
            return _make(
                sessions,
                mux.FORWARD_LOCAL,
                host=host,
                local=(local_host, port),
                remote=remote,
                asked_port=remote[1],
            )
        except RequestRefused as error:
            why = str(error)  # another program took the port, or ssh may not listen there
    raise ConnectError(
        f"no port on {local_host} could be forwarded"
        if local_port is None
        else f"the local port {local_port} on {local_host} could not be forwarded: {why}",
        host=host,
    )


def remote(
    sessions: Sessions,
    *,
    host: str,
    remote_host: str,
    remote_port: int,
    local: tuple[str, int],
) -> Forward:
    """Forward a port of the host (0: the host chooses) to ``local``, as this machine resolves it.

    Raises like ``local``; the server does not say why it refused.
    """
    _check("the remote port", remote_host, remote_port, least=0)
    _check("the local port", *local)
    try:
        return _make(
            sessions,
            mux.FORWARD_REMOTE,
            host=host,
            local=local,
            remote=(remote_host, remote_port),
            asked_port=remote_port,
        )
    except RequestRefused as error:
        raise ConnectError(
            f"the host does not listen on port {remote_port} of {remote_host} ({error})",
            host=host,
            advice="The port may be taken there, or the server forbids it (AllowTcpForwarding).",
        ) from error


def _make(sessions: Sessions, kind: int, **facts: Any) -> Forward:
    """Request a forward from the master; if that has ended, once from a new one."""
    for last in (False, True):
        link = sessions.link()
        made = Forward(link, kind, **facts)
        try:
            port = made.ask()
        except RequestRefused:
            raise
        except TransportError as error:
            sessions.forget(link)
            if last or not isinstance(error, LinkLost):
                raise ConnectionLost(
                    f"the master did not answer the request for a forward ({error})",
                    host=facts["host"],
                    sent=error.sent,
                ) from error
        else:
            if kind == mux.FORWARD_REMOTE:
                made.remote_port = port
            return made
    raise AssertionError("the second time either works or raises")


def _no_listener(host: str, address: str, port: int | None, error: OSError) -> ConnectError:
    where = f"the local port {port} on {address}" if port else f"a port on {address}"
    if error.errno == errno.EADDRINUSE:
        return ConnectError(
            f"{where} is in use", host=host, advice="Give another port, or none to get a free one."
        )
    return ConnectError(f"{where} cannot be listened on: {error.strerror or error}", host=host)
