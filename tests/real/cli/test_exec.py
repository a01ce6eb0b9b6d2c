"""``exec``: streams, exit codes, Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from openssh_jobs import Connection
from tests.cli import PROGRAM, at, on_terminal, program, started, stop_master, without_colour
from tests.lab import namespaces
from tests.lab.site import Host

pytest_plugins = ("tests.fixtures",)


def running(host: Host, mark: str) -> str:
    """The processes on a host with this mark; the one that looks spells it another way."""
    return program("exec", *at(host), "--", "pgrep", "-f", f"[{mark[0]}]{mark[1:]}").out


@pytest.mark.parametrize("code", [0, 1, 3, 77, 255])
def test_the_exit_code_is_that_of_the_command(sshd: Host, code: int) -> None:
    done = program("exec", *at(sshd), "--", "sh", "-c", f"echo out; echo err >&2; exit {code}")
    assert (done.code, done.out, done.err) == (code, "out\n", "err\n")


def test_a_signal_is_128_and_its_number(sshd: Host) -> None:
    assert program("exec", "-s", "kill -9 $$", *at(sshd)).code == 128 + 9


def test_words_arrive_as_they_are(sshd: Host) -> None:
    words = ["a b", "$(id)", "*", "'\"\\", "--", "-n", "", "~", "ü\n"]
    done = program("exec", *at(sshd), "--", "printf", "%s\\0", *words)
    assert done.out.split("\0")[:-1] == words


def test_a_script_is_a_script(sshd: Host) -> None:
    done = program("exec", "-s", 'for i in 1 2; do echo "$i"; done | tac', *at(sshd))
    assert (done.code, done.out) == (0, "2\n1\n")


def test_bytes_pass_through_both_ways(sshd: Host) -> None:
    data = bytes(range(256)) * 20_000
    done = subprocess.run(
        [*PROGRAM, "exec", *at(sshd), "--", "sh", "-c", "cat; printf '\\377' >&2"],
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout == data
    assert done.stderr == b"\xff"


def test_output_comes_as_it_is_written(sshd: Host) -> None:
    """The second line is only written after we have read the first and answered."""
    child = started(
        *("exec", "-s", "echo ready; read -r answer; echo got $answer", *at(sshd)),
        stdin=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        assert child.stdout.readline() == b"ready\n"
        child.stdin.write(b"this\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"got this\n"
        # Standard input is still open: the end of the command is enough.
        assert child.wait(20) == 0


def test_in_a_loop_no_stdin_is_eaten(sshd: Host) -> None:
    line = " ".join([*PROGRAM, "exec", "-n", *at(sshd), "--", "cat"])
    done = subprocess.run(
        ["sh", "-c", f"while read -r one; do echo $one; {line}; done"],
        input="1\n2\n3\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("1\n2\n3\n", "")


def test_a_reader_that_has_seen_enough_ends_the_command(sshd: Host) -> None:
    mark = f"oj-{os.getpid()}"
    child = started("exec", "-s", f": {mark}; yes; sleep 60", *at(sshd))
    assert child.stdout is not None
    assert child.stdout.readline() == b"y\n"
    child.stdout.close()
    assert child.stderr is not None
    with child:
        assert child.wait(20) == 141
        assert child.stderr.read() == b""
    assert running(sshd, mark) == ""


def test_exec_as_data(sshd: Host) -> None:
    done = program(
        "exec", "--json", "-s", "cat; printf '\\377'; echo e >&2; exit 4", *at(sshd), input=b"in"
    )
    assert done.code == 4
    assert {key: done.data[key] for key in ("host", "returncode", "stdout", "stderr")} == {
        "host": sshd.alias,
        "returncode": 4,
        "stdout": "in\udcff",
        "stderr": "e\n",
    }
    assert done.data["elapsed"] > 0
    assert done.data["timed_out"] is False


def test_a_timeout_ends_the_command_and_says_so(sshd: Host) -> None:
    done = program("exec", "--timeout", "0.5", "-s", "echo begun; sleep 60", *at(sshd))
    assert (done.code, done.out) == (124, "begun\n")
    assert "the command ran longer than 0.5 s and was ended" in done.sentence()
    data = program("exec", "--json", "--timeout", "0.5", "-s", "echo begun; sleep 60", *at(sshd))
    assert data.code == 124
    assert (data.data["returncode"], data.data["timed_out"]) == (None, True)
    assert data.data["stdout"] == "begun\n"


def test_ctrl_c_ends_the_command_and_says_so(sshd: Host) -> None:
    mark = f"oj-c-{os.getpid()}"
    child = started("exec", "-s", f": {mark}; echo ready; sleep 60", *at(sshd))
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
        said = child.stderr.read().decode()
    ended = f"openssh-jobs: stopped; the command on {sshd.alias} was ended.\n"
    # Outside of the lab process 1 is not ours, and may be slow to bury what was ended.
    slow = f"openssh-jobs: stopped; the command on {sshd.alias} may still run.\n"
    assert said in ((ended,) if namespaces.inside() else (ended, slow))
    assert running(sshd, mark) == ""


def test_ctrl_c_leaves_though_the_host_hangs(
    make_sshd: Callable[..., Host], cold: Path, expect_logins: Callable[..., None]
) -> None:
    expect_logins(1)
    host = make_sshd()
    child = started("exec", "-s", "echo ready; sleep 60", *at(host))
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        assert child.stdout.readline() == b"ready\n"
        host.server.freeze()
        try:
            child.send_signal(signal.SIGINT)
            assert child.wait(10) == 130
            said = child.stderr.read().decode()
        finally:
            host.server.thaw()
    assert said == f"openssh-jobs: stopped; the command on {host.alias} may still run.\n"
    stop_master(host)


def test_the_login_shell_where_it_is_asked_for(sshd: Host) -> None:
    done = program("exec", "--login-shell", "-s", "echo $0", *at(sshd))
    assert done.code == 0
    assert program("exec", "-s", "echo $0", *at(sshd)).out == "/bin/sh\n"


def test_another_route_to_the_same_host(jump: Host) -> None:
    assert program("exec", *at(jump), "--", "echo", "inside").out == "inside\n"


def test_a_person_sees_who_holds_all_sessions(
    make_sshd: Callable[..., Host],
    connect: Callable[..., Connection],
    expect_logins: Callable[..., None],
) -> None:
    """A person gets one message, soon, with the names; a program and ``-q`` wait silently."""
    host = make_sshd(max_sessions=1)
    expect_logins(1)
    words = (*at(host), "--", "echo", "done")
    with connect(host).popen("exec sleep 9"), ThreadPoolExecutor() as pool:
        silent = pool.submit(program, "exec", *words)
        quiet = pool.submit(on_terminal, "exec", "-q", *words)
        done = on_terminal("exec", *words)
    said = without_colour(done.out).splitlines()
    assert (done.code, len(said), said[-1]) == (0, 2, "done"), said
    assert re.search(rf"MaxSessions\) are in use; they are held by .*\b{os.getpid()}\b", said[0])
    assert said[0].endswith("; waiting for one to end")
    assert (silent.result().out, silent.result().err) == ("done\n", "")
    assert quiet.result().out == "done\n"


def test_the_program_is_quick_to_leave(sshd: Host) -> None:
    """A terminal that will never type another line keeps nobody waiting."""
    ours, theirs = os.pipe()
    try:
        child = started("exec", *at(sshd), "--", "true", stdin=ours)
        assert child.wait(20) == 0
        for stream in (child.stdout, child.stderr):
            assert stream is not None
            stream.close()
    finally:
        os.close(ours)
        os.close(theirs)


def test_two_commands_are_one_login(sshd: Host) -> None:
    """What runs one after the other rides one master."""
    before = sshd.logins()
    assert program("exec", *at(sshd), "--", "true").code == 0
    assert program("exec", *at(sshd), "--", "true").code == 0
    assert sshd.logins() == before
