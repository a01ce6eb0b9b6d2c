"""``ControlShell`` over the ``/bin/sh`` of this machine."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from openssh_jobs.commands import command_line, limits
from openssh_jobs.commands.control_shell import ControlShell
from openssh_jobs.commands.process_groups import ProcessGroups
from openssh_jobs.commands.quoting import quote_path
from openssh_jobs.errors import CommandNotStarted, CommandTimeout, ConnectionLost, InvalidAnswer
from openssh_jobs.openssh import reaper
from openssh_jobs.transport.base import Link, Session
from openssh_jobs.transport.local import LocalTransport
from openssh_jobs.transport.sessions import Sessions
from tests.helpers import until


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reaper does not end a shell between two calls of a test."""
    monkeypatch.setattr(reaper, "IDLE_SECONDS", 1000.0)


class Login(LocalTransport):
    """This machine with a login shell that does something before it starts a command.

    ``first``: its shell text.
    """

    def __init__(self, first: bytes) -> None:
        super().__init__("hpc")
        self.first = first

    def open(
        self, link: Link, command: bytes, fds: Sequence[int], *, subsystem: bool = False
    ) -> Session:
        return super().open(link, self.first + b"\n" + command, fds)


class Host:
    """A control shell and the sessions behind it."""

    def __init__(self, first: bytes = b"", *, start_timeout: float = 20.0) -> None:
        self.sessions = Sessions(Login(first))
        self.login_shell = command_line.LoginShell(start_timeout)
        self.shell = ControlShell(
            self.sessions, self.login_shell, ProcessGroups(self.sessions, self.login_shell)
        )

    def pid(self) -> int:
        return int(self.shell.call(b"echo $$").stdout)


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.shell.close()
    assert made.sessions.slots.used == 0


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# -- answers ------------------------------------------------------------------------------------


def test_one_call(host: Host) -> None:
    assert host.shell.call(b"echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")
    assert host.shell.call(b":") == (0, b"", b"")
    assert host.login_shell.family == "sh"


def test_two_calls_share_a_shell_and_nothing_else(host: Host) -> None:
    first = host.pid()
    assert host.shell.call(b"word=kept; cd /; umask 0").status == 0
    answer = host.shell.call(b'echo "$$ ${word-unset}"; pwd -P')
    assert answer.stdout == b"%d unset\n%s\n" % (first, os.fsencode(Path.cwd().resolve()))
    assert (host.sessions.opened, host.shell.calls) == (1, 3)
    assert 0 < host.shell.round_trip < 20


