"""Commands, files and batch jobs on clusters, over the ssh you already have.

The public names are those of ``__all__``; ``docs/public-names.rst`` lists them.  They are loaded
when they are first used, so that ``import openssh_jobs`` alone costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__ as __version__

if TYPE_CHECKING:
    from . import arc, errors, parser, testing
    from .arc import SSHClient
    from .cluster.cluster import Cluster
    from .cluster.job import Job
    from .cluster.submission import DryRun
    from .commands.remote_process import RemoteProcess
    from .commands.result import CommandResult
    from .connection import Connection
    from .files.stat import FileStat
    from .jobs import JobId, JobState, JobStatus, Node, Queue, Snapshot
    from .liveness import Liveness
    from .local_connection import LocalConnection
    from .openssh.prompts import Prompt, PromptKind
    from .transfer.options import TransferResult
    from .transfer.plan import TransferPlan

__all__ = [
    "Cluster",
    "CommandResult",
    "Connection",
    "DryRun",
    "FileStat",
    "Job",
    "JobId",
    "JobState",
    "JobStatus",
    "Liveness",
    "LocalConnection",
    "Node",
    "Prompt",
    "PromptKind",
    "Queue",
    "RemoteProcess",
    "SSHClient",
    "Snapshot",
    "TransferPlan",
    "TransferResult",
    "arc",
    "errors",
    "parser",
    "testing",
]

_MODULES = ("arc", "errors", "parser", "testing")
_MODULE_OF = {
    "Cluster": "cluster.cluster",
    "CommandResult": "commands.result",
    "Connection": "connection",
    "DryRun": "cluster.submission",
    "FileStat": "files.stat",
    "Job": "cluster.job",
    "JobId": "jobs",
    "JobState": "jobs",
    "JobStatus": "jobs",
    "Liveness": "liveness",
    "LocalConnection": "local_connection",
    "Node": "jobs",
    "Prompt": "openssh.prompts",
    "PromptKind": "openssh.prompts",
    "Queue": "jobs",
    "RemoteProcess": "commands.remote_process",
    "SSHClient": "arc",
    "Snapshot": "jobs",
    "TransferPlan": "transfer.plan",
    "TransferResult": "transfer.options",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
