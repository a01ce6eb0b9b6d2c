"""ARC's SSH client, call for call (``arc.job.ssh``), on a connection that is shared and guarded.

ARC's settings are taken verbatim; see ``configure``.  Statuses are ARC's words: ``running`` for
every job that is not known to be over, ``done`` for one that left output to read, ``errored…`` for
one that never ran or was taken away.  A query that failed is never a status.  docs/arc.rst is the
guide for moving over; ``openssh_jobs.arc.local`` stands for ``arc.job.local``,
``openssh_jobs.arc.pool`` for ``arc.job.ssh_pool``.
"""

from __future__ import annotations

import sys
import time
from types import ModuleType

from . import client, exceptions, files, listings, settings, statuses
from .client import (
    SSHClient,
    check_connections,
    check_job_status_in_stdout,
    delete_all_arc_jobs,
    delete_check_files_on_servers,
    logger,
)
from .exceptions import InputError, ServerError
from .settings import (
    check_servers_known_hosts,
    check_status_command,
    configure,
    delete_command,
    get_servers_missing_host_keys,
    list_available_nodes_command,
    servers,
    submit_command,
    submit_filenames,
)

__all__ = [
    "InputError",
    "SSHClient",
    "ServerError",
    "check_connections",
    "check_job_status_in_stdout",
    "check_servers_known_hosts",
    "check_status_command",
    "configure",
    "delete_all_arc_jobs",
    "delete_check_files_on_servers",
    "delete_command",
    "get_servers_missing_host_keys",
    "list_available_nodes_command",
    "logger",
    "servers",
    "submit_command",
    "submit_filenames",
    "time",
]

_PARTS = (client, exceptions, files, listings, settings, statuses)


class _OneModule(ModuleType):
    """``arc.job.ssh`` is one module, and ARC's tests replace names in it (``servers``, ``time``).

    A name that is replaced here is replaced in every part of this package that uses it.
    """

    def __setattr__(self, name: str, value: object) -> None:
        before = self.__dict__.get(name)
        super().__setattr__(name, value)
        for part in _PARTS:
            if before is not None and part.__dict__.get(name) is before:
                setattr(part, name, value)


sys.modules[__name__].__class__ = _OneModule
