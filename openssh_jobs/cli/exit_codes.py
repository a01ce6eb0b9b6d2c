"""The exit codes of ``openssh-jobs``: what each means, and which one an error gives."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """An exit code; ``meaning`` is its text in every ``--help`` and in the README."""

    meaning: str

    def __new__(cls, number: int, meaning: str) -> ExitCode:
        code = int.__new__(cls, number)
        code._value_ = number
        code.meaning = meaning
        return code

    OK = 0, "success"
    FAILED = 1, "what was asked about failed or does not exist (a failed job, a missing file)"
    USAGE = 2, "wrong usage; nothing was sent"
    NO_CONNECTION = 3, "the host could not be reached, or the login failed"
    REFUSED = 4, "the scheduler refused"
    UNKNOWN = 5, "unknown: no complete answer came"
    PENDING = 6, "the job has not begun: there is nothing of it yet"
    TIMED_OUT = 124, "--timeout expired"
    INTERRUPTED = 130, "after Ctrl-C (143 after SIGTERM, 129 after SIGHUP)"
    BROKEN_PIPE = 141, "the reader of standard output closed it"
    SSH = 255, "a failure of ssh itself; of the command ssh also no open connection and wrong usage"


OF_MOST_COMMANDS = (
    ExitCode.OK,
    ExitCode.FAILED,
    ExitCode.USAGE,
    ExitCode.NO_CONNECTION,
    ExitCode.REFUSED,
    ExitCode.UNKNOWN,
    ExitCode.INTERRUPTED,
)
# Kinds of SchedulerError that leave the truth open; all other kinds are an answer.
_OPEN_KINDS = frozenset(("transient", "transport", "parse_error", "no_job_id"))


class UsageError(Exception):
    """The command line is wrong; the text says why and what to type."""


def help_text(codes: Iterable[ExitCode] = OF_MOST_COMMANDS, *, first: str = "") -> str:
    """The paragraph about exit codes in a ``--help``; ``first`` stands before the list."""
    lines = [f"  {first}"] if first else []
    lines += (f"  {code:<3} {code.meaning}" for code in sorted(codes))
    return "\n".join(["exit codes:", *lines])


def of_error(error: BaseException) -> ExitCode:
    """The exit code after an error."""
    from .. import errors

    if isinstance(error, errors.SchedulerError) and not isinstance(error, errors.SubmitUnknown):
        return ExitCode.UNKNOWN if error.kind in _OPEN_KINDS else ExitCode.REFUSED
    # The first entry that fits counts: a RemoteOSError is an OSError, too.
    table: tuple[tuple[tuple[type[BaseException], ...], ExitCode], ...] = (
        ((errors.JobPending,), ExitCode.PENDING),
        ((errors.JobNotRunning,), ExitCode.FAILED),
        ((UsageError, errors.ConfigurationError, errors.InputError), ExitCode.USAGE),
        ((errors.ConnectError, errors.ConnectionLost, errors.SessionLimit), ExitCode.NO_CONNECTION),
        ((errors.SubmitUnknown, errors.CommandFailed, errors.CommandTimeout), ExitCode.UNKNOWN),
        ((errors.RemoteOSError, errors.TransferError), ExitCode.FAILED),
        # On this machine these come from a path in the command line.
        ((FileNotFoundError, NotADirectoryError), ExitCode.USAGE),
        ((IsADirectoryError, FileExistsError), ExitCode.USAGE),
        ((OSError,), ExitCode.FAILED),
    )
    return next((code for kinds, code in table if isinstance(error, kinds)), ExitCode.UNKNOWN)
