"""``Host``: commands, files and transfers, for a connection and for this machine."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

from .commands import limits
from .commands.control_shell import ControlShell, ShellAnswer
from .commands.interactive import Interactive
from .commands.result import CommandResult
from .commands.runner import Commands, Scope
from .commands.stdio import input_bytes, line_feed
from .errors import ConfigurationError, OpenSSHJobsError
from .files.remote_files import RemoteFiles
from .liveness import Liveness, Stats
from .openssh import at_fork
from .transfer.sftp import Sftp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from _typeshed import ReadableBuffer

    from .commands.command_line import Errors
    from .commands.host_tools import Features
    from .commands.options import Command, RunOptions, StartOptions
    from .commands.remote_process import RemoteProcess
    from .site_policy import SitePolicy
    from .transfer.options import Method, TransferOptions, TransferResult
    from .transfer.transfer import Transfer
    from .transport.sessions import Sessions


class Internal:
    """What ``cluster`` needs of a host beside its public methods; it changes without notice."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @property
    def route(self) -> str:
        """A text for the way to the host and the account there: equal ones lead to the same."""
        return self._host._route()

    def absolute(self, path: str) -> str:
        """The absolute form of a path on the host; at most the round trip of ``features``."""
        return self._host._files.absolute(path)

    def is_precious(self, path: str) -> bool:
        """Whether a path is the home directory or above it."""
        return self._host._files.is_precious(path)

    def call(self, script: bytes, *, again: bool = False) -> ShellAnswer:
        """Run a short script on the held shell: one round trip.

        ``again``: run it a second time if the link is lost before the answer arrives.
        """
        return self._host._shell.call(script, again=again)

    def run(
        self,
        script: str | bytes,
        *,
        timeout: float,
        input: bytes = b"",
        login_shell: bool | None = None,
        text: bool = True,
    ) -> CommandResult[Any]:
        """As ``Host.run``, for shell text of the library: ``InvalidAnswer`` for too much output."""
        if login_shell is None:
            login_shell = self._host._login_shell
        commands = self._host._commands
        plan = commands.plan(script, login_shell=login_shell)
        done = commands.run_bytes(plan, data=input, timeout=timeout, most=limits.LISTING, own=False)
        return done.decoded() if text else done

    def run_once(
        self,
        script: bytes,
        *,
        login_shell: bool,
        timeout: float,
        said: tuple[bytearray, bytearray] | None = None,
    ) -> CommandResult[str]:
        """Run shell text that travels on stdin: if its shell never begins, nothing can have run.

        What else may read a command line finds no script in this one; a round trip more.  ``said``
        gets what arrives on both streams.
        """
        commands = self._host._commands
        plan = commands.plan(script, login_shell=login_shell, by_stdin=True)
        out, err = (kept.extend for kept in said) if said is not None else (None, None)
        done = commands.run_bytes(
            plan, timeout=timeout, on_stdout=out, on_stderr=err, most=limits.ANSWER, own=False
        )
        return done.decoded()

    def tighten(self, policy: SitePolicy) -> None:
        """Keep to a site's limits from now on."""
        self._host._tighten(policy)

    def scope(self) -> Scope:
        """A new scope: commands of several threads that are ended together."""
        return Scope(self._host._commands)


