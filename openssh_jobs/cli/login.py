"""``login``: log in with a person to answer, or list the connections that are open."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..openssh import masters
from . import options
from .exit_codes import ExitCode, UsageError
from .output import Output, moment, span
from .person import TerminalPrompter, open_terminal
from .table import Column, OutputTable

if TYPE_CHECKING:
    from ..openssh.masters import MasterFacts

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PERSIST = "12h"


def _since(master: MasterFacts) -> datetime | None:
    return None if master.opened is None else datetime.fromtimestamp(master.opened, UTC)


def _age(master: MasterFacts) -> int | None:
    return None if master.age is None else round(master.age)


def _users(master: MasterFacts) -> str:
    return master.trouble or masters.holders(master.socket)


MASTERS: OutputTable[MasterFacts] = OutputTable(
    Column("host", "HOST", show=lambda host: host or "?", shrinks_last=True),
    Column("route", "ROUTE", shrinks=True, least=12, drops=3),
    Column("jump", "VIA", shrinks=True, drops=4),
    Column("since", "SINCE", get=_since, show=moment),
    Column("persist", "STAYS", show=span, missing="until logout", right=True, drops=1),
    Column("sessions", "SESSIONS", right=True, drops=2),
    Column("users", "USED BY", get=_users, shrinks=True, least=10),
    Column("pid", get=lambda master: master.pid),
    Column("age", get=_age),
    Column("socket"),
    Column("trouble"),
)
"""The connections that this program has opened, for all programs of this user."""


def _list(output: Output) -> ExitCode:
    """What is open; asks the master processes of this machine, not the hosts."""
    found = masters.every()
    if output.json:
        output.data({"connections": MASTERS.records(found)})
    else:
        MASTERS.show(found, output)
        if not found:
            output.say("No connection is open.")
    return ExitCode.OK


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``login`` to the command line."""
    parser = options.add_command(
        subparsers,
        "login",
        summary,
        run,
        usage="[options] [HOST]",
        examples="""\
  openssh-jobs login hpc
      asks for what the host wants: a password, a code, a touch; stays for 12 h
  openssh-jobs login hpc --persist 2d
  openssh-jobs login
      what is open: since when, how long it stays, and which programs use it""",
    )
    parser.add_argument(
        "host",
        metavar="HOST",
        nargs="?",
        help="any name that ssh takes; without: list them",
    )
    parser.add_argument(
        "--persist",
        type=persist_time,
        default=_PERSIST,
        metavar="TIME",
        help="how long the connection stays after its last use: 12h (default), 30m, 2d, forever",
    )
    options.add_connection_options(parser)


def persist_time(text: str) -> int | None:
    """``12h``, ``30m``, ``2d``, ``90`` in seconds; ``None`` for ``forever``."""
    if text == "forever":
        return None
    found = re.fullmatch(r"(\d+)([smhd]?)", text)
    number = int(found[1]) * _UNITS[found[2] or "s"] if found else 0
    if not 0 < number < 1 << 31:
        raise argparse.ArgumentTypeError(
            f"must be a time such as 12h, 30m or 2d, or forever; {text!r} was given"
        )
    return number


def run(args: argparse.Namespace, output: Output) -> int:
    """Open the master with a person to answer, reports if it is open; without a host list all."""
    if args.host is None:
        return _list(output)
    options.require_ssh(args.host)
    try:
        terminal = open_terminal()
    except OSError:
        command = options.advised_command(args, "login", args.host)
        raise UsageError(
            f"{args.host}: a login needs a person to answer, and there is no terminal here. Type "
            f"`{command}` in one; programs use Connection(responder=...)."
        ) from None
    persist = args.persist
    with terminal:
        connection = options.ssh_connection(
            args, responder=TerminalPrompter(terminal), persist=persist
        )
        alive = connection.check()
        if not alive:
            connection.reconnect()
            alive = connection.check()
    already = connection.stats().logins == 0
    if output.json:
        output.data(
            {
                "host": args.host,
                "pid": alive.master,
                "ours": alive.ours,
                "already": already,
                "persist": None if already else persist,
            }
        )
    elif not output.quiet:
        whose = "" if alive.ours else " on a master of your own"
        if already:
            output.line(f"{args.host}: you are logged in already{whose} (master {alive.master}).")
        else:
            stays = "until logout" if persist is None else f"{span(persist)} after its last use"
            output.line(f"{args.host}: logged in; the connection stays {stays}.")
    return ExitCode.OK
