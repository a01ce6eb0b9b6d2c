"""Every error of this package, as one tree.

::

    OpenSSHJobsError                  .host .command .advice .sent
      ConfigurationError              an argument or a setting is wrong; nothing was sent
        UnsupportedOpenSSH            ssh is missing, or too old for the call
      ConnectError                    no connection could be made; nothing was sent
        HostUnreachable  HostKeyUnknown  HostKeyChanged  AuthenticationNeeded
        AuthenticationFailed  TooManyKeys  Throttled  JumpHostFailed  MasterRequired
      ConnectionLost                  the connection broke during a call; .sent is "maybe"
        InvalidAnswer                 the host's answer is malformed or too long
      SessionLimit                    no free session on the master within the time allowed
      CommandFailed                   .result; also a subprocess.CalledProcessError
        CommandNotStarted             the login shell of the account did not start it
      CommandTimeout                  .result .confirmed; also a subprocess.TimeoutExpired
      TransferError                   a file was not transferred; the target is unchanged
        VerifyFailed  UnrepresentableName  UnsafeName
      RemoteOSError                   .path .errno; also the builtin OSError subclass of that errno
        NoSpace  QuotaExceeded        also a TransferError
      SchedulerError                  .kind .stdout .stderr .returncode
        SubmitRejected  SubmitLimit  SubmitUnknown(.token)
        SubmitIncomplete              .jobs .refused .unknown: what became of each of many
      InputError  ServerError         the names that ARC uses

``sent`` says whether the command reached the host: ``"no"``, ``"maybe"`` or ``"yes"``.  Only what
was not sent is repeated automatically.  All errors pickle and copy.
"""

from __future__ import annotations

import errno as _errno
import os
from subprocess import CalledProcessError, TimeoutExpired
from typing import TYPE_CHECKING, ClassVar, Unpack

from .error_facts import SCHEDULER_ERROR_KINDS as SCHEDULER_ERROR_KINDS
from .error_facts import CommandFacts, Facts, ResultLike, SchedulerFacts
from .error_facts import Sent as Sent
from .printable import printable as printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def _restore(
    cls: Callable[..., OpenSSHJobsError], message: str, facts: dict[str, object]
) -> OpenSSHJobsError:
    return cls(message, **facts)


class OpenSSHJobsError(Exception):
    """Base of all errors of this package: what happened, where, and what to do next.

    ``str()`` is one ``printable`` line; the attributes hold the original text.
    """

    default_sent: ClassVar[Sent] = "no"

    def __init__(
        self,
        message: str,
        *,
        host: str | None = None,
        command: str | None = None,
        advice: str | None = None,
        sent: Sent | None = None,
    ) -> None:
        # Not super(): the standard classes mixed in below take other arguments.
        Exception.__init__(self, message)
        self.message = message
        self.host = host
        self.command = command
        self.advice = advice
        self.sent: Sent = sent if sent is not None else self.default_sent
        self._extra: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.host}: {self.message}" if self.host else self.message
        if self.advice:
            text = f"{text.rstrip('.')}. {self.advice}"
        return printable(text)

    def _keep(self, *names: str) -> None:
        """Copy and pickle these attributes, too: they are arguments of this class."""
        self._extra = (*self._extra, *names)

    def _facts(self) -> dict[str, object]:
        facts: dict[str, object] = {
            "host": self.host,
            "command": self.command,
            "advice": self.advice,
            "sent": self.sent,
        }
        facts.update((name, getattr(self, name)) for name in self._extra)
        return facts

    def __reduce__(self) -> tuple[Callable[..., OpenSSHJobsError], tuple[object, ...]]:
        return _restore, (type(self), self.message, self._facts())


# --------------------------------------------------------------------------- configuration


class ConfigurationError(OpenSSHJobsError, ValueError):
    """An argument, a setting or the ssh configuration is wrong; nothing was sent."""


class UnsupportedOpenSSH(ConfigurationError):
    """OpenSSH is not installed, or too old for the call."""


