"""ARC's settings, verbatim: which server is which cluster, and by which commands it is queried."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Mapping
from typing import Any

from .. import errors, logs, settings
from ..cluster.cluster import Cluster
from ..connection import Connection
from ..host import Host
from ..local_connection import LocalConnection
from ..openssh import known_hosts, ssh_config
from ..openssh.destination import Destination
from ..schedulers import get
from ..schedulers.base import Scheduler
from ..schedulers.site_commands import SiteCommands
from . import exceptions
from .listings import ArcCommands

logger = logs.logger("openssh_jobs.arc")

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
output_filenames: dict[str, str] = {}
TABLES: dict[str, dict[str, Any]] = {
    "servers": servers,
    "check_status_command": check_status_command,
    "submit_command": submit_command,
    "delete_command": delete_command,
    "list_available_nodes_command": list_available_nodes_command,
    "submit_filenames": submit_filenames,
    "output_filenames": output_filenames,
}

CONNECTION_OPTIONS = (
    "port", "jump", "ssh_config", "ssh_options", "forward_agent", "master", "persist",
    "connect_timeout", "exec_backend", "max_sessions", "responder", "start_timeout",
)  # fmt: skip
CLUSTER_OPTIONS = (
    "poll_interval", "grace", "record_exit", "login_shell", "prologue", "journal",
)  # fmt: skip

# As ARC ships them: nobody has edited such an entry yet.
_PLACEHOLDER, _PLACEHOLDER_ADDRESS = "<username>", ".host.edu"

_configured = False
# ARC makes a client for every question: what they know of the queue must outlive them.
_shared: dict[str, tuple[str, SharedServer]] = {}
_host_key_notes: set[str] = set()
_lock = threading.Lock()


def configure(**tables: Mapping[str, Any]) -> None:
    """Set what ARC's settings file holds: ``servers``, the five tables of commands, file names.

    Tables of commands are keyed by ``cluster_soft`` (``OGE SGE Slurm PBS HTCondor local``); their
    values may be shell text.  A table that is given replaces the old one, but for
    ``submit_filenames``, which is added to the defaults.  Raises ``InputError`` for a table that
    ARC does not know.
    """
    global _configured
    for name, values in tables.items():
        if name not in TABLES:
            raise exceptions.InputError(f"{name!r} must be one of {', '.join(TABLES)}")
        if not isinstance(values, Mapping):
            raise exceptions.InputError(f"{name} must be a table, not {type(values).__name__}")
    for name, values in tables.items():
        given = dict(values)  # it may be the very table
        table = TABLES[name]
        table.clear()
        if name == "submit_filenames":
            table.update(_DEFAULT_FILENAMES)
        table.update(given)
    _configured = True
    with _lock:
        _shared.clear()


def load() -> None:
    """Read ``servers.toml``, else ARC's own settings, unless ``configure`` was called."""
    exceptions.adopt_arcs()
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


def software_of(server: str) -> str:
    """The server's ``cluster_soft`` as it is spelled; ``auto`` where the entry has none."""
    return str(servers[server].get("cluster_soft", "auto"))


def commands_of(software: str) -> SiteCommands:
    """The commands that the settings name for a scheduler."""
    return SiteCommands(
        status=check_status_command.get(software),
        submit=submit_command.get(software),
        cancel=delete_command.get(software),
        nodes=list_available_nodes_command.get(software),
    )


class SharedServer:
    """The connection and the cluster that all clients of a server share."""

    def __init__(self, server: str, entry: Mapping[str, Any], commands: SiteCommands) -> None:
        self._entry = dict(entry)
        self._commands = commands
        self._cluster: Cluster | None = None
        self._lock = threading.Lock()
        self.connection = _connection_of(server, entry)

    @property
    def cluster(self) -> Cluster:
        """The scheduler there.  Raises ``ConfigurationError`` for an unknown ``cluster_soft``."""
        with self._lock:
            if self._cluster is None:
                entry = self._entry
                software = str(entry.get("cluster_soft", "auto"))
                self._cluster = Cluster(
                    self.connection,
                    scheduler=_scheduler_of(software, self._commands),
                    **{key: entry[key] for key in CLUSTER_OPTIONS if entry.get(key) is not None},
                )
            return self._cluster


