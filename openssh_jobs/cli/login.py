"""``login``: log in with a person to answer, and keep the connection."""

from __future__ import annotations

import argparse
import os
import re
from typing import TYPE_CHECKING, Any

from . import options
from .exit_codes import ExitCode, UsageError
from .output import Output, printable, span

if TYPE_CHECKING:
    from typing import TextIO

    from ..openssh.prompts import Prompt

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PERSIST = "12h"


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``login`` to the command line."""
    parser = options.add_command(
        subparsers,
        "login",
        summary,
        run,
        usage="[options] HOST",
        examples="  openssh-jobs login hpc\n  openssh-jobs login hpc --persist 2d",
    )
    parser.add_argument("host", metavar="HOST", help="any name that ssh takes")
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
    """Open the master with a person to answer; reports if it is open already."""
    options.require_ssh(args.host)
    try:
        terminal = os.fdopen(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY), "w", encoding="utf-8")
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


class TerminalPrompter:
    """Asks a person on the controlling terminal, whatever stdin and stdout are."""

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
