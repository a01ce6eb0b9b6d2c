"""``nodes`` and ``queues``: the machine behind a scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import options
from .output import Column, duration, size

if TYPE_CHECKING:
    import argparse

    from .output import Ui


def add_commands(commands: Any) -> None:
    """Add ``nodes`` and ``queues`` to the command line."""
    _add_nodes(commands)
    _add_queues(commands)


_NODES = (
    Column(title="NODE"),
    Column(title="STATE"),
    Column(title="CPUS", right=True),
    Column(title="USED", right=True),
    Column(title="MEMORY", right=True),
    Column(title="FREE", right=True),
    Column(title="GPUS", right=True),
    Column(title="LOAD", right=True),
    Column(title="QUEUES", shrinks=True),
    Column(title="REASON", shrinks=True),
)
_QUEUES = (
    Column(title="QUEUE"),
    Column(title="STATE"),
    Column(title="DEFAULT"),
    Column(title="TIME LIMIT", right=True),
    Column(title="NODES", right=True),
    Column(title="IDLE", right=True),
    Column(title="CPUS", right=True),
    Column(title="FREE", right=True),
    Column(title="RUNNING", right=True),
    Column(title="PENDING", right=True),
)


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _add_nodes(commands: Any) -> None:
    parser = options.add_command(
        commands,
        "nodes",
        run_nodes,
        "list the nodes of a cluster",
        usage="[options] HOST",
        examples="  openssh-jobs nodes hpc\n  openssh-jobs nodes hpc --json",
    )
    parser.add_argument("host", metavar="HOST")
    options.add_scheduler_options(parser)


def run_nodes(args: argparse.Namespace, ui: Ui) -> int:
    """List the nodes."""
    with options.cluster(args) as cluster:
        nodes = cluster.nodes()
    if ui.json:
        ui.data({"host": args.host, "nodes": nodes})
        return options.WELL
    ui.table(
        _NODES,
        [
            (
                node.name,
                node.state,
                _text(node.cpus),
                _text(node.cpus_used),
                "" if node.memory is None else size(node.memory),
                "" if node.memory_free is None else size(node.memory_free),
                _text(node.gpus or None),
                _text(node.load),
                ", ".join(node.queues),
                node.reason or "",
            )
            for node in nodes
        ],
    )
    return options.WELL


def _add_queues(commands: Any) -> None:
    parser = options.add_command(
        commands,
        "queues",
        run_queues,
        "list the queues (Slurm: partitions) of a cluster",
        usage="[options] HOST",
        examples="  openssh-jobs queues hpc\n  openssh-jobs queues hpc --json",
    )
    parser.add_argument("host", metavar="HOST")
    options.add_scheduler_options(parser)


def run_queues(args: argparse.Namespace, ui: Ui) -> int:
    """List the queues."""
    with options.cluster(args) as cluster:
        queues = cluster.queues()
    if ui.json:
        ui.data({"host": args.host, "queues": queues})
        return options.WELL
    ui.table(
        _QUEUES,
        [
            (
                queue.name,
                queue.state,
                "yes" if queue.is_default else "",
                duration(queue.time_limit),
                _text(queue.nodes),
                _text(queue.nodes_idle),
                _text(queue.cpus),
                _text(queue.cpus_free),
                _text(queue.running),
                _text(queue.pending),
            )
            for queue in queues
        ],
    )
    return options.WELL