def shared(server: str, entry: Mapping[str, Any], commands: SiteCommands) -> SharedServer:
    """What all clients of a server share, for as long as its settings stay the same.

    Raises ``ConfigurationError`` for settings that no connection can be made from.
    """
    fingerprint = repr((sorted(entry.items(), key=lambda item: item[0]), commands))
    with _lock:
        known = _shared.get(server)
        if known is None or known[0] != fingerprint:
            known = _shared[server] = (fingerprint, SharedServer(server, entry, commands))
        return known[1]


def _connection_of(server: str, entry: Mapping[str, Any]) -> Host:
    if server.lower() == "local" and not entry.get("address"):
        return _this_machine(entry)
    options = {key: entry[key] for key in CONNECTION_OPTIONS if entry.get(key) is not None}
    if entry.get("strict_host_key_checking"):
        strict = {"StrictHostKeyChecking": "yes"}
        options["ssh_options"] = {**strict, **options.get("ssh_options", {})}
    _note_host_key_policy(server, entry)
    return Connection(
        str(entry.get("address") or server),
        user=entry.get("un") or entry.get("user") or None,
        identity_file=entry.get("key") or entry.get("identity_file") or None,
        **options,
    )


def _this_machine(entry: Mapping[str, Any]) -> LocalConnection:
    """ARC's server ``local`` has no address: it is where this program runs."""
    options = {
        key: entry[key] for key in ("max_sessions", "start_timeout") if entry.get(key) is not None
    }
    return LocalConnection(**options)


def _note_host_key_policy(server: str, entry: Mapping[str, Any]) -> None:
    if entry.get("strict_host_key_checking", True) or server in _host_key_notes:
        return
    _host_key_notes.add(server)
    logger.warning(
        "%s: strict_host_key_checking is False, which made ARC accept any unknown host key. Host "
        "keys are checked here as your ssh configuration says; log in once with ssh, or add the "
        "key to known_hosts, if this host is not known yet.",
        server,
    )


def get_servers_missing_host_keys(
    server_dict: Mapping[str, Mapping[str, Any]] | None = None,
    known_hosts_path: str | None = None,
) -> dict[str, str]:
    """The addresses of the servers whose host key is not known here, by server.

    Looks into the files of the ssh configuration, or into ``known_hosts_path``, and asks no host.
    Left out are ``local``, entries without an address or with ARC's placeholders, and servers of
    which it cannot be told.
    """
    load()
    entries = servers if server_dict is None else server_dict
    paths = None if known_hosts_path is None else [os.path.expanduser(known_hosts_path)]
    missing = {}
    for server, entry in entries.items():
        address = str(entry.get("address") or "")
        is_placeholder = address.endswith(_PLACEHOLDER_ADDRESS) or entry.get("un") == _PLACEHOLDER
        if not address or server.lower() == "local" or is_placeholder:
            continue
        try:
            known = _is_known(address, entry, paths)
        except errors.OpenSSHJobsError as error:
            logger.warning("%s: whether its host key is known cannot be told: %s", server, error)
            continue
        if known is False:
            missing[server] = address
    return missing


def check_servers_known_hosts(
    server_dict: Mapping[str, Mapping[str, Any]] | None = None,
    known_hosts_path: str | None = None,
) -> dict[str, str]:
    """``get_servers_missing_host_keys``; each of them is logged."""
    missing = get_servers_missing_host_keys(server_dict, known_hosts_path)
    for server, address in missing.items():
        is_strict = (server_dict or servers)[server].get("strict_host_key_checking")
        rule = "" if is_strict else " unless your ssh configuration accepts new keys"
        logger.warning(
            "%s: the host key of %s is not known here: logins by programs will be refused%s; log "
            "in once with `ssh %s`.",
            server, address, rule, address,
        )  # fmt: skip
    return missing


def _is_known(address: str, entry: Mapping[str, Any], paths: list[str] | None) -> bool | None:
    destination = Destination(
        host=address,
        user=entry.get("un") or entry.get("user") or None,
        port=entry.get("port"),
        jump=entry.get("jump"),
        ssh_config=entry.get("ssh_config"),
        ssh_options=dict(entry.get("ssh_options") or {}),
    )
    return known_hosts.is_known(ssh_config.resolve(destination), paths)


def _scheduler_of(software: str, commands: SiteCommands) -> str | Scheduler:
    if software == "auto":
        return software
    scheduler = get(software)
    # What is started without a scheduler has no commands that a site could name.
    if commands == SiteCommands() or scheduler.name == "direct":
        return scheduler
    return ArcCommands(scheduler, commands)