@pytest.mark.parametrize(
    "content",
    [bytes(range(256)) * 300, b"", b"\n", b"\n\n", b"no end of line", b"\0", b"oj-0 0\n", b"\xff"],
    ids=["all", "empty", "line end", "two", "no line end", "null", "nearly a frame", "latin"],
)
def test_an_answer_of_any_bytes(host: Host, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    script = b"cat %s; cat %s >&2; exit 7" % ((quote_path(str(file)),) * 2)
    for _ in range(2):
        assert host.shell.call(script) == (7, content, content)
    assert host.sessions.opened == 1


def test_a_script_reads_nothing_of_the_next_one(host: Host) -> None:
    assert host.shell.call(b"cat", timeout=5) == (0, b"", b"")
    assert host.shell.call(b"echo next").stdout == b"next\n"


def test_what_rc_files_print_is_no_answer() -> None:
    host = Host(b"echo welcome; echo motd >&2")
    assert host.shell.call(b"echo out; echo err >&2") == (0, b"out\n", b"err\n")
    host.shell.close()


def test_each_call_runs_in_the_directory_of_the_time(host: Host, tmp_path: Path) -> None:
    other = tmp_path / "it's"
    other.mkdir()
    host.shell.directory = lambda: str(tmp_path)
    assert host.shell.call(b"pwd -P").stdout == os.fsencode(tmp_path.resolve()) + b"\n"
    host.shell.directory = lambda: str(other)
    assert host.shell.call(b"pwd -P").stdout == os.fsencode(other.resolve()) + b"\n"
    other.rmdir()
    answer = host.shell.call(b"echo reached")
    assert answer.status != 0
    assert answer.stdout == b""


def test_cleanups_run_once_before_the_next_call(host: Host, tmp_path: Path) -> None:
    count = quote_path(str(tmp_path / "count"))
    host.shell.later(b"echo x >>%s; echo noise; exit 9" % count)
    assert not (tmp_path / "count").exists()
    assert host.shell.call(b"cat %s" % count) == (0, b"x\n", b"")
    assert host.shell.call(b"cat %s" % count) == (0, b"x\n", b"")


# -- a shell that dies --------------------------------------------------------------------------


def dying(tmp_path: Path, times: int) -> bytes:
    """A script that counts its runs, and kills the shell in the first ``times`` of them."""
    count = quote_path(str(tmp_path / "count"))
    return b"echo x >>%s; [ $(wc -l <%s) -gt %d ] || kill -9 $$; echo done" % (count, count, times)


def count(tmp_path: Path) -> int:
    return len((tmp_path / "count").read_bytes().split())


@pytest.mark.parametrize("warm", [False, True])
def test_a_script_whose_shell_died_is_not_repeated(host: Host, tmp_path: Path, warm: bool) -> None:
    if warm:
        host.shell.call(b":")
    with pytest.raises(ConnectionLost, match="the shell that ran it was lost") as caught:
        host.shell.call(dying(tmp_path, 1))
    assert caught.value.sent == "maybe"
    assert "echo x" in (caught.value.command or "")
    assert count(tmp_path) == 1
    assert host.sessions.slots.used == 0
    assert host.shell.call(b"echo well").stdout == b"well\n"


def test_a_harmless_script_is_repeated(host: Host, tmp_path: Path) -> None:
    before = host.pid()
    assert host.shell.call(dying(tmp_path, 1), again=True) == (0, b"done\n", b"")
    assert count(tmp_path) == 2
    assert host.pid() != before
    assert host.sessions.opened == 2


def test_it_is_repeated_once(host: Host, tmp_path: Path) -> None:
    with pytest.raises(ConnectionLost) as caught:
        host.shell.call(dying(tmp_path, 5), again=True)
    assert caught.value.sent == "maybe"
    assert count(tmp_path) == 2


def test_an_idle_shell_that_died_is_replaced(host: Host, tmp_path: Path) -> None:
    os.kill(host.pid(), signal.SIGKILL)
    assert until(lambda: not host.shell._session.is_ready)
    assert host.shell.call_if_free(b":", timeout=5) is None
    assert host.shell.call(dying(tmp_path, 0)).stdout == b"done\n"
    assert count(tmp_path) == 1


# -- bounds -------------------------------------------------------------------------------------


def test_an_answer_over_the_bound(host: Host) -> None:
    before = host.pid()
    with pytest.raises(InvalidAnswer, match="more than 1000 bytes") as caught:
        host.shell.call(b"head -c 300000 /dev/zero", most=1000, again=True)
    assert caught.value.host == "hpc"
    assert len(host.shell.call(b"head -c 300000 /dev/zero", most=400_000).stdout) == 300_000
    assert host.pid() != before, "what is left of the long answer would come first"


def test_an_answer_without_end(host: Host) -> None:
    with pytest.raises(InvalidAnswer, match="more than 100000 bytes"):
        host.shell.call(b"while :; do echo yes; done", most=100_000, timeout=20)


def test_a_silent_shell(host: Host, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    before = host.pid()
    began = time.monotonic()
    with pytest.raises(CommandTimeout, match=r"did not answer within 0\.3 s") as caught:
        host.shell.call(b"read x <%s" % quote_path(str(tmp_path / "fifo")), timeout=0.3, again=True)
    assert 0.3 <= time.monotonic() - began < 5
    assert caught.value.sent == "maybe"
    assert host.pid() != before, "its answer may still come"
    assert until(lambda: not runs(before)), "it waits for a writer that never comes"


@pytest.mark.parametrize("why", ["timeout", "too long", "Ctrl-C"])
def test_a_call_that_is_given_up_leaves_nothing_running(
    host: Host, tmp_path: Path, why: str
) -> None:
    pids = tmp_path / "pids"
    script = b"(trap '' HUP PIPE; sleep 1000) & sleep 1000 & echo $! >%b; " % quote_path(str(pids))
    script += {"too long": b"head -c 300000 /dev/zero; "}.get(why, b"") + b"wait"
    host.shell.call(b":")
    if why == "Ctrl-C":
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
    expected = {"timeout": CommandTimeout, "too long": InvalidAnswer}.get(why, KeyboardInterrupt)
    began = time.monotonic()
    with pytest.raises(expected):
        host.shell.call(script, timeout=0.5 if why == "timeout" else 20, most=1000)
    assert time.monotonic() - began < 15
    assert until(lambda: not runs(int(pids.read_text())))
    assert host.shell.call(b"echo next").stdout == b"next\n"


def test_a_script_longer_than_a_pipe_and_a_shell_that_does_not_read(host: Host) -> None:
    host.shell.call(b":")
    text = b"exit 4 #" + b"x" * 1_000_000
    assert host.shell.call(text).status == 4
    os.kill(pid := host.pid(), signal.SIGSTOP)
    with pytest.raises(CommandTimeout):
        host.shell.call(text, timeout=0.3)
    assert until(lambda: not runs(pid)), "a shell that is stopped is ended, too"


def test_a_call_waits_for_another_one_only_as_long_as_it_may(host: Host, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    script = b"echo >%s; echo done" % quote_path(str(tmp_path / "fifo"))
    answers: list[bytes] = []
    thread = threading.Thread(target=lambda: answers.append(host.shell.call(script).stdout))
    thread.start()
    try:
        assert until(lambda: host.shell._session.is_ready)
        with pytest.raises(CommandTimeout) as caught:
            host.shell.call(b"echo x >%s" % quote_path(str(tmp_path / "never")), timeout=0.2)
        assert caught.value.sent == "no"
        assert host.shell.call_if_free(b":", timeout=5) is None
    finally:
        (tmp_path / "fifo").read_bytes()
        thread.join(10)
    assert answers == [b"done\n"]
    assert not (tmp_path / "never").exists()


# -- start and end ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (b"exec sleep 1", "without starting the command; it said: nothing"),
        (b"echo no such account >&2; exit 5", "ended with status 5 .*it said: no such account"),
        (b"exec 0</dev/null", "another stdin than the one"),
        (b"exec 0</dev/zero", "another stdin than the one"),
    ],
    ids=["silent", "ends", "reads nothing", "reads zeros"],
)
def test_a_login_shell_that_starts_nothing(first: bytes, why: str) -> None:
    host = Host(first, start_timeout=0.5)
    began = time.monotonic()
    with pytest.raises(CommandNotStarted, match=why) as caught:
        host.shell.call(b"echo never", again=True)
    assert time.monotonic() - began < 6
    assert caught.value.sent == "no"
    assert host.sessions.slots.used == 0


def test_only_a_held_shell_is_free(host: Host) -> None:
    assert host.shell.call_if_free(b":", timeout=5) is None
    assert host.sessions.opened == 0
    host.shell.call(b":")
    assert host.shell.call_if_free(b"exit 6", timeout=5) == (6, b"", b"")


def test_close_ends_the_shell(host: Host) -> None:
    pid = host.pid()
    host.shell.close()
    assert host.sessions.slots.used == 0
    assert not runs(pid)
    assert host.pid() != pid


def test_a_forked_child_opens_a_shell_of_its_own(host: Host) -> None:
    """``reset`` is what it calls first; nothing is sent to the shell of its parent."""
    pid = host.pid()
    host.sessions.reset()
    host.shell.reset()
    assert (host.shell.calls, host.sessions.slots.used) == (0, 0)
    assert host.pid() != pid


def test_an_answer_of_millions_of_records_is_refused(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As bytes they are few, as objects they would take the memory of this machine."""
    monkeypatch.setattr(limits, "RECORDS", 1000)
    assert host.shell.call(b"head -c 1000 /dev/zero").stdout == bytes(1000)
    with pytest.raises(InvalidAnswer, match="more than 1000 records"):
        host.shell.call(b"head -c 1001 /dev/zero")


@pytest.mark.parametrize(("fd", "limit"), [(1, 1_000_000), (2, limits.ANSWER)])
def test_the_limit_that_an_answer_passed_is_named(host: Host, fd: int, limit: int) -> None:
    most = limit if fd == 1 else limits.LISTING
    with pytest.raises(InvalidAnswer, match=rf"more than {limit} bytes"):
        host.shell.call(b"yes >&%d" % fd, most=most)
