"""``Cluster`` and ``Job``: batch jobs submitted, watched and ended through a host's scheduler.

Imported when they are first used: a reader of the journal needs neither.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cluster import Cluster
    from .job import Job

__all__ = ["Cluster", "Job"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{name.lower()}", __name__), name)
