"""What the commands share: their help, their options, and what these options describe."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from . import exit_codes, person
from .command_parser import Parser as Parser
from .command_parser import close_names as close_names
from .command_parser import did_you_mean as did_you_mean
from .exit_codes import UsageError
from .output import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..cluster.cluster import Cluster
    from ..connection import Connection
    from ..host import Host
    from ..openssh.destination import Destination

    Run = Callable[[argparse.Namespace, Output], int]

THIS_MACHINE = "."
"""The host that needs no ssh; ssh cannot resolve it as a name."""

_AGES = {"d": "days", "h": "hours", "m": "minutes"}
_connections: list[Host] = []

# [::1]:PATH and user@[::1]:PATH; brackets behind the first colon belong to the path.
_BRACKETED = re.compile(r"([^:\[\]/]*@)?\[([^\[\]/]+)\]:(.*)", re.DOTALL)


def add_command(
    subparsers: Any,
    name: str,
    summary: str,
    run: Run,
    *,
    usage: str,
    examples: str,
    codes: str = "",
) -> Parser:
    """Add a command and its help; ``codes`` replaces the usual paragraph about exit codes."""
    parser: Parser = subparsers.add_parser(
        name,
        help=summary,
        usage=f"openssh-jobs {name} {usage}",
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"examples:\n{examples.rstrip()}\n\n{codes or exit_codes.help_text()}",
    )
    parser.set_defaults(run=run, refuse=parser.refuse)
    return parser


# --------------------------------------------------------------------------- values


def seconds(text: str) -> float:
    """A type for argparse: seconds above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not number > 0:
        raise argparse.ArgumentTypeError(f"must be a number of seconds > 0; {text!r} was given")
    return number


def whole_number(text: str) -> int:
    """A type for argparse: a whole number from 0 on."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"must be a whole number >= 0; {text!r} was given")
    return int(text)


def age(text: str) -> timedelta:
    """A type for argparse: a time as ``7d``, ``12h`` or ``30m``."""
    found = re.fullmatch(r"([0-9]{1,6})([dhm])", text, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"must be a number of days, hours or minutes such as 7d, 12h or 30m; {text!r} was given"
        )
    return timedelta(**{_AGES[found[2]]: int(found[1])})


def port(text: str) -> int:
    """A type for argparse: a TCP port."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"must be a port from 1 to 65535; {text!r} was given")
    return int(text)


def split_remote(text: str) -> tuple[str, str]:
    """``HOST:PATH`` as scp reads it; ``[::1]:PATH`` for an address with colons.

    An empty path is the home directory.
    """
    if text.startswith("ssh://"):
        raise UsageError(f"{text!r} is a URL; write HOST:PATH, and the port as -p N.")
    found = _BRACKETED.fullmatch(text)
    if found is not None:
        host, path = (found[1] or "") + found[2], found[3]
    else:
        host, colon, path = text.partition(":")
        if not (host and colon) or "/" in host or "[" in host:
            raise UsageError(f"{text!r} is not HOST:PATH, such as hpc:runs/relax-7.")
    if path in ("", ".", "~"):
        return host, "~/"
    return host, path + "/" if path.rpartition("/")[2] in (".", "..") else path


# --------------------------------------------------------------------------- options of all


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """``--json``, ``--quiet`` and ``--debug``."""
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print the same facts as JSON on stdout")
    group.add_argument("-q", "--quiet", action="store_true", help="no progress, no summary")
    group.add_argument("--debug", action="store_true", help="log every step; show tracebacks")


def add_connection_options(parser: argparse.ArgumentParser, *, short: bool = True) -> None:
    """The options of ssh that say how to reach the host, and those of all commands.

    ``short=False``: without ``-o -J -p -l``, which mean something else to schedulers.
    """
    group = parser.add_argument_group("connection (optional: your ssh configuration is used)")
    group.add_argument("-F", "--ssh-config", metavar="FILE", help="ssh configuration file")

    def names(letter: str, name: str) -> tuple[str, ...]:
        return (letter, name) if short else (name,)

    group.add_argument(
        *names("-o", "--ssh-option"),
        dest="ssh_options",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="an option of ssh_config(5); may be repeated",
    )
    group.add_argument(*names("-J", "--jump"), metavar="HOST", help="jump host or hosts")
    group.add_argument("-i", "--identity-file", metavar="FILE", help="private key")
    group.add_argument(*names("-p", "--port"), type=port, metavar="N", help="port")
    group.add_argument(*names("-l", "--user"), metavar="NAME", help="login name")
    group.add_argument(
        "--batch", action="store_true", help="never ask for a password, a code or a passphrase"
    )
    add_output_options(parser)


def add_scheduler_options(parser: argparse.ArgumentParser, *, short: bool = True) -> None:
    """``--scheduler`` and ``--prologue``, those of a connection and those of all commands."""
    group = parser.add_argument_group("scheduler")
    group.add_argument(
        "--scheduler",
        default="auto",
        metavar="NAME",
        help="slurm, pbs, torque, sge, lsf, htcondor, or direct (none); default: detected",
    )
    group.add_argument(
        "--prologue", metavar="TEXT", help="shell text before the scheduler's commands"
    )
    add_connection_options(parser, short=short)


