"""Objects that are reset in a forked child.

A lock that another thread held when the process forked stays locked in the child for ever.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from .. import logs

log = logs.logger("openssh_jobs.sessions")


class Renewed(Protocol):
    """An object that can reset its locks in a forked child."""

    def after_fork(self) -> None: ...


_alive: weakref.WeakSet[Renewed] = weakref.WeakSet()


def renew(resource: Renewed) -> None:
    """Call ``after_fork`` of ``resource`` in every forked child, as long as it exists."""
    _alive.add(resource)


def _in_child() -> None:
    for resource in list(_alive):
        try:
            resource.after_fork()
        except Exception as error:  # noqa: BLE001 - the others need their reset too
            log.debug("after a fork: %s", repr(error))


os.register_at_fork(after_in_child=_in_child)
