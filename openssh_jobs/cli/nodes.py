"""``nodes``: list the nodes of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import options
from .exit_codes import ExitCode
from .output import attributes, size
from .table import Column, OutputTable

if TYPE_CHECKING:
    import argparse

    from ..jobs import Node
    from .output import Output

NODES: OutputTable[Node] = OutputTable(
    Column("name", "NODE"),
    Column("state", "STATE"),
    Column("cpus", "CPUS", right=True),
    Column("cpus_used", "USED", right=True),
    Column("memory", "MEMORY", show=size, right=True),
    Column("memory_free", "FREE", show=size, right=True),
    Column("gpus", "GPUS", show=lambda number: str(number or ""), right=True),
    Column("load", "LOAD", right=True),
    Column("queues", "QUEUES", show=", ".join, shrinks=True),
    Column("reason", "REASON", shrinks=True),
    facts=attributes,
)


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``nodes`` to the command line."""
    parser = options.add_command(
        subparsers,
        "nodes",
        summary,
        run,
        usage="[options] HOST",
        examples="  openssh-jobs nodes hpc\n  openssh-jobs nodes hpc --json",
    )
    parser.add_argument("host", metavar="HOST")
    options.add_scheduler_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """List the nodes."""
    with options.cluster(args) as cluster:
        nodes = cluster.nodes()
    if output.json:
        output.data({"host": args.host, "nodes": NODES.records(nodes)})
    else:
        NODES.show(nodes, output)
    return ExitCode.OK
