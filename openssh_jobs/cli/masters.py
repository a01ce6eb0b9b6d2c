"""``masters``: list the connections that are open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from . import options
from .exit_codes import ExitCode
from .output import attributes, duration, moment, span
from .table import Column, OutputTable

if TYPE_CHECKING:
    import argparse

    from ..openssh.masters import MasterFacts
    from .output import Output


def _route(master: MasterFacts) -> str:
    return f"{master.route} via {master.jump}" if master.jump else master.route


def _opened(master: MasterFacts) -> datetime | None:
    return None if master.opened is None else datetime.fromtimestamp(master.opened, UTC)


MASTERS: OutputTable[MasterFacts] = OutputTable(
    Column("host", "HOST", show=lambda host: host or "?"),
    Column("way", "ROUTE", get=_route, shrinks=True, in_json=False),
    Column("pid", "PID", missing="silent", right=True),
    Column("since", "SINCE", get=_opened, show=moment, in_json=False),
    Column("age", "AGE", show=lambda seconds: duration(timedelta(seconds=seconds)), right=True),
    Column("sessions", "SESSIONS", right=True),
    Column("persist", "STAYS", show=span, right=True),
    Column("ours", "WHOSE", show=lambda ours: "ours" if ours else "yours"),
    Column("socket", "SOCKET", shrinks=True),
    facts=attributes,
)


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``masters`` to the command line."""
    parser = options.add_command(
        subparsers,
        "masters",
        summary,
        run,
        usage="[options] [HOST ...]",
        examples="  openssh-jobs masters\n  openssh-jobs masters hpc --json",
    )
    parser.add_argument(
        "hosts", metavar="HOST", nargs="*", help="only these, and what your ControlPath has"
    )
    options.add_connection_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """List masters; asks the local master processes, not the hosts."""
    from ..openssh import masters

    found = _of_hosts(args) if args.hosts else masters.every()
    if output.json:
        output.data({"masters": MASTERS.records(found)})
        return ExitCode.OK
    MASTERS.show(found, output)
    if not found:
        output.say("No connection is open.")
    return ExitCode.OK if found or not args.hosts else ExitCode.FAILED


def _of_hosts(args: argparse.Namespace) -> list[MasterFacts]:
    from ..openssh import masters
    from ..openssh.master import Master

    found: list[MasterFacts] = []
    for host in args.hosts:
        master = Master(options.destination(args, host))
        for path, ours in master.candidates():
            route = masters.route_text(master.resolved)
            facts = masters.facts(path, ours=ours, host=host, route=route)
            if facts is not None:
                found.append(facts)
    return found
