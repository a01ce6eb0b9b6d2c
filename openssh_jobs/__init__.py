"""Commands, files and batch jobs on clusters, over the ssh you already have.

The names below are loaded when they are first used, so that ``import openssh_jobs`` costs next to
nothing in programs that may not need them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import arc, errors, parser
    from .arc import SSHClient
    from .cluster.cluster import Cluster, Job
    from .commands.remote_process import RemoteProcess
    from .commands.result import CommandResult
    from .connection import Connection, Liveness
    from .files.stat import FileStat
    from .jobs import JobId, JobState, JobStatus, Node, Queue, Snapshot
    from .transfer.transfer import TransferResult

__version__ = "0.1.0"

__all__ = [
    "Cluster",
    "CommandResult",
    "Connection",
    "FileStat",
    "Job",
    "JobId",
    "JobState",
    "JobStatus",
    "Liveness",
    "Node",
    "Queue",
    "RemoteProcess",
    "SSHClient",
    "Snapshot",
    "TransferResult",
    "arc",
    "errors",
    "parser",
]

_HOME = {
    "Cluster": "cluster",
    "CommandResult": "commands.result",
    "Connection": "connection",
    "FileStat": "files.stat",
    "Job": "cluster",
    "JobId": "jobs",
    "JobState": "jobs",
    "JobStatus": "jobs",
    "Liveness": "connection",
    "Node": "jobs",
    "Queue": "jobs",
    "RemoteProcess": "commands.remote_process",
    "SSHClient": "arc",
    "Snapshot": "jobs",
    "TransferResult": "transfer.options",
}


def __getattr__(name: str) -> Any:
    if name in ("arc", "errors", "parser"):
        return importlib.import_module(f".{name}", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
