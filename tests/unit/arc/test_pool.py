"""ARC's pool of connections, with clients that are counted instead of connected."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from openssh_jobs.arc import pool


class Transport:
    def __init__(self) -> None:
        self.active = True
        self.keepalive: int | None = None

    def is_active(self) -> bool:
        return self.active

    def set_keepalive(self, interval: int) -> None:
        self.keepalive = interval


class Ssh:
    def __init__(self) -> None:
        self.transport = Transport()

    def get_transport(self) -> Transport:
        return self.transport


class Client:
    """One that somebody else made: it counts no logins."""

    made: list[Client]

    def __init__(self, server: str) -> None:
        self.server = server
        self._ssh: Ssh | None = Ssh()
        self.closed = False
        self.made.append(self)

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture(autouse=True)
def made() -> Iterator[list[Client]]:
    Client.made = []
    pool.reset_default_pool()
    yield Client.made
    pool.reset_default_pool()


def test_a_hundred_borrows_are_one_client(made: list[Client]) -> None:
    lending = pool.SSHConnectionPool(Client)
    for _ in range(100):
        with lending.borrow("a") as client:
            assert client is made[0]
    with lending.borrow("b"):
        pass
    assert (lending.opens, lending.borrows, len(made)) == (2, 101, 2)
    assert not any(client.closed for client in made)
    lending.close_all()
    lending.close_all()
    assert all(client.closed for client in made)
    assert lending.opens == 2, "what was counted stays"


@pytest.mark.parametrize("dead", ["closed", "inactive"])
def test_a_dead_client_is_replaced(made: list[Client], dead: str) -> None:
    lending = pool.SSHConnectionPool(Client)
    with lending.borrow("a") as first:
        if dead == "closed":
            first._ssh = None
        else:
            assert first._ssh is not None
            first._ssh.transport.active = False
    with lending.borrow("a") as second:
        assert second is not first
    assert first.closed
    assert lending.opens == 2


def test_opens_counts_logins_where_a_client_counts_them() -> None:
    class Counting(Client):
        logins = 0

    lending = pool.SSHConnectionPool(Counting)
    with lending.borrow("a") as client:
        assert lending.opens == 0, "a live master was found"
        client.logins = 2
    assert lending.opens == 2


def test_an_error_in_the_block_is_the_callers(made: list[Client]) -> None:
    mine: Any = pool.SSHConnectionPool(Client)
    pool.set_default_pool(mine)
    with pytest.raises(KeyError), pool.borrow_ssh_client("a"):
        raise KeyError("mine")
    with pool.borrow_ssh_client("a") as client:
        assert made == [client]  # type: ignore[comparison-overlap]
    assert pool.get_default_pool().opens == 1


def test_without_a_lease_a_client_of_its_own_is_made(
    made: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "SSHClient", Client)

    def fail(server: str) -> Any:
        raise RuntimeError("no")

    broken: Any
    for broken in (pool.SSHConnectionPool(fail), object()):
        pool.set_default_pool(broken)
        with pool.borrow_ssh_client("a") as client:
            assert not made[-1].closed
        assert made[-1] is client  # type: ignore[comparison-overlap]
        assert made[-1].closed
        pool.set_default_pool(None)


def test_the_default_pool_is_made_once_and_can_be_replaced(made: list[Client]) -> None:
    first = pool.get_default_pool()
    assert pool.get_default_pool() is first
    pool.reset_default_pool()
    assert pool.get_default_pool() is not first
    mine: Any = pool.SSHConnectionPool(Client)
    pool.set_default_pool(mine)
    with pool.get_default_pool().borrow("a"):
        pass
    pool.reset_default_pool()
    assert made[-1].closed


def test_a_sign_of_life_is_asked_for(made: list[Client]) -> None:
    client = Client("a")
    assert pool.set_keepalive(client)
    assert client._ssh is not None
    assert client._ssh.transport.keepalive == pool.KEEPALIVE_INTERVAL
    client._ssh = None
    assert not pool.set_keepalive(client)


def test_threads_that_borrow_at_once_get_one_client(made: list[Client]) -> None:
    begin = threading.Barrier(8)
    lending = pool.SSHConnectionPool(Client)

    def borrow() -> None:
        begin.wait(10)
        for _ in range(50):
            with lending.borrow("a") as client:
                assert client is made[0]

    threads = [threading.Thread(target=borrow) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (lending.opens, lending.borrows) == (1, 400)


def test_a_server_that_is_down_delays_no_other(made: list[Client]) -> None:
    inside, go = threading.Event(), threading.Event()

    def slow(server: str) -> Client:
        if server == "down":
            inside.set()
            assert go.wait(10)
        return Client(server)

    lending = pool.SSHConnectionPool(slow)

    def borrow() -> None:
        with lending.borrow("down"):
            pass

    thread = threading.Thread(target=borrow)
    thread.start()
    assert inside.wait(10)
    with lending.borrow("up") as client:
        assert client.server == "up"
    go.set()
    thread.join(10)
