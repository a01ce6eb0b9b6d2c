"""Signals: what they end, what they leave (nothing), and calls from the middle of a call."""

from __future__ import annotations

import fcntl
import itertools
import os
import pty
import signal
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection
from openssh_jobs.cli import main
from openssh_jobs.commands.child import Running
from openssh_jobs.commands.remote_process import RemoteProcess
from openssh_jobs.commands.runner import Commands
from openssh_jobs.errors import ConfigurationError
from openssh_jobs.openssh import process
from openssh_jobs.transport.sessions import Sessions
from tests.cli import started
from tests.helpers import processes, run_client, start_client, until
from tests.lab.site import Host

_marks = itertools.count(211_000)
ENDING = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]


@pytest.fixture
def mark() -> str:
    """A number of seconds that no other process sleeps."""
    return f"{next(_marks)}.25"


@pytest.fixture
def there(sshd: Host) -> Path:
    """A directory of the test's own on the host, as it is seen from here."""
    return sshd.make_directory(f"oj-signals-{next(_marks)}")


def at(host: Host) -> list[str]:
    return ["-F", str(host.config), host.alias]


def usual() -> None:
    """As a shell starts a command in the foreground, however the tests were started."""
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)


def ignoring(*numbers: int) -> Callable[[], None]:
    """As nohup, or a shell without job control, starts a command."""

    def ignore() -> None:
        usual()
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    return ignore


def at_work(host: Host, mark: str, **options: Any) -> subprocess.Popen[bytes]:
    """``openssh-jobs exec`` of a command that has begun and does not end by itself."""
    script = f"trap '' HUP INT; echo begun; sleep {mark}; true"
    child = started("exec", "-s", script, *at(host), **{"preexec_fn": usual, **options})
    assert until(lambda: len(processes(mark)) == 1, 30)
    return child


def end(child: subprocess.Popen[bytes], *numbers: int) -> tuple[int, str]:
    """Send signals; the exit code and what was said."""
    with child:
        for number in numbers:
            child.send_signal(number)
        try:
            _, said = child.communicate(timeout=30)
        finally:
            child.kill()
    return child.returncode, (said or b"").decode()


# -- the command line ---------------------------------------------------------------------------


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_ends_the_remote_command(sshd: Host, mark: str, number: int) -> None:
    code, said = end(at_work(sshd, mark), number)
    assert code == 128 + number
    assert said == f"openssh-jobs: stopped; the command on {sshd.alias} was ended.\n"
    assert processes(mark) == []


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("what", ["get", "put"])
def test_a_signal_leaves_no_part(
    sshd: Host, there: Path, tmp_path: Path, what: str, number: int
) -> None:
    source, target = (there, tmp_path) if what == "get" else (tmp_path, there)
    with (source / "big").open("wb") as handle:
        handle.truncate(1 << 40)
    (target / "old").write_text("old")
    far, near = f"{sshd.alias}:{there}", str(tmp_path)
    words = [f"{far}/big", f"{near}/old"] if what == "get" else [f"{near}/big", f"{far}/old"]
    os.chmod(target, 0o777)
    child = started(what, "--all", "-F", str(sshd.config), *words, preexec_fn=usual)
    assert until(lambda: any(one.stat().st_size > 1 << 20 for one in target.glob(".oj-*")), 30)
    code, _ = end(child, number)
    assert code == 128 + number
    assert sorted(os.listdir(target)) == ["old"]
    assert (target / "old").read_text() == "old"


@pytest.mark.parametrize("again", [False, True])
def test_a_part_on_a_slow_host_is_waited_for_until_ctrl_c_comes_again(
    make_sshd: Callable[..., Host],
    cold: Path,
    tmp_path: Path,
    expect_logins: Callable[..., None],
    again: bool,
) -> None:
    """The host stands still for two seconds, as a link or a file system may."""
    expect_logins(1)
    host = make_sshd()
    there = host.make_directory("target", 0o777)
    with (tmp_path / "big").open("wb") as handle:
        handle.truncate(1 << 36)
    words = ["put", "--all", "-F", str(host.config), str(tmp_path / "big"), f"private:{there}/big"]
    child = started(*words, preexec_fn=usual)
    try:
        assert until(lambda: any(one.stat().st_size > 1 << 20 for one in there.glob(".oj-*")), 30)
        host.server.freeze()
        began = time.monotonic()
        child.send_signal(signal.SIGINT)
        time.sleep(2)
        assert child.poll() is None
        if again:
            child.send_signal(signal.SIGINT)
            assert child.wait(2) == 130
        host.server.thaw()
        assert child.wait(20) == 130
        assert time.monotonic() - began < 15
        assert again or os.listdir(there) == []
    finally:
        host.server.thaw()
        child.kill()
        child.communicate(timeout=20)
        with Connection(host.alias, ssh_config=host.config) as connection:
            connection.close(stop_master=True)


