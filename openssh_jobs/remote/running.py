"""One command at work on the host: its session, our ends of its pipes, and how it began."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import remote_oserror
from ..openssh import mux
from ..openssh.sessions import OPEN_TIMEOUT, failure_of
from . import wrapper
from .exchange import close_fd
from .quoting import to_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..openssh.master import Link
    from ..openssh.sessions import Session, Slot
    from .command import Commands

STATUS_WAIT = 15.0
"""Seconds for a session to end after its streams have."""
_CHUNK = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run and how, before a session is there."""

    script: bytes
    what: str
    cwd: str | bytes | None = None
    env: Mapping[str, str] | None = None
    login_shell: bool = False
    errors: wrapper.Errors = "pipe"
    limit: int | None = None


class NeverStarted(Exception):
    """The session stands, but the shell never began with the command."""


class Running:
    """A command at work on the host, seen from here: the session and our ends of its pipes."""

    def __init__(self, commands: Commands, plan: Plan, *, keep_stdin: bool = False) -> None:
        self.plan = plan
        self.link: Link
        self.group: int | None = None
        self.session: Session
        self.out = -1
        self.err = -1
        self.inp = -1
        nonce = b"oj-" + os.urandom(9).hex().encode()
        self.nonce = nonce
        self.out_marks = wrapper.Marks(nonce, hold=True)
        self.err_marks = wrapper.Marks(nonce, hold=False)
        self.early_err = b""
        self.preamble = b""
        self.sent_input = 0
        self._commands = commands
        self._keep_stdin = keep_stdin
        self.slot: Slot | None = None

    # ------------------------------------------------------------------ start

    def start(self, link: Link, data: bytes, stdin: int | None, stdout: int | None) -> None:
        """Open the session and wait until the shell has said that it begins.

        ``stdin`` and ``stdout`` are descriptors to hand over instead of pipes.  Raises
        ``mux.MuxError`` where no session came up.
        """
        sessions = self._commands.sessions
        self.link = link
        line = wrapper.build(
            self.plan.script,
            self.nonce,
            family=self._commands.family,
            report_status=sessions.backend == "process",
            cwd=self.plan.cwd,
            env=self.plan.env,
            login_shell=self.plan.login_shell,
            errors=self.plan.errors,
            # Where a second session is to be had, commands are ended from outside.
            limit=None if sessions.slots.wide else self.plan.limit,
        )
        self.preamble = line.preamble
        if stdin is not None and line.preamble:
            raise ValueError("a command that needs its stdin for itself cannot be given a file")
        theirs: list[int] = []
        try:
            if stdin is None:
                stdin, self.inp = os.pipe()
                theirs.append(stdin)
            if stdout is None:
                self.out, stdout = os.pipe()
                theirs.append(stdout)
            self.err, stderr = os.pipe()
            theirs.append(stderr)
            self._write_early(line.preamble + data)
            self.session = sessions.open(link, line.command, (stdin, stdout, stderr))
            while theirs:
                close_fd(theirs.pop())
            self._await_start()
            if self._keep_stdin:
                self._write_preamble()
        except BaseException:
            while theirs:
                close_fd(theirs.pop())
            self.close()
            raise

    def _write_early(self, data: bytes) -> None:
        """Put what fits into the pipe before the session opens: it saves a round trip."""
        if self.inp < 0:
            return
        os.set_blocking(self.inp, False)
        self.sent_input = 0
        if data:
            try:
                self.sent_input = os.write(self.inp, data[:_CHUNK])
            except BlockingIOError:
                self.sent_input = 0
        if self.sent_input == len(data) and not self._keep_stdin:
            self.close_stdin()

    def _write_preamble(self) -> None:
        """The rest of a preamble longer than a pipe, before the caller's own bytes."""
        deadline = time.monotonic() + OPEN_TIMEOUT
        poll = select.poll()
        poll.register(self.inp, select.POLLOUT)
        while self.sent_input < len(self.preamble):
            left = deadline - time.monotonic()
            if left <= 0:
                raise mux.MuxTimeout("the host does not read the command", sent="maybe")
            poll.poll(left * 1000)
            try:
                piece = self.preamble[self.sent_input : self.sent_input + _CHUNK]
                self.sent_input += os.write(self.inp, piece)
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return  # ended already; its status says how

    def _await_start(self) -> None:
        deadline = time.monotonic() + OPEN_TIMEOUT
        poll = select.poll()
        poll.register(self.err, select.POLLIN)
        while self.err_marks.value(b"start") is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise mux.MuxTimeout("the host's shell did not begin", sent="maybe")
            if not poll.poll(left * 1000):
                continue
            data = os.read(self.err, _CHUNK)
            if not data:
                self._failed_to_start()
            self.early_err += self.err_marks.feed(data)
        pid, family = (self.err_marks.value(b"start") or [])[:2]
        self.group = int(pid)
        self._commands.learned(family)

    def _failed_to_start(self) -> None:
        self.session.wait(STATUS_WAIT)
        status = self.session.status
        said = self.early_err + self.err_marks.rest()
        if self._commands.sessions.backend == "process" and status in (255, None):
            raise failure_of(said)
        if status is None:
            raise mux.MuxLost("the session ended before the command began", sent="maybe")
        noise = b""
        if self.out >= 0:
            os.set_blocking(self.out, False)
            with contextlib.suppress(OSError):
                noise = os.read(self.out, _CHUNK)
        raise NeverStarted(status, to_text(noise), to_text(said))

    # ------------------------------------------------------------------ end

    def status(self) -> int | None:
        """The remote exit status once the session is over, ``None`` where none came."""
        told = self.err_marks.value(b"status")
        if told:
            return int(told[0])
        status = self.session.status
        if self._commands.sessions.backend == "process" and (status is None or status < 0):
            return None
        if self._commands.sessions.backend == "process" and status == 255:
            return None
        return status

    def cwd_error(self) -> OSError | None:
        """The error of the ``cd`` before the command, if that is what failed."""
        told = self.err_marks.value(wrapper.CWD_FAILED)
        if not told or self.plan.cwd is None:
            return None
        number = {b"ENOENT": errno.ENOENT, b"ENOTDIR": errno.ENOTDIR}.get(told[0], errno.EACCES)
        cwd = self.plan.cwd if isinstance(self.plan.cwd, str) else to_text(self.plan.cwd)
        return remote_oserror(
            number, cwd, host=self._commands.host, detail="the command was not run"
        )

    def signal(self, name: str) -> bool:
        """Send a signal to the remote process group; true where that was confirmed."""
        return self.group is not None and self._commands.signal_group(self.group, name)

    def end(self) -> bool:
        """End the remote process group (TERM, then KILL); true where it was seen to be gone."""
        return self.group is not None and self._commands.end_group(self.group)

    def _close_pipes(self) -> None:
        # Forgotten first: a number that is closed twice may be another thread's by then.
        fds = (self.inp, self.out, self.err)
        self.inp = self.out = self.err = -1
        for fd in fds:
            close_fd(fd)

    def close_stdin(self) -> None:
        """The command gets no (more) input."""
        inp, self.inp = self.inp, -1
        close_fd(inp)

    def abandon(self) -> None:
        """In a forked child: let go of the parent's command without a word."""
        self._close_pipes()
        if hasattr(self, "session"):
            self.session.abandon()
        self.slot = None

    def close(self) -> None:
        """Let go of everything on this side."""
        self._close_pipes()
        if hasattr(self, "session"):
            self.session.close()
        if self.slot is not None:
            self.slot.release()
