"""The multiplexing protocol against a real master, and against listeners that are none."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openssh_jobs import Connection
from openssh_jobs.openssh import mux_protocol
from tests.helpers import until
from tests.lab.site import Host

HELLO = struct.pack(">III", 8, 1, 4)


def packet(*numbers: int, text: bytes | None = None) -> bytes:
    body = struct.pack(f">{len(numbers)}I", *numbers)
    if text is not None:
        body += struct.pack(">I", len(text)) + text
    return struct.pack(">I", len(body)) + body


@pytest.fixture(scope="module")
def place(lab_directory: Path) -> Path:
    """A short directory for listeners."""
    directory = lab_directory / "mux"
    directory.mkdir(mode=0o700)
    return directory


@contextmanager
def listener(place: Path, answer: bytes, *, close: bool = True) -> Iterator[str]:
    """A socket on which one caller gets ``answer``, whatever it sends."""
    path = str(place / f"l{time.monotonic_ns()}")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        done = threading.Event()

        def serve() -> None:
            client, _ = server.accept()
            with client:
                try:
                    client.sendall(answer)
                    if not close:
                        done.wait(20)
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(65536):
                        pass
                except OSError:
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield path
        finally:
            done.set()
            thread.join(5)
    os.unlink(path)


def ask_everything(path: str, timeout: float = 2) -> None:
    """Ask for a session and wait for its end."""
    with open(os.devnull, "r+b") as nothing:
        fd = nothing.fileno()
        session = mux_protocol.open_session(path, b"true", (fd, fd, fd), timeout=timeout)
    try:
        session.wait(2)
    finally:
        session.close()


REQUESTS: list[Callable[[str], object]] = [
    lambda path: mux_protocol.alive(path, timeout=2),
    lambda path: mux_protocol.stop(path, timeout=2),
    lambda path: mux_protocol.terminate(path, timeout=2),
    lambda path: mux_protocol.forward(
        path,
        mux_protocol.FORWARD_LOCAL,
        listen_host="127.0.0.1",
        listen_port=1,
        connect_host="x",
        connect_port=2,
        timeout=2,
    ),
    ask_everything,
]

ANSWERS = st.one_of(
    st.binary(max_size=80),
    st.builds(lambda data: HELLO + data, st.binary(max_size=80)),
    st.builds(
        lambda kind, body: HELLO + struct.pack(">II", len(body) + 4, kind) + body,
        st.sampled_from([0x80000001 + i for i in range(8)]),
        st.binary(max_size=40),
    ),
)


@settings(max_examples=60, deadline=None)
@given(answer=ANSWERS, request_=st.sampled_from(REQUESTS))
def test_garbage_is_an_error_of_the_protocol_and_never_a_wait(
    place: Path, answer: bytes, request_: Callable[[str], object]
) -> None:
    with listener(place, answer) as path:
        began = time.monotonic()
        try:
            request_(path)
        except mux_protocol.MuxError:
            pass
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("answer", [b"", HELLO, HELLO[:5], HELLO + b"\0\0"])
def test_a_listener_that_falls_silent_is_given_up(place: Path, answer: bytes) -> None:
    with listener(place, answer, close=False) as path, pytest.raises(mux_protocol.MuxTimeout):
        mux_protocol.alive(path, timeout=0.2)
    with (
        listener(place, answer, close=False) as path,
        pytest.raises(mux_protocol.MuxTimeout) as caught,
    ):
        ask_everything(path, timeout=0.2)
    # Before its greeting nothing was handed over; after it nobody can know.
    assert caught.value.sent == ("maybe" if answer.startswith(HELLO) else "no")


def test_what_is_no_master(place: Path) -> None:
    with pytest.raises(mux_protocol.NoMaster) as caught:
        mux_protocol.alive(str(place / "none"), timeout=1)
    assert not caught.value.stale
    (place / "file").touch()
    with pytest.raises(mux_protocol.NoMaster) as caught:
        mux_protocol.alive(str(place / "file"), timeout=1)
    assert caught.value.stale
    with pytest.raises(mux_protocol.NoMaster, match="long"):
        mux_protocol.alive("/" + "x" * 200, timeout=1)


def test_another_version_is_distinguished_from_another_program(place: Path) -> None:
    with (
        listener(place, packet(1, 3)) as path,
        pytest.raises(mux_protocol.MuxVersion, match="version 3"),
    ):
        mux_protocol.alive(path, timeout=2)
    with (
        listener(place, b"SSH-2.0-x\r\n") as path,
        pytest.raises(mux_protocol.MuxVersion, match="not an ssh"),
    ):
        mux_protocol.alive(path, timeout=2)


@pytest.mark.parametrize(
    ("kind", "reason", "expected"),
    [
        (0x80000003, b"Session open refused by peer", mux_protocol.MuxSessionRefused),
        (0x80000003, b"did not receive file descriptors", mux_protocol.MuxRefused),
        (0x80000002, b"Permission denied", mux_protocol.MuxRefused),
    ],
)
def test_a_refusal_has_its_reason_and_nothing_was_sent(
    place: Path, kind: int, reason: bytes, expected: type[mux_protocol.MuxError]
) -> None:
    with (
        listener(place, HELLO + packet(kind, 1, text=reason)) as path,
        pytest.raises(mux_protocol.MuxError, match=reason.decode()) as caught,
    ):
        ask_everything(path)
    assert type(caught.value) is expected
    assert caught.value.sent == "no"


def test_a_full_backlog_is_no_missing_master(place: Path) -> None:
    path = str(place / "full")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(path)
        with pytest.raises(mux_protocol.MuxTimeout, match="not accept"):
            mux_protocol.alive(path, timeout=0.2)
        for one in waiting:
            one.close()


def test_a_request_that_the_master_would_not_survive_is_not_sent(place: Path) -> None:
    with pytest.raises(ValueError, match="too long"):
        mux_protocol.open_session(
            str(place / "none"), b"x" * mux_protocol.MAX_REQUEST_BYTES, (0, 0, 0), timeout=1
        )


# -- a real one ----------------------------------------------------------------


def test_a_real_master(host: Host) -> None:
    with Connection(host.alias, ssh_config=host.config) as connection:
        path = connection._sessions.link().path
        assert mux_protocol.alive(path, timeout=5) == connection.check().master
        read_end, write_end = os.pipe()
        with open(os.devnull, "r+b") as nothing:
            fd = nothing.fileno()
            session = mux_protocol.open_session(
                path, b"echo hi; exit 255", (fd, write_end, fd), timeout=10
            )
        os.close(write_end)
        assert session.wait(10)
        assert session.status == 255
        session.close()
        assert os.read(read_end, 100) == b"hi\n"
        os.close(read_end)


def test_a_session_that_goes_on_is_waited_for_in_pieces(host: Host) -> None:
    with Connection(host.alias, ssh_config=host.config) as connection:
        path = connection._sessions.link().path
        stdin, feed = os.pipe()
        with open(os.devnull, "r+b") as nothing:
            fd = nothing.fileno()
            session = mux_protocol.open_session(
                path, b"read x; exit 5", (stdin, fd, fd), timeout=10
            )
        os.close(stdin)
        assert not session.wait(0)
        assert not session.wait(0.05)
        assert session.status is None
        os.write(feed, b"go\n")
        os.close(feed)
        assert until(lambda: session.wait(0.05))
        assert session.status == 5
        session.close()
