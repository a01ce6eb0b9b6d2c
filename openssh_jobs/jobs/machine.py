"""What a cluster is made of: nodes and queues, the same words for all schedulers.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

__all__ = ["Node", "Queue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine of a cluster.  Memory in bytes; what the host did not say is ``None``.

    ``state`` is one of ``idle mixed allocated reserved draining drained down unknown``;
    ``raw_state`` is the state as the scheduler prints it.
    """

    name: str
    state: str = "unknown"
    raw_state: str | None = None
    cpus: int | None = None
    cpus_used: int | None = None
    memory: int | None = None
    memory_free: int | None = None
    gpus: int | None = None
    load: float | None = None
    queues: tuple[str, ...] = ()
    reason: str | None = None

    @property
    def is_usable(self) -> bool:
        """True where jobs run or could start now."""
        return self.state in ("idle", "mixed", "allocated")


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """One queue (Slurm: partition).  ``time_limit`` is ``None`` for unlimited or not said.

    ``state`` is one of ``up drained down inactive unknown``.
    """

    name: str
    state: str = "unknown"
    raw_state: str | None = None
    is_default: bool = False
    time_limit: timedelta | None = None
    nodes: int | None = None
    nodes_idle: int | None = None
    cpus: int | None = None
    cpus_free: int | None = None
    running: int | None = None
    pending: int | None = None