# --------------------------------------------------------------------------- connecting


class ConnectError(OpenSSHJobsError):
    """No connection to the host could be made.  ``stderr`` is what ssh wrote."""

    def __init__(self, message: str, *, stderr: str = "", **facts: Unpack[Facts]) -> None:
        self.stderr = stderr
        super().__init__(message, **facts)
        self._keep("stderr")


class HostUnreachable(ConnectError):
    """The host name is unknown, the connection was refused, or there was no route or answer."""


class HostKeyUnknown(ConnectError):
    """The host's key is in no known_hosts file, and there was no responder to accept it."""


class HostKeyChanged(ConnectError):
    """The host's key differs from the one in known_hosts."""


class AuthenticationNeeded(ConnectError):
    """The host asks for a password, a code or a touch, and no responder was given."""


class AuthenticationFailed(ConnectError):
    """The host refused the keys, the password or the code."""


class TooManyKeys(ConnectError):
    """The agent offered more keys than the server allows (MaxAuthTries)."""


class Throttled(ConnectError):
    """The server drops new connections (MaxStartups, PerSourcePenalties, fail2ban)."""


class JumpHostFailed(ConnectError):
    """A jump host or proxy command on the way to the host failed."""


class MasterRequired(ConnectError):
    """No master is open, and ``master="existing"`` or ``"user"`` forbids opening one."""


# --------------------------------------------------------------------------- commands


class ConnectionLost(OpenSSHJobsError):
    """The connection or the master broke during a call."""

    default_sent: ClassVar[Sent] = "maybe"


class InvalidAnswer(ConnectionLost):
    """The host's answer is malformed or exceeds a limit; the session was closed."""


class SessionLimit(OpenSSHJobsError):
    """All sessions of the server (MaxSessions) were in use until the timeout."""


class _WithResult(OpenSSHJobsError):
    """An error that has the ``CommandResult`` as ``.result``, where there is one."""

    default_sent: ClassVar[Sent] = "yes"

    def __init__(
        self,
        message: str,
        *,
        result: ResultLike[str | bytes] | None = None,
        **facts: Unpack[Facts],
    ) -> None:
        self.result = result
        super().__init__(message, **facts)
        self._keep("result")

    # CalledProcessError and TimeoutExpired keep the output in attributes of these names.
    @property
    def output(self) -> str | bytes | None:
        return self.result.stdout if self.result is not None else None

    @output.setter
    def output(self, value: object) -> None:
        raise AttributeError("stdout comes from .result")

    stdout = output

    @property
    def stderr(self) -> str | bytes | None:
        return self.result.stderr if self.result is not None else None

    @stderr.setter
    def stderr(self, value: object) -> None:
        raise AttributeError("stderr comes from .result")

    @property
    def cmd(self) -> str | bytes | Sequence[str | bytes] | None:
        return self.result.args if self.result is not None else self.command

    @cmd.setter
    def cmd(self, value: object) -> None:
        raise AttributeError("cmd comes from .result")


class CommandFailed(_WithResult, CalledProcessError):
    """A remote command ended with a status other than 0, or without a status (-1)."""

    @property
    def returncode(self) -> int:
        return self.result.returncode if self.result is not None else -1

    @returncode.setter
    def returncode(self, value: object) -> None:
        raise AttributeError("returncode comes from .result")


class CommandNotStarted(CommandFailed):
    """The account's login shell ended, or wrote nothing, without starting the command.

    The connection is open, and another login would not help: an rc file starts another program,
    or the account is for sftp or one command only.  ``.result`` holds the output so far.  Nothing
    was sent on stdin: ``.sent`` is ``"no"`` for what goes there (files, calls, jobs), ``"maybe"``
    for a command line that another program may have read.
    """

    default_sent: ClassVar[Sent] = "maybe"