class Host(RemoteFiles, Interactive, ABC):
    """A host over any transport; ``Connection`` and ``LocalConnection`` are the public classes."""

    def __init__(
        self,
        sessions: Sessions,
        *,
        login_shell: bool,
        prologue: str,
        start_timeout: float,
        directory: Callable[[], str] | None = None,
    ) -> None:
        if not start_timeout > 0:
            raise ConfigurationError(
                f"start_timeout={start_timeout} is not above 0", host=sessions.host
            )
        self.host = sessions.host
        self._login_shell = login_shell
        self._sessions = sessions
        self._commands = Commands(sessions, prologue=prologue, start_timeout=start_timeout)
        self._shell = ControlShell(
            sessions, self._commands.login_shell, self._commands.groups, directory=directory
        )
        self._commands.groups.aside = self._aside
        self._commands.groups.later = self._shell.later
        self._sftp = Sftp(sessions, start_timeout=start_timeout)
        self.internal = Internal(self)
        at_fork.renew(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.host!r})"

    @property
    def name(self) -> str:
        """The host's name in the journal of jobs."""
        return self.host

    def _route(self) -> str:
        return self.host

    @property
    def logins(self) -> int:
        """Count of logins that this object made."""
        return 0

    def open(self) -> Self:
        """Establish the link now instead of at the first use."""
        self._sessions.link()
        return self

    @abstractmethod
    def check(self) -> Liveness:
        """Whether the host answers now."""

    @abstractmethod
    def reconnect(self) -> None:
        """Check the link to the host again, and replace it if the host does not answer."""

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, *, stop_master: bool = False) -> None:
        """Release the sessions that this object holds; ``stop_master``: see ``Connection``."""
        self._shell.close()
        self._sftp.close()

    def stats(self) -> Stats:
        """Counts of what this object did; sends nothing."""
        return Stats(
            logins=self.logins,
            sessions=self._sessions.opened,
            commands=self._commands.count,
            control_calls=self._shell.calls,
            sftp_processes=self._sftp.started,
        )

    def end_commands(self) -> bool | None:
        """End the commands of this object (``run``, ``popen``) that still run on the host.

        For a program that was interrupted and is about to exit.  True if all are known to have
        ended, ``None`` if no command was sent to the host.
        """
        return self._commands.end_at_work()

    @property
    def features(self) -> Features:
        """The host's home directory, stat, tar and rsync; queried once, then cached."""
        return self._files.features

    def _tighten(self, policy: SitePolicy) -> None:
        if policy.sessions is not None:
            self._sessions.limit(policy.sessions)
        if policy.streams is not None:
            self._commands.streams = min(self._commands.streams, policy.streams)

    def after_fork(self) -> None:
        self._commands.reset()
        self._sessions.reset()
        self._shell.reset()
        self._sftp.reset()

    def _aside(self, script: bytes, timeout: float) -> int | None:
        """Run a short script on the held shell, if one is held and free."""
        answer = self._shell.call_if_free(script, timeout=timeout)
        return None if answer is None else answer.status

    # ------------------------------------------------------------------ commands

    @overload
    def run(
        self,
        command: Command,
        *,
        text: Literal[True] = ...,
        on_stdout: Callable[[str], object] | None = ...,
        on_stderr: Callable[[str], object] | None = ...,
        **options: Unpack[RunOptions],
    ) -> CommandResult[str]: ...

    @overload
    def run(
        self,
        command: Command,
        *,
        text: Literal[False],
        on_stdout: Callable[[bytes], object] | None = ...,
        on_stderr: Callable[[bytes], object] | None = ...,
        **options: Unpack[RunOptions],
    ) -> CommandResult[bytes]: ...

    @overload
    def run(
        self,
        command: Command,
        *,
        text: bool,
        on_stdout: Callable[[str | bytes], object] | None = ...,
        on_stderr: Callable[[str | bytes], object] | None = ...,
        **options: Unpack[RunOptions],
    ) -> CommandResult[str] | CommandResult[bytes]: ...

    def run(
        self,
        command: Command,
        *,
        input: str | ReadableBuffer | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        check: bool = False,
        text: bool = True,
        encoding: str = "utf-8",
        errors: str = "surrogateescape",
        on_stdout: Callable[[str], object] | Callable[[bytes], object] | None = None,
        on_stderr: Callable[[str], object] | Callable[[bytes], object] | None = None,
        login_shell: bool | None = None,
        keep: bool = True,
    ) -> CommandResult[str] | CommandResult[bytes]:
        """Run a command to its end.

        Text is a POSIX sh script, whatever the login shell is; a sequence is an argument vector.
        ``env`` values are sent on stdin, not in argv.  ``on_stdout`` and ``on_stderr`` are called
        with every line as it arrives; with ``keep=False`` these lines are not kept in the result,
        which otherwise holds all output without a limit.  Raises ``CommandTimeout`` after
        ``timeout`` seconds (the remote process group is ended), ``CommandNotStarted`` if the login
        shell does not start the command, ``CommandFailed`` with ``check`` or if no exit status
        arrived, ``ConnectionLost``, ``SessionLimit``, and the ``OSError`` of ``cwd``.  Only a
        command that was certainly not sent is retried.
        """
        plan = self._commands.plan(
            command,
            cwd=cwd,
            env=env,
            login_shell=self._login_shell if login_shell is None else login_shell,
        )
        out, end_out = line_feed(on_stdout, text, encoding, errors)
        err, end_err = line_feed(on_stderr, text, encoding, errors)
        done = self._commands.run_bytes(
            plan,
            data=input_bytes(input, encoding, errors),
            timeout=timeout,
            on_stdout=out,
            on_stderr=err,
            args=command,
            keep=keep,
        )
        end_out()
        end_err()
        result = done.decoded(encoding, errors) if text else done
        if check:
            result.check_returncode()
        return result

    @overload
    def run_many(
        self,
        commands: Iterable[Command],
        *,
        concurrency: int | None = ...,
        text: Literal[True] = ...,
        on_stdout: Callable[[str], object] | None = ...,
        on_stderr: Callable[[str], object] | None = ...,
        **same: Unpack[RunOptions],
    ) -> list[CommandResult[str]]: ...

    @overload
    def run_many(
        self,
        commands: Iterable[Command],
        *,
        concurrency: int | None = ...,
        text: Literal[False],
        on_stdout: Callable[[bytes], object] | None = ...,
        on_stderr: Callable[[bytes], object] | None = ...,
        **same: Unpack[RunOptions],
    ) -> list[CommandResult[bytes]]: ...

    @overload
    def run_many(
        self,
        commands: Iterable[Command],
        *,
        concurrency: int | None = ...,
        text: bool,
        on_stdout: Callable[[str | bytes], object] | None = ...,
        on_stderr: Callable[[str | bytes], object] | None = ...,
        **same: Unpack[RunOptions],
    ) -> list[CommandResult[str]] | list[CommandResult[bytes]]: ...

    def run_many(
        self, commands: Iterable[Command], *, concurrency: int | None = None, **same: Any
    ) -> list[CommandResult[str]] | list[CommandResult[bytes]]:
        """Run many commands at once, within the server's limit; results in order.

        The exception that ``run`` would have raised is in ``.error`` of the result; the other
        commands go on.  ``same``: options of ``run`` for all commands.  An interruption (Ctrl-C)
        ends all of them, as it does with ``run``.
        """
        wanted = list(commands)
        if concurrency is not None and concurrency < 1:
            raise ValueError(f"concurrency={concurrency} is less than 1")
        if not wanted:
            return []
        for command in wanted:
            self._commands.plan(command)  # raise for an invalid command before any command runs
        empty: Any = "" if same.get("text", True) else b""

        def run(command: Command) -> CommandResult[Any]:
            try:
                return self.run(command, **same)
            except OpenSSHJobsError as error:
                kept = getattr(error, "result", None)
                if kept is not None:
                    return replace(kept, error=error)
                return CommandResult(command, -1, empty, empty, self.host, error=error)

        self.open()
        return Scope(self._commands).each(run, wanted, min(concurrency or 8, len(wanted)))

    @overload
    def popen(
        self,
        command: Command,
        *,
        stdin: Literal["pipe"] | None = ...,
        stderr: Errors = ...,
        text: Literal[True] = ...,
        **options: Unpack[StartOptions],
    ) -> RemoteProcess[str]: ...

    @overload
    def popen(
        self,
        command: Command,
        *,
        stdin: Literal["pipe"] | None = ...,
        stderr: Errors = ...,
        text: Literal[False],
        **options: Unpack[StartOptions],
    ) -> RemoteProcess[bytes]: ...

    @overload
    def popen(
        self,
        command: Command,
        *,
        stdin: Literal["pipe"] | None = ...,
        stderr: Errors = ...,
        text: bool,
        **options: Unpack[StartOptions],
    ) -> RemoteProcess[str] | RemoteProcess[bytes]: ...

    def popen(
        self,
        command: Command,
        *,
        stdin: Literal["pipe"] | None = "pipe",
        stderr: Errors = "pipe",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        text: bool = True,
        encoding: str = "utf-8",
        errors: str = "surrogateescape",
        login_shell: bool | None = None,
    ) -> RemoteProcess[str] | RemoteProcess[bytes]:
        """Start a command and return a ``RemoteProcess`` with its streams as file objects.

        ``stdin``: ``"pipe"``, or ``None`` for no input; ``stderr``: ``"pipe"``, ``"stdout"`` (merge
        into stdout) or ``"devnull"``.
        """
        if stderr not in ("pipe", "stdout", "devnull"):
            raise ValueError(f"stderr must be 'pipe', 'stdout' or 'devnull', not {stderr!r}")
        if stdin not in ("pipe", None):
            raise ValueError(f"stdin must be 'pipe' or None, not {stdin!r}")
        plan = self._commands.plan(
            command,
            cwd=cwd,
            env=env,
            login_shell=self._login_shell if login_shell is None else login_shell,
            errors=stderr,
        )
        running = self._commands.launch(plan, keep_stdin=True)
        if stdin is None:
            running.close_stdin()
        from .commands.remote_process import RemoteProcess

        return RemoteProcess(
            self._commands,
            running,
            command,
            text=text,
            encoding=encoding,
            errors=errors,
            with_stderr=stderr == "pipe",
        )

    # ------------------------------------------------------------------ transfers

    @cached_property
    def _own_transfer(self) -> Transfer:
        from .transfer.transfer import Transfer

        return Transfer(self._commands, self._shell, self._sftp, self._files, self.host)

    @property
    def _transfer(self) -> Transfer:
        """What copies files: over this host's link, unless another host does it."""
        return self._own_transfer

    def put(
        self,
        local: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        remote: str,
        *,
        method: Method = "auto",
        **options: Unpack[TransferOptions],
    ) -> TransferResult:
        """Copy a local file or tree to the host; whole or absent.

        ``remote`` is the target itself, or the directory for it where it ends in ``/``; missing
        parents are made.  A list of sources goes into that directory.  A file is replaced; a tree
        that exists is ``FileExistsError`` unless ``merge`` or ``update``.  ``update`` moves what
        differs in size, or in time and content, and keeps times; with ``delete`` it removes what
        the source does not have.  ``dry_run`` makes a ``TransferPlan`` only, ``approve`` is called
        with it before anything is changed; ``progress`` with bytes done, bytes in total, files
        done, files in total, name (any thread).  Raises ``OSError`` kinds, ``TransferError``.
        docs/files.rst explains these and the other options.
        """
        from .transfer.transfer import Options

        # The upload of a submission goes to the host itself, which works on it at once.
        transfer = self._transfer if options.get("mark") is None else self._own_transfer
        return transfer.put(local, remote, Options(method=method, **options))

    def get(
        self,
        remote: str | Sequence[str],
        local: str | os.PathLike[str],
        *,
        method: Method = "auto",
        **options: Unpack[TransferOptions],
    ) -> TransferResult:
        """Copy files or trees of the host here; whole or absent.  The rest is as for ``put``."""
        from .transfer.transfer import Options

        return self._transfer.get(remote, local, Options(method=method, **options))
