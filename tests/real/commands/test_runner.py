"""Commands: how they end, what flows through them, and what is left of them on the host.

The autouse fixture counts logins: unless a test says otherwise, nothing here adds one.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection
from openssh_jobs.commands.command_line import Errors
from openssh_jobs.errors import CommandFailed, CommandTimeout
from tests.helpers import Backend, processes, run_client, start_client, until
from tests.lab.site import Host

_marks = iter(range(100_000, 200_000))


@pytest.fixture
def mark() -> str:
    """A number of seconds that no other process sleeps."""
    return f"{next(_marks)}.5"


# -- how a command ends ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 3, 126, 127, 254, 255])
def test_the_remote_status_is_the_status(connection: Connection, status: int) -> None:
    result = connection.run(f"echo out; echo err >&2; exit {status}")
    assert (result.returncode, result.stdout, result.stderr) == (status, "out\n", "err\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGSEGV])
def test_a_command_ended_by_a_signal_is_128_and_more(
    connection: Connection, number: signal.Signals
) -> None:
    result = connection.run(f"echo before; kill -{number.value} $$; echo after")
    assert (result.returncode, result.stdout, result.stderr) == (128 + number, "before\n", "")


def test_a_missing_command_is_127(connection: Connection) -> None:
    result = connection.run("no-such-command-here")
    assert result.returncode == 127
    assert "not found" in result.stderr


def test_a_group_that_kills_itself_is_no_lost_link(connection: Connection) -> None:
    with pytest.raises(CommandFailed, match="killed on the host") as caught:
        connection.run("echo before; kill -9 0")
    assert caught.value.sent == "yes"
    assert caught.value.stdout == b"before\n"
    assert connection.run("echo alive").stdout == "alive\n"


def test_check_raises_an_error_with_the_result(connection: Connection) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        connection.run("echo out; echo no licence >&2; exit 4", check=True)
    error = caught.value
    assert isinstance(error, CommandFailed)
    assert (error.returncode, error.stdout, error.stderr) == (4, "out\n", "no licence\n")
    assert (error.host, error.sent) == (connection.host, "yes")
    assert "no licence" in str(error)


# -- time limits and Ctrl-C -----------------------------------------------------------------------


def test_a_timeout_ends_the_remote_group(connection: Connection, mark: str) -> None:
    command = f"sleep {mark} & echo begun; (sleep {mark}); echo not reached"
    with pytest.raises(CommandTimeout, match="its processes were ended") as caught:
        connection.run(command, timeout=0.4)
    assert isinstance(caught.value, subprocess.TimeoutExpired)
    assert caught.value.confirmed
    assert caught.value.stdout == b"begun\n"
    assert processes(mark) == []
    assert connection.run("echo next").stdout == "next\n"


def test_a_timeout_ends_what_ignores_term(sshd: Host, backend: Backend, mark: str) -> None:
    with (
        Connection(sshd.alias, ssh_config=sshd.config, exec_backend=backend) as connection,
        pytest.raises(CommandTimeout) as caught,
    ):
        connection.run(f"trap '' TERM; sleep {mark}; sleep {mark}", timeout=0.3)
    assert caught.value.confirmed
    assert processes(mark) == []


def test_a_background_child_is_waited_for(connection: Connection) -> None:
    began = time.monotonic()
    result = connection.run("(sleep 0.5; echo late) & echo early")
    assert result.stdout == "early\nlate\n"
    assert time.monotonic() - began >= 0.5


def test_the_timeout_says_that_only_a_background_child_is_left(
    connection: Connection, mark: str
) -> None:
    with pytest.raises(CommandTimeout, match="background process") as caught:
        connection.run(f"sleep {mark} & echo begun", timeout=0.5)
    assert caught.value.stdout == b"begun\n"
    assert caught.value.confirmed
    assert processes(mark) == []


def test_a_detached_child_is_not_waited_for(connection: Connection, mark: str) -> None:
    result = connection.run(f"sleep {mark} </dev/null >/dev/null 2>&1 & echo $!", timeout=20)
    pid = int(result.stdout)
    assert processes(mark) == [pid]
    assert connection.run(["kill", str(pid)]).returncode == 0
    assert until(lambda: processes(mark) == [])


def test_ctrl_c_ends_the_remote_group(host: Host, backend: Backend, mark: str) -> None:
    code = f"c.run('echo up; sleep {mark}; true', on_stdout=lambda line: print(line, flush=True))"
    with start_client(code, host, backend) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == "up\n"
        assert until(lambda: len(processes(mark)) == 1)
        child.send_signal(signal.SIGINT)
        said = child.stderr.read()
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert processes(mark) == []


def test_a_callback_that_raises_ends_the_command(connection: Connection, mark: str) -> None:
    def stop(line: str) -> None:
        raise LookupError(line)

    with pytest.raises(LookupError, match="up"):
        connection.run(f"echo up; sleep {mark}; true", on_stdout=stop)
    assert processes(mark) == []


def test_a_forced_shell_below_the_session_is_ended_too(
    make_sshd: Callable[..., Host],
    cold: Path,
    expect_logins: Callable[..., None],
    backend: Backend,
    mark: str,
) -> None:
    """The shell that tells its pid does not lead the group here: kill -PID would miss it."""
    host = make_sshd(shell=("sh", "-c", "'sh \"$@\"; exit $?'", "wrapper"))
    expect_logins(1)
    with Connection(host.alias, ssh_config=host.config, exec_backend=backend) as connection:
        with pytest.raises(CommandTimeout) as caught:
            connection.run(f"sleep {mark}; true", timeout=0.5)
        assert caught.value.confirmed
        connection.close(stop_master=True)
    assert processes(mark) == []


# -- what flows -----------------------------------------------------------------------------------


def test_twenty_megabytes_both_ways_at_once(connection: Connection) -> None:
    data = os.urandom(20 << 20)
    result = connection.run(["cat"], input=data, text=False)
    assert result.returncode == 0
    assert result.stdout == data


def test_input_that_is_not_read_is_no_error(connection: Connection) -> None:
    result = connection.run("exec 0<&-; echo done", input=b"x" * (1 << 20))
    assert (result.returncode, result.stdout) == (0, "done\n")


def test_a_lot_on_stderr_and_stdout_at_once(connection: Connection) -> None:
    script = "head -c 3000000 /dev/zero >&2 & head -c 3000000 /dev/zero; wait"
    result = connection.run(script, text=False)
    assert (len(result.stdout), len(result.stderr)) == (3_000_000, 3_000_000)


def test_every_byte_comes_through(connection: Connection) -> None:
    data = bytes(range(256)) * 3 + b"\r\n\n no newline at the end"
    result = connection.run("tee /dev/stderr", input=data, text=False)
    assert (result.stdout, result.stderr) == (data, data)
    text = connection.run(["cat"], input=data.decode("utf-8", "surrogateescape"))
    assert text.stdout.encode("utf-8", "surrogateescape") == data


def test_a_number_is_no_input(connection: Connection) -> None:
    before = connection.stats().commands
    with pytest.raises(TypeError):
        connection.run("cat", input=5)  # type: ignore[call-overload]
    assert connection.stats().commands == before


def test_the_callers_stdin_is_left_alone(host: Host, backend: Backend) -> None:
    code = "print(repr(c.run('cat').stdout)); print(repr(sys.stdin.read())); c.close()"
    assert run_client(code, host, backend, input="mine\nall mine\n") == (
        "''\n'mine\\nall mine\\n'\n"
    )


def test_lines_arrive_as_they_are_written(connection: Connection, host: Host) -> None:
    """The command waits for what the callback does: were lines kept back, it would never end."""
    gate = host.home / f"gate-{os.getpid()}"
    lines: list[str] = []

    def seen(line: str) -> None:
        lines.append(line)
        gate.touch()
        gate.chmod(0o666)

    try:
        result = connection.run(
            f"echo öne; while [ ! -e {gate} ]; do sleep 0.01; done; echo; printf end",
            on_stdout=seen,
            timeout=30,
        )
    finally:
        gate.unlink(missing_ok=True)
    assert lines == ["öne\n", "\n", "end"]
    assert result.stdout == "öne\n\nend"


def test_both_streams_have_their_own_lines(connection: Connection) -> None:
    out: list[bytes] = []
    err: list[bytes] = []
    connection.run(
        r"printf 'a\nb\377'; printf 'c\nd' >&2",
        text=False,
        on_stdout=out.append,
        on_stderr=err.append,
    )
    assert (out, err) == ([b"a\n", b"b\xff"], [b"c\n", b"d"])


# -- what is asked --------------------------------------------------------------------------------

WORDS = [
    "",
    " ",
    "a b",
    "'",
    '"',
    "`id`",
    "$(id)",
    "$HOME",
    "~",
    "-n",
    "!!",
    "*",
    "a\nb",
    "\t",
    "\\",
    "\\n",
    "%s",
    "ä€😀",
    "x\udcff",
    ";",
    "&",
    "#",
    "=",
    "{a,b}",
]


def test_hostile_words_arrive_as_they_are(connection: Connection) -> None:
    result = connection.run(["printf", r"%s\0", *WORDS])
    assert result.stdout.split("\0")[:-1] == WORDS


def test_text_is_a_posix_script(connection: Connection) -> None:
    script = "X=1; for i in a b; do\n  printf '%s' \"$i$X\"\ndone; cat <<'END'\n!it's $HOME\nEND\n"
    assert connection.run(script).stdout == "a1b1!it's $HOME\n"


@pytest.mark.parametrize("command", ["", "  \n", "a\0b", [], ["a\0"]])
def test_what_is_no_command_is_refused_before_it_is_sent(
    connection: Connection, command: Any
) -> None:
    before = connection.stats()
    with pytest.raises(ValueError, match=r"."):
        connection.run(command)
    assert connection.stats() == before


def test_a_long_script_is_no_longer_than_its_results(connection: Connection) -> None:
    script = "".join(f"x{i}=value-of-line-{i}\n" for i in range(8100)) + "echo $x0 $x8099; cat"
    assert len(script) > 200_000
    result = connection.run(script, input="rest")
    assert (result.returncode, result.stdout) == (0, "value-of-line-0 value-of-line-8099\nrest")


def test_the_directory_and_the_environment(connection: Connection, host: Host) -> None:
    secret = "se'cret $HOME \n value"
    result = connection.run(
        "pwd; printf '%s\\n' \"$TOKEN\"; ps -ww -eo args",
        cwd="/usr/lib",
        env={"TOKEN": secret, "EMPTY": ""},
    )
    directory, value, ps = result.stdout.split("\n", 1)[0], secret, result.stdout
    assert directory == "/usr/lib"
    assert ps.count(value) == 1, "once as our own output, and in no command line"
    assert connection.run("pwd", cwd="~/").stdout == f"{host.home}\n"
    assert connection.run("pwd").stdout == f"{host.home}\n"


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A=B", "Ä", "A\n"])
def test_what_is_no_name_of_a_variable_is_refused(connection: Connection, name: str) -> None:
    with pytest.raises(ValueError, match="environment variable"):
        connection.run("true", env={name: "x"})


@pytest.mark.parametrize("stderr", ["pipe", "stdout", "devnull"])
def test_a_directory_that_cannot_be_entered(
    connection: Connection, host: Host, stderr: Errors
) -> None:
    closed = host.make_directory(f"closed-{os.getpid()}", 0o000)
    try:
        for path, number in (
            ("/no/such", errno.ENOENT),
            ("/etc/passwd", errno.ENOTDIR),
            (str(closed), errno.EACCES),
        ):
            with pytest.raises(OSError, match="not run") as caught:
                connection.run("echo ran", cwd=path)
            assert caught.value.errno == number
            with (
                pytest.raises(OSError, match="not run") as caught,
                connection.popen("echo ran", cwd=path, stderr=stderr) as process,
            ):
                process.wait(20)
            assert caught.value.errno == number
    finally:
        closed.rmdir()


def test_the_prologue_comes_first_and_everywhere(host: Host, backend: Backend) -> None:
    with Connection(
        host.alias,
        ssh_config=host.config,
        exec_backend=backend,
        prologue="greet() { echo hello $1; }",
    ) as connection:
        assert connection.run("greet you").stdout == "hello you\n"
        assert connection.run(["greet", "a b"]).stdout == "hello a b\n"


# -- many at once ---------------------------------------------------------------------------------


def test_run_many_keeps_the_order_and_goes_on_after_errors(connection: Connection) -> None:
    commands: list[Any] = [f"echo {i}; exit {i % 3}" for i in range(60)]
    commands[7] = ["sh", "-c", "kill -9 0"]
    results = connection.run_many(commands)
    assert len(results) == 60
    assert isinstance(results[7].error, CommandFailed)
    del results[7]
    numbers = [i for i in range(60) if i != 7]
    assert [result.stdout for result in results] == [f"{i}\n" for i in numbers]
    assert [result.returncode for result in results] == [i % 3 for i in numbers]
    assert all(result.error is None for result in results)


def test_run_many_refuses_before_anything_runs(connection: Connection, host: Host) -> None:
    trace = host.home / "never"
    with pytest.raises(ValueError, match="empty"):
        connection.run_many([f"touch {trace}", ""])
    with pytest.raises(ValueError, match="concurrency"):
        connection.run_many(["true"], concurrency=0)
    assert connection.run_many([]) == []
    assert not trace.exists()


def test_a_time_limit_in_run_many_is_for_each(connection: Connection, mark: str) -> None:
    quick, slow = connection.run_many(["echo quick", f"echo slow; sleep {mark}; true"], timeout=1)
    assert (quick.stdout, quick.error) == ("quick\n", None)
    assert isinstance(slow.error, CommandTimeout)
    assert processes(mark) == []


def test_thirty_threads_share_one_connection(connection: Connection) -> None:
    answers: dict[int, str] = {}

    def work(i: int) -> None:
        answers[i] = connection.run(f"echo {i}; cat", input=f"in {i}").stdout
        assert connection.is_dir("/tmp")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == {i: f"{i}\nin {i}" for i in range(30)}


def test_commands_leave_no_descriptor_open(connection: Connection) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    connection.run("true")
    connection.close()  # what is held would be given back at any time
    before = descriptors()
    for _ in range(5):
        connection.run("cat", input="x" * 100_000)
        with pytest.raises(CommandTimeout):
            connection.run("sleep 60", timeout=0.05)
        with connection.popen("cat") as process:
            process.communicate("x")
    connection.close()
    assert descriptors() == before
