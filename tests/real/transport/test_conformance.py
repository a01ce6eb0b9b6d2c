"""What every transport has to do: one suite over ``mux``, ``process`` and ``local``.

The first half opens bare sessions, the second one runs commands over them as users do.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection, LocalConnection
from openssh_jobs.errors import CommandFailed, CommandTimeout, ConnectionLost, SessionLimit
from openssh_jobs.host import Host
from openssh_jobs.transport.base import Link, Session, SessionRefused, TransportError
from openssh_jobs.transport.local import LocalTransport
from openssh_jobs.transport.mux import MuxTransport
from openssh_jobs.transport.process import ProcessTransport
from openssh_jobs.transport.sessions import Sessions
from tests.helpers import processes, until
from tests.lab import site

KINDS = {"mux": MuxTransport, "process": ProcessTransport, "local": LocalTransport}
BIG = 10_000_000
_marks = itertools.count(300_000)


Connect = Callable[..., Host]


@pytest.fixture
def connect(kind: str, request: pytest.FixtureRequest) -> Connect:
    """A new host over one transport; ``local`` needs no server."""

    def connect(host: site.Host | None = None, **options: Any) -> Host:
        if kind == "local":
            return LocalConnection(**options)
        host = host or request.getfixturevalue("sshd")
        return Connection(host.alias, ssh_config=host.config, **{"exec_backend": kind, **options})

    return connect


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def over(connect: Connect) -> Iterator[Host]:
    """A host over one transport; the master of those that need one is open already."""
    with connect() as host:
        yield host


@pytest.fixture
def sessions(over: Host, kind: str) -> Sessions:
    assert type(over._sessions.transport) is KINDS[kind]
    return over._sessions


@pytest.fixture
def mark() -> str:
    """A number of seconds that no other process sleeps."""
    return f"{next(_marks)}.5"


class Running:
    """A session with pipes: ``stdin`` to write, ``stdout`` and ``stderr`` to read."""

    def __init__(self, sessions: Sessions, link: Link, command: bytes) -> None:
        theirs_in, self.stdin = os.pipe()
        self.stdout, theirs_out = os.pipe()
        self.stderr, theirs_err = os.pipe()
        theirs = (theirs_in, theirs_out, theirs_err)
        try:
            self.session: Session = sessions.open(link, command, theirs)
        finally:
            for fd in theirs:
                os.close(fd)

    def feed(self, data: bytes) -> None:
        with open(self.stdin, "wb", buffering=0) as pipe, contextlib.suppress(BrokenPipeError):
            view = memoryview(data)
            while view:
                view = view[pipe.write(view) :]
        self.stdin = -1

    def communicate(self, data: bytes = b"") -> tuple[bytes, bytes]:
        feeder = threading.Thread(target=self.feed, args=(data,))
        feeder.start()
        with open(self.stdout, "rb") as out, open(self.stderr, "rb") as err:
            self.stdout = self.stderr = -1
            result = out.read(), err.read()
        feeder.join(60)
        assert not feeder.is_alive()
        return result

    def close(self) -> None:
        for fd in (self.stdin, self.stdout, self.stderr):
            if fd >= 0:
                os.close(fd)
        self.session.close()


Start = Callable[[bytes], Running]


@pytest.fixture
def start(sessions: Sessions) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def start(command: bytes) -> Running:
            def opened(link: Link) -> Running:
                return Running(sessions, link, command)

            running, slot = sessions.start(opened, what=repr(command))
            stack.callback(slot.release)
            stack.callback(running.close)
            return running

        yield start
        # Whatever a test leaves must not keep the server's session.
        assert sessions.answers(sessions.link())


# -- bare sessions ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 3, 126, 254])
def test_the_exit_status_is_that_of_the_command(start: Start, status: int) -> None:
    running = start(b"exit %d" % status)
    assert running.session.wait(20)
    assert running.session.status == status


def test_while_it_runs_there_is_no_status(start: Start) -> None:
    running = start(b"echo begun; read line; exit 7")
    assert os.read(running.stdout, 100) == b"begun\n"
    began = time.monotonic()
    assert not running.session.wait(0)
    assert not running.session.wait(0.2)
    assert 0.1 < time.monotonic() - began < 10
    assert running.session.status is None
    running.feed(b"on\n")
    assert running.session.wait(20)
    assert running.session.status == 7
    assert running.session.wait(0), "a second time"


def test_a_command_that_is_missing(start: Start) -> None:
    running = start(b"no-such-command-anywhere")
    out, err = running.communicate()
    # "not found", or "Permission denied" where a directory of PATH cannot be read.
    assert (out, b"no-such-command-anywhere: " in err) == (b"", True)
    assert running.session.wait(20)
    assert running.session.status == 127


@pytest.mark.parametrize("name", ["TERM", "KILL", "INT", "USR1"])
def test_a_command_that_a_signal_ends(start: Start, name: str) -> None:
    running = start(b"/bin/sh -c 'kill -s %b $$'; exit $?" % name.encode())
    assert running.session.wait(20)
    assert running.session.status == 128 + getattr(signal, f"SIG{name}")


def test_a_shell_that_a_signal_ends_has_no_status(start: Start, sessions: Sessions) -> None:
    running = start(b"kill -s KILL $$")
    assert running.session.wait(20)
    assert running.session.status is None
    # The link is well, so it is no failure of the transport.
    assert sessions.failure(sessions.link(), running.session, b"") is None


def test_ten_megabytes_in_both_directions_to_the_byte(start: Start) -> None:
    data = os.urandom(BIG)
    running = start(b"cat")
    assert running.communicate(data) == (data, b"")
    assert running.session.wait(20)
    assert running.session.status == 0


def test_stdout_and_stderr_are_two_streams(start: Start) -> None:
    running = start(b"head -c 100000 /dev/zero; head -c 100000 /dev/zero >&2; echo end >&2")
    # Neither may wait for the other: a pipe holds less than this.
    out: list[bytes] = []
    reader = threading.Thread(target=lambda: out.append(_read_all(running.stdout)))
    reader.start()
    assert _read_all(running.stderr) == b"\0" * 100_000 + b"end\n"
    reader.join(20)
    assert out == [b"\0" * 100_000]


def _read_all(fd: int) -> bytes:
    pieces = []
    while piece := os.read(fd, 65536):
        pieces.append(piece)
    return b"".join(pieces)


def test_a_command_that_does_not_read_its_stdin(start: Start) -> None:
    running = start(b"head -c 5")
    out, _ = running.communicate(b"12345" + bytes(BIG))
    assert out == b"12345"
    assert running.session.wait(20)
    assert running.session.status == 0


def test_the_end_of_stdin_arrives(start: Start) -> None:
    running = start(b"wc -c")
    out, _ = running.communicate(b"abc")
    assert out.split() == [b"3"]


def test_files_in_the_place_of_pipes(sessions: Sessions, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"from a file")
    with (tmp_path / "in").open("rb") as stdin, (tmp_path / "out").open("wb") as stdout:
        fds = (stdin.fileno(), stdout.fileno(), stdout.fileno())
        session, slot = sessions.start(
            lambda link: sessions.open(link, b"tr a-z A-Z", fds), what="tr"
        )
        assert session.wait(20)
        session.close()
        slot.release()
    assert session.status == 0
    assert (tmp_path / "out").read_bytes() == b"FROM A FILE"


def test_closing_a_session_twice_and_while_it_runs(start: Start, mark: str) -> None:
    running = start(b"sleep %b" % mark.encode())
    assert until(lambda: processes(mark))
    running.session.close()
    running.session.close()
    for pid in processes(mark):
        os.kill(pid, signal.SIGKILL)
    assert until(lambda: not processes(mark))


def test_the_link_is_there_and_answers(sessions: Sessions) -> None:
    link = sessions.link()
    assert sessions.link() == link
    assert sessions.answers(link)
    sessions.forget(link)
    assert sessions.link() == link


def test_many_at_once_up_to_the_limit(connect: Connect) -> None:
    with connect(max_sessions=3) as host:
        sessions, gate = host._sessions, threading.Event()
        seen: list[int] = []

        def one(number: int) -> None:
            def opened(link: Link) -> Running:
                return Running(sessions, link, b"read line; exit %d" % number)

            running, slot = sessions.start(opened, what="read")
            seen.append(sessions.slots.used)
            gate.wait(60)
            running.feed(b"on\n")
            assert running.session.wait(20)
            assert running.session.status == number
            running.close()
            slot.release()

        threads = [threading.Thread(target=one, args=(number,)) for number in range(7)]
        for thread in threads:
            thread.start()
        assert until(lambda: len(seen) == 3)
        time.sleep(0.3)
        assert len(seen) == 3, "a fourth one was opened"
        with pytest.raises(SessionLimit, match="all sessions of this process are in use"):
            sessions.start(lambda link: link, what="more", until=time.monotonic() + 0.2)
        gate.set()
        for thread in threads:
            thread.join(60)
        assert (len(seen), max(seen), sessions.slots.used) == (7, 3, 0)


def test_a_refusal_is_waited_out(sessions: Sessions) -> None:
    tries = []

    def starter(link: Link) -> str:
        tries.append(link)
        if len(tries) < 4:
            raise SessionRefused("full")
        return "open"

    started, slot = sessions.start(starter, what="x")
    slot.release()
    assert (started, len(tries)) == ("open", 4)


@pytest.mark.parametrize(("again", "calls"), [(False, 1), (True, 2)])
def test_what_may_have_been_sent_is_not_repeated(
    sessions: Sessions, again: bool, calls: int
) -> None:
    tries = []

    def starter(link: Link) -> None:
        tries.append(link)
        raise TransportError("gone", sent="maybe")

    with pytest.raises(ConnectionLost) as caught:
        sessions.start(starter, what="the command", again=again)
    assert (caught.value.sent, caught.value.command) == ("maybe", "the command")
    assert len(tries) == calls


# -- commands -----------------------------------------------------------------------------------


def test_a_timeout_ends_the_whole_group(over: Host, mark: str) -> None:
    with pytest.raises(CommandTimeout) as caught:
        over.run(f"sleep {mark} & sh -c 'sleep {mark}; true' & sleep {mark}", timeout=1)
    assert caught.value.confirmed
    assert processes(mark) == []


def test_what_ignores_the_end_of_a_timeout_is_killed(over: Host, mark: str) -> None:
    with pytest.raises(CommandTimeout) as caught:
        over.run(f"trap '' TERM; sleep {mark}; sleep {mark}", timeout=1)
    assert caught.value.confirmed
    assert processes(mark) == []


@pytest.mark.parametrize("held", [True, False])
def test_terminating_at_once_loses_no_signal(over: Host, mark: str, held: bool) -> None:
    """With and without a held control shell beside it; a signal may not come too early."""
    if held:
        over.exists("/")
    for _ in range(15):
        with over.popen(f"sleep {mark}; true") as process:
            assert process.terminate()
            assert process.wait(5) == 143
    # The end of the shell, which is waited for, may come before that of its child.
    assert until(lambda: processes(mark) == [])


def test_signals_of_every_kind(over: Host) -> None:
    with over.popen("trap 'echo heard; exit 5' USR1; echo up; while :; do sleep 0.02; done") as it:
        assert it.stdout is not None
        assert it.stdout.readline() == "up\n"
        assert it.send_signal("USR1")
        assert it.stdout.readline() == "heard\n"
        assert it.wait(20) == 5
    assert over.run(["sh", "-c", "kill -s KILL $$"]).returncode == 137


def test_every_byte_and_every_status(over: Host) -> None:
    data = bytes(range(256)) * 40_000
    done = over.run("cat; echo err >&2; exit 255", input=data, text=False)
    assert (done.returncode, done.stdout == data, done.stderr) == (255, True, b"err\n")


def test_arguments_arrive_as_they_are(over: Host) -> None:
    words = ["a b", "", "'", '"', "$HOME", "`id`", "\\", "*", "!", "-n", "ä€", "\t", "~"]
    done = over.run(["printf", "%s\\0", *words])
    assert done.stdout.split("\0")[:-1] == words


def test_a_shell_that_was_killed_is_no_lost_link(over: Host) -> None:
    with pytest.raises(CommandFailed, match="were killed on the host"):
        over.run("kill -s KILL $PPID; sleep 2")
    assert over.run("echo well").stdout == "well\n"


def test_a_background_process_does_not_keep_popen(over: Host, mark: str) -> None:
    """Over ssh a session lasts as long as its streams, but the command ends when it ends."""
    with over.popen(f"sleep {mark} >&2 & echo $!") as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        try:
            assert process.wait(20) == 0
            assert over.run(["kill", "-s", "0", str(pid)]).returncode == 0
        finally:
            over.run(["kill", str(pid)])


def test_many_commands_at_once(over: Host) -> None:
    results = over.run_many([f"echo {number}; exit {number}" for number in range(30)])
    assert [(int(done.stdout), done.returncode) for done in results] == [
        (number, number) for number in range(30)
    ]
    assert until(lambda: over._sessions.slots.used <= 1)


def _popen(over: Host) -> None:
    with over.popen("sleep 30") as process:
        process.wait(20)


LANES: dict[str, Callable[[Host], object]] = {
    "exec": lambda over: over.run("sleep 30"),
    "control shell": lambda over: over._shell.call(b"sleep 30"),
    "popen": _popen,
}


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("kind", ["mux", "process"])
def test_a_lost_link_is_reported_as_that(
    connect: Connect,
    lane: str,
    make_sshd: Callable[..., site.Host],
    cold: Path,
    expect_logins: Any,
) -> None:
    host = make_sshd()
    expect_logins(1)
    with connect(host) as over:
        link = over._sessions.link()
        over.exists("/")
        killer = threading.Timer(0.5, os.kill, (link.pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(ConnectionLost) as caught:
            LANES[lane](over)
        killer.join(10)
        assert caught.value.sent in ("maybe", "yes")
        assert not over._sessions.answers(link)
    host.server.kill_sessions()
