"""``queues``: list the queues of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import options
from .exit_codes import ExitCode
from .output import attributes, duration
from .table import Column, OutputTable

if TYPE_CHECKING:
    import argparse

    from ..jobs import Queue
    from .output import Output

QUEUES: OutputTable[Queue] = OutputTable(
    Column("name", "QUEUE"),
    Column("state", "STATE"),
    Column("is_default", "DEFAULT", show=lambda is_default: "yes" if is_default else ""),
    Column("time_limit", "TIME LIMIT", show=duration, right=True),
    Column("nodes", "NODES", right=True),
    Column("nodes_idle", "IDLE", right=True),
    Column("cpus", "CPUS", right=True),
    Column("cpus_free", "FREE", right=True),
    Column("running", "RUNNING", right=True),
    Column("pending", "PENDING", right=True),
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
        examples="  openssh-jobs queues hpc\n  openssh-jobs queues hpc --json",
    )
    parser.add_argument("host", metavar="HOST")
    options.add_scheduler_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """List the queues."""
    with options.cluster(args) as cluster:
        queues = cluster.queues()
    if output.json:
        output.data({"host": args.host, "queues": QUEUES.records(queues)})
    else:
        QUEUES.show(queues, output)
    return ExitCode.OK
