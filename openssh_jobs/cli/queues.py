"""``queues``: list the queues of a cluster, or its nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import options
from .exit_codes import ExitCode
from .output import attributes, duration, size
from .table import Column, OutputTable

if TYPE_CHECKING:
    import argparse

    from ..jobs import Node, Queue
    from .output import Output

QUEUES: OutputTable[Queue] = OutputTable(
    Column("name", "QUEUE", shrinks_last=True),
    Column("state", "STATE"),
    Column("is_default", "DEFAULT", show=lambda is_default: "yes" if is_default else "", drops=4),
    Column("time_limit", "TIME LIMIT", show=duration, right=True),
    Column("nodes", "NODES", right=True, drops=2),
    Column("nodes_idle", "IDLE", right=True),
    Column("cpus", "CPUS", right=True, drops=3),
    Column("cpus_free", "FREE", right=True, drops=1),
    Column("running", "RUNNING", right=True, drops=5),
    Column("pending", "PENDING", right=True, drops=6),
    facts=attributes,
)
NODES: OutputTable[Node] = OutputTable(
    Column("name", "NODE", shrinks_last=True),
    Column("state", "STATE"),
    Column("cpus", "CPUS", right=True),
    Column("cpus_used", "USED", right=True, drops=2),
    Column("memory", "MEMORY", show=size, right=True, drops=1),
    Column("memory_free", "FREE", show=size, right=True, drops=3),
    Column("gpus", "GPUS", show=lambda number: str(number or ""), right=True),
    Column("load", "LOAD", right=True, drops=5),
    Column("queues", "QUEUES", show=", ".join, shrinks=True, drops=4),
    Column("reason", "REASON", shrinks=True, drops=6),
    facts=attributes,
)


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``queues`` to the command line."""
    parser = options.add_command(
        subparsers,
        "queues",
        summary,
        run,
        usage="[options] HOST",
        examples="""\
  openssh-jobs queues hpc
      limits, and what is free (Slurm calls them partitions)
  openssh-jobs queues hpc --nodes
      each node: its state, and what is in use there""",
    )
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("--nodes", action="store_true", help="the nodes, not the queues")
    options.add_scheduler_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """List the queues or the nodes."""
    with options.cluster(args) as cluster:
        if args.nodes:
            return _show("nodes", NODES, cluster.nodes(), args, output)
        return _show("queues", QUEUES, cluster.queues(), args, output)


def _show(
    what: str,
    table: OutputTable[Any],
    rows: list[Any],
    args: argparse.Namespace,
    output: Output,
) -> ExitCode:
    if output.json:
        output.data({"host": args.host, what: table.records(rows)})
    else:
        table.show(rows, output)
        if not rows:
            output.say(f"{args.host}: the scheduler lists no {what}.")
    return ExitCode.OK
