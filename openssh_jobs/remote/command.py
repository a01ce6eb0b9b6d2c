"""The exec lane: the user's commands, each a session of its own."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import select
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import CommandFailed, CommandTimeout, OpenSSHJobsError, remote_oserror
from ..openssh import mux
from ..openssh.sessions import OPEN_TIMEOUT, failure_of
from . import wrapper
from .exchange import Exchange, close_fd
from .quoting import describe, envelope, join_command, quote, to_text
from .result import NO_STATUS, CommandResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..openssh.master import Link
    from ..openssh.sessions import Session, Sessions, Slot

log = logging.getLogger("openssh_jobs.command")

_STATUS_WAIT = 15.0
_KILL_WAIT = 10.0
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


class _NeverStarted(Exception):
    """The session stands, but the shell never began with the command."""


class Running:
    """A command at work on the host, seen from here: the session and our ends of its pipes."""

    def __init__(self, commands: Commands, plan: Plan) -> None:
        self.plan = plan
        self.group: int | None = None
        self.session: Session
        self.out = -1
        self.err = -1
        self.inp = -1
        nonce = b"oj-" + secrets.token_hex(9).encode()
        self.nonce = nonce
        self.out_marks = wrapper.Marks(nonce, hold=True)
        self.err_marks = wrapper.Marks(nonce, hold=False)
        self.early_err = b""
        self.preamble = b""
        self.sent_input = 0
        self._commands = commands
        self.slot: Slot | None = None

    # ------------------------------------------------------------------ start

    def start(self, link: Link, data: bytes, stdin: int | None, stdout: int | None) -> None:
        """Open the session and wait until the shell has said that it begins.

        ``stdin`` and ``stdout`` are descriptors to hand over instead of pipes.  Raises
        ``mux.MuxError`` where no session came up.
        """
        sessions = self._commands.sessions
        line = wrapper.build(
            self.plan.script,
            self.nonce,
            family=self._commands.family,
            report_status=sessions.backend == "process",
            cwd=self.plan.cwd,
            env=self.plan.env,
            login_shell=self.plan.login_shell,
            errors=self.plan.errors,
        )
        self.preamble = line.preamble
        ours: list[int] = []
        theirs: list[int] = []
        try:
            if stdin is None or line.preamble:
                theirs_in, self.inp = os.pipe()
                ours.append(self.inp)
                theirs.append(theirs_in)
            else:
                theirs_in = stdin
            if stdout is None:
                self.out, theirs_out = os.pipe()
                ours.append(self.out)
                theirs.append(theirs_out)
            else:
                theirs_out = stdout
            self.err, theirs_err = os.pipe()
            ours.append(self.err)
            theirs.append(theirs_err)
            self._write_early(line.preamble + data)
            self.session = sessions.open(link, line.command, (theirs_in, theirs_out, theirs_err))
        except BaseException:
            for fd in ours + theirs:
                close_fd(fd)
            self.inp = self.out = self.err = -1
            raise
        for fd in theirs:
            close_fd(fd)
        try:
            self._await_start()
        except BaseException:
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
        if self.sent_input == len(data) and not self._commands.keep_stdin(self):
            close_fd(self.inp)
            self.inp = -1

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
        self.session.wait(_STATUS_WAIT)
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
        raise _NeverStarted(status, to_text(noise), to_text(said))

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
        return self.group is not None and self._commands.signal_group(self.group, name, self)

    def end(self) -> bool:
        """End the remote process group (TERM, then KILL); true where it was seen to be gone."""
        return self.group is not None and self._commands.end_group(self.group, self)

    def close(self) -> None:
        """Let go of everything on this side."""
        for fd in (self.inp, self.out, self.err):
            close_fd(fd)
        self.inp = self.out = self.err = -1
        if hasattr(self, "session"):
            self.session.close()
        if self.slot is not None:
            self.slot.release()


class Commands:
    """Runs commands over the sessions of one host."""

    def __init__(self, sessions: Sessions, *, prologue: str = "") -> None:
        self.sessions = sessions
        self.prologue = prologue
        self.count = 0
        self.family: wrapper.Family | None = None
        self.aside: Callable[[bytes, float], int | None] | None = None
        """A way to run a short script that needs no new session, where there is one."""
        self._kept: set[int] = set()

    @property
    def host(self) -> str:
        """The host as the user named it."""
        return self.sessions.master.target.host

    def learned(self, family: bytes) -> None:
        """The login shell told what it is."""
        if self.family is None:
            self.family = "sh" if family == b"sh" else "other"

    def keep_stdin(self, running: Running) -> bool:
        """Whether stdin stays open after the given input (``popen``)."""
        return id(running) in self._kept

    def plan(
        self,
        command: Any,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        login_shell: bool = False,
        errors: wrapper.Errors = "pipe",
        prologue: str | None = None,
    ) -> Plan:
        """Check and quote a command.  Raises ``ValueError`` before anything is sent."""
        script = join_command(command)
        before = self.prologue if prologue is None else prologue
        if before:
            script = join_command(before) + b"\n" + script
        return Plan(
            script=script,
            what=describe(command),
            cwd=cwd,
            env=env,
            login_shell=login_shell,
            errors=errors,
        )

    def launch(
        self,
        plan: Plan,
        *,
        data: bytes = b"",
        stdin: int | None = None,
        stdout: int | None = None,
        keep_stdin: bool = False,
        again: bool = False,
    ) -> Running:
        """Start a command; returns when its shell has begun."""

        def starter(link: Link) -> Running:
            running = Running(self, plan)
            if keep_stdin:
                self._kept.add(id(running))
            try:
                running.start(link, data, stdin, stdout)
            finally:
                self._kept.discard(id(running))
            return running

        self.count += 1
        try:
            running, slot = self.sessions.start(starter, what=plan.what, again=again)
            running.slot = slot
            return running
        except _NeverStarted as error:
            status, out, err = error.args
            said = " ".join((out + " " + err).split())[:300] or "nothing"
            raise CommandFailed(
                f"the login shell ended with status {status} without starting the command; "
                f"it said: {said}",
                host=self.host,
                command=plan.what,
                sent="maybe",
                result=CommandResult(plan.what, status, out, err, self.host),
                advice=f"See what `{self.sessions.master.target.shell_command()} true` does.",
            ) from None

    # ------------------------------------------------------------------ run

    def run_bytes(
        self,
        plan: Plan,
        *,
        data: bytes = b"",
        timeout: float | None = None,
        on_stdout: Callable[[bytes], object] | None = None,
        on_stderr: Callable[[bytes], object] | None = None,
        args: Any = None,
        again: bool = False,
    ) -> CommandResult[bytes]:
        """Run to the end; output as bytes.

        Raises ``CommandTimeout`` after ``timeout`` seconds, ``ConnectionLost``, the ``OSError``
        of a ``cwd`` that cannot be entered, ``CommandFailed`` where no status came although the
        link is well.
        """
        args = plan.what if args is None else args
        began = time.monotonic()
        running = self.launch(plan, data=data, again=again)
        exchange = Exchange(running, data, on_stdout, on_stderr)
        deadline = None if timeout is None else began + timeout

        def result(code: int) -> CommandResult[bytes]:
            out, err = exchange.output()
            return CommandResult(args, code, out, err, self.host, time.monotonic() - began)

        try:
            if not exchange.run(deadline):
                ended = running.session.status is not None or running.session.wait(0)
                confirmed = running.end()
                exchange.run(time.monotonic() + 0.5)
                raise _timeout_error(self, plan, timeout or 0, confirmed, ended, result(NO_STATUS))
            if not running.session.wait(_STATUS_WAIT):
                raise self.sessions.master.lost(self.sessions.link(), plan.what, sent="yes")
            failed = running.cwd_error()
            if failed is not None:
                raise failed
            status = running.status()
            if status is None:
                raise self.no_status(plan.what, result(NO_STATUS))
            self.sessions.confirmed()
            return result(status)
        except (KeyboardInterrupt, SystemExit):
            running.end()
            raise
        finally:
            running.close()

    def no_status(self, what: str, result: CommandResult[Any] | None = None) -> OpenSSHJobsError:
        """Which of two things ended a session without a status: the link, or a kill there."""
        link = self.sessions.link()
        if not self.sessions.round_trip(link):
            self.sessions.forget(link)
            return self.sessions.master.lost(link, what, sent="yes")
        return CommandFailed(
            f"`{what}` and its shell were killed on the host, or the connection under them was "
            "lost and is back: no exit status came",
            host=self.host,
            command=what,
            result=result,
        )

    # ------------------------------------------------------------------ the remote group

    def signal_group(self, group: int, name: str, running: Running) -> bool:
        """One signal to a remote process group."""
        return self._aside(b"kill -s %s -- -%d" % (name.encode(), group), running) == 0

    def end_group(self, group: int, running: Running) -> bool:
        """TERM, a second's grace, KILL; true when no process of the group is left."""
        # `-s NAME`: dash takes `kill -TERM -- -N` for an illegal number.
        script = (
            b"g=-%d; kill -s TERM -- $g 2>/dev/null; kill -s CONT -- $g 2>/dev/null; i=0; "
            b"while kill -s 0 -- $g 2>/dev/null; do i=$((i+1)); "
            b"[ $i = 10 ] && kill -s KILL -- $g 2>/dev/null; [ $i -gt 40 ] && exit 1; "
            b"sleep 0.1; done; exit 0" % group
        )
        return self._aside(script, running) == 0

    def _aside(self, script: bytes, running: Running) -> int | None:
        """Run a short script beside a running command, with or without a free session."""
        try:
            if self.aside is not None:
                status = self.aside(script, _KILL_WAIT)
                if status is not None:
                    return status
            return self._aside_session(script, running)
        except (OpenSSHJobsError, mux.MuxError, OSError) as error:
            log.warning("%s: the remote process group could not be reached: %s", self.host, error)
            return None

    def _aside_session(self, script: bytes, running: Running) -> int | None:
        deadline = time.monotonic() + _KILL_WAIT
        link = self.sessions.link()
        while True:
            try:
                with open(os.devnull, "r+b") as nothing:
                    fd = nothing.fileno()
                    command = b"exec /bin/sh -c " + quote(script)
                    if self.family != "sh":
                        command = envelope(script)
                    session = self.sessions.open(link, command, (fd, fd, fd))
                try:
                    if not session.wait(max(0.1, deadline - time.monotonic())):
                        return None
                    if session.status == 255 and self.sessions.backend == "process":
                        raise mux.SessionRefused("no session for the signal")
                    return session.status
                finally:
                    session.close()
            except mux.SessionRefused:
                if time.monotonic() > deadline:
                    raise
                # With MaxSessions 1 the command itself holds the only session: let go of it.
                if time.monotonic() > deadline - _KILL_WAIT + 1:
                    running.session.close()
                time.sleep(0.1)


def _timeout_error(
    commands: Commands,
    plan: Plan,
    timeout: float,
    confirmed: bool,
    ended: bool,
    result: CommandResult[bytes],
) -> CommandTimeout:
    message = f"`{plan.what}` was not over after {timeout:g} s"
    if ended:
        message = (
            f"`{plan.what}` had ended, but after {timeout:g} s a background process of it still "
            "held its output open"
        )
    if confirmed:
        message += "; its processes were ended"
        advice = None
    else:
        message += "; whether its processes ended could not be confirmed"
        advice = "Look for them on the host."
    return CommandTimeout(
        message,
        host=commands.host,
        command=plan.what,
        timeout=timeout,
        confirmed=confirmed,
        advice=advice,
        result=result,
    )
