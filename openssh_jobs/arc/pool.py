"""One client a server, lent to all who need one: ARC's ``arc.job.ssh_pool``.

All clients of a server share one login anyway; the pool is for code that was written against it.
May be shared by threads: the client that it lends may, too.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar, overload

from .. import logs
from .client import SSHClient

logger = logs.logger("openssh_jobs.arc")

__all__ = [
    "KEEPALIVE_INTERVAL",
    "SSHClientFactory",
    "SSHConnectionPool",
    "borrow_ssh_client",
    "get_default_pool",
    "reset_default_pool",
    "set_default_pool",
    "set_keepalive",
]


class Closable(Protocol):
    """What a pool needs of a client."""

    def close(self) -> object: ...


_Client = TypeVar("_Client", bound=Closable)
SSHClientFactory = Callable[[str], SSHClient]
KEEPALIVE_INTERVAL = 30


def _default_factory(server: str) -> SSHClient:
    client = SSHClient(server)
    client.connect()
    set_keepalive(client)
    return client


def _transport_of(client: object) -> Any:
    transport = getattr(getattr(client, "_ssh", None), "get_transport", None)
    return None if transport is None else transport()


def set_keepalive(client: object, interval: int = KEEPALIVE_INTERVAL) -> bool:
    """Ask for a sign of life every ``interval`` seconds; false for a client that is not connected.

    The master of a connection keeps itself alive as the ssh configuration says
    (``ServerAliveInterval``); this is for clients of other makes.
    """
    transport = _transport_of(client)
    if transport is None:
        return False
    transport.set_keepalive(interval)
    return True


class SSHConnectionPool(Generic[_Client]):
    """Clients by server, opened at the first ``borrow`` and kept until ``close_all``.

    ``borrows`` counts the borrows, ``opens`` the logins that were made for them: none where a
    live master was found, another one where the connection was lost and came back.
    """

    @overload
    def __init__(self: SSHConnectionPool[SSHClient]) -> None: ...

    @overload
    def __init__(self, factory: Callable[[str], _Client]) -> None: ...

    def __init__(self, factory: Callable[[str], Any] = _default_factory) -> None:
        self._factory: Callable[[str], _Client] = factory
        self._clients: dict[str, _Client] = {}
        self._lock = threading.RLock()
        self._connecting: dict[str, threading.Lock] = {}
        self._earlier_opens = 0
        self.borrows = 0

    @property
    def opens(self) -> int:
        """Logins made for this pool's clients; 1 a client that does not count them."""
        with self._lock:
            return self._earlier_opens + sum(map(_logins, self._clients.values()))

    @contextlib.contextmanager
    def borrow(self, server: str) -> Iterator[_Client]:
        """A connected client of the server, for the time of a ``with`` block.

        A client whose host does not answer any more is replaced.  Raises what the factory raises:
        ``ServerError`` where the server cannot be reached.
        """
        yield self._client(server)

    def _client(self, server: str) -> _Client:
        with self._lock:
            self.borrows += 1
            connecting = self._connecting.setdefault(server, threading.Lock())
        with connecting:  # one server that is down keeps nobody from the others
            client = self._clients.get(server)
            if client is not None and not _is_alive(client):
                with self._lock:
                    self._close(self._clients.pop(server))
                client = None
            if client is None:
                client = self._factory(server)
                with self._lock:
                    self._clients[server] = client
            return client

    def close_all(self) -> None:
        """Close all clients; the masters stay for as long as their ``persist`` says."""
        with self._lock:
            while self._clients:
                self._close(self._clients.popitem()[1])

    def _close(self, client: _Client) -> None:
        self._earlier_opens += _logins(client)
        try:
            client.close()
        except Exception as error:  # noqa: BLE001 - what a foreign factory made may raise anything
            logger.debug("closing %r failed: %s", client, error)


def _logins(client: object) -> int:
    counted = getattr(client, "logins", None)
    return counted if isinstance(counted, int) else 1


def _is_alive(client: object) -> bool:
    transport = _transport_of(client)
    return transport is not None and bool(transport.is_active())


_default_pool: SSHConnectionPool[SSHClient] | None = None
_default_lock = threading.Lock()


def get_default_pool() -> SSHConnectionPool[SSHClient]:
    """The pool of this process, made at the first call."""
    global _default_pool
    with _default_lock:
        if _default_pool is None:
            _default_pool = SSHConnectionPool()
        return _default_pool


def set_default_pool(pool: SSHConnectionPool[SSHClient] | None) -> None:
    """Replace the pool of this process; after ``None`` ``get_default_pool`` makes a new one."""
    global _default_pool
    with _default_lock:
        _default_pool = pool


def reset_default_pool() -> None:
    """Close the pool of this process and forget it."""
    global _default_pool
    with _default_lock:
        pool, _default_pool = _default_pool, None
    if pool is not None:
        pool.close_all()


@contextlib.contextmanager
def borrow_ssh_client(server: str) -> Iterator[SSHClient]:
    """A connected client of the server: the default pool's, or one of its own where that fails."""
    with contextlib.ExitStack() as stack:
        try:
            client = stack.enter_context(get_default_pool().borrow(server))
        except Exception as error:  # noqa: BLE001 - a pool of another make may raise anything
            logger.debug("%s: the pool gave no client: %s", server, error)
            client = stack.enter_context(SSHClient(server))
        yield client