@pytest.mark.parametrize(
    "numbers",
    [(signal.SIGTERM, signal.SIGTERM), (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)],
    ids=["twice", "all"],
)
def test_a_second_signal_does_not_disturb_the_end(
    sshd: Host, mark: str, numbers: tuple[int, ...]
) -> None:
    code, said = end(at_work(sshd, mark), *numbers)
    assert code in {128 + number for number in numbers}
    assert said == f"openssh-jobs: stopped; the command on {sshd.alias} was ended.\n"
    assert processes(mark) == []


STEPS: dict[str, tuple[type, str, bool, str]] = {
    "before": (Commands, "launch", False, "was not started"),
    "asking": (Sessions, "open", False, "may still run"),
    "asked": (Running, "_await_start", False, "was ended"),
    "begun": (Running, "start", True, "was ended"),
    "launched": (Commands, "launch", True, "was ended"),
    "taken": (RemoteProcess, "__init__", True, "was ended"),
}


@pytest.mark.parametrize(
    ("step", "form"),
    # With --json there is no RemoteProcess.
    [(s, f) for s in STEPS for f in ([], ["--json"]) if (s, f) != ("taken", ["--json"])],
)
def test_a_signal_while_a_command_begins_says_what_became_of_it(
    sshd: Host,
    mark: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    step: str,
    form: list[str],
) -> None:
    """TERM arrives just before or after a call on the way from the command line to the host."""
    owner, name, late, fate = STEPS[step]
    real = getattr(owner, name)
    fired: list[object] = []

    def interrupted(*words: Any, **options: Any) -> Any:
        if not late and not fired:
            fired.append(signal.raise_signal(signal.SIGTERM))
        result = real(*words, **options)
        if late and not fired:
            fired.append(signal.raise_signal(signal.SIGTERM))
        return result

    monkeypatch.setattr(owner, name, interrupted)
    code = main(["exec", *form, "-n", "-s", f"sleep {mark}; true", *at(sshd)])
    said = capsys.readouterr().err
    assert code == 128 + signal.SIGTERM
    assert said == f"openssh-jobs: stopped; the command on {sshd.alias} {fate}.\n"
    assert until(lambda: processes(mark) == [])


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_what_was_ignored_at_the_start_stays_ignored(sshd: Host, mark: str, number: int) -> None:
    child = at_work(sshd, mark, preexec_fn=ignoring(number))
    child.send_signal(number)
    time.sleep(1)
    assert child.poll() is None
    assert len(processes(mark)) == 1
    other = signal.SIGHUP if number == signal.SIGTERM else signal.SIGTERM
    code, said = end(child, other)
    assert code == 128 + other
    assert said.endswith("was ended.\n")
    assert processes(mark) == []


def test_a_closed_terminal_ends_the_remote_command(sshd: Host, mark: str) -> None:
    ours, theirs = pty.openpty()

    def on_the_terminal() -> None:
        usual()
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    child = at_work(sshd, mark, preexec_fn=on_the_terminal, **streams)
    os.close(theirs)
    with child:
        os.close(ours)
        assert child.wait(30) == 128 + signal.SIGHUP
    assert processes(mark) == []