class CommandTimeout(_WithResult, TimeoutExpired):  # type: ignore[misc] # theirs are bytes only
    """A remote command ran longer than its ``timeout`` (seconds).

    ``confirmed`` is true if the remote process group was seen to have ended.
    """

    def __init__(
        self,
        message: str,
        *,
        timeout: float = 0.0,
        confirmed: bool = False,
        **facts: Unpack[CommandFacts],
    ) -> None:
        self.timeout = timeout
        self.confirmed = confirmed
        super().__init__(message, **facts)
        self._keep("timeout", "confirmed")


# --------------------------------------------------------------------------- files


class TransferError(OpenSSHJobsError):
    """A file or tree was not transferred; the target is unchanged."""


class VerifyFailed(TransferError):
    """The checksums of source and target differ."""


class UnrepresentableName(TransferError, ValueError):
    """The chosen method cannot transfer this name (a newline in a batch file of sftp)."""


class UnsafeName(TransferError):
    """The host sent a name that must not be joined to a local path; nothing was changed here."""


class RemoteOSError(OpenSSHJobsError, OSError):
    """A file operation failed on the host, with the errno that the host reported."""

    def __init__(
        self,
        message: str,
        *,
        path: str | None = None,
        number: int = _errno.EIO,
        **facts: Unpack[Facts],
    ) -> None:
        self.path = path
        self.number = number
        OSError.__init__(self, number, message, path)
        OpenSSHJobsError.__init__(self, message, **facts)
        self._keep("path", "number")


class RemoteFileNotFoundError(RemoteOSError, FileNotFoundError):
    """A ``FileNotFoundError`` on the host."""


class RemoteFileExistsError(RemoteOSError, FileExistsError):
    """A ``FileExistsError`` on the host."""


class RemotePermissionError(RemoteOSError, PermissionError):
    """A ``PermissionError`` on the host."""


class RemoteIsADirectoryError(RemoteOSError, IsADirectoryError):
    """An ``IsADirectoryError`` on the host."""


class RemoteNotADirectoryError(RemoteOSError, NotADirectoryError):
    """A ``NotADirectoryError`` on the host."""


class NoSpace(RemoteOSError, TransferError):
    """No space left on the device (ENOSPC)."""


class QuotaExceeded(RemoteOSError, TransferError):
    """Disk quota exceeded (EDQUOT)."""


_BY_ERRNO: dict[int, type[RemoteOSError]] = {
    _errno.ENOENT: RemoteFileNotFoundError,
    _errno.EEXIST: RemoteFileExistsError,
    _errno.EACCES: RemotePermissionError,
    _errno.EPERM: RemotePermissionError,
    _errno.EISDIR: RemoteIsADirectoryError,
    _errno.ENOTDIR: RemoteNotADirectoryError,
    _errno.ENOSPC: NoSpace,
    _errno.EDQUOT: QuotaExceeded,
}


def remote_oserror(
    number: int, path: str | bytes, *, host: str | None = None, detail: str = ""
) -> RemoteOSError:
    """A ``RemoteOSError`` that is also the builtin ``OSError`` subclass of this errno."""
    cls = _BY_ERRNO.get(number, RemoteOSError)
    text = os.fsdecode(path)
    message = f"{os.strerror(number)}: {text!r}"
    if detail:
        message = f"{message} ({detail})"
    return cls(message, path=text, number=number, host=host, sent="yes")


# --------------------------------------------------------------------------- schedulers


class SchedulerError(OpenSSHJobsError):
    """A scheduler answered with an error, or gave no complete answer.

    ``kind`` is one of ``SCHEDULER_ERROR_KINDS``; ``stdout``, ``stderr`` and ``returncode`` are
    those of its command.
    """

    default_sent: ClassVar[Sent] = "yes"

    def __init__(
        self,
        message: str,
        *,
        kind: str = "parse_error",
        stdout: str = "",
        stderr: str = "",
        returncode: int | None = None,
        **facts: Unpack[Facts],
    ) -> None:
        self.kind = kind
        self.stdout = stdout
        self.stderr = stderr
        self.returncode = returncode
        super().__init__(message, **facts)
        self._keep("kind", "stdout", "stderr", "returncode")


