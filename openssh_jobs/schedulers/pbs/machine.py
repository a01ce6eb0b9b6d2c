"""What the PBS family's pbsnodes and ``qstat -Q`` print.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ...jobs import Node, Queue
from ..fields import parse_duration, parse_size, whole_number

__all__ = ["default_queue", "read_nodes", "read_queues"]

_NODE_STATES = {
    "free": "idle",
    "job-busy": "allocated",
    "job-exclusive": "allocated",
    "busy": "allocated",
    "resv-exclusive": "reserved",
    "reserve": "reserved",
    "provisioning": "reserved",
    "wait-provisioning": "reserved",
    "sleep": "idle",
    "offline": "drained",
    "offline_by_mom": "drained",
    "down": "down",
    "stale": "down",
    "state-unknown": "down",
    "unknown": "unknown",
}
_WORST = ("down", "drained", "reserved", "allocated", "idle", "unknown")


def _node_records(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    name: str | None = None
    attributes: dict[str, str] = {}
    for line in text.splitlines():
        if line and not line[0].isspace():
            if name is not None and attributes:
                yield name, attributes
            name, attributes = line.strip(), {}
        elif " = " in line:
            key, _, value = line.strip().partition(" = ")
            attributes.setdefault(key, value)
    if name is not None and attributes:
        yield name, attributes


def read_nodes(text: str) -> list[Node]:
    """``pbsnodes -a`` of PBS and Torque."""
    return [
        _node(name, attributes) for name, attributes in _node_records(text) if "state" in attributes
    ]


def _node(name: str, attributes: Mapping[str, str]) -> Node:
    words = [word.strip() for word in attributes["state"].split(",")]
    states = {_NODE_STATES.get(word, "unknown") for word in words}
    state = next(word for word in _WORST if word in states)
    cpus = whole_number(
        attributes.get("resources_available.ncpus")
        or attributes.get("np")
        or attributes.get("pcpus")
    )
    memory = parse_size(attributes.get("resources_available.mem"))
    used = whole_number(attributes.get("resources_assigned.ncpus"))
    taken = parse_size(attributes.get("resources_assigned.mem"))
    free = memory - taken if memory is not None and taken is not None else None
    load = None
    if "np" in attributes:
        # Torque: SLOTS/JOB, and what MOM measured.
        used = (
            _slots(attributes.get("jobs", ""))
            if {"jobs", "mom_service_port"} & attributes.keys()
            else used
        )
        measured = dict(
            part.partition("=")[::2] for part in attributes.get("status", "").split(",")
        )
        memory = parse_size(measured.get("physmem"))
        whole, left = parse_size(measured.get("totmem")), parse_size(measured.get("availmem"))
        if memory is not None and whole is not None and left is not None:
            free = max(0, min(memory, left - max(0, whole - memory)))  # without the swap space
        load = _decimal(measured.get("loadave"))
    if state == "idle" and used:
        state = "mixed"
    return Node(
        name=name,
        state=state,
        raw_state=attributes["state"],
        cpus=cpus,
        cpus_used=used,
        memory=memory,
        memory_free=free if free is None or free >= 0 else None,
        gpus=whole_number(attributes.get("resources_available.ngpus") or attributes.get("gpus")),
        load=load,
        queues=(attributes["queue"],) if "queue" in attributes else (),
        reason=attributes.get("comment") or attributes.get("note"),
    )


def _slots(jobs: str) -> int | None:
    """How many slots ``0-1/180.srv, 3/116.srv`` names; ``None`` for what is not understood."""
    count = 0
    for part in jobs.replace(" ", "").split(","):
        if not part:
            continue
        found = re.fullmatch(r"(?:([0-9]{1,6})(?:-([0-9]{1,6}))?/[0-9].*|([0-9]{1,6})-([0-9]{1,6})"
                             r"|([0-9]{1,6}))", part, re.ASCII)  # fmt: skip
        if found is None:
            return None
        low = int(found[1] or found[3] or found[5])
        count += int(found[2] or found[4] or low) - low + 1
    return count


def _decimal(text: str | None) -> float | None:
    found = re.fullmatch(r"[0-9]{1,6}(?:\.[0-9]{1,6})?", text or "", re.ASCII)
    return float(found[0]) if found is not None else None


def default_queue(text: str) -> str | None:
    """The queue for jobs that name none, by ``qstat -B -f``."""
    found = re.search(r"^\s+default_queue = (\S+)\s*$", text, re.MULTILINE)
    return found[1] if found is not None else None


def read_queues(text: str, default: str | None = None) -> list[Queue]:
    """``qstat -Q``; and ``qstat -Q -f``, which also knows the limits."""
    queues: list[Queue] = []
    if text.lstrip().startswith("Queue:"):
        for record in re.split(r"^Queue:", text, flags=re.MULTILINE)[1:]:
            lines = record.split("\n")
            if not lines[0].strip():
                continue
            # A long value goes on behind a tab: "Comp", "\tlete:2".
            unfolded = "\n".join(lines[1:]).replace("\n\t", "")
            attributes = {
                key.strip(): value.strip()
                for key, equals, value in (line.partition(" = ") for line in unfolded.split("\n"))
                if equals
            }
            is_up = attributes.get("enabled") == "True" and attributes.get("started") == "True"
            queues.append(
                Queue(
                    name=lines[0].strip(),
                    is_default=lines[0].strip() == default,
                    state="up" if is_up else _queue_state(attributes),
                    time_limit=parse_duration(
                        attributes.get("resources_max.walltime"), bare="seconds"
                    ),
                    nodes=None,
                    running=_count(attributes.get("state_count"), "Running"),
                    pending=_count(attributes.get("state_count"), "Queued"),
                )
            )
        return queues
    header: list[str] = []
    for line in text.splitlines():
        cells = line.split()
        if cells[:2] == ["Queue", "Max"] and {"Ena", "Str"} <= set(cells):
            header = cells
        elif header and len(cells) == len(header) and not line.startswith("-"):
            attributes = dict(zip(header, cells, strict=True))
            flags = {"enabled": attributes["Ena"] == "yes", "started": attributes["Str"] == "yes"}
            queues.append(
                Queue(
                    name=cells[0],
                    is_default=cells[0] == default,
                    state="up"
                    if all(flags.values())
                    else _queue_state({key: str(value) for key, value in flags.items()}),
                    running=whole_number(attributes.get("Run")),
                    pending=whole_number(attributes.get("Que")),
                )
            )
    return queues


def _queue_state(attributes: Mapping[str, str]) -> str:
    """Enabled takes jobs, started runs them."""
    if attributes.get("enabled") == "False" and attributes.get("started") == "False":
        return "inactive"
    return "drained" if attributes.get("enabled") == "False" else "down"


def _count(text: str | None, name: str) -> int | None:
    found = re.search(rf"\b{name}:\s*([0-9]{{1,18}})", text) if text else None
    return int(found[1]) if found is not None else None