def test_a_reader_that_has_seen_enough_ends_the_remote_command(sshd: Host, mark: str) -> None:
    script = f"sleep {mark} & while echo line; do sleep 0.1; done; wait"
    child = started("exec", "-s", script, *at(sshd), preexec_fn=usual)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"line\n"
        child.stdout.close()
        assert child.wait(30) == 141
        child.kill()
    assert until(lambda: processes(mark) == [])


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_during_a_login_ends_it(
    sshd: Host, cold: Path, mark: str, number: int, expect_logins: Callable[..., None]
) -> None:
    expect_logins(0)
    way = ["-o", f"ProxyCommand=sleep {mark}"]
    child = started("exec", *way, *at(sshd), "--", "true", preexec_fn=usual)
    assert until(lambda: len(processes(mark)) == 1, 30)
    code, said = end(child, number)
    assert code == 128 + number
    assert said == f"openssh-jobs: stopped; the command on {sshd.alias} was not started.\n"
    assert processes(mark) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_query_that_does_not_end(
    sshd: Host, cold: Path, mark: str, number: int, expect_logins: Callable[..., None]
) -> None:
    expect_logins(1)
    words = ["--scheduler", "direct", "--prologue", f"sleep {mark}; true"]
    child = started("status", *words, *at(sshd), "4711", preexec_fn=usual)
    assert until(lambda: len(processes(mark)) == 1, 30)
    code, _ = end(child, number)
    assert code == 128 + number
    assert processes(mark) == []
    run_client("c.close(stop_master=True)", sshd)


def test_signals_at_any_moment_leave_nothing(sshd: Host, mark: str) -> None:
    """From the first connection to the end of the command."""
    for number in range(12):
        child = started("exec", "-s", f"sleep {mark}; true", *at(sshd), preexec_fn=usual)
        time.sleep(0.1 + 0.05 * number)
        code, said = end(child, signal.SIGTERM)
        # Before anything was begun Python's own handler, or none, may be there still.
        assert code in (128 + signal.SIGTERM, -signal.SIGTERM), said
        assert until(lambda: processes(mark) == [], 5), (number, said)


# -- programs that use the library --------------------------------------------------------------

INTERRUPTED = """
import os, signal, time
def on_alarm(*_):
    try:
        heard.append(call())
    except Exception as error:
        heard.append(error)
heard = []
signal.signal(signal.SIGALRM, on_alarm)
def after(seconds): signal.setitimer(signal.ITIMER_REAL, seconds)
c.is_dir('/')
began = time.monotonic()
"""
REFUSED = "assert isinstance(heard[0], ValueError) and 'in the middle' in str(heard[0]), heard\n"
AT_ONCE = "assert time.monotonic() - began < 10\n"


def test_a_handler_does_not_take_the_answer_of_a_call(host: Host, backend: str) -> None:
    code = (
        "call = lambda: c.exists('/etc/passwd')\nafter(0.3)\n"
        "assert c._shell.call(b'sleep 1; echo mine').stdout == b'mine\\n'\n"
    )
    more = "assert c.exists('/etc/passwd') and not c.exists('/none')\n"
    assert run_client(INTERRUPTED + code + REFUSED + more + AT_ONCE, host, backend) == ""


def test_a_handler_does_not_write_into_a_batch_of_sftp(host: Host, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "call = lambda: c.get('small', sys.argv[2] + '.small')\n"
        "c.write_bytes('small', b'x'); open(sys.argv[2] + '.big', 'wb').close()\n"
        "os.truncate(sys.argv[2] + '.big', 1 << 28)\n"
        "def progress(*_):\n"
        "    if not heard: on_alarm()\n"
        "c.put(sys.argv[2] + '.big', 'big', method='sftp', progress=progress)\n"
        "assert c.run('wc -c < big').stdout.strip() == str(1 << 28)\n"
        "c.remove('big'); c.remove('small'); os.unlink(sys.argv[2] + '.big')\n"
        "assert heard, 'it was never called'\n"
        "if os.path.exists(sys.argv[2] + '.small'): os.unlink(sys.argv[2] + '.small')\n"
        "else: " + REFUSED
    )
    assert run_client(INTERRUPTED + code, host) == ""