class SubmitRejected(SchedulerError):
    """The scheduler refused the submission; no job was created."""


class SubmitLimit(SubmitRejected):
    """The scheduler refused the submission because of a temporary limit."""


class SubmitUnknown(SchedulerError):
    """It is unknown whether the job exists.  ``token`` names the submission.

    ``tokens``: those of all submissions of which ``recover()`` could not tell.
    """

    default_sent: ClassVar[Sent] = "maybe"

    def __init__(
        self,
        message: str,
        *,
        token: str = "",
        tokens: Sequence[str] = (),
        **facts: Unpack[SchedulerFacts],
    ) -> None:
        self.tokens = tuple(tokens) or ((token,) if token else ())
        self.token = token or next(iter(self.tokens), "")
        super().__init__(message, **facts)
        self._keep("token", "tokens")


class SubmitIncomplete(SchedulerError):
    """Of many submissions some have no job, or it is not known.  Each by its place in the list.

    ``jobs``: the ids of those that have one.  ``refused``: the errors of those that certainly have
    none.  ``unknown``: those whose job may exist; ``recover()`` tells.  The same call with the same
    tokens goes on from there.
    """

    def __init__(
        self,
        message: str = "",
        *,
        jobs: Mapping[int, str],
        refused: Mapping[int, OpenSSHJobsError],
        unknown: Mapping[int, SubmitUnknown],
        **facts: Unpack[SchedulerFacts],
    ) -> None:
        self.jobs, self.refused, self.unknown = dict(jobs), dict(refused), dict(unknown)
        facts.setdefault("kind", "no_job_id" if unknown else "invalid_request")
        super().__init__(message or _tally(self.jobs, self.refused, self.unknown), **facts)
        self._keep("jobs", "refused", "unknown")

    @classmethod
    def of(cls, outcomes: Sequence[str | OpenSSHJobsError], *, host: str) -> SubmitIncomplete:
        """The error for these outcomes: ids of jobs, and errors, in order."""
        failed = {at: e for at, e in enumerate(outcomes) if isinstance(e, OpenSSHJobsError)}
        return cls(
            jobs={at: job for at, job in enumerate(outcomes) if isinstance(job, str)},
            refused={at: e for at, e in failed.items() if not isinstance(e, SubmitUnknown)},
            unknown={at: e for at, e in failed.items() if isinstance(e, SubmitUnknown)},
            host=host,
        )


def _tally(
    jobs: Mapping[int, str],
    refused: Mapping[int, OpenSSHJobsError],
    unknown: Mapping[int, SubmitUnknown],
) -> str:
    total = len(jobs) + len(refused) + len(unknown)
    text = f"{len(jobs)} of {total} jobs were submitted"
    for what, failed in (("have no job", refused), ("may have one", unknown)):
        if failed:
            at = min(failed)
            text += f"; {len(failed)} {what} (the first is number {at}: {failed[at].message})"
    return text


# --------------------------------------------------------------------------- ARC's names


class InputError(OpenSSHJobsError, ValueError):
    """An argument is wrong (ARC's name); nothing was sent."""


class ArrayOutput(InputError):
    """The elements of an array have an output each; ``elements`` are their ids, as far as known."""

    def __init__(
        self, message: str, *, elements: Sequence[str] = (), **facts: Unpack[Facts]
    ) -> None:
        super().__init__(message, **facts)
        self.elements = tuple(elements)
        self._keep("elements")


class JobPending(OpenSSHJobsError):
    """The job has not begun: there is nothing of it yet.  ``job_id`` is its id."""

    default_sent: ClassVar[Sent] = "yes"

    def __init__(self, message: str, *, job_id: str = "", **facts: Unpack[Facts]) -> None:
        super().__init__(message, **facts)
        self.job_id = job_id
        self._keep("job_id")


class JobNotRunning(InputError):
    """What needs the node of a running job was asked of another one; nothing was run."""


class ServerError(OpenSSHJobsError):
    """The server failed (ARC's name)."""
