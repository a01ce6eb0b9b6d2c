"""``login``, ``logout`` and ``masters``: the one connection of a host, by hand."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from . import options
from .output import Column, duration, moment, printable

if TYPE_CHECKING:
    import argparse
    from typing import TextIO

    from ..openssh.masters import MasterFacts
    from ..openssh.prompts import Prompt
    from .output import Ui

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PERSIST = "12h"


def add_commands(commands: Any) -> None:
    """Add ``login``, ``logout`` and ``masters`` to the command line."""
    _add_login(commands)
    _add_logout(commands)
    _add_masters(commands)


def seconds(text: str) -> int | None:
    """``12h``, ``30m``, ``2d``, ``90`` as seconds; ``forever`` is ``None``."""
    if text == "forever":
        return None
    found = re.fullmatch(r"(\d+)([smhd]?)", text)
    number = int(found[1]) * _UNITS[found[2] or "s"] if found else 0
    if not 0 < number < 1 << 31:
        raise options.WrongUse(
            f"--persist wants a time such as 12h, 30m or 2d, or forever; not {text!r}."
        )
    return number


def span(number: float) -> str:
    """Seconds for people: ``12 h``, ``1 h 30 min``, ``40 s``."""
    left, parts = round(number), []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2]) or "0 s"


# --------------------------------------------------------------------------- login


def _add_login(commands: Any) -> None:
    parser = options.add_command(
        commands,
        "login",
        run_login,
        "log in, answer what the host asks, and keep the connection",
        usage="[options] HOST",
        examples="  openssh-jobs login hpc\n  openssh-jobs login hpc --persist 2d",
    )
    parser.add_argument("host", metavar="HOST", help="any name that ssh takes")
    parser.add_argument(
        "--persist",
        default=_PERSIST,
        metavar="TIME",
        help="how long the connection stays after its last use: 12h (default), 30m, 2d, forever",
    )
    options.add_connection_options(parser)
    options.add_output_options(parser)


def run_login(args: argparse.Namespace, ui: Ui) -> int:
    """Open the master with a person to answer; says so where it is open already."""
    persist = seconds(args.persist)
    try:
        terminal = os.fdopen(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY), "w", encoding="utf-8")
    except OSError:
        raise options.WrongUse(
            f"{args.host}: to log in, somebody has to answer, and there is no terminal here. Type "
            f"`{options.again(args, 'login', args.host)}` in one; programs give "
            "Connection(responder=...)."
        ) from None
    with terminal:
        connection = options.connection(args, responder=Asker(terminal), persist=persist)
        alive = connection.check()
        if not alive:
            connection.reconnect()
            alive = connection.check()
    already = connection.stats().logins == 0
    facts = {
        "host": args.host,
        "pid": alive.master,
        "ours": alive.ours,
        "already": already,
        "persist": None if already else persist,
    }
    if ui.json:
        ui.data(facts)
    elif not ui.quiet:
        whose = "" if alive.ours else " on a master of your own"
        if already:
            ui.line(f"{args.host}: you are logged in already{whose} (master {alive.master}).")
        else:
            stays = "until logout" if persist is None else f"{span(persist)} after its last use"
            ui.line(f"{args.host}: logged in; the connection stays {stays}.")
    return options.WELL


class Asker:
    """Asks a person on the terminal, whatever stdin and stdout are."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal

    def __call__(self, prompt: Prompt) -> str | None:
        """The answer; ``None`` at the end of input (Ctrl-D)."""
        *before, last = prompt.text.split("\n")
        for line in before:
            self._write(printable(line) + "\n")
        if prompt.kind == "touch":
            self._write(f"{printable(last)}\nTouch the security key.\n")
            return ""
        question = printable(last)
        if not question.endswith(" "):
            question += " "
        try:
            return self._shown(question) if prompt.echo else self._hidden(question)
        except EOFError:
            self._write("\n")
            return None

    def _write(self, text: str) -> None:
        self._terminal.write(text)
        self._terminal.flush()

    def _shown(self, question: str) -> str:
        self._write(question)
        with open("/dev/tty", encoding="utf-8", errors="surrogateescape") as answers:
            line = answers.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")

    def _hidden(self, question: str) -> str:
        import getpass

        return getpass.getpass(question)


