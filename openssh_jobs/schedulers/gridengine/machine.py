"""What Grid Engine's qhost and qstat print of hosts and queues.  Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

from ...jobs import JobState, JobStatus, Node, Queue
from ..fields import parse_size, whole_number
from ..markup import elements, fields


def read_nodes(text: str) -> list[Node]:
    """``qhost`` and ``qhost -q``."""
    nodes: list[Node] = []
    header: list[str] = []
    states: dict[str, list[tuple[str, int, int, str]]] = {}
    for line in text.splitlines():
        cells = line.split()
        if line.startswith("HOSTNAME"):
            header = cells
        elif not header or not cells or line.startswith(("---", "global ")):
            continue
        elif line[:1] != " " and len(cells) >= len(header):
            attributes = dict(zip(header, cells, strict=False))
            load = attributes.get("LOAD", "-")
            memory, used = (
                parse_size(attributes.get("MEMTOT")),
                parse_size(attributes.get("MEMUSE")),
            )
            is_number = re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", load) is not None
            nodes.append(
                Node(
                    name=cells[0],
                    state="idle" if is_number else "down",
                    cpus=whole_number(attributes.get("NCPU")),
                    memory=memory,
                    memory_free=memory - used if memory is not None and used is not None else None,
                    load=float(load) if is_number else None,
                )
            )
        elif line[:1] == " " and nodes:
            found = re.match(
                r"\s+(\S+)\s+[A-Z]+\s+(?:[0-9]+/)?([0-9]+)/([0-9]+)(?:\s+(\S+))?", line
            )
            if found is not None:
                row = (found[1], int(found[2]), int(found[3]), found[4] or "")
                states.setdefault(nodes[-1].name, []).append(row)
    return [_with_queues(node, states.get(node.name, [])) for node in nodes]


def _with_queues(node: Node, queues: list[tuple[str, int, int, str]]) -> Node:
    if not queues:
        return node
    used = sum(row[1] for row in queues)
    letters = [row[3] for row in queues]
    state = node.state
    if state == "down" or all("u" in letter for letter in letters):
        state = "down"
    elif all("d" in letter or "D" in letter or "E" in letter for letter in letters):
        state = "draining" if used else "drained"
    elif used:
        state = "allocated" if node.cpus is not None and used >= node.cpus else "mixed"
    return replace(
        node,
        state=state,
        raw_state=" ".join(letters).strip() or None,
        cpus_used=used,
        queues=tuple(row[0] for row in queues),
    )


def read_queues(text: str) -> list[Queue]:
    """``qstat -g c``."""
    queues: list[Queue] = []
    has_header = False
    for line in text.splitlines():
        cells = line.split()
        if line.startswith("CLUSTER QUEUE"):
            has_header = True
        elif has_header and len(cells) >= 8 and not line.startswith("-"):
            used, available, total, disabled = (whole_number(cells[at]) for at in (2, 4, 5, 7))
            state = "up"
            if total and disabled is not None and disabled >= total:
                state = "drained"
            queues.append(
                Queue(name=cells[0], state=state, cpus=total, cpus_free=available, running=used)
            )
    return queues


# --------------------------------------------------------------------------- silent hosts


def read_unheard(text: str) -> set[str]:
    """The queues (``all.q@node1``) that ``qstat -f -qs u -xml`` lists: their hosts are silent."""
    found: set[str] = set()
    for record in elements(text, "Queue-List"):
        attributes = fields(record.partition("<job_list")[0])
        if "u" in attributes.get("state", [""])[0]:
            found.update(attributes.get("name", ())[:1])
    return found


def unheard(status: JobStatus, places: Collection[str]) -> JobStatus:
    """A job's status where ``places`` are the queues whose hosts do not answer.

    The queue goes on calling such a job running; its state is unknown.
    """
    node = status.nodes[0] if status.nodes else None
    has_begun = status.state in (JobState.RUNNING, JobState.SUSPENDED, JobState.COMPLETING)
    if not has_begun or f"{status.queue}@{node}" not in places:
        return status
    reason = f"its host {node} does not answer; the queue still calls it {status.state}"
    return status.replace(state=JobState.UNKNOWN, reason=reason)
