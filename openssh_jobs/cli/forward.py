"""``forward``: ports of a cluster on this machine, for as long as the command runs."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from . import options

if TYPE_CHECKING:
    import argparse

    from ..connection import Connection
    from ..transport.forwards import Forward
    from .output import Ui

_LOOK_EVERY = 2.0
_ADDRESS = r"(?:\[[^\]\s]+\]|[^:\s\[\]]+)"
_SPEC = re.compile(
    rf"(?:(?P<bind>{_ADDRESS}|\*):(?=\d+:{_ADDRESS}:\d+\Z))?"
    rf"(?:(?P<listen>\d+):)?(?:(?P<host>{_ADDRESS}):)?(?P<port>\d+)\Z"
)


class Spec(NamedTuple):
    """What to forward: listen on ``bind:listen`` (``None``: any free port), lead to host:port."""

    bind: str
    listen: int | None
    host: str
    port: int


def parse_spec(text: str) -> Spec:
    """``[[BIND:]PORT:][HOST:]PORT`` as with ``ssh -L``, shorter where that is clear."""
    found = _SPEC.match(text)
    if found is None or any(
        int(found[name] or 1) not in range(1, 65536) for name in ("listen", "port")
    ):
        raise options.WrongUse(
            f"forward wants 8888:node01:8888 (port here, host and port there), 8888:localhost:80 "
            f"or just 8888; not {text!r}."
        )
    listen = int(found["listen"]) if found["listen"] else None
    if listen is None and found["host"] is None:
        listen = int(found["port"])  # a port alone: the same number here
    return Spec(
        (found["bind"] or "127.0.0.1").strip("[]"),
        listen,
        (found["host"] or "localhost").strip("[]"),
        int(found["port"]),
    )


def add_commands(commands: Any) -> None:
    """Add ``forward`` to the command line."""
    parser = options.add_command(
        commands,
        "forward",
        run_forward,
        "reach a port behind a host from here, until Ctrl-C",
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
    options.add_output_options(parser)


def run_forward(args: argparse.Namespace, ui: Ui) -> int:
    """Forward until Ctrl-C; forwards that went with a lost connection are made again."""
    specs = [parse_spec(text) for text in args.specs]
    connection = options.connection(args)
    made: list[Forward] = []
    with ExitStack() as stack:
        try:
            made = _all(connection, specs, args.remote, stack)
            _tell(made, args, ui)
            while True:
                time.sleep(_LOOK_EVERY)
                if not all(one.alive for one in made):
                    ui.note(f"{args.host}: the connection was lost; forwarding again.")
                    # Where a free port was taken, it stays the same one.
                    specs = [_again(one, args.remote) for one in made]
                    stack.close()
                    made = _all(connection, specs, args.remote, stack)
        except KeyboardInterrupt:
            if not made:
                raise
            stack.close()
            if not ui.quiet and not ui.json:
                ui.note(f"{args.host}: no longer forwarded.")
    return options.WELL


def _all(
    connection: Connection, specs: list[Spec], remote: bool, stack: ExitStack
) -> list[Forward]:
    made = []
    for spec in specs:
        if remote:
            one = connection.forward_remote(
                spec.listen or 0, spec.port, remote_host=spec.bind, local_host=spec.host
            )
        else:
            one = connection.forward_local(
                spec.port, spec.listen, remote_host=spec.host, local_host=spec.bind
            )
        made.append(stack.enter_context(one))
    return made


def _again(one: Forward, remote: bool) -> Spec:
    here, there = (one.local_host, one.local_port), (one.remote_host, one.remote_port)
    listen, lead = (there, here) if remote else (here, there)
    return Spec(listen[0], listen[1], lead[0], lead[1])


def _tell(made: list[Forward], args: argparse.Namespace, ui: Ui) -> None:
    import sys

    if ui.json:
        ui.data(
            {
                "host": args.host,
                "forwards": [
                    {
                        "local_host": one.local_host,
                        "local_port": one.local_port,
                        "remote_host": one.remote_host,
                        "remote_port": one.remote_port,
                        "listens": "remote" if args.remote else "local",
                    }
                    for one in made
                ],
            }
        )
    else:
        for one in made:
            here = _address(one.local_host, one.local_port)
            there = _address(one.remote_host, one.remote_port)
            if args.remote:
                ui.line(f"{there} on {args.host} leads to {here} here")
            else:
                ui.line(f"{here} leads to {there} as {args.host} sees it")
        if not ui.quiet:
            ui.note("Ctrl-C ends it.")
    sys.stdout.flush()


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
