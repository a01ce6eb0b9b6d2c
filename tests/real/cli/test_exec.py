"""The frame of the command line, and ``exec``: streams, exit codes, one sentence an error."""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from openssh_jobs import Connection, __version__
from openssh_jobs.cli import app, main
from openssh_jobs.cli.app import _parse
from openssh_jobs.testing.sshd import free_port, make_key
from tests.cli import PROGRAM, on_terminal, program, started, stop_master, without_colour
from tests.lab import namespaces
from tests.lab.site import Host
from tests.paths import CHECKOUT

pytest_plugins = ("tests.fixtures",)

COMMANDS = [
    *("exec", "put", "get", "submit", "status", "cancel", "tail", "fetch", "nodes", "queues"),
    *("login", "logout", "masters", "forward", "doctor"),
]


def at(host: Host) -> list[str]:
    """The options and the name by which the command line reaches a host."""
    return ["-F", str(host.config), host.alias]


def running(host: Host, mark: str) -> str:
    """The processes on a host with this mark; the one that looks spells it another way."""
    return program("exec", *at(host), "--", "pgrep", "-f", f"[{mark[0]}]{mark[1:]}").out


# -- the frame ----------------------------------------------------------------------------------


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"openssh-jobs {__version__}\n"
    assert program("-V").out == f"openssh-jobs {__version__}\n"


