"""The exec lane: the user's commands, each a session of its own."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import logging
import math
import os
import time
import weakref
from typing import TYPE_CHECKING, Any

from ..errors import CommandFailed, CommandTimeout, ConnectionLost, InvalidAnswer, OpenSSHJobsError
from ..openssh import mux_protocol
from . import command_line, limits
from .child import STATUS_WAIT, Plan, Running, StartTimeout
from .quoting import OWN_PATH, describe, envelope, join_command, quote, quote_path
from .result import NO_STATUS, CommandResult
from .stdio import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ..openssh.master import Link
    from ..transport.sessions import Sessions

log = logging.getLogger("openssh_jobs.command")

_KILL_WAIT = 10.0
_LONGEST = 10**8
# sshd makes every session its own process group, and the shell that told its pid leads it, but
# for a forced command that starts a shell below itself: then ps knows the group.
_FIND_GROUP = (
    b"if kill -s 0 $g 2>/dev/null && ! kill -s 0 -- -$g 2>/dev/null; then "
    b"g=$(ps -o pgid= -p $g | tr -d ' '); fi"
)


class Scope:
    """The commands of several threads that are ended together: by an interruption of their caller.

    A thread takes part inside of ``with scope.entered():``.
    """

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._at_work: set[Running] = set()
        self._ended = False

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """What this thread runs inside belongs to the scope."""
        token = _scope.set(self)
        try:
            yield
        finally:
            _scope.reset(token)

    def check(self) -> None:
        """Raise ``ConnectionLost`` where the scope was ended: nothing begins any more."""
        if self._ended:
            raise ConnectionLost(
                "the caller was interrupted before the command began",
                host=self._commands.host,
                sent="no",
            )

    def begun(self, running: Running) -> None:
        """A command began; its thread ends it by itself where the scope was ended meanwhile."""
        self._at_work.add(running)
        if self._ended:
            running.end()

    def over(self, running: Running) -> None:
        """A command is over."""
        self._at_work.discard(running)

    def end(self) -> bool:
        """End the remote process groups of all; true where they were seen to be gone."""
        self._ended = True
        groups = [one.group for one in list(self._at_work) if one.group is not None]
        return not groups or self._commands.end_groups(groups)


_scope: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("_scope", default=None)


class Commands:
    """Runs commands over the sessions of one host."""

    def __init__(
        self, sessions: Sessions, *, prologue: str = "", start_timeout: float = limits.START
    ) -> None:
        self.sessions = sessions
        self.prologue = prologue
        self.start_timeout = start_timeout
        """Seconds for the login shell to begin with a command."""
        self.count = 0
        self.family: command_line.Family | None = None
        self.aside: Callable[[bytes, float], int | None] | None = None
        """A way to run a short script that needs no new session, where there is one."""
        self._at_work: weakref.WeakSet[Any] = weakref.WeakSet()

    @property
    def host(self) -> str:
        """The host as the user named it."""
        return self.sessions.master.target.host

    def learned(self, family: bytes) -> None:
        """The login shell told what it is."""
        if self.family is None:
            self.family = "sh" if family == b"sh" else "other"

    def took_over(self, process: Any) -> None:
        """``process`` (a ``RemoteProcess``) has the pipes of a running command now."""
        self._at_work.add(process)
        if process._running.slot is not None:
            process._running.slot.kept()

    def reset(self) -> None:
        """In a forked child: close our copies of all pipes, else the ends never see an end."""
        for running in list(self._at_work):
            running.abandon()
        self._at_work = weakref.WeakSet()

    def plan(
        self,
        command: Any,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        login_shell: bool = False,
        errors: command_line.Errors = "pipe",
        prologue: str | None = None,
        by_stdin: bool = False,
        inert: bool = False,
    ) -> Plan:
        """Check and quote a command.  Raises ``ValueError`` before anything is sent.

        ``by_stdin`` and ``inert``: see ``Plan``.
        """
        script = join_command(command)
        before = self.prologue if prologue is None else prologue
        if before:
            script = join_command(before) + b"\n" + script
        if prologue == "":
            script = OWN_PATH + script  # one of our own
        command_line.exports(env or {})
        if cwd is not None:
            quote_path(cwd)
        return Plan(
            script=script,
            what=describe(command),
            cwd=cwd,
            env=env,
            login_shell=login_shell,
            errors=errors,
            by_stdin=by_stdin,
            inert=inert,
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
        until: float | None = None,
    ) -> Running:
        """Start a command; returns when its script has begun.

        Its stdin may be used then, not before: nothing may be in a ``stdin`` that is handed over.
        ``until`` (``time.monotonic``) bounds the wait for a free session and for the beginning
        (``StartTimeout``).  Raises ``CommandNotStarted`` where the login shell does not begin.
        """

        scope = _scope.get()

        def starter(link: Link) -> Running:
            if scope is not None:
                scope.check()
            running = Running(self, plan, keep_stdin=keep_stdin)
            self._at_work.add(running)
            running.start(link, data, stdin, stdout, until)
            return running

        self.count += 1
        running, slot = self.sessions.start(starter, what=plan.what, again=again, until=until)
        running.slot = slot
        return running

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
        keep: bool = True,
        most: int | None = None,
    ) -> CommandResult[bytes]:
        """Run to the end; output as bytes.

        ``keep=False``: output that a function is told is not kept.  ``most``: bytes of stdout that
        can be an answer, for commands of our own.  Raises ``CommandTimeout`` after ``timeout``
        seconds, ``CommandNotStarted``, ``ConnectionLost``, the ``OSError`` of a ``cwd`` that cannot
        be entered, ``CommandFailed`` where no status came although the link is well.
        """
        args = plan.what if args is None else args
        if timeout is not None:
            # The host's own limit is for where ours does not reach it.
            plan = dataclasses.replace(plan, limit=min(math.ceil(timeout) + 1, _LONGEST))
        began = time.monotonic()
        deadline = None if timeout is None else began + timeout
        try:
            running = self.launch(plan, data=data, again=again, until=deadline)
        except StartTimeout as late:
            raise CommandTimeout(
                f"`{plan.what}` had not begun after {timeout:g} s: the login shell is still at its "
                "rc files, or started something else",
                host=self.host,
                command=plan.what,
                timeout=timeout or 0.0,
                confirmed=late.confirmed,
                sent=late.sent,
                result=CommandResult(args, NO_STATUS, b"", b"", self.host, timeout or 0.0),
            ) from None
        exchange: Exchange | None = None
        scope = _scope.get()

        def result(code: int) -> CommandResult[bytes]:
            out, err = exchange.output() if exchange is not None else (b"", b"")
            return CommandResult(args, code, out, err, self.host, time.monotonic() - began)

        try:
            try:
                if scope is not None:
                    scope.begun(running)
                exchange = Exchange(running, data, on_stdout, on_stderr, keep=keep, most=most)
                # What we ask for ourselves may take long, and is never silent for as long.
                silence = limits.SILENCE if most is not None and timeout is None else None
                whole = exchange.run(deadline, silence=silence)
            except BaseException:
                # Ctrl-C, or a callback that raised: as with subprocess the command ends with us.
                running.end()
                raise
            if not whole:
                running.session.wait(0)
                ended = running.status() is not None
                confirmed = running.end()
                exchange.run(time.monotonic() + 0.5)
                waited = timeout or limits.SILENCE
                raise _timeout_error(self, plan, waited, confirmed, ended, result(NO_STATUS))
            if not running.session.wait(STATUS_WAIT):
                raise self.sessions.master.lost(running.link, plan.what, sent="yes")
            failed = running.refusal()
            if failed is not None:
                raise failed
            status = running.status()
            if status is None:
                raise self.no_status(running, result(NO_STATUS))
            if running.takes_stdout and running.out_marks.holds:
                raise InvalidAnswer(
                    f"the output of `{plan.what}` did not come: something there (an rc file?) gave "
                    f"the login shell another stdout; it ended with status {status}",
                    host=self.host,
                    command=plan.what,
                    sent="yes",
                )
            self.sessions.confirmed()
            return result(status)
        finally:
            if scope is not None:
                scope.over(running)
            running.close()

    def no_status(
        self, running: Running, result: CommandResult[Any] | None = None
    ) -> OpenSSHJobsError:
        """Which of two things ended a session without a status: the link, or a kill there."""
        what = running.plan.what
        if not self.sessions.still_answers(running.link):
            self.sessions.forget(running.link)
            return self.sessions.master.lost(running.link, what, sent="yes")
        return CommandFailed(
            f"`{what}` and its shell were killed on the host: no exit status came",
            host=self.host,
            command=what,
            result=result,
        )

    # ------------------------------------------------------------------ the remote group

    def signal_group(self, group: int, name: str) -> bool:
        """One signal to a remote process group."""
        script = b'g=%d; %b; [ -n "$g" ] || exit 1; kill -s %b -- -$g' % (
            group,
            _FIND_GROUP,
            name.encode(),
        )
        return self._aside(script) == 0

    def end_group(self, group: int) -> bool:
        """TERM, a second's grace, KILL; true when no process of the group is left."""
        return self.end_groups([group])

    def end_groups(self, groups: Iterable[int]) -> bool:
        """The same for several groups, in one round trip."""
        # `-s NAME`: dash takes `kill -TERM -- -N` for an illegal number.
        script = (
            b'l=; for g in %b; do %b; [ -n "$g" ] || exit 1; l="$l -$g"; '
            b"kill -s TERM -- -$g 2>/dev/null; kill -s CONT -- -$g 2>/dev/null; done; i=0; "
            b'while :; do a=; for g in $l; do kill -s 0 -- $g 2>/dev/null && a="$a $g"; done; '
            b'[ -n "$a" ] || exit 0; i=$((i+1)); [ $i -gt 40 ] && exit 1; '
            b"if [ $i = 10 ]; then for g in $a; do kill -s KILL -- $g 2>/dev/null; done; fi; "
            b"sleep 0.1; done" % (b" ".join(b"%d" % one for one in groups), _FIND_GROUP)
        )
        return self._aside(script) == 0

    def end_at_work(self) -> bool | None:
        """End all commands that still run: their caller was interrupted and ends now.

        True where all were seen to be over, ``None`` where the host was asked for none.
        """
        every = {getattr(one, "_running", one) for one in list(self._at_work)}
        left = [
            running
            for running in every
            if running.may_run and running.group is not None and not running.session.wait(0)
        ]
        if left and self.end_groups([running.group for running in left]):
            for running in left:
                running.ended = True
        asked = any(running.asked for running in every)
        over = not any(running.may_run for running in every)
        for running in every:
            running.close()
        return over if asked else None

    def _aside(self, script: bytes) -> int | None:
        """Run a short script beside a running command, with or without a free session."""
        try:
            if self.aside is not None:
                status = self.aside(script, _KILL_WAIT)
                if status is not None:
                    return status
            return self._aside_session(script)
        except (OpenSSHJobsError, mux_protocol.MuxError, OSError) as error:
            log.warning("%s: the remote process group could not be reached: %s", self.host, error)
            return None

    def _aside_session(self, script: bytes) -> int | None:
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
                        raise mux_protocol.SessionRefused("no session for the signal")
                    return session.status
                finally:
                    session.close()
            except mux_protocol.SessionRefused:
                if time.monotonic() > deadline:
                    raise
                # With MaxSessions 1 the command itself holds the only session, until the host's
                # own limit ends it.
                time.sleep(0.05)


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
