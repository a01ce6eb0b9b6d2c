"""The control shell: one held /bin/sh on the host for the library's own short commands.

A command takes half a millisecond and one round trip; slow or noisy rc files cost time only once.
Users' commands never run here: their background children could write into the next answer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from .. import logs
from ..errors import CommandTimeout, InvalidAnswer, Sent
from ..transport.base import LinkSilent
from ..transport.held_session import HeldSession, WorkerLost
from . import command_line, limits
from .child import ANOTHER_STDIN, SILENT, not_started
from .marks import CUT_SHORT, READ, START, Marks, mark, new_nonce
from .quoting import describe, quote_path
from .stdio import close_fd

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..transport.base import Link, Session
    from ..transport.sessions import Sessions
    from .process_groups import ProcessGroups

log = logs.logger("openssh_jobs.control_shell")

_CHUNK = 65536
_END_PROBE, _END_WAIT = 5.0, 0.5
"""Seconds for a host to show that it answers before a shell is ended, and to wait for that end."""
_CALL = re.compile(rb"^ *(?:exec )?(oj_\w+)(?=[ \n;]|\Z)", re.MULTILINE)


class ShellAnswer(NamedTuple):
    """What a control command answered: exit status, stdout, stderr."""

    status: int
    stdout: bytes
    stderr: bytes


def _name_of(script: bytes) -> str:
    """The name of a request, for the log: the function that is called, or how it begins.

    What it holds beside that, such as the content of a file, is not shown.
    """
    calls = _CALL.findall(script)
    name = calls[-1].decode() if calls else describe(script.strip().split(b" ", 1)[0], 40)
    return f"{name} ({len(script)} bytes)"


class _Ended(Exception):
    """The shell ended during a call."""


class _Shell:
    """One running shell: its session and pipes."""

    def __init__(self, sessions: Sessions, link: Link) -> None:
        self.link = link
        self._sessions = sessions
        self._out = bytearray()
        self._err = bytearray()
        self._nonce = new_nonce()
        self.read_by: float | None = None
        self.pid: int | None = None
        theirs: list[int] = []
        self.inp = self.out = self.err = -1
        try:
            their_in, self.inp = os.pipe()
            theirs.append(their_in)
            self.out, their_out = os.pipe()
            theirs.append(their_out)
            self.err, their_err = os.pipe()
            theirs.append(their_err)
            line = command_line.control_shell(self._nonce)
            self.session: Session = sessions.open(link, line, (their_in, their_out, their_err))
        except BaseException:
            for fd in (self.inp, self.out, self.err):
                close_fd(fd)
            raise
        finally:
            for fd in theirs:
                close_fd(fd)

    @property
    def nonce(self) -> bytes:
        """What is in the arguments of the shell on the host, in two halves."""
        return self._nonce

    def begin(self, start_timeout: float, what: str) -> bytes:
        """Wait for the marks of a shell that reads commands; returns the login shell's family.

        Nothing is written before: another program that reads stdin would run it.  Then the shell
        has as long again to read the line that proves that its stdin is ours (``read_by``).
        """
        sessions = self._sessions
        marks = Marks(self._nonce, hold=True, host=sessions.host)
        out_marks = Marks(self._nonce, hold=True, host=sessions.host)
        deadline = time.monotonic() + start_timeout
        try:
            while marks.number(START, 2**31 - 1) is None or out_marks.holds:
                self._read(deadline)
                for stream, kept in ((marks, self._err), (out_marks, self._out)):
                    stream.feed(bytes(kept))
                    kept.clear()
        except TimeoutError:
            why = f"{SILENT} {start_timeout:g} s"
            if not sessions.answers(self.link):
                raise LinkSilent("the host's shell did not begin") from None
        except InvalidAnswer as error:
            why = f"spoke on and on ({error.message})"
        except _Ended:
            marks.feed(bytes(self._err))
            out_marks.feed(bytes(self._out))
            why = self._why_it_ended(marks.noise)
            if marks.value(CUT_SHORT) is not None:
                raise not_started(sessions, what, why=ANOTHER_STDIN) from None
        else:
            words = marks.value(START) or []
            self.pid = marks.number(START, 2**31 - 1)
            if marks.value(CUT_SHORT) is not None:
                raise not_started(sessions, what, why=ANOTHER_STDIN)
            self._err += marks.rest()
            self.read_by = time.monotonic() + start_timeout
            return words[1] if len(words) > 1 else b"other"
        raise not_started(
            sessions, what, why=why, status=self.session.status, out=out_marks.noise,
            err=marks.noise,
        ) from None  # fmt: skip

    def read_nothing(self) -> bool:
        """Whether the shell ended because it has another stdin: an rc file redirected it."""
        if self.read_by is None:
            return False
        self.session.wait(5.0)
        self._read_rest()
        return self._nonce + b" " + CUT_SHORT in self._err

    def _why_it_ended(self, stderr: bytes) -> str:
        self.session.wait(5.0)
        failure = self._sessions.failure(self.link, self.session, stderr)
        if failure is not None:
            failure.sent = "no"
            raise failure
        status = self.session.status
        return "ended" if status is None else f"ended with status {status}"

    def call(self, script: bytes, deadline: float, most: int) -> ShellAnswer:
        """Run one framed command.

        Raises ``TimeoutError`` at the deadline, ``_Ended`` if the shell ends, ``InvalidAnswer`` if
        more than ``most`` bytes arrive or the frame holds no status.
        """
        nonce = new_nonce()
        begin, half = mark(nonce), len(nonce) // 2
        end = b"'\n%s%s %s\n' " + nonce[:half] + b" " + nonce[half:]
        proof = b"" if self.read_by is None else command_line.first_line(self._nonce)
        text = proof + (
            begin + b"; " + begin + b" >&2; (\n" + script + b"\n) </dev/null; "
            b"printf " + end + b" $?; printf " + end + b" - >&2\n"
        )  # fmt: skip
        self._send(text, deadline)
        head, tail = nonce + b"\n", b"\n" + nonce + b" "
        seen_out = seen_err = 0
        while True:
            out, err = self._out, self._err
            # Both frames must be closed, and the status line of stdout be complete.  What comes
            # behind them is of a process that an rc file left.  Only what is new is searched, else
            # a long answer would be searched again for every piece.
            end_out = out.find(tail, max(0, seen_out - len(tail)))
            end_err = err.find(tail + b"-\n", max(0, seen_err - len(tail) - 2))
            line_end = out.find(b"\n", end_out + len(tail)) if end_out >= 0 else -1
            if line_end >= 0 and end_err >= 0:
                status = bytes(out[end_out + len(tail) : line_end])
                return self._answer(head, status, end_out, end_err)
            seen_out = len(out) if end_out < 0 else end_out
            seen_err = len(err) if end_err < 0 else end_err
            if len(out) > most or len(err) > limits.ANSWER:
                much = most if len(out) > most else limits.ANSWER
                raise InvalidAnswer(f"the host answered with more than {much} bytes")
            if self.read_by is not None and self._nonce + b" " + READ in err:
                self.read_by = None
            self._read(deadline if self.read_by is None else min(deadline, self.read_by))

    def _answer(self, head: bytes, status: bytes, end_out: int, end_err: int) -> ShellAnswer:
        out, err = self._out, self._err
        begin_out, begin_err = out.find(head), err.find(head)
        if not (status.isdigit() and len(status) <= 3) or begin_out < 0 or begin_err < 0:
            raise InvalidAnswer("the host answered without the frame that was asked for")
        if out.count(b"\0", 0, end_out) > limits.RECORDS:
            raise InvalidAnswer(f"the host answered with more than {limits.RECORDS} records")
        answer = ShellAnswer(
            int(status),
            bytes(out[begin_out + len(head) : end_out]),
            bytes(err[begin_err + len(head) : end_err]),
        )
        self._out, self._err = bytearray(), bytearray()
        self.read_by = None
        return answer

    def _send(self, text: bytes, deadline: float) -> None:
        view = memoryview(text)
        os.set_blocking(self.inp, False)
        poll = select.poll()
        poll.register(self.inp, select.POLLOUT)
        while view:
            try:
                view = view[os.write(self.inp, view) :]
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError from None
                poll.poll(left * 1000)
            except OSError:
                raise _Ended from None

    def _read(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        poll = select.poll()
        poll.register(self.out, select.POLLIN)
        poll.register(self.err, select.POLLIN)
        ready = poll.poll(max(0, left) * 1000)
        if not ready:
            raise TimeoutError
        ended = False
        for fd, _ in ready:
            data = os.read(fd, _CHUNK)
            ended = ended or not data
            (self._out if fd == self.out else self._err).extend(data)
        if ended:
            self._read_rest()
            raise _Ended

    def _read_rest(self) -> None:
        """Read what has arrived on both streams; it may say why the shell ended."""
        for fd, kept in ((self.out, self._out), (self.err, self._err)):
            with contextlib.suppress(OSError):
                os.set_blocking(fd, False)
                kept += os.read(fd, _CHUNK)

    @property
    def is_alive(self) -> bool:
        """Whether an idle shell has its stdout open; sends nothing."""
        poll = select.poll()
        poll.register(self.out, select.POLLIN)
        return not poll.poll(0)

    def close(self, *, grace: float) -> None:
        """End the shell by closing its stdin, and wait up to ``grace`` s for the session's end."""
        self._close_pipes()
        self.session.wait(grace)
        self.session.close()

    def abandon(self) -> None:
        """In a forked child: close our copies; send nothing to the shell, which is the parent's."""
        self._close_pipes()
        self.session.abandon()

    def _close_pipes(self) -> None:
        fds = (self.inp, self.out, self.err)
        self.inp = self.out = self.err = -1
        for fd in fds:
            close_fd(fd)


