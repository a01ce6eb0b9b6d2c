"""One running command on the host: its session, our ends of its pipes, and how it started."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import CommandNotStarted, InvalidAnswer, remote_oserror
from ..transport.base import LinkSilent, TransportError
from . import command_line, limits
from .leftovers import Leftovers
from .marks import (
    CUT_SHORT,
    CWD_FAILED,
    READ,
    SHELL,
    START,
    STATUS,
    Marks,
    exit_status,
    new_nonce,
)
from .quoting import to_text, visible
from .result import NO_STATUS, CommandResult
from .stdio import close_fd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..errors import Sent
    from ..transport.base import Link, Session
    from ..transport.session_limit import Slot
    from ..transport.sessions import Sessions
    from .process_groups import ProcessGroups

STATUS_WAIT = 15.0
"""Seconds for a session to end after its streams have ended."""
SILENT = "was silent for"
_MUST_CHANGE = "Password change required but no TTY available."
"""What sshd says in each session of a connection whose login found an expired password."""
ANOTHER_STDIN = "has another stdin than the one that it was given, or read only a part of it,"
_BEGIN_WAIT = 3.0
_SLOWEST = 10_000
"""Bytes per second of the slowest line on which a long script still arrives in time."""
_CHUNK = 65536
_LARGEST_PID = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run and how, before a session is open.

    ``by_stdin``: the script is sent on stdin, so that only our shell can have run it.
    ``inert``: the script does nothing without the data that is sent on its stdin.
    """

    script: bytes
    what: str
    cwd: str | bytes | None = None
    env: Mapping[str, str] | None = None
    login_shell: bool = False
    errors: command_line.Errors = "pipe"
    limit: int | None = None
    by_stdin: bool = False
    inert: bool = False


class StartTimeout(Exception):
    """The caller's timeout passed before the command began."""

    def __init__(self, confirmed: bool, sent: Sent) -> None:
        super().__init__(confirmed, sent)
        self.confirmed = confirmed
        self.sent = sent


def not_started(
    sessions: Sessions,
    what: str,
    *,
    why: str,
    status: int | None = None,
    out: bytes = b"",
    err: bytes = b"",
    sent: Sent = "no",
) -> CommandNotStarted:
    """The error for an open session in which the login shell did not start the command."""
    host = sessions.host
    words = visible(out[: limits.MARK] + b" " + err[: limits.MARK], limits.SAID).strip()
    code = NO_STATUS if status is None else status
    result = CommandResult(what, code, to_text(out[:_CHUNK]), to_text(err[:_CHUNK]), host)
    error = CommandNotStarted(
        f"the login shell {why} without starting the command; it said: {words or 'nothing'}",
        host=host,
        command=what,
        sent=sent,
        result=result,
        advice=_advice(sessions, words),
    )
    if why.startswith(SILENT):
        sessions.was_silent(error)
    return error


def _advice(sessions: Sessions, words: str) -> str:
    by_hand = sessions.transport.by_hand
    if _MUST_CHANGE in words:
        return (
            f"Change the password with `{by_hand}` in a terminal, then type `openssh-jobs logout "
            f"{sessions.host}`: for an open connection it stays expired."
        )
    return (
        f"See what `{by_hand} true` does: an rc file that starts another program or exits must "
        "leave sessions without a terminal alone, and an account for sftp or one command only "
        "runs nothing else."
    )


