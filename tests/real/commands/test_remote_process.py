"""``popen``: a running command as a process with files, in the manner of ``subprocess``."""

from __future__ import annotations

import gc
import os
import threading
from typing import Any

import pytest

from openssh_jobs import Connection
from openssh_jobs.commands.command_line import Errors
from openssh_jobs.errors import CommandFailed, CommandTimeout
from tests.helpers import processes, until
from tests.lab.site import Host

_marks = iter(range(200_000, 300_000))


@pytest.fixture
def mark() -> str:
    """A number of seconds that no other process sleeps."""
    return f"{next(_marks)}.5"


def test_a_conversation_line_by_line(connection: Connection) -> None:
    script = 'while read line; do echo "<$line>"; done; echo end >&2'
    with connection.popen(script) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for word in ("one", "zwei ä", ""):
            process.stdin.write(word + "\n")
            assert process.stdout.readline() == f"<{word}>\n"
        assert process.poll() is None
        process.stdin.close()
        assert process.stdout.read() == ""
        assert process.stderr.read() == "end\n"
        assert process.wait(20) == 0
    assert process.poll() == process.returncode == 0


def test_bytes_where_no_text_is_wanted(connection: Connection) -> None:
    data = os.urandom(3_000_000)
    with connection.popen(["cat"], text=False) as process:
        assert process.communicate(data, timeout=60) == (data, b"")
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [("pipe", ("out\n", "err\n")), ("stdout", ("out\nerr\n", None)), ("devnull", ("out\n", None))],
)
def test_where_stderr_goes(connection: Connection, stderr: Errors, expected: Any) -> None:
    with connection.popen("echo out; echo err >&2; exit 255", stdin=None, stderr=stderr) as process:
        assert process.stdin is None
        assert process.communicate(timeout=20) == expected
    assert process.returncode == 255


@pytest.mark.parametrize(
    "wrong", [{"stderr": "nowhere"}, {"stdin": "file"}, {"env": {"a-b": "x"}}, {"command": ""}]
)
def test_what_makes_no_sense_is_refused(connection: Connection, wrong: dict[str, Any]) -> None:
    before = connection.stats()
    with pytest.raises(ValueError, match=r"."):
        connection.popen(**{"command": "true", **wrong})
    assert connection.stats() == before


def test_a_timeout_lets_the_command_go_on(connection: Connection) -> None:
    with connection.popen("read line; echo got $line; head -c 20000000 /dev/zero") as process:
        with pytest.raises(CommandTimeout, match="it goes on"):
            process.wait(timeout=0.1)
        assert process.stdin is not None
        process.stdin.write("it\n")
        with pytest.raises(CommandTimeout):  # the pipe is full, and nobody reads
            process.wait(timeout=0.3)
        out, _ = process.communicate(timeout=20)
    assert out == "got it\n" + "\0" * 20_000_000


def test_communicate_goes_on_after_a_timeout(connection: Connection, host: Host) -> None:
    gate = host.home / f"gate-{os.getpid()}"
    script = f"cat; while [ ! -e {gate} ]; do sleep 0.02; done; echo end"
    with connection.popen(script) as process:
        with pytest.raises(CommandTimeout):
            process.communicate("begin\n", timeout=0.2)
        gate.touch()
        try:
            assert process.communicate(timeout=20) == ("begin\nend\n", "")
        finally:
            gate.unlink()


def test_terminate_and_kill(connection: Connection, mark: str) -> None:
    with connection.popen(f"sleep {mark}; true") as process:
        assert process.terminate()
        assert process.wait(20) == 143
    with connection.popen(f"trap '' TERM; echo up; sleep {mark}; sleep {mark}") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert process.terminate()
        assert process.poll() is None
        assert process.kill()
        assert process.wait(20) == 137
    assert until(lambda: processes(mark) == [])


def test_any_signal_reaches_the_group(connection: Connection) -> None:
    # The shells above have to survive what is not for them.
    script = "trap 'echo got it; exit 5' USR1; echo up; while :; do sleep 0.02; done"
    with connection.popen(f"sh -c '{script.replace(chr(39), chr(34))}'") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        with pytest.raises(ValueError, match="not the name of a signal"):
            process.send_signal("NONSENSE")
        assert process.send_signal("SIGUSR1")
        assert process.stdout.readline() == "got it\n"


def test_end_leaves_nothing(connection: Connection, mark: str) -> None:
    process = connection.popen(f"trap '' TERM; echo up; sleep {mark} & sleep {mark}; sleep {mark}")
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    assert until(lambda: len(processes(mark)) == 2)
    assert process.end()
    assert processes(mark) == []
    process.close()


def test_leaving_the_block_waits_and_an_error_ends_the_command(
    connection: Connection, mark: str
) -> None:
    with connection.popen("cat >/dev/null; yes; echo never >&2") as process:
        pass
    assert process.returncode in (0, 141), "yes gets SIGPIPE or EPIPE"
    with pytest.raises(LookupError), connection.popen(f"sleep {mark}; true") as process:
        raise LookupError
    assert processes(mark) == []


def test_poll_does_not_wait_for_a_thread_that_does(connection: Connection) -> None:
    with connection.popen("read line; exit 3") as process:
        waiter = threading.Thread(target=process.wait)
        waiter.start()
        answers = [process.poll() for _ in range(20)]
        assert answers == [None] * 20
        assert process.stdin is not None
        process.stdin.write("go on\n")
        waiter.join(20)
        assert process.returncode == 3


def test_a_long_script_and_the_environment_come_before_the_input(connection: Connection) -> None:
    script = "".join(f"x{i}=value-of-line-{i}\n" for i in range(8100)) + 'echo "$x8099 $A"; cat'
    with connection.popen(script, env={"A": "a b"}) as process:
        out, err = process.communicate("and the rest", timeout=60)
    assert (out, err) == ("value-of-line-8099 a b\nand the rest", "")
    with connection.popen(script, env={"A": "a b"}, stdin=None) as process:
        assert process.stdin is None
        assert process.communicate(timeout=60)[0] == "value-of-line-8099 a b\n"


def test_a_killed_group_has_no_status(connection: Connection) -> None:
    with connection.popen("kill -9 0") as process, pytest.raises(CommandFailed, match="killed"):
        process.wait(20)
    assert process.returncode == -1


def test_a_dropped_process_gives_its_session_back(connection: Connection) -> None:
    for _ in range(20):  # more than there are sessions
        connection.popen("cat")
        gc.collect()
    assert connection.run("echo still").stdout == "still\n"
