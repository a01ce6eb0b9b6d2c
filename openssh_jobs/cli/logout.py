"""``logout``: end the connection to a host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import options
from .exit_codes import ExitCode

if TYPE_CHECKING:
    import argparse

    from .output import Output


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``logout`` to the command line."""
    parser = options.add_command(
        subparsers,
        "logout",
        summary,
        run,
        usage="[options] HOST",
        examples="  openssh-jobs logout hpc",
    )
    parser.add_argument("host", metavar="HOST", help="any name that ssh takes")
    options.add_connection_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """End our master; one that the user opened is left alone and reported."""
    connection = options.ssh_connection(args)
    ended: list[int] = []
    while True:
        alive = connection.check()
        known = alive.master is not None
        if known and not alive.ours:
            break
        if not known and alive.reason == "no master is open":
            break
        if len(ended) >= 5:  # at most one in each directory: other programs open new ones
            break
        output.if_interrupted = f"the connection to {args.host} may still be open"
        output.grace = 15.0
        connection.close(stop_master=True)
        ended.append(alive.master or 0)
    left = alive.master if alive.master is not None and not alive.ours else None
    if output.json:
        output.data({"host": args.host, "ended": [pid for pid in ended if pid], "left_alone": left})
    elif not output.quiet:
        if ended:
            output.line(f"{args.host}: logged out.")
        elif left is None:
            output.line(f"{args.host}: there was no connection.")
    if left is not None:
        output.note(
            f"{args.host}: master {left} is your own (on the socket of your ControlPath) and "
            f"was left alone; `ssh -O exit {args.host}` ends it."
        )
    return ExitCode.FAILED if left is not None and not ended else ExitCode.OK