# --------------------------------------------------------------------------- logout


def _add_logout(commands: Any) -> None:
    parser = options.add_command(
        commands,
        "logout",
        run_logout,
        "end the connection to a host, after what runs on it",
        usage="[options] HOST",
        examples="  openssh-jobs logout hpc",
    )
    parser.add_argument("host", metavar="HOST", help="any name that ssh takes")
    options.add_connection_options(parser)
    options.add_output_options(parser)


def run_logout(args: argparse.Namespace, ui: Ui) -> int:
    """End our master; one that the user opened is left alone, and that is said."""
    connection = options.connection(args)
    ended: list[int] = []
    while True:
        alive = connection.check()
        known = alive.master is not None
        if known and not alive.ours:
            break
        if not known and alive.reason == "no master is open":
            break
        if len(ended) >= 5:  # one in each directory at the most: others are opening new ones
            break
        ui.goes_on = f"the connection to {args.host} may stand"
        ui.patience = 15.0
        connection.close(stop_master=True)
        ended.append(alive.master or 0)
    left = alive.master if alive.master is not None and not alive.ours else None
    if ui.json:
        ui.data({"host": args.host, "ended": [one for one in ended if one], "left_alone": left})
    elif not ui.quiet:
        if ended:
            ui.line(f"{args.host}: logged out.")
        elif left is None:
            ui.line(f"{args.host}: there was no connection.")
    if left is not None:
        ui.note(
            f"{args.host}: master {left} is your own (its socket is that of your ControlPath) and "
            f"was left alone; `ssh -O exit {args.host}` ends it."
        )
    return options.NOT_WELL if left is not None and not ended else options.WELL


# --------------------------------------------------------------------------- masters

_COLUMNS = (
    Column(title="HOST"),
    Column(title="ROUTE", shrinks=True),
    Column(title="PID", right=True),
    Column(title="SINCE"),
    Column(title="AGE", right=True),
    Column(title="SESSIONS", right=True),
    Column(title="STAYS", right=True),
    Column(title="WHOSE"),
    Column(title="SOCKET", shrinks=True),
)


def _add_masters(commands: Any) -> None:
    parser = options.add_command(
        commands,
        "masters",
        run_masters,
        "list the connections that are open",
        usage="[options] [HOST ...]",
        examples="  openssh-jobs masters\n  openssh-jobs masters hpc --json",
    )
    parser.add_argument(
        "hosts", metavar="HOST", nargs="*", help="only these, and what your ControlPath has"
    )
    options.add_connection_options(parser)
    options.add_output_options(parser)


def run_masters(args: argparse.Namespace, ui: Ui) -> int:
    """A table of masters; asks the processes here, no host."""
    from ..openssh import masters

    found = _of_hosts(args) if args.hosts else masters.every()
    if ui.json:
        ui.data({"masters": found})
        return options.WELL
    ui.table(_COLUMNS, [_row(one) for one in found])
    if not found:
        ui.say("No connection is open.")
    return options.WELL if found or not args.hosts else options.NOT_WELL


def _of_hosts(args: argparse.Namespace) -> list[MasterFacts]:
    from ..openssh import masters
    from ..openssh.master import Master

    found: list[MasterFacts] = []
    for host in args.hosts:
        master = Master(options.target(args, host))
        for path, ours in master.candidates():
            route = masters.route_text(master.resolved)
            one = masters.facts(path, ours=ours, host=host, route=route)
            if one is not None:
                found.append(one)
    return found


def _row(one: MasterFacts) -> list[str]:
    from datetime import UTC, datetime, timedelta

    opened = None if one.opened is None else datetime.fromtimestamp(one.opened, UTC)
    route = f"{one.route} via {one.jump}" if one.jump else one.route
    return [
        one.host or "?",
        route,
        "silent" if one.pid is None else str(one.pid),
        moment(opened),
        duration(None if one.age is None else timedelta(seconds=one.age)),
        "" if one.sessions is None else str(one.sessions),
        "" if one.persist is None else span(one.persist),
        "ours" if one.ours else "yours",
        one.socket,
    ]