def connection(args: argparse.Namespace, *, asks: bool = True) -> Host:
    """The host that the options describe; ``.`` is this machine.

    It is not opened yet, except where a person is at the terminal, who may have to answer.
    """
    if args.host != THIS_MACHINE:
        remote = ssh_connection(args)
        if asks:
            open_asking(remote, args)
        return remote
    given = [flag for flag, value in _ssh_options(args) if value]
    if given:
        raise UsageError(f"`.` is this machine, which is not reached by ssh: leave {given[0]} out.")
    from ..local_connection import LocalConnection

    made = LocalConnection()
    _connections.append(made)
    return made


def require_ssh(host: str) -> None:
    """Raise ``UsageError`` for this machine."""
    if host == THIS_MACHINE:
        raise UsageError("`.` is this machine: there is nothing to log in to.")


def ssh_connection(args: argparse.Namespace, **more: Any) -> Connection:
    """The connection that the options describe, with ``more`` arguments; not opened yet."""
    from ..connection import Connection

    require_ssh(args.host)
    made = Connection(args.host, **_ssh_arguments(args), **more)
    _connections.append(made)
    return made


def open_asking(host: Host, args: argparse.Namespace) -> None:
    """Let the person at the terminal answer what a login asks, as ssh does.

    Here, before anything is drawn and in the main thread: what a poll or a lost link needs later
    is never asked.  Without a terminal, or with ``--batch``, nothing is done.
    """
    from ..connection import Connection

    if args.batch or not isinstance(host, Connection) or not person.is_there():
        return
    with person.asked() as responder:
        if responder is not None:
            host.open(responder=responder)


def cluster(args: argparse.Namespace, *, asks: bool = True) -> Cluster:
    """The cluster that the options describe; sends nothing, except as ``connection`` does."""
    from ..cluster.cluster import Cluster

    return Cluster(connection(args, asks=asks), scheduler=args.scheduler, prologue=args.prologue)


@contextlib.contextmanager
def without_cluster_warnings() -> Iterator[None]:
    """Silence the library's warning about a failed query: the command says it itself."""
    logger = logging.getLogger("openssh_jobs.cluster")
    level = logger.level
    if logger.getEffectiveLevel() > logging.DEBUG:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def destination(args: argparse.Namespace, host: str) -> Destination:
    """A host with the ssh options of the command line."""
    from ..openssh.destination import Destination

    require_ssh(host)
    return Destination(host=host, **_ssh_arguments(args))


def advise_host(error: BaseException, args: argparse.Namespace | None = None) -> None:
    """Add the host that may be meant to the error of one that ssh does not know.

    Candidates are the hosts of the journal and of ``servers.toml``; ssh itself is asked (``ssh
    -G``) whether it takes them.
    """
    from ..errors import ConfigurationError, HostUnreachable

    if not (isinstance(error, HostUnreachable) and "ssh does not know" in error.message):
        return
    from .. import settings
    from ..openssh import ssh_config
    from ..openssh.destination import Destination

    typed = error.host or ""
    given = {} if args is None or "ssh_config" not in args else _ssh_arguments(args)
    meant: list[str] = []
    for name in close_names(typed, {*_hosts_of_journal(), *settings.servers()} - {typed}):
        try:
            found = ssh_config.resolve(Destination(host=name, **given), timeout=5.0)
        except ConfigurationError:
            continue
        # A name that stands for another one is certainly in the configuration.
        meant.insert(0 if found.get("hostname") != name else len(meant), name)
    if meant:
        error.advice = f"Did you mean {meant[0]}? {error.advice or ''}".rstrip()


def _hosts_of_journal() -> list[str]:
    from ..cluster.journal import Journal
    from ..cluster.journal_file import default_path
    from ..errors import ConfigurationError

    if not os.path.exists(default_path()):
        return []
    journal = Journal()
    try:
        return list(journal.hosts())
    except ConfigurationError:  # a journal that cannot be read is not what is wrong here
        return []
    finally:
        journal.close()


def end_commands() -> None:
    """End what still runs on the hosts and here, before this program exits in the middle."""
    from ..openssh import process

    process.end_at_work()
    for made in _connections:
        made.end_commands()


def advised_command(args: argparse.Namespace, *words: str) -> str:
    """``openssh-jobs WORDS`` with the ssh options of this command line, to be typed next."""
    import shlex

    return shlex.join(["openssh-jobs", *advised_words(args, *words)])


def advised_words(args: argparse.Namespace, command: str, *words: str) -> list[str]:
    """The words of a command with the ssh options of this command line."""
    ssh_words: list[str] = []
    for flag, value in _ssh_options(args):
        if value is not None:
            ssh_words += [flag, str(value)]
    return [command, *ssh_words, *words]


def _ssh_options(args: argparse.Namespace) -> list[tuple[str, Any]]:
    """The options of ``add_connection_options`` with their values, ``None`` where not given."""
    return [
        ("-F", args.ssh_config),
        ("-J", args.jump),
        ("-i", args.identity_file),
        ("-p", args.port),
        ("-l", args.user),
        *(("-o", text) for text in args.ssh_options),
    ]


def _ssh_arguments(args: argparse.Namespace) -> dict[str, Any]:
    options = {}
    for text in args.ssh_options:
        key, separator, value = text.partition("=")
        if not separator:
            key, separator, value = text.partition(" ")
        if not separator:
            raise UsageError(f"-o must be KEY=VALUE; {text!r} was given.")
        options[key.strip()] = value.strip()
    return {
        "user": args.user,
        "port": args.port,
        "identity_file": args.identity_file,
        "jump": args.jump,
        "ssh_config": args.ssh_config,
        "ssh_options": options,
    }
