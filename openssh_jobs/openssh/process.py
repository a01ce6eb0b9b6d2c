"""The one place that starts processes on this machine.

Every child but a pager gets its own session, so that Ctrl-C at the terminal reaches this process
only and a child can be ended with its children (ssh and the ``ssh -W`` of a jump host), and the C
locale for messages, because ``ssh_errors`` reads the messages of ssh.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import shlex
import signal
import subprocess
import sys
import time
from typing import IO, TYPE_CHECKING, Any, NamedTuple, NoReturn

from .. import logs
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from _typeshed import StrOrBytesPath

log = logs.logger("openssh_jobs.process")

_MOST_LOGGED = 4000
MOST = 16 << 20
"""Bytes that ``run`` keeps of each stream of a program, which may pass on what a host sends."""
_CHUNK = 65536
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
    """Our environment with messages in the C locale; file names and ssh-agent stay as they are.

    Without the variables that give tar and rsync more options.
    """
    env = dict(os.environ)
    # LC_ALL would override LC_MESSAGES, and dropping it must not change what LC_CTYPE was.
    everything = env.pop("LC_ALL", None)
    if everything and "LC_CTYPE" not in env:
        env["LC_CTYPE"] = everything
    env["LC_MESSAGES"] = "C"
    for name in list(env):
        if name in ("LANGUAGE", "TAR_OPTIONS") or name.startswith("RSYNC_"):
            del env[name]
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
    own_session: bool = True,
) -> Child:
    """Start a process in its own session.  The caller must end it, for example with ``end``.

    ``own_environment``: pass the environment of this process unchanged, for the user's commands.
    ``own_session=False``: it stays with this process at the terminal, which a pager has to read;
    it gets Ctrl-C, too, and ``end`` must not be used on it.
    """
    if log.isEnabledFor(logging.DEBUG):
        # The words only: no environment, and nothing of what goes to stdin.
        log.debug("starts %s", shlex.join(os.fsdecode(word) for word in argv)[:_MOST_LOGGED])
    return subprocess.Popen(
        _with_usual_signals(argv),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=None if own_environment else child_environment(env),
        cwd=cwd,
        pass_fds=pass_fds,
        start_new_session=own_session,
    )


_USUAL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# Python itself ignores these; Popen resets them, and the Python of _RESET ignores them again.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_RESET = f"""\
import os, signal, sys
for number in {tuple(map(int, _USUAL + _IGNORED_BY_PYTHON))}:
    signal.signal(number, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def _with_usual_signals(argv: Sequence[StrOrBytesPath]) -> Sequence[Any]:
    """A command line whose process does not inherit ignored signals (nohup, ``&``).

    A shell cannot reset them (POSIX), and a ``preexec_fn`` is not safe beside threads.  Raises
    ``ConfigurationError`` if SIGCHLD is ignored: the system then keeps no exit status, and
    ``subprocess`` reports 0 for every process.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        raise ConfigurationError(
            "this program ignores SIGCHLD, so the exit status of its children is lost",
            advice="Call signal.signal(signal.SIGCHLD, signal.SIG_DFL) first.",
        )
    if not any(signal.getsignal(number) is signal.SIG_IGN for number in _USUAL):
        return argv
    import shutil

    if not sys.executable or shutil.which(os.fsdecode(argv[0])) is None:
        return argv
    return [sys.executable, "-I", "-S", "-c", _RESET, *argv]


def replace(argv: list[str]) -> NoReturn:
    """Become another program, with our process id, streams and environment.

    Raises ``OSError`` if it cannot be started.
    """
    if log.isEnabledFor(logging.DEBUG):
        log.debug("becomes %s", argv[0])  # the words are the caller's, as is what they hold
    for number in _IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    os.execv(argv[0], argv)  # noqa: S606


def wait(child: Child, timeout: float) -> bool:
    """Wait for a child to end, at most ``timeout`` seconds; false if it still runs."""
    try:
        child.wait(min(max(0.0, timeout), 1e6))
    except subprocess.TimeoutExpired:
        return False
    return True


def end(child: Child, *, grace: float = 1.0) -> int:
    """End a child and its process group, and reap the child.

    TERM first, KILL after ``grace`` seconds.  Returns the child's return code.
    """
    if child.returncode is not None:
        # Reaped already: its pid and process group may belong to another process now.
        return child.returncode
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(child.pid, number)
        except (ProcessLookupError, PermissionError):
            # It has ended, or (macOS) is a zombie that is not reaped yet.
            pass
        try:
            code = child.wait(patience)
        except subprocess.TimeoutExpired:
            continue
        # The leader has ended; others of its group (ssh to a jump host) may still run.
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
    most: int | None = MOST,
) -> FinishedProcess:
    """Run a process to its end; after ``timeout`` seconds it is ended and ``timed_out`` is set.

    It is also ended after ``most`` bytes on a stream, and has been ended by a signal then.
    ``timeout=None`` and ``most=None`` are for the user's own programs.
    Raises ``FileNotFoundError`` or ``PermissionError`` if the program cannot be started.
    """
    child = spawn(
        argv,
        stdin=DEVNULL if input is None else PIPE,
        stdout=stdout,
        stderr=stderr,
        env=env,
        cwd=cwd,
    )
    exchange = _Exchange(child, input or b"", most)
    try:
        _at_work.add(child)
        timed_out = not exchange.run(timeout)
        if timed_out or exchange.is_too_much:
            end(child)
        return FinishedProcess(child.wait(), *exchange.output(), timed_out)
    except BaseException:
        end(child, grace=0.2)
        raise
    finally:
        _at_work.discard(child)
        exchange.close()


class _Exchange:
    """The pipes of a child, read up to ``most`` bytes each."""

    def __init__(self, child: Child, data: bytes, most: int | None) -> None:
        self._child = child
        self._data = memoryview(data)
        self._most = most
        self._kept: dict[Any, bytearray] = {
            pipe: bytearray() for pipe in (child.stdout, child.stderr) if pipe is not None
        }
        self.is_too_much = False

    def run(self, timeout: float | None) -> bool:
        """Read and write until the child has ended, or there is too much; false at the timeout."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            for pipe in self._kept:
                selector.register(pipe, selectors.EVENT_READ)
            if self._child.stdin is not None:
                os.set_blocking(self._child.stdin.fileno(), False)
                selector.register(self._child.stdin, selectors.EVENT_WRITE)
            while selector.get_map():
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                for key, _ in selector.select(left):
                    ready: Any = key.fileobj
                    if self._is_over(ready):
                        selector.unregister(ready)
                        ready.close()
                    if self.is_too_much:
                        return True
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        return left is None or wait(self._child, left)

    def _is_over(self, pipe: Any) -> bool:
        """Read from a pipe, or write to it; whether that was the last time."""
        fd: int = pipe.fileno()
        if pipe is not self._child.stdin:
            data = os.read(fd, _CHUNK)
            self._kept[pipe] += data
            self.is_too_much = self._most is not None and len(self._kept[pipe]) > self._most
            return not data
        try:
            self._data = self._data[os.write(fd, self._data[:_CHUNK]) :]
        except BlockingIOError:
            return False
        except OSError:
            return True  # it has closed its stdin
        return not self._data

    def output(self) -> tuple[bytes, bytes]:
        """What was read of stdout and stderr."""
        kept = [self._kept.get(pipe, b"") if pipe else b"" for pipe in self._pipes[1:]]
        return bytes(kept[0]), bytes(kept[1])

    @property
    def _pipes(self) -> tuple[Any, Any, Any]:
        return self._child.stdin, self._child.stdout, self._child.stderr

    def close(self) -> None:
        """Close the pipes."""
        for pipe in self._pipes:
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


_at_work: set[Child] = set()


def end_at_work() -> None:
    """End what ``run`` waits for in any thread of this process, which is about to exit."""
    for child in list(_at_work):
        end(child, grace=0.2)


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped (SIGSTOP, Ctrl-Z); false if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as handle:
            return handle.read().rpartition(b")")[2].split()[:1] == [b"T"]
    except OSError:
        if os.path.isdir("/proc/self"):
            return False
    done = run(["ps", "-o", "state=", "-p", str(pid)], timeout=5)
    return done.stdout.strip().startswith(b"T")