def test_the_version_costs_no_imports() -> None:
    code = (
        "import sys; from openssh_jobs.cli import main; main(['--version']); "
        "print(sorted({'argparse', 'logging', 'pexpect', 'rich', 'sqlite3', 'subprocess'} "
        "& set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.splitlines()[1:] == ["[]"]


@pytest.mark.parametrize("command", [*COMMANDS, "demo"])
def test_every_command_teaches_by_example(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([command, "--help"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert f"  openssh-jobs {command} " in said.out or f"  openssh-jobs {command}\n" in said.out
    assert "exit codes:" in said.out
    assert "--json" in said.out
    assert max(map(len, said.out.splitlines())) <= 90
    for line in re.findall(r"^  (openssh-jobs .*?)(?:  .*)?$", said.out, re.MULTILINE):
        understood(line)


def understood(line: str) -> None:
    """An example has to be a command line that we take; raises what we would complain of."""
    program_name, *words = shlex.split(line, comments=True)
    assert program_name == "openssh-jobs"
    assert _parse(words).command == words[0]


def test_the_readme_shows_what_works() -> None:
    readme = (CHECKOUT / "README.rst").read_text()
    lines = re.findall(r"^    \$ (openssh-jobs .*)$", readme, re.MULTILINE)
    shown = set()
    for line in lines:
        understood(line)
        shown.add(line.split()[1])
    assert shown >= set(COMMANDS)


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for command in [*COMMANDS, "demo"]:
        assert re.search(rf"^    {command} ", said, re.MULTILINE), command


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "openssh-jobs --help"),
        (["nope"], "invalid choice: 'nope'"),
        (["tail", "h", "5", "--flow"], "openssh-jobs tail: unrecognized arguments: --flow"),
        (["get", "h:x", "y", "--method", "ftp"], "method='ftp' is none of"),
        (["fetch", "h", "5", "y", "--resume", "--method", "sftp"], "resume=True goes on by"),
        (["exec"], "HOST"),
        (["exec", "h"], "-s"),
        (["exec", "h", "ls", "-l", "x"], "put -- before the command"),
        (["exec", "h", "-s", "ls", "--", "ls"], "either"),
        (["exec", "h", "--timeout", "0", "--", "ls"], "--timeout"),
        (["exec", "h", "-o", "Nothing", "--", "ls"], "KEY=VALUE"),
        (["exec", "h", "-p", "x", "--", "ls"], "-p"),
        (["put", "only-one"], "HOST:PATH"),
        (["put", "/etc/passwd", "no-colon"], "no HOST:PATH"),
        (["put", "/etc/passwd", "/a/b:c"], "no HOST:PATH"),
        (["put", "/etc/passwd", "ssh://h/x"], "URL"),
        (["get", "h:", "."], "no name of its own"),
        (["submit", "h", "d"], "--remote-script"),
        (["submit", "h", "d", "--script", "/"], "directory"),
        (["submit", "h", "d", "--script", "x", "--env", "A"], "KEY=VALUE"),
        (["cancel", "h"], "JOB"),
        (["tail", "h", "1", "-f", "-n", "3"], "-n"),
        (["tail", "h", "1", "-f", "--json"], "--json"),
        (["nodes", "h", "--scheduler", "crystal-ball"], "crystal-ball"),
        (["demo", "-F", "/dev/null"], "--host"),
        (["demo", "--scheduler", "slurm"], "--host HOST --scheduler slurm"),
    ],
)
def test_wrong_use_is_one_sentence_and_2(words: list[str], says: str) -> None:
    done = program(*words)
    assert done.code == 2
    assert says in done.sentence()
    if not {"--json"} & set(words):
        assert done.out == ""


@pytest.mark.parametrize(
    "host", ["-oProxyCommand=touch /tmp/x", "a b", "a\nb", "h;id", "x@-oA", "", "-x@h"]
)
def test_a_host_that_is_none_is_refused_by_name(host: str) -> None:
    assert main(["exec", "--", "ls"]) == 2
    done = program("exec", "-n", f"--jump={host}", "h", "--", "ls")
    assert done.code == 2
    assert "host name" in done.sentence() or "user name" in done.sentence()


# -- who cannot be reached ----------------------------------------------------------------------


def test_an_unknown_host(cold: Path) -> None:
    done = program("exec", "no-such-host.invalid", "--", "ls")
    assert done.code == 3
    assert "no-such-host.invalid: ssh does not know this host" in done.sentence()
    assert "ssh -G no-such-host.invalid" in done.sentence()


def test_an_unknown_host_as_data(cold: Path) -> None:
    done = program("exec", "no-such-host.invalid", "--json", "--", "ls")
    assert done.code == 3
    error = done.data["error"]
    assert (error["type"], error["exit_code"]) == ("HostUnreachable", 3)
    assert (error["host"], error["sent"]) == ("no-such-host.invalid", "no")
    assert error["message"] == done.sentence()


def test_nobody_listens(cold: Path) -> None:
    done = program("exec", "-p", str(free_port()), "127.0.0.1", "--", "ls")
    assert done.code == 3
    assert "cannot be reached: Connection refused" in done.sentence()


def test_a_refused_key(make_sshd: Callable[..., Host], cold: Path) -> None:
    host = make_sshd()
    make_key(cold / "other", "another key")
    config = cold / "config"
    config.write_text(
        host.config.read_text().replace(str(host.server.identity), str(cold / "other"))
    )
    done = program("exec", "-F", str(config), host.alias, "--", "ls")
    assert done.code == 3
    assert "was refused; the server takes: publickey" in done.sentence()


def test_an_unreachable_jump_host(sshd: Host, cold: Path) -> None:
    done = program("exec", "-J", "gate.invalid", *at(sshd), "--", "ls")
    assert done.code == 3
    assert "jump host" in done.sentence()
    assert "gate.invalid" in done.sentence()


def test_debug_shows_where_and_the_sentence_stays(cold: Path) -> None:
    done = program("exec", "--debug", "no-such-host.invalid", "--", "ls")
    assert done.code == 3
    assert "Traceback" in done.err
    assert "HostUnreachable" in done.err
    assert "ssh does not know this host" in done.err.splitlines()[-1]


# -- exec ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 3, 77, 255])
def test_the_exit_code_is_that_of_the_command(sshd: Host, code: int) -> None:
    done = program("exec", *at(sshd), "--", "sh", "-c", f"echo out; echo err >&2; exit {code}")
    assert (done.code, done.out, done.err) == (code, "out\n", "err\n")


def test_a_signal_is_128_and_its_number(sshd: Host) -> None:
    assert program("exec", *at(sshd), "-s", "kill -9 $$").code == 128 + 9


def test_words_arrive_as_they_are(sshd: Host) -> None:
    words = ["a b", "$(id)", "*", "'\"\\", "--", "-n", "", "~", "ü\n"]
    done = program("exec", *at(sshd), "--", "printf", "%s\\0", *words)
    assert done.out.split("\0")[:-1] == words


def test_a_script_is_a_script(sshd: Host) -> None:
    done = program("exec", *at(sshd), "-s", 'for i in 1 2; do echo "$i"; done | tac')
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
        *("exec", *at(sshd), "-s", "echo ready; read -r answer; echo got $answer"),
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
    child = started("exec", *at(sshd), "-s", f": {mark}; yes; sleep 60")
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
        "exec", "--json", *at(sshd), "-s", "cat; printf '\\377'; echo e >&2; exit 4", input=b"in"
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
    done = program("exec", "--timeout", "0.5", *at(sshd), "-s", "echo begun; sleep 60")
    assert (done.code, done.out) == (124, "begun\n")
    assert "was not over after 0.5 s and was ended" in done.sentence()
    data = program("exec", "--json", "--timeout", "0.5", *at(sshd), "-s", "echo begun; sleep 60")
    assert data.code == 124
    assert (data.data["returncode"], data.data["timed_out"]) == (None, True)
    assert data.data["stdout"] == "begun\n"


def test_ctrl_c_ends_the_command_and_says_so(sshd: Host) -> None:
    mark = f"oj-c-{os.getpid()}"
    child = started("exec", *at(sshd), "-s", f": {mark}; echo ready; sleep 60")
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
    child = started("exec", *at(host), "-s", "echo ready; sleep 60")
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
    done = program("exec", "--login-shell", *at(sshd), "-s", "echo $0")
    assert done.code == 0
    assert program("exec", *at(sshd), "-s", "echo $0").out == "/bin/sh\n"


def test_another_route_to_the_same_host(jump: Host) -> None:
    assert program("exec", *at(jump), "--", "echo", "inside").out == "inside\n"


def test_sentences_do_not_obey_the_host() -> None:
    """What a host or a user names must not reach the terminal as it is."""
    done = program("put", "/etc/passwd", "h\x1b[31m;x")
    assert done.code == 2
    assert "\x1b" not in done.err
    assert "\\x1b" in done.sentence()


def test_a_debug_log_does_not_obey_the_host(capsys: pytest.CaptureFixture[str]) -> None:
    with app._logging(app.Ui(debug=True)):
        logging.getLogger("openssh_jobs.test").debug("said %s", "\x1b]0;x\x07 \u202e\nsecond")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith(r"said \x1b]0;x\x07 \u202e")
    assert second == "second"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_trouble(sshd: Host, closed: str, tmp_path: Path) -> None:
    """What is closed gets nothing; the command does its work, and its files arrive as they are."""
    there = sshd.home / "oj-closed"
    for words in (
        ["exec", *at(sshd), "--", "sh", "-c", "echo said; echo also >&2; echo ran >>oj-closed"],
        ["exec", "--json", *at(sshd), "-s", "echo said; echo ran >>oj-closed"],
        ["get", "-F", str(sshd.config), f"{sshd.alias}:oj-closed", str(tmp_path / "got")],
        ["masters"],
        ["--version"],
    ):
        line = shlex.join([*PROGRAM, *words]) + " " + closed
        done = subprocess.run(["sh", "-c", line], capture_output=True, timeout=60, check=False)
        said = done.stderr.decode()
        assert (done.returncode, "Traceback" in said) == (0, False), said
        assert ">&-" not in closed.replace("2>&-", "") or done.stdout == b""
    there.unlink()
    assert (tmp_path / "got").read_text() == "ran\nran\n"


def test_a_failure_with_closed_streams_has_its_exit_code(cold: Path) -> None:
    words = shlex.join([*PROGRAM, "exec", "no-such-host.invalid", "--", "ls"])
    assert (
        subprocess.run(["sh", "-c", words + " >&- 2>&-"], timeout=60, check=False).returncode == 3
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_output_on_a_full_disk_is_one_sentence() -> None:
    line = f"{shlex.join(PROGRAM)} masters --json >/dev/full"
    done = subprocess.run(["sh", "-c", line], capture_output=True, timeout=60, check=False)
    (said,) = done.stderr.decode().splitlines()
    assert (done.returncode, "No space left on device" in said) == (1, True), said


def test_a_terminal_gets_the_same_sentence(cold: Path) -> None:
    done = on_terminal("exec", "no-such-host.invalid", "--", "ls")
    assert done.code == 3
    (line,) = without_colour(done.out).splitlines()
    assert "ssh does not know this host" in line


def test_a_person_hears_who_holds_all_sessions(
    make_sshd: Callable[..., Host],
    connect: Callable[..., Connection],
    expect_logins: Callable[..., None],
) -> None:
    """A terminal is told once, soon, and by name; a program and ``-q`` wait silently."""
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