class Running:
    """A running command on the host: the session and our ends of its pipes."""

    def __init__(
        self,
        sessions: Sessions,
        login_shell: command_line.LoginShell,
        groups: ProcessGroups,
        plan: Plan,
        *,
        keep_stdin: bool = False,
    ) -> None:
        self.plan = plan
        self.what = plan.what
        self.link: Link
        self.group: int | None = None
        self._first: int | None = None
        self.session: Session
        self.out = -1
        self.takes_stdout = False
        self.left = False
        self.err = -1
        self.inp = -1
        self.nonce = new_nonce()
        self.out_marks = Marks(self.nonce, hold=True, host=sessions.host)
        self.err_marks = Marks(self.nonce, hold=False, host=sessions.host)
        self.early_out = b""
        self.early_err = b""
        self.preamble = b""
        self.sent_input = 0
        self.read_by: float | None = None
        self._not_read = False
        self._leftovers = Leftovers(self, login_shell, groups)
        self._sessions = sessions
        self._login_shell = login_shell
        self._groups = groups
        self._keep_stdin = keep_stdin
        self.slot: Slot | None = None
        self.asked = False
        self.ended = False

    # ------------------------------------------------------------------ start

    def start(
        self,
        link: Link,
        data: bytes,
        stdin: int | None,
        stdout: int | None,
        until: float | None = None,
    ) -> None:
        """Open the session and wait until the script has started; then stdin may be used.

        ``stdin`` and ``stdout`` are descriptors to pass on instead of pipes; that stdin must not
        hold any data yet, and ``preamble`` has to be the first in it.  Raises
        ``TransportError`` if no session was opened, ``CommandNotStarted``, and ``StartTimeout`` at
        ``until`` (``time.monotonic``).
        """
        self.link = link
        line = command_line.build(
            self.plan.script,
            self.nonce,
            family=self._login_shell.family,
            cwd=self.plan.cwd,
            env=self.plan.env,
            login_shell=self.plan.login_shell,
            errors=self.plan.errors,
            # If the server grants a second session, commands are ended through that one.
            limit=None if self._sessions.slots.wide else self.plan.limit,
            by_stdin=self.plan.by_stdin,
            with_input=stdin is not None or bool(data) or self._keep_stdin,
            tells_end=stdout is None,
        )
        self.preamble = line.preamble
        if stdin is not None and len(line.preamble) > limits.MARK:
            raise ValueError("a command that needs its stdin for itself cannot be given a file")
        theirs: list[int] = []
        try:
            if stdin is None:
                stdin, self.inp = os.pipe()
                theirs.append(stdin)
            if stdout is None:
                self.out, stdout = os.pipe()
                self.takes_stdout = True
                theirs.append(stdout)
            self.err, stderr = os.pipe()
            theirs.append(stderr)
            if not (line.preamble or data or self._keep_stdin):
                # Send end of file to an rc file that reads stdin, and to programs that it starts.
                self.close_stdin()
            self._open(line.command, (stdin, stdout, stderr))
            while theirs:
                close_fd(theirs.pop())
            self._await_start(until)
            if self.inp >= 0:
                os.set_blocking(self.inp, False)
                if self._keep_stdin:
                    self._write_preamble()
            if self.preamble:
                self.read_by = time.monotonic() + self._login_shell.start_timeout
                self.read_by += len(self.preamble) / _SLOWEST
        except BaseException as error:
            while theirs:
                close_fd(theirs.pop())
            if not isinstance(error, Exception) and self.asked:
                self._end_begun()
            self.close()
            raise

    def _open(self, command: bytes, fds: tuple[int, int, int]) -> None:
        self.asked = True  # set before the call, because an interruption may come during it
        try:
            self.session = self._sessions.open(self.link, command, fds)
        except TransportError as error:
            self.asked = error.sent != "no"
            raise

    @property
    def _sent(self) -> Sent:
        """Whether something may have been run although no start mark arrived."""
        return "no" if self.preamble or self.plan.inert else "maybe"

    def _end_begun(self) -> None:
        """After an interruption while the shell was starting: end what it has started."""
        with contextlib.suppress(Exception):
            self._await_start(time.monotonic() + _BEGIN_WAIT)
        self.end()

    def _write_preamble(self) -> None:
        """Write the script or the environment, before the caller's own bytes."""
        deadline = time.monotonic() + limits.CALL
        os.set_blocking(self.inp, False)
        poll = select.poll()
        poll.register(self.inp, select.POLLOUT)
        while self.sent_input < len(self.preamble):
            left = deadline - time.monotonic()
            if left <= 0:
                raise LinkSilent("the host does not read the command", sent="maybe")
            poll.poll(left * 1000)
            try:
                piece = self.preamble[self.sent_input : self.sent_input + _CHUNK]
                self.sent_input += os.write(self.inp, piece)
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return  # ended already; its status says how

    def _await_start(self, until: float | None) -> None:
        began = time.monotonic()
        deadline = began + self._login_shell.start_timeout
        if until is not None:
            deadline = min(deadline, until)
        poll = select.poll()
        poll.register(self.err, select.POLLIN)
        if self.out >= 0:
            poll.register(self.out, select.POLLIN)
        while not self._has_begun():
            left = deadline - time.monotonic()
            if left <= 0:
                self._too_late(time.monotonic() - began, timed_out=deadline == until)
            for fd, _ in poll.poll(max(0.0, left) * 1000):
                data = os.read(fd, _CHUNK)
                if fd == self.err and not data:
                    self._failed_to_start()
                elif not data:
                    poll.unregister(fd)
                try:
                    self._take_early(fd, data)
                except InvalidAnswer as error:
                    raise self._not_started(f"spoke on and on ({error.message})") from None

    def _take_early(self, fd: int, data: bytes) -> None:
        if fd == self.out:
            self.early_out += self.out_marks.feed(data)
            return
        self.early_err += self.err_marks.feed(data)
        if len(self.early_err) > limits.NOISE:
            raise InvalidAnswer(f"more than {limits.NOISE} bytes on stderr")
        word = SHELL if self.plan.login_shell else START
        values = self.err_marks.value(word)
        if values is not None and self.group is None:
            self.group = self.err_marks.number(word, _LARGEST_PID)
            if self.group is not None and len(values) > 1:
                self._login_shell.learned(values[1])
        if self._first is None:
            self._first = self.err_marks.number(START, _LARGEST_PID, -1)

    def take_errors(self) -> None:
        """Read what has arrived on stderr, while nothing else reads it."""
        poll = select.poll()
        poll.register(self.err, select.POLLIN)
        while self.err >= 0 and poll.poll(0) and (data := os.read(self.err, _CHUNK)):
            self._take_early(self.err, data)

    def _has_begun(self) -> bool:
        return self.err_marks.number(START, _LARGEST_PID) is not None

    def _not_started(self, why: str, status: int | None = None) -> CommandNotStarted:
        self._login_shell.distrust()
        return not_started(
            self._sessions,
            self.plan.what,
            why=why,
            status=status,
            out=self.out_marks.noise,
            err=self.early_err + self.err_marks.rest(),
            sent=self._sent,
        )

    def _too_late(self, waited: float, *, timed_out: bool) -> None:
        """Raise because no start mark arrived in time; the shell may still read its rc files."""
        if timed_out:
            raise StartTimeout(self.end(), self._sent)
        if not self._sessions.answers(self.link):
            raise LinkSilent("the host's shell did not begin", sent=self._sent)
        self.end()
        raise self._not_started(f"{SILENT} {waited:.0f} s")

    def reads_input(self) -> bool:
        """Whether the head of stdin was read, or may still be; false if the limit passed.

        It cannot be read where an rc file has put something endless in the place of stdin.
        """
        if self.read_by is None or self.err_marks.value(READ) is not None:
            self.read_by = None
            return True
        if time.monotonic() < self.read_by or self.script_has_ended:
            return True
        self.read_by, self._not_read = None, True
        return False

    def _failed_to_start(self) -> None:
        self.session.wait(STATUS_WAIT)
        self.early_err += self.err_marks.rest()
        failure = self._sessions.failure(self.link, self.session, self.early_err)
        if failure is not None:
            if failure.sent == "maybe":
                failure.sent = self._sent
            raise failure
        if self.out >= 0:
            os.set_blocking(self.out, False)
            try:
                self.out_marks.feed(os.read(self.out, _CHUNK))
            except OSError:
                pass
        if self.err_marks.value(CUT_SHORT) is not None:
            raise self._not_started(ANOTHER_STDIN)
        status = exit_status(self.err_marks)
        status = self.session.status if status is None else status
        ending = "ended" if status is None else f"ended with status {status}"
        raise self._not_started(ending, status)

    # ------------------------------------------------------------------ end

    def status(self) -> int | None:
        """The exit status in the waiting shell's mark; ``None`` if it printed none.

        If our stdout was closed early the last mark may be lost: then the status of the session,
        which is that of the same shell, is used.
        """
        if self.err_marks.value(STATUS) is None:
            return self.session.status
        return self.marked_status

    @property
    def marked_status(self) -> int | None:
        """The status in that mark alone: once stderr has ended, no mark is no status.

        An rc file may have replaced what the shell exits with.
        """
        return exit_status(self.err_marks)

    def is_left(self, *, own: bool = False) -> bool:
        """Whether the command has ended, and only what rc files started holds its streams.

        ``own``: a command of the library, which leaves nothing running.
        """
        if not self.left and self.marked_status is not None:
            self.left = self._leftovers.hold_alone(self.group, self._first, own=own)
        return self.left

    def patience(self) -> float:
        """Seconds until the next look at ``reads_input`` and ``is_left``."""
        looks = [at for at in (self.read_by, self._leftovers.ask_at) if at is not None]
        return max(0.05, min(60.0, *(at - time.monotonic() for at in looks))) if looks else 60.0

    def await_end(self) -> bool:
        """Wait for the session's end, where it may come; false if the link seems lost."""
        return self.left or self.session.wait(STATUS_WAIT)

    @property
    def script_has_ended(self) -> bool:
        """Whether the user's script has ended, though a process in its group may hold a pipe."""
        marked = exit_status(self.err_marks)
        return marked is not None or (self.is_over and self.session.status is not None)

    @property
    def is_over(self) -> bool:
        """Whether the session has ended; never blocks."""
        return hasattr(self, "session") and self.session.wait(0)

    def refusal(self) -> OSError | CommandNotStarted | InvalidAnswer | None:
        """Why the command was not run: an error of ``cwd``, another stdin; or was run twice."""
        if self.err_marks.count(START) > 1:
            host, what = self._sessions.host, self.what
            message = f"`{what}` was started more than once there (by a forced command?)"
            return InvalidAnswer(message, host=host, command=what, sent="yes")
        if self._not_read or self.err_marks.value(CUT_SHORT) is not None:
            return self._not_started(ANOTHER_STDIN)
        values = self.err_marks.value(CWD_FAILED)
        if not values or self.plan.cwd is None:
            return self._never_read()
        number = {b"ENOENT": errno.ENOENT, b"ENOTDIR": errno.ENOTDIR}.get(values[0], errno.EACCES)
        cwd = self.plan.cwd if isinstance(self.plan.cwd, str) else to_text(self.plan.cwd)
        return remote_oserror(
            number, cwd, host=self._sessions.host, detail="the command was not run"
        )

    def _never_read(self) -> CommandNotStarted | None:
        """The error for a shell that failed before it had read the head of its stdin."""
        status = self.marked_status
        if not self.preamble or status is None or self.err_marks.value(READ) is not None:
            return None
        # A signal may be the caller's.
        return None if status > 128 else self._not_started(f"ended with status {status}", status)

    def signal(self, name: str) -> bool:
        """Send a signal to the remote process group; true if the host confirmed it."""
        return self.group is not None and self._groups.signal(self.group, name)

    def end(self) -> bool:
        """End the remote process group (TERM, then KILL); true if its end was confirmed."""
        if self.group is None:
            if self.asked and not self.is_over:
                self._groups.end_unstarted(self.nonce)
            return False
        if not self._groups.end([self.group]):
            return False
        self.ended = True
        return True

    @property
    def may_run(self) -> bool:
        """Whether the command was sent, and neither its status nor its end was seen."""
        if not self.asked or self.ended:
            return False
        return not hasattr(self, "session") or self.status() is None

    def _close_pipes(self) -> None:
        # Forget the descriptor first: closing it twice could close one of another thread.
        fds = (self.inp, self.out, self.err)
        self.inp = self.out = self.err = -1
        for fd in fds:
            close_fd(fd)

    def close_stdin(self) -> None:
        """Close the command's stdin."""
        inp, self.inp = self.inp, -1
        close_fd(inp)

    def abandon(self) -> None:
        """In a forked child: close the copies of the parent's descriptors; send nothing."""
        self._close_pipes()
        if hasattr(self, "session"):
            self.session.abandon()
        self.slot = None

    def close(self) -> None:
        """Close all descriptors on this side and release the session."""
        self._close_pipes()
        if hasattr(self, "session"):
            self.session.close()
        if self.slot is not None:
            self.slot.release()
