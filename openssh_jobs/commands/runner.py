"""The exec lane: the user's commands, each in a separate session."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import math
import time
import weakref
from typing import TYPE_CHECKING, Protocol, TypeVar

from .. import logs
from ..errors import CommandFailed, CommandTimeout, ConnectionLost, InvalidAnswer, OpenSSHJobsError
from . import command_line, limits
from .child import Plan, Running, StartTimeout
from .process_groups import ProcessGroups
from .quoting import OWN_ENVIRONMENT, describe, join_command, quote_path
from .result import NO_STATUS, CommandResult
from .stdio import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ..transport.base import Link
    from ..transport.sessions import Sessions
    from .options import Command

T = TypeVar("T")
R = TypeVar("R")
_LONGEST = 10**8

log = logs.logger("openssh_jobs.command")


class Scope:
    """The commands of several threads, which an interruption of their caller ends together.

    A thread's commands belong to the scope inside of ``with scope.entered():``.
    """

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._at_work: set[Running] = set()
        self._ended = False

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """A context in which the commands of this thread belong to the scope."""
        token = _scope.set(self)
        try:
            yield
        finally:
            _scope.reset(token)

    def each(self, work: Callable[[T], R], items: Sequence[T], threads: int) -> list[R]:
        """Do ``work`` for each item in so many threads; an interruption ends what runs.

        At the end of the program, where no thread can start, one item after another.
        """

        def inside(item: T) -> R:
            with self.entered():
                return work(item)

        try:
            from concurrent.futures import ThreadPoolExecutor

            pool = ThreadPoolExecutor(threads)
            pool.submit(bool)
        except RuntimeError:
            return [inside(item) for item in items]
        try:
            results = list(pool.map(inside, items))
        except Exception:
            pool.shutdown()
            raise
        except BaseException:
            # Ctrl-C: running commands are ended, queued ones are not started.
            pool.shutdown(wait=False, cancel_futures=True)
            self.end()
            raise
        pool.shutdown()
        return results

    def check(self) -> None:
        """Raise ``ConnectionLost`` if the scope was ended: no further command starts."""
        if self._ended:
            raise ConnectionLost(
                "the caller was interrupted before the command began",
                host=self._commands.host,
                sent="no",
            )

    def begun(self, running: Running) -> None:
        """Add a command that started; if the scope has ended meanwhile its thread ends it."""
        self._at_work.add(running)
        if self._ended:
            running.end()

    def over(self, running: Running) -> None:
        """Remove a command that has ended."""
        self._at_work.discard(running)

    def end(self) -> bool:
        """End the remote process groups of all commands; true if all ends were confirmed."""
        self._ended = True
        groups = [running.group for running in list(self._at_work) if running.group is not None]
        return not groups or self._commands.groups.end(groups)


_scope: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("_scope", default=None)


class ProcessHolder(Protocol):
    """An owner of the pipes of a running command in place of the lane."""

    def abandon(self) -> None:
        """In a forked child: close the copies of the pipes, send nothing."""


class Commands:
    """Runs commands over the sessions of one host."""

    def __init__(
        self, sessions: Sessions, *, prologue: str = "", start_timeout: float = limits.START
    ) -> None:
        self.sessions = sessions
        self.prologue = prologue
        self.login_shell = command_line.LoginShell(start_timeout)
        self.groups = ProcessGroups(sessions, self.login_shell)
        self.count = 0
        self.streams = limits.STREAMS
        """The most streams for one file."""
        self._at_work: weakref.WeakSet[Running] = weakref.WeakSet()
        self._holders: weakref.WeakSet[ProcessHolder] = weakref.WeakSet()

    @property
    def host(self) -> str:
        """The host as the user named it."""
        return self.sessions.host

    def took_over(self, holder: ProcessHolder, running: Running) -> None:
        """Make ``holder`` the owner of the pipes, beyond the call that started the command."""
        self._holders.add(holder)
        if running.slot is not None:
            running.slot.kept()

    def reset(self) -> None:
        """In a forked child: close the copies of all pipes, else their readers see no end."""
        for holder in [*self._holders, *self._at_work]:
            holder.abandon()
        self._at_work = weakref.WeakSet()
        self._holders = weakref.WeakSet()

    def plan(
        self,
        command: Command,
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
            script = OWN_ENVIRONMENT + script  # a command of the library
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
        """Start a command; returns when its script has started.

        Its stdin may be used only then: a ``stdin`` that is passed must not hold any data yet.
        ``until`` (``time.monotonic``) limits the wait for a free session and for the start
        (``StartTimeout``).  Raises ``CommandNotStarted`` if the login shell does not start it.
        """

        scope = _scope.get()

        def starter(link: Link) -> Running:
            if scope is not None:
                scope.check()
            running = Running(
                self.sessions, self.login_shell, self.groups, plan, keep_stdin=keep_stdin
            )
            self._at_work.add(running)
            running.start(link, data, stdin, stdout, until)
            return running

        self.count += 1
        if not plan.by_stdin:
            log.debug("%s: runs %s", self.host, plan.what)
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
        args: Command | None = None,
        again: bool = False,
        keep: bool = True,
        most: int | None = None,
        own: bool = True,
    ) -> CommandResult[bytes]:
        """Run to the end; output as bytes.

        ``keep=False``: do not keep output that is passed to a function.  ``most``: maximum bytes of
        stdout, for the library's own commands; ``own=False``: for one that starts others, such as
        a scheduler's, it is that of stderr too.

        Raises ``CommandTimeout`` after ``timeout`` seconds, ``CommandNotStarted``,
        ``ConnectionLost``, the ``OSError`` of ``cwd``, ``CommandFailed`` if no status arrived.
        """
        args = plan.what if args is None else args
        if timeout is not None:
            plan = dataclasses.replace(plan, limit=min(math.ceil(timeout) + 1, _LONGEST))
        began = time.monotonic()
        deadline = None if timeout is None else began + timeout
        try:
            running = self.launch(plan, data=data, again=again, until=deadline)
        except StartTimeout as late:
            raise self._not_begun(plan, late, args, timeout or 0.0) from None
        exchange: Exchange | None = None
        scope = _scope.get()

        def result(code: int) -> CommandResult[bytes]:
            out, err = exchange.output() if exchange is not None else (b"", b"")
            return CommandResult(args, code, out, err, self.host, time.monotonic() - began)

        try:
            try:
                if scope is not None:
                    scope.begun(running)
                exchange = Exchange(
                    running, data, on_stdout, on_stderr, keep=keep, most=most, own=own
                )
                # The library's own commands may take long, but are never silent for so long.
                silence = limits.SILENCE if most is not None and timeout is None else None
                whole = exchange.run(deadline, silence=silence)
            except BaseException:
                # Ctrl-C, or a callback raised: end the command, as subprocess does.
                running.end()
                raise
            if not whole:
                ended = running.script_has_ended
                confirmed = running.end()
                exchange.run(time.monotonic() + 0.5)
                so_far, waited = result(NO_STATUS), timeout or limits.SILENCE
                raise _timeout_error(self, plan, waited, confirmed, ended, so_far)
            return result(self._status_of(running, result))
        finally:
            if scope is not None:
                scope.over(running)
            running.close()

    def _not_begun(
        self, plan: Plan, late: StartTimeout, args: Command, timeout: float
    ) -> CommandTimeout:
        return CommandTimeout(
            f"`{plan.what}` had not begun after {timeout:g} s: the login shell is still at its "
            "rc files, or started something else",
            host=self.host,
            command=plan.what,
            timeout=timeout,
            confirmed=late.confirmed,
            sent=late.sent,
            result=CommandResult(args, NO_STATUS, b"", b"", self.host, timeout),
        )

    def _status_of(self, running: Running, result: Callable[[int], CommandResult[bytes]]) -> int:
        """The exit status of a command whose streams have ended; raises if there is none."""
        what = running.what
        if not running.await_end():
            raise self.sessions.lost(running.link, what, sent="yes")
        failed = running.refusal()
        if failed is not None:
            raise failed
        status = running.marked_status
        if status is None:
            raise self.no_status(running, result(NO_STATUS))
        if running.takes_stdout and running.out_marks.holds:
            raise self.no_output(running, status)
        self.sessions.confirmed()
        return status

    def no_output(self, running: Running, status: int) -> InvalidAnswer:
        """The error for a command that ended without the mark on its stdout."""
        return InvalidAnswer(
            f"the output of `{running.what}` did not come: something there (an rc file?) gave "
            f"the login shell another stdout; it ended with status {status}",
            host=self.host,
            command=running.what,
            sent="yes",
        )

    def no_status(
        self, running: Running, result: CommandResult[bytes] | None = None
    ) -> OpenSSHJobsError:
        """The error for a session without a status: a lost link, or a kill on the host."""
        what = running.plan.what
        if not self.sessions.answers(running.link):
            self.sessions.forget(running.link)
            return self.sessions.lost(running.link, what, sent="yes")
        self.login_shell.distrust()
        return CommandFailed(
            f"`{what}` and its shell were killed on the host, or an rc file changed how the shell "
            "ends: no exit status came",
            host=self.host,
            command=what,
            result=result,
        )

    def end_at_work(self) -> bool | None:
        """End all commands that still run, because their caller was interrupted and exits.

        True if all ends were confirmed, ``None`` if no command was sent to the host.
        """
        every = list(self._at_work)
        left = {
            running: running.group
            for running in every
            if running.may_run and running.group is not None and not running.is_over
        }
        if left and self.groups.end(left.values()):
            for running in left:
                running.ended = True
        asked = any(running.asked for running in every)
        over = not any(running.may_run for running in every)
        for running in every:
            running.close()
        return over if asked else None


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
