"""What all commands share: the options of a connection, and what an error means to a user."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn

from .output import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..cluster.cluster import Cluster
    from ..connection import Connection
    from ..openssh.destination import Target
    from .output import Ui

    Command = Callable[[argparse.Namespace, Ui], int]

_connections: list[Connection] = []

WELL = 0
NOT_WELL = 1
WRONG_USE = 2
NO_CONNECTION = 3
REFUSED = 4
UNKNOWN = 5
TIMED_OUT = 124
BROKEN_PIPE = 141

EXIT_CODES = """\
exit codes:
  0  all is well
  1  what was asked about is not (a job failed, a file is not there)
  2  used wrongly; nothing was sent
  3  the host could not be reached, or the login failed
  4  the scheduler said no
  5  unknown (no complete answer came)
  130 after Ctrl-C (143 after SIGTERM, 129 after SIGHUP)"""

# Kinds of SchedulerError that leave it open what is true; the others are an answer.
_OPEN_KINDS = frozenset(("transient", "transport", "parse_error", "no_job_id"))


class WrongUse(Exception):
    """The command line makes no sense; the text says why and what to type."""


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one sentence that names the way to the help."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options
        )

    def error(self, message: str) -> NoReturn:
        raise WrongUse(f"{self.prog}: {message}. See `{self.prog} --help`.")


# --------------------------------------------------------------------------- options


def add_command(
    commands: Any,
    name: str,
    run: Command,
    summary: str,
    *,
    usage: str,
    examples: str,
    exit_codes: str = EXIT_CODES,
) -> Parser:
    """A command with its help; ``run(args, ui)`` gives the exit code."""
    parser: Parser = commands.add_parser(
        name,
        help=summary,
        usage=f"openssh-jobs {name} {usage}",
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"examples:\n{examples.rstrip()}\n\n{exit_codes}",
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_output_options(parser: argparse.ArgumentParser, *, json: bool = True) -> None:
    """``--json``, ``--quiet`` and ``--debug``."""
    group = parser.add_argument_group("output")
    if json:
        group.add_argument(
            "--json", action="store_true", help="the same facts for programs, as JSON on stdout"
        )
    group.add_argument("-q", "--quiet", action="store_true", help="no progress, no summary")
    group.add_argument("--debug", action="store_true", help="log what is done; show tracebacks")


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """The options of ssh that say how to reach the host."""
    group = parser.add_argument_group("connection (all of it is optional: ssh's own files count)")
    group.add_argument("-F", "--ssh-config", metavar="FILE", help="ssh configuration file")
    group.add_argument(
        "-o",
        dest="ssh_options",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="an option of ssh_config; again for more",
    )
    group.add_argument("-J", "--jump", metavar="HOST", help="jump host or hosts")
    group.add_argument("-i", "--identity-file", metavar="FILE", help="private key")
    group.add_argument("-p", "--port", type=int, metavar="N", help="port")
    group.add_argument("-l", "--user", metavar="NAME", help="login name")


def connection(args: argparse.Namespace, **more: Any) -> Connection:
    """The connection that the options describe, with ``more`` of its own; not opened yet."""
    from ..connection import Connection

    made = Connection(args.host, **_way(args), **more)
    _connections.append(made)
    return made


def end_commands() -> None:
    """End what still runs on the hosts: the program was told to end."""
    for one in _connections:
        one._commands.end_at_work()


def target(args: argparse.Namespace, host: str) -> Target:
    """A host by the way that the options describe."""
    from ..openssh.destination import Target

    return Target(host=host, **_way(args))


def _way(args: argparse.Namespace) -> dict[str, Any]:
    options = {}
    for text in args.ssh_options:
        key, separator, value = text.partition("=")
        if not separator:
            key, separator, value = text.partition(" ")
        if not separator:
            raise WrongUse(f"-o wants KEY=VALUE, not {text!r}.")
        options[key.strip()] = value.strip()
    return {
        "user": args.user,
        "port": args.port,
        "identity_file": args.identity_file,
        "jump": args.jump,
        "ssh_config": args.ssh_config,
        "ssh_options": options,
    }


def add_scheduler_options(parser: argparse.ArgumentParser) -> None:
    """``--scheduler`` and ``--prologue``, and the options of all commands."""
    group = parser.add_argument_group("scheduler")
    group.add_argument(
        "--scheduler",
        default="auto",
        metavar="NAME",
        help="slurm, pbs, torque, sge, lsf, htcondor, or direct (none); default: found out",
    )
    group.add_argument(
        "--prologue", default="", metavar="TEXT", help="shell text before its commands"
    )
    add_connection_options(parser)
    add_output_options(parser)


def cluster(args: argparse.Namespace) -> Cluster:
    """The scheduler that the options describe; nothing is asked yet."""
    from ..cluster.cluster import Cluster

    return Cluster(connection(args), scheduler=args.scheduler, prologue=args.prologue)


def again(args: argparse.Namespace, *words: str) -> str:
    """A command line for the same host by the same way, for advice: ``openssh-jobs WORDS``."""
    import shlex

    way: list[str] = []
    for flag, value in (
        ("-F", args.ssh_config),
        ("-J", args.jump),
        ("-i", args.identity_file),
        ("-p", args.port),
        ("-l", args.user),
    ):
        if value is not None:
            way += [flag, str(value)]
    for text in args.ssh_options:
        way += ["-o", text]
    return shlex.join(["openssh-jobs", words[0], *way, *words[1:]])


# --------------------------------------------------------------------------- errors


def exit_code(error: BaseException) -> int:
    """What an error means as an exit code."""
    from .. import errors

    table: tuple[tuple[tuple[type[BaseException], ...], int], ...] = (
        ((WrongUse, errors.ConfigurationError, errors.InputError), WRONG_USE),
        ((errors.ConnectError, errors.ConnectionLost, errors.SessionLimit), NO_CONNECTION),
        ((errors.SubmitUnknown,), UNKNOWN),
        ((errors.CommandFailed, errors.CommandTimeout), UNKNOWN),
        ((errors.RemoteOSError, errors.TransferError), NOT_WELL),
        ((OSError,), WRONG_USE if _names_a_local_file(error) else NOT_WELL),
    )
    if isinstance(error, errors.SchedulerError) and not isinstance(error, errors.SubmitUnknown):
        return UNKNOWN if error.kind in _OPEN_KINDS else REFUSED
    return next((code for kinds, code in table if isinstance(error, kinds)), UNKNOWN)


def _names_a_local_file(error: BaseException) -> bool:
    wrong = (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError)
    return isinstance(error, wrong)


def sentence(error: BaseException) -> str:
    """An error as one sentence: what happened, why, and what to type next."""
    from ..errors import OpenSSHJobsError

    if isinstance(error, OpenSSHJobsError):
        text = str(error) if error.host else f"openssh-jobs: {error}"
    elif isinstance(error, WrongUse):
        text = str(error)
        if not text.startswith("openssh-jobs"):
            text = f"openssh-jobs: {text}"
    elif isinstance(error, OSError) and error.strerror:
        name = f": {error.filename!r}" if error.filename is not None else ""
        text = f"openssh-jobs: {error.strerror} on this machine{name}"
    elif isinstance(error, TimeoutError):
        text = f"openssh-jobs: {error}"
    else:
        text = (
            f"openssh-jobs: this is a bug: {type(error).__name__}: {error}. "
            "The same command with --debug shows where."
        )
    text = one_line(text)
    return text if text.endswith((".", "?", "!", "`")) else text + "."


def as_data(error: BaseException) -> dict[str, Any]:
    """The same for programs."""
    found: dict[str, Any] = {
        "type": type(error).__name__.lstrip("_"),
        "message": sentence(error),
        "exit_code": exit_code(error),
    }
    for name in ("host", "sent", "kind", "token"):
        value = getattr(error, name, None)
        if value is not None and value != "":
            found[name] = value
    return {"error": found}
