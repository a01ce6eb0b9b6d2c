"""ARC's settings, verbatim: which server is which cluster, and by which commands it is asked."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Mapping
from typing import Any

from .. import settings
from ..cluster.cluster import Cluster
from ..connection import Connection
from ..errors import InputError
from ..schedulers import get
from ..schedulers.base import Scheduler
from ..schedulers.site_commands import Custom, SiteCommands

# What ARC calls them; ``configure`` changes them in place, and who holds one sees that.
servers: dict[str, dict[str, Any]] = {}
check_status_command: dict[str, str] = {}
submit_command: dict[str, str] = {}
delete_command: dict[str, str] = {}
list_available_nodes_command: dict[str, str] = {}
_DEFAULT_FILENAMES = {
    "OGE": "submit.sh",
    "SGE": "submit.sh",
    "PBS": "submit.sh",
    "local": "submit.sh",
    "Slurm": "submit.sl",
    "HTCondor": "submit.sub",
}
submit_filenames: dict[str, str] = dict(_DEFAULT_FILENAMES)
TABLES: dict[str, dict[str, Any]] = {
    "servers": servers,
    "check_status_command": check_status_command,
    "submit_command": submit_command,
    "delete_command": delete_command,
    "list_available_nodes_command": list_available_nodes_command,
    "submit_filenames": submit_filenames,
}

_CONNECTION_OPTIONS = (
    "port", "jump", "ssh_config", "ssh_options", "forward_agent", "master", "persist",
    "connect_timeout", "exec_backend", "max_sessions", "responder", "start_timeout",
)  # fmt: skip
_CLUSTER_OPTIONS = ("poll_interval", "grace", "login_shell", "prologue", "journal")

_configured = False
# ARC makes a client for every question: what they know of the queue must outlive them.
_clusters: dict[str, tuple[str, Cluster]] = {}
_lock = threading.Lock()


def configure(**tables: Mapping[str, Any]) -> None:
    """See ``arc.configure``."""
    global _configured
    for name, values in tables.items():
        if name not in TABLES:
            raise InputError(f"{name!r} is none of {', '.join(TABLES)}")
        if not isinstance(values, Mapping):
            raise InputError(f"{name} is to be a table, not {type(values).__name__}")
    for name, values in tables.items():
        given = dict(values)  # it may be the very table
        table = TABLES[name]
        table.clear()
        if name == "submit_filenames":
            table.update(_DEFAULT_FILENAMES)
        table.update(given)
    _configured = True
    with _lock:
        _clusters.clear()


def load() -> None:
    """Where ``configure`` was not called: ``servers.toml``, else ARC's own settings."""
    if _configured or servers:
        return
    found: Mapping[str, Any] = settings.read_config()
    if not found.get("servers"):
        found = _arcs_own()
    tables = {name: found[name] for name in TABLES if isinstance(found.get(name), Mapping)}
    if tables:
        configure(**tables)


def _arcs_own() -> Mapping[str, Any]:
    for name in ("arc.imports", "arc.settings.settings"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        found = getattr(module, "settings", None)
        return found if isinstance(found, Mapping) else vars(module)
    return {}


def cluster_of(server: str, entry: Mapping[str, Any], commands: SiteCommands) -> Cluster:
    """The cluster that all clients of a server share, for as long as its settings stay."""
    fingerprint = repr((sorted(entry.items(), key=lambda one: one[0]), commands))
    with _lock:
        known = _clusters.get(server)
        if known is not None and known[0] == fingerprint:
            return known[1]
        options = {key: entry[key] for key in _CONNECTION_OPTIONS if entry.get(key) is not None}
        connection = Connection(
            str(entry.get("address") or server),
            user=entry.get("un") or entry.get("user") or None,
            identity_file=entry.get("key") or entry.get("identity_file") or None,
            **options,
        )
        cluster = Cluster(
            connection,
            scheduler=_scheduler_of(str(entry.get("cluster_soft", "auto")), commands),
            **{key: entry[key] for key in _CLUSTER_OPTIONS if entry.get(key) is not None},
        )
        _clusters[server] = (fingerprint, cluster)
        return cluster


def _scheduler_of(soft: str, commands: SiteCommands) -> str | Scheduler:
    if soft == "auto":
        return soft
    scheduler = get(soft)
    # What is started without a scheduler has no commands that a site could name.
    if commands == SiteCommands() or scheduler.name == "direct":
        return scheduler
    return Custom(scheduler, commands)
