"""Ports forwarded over a master, and taken back at the end."""

from __future__ import annotations

import errno
import logging
import os
import socket
from typing import TYPE_CHECKING, Any, Self

from ..errors import ConfigurationError, ConnectError, ConnectionLost
from . import mux
from .base import LinkLost, RequestRefused, TransportError

if TYPE_CHECKING:
    from .base import Link
    from .sessions import Sessions

log = logging.getLogger("openssh_jobs.forwards")

TIMEOUT = 30.0
_TIMEOUT = 5.0
"""Seconds for the master to say whether it is there."""
_TRIES = 10


class Forward:
    """A forwarded port, a context manager; ``close`` takes it back.

    ``local_host:local_port`` is the end on this machine, ``remote_host:remote_port`` the one over
    there.  A forward lives as long as its master: see ``alive``.
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
        # A forked child has a copy; the forward stays its parent's.
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
        """Whether the master that holds it still answers on this machine."""
        if not self._open:
            return False
        try:
            return mux.master_pid(self._link, _TIMEOUT) == self._link.pid
        except TransportError:
            return False

    def close(self) -> None:
        """Take the forward back; connections that run through it go on.  Twice does nothing.

        Nothing either in a forked child: the forward is its parent's.
        """
        if not self._open:
            return
        self._open = False
        if self._pid != os.getpid():
            return
        try:
            # Where the master is gone, the forward went with it.
            if mux.master_pid(self._link, _TIMEOUT) == self._link.pid:
                self.ask(cancel=True)
        except TransportError as error:
            log.warning("%s: %r was not taken back: %s", self._host, self, error)

    def ask(self, *, cancel: bool = False) -> int:
        """Have the master forward, or stop it; returns the port that is listened on."""
        local = (self.local_host, self.local_port)
        there = (self.remote_host, self._asked_port)
        listen, connect = (local, there) if self._kind == mux.FORWARD_LOCAL else (there, local)
        return mux.forward(
            self._link, self._kind, listen=listen, connect=connect, timeout=TIMEOUT, cancel=cancel
        )


def _check(what: str, host: str, port: int, *, least: int = 1) -> None:
    if isinstance(port, bool) or not isinstance(port, int) or not least <= port < 65536:
        raise ConfigurationError(f"{what} {port!r} is no port number")
    if not host or any(ord(char) <= 32 or ord(char) == 127 for char in host):
        raise ConfigurationError(f"{host!r} is no host name to forward to")


def _occupied(host: str, port: int) -> OSError | None:
    """Why the port cannot be listened on, or ``None``.

    The master does not say, and a port that is forwarded twice would be given back by the first
    of the two that is closed.
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
    """A port here that leads to ``remote`` as the host sees it.

    Raises ``ConfigurationError`` for what is no port, ``ConnectError`` (with the port in its
    text) where the port cannot be listened on here, ``ConnectionLost`` where the master is gone.
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
            why = str(error)  # another program was faster, or ssh may not listen there
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
    """A port on the host that leads to ``local`` as this machine sees it; 0: the host chooses.

    Raises as ``local``; the server says only that it refused, not why.
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
            f"the host does not listen on port {remote_port} of {remote_host} for us ({error})",
            host=host,
            advice="The port may be taken there, or the server forbids it (AllowTcpForwarding).",
        ) from error


def _make(sessions: Sessions, kind: int, **facts: Any) -> Forward:
    """Ask the master for a forward; a master that has gone meanwhile is replaced once."""
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
                    f"the master did not answer for a forward ({error})",
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
            f"{where} is taken", host=host, advice="Name another port, or none to get a free one."
        )
    return ConnectError(f"{where} cannot be listened on: {error.strerror or error}", host=host)
