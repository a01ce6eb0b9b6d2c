"""``forward``: ports of a cluster on this machine, for as long as the command runs."""

from __future__ import annotations

import re
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from . import options
from .exit_codes import ExitCode, UsageError

if TYPE_CHECKING:
    import argparse

    from ..connection import Connection
    from ..transport.forwards import Forward
    from .output import Output

_CHECK_EVERY = 2.0
"""Seconds between two looks at whether the forwards are alive."""
_ADDRESS = r"(?:\[[^\]\s]+\]|[^:\s\[\]]+)"
_SPEC = re.compile(
    rf"(?:(?P<bind>{_ADDRESS}|\*):(?=\d+:{_ADDRESS}:\d+\Z))?"
    rf"(?:(?P<listen>\d+):)?(?:(?P<host>{_ADDRESS}):)?(?P<port>\d+)\Z"
)


class ForwardSpec(NamedTuple):
    """Listen on ``bind:listen`` (``None``: any free port) and lead to ``host:port``."""

    bind: str
    listen: int | None
    host: str
    port: int


def parse_spec(text: str) -> ForwardSpec:
    """``[[BIND:]PORT:][HOST:]PORT`` as with ``ssh -L``, or shorter.  Raises ``UsageError``."""
    found = _SPEC.match(text)
    if found is None or any(
        int(found[name] or 1) not in range(1, 65536) for name in ("listen", "port")
    ):
        raise UsageError(
            "openssh-jobs forward: the ports must be 8888:node01:8888 (port here, host and port "
            f"there), 8888:localhost:80 or 8888; {text!r} was given."
        )
    listen = int(found["listen"]) if found["listen"] else None
    if listen is None and found["host"] is None:
        listen = int(found["port"])  # a port alone: the same number here
    return ForwardSpec(
        (found["bind"] or "127.0.0.1").strip("[]"),
        listen,
        (found["host"] or "localhost").strip("[]"),
        int(found["port"]),
    )


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``forward`` to the command line."""
    parser = options.add_command(
        subparsers,
        "forward",
        summary,
        run,
        usage="[options] HOST PORT:NODE:PORT ...",
        examples="  openssh-jobs forward hpc 8888:node01:8888    a notebook on a node\n"
        "  openssh-jobs forward hpc 8888                port 8888 of the login node\n"
        "  openssh-jobs forward hpc node01:8888         any free port here\n"
        "  openssh-jobs forward hpc -R 9000:localhost:9000   a port there that leads here",
    )
    parser.add_argument("host", metavar="HOST", help="any name that ssh takes")
    parser.add_argument(
        "specs",
        metavar="PORT:NODE:PORT",
        nargs="+",
        help="port here, and host and port as HOST sees them; without the first: a free one",
    )
    parser.add_argument(
        "-R", "--remote", action="store_true", help="the other way: listen there, lead here"
    )
    options.add_connection_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Forward until Ctrl-C; opens forwards again after a lost connection."""
    specs = [parse_spec(text) for text in args.specs]
    connection = options.ssh_connection(args)
    opened: list[Forward] = []
    with ExitStack() as stack:
        try:
            opened = _open_all(connection, specs, args.remote, stack)
            _report(opened, args, output)
            while True:
                time.sleep(_CHECK_EVERY)
                if not all(forward.alive for forward in opened):
                    output.note(f"{args.host}: the connection was lost; forwarding again.")
                    # A port that was free at first stays the same.
                    specs = [_same_spec(forward, args.remote) for forward in opened]
                    stack.close()
                    opened = _open_all(connection, specs, args.remote, stack)
        except KeyboardInterrupt:
            if not opened:
                raise
            stack.close()
            if not output.quiet and not output.json:
                output.note(f"{args.host}: no longer forwarded.")
    return ExitCode.OK


def _open_all(
    connection: Connection, specs: list[ForwardSpec], remote: bool, stack: ExitStack
) -> list[Forward]:
    opened = []
    for spec in specs:
        if remote:
            forward = connection.forward_remote(
                spec.listen or 0, spec.port, remote_host=spec.bind, local_host=spec.host
            )
        else:
            forward = connection.forward_local(
                spec.port, spec.listen, remote_host=spec.host, local_host=spec.bind
            )
        opened.append(stack.enter_context(forward))
    return opened


def _same_spec(forward: Forward, remote: bool) -> ForwardSpec:
    here = (forward.local_host, forward.local_port)
    there = (forward.remote_host, forward.remote_port)
    listen, lead = (there, here) if remote else (here, there)
    return ForwardSpec(listen[0], listen[1], lead[0], lead[1])


def _report(opened: list[Forward], args: argparse.Namespace, output: Output) -> None:
    if output.json:
        output.data(
            {
                "host": args.host,
                "forwards": [
                    {
                        "local_host": forward.local_host,
                        "local_port": forward.local_port,
                        "remote_host": forward.remote_host,
                        "remote_port": forward.remote_port,
                        "listens": "remote" if args.remote else "local",
                    }
                    for forward in opened
                ],
            }
        )
    else:
        for forward in opened:
            here = _address(forward.local_host, forward.local_port)
            there = _address(forward.remote_host, forward.remote_port)
            if args.remote:
                output.line(f"{there} on {args.host} leads to {here} here")
            else:
                output.line(f"{here} leads to {there} as {args.host} sees it")
        if not output.quiet:
            output.note("Ctrl-C ends it.")
    sys.stdout.flush()


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