class ControlShell:
    """The held shell of a connection: opened when needed, released when idle.

    ``directory`` returns the absolute directory in which each command runs; without it commands
    run in the directory in which the login shell starts.
    """

    def __init__(
        self,
        sessions: Sessions,
        login_shell: command_line.LoginShell,
        groups: ProcessGroups,
        *,
        directory: Callable[[], str] | None = None,
    ) -> None:
        self._sessions = sessions
        self._login_shell = login_shell
        self._groups = groups
        self.directory = directory
        """Returns the directory for commands, if it can change while a shell is held."""
        self._session = HeldSession(sessions, self._start, "a command of the control shell")
        self._clear()

    def reset(self) -> None:
        """Forget all state, as after a fork."""
        self._session.reset()
        self._clear()

    def _clear(self) -> None:
        self._chores: list[bytes] = []
        self.round_trip = float("inf")
        """The shortest time that a call has taken, in seconds: about one round trip."""
        self.calls = 0

    def _start(self, link: Link, what: str) -> _Shell:
        shell = _Shell(self._sessions, link)
        try:
            family = shell.begin(self._login_shell.start_timeout, what)
        except BaseException:
            if not shell.session.wait(0):
                self._groups.end_unstarted(shell.nonce)
            shell.close(grace=0)
            raise
        self._login_shell.learned(family)
        return shell

    def call(
        self,
        script: bytes,
        *,
        timeout: float = limits.CALL,
        again: bool = False,
        most: int = limits.ANSWER,
    ) -> ShellAnswer:
        """Run a short POSIX script and return its answer; one round trip.

        ``again=True``: running the script twice is harmless, so it is retried once if the shell or
        the link is lost meanwhile.  ``most``: maximum bytes of the answer.  Raises
        ``CommandNotStarted``, ``ConnectionLost``, ``InvalidAnswer``, ``CommandTimeout``.
        """
        what = describe(script, 80)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s: asks the control shell: %s", self._sessions.host, _name_of(script))
        if self.directory is not None:
            script = b"cd %b || exit\n%b" % (quote_path(self.directory()), script)
        if not self._session.lock.acquire(timeout=timeout):
            raise self._too_late(what, timeout, "no")
        try:
            return self._call(script, what, timeout, again, most)
        finally:
            self._session.lock.release()

    def _call(
        self, script: bytes, what: str, timeout: float, again: bool, most: int
    ) -> ShellAnswer:
        def work(shell: _Shell) -> ShellAnswer:
            chores = self._chores[:]
            began = time.monotonic()
            try:
                answer = shell.call(_with_chores(chores, script), began + timeout, most)
            except InvalidAnswer as error:
                self._end(shell)
                message = f"{error.message} ({what})"
                raise InvalidAnswer(message, host=self._sessions.host, command=what) from None
            except _Ended:
                if shell.read_nothing():
                    raise not_started(self._sessions, what, why=ANOTHER_STDIN) from None
                raise WorkerLost(self._sessions.lost(shell.link, what)) from None
            except TimeoutError:
                self._end(shell)
                if shell.read_by is None:
                    raise self._too_late(what, timeout, "maybe") from None
                if time.monotonic() < shell.read_by:
                    raise self._too_late(what, timeout, "no") from None
                raise not_started(self._sessions, what, why=ANOTHER_STDIN) from None
            except BaseException:
                self._end(shell)
                raise
            del self._chores[: len(chores)]
            self.calls += 1
            self.round_trip = min(self.round_trip, time.monotonic() - began)
            return answer

        return self._session.call(work, what, again=again)

    def _end(self, shell: _Shell) -> None:
        """End a shell whose answer nobody waits for any more, with what its script started.

        The end of its stdin is not enough: a program of the script does not read that, and a shell
        with another stdin does not see it.  Needs a session beside the shell's own, or the one that
        is free when the call has ended: the call waits only a moment for it.
        """
        pid, link = shell.pid, shell.link
        if pid is None:
            return

        def end() -> None:
            if self._sessions.answers(link, _END_PROBE):
                self._groups.end([pid])

        ending = threading.Thread(target=end, name=f"end of {pid}", daemon=True)
        try:
            ending.start()
        except RuntimeError:  # the interpreter is ending
            end()
        else:
            ending.join(_END_WAIT)

    def _too_late(self, what: str, timeout: float, sent: Sent) -> CommandTimeout:
        return CommandTimeout(
            f"the host did not answer within {timeout:g} s",
            host=self._sessions.host,
            command=what,
            timeout=timeout,
            sent=sent,
        )

    def later(self, script: bytes) -> None:
        """Run a script before the next command: a cleanup that was not possible without a link."""
        self._chores.append(script)

    def call_if_free(self, script: bytes, *, timeout: float) -> ShellAnswer | None:
        """As ``call``, but ``None`` where no shell is held, or another call is using it."""
        lock = self._session.lock
        if lock.is_mine or not lock.acquire(blocking=False):
            return None
        try:
            if not self._session.is_ready:
                return None
            return self._call(script, describe(script, 80), timeout, False, limits.ANSWER)
        finally:
            lock.release()

    def close(self) -> None:
        """Release the session now."""
        self._session.close()


def _with_chores(chores: list[bytes], script: bytes) -> bytes:
    """A command preceded by the pending scripts, whose output and status are ignored."""
    return b"".join(b"( %b ) >/dev/null 2>&1\n" % chore for chore in chores) + script
