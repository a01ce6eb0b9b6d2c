"""Slurm's nodes and partitions: sinfo(1), ``scontrol show node`` and ``show partition``.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise

from ...jobs import Node, Queue
from ..fields import expand_hosts, parse_duration, parse_size, whole_number
from .states import said_number

# Each row begins with the query's own mark.  Free text last: a reason may hold anything.
NODE_FORMAT = "$oj|%N|%T|%C|%m|%e|%O|%G|%R|%E"
QUEUE_FORMAT = "$oj|%P|%a|%l|%F|%C"

_MIB = 1024**2
_NODE_STATES = {
    "idle": "idle",
    "planned": "idle",
    "blocked": "idle",
    "mixed": "mixed",
    "mix": "mixed",
    "allocated": "allocated",
    "alloc": "allocated",
    "completing": "allocated",
    "comp": "allocated",
    "reserved": "reserved",
    "resv": "reserved",
    "maint": "reserved",
    "draining": "draining",
    "drng": "draining",
    "drained": "drained",
    "drain": "drained",
    "down": "down",
    "fail": "down",
    "failing": "draining",
    "error": "down",
    "inval": "down",
    "unknown": "unknown",
    "unk": "unknown",
}


def node_state(raw: str) -> str:
    """One of ``Node``'s states.

    The marks behind a state (sinfo(1), NODE STATE CODES): ``*`` does not answer, ``~ # % !``
    powered down or on the way, ``$`` reserved for maintenance, ``@ ^`` reboot, ``-`` planned, ``+``
    more flags.  ``IDLE+DRAIN`` is scontrol's way to write drained.
    """
    words = [word.strip("*~#!%$@^-").lower() for word in raw.split("+")]
    if raw.rstrip("+").endswith("*") or "not_responding" in words:
        return "down"
    if "drain" in words:
        return "draining" if words[0] in ("allocated", "mixed", "completing") else "drained"
    if "down" in words:
        return "down"
    if "reserved" in words or "maintenance" in words or "$" in raw:
        return "reserved"
    return _NODE_STATES.get(words[0], "unknown")


def _gpu_count(gres: str) -> int | None:
    """``gpu:tesla:2(S:0-1),gpu:1`` are three."""
    if gres in ("", "(null)", "N/A"):
        return 0
    counts = re.findall(r"(?:^|,)gpu(?::[^:,()]+)*?(?::([0-9]+))?(?:\([^)]*\))?(?=,|$)", gres)
    return sum(int(count or 1) for count in counts)


def _memory(text: str) -> int | None:
    number = said_number(whole_number(text.rstrip("+")))
    return number * _MIB if number is not None else None


def _rows(text: str, mark: str) -> list[str]:
    """The rows of an answer, by the mark that each begins with, or by lines where it has none."""
    return text.split(f"{mark}|")[1:] if mark else text.split("\n")


def read_nodes(text: str, mark: str = "") -> list[Node]:
    """Nodes of ``NODE_FORMAT``, of ``scontrol show node``, or of a sinfo that people paste."""
    if not mark and _NODE.search(text) is not None:
        return [node for node in _scontrol_nodes(text) if node.name]
    found: dict[str, Node] = {}
    is_ours = mark or "|" in text
    for node in _formatted_nodes(_rows(text, mark)) if is_ours else _pasted_nodes(text):
        before = found.get(node.name)
        if before is not None:  # one line for each partition that a node is in
            queues = tuple(dict.fromkeys((*before.queues, *node.queues)))
            node = replace(before, queues=queues)
        found[node.name] = node
    return [node for node in found.values() if node.name]


def _formatted_nodes(rows: Iterable[str]) -> Iterator[Node]:
    for line in rows:
        cells = line.split("|", 8)
        if len(cells) != 9:
            continue
        name, raw, cpus, memory, free, load, gres, queue, reason = (cell.strip() for cell in cells)
        used, _, total = cpus.partition("/")[0], "", cpus.rpartition("/")[2]
        try:
            weight = float(load)
        except ValueError:
            weight = None
        yield Node(
            name=name,
            state=node_state(raw),
            raw_state=raw,
            cpus=whole_number(total),
            cpus_used=whole_number(used),
            memory=_memory(memory),
            memory_free=_memory(free),
            gpus=_gpu_count(gres),
            load=weight,
            queues=(queue,),
            reason=reason if reason not in ("none", "") else None,
        )


def _pasted_nodes(text: str) -> Iterator[Node]:
    header: list[str] = []
    for line in text.split("\n"):
        words = line.split()
        if {"NODELIST", "HOSTNAMES"} & {*words} and ("STATE" in words or "S:C:T" in words):
            header = words
            continue
        if not header or len(words) < len(header) - 1:
            continue
        cells = dict(zip(header, words, strict=False))
        names = expand_hosts(cells.get("NODELIST") or cells.get("HOSTNAMES"))
        for name in names or ():
            yield Node(
                name=name,
                state=node_state(cells.get("STATE", "")),
                raw_state=cells.get("STATE"),
                cpus=whole_number(cells.get("CPUS")),
                memory=_memory(cells.get("MEMORY", "")),
                queues=(cells["PARTITION"].rstrip("*"),) if "PARTITION" in cells else (),
            )


_NODE = re.compile(r"^ *NodeName=\S", re.MULTILINE)
_PARTITION = re.compile(r"^ *PartitionName=\S", re.MULTILINE)
_KEY = re.compile(r"(?:^|\s)([A-Z][A-Za-z/:]*)=")


def _records(text: str, key: str) -> Iterator[dict[str, str]]:
    starts = [found.start() for found in re.finditer(rf"^ *{key}=", text, re.MULTILINE)]
    for start, end in pairwise([*starts, len(text)]):
        record = text[start:end]
        keys = list(_KEY.finditer(record))
        ends = [title.start() for title in keys[1:]] + [len(record)]
        yield {
            title[1]: record[title.end() : end].strip()
            for title, end in zip(keys, ends, strict=True)
        }


def _scontrol_nodes(text: str) -> Iterator[Node]:
    for record in _records(text, "NodeName"):
        raw = record.get("State", "")
        partitions = record.get("Partitions", "")
        yield Node(
            name=record["NodeName"],
            state=node_state(raw),
            raw_state=raw or None,
            cpus=whole_number(record.get("CPUTot")),
            cpus_used=whole_number(record.get("CPUAlloc")),
            memory=_memory(record.get("RealMemory", "")),
            memory_free=_memory(record.get("FreeMem", "")),
            gpus=_gpu_count(record.get("Gres", "")),
            queues=tuple(partitions.split(",")) if partitions else (),
            reason=record.get("Reason") or None,
        )


# --------------------------------------------------------------------------- partitions

_QUEUE_STATES = {
    "up": "up",
    "down": "down",
    "drain": "drained",
    "drained": "drained",
    "inact": "inactive",
    "inactive": "inactive",
}


def read_queues(text: str, mark: str = "") -> list[Queue]:
    """Partitions of ``QUEUE_FORMAT``, of ``scontrol show partition``, or of a plain sinfo."""
    if not mark and _PARTITION.search(text) is not None:
        return [
            Queue(
                name=record["PartitionName"],
                state=_QUEUE_STATES.get(record.get("State", "").lower(), "unknown"),
                raw_state=record.get("State"),
                is_default=record.get("Default") == "YES",
                time_limit=parse_duration(record.get("MaxTime")),
                nodes=whole_number(record.get("TotalNodes")),
                cpus=whole_number(record.get("TotalCPUs")),
            )
            for record in _records(text, "PartitionName")
            if record["PartitionName"]
        ]
    found: dict[str, Queue] = {}
    is_ours = mark or "|" in text
    for queue in _formatted_queues(_rows(text, mark)) if is_ours else _pasted_queues(text):
        before = found.get(queue.name)
        if before is not None:  # sinfo has a line for each kind (or state) of node
            queue = replace(
                before,
                nodes=_sum(before.nodes, queue.nodes),
                nodes_idle=_sum(before.nodes_idle, queue.nodes_idle),
                cpus=_sum(before.cpus, queue.cpus),
                cpus_free=_sum(before.cpus_free, queue.cpus_free),
            )
        found[queue.name] = queue
    return list(found.values())


def _sum(number: int | None, other: int | None) -> int | None:
    return other if number is None else number if other is None else number + other


def _four(text: str) -> list[int | None]:
    """``allocated/idle/other/total``"""
    numbers = [parse_size(part, unit="") for part in text.split("/")]
    return numbers if len(numbers) == 4 else [None] * 4


def _formatted_queues(rows: Iterable[str]) -> Iterator[Queue]:
    for line in rows:
        cells = line.split("|")
        if len(cells) != 5 or not cells[0].strip().rstrip("*"):
            continue
        name, raw, limit, nodes, cpus = (cell.strip() for cell in cells)
        of_nodes, of_cpus = _four(nodes), _four(cpus)
        yield Queue(
            name=name.rstrip("*"),
            state=_QUEUE_STATES.get(raw, "unknown"),
            raw_state=raw,
            is_default=name.endswith("*"),
            time_limit=parse_duration(limit),
            nodes=of_nodes[3],
            nodes_idle=of_nodes[1],
            cpus=of_cpus[3],
            cpus_free=of_cpus[1],
        )


def _pasted_queues(text: str) -> Iterator[Queue]:
    header: list[str] = []
    for line in text.split("\n"):
        words = line.split()
        if words[:2] == ["PARTITION", "AVAIL"]:
            header = words
            continue
        if not header or len(words) != len(header) or not words[0].strip("*"):
            continue
        cells = dict(zip(header, words, strict=True))
        idle = cells.get("STATE", "") in ("idle", "idle~", "idle#")
        nodes = whole_number(cells.get("NODES"))
        yield Queue(
            name=cells["PARTITION"].rstrip("*"),
            state=_QUEUE_STATES.get(cells["AVAIL"], "unknown"),
            raw_state=cells["AVAIL"],
            is_default=cells["PARTITION"].endswith("*"),
            time_limit=parse_duration(cells.get("TIMELIMIT")),
            nodes=nodes,
            nodes_idle=(nodes if idle else 0) if "STATE" in cells else None,
        )