def test_nested_handlers_run_commands_or_are_refused(host: Host, backend: str) -> None:
    """Each holds a session until the one that interrupted it ends: there are only so many."""
    code = """
depth = 0
def call():
    global depth
    depth += 1
    number = depth
    if number < 12: after(0.3)
    return c.run('sleep 0.8; echo %d' % number).stdout
after(0.3)
assert c.run('sleep 1; echo outer').stdout == 'outer\\n'
after(0)
kinds = {type(one).__name__ for one in heard}
assert kinds <= {'str', 'SessionLimit'} and 'str' in kinds, heard
assert c.run('echo well').stdout == 'well\\n'
"""
    assert run_client(INTERRUPTED + code, host, backend) == ""


def test_a_call_in_a_finalizer_spoils_nothing(host: Host) -> None:
    code = """
import atexit, gc, weakref
class Ended:
    def __del__(self): call_and_keep()
def call_and_keep():
    try: heard.append(c.exists('/etc/passwd'))
    except ValueError as error: heard.append('in the middle' in str(error))
real = c._shell._session.worker.call
def call_with_garbage(*a, **b):
    del Ended.kept
    return real(*a, **b)
Ended.kept = Ended()
c._shell._session.worker.call = call_with_garbage
assert c._shell.call(b'echo mine').stdout == b'mine\\n'
c._shell._session.worker.call = real
one = Ended(); one.itself = one; del one; gc.collect()
other = Ended.__new__(Ended)
kept = weakref.finalize(other, call_and_keep)
del other
assert heard == [True] * 4, heard
atexit.register(lambda: print(c.exists('/etc/passwd'), c.run('echo last').stdout, end=''))
"""
    assert run_client(INTERRUPTED + code, host) == "True last\n"


@pytest.mark.parametrize("before", ["", "c.run_many(['true'])"])
def test_many_commands_at_the_end_of_a_program(host: Host, before: str) -> None:
    """No thread can be started there."""
    code = """
import atexit
@atexit.register
def ask():
    print([one.stdout for one in c.run_many(['echo a', 'echo b; exit 3', 'echo c'])])
"""
    assert run_client(before + code, host) == "['a\\n', 'b\\n', 'c\\n']\n"


def test_ctrl_c_ends_all_of_many_commands(host: Host, backend: str, mark: str) -> None:
    code = (
        f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"c.run_many(['sleep {mark}; true'] * 5 + ['sleep {mark}1'] * 20, concurrency=5)"
    )
    with start_client(code, host, backend) as child:
        assert child.stderr is not None
        assert until(lambda: len(processes(mark)) == 5, 30)
        child.send_signal(signal.SIGINT)
        assert child.wait(30) != 0
        assert child.stderr.read().rstrip().endswith("KeyboardInterrupt")
    assert processes(mark) == processes(f"{mark}1") == []


FORWARDED = """
import os, socket
with c.forward_local(22) as one:
    pid = os.fork()
    if pid == 0:
        one.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert one.alive
    with socket.create_connection((one.local_host, one.local_port), timeout=20) as link:
        link.settimeout(20)
        print(link.recv(4).decode())
"""


@pytest.mark.parametrize(("route", "backend"), [("direct", "mux")])
def test_a_forked_child_does_not_take_back_a_forward(host: Host, backend: str) -> None:
    said = run_client(
        FORWARDED.replace("(22)", f"({host.server.port}, remote_host={host.server.address!r})"),
        host,
        backend,
    )
    assert said == "SSH-\n"


@pytest.mark.parametrize("ignored", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
@pytest.mark.parametrize("number", [None, signal.SIGPIPE, signal.SIGXFSZ])
def test_what_is_started_does_not_inherit_that_a_signal_is_ignored(
    ignored: int, number: int | None
) -> None:
    """Neither by what started this program, nor by Python itself."""
    number = number or ignored
    before = signal.signal(ignored, signal.SIG_IGN)
    try:
        script = f"ulimit -c 0; kill -{int(number)} $$; echo survived"
        done = process.run(["sh", "-c", script], timeout=20)
        missing = pytest.raises(FileNotFoundError)
        with missing:
            process.run(["/no/such/program"], timeout=20)
    finally:
        signal.signal(ignored, before)
    assert (done.returncode, done.stdout) == (-number, b"")


def test_where_no_end_can_be_known_nothing_is_started() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(ConfigurationError, match="SIGCHLD"):
            process.run(["false"], timeout=20)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert process.run(["false"], timeout=20).returncode == 1
