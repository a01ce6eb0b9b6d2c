"""The one place that starts processes on this machine.

Every child gets a session of its own, so that a Ctrl-C at the terminal reaches nobody but us and
a whole family (ssh and the ``ssh -W`` of a jump host) can be ended at once, and a C locale for
messages, because what ssh says is read by ``diagnosis``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from _typeshed import StrOrBytesPath

DEVNULL = subprocess.DEVNULL
PIPE = subprocess.PIPE

Child = subprocess.Popen[bytes]
Stream = int | IO[bytes] | None


class FinishedProcess(NamedTuple):
    """How a local process ended: ``returncode`` is ``-N`` after signal N, as in ``subprocess``."""

    returncode: int
    stdout: bytes
    stderr: bytes
    timed_out: bool = False


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment with messages in the C locale; file names and ssh-agent stay as they are."""
    env = dict(os.environ)
    # LC_ALL would override LC_MESSAGES, and dropping it must not change what LC_CTYPE was.
    everything = env.pop("LC_ALL", None)
    if everything and "LC_CTYPE" not in env:
        env["LC_CTYPE"] = everything
    env["LC_MESSAGES"] = "C"
    env.pop("LANGUAGE", None)
    if extra:
        env.update(extra)
    return env


def spawn(
    argv: Sequence[StrOrBytesPath],
    *,
    stdin: Stream = DEVNULL,
    stdout: Stream = DEVNULL,
    stderr: Stream = DEVNULL,
    env: Mapping[str, str] | None = None,
    cwd: StrOrBytesPath | None = None,
    pass_fds: Sequence[int] = (),
    own_environment: bool = False,
) -> Child:
    """Start a process in its own session.  The caller ends it, with ``end`` at the latest.

    ``own_environment``: it gets this process's environment as it is, for commands of the user.
    """
    return subprocess.Popen(
        _with_usual_signals(argv),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=None if own_environment else child_environment(env),
        cwd=cwd,
        pass_fds=pass_fds,
        start_new_session=True,
    )


_USUAL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_RESET = f"""\
import os, signal, sys
for number in {tuple(map(int, _USUAL))}:
    signal.signal(number, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def _with_usual_signals(argv: Sequence[StrOrBytesPath]) -> Sequence[Any]:
    """A command line whose process does not inherit that a signal is ignored (nohup, ``&``).

    No shell can take that back (POSIX), and a ``preexec_fn`` is not safe beside threads.  Raises
    ``ConfigurationError`` where SIGCHLD is ignored: the system then keeps no exit status, and
    ``subprocess`` takes every one for 0.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        raise ConfigurationError(
            "this program ignores SIGCHLD, so it cannot learn how what it starts ends",
            advice="signal.signal(signal.SIGCHLD, signal.SIG_DFL) mends it.",
        )
    if not any(signal.getsignal(number) is signal.SIG_IGN for number in _USUAL):
        return argv
    import shutil

    if not sys.executable or shutil.which(os.fsdecode(argv[0])) is None:
        return argv
    return [sys.executable, "-I", "-S", "-c", _RESET, *argv]


def wait(child: Child, timeout: float) -> bool:
    """Wait for a child to end, at most ``timeout`` seconds; false if it goes on."""
    try:
        child.wait(min(max(0.0, timeout), 1e6))
    except subprocess.TimeoutExpired:
        return False
    return True


def end(child: Child, *, grace: float = 1.0) -> int:
    """End a child and all of its session that is still in its process group; reap it.

    TERM first, KILL after ``grace`` seconds.  Returns the child's return code.
    """
    if child.returncode is not None:
        # Reaped already: its number, and its group's, may be a stranger's by now.
        return child.returncode
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(child.pid, number)
        except (ProcessLookupError, PermissionError):
            # Gone already, or (macOS) nothing left but a zombie that we have yet to reap.
            pass
        try:
            code = child.wait(patience)
        except subprocess.TimeoutExpired:
            continue
        # The leader is gone; a helper of its group (a jump host's ssh) may still be there.
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        return code
    return child.wait(5.0)


def run(
    argv: Sequence[StrOrBytesPath],
    *,
    timeout: float | None,
    input: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: StrOrBytesPath | None = None,
    stdout: Stream = PIPE,
    stderr: Stream = PIPE,
) -> FinishedProcess:
    """Run a process to its end, at most ``timeout`` seconds; ``timed_out`` says if that was cut.

    ``None`` is for calculations of the user, whose length is not ours to limit.
    Raises ``FileNotFoundError`` or ``PermissionError`` where the program cannot be started.
    """
    child = spawn(
        argv,
        stdin=DEVNULL if input is None else PIPE,
        stdout=stdout,
        stderr=stderr,
        env=env,
        cwd=cwd,
    )
    try:
        out, err = child.communicate(input, timeout)
    except subprocess.TimeoutExpired as cut:
        code = end(child)
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    pass
        return FinishedProcess(code, cut.output or b"", cut.stderr or b"", True)
    except BaseException:
        end(child, grace=0.2)
        raise
    return FinishedProcess(child.returncode, out or b"", err or b"")


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped (SIGSTOP, a terminal's Ctrl-Z); false for one that is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as handle:
            return handle.read().rpartition(b")")[2].split()[:1] == [b"T"]
    except OSError:
        if os.path.isdir("/proc/self"):
            return False
    done = run(["ps", "-o", "state=", "-p", str(pid)], timeout=5)
    return done.stdout.strip().startswith(b"T")
