"""Objects that begin anew in a forked child.

A lock that another thread held when the process forked stays locked in the child for ever.
"""

from __future__ import annotations

import logging
import os
import weakref
from typing import Protocol

log = logging.getLogger("openssh_jobs.sessions")


class Renewed(Protocol):
    """What can be made fit for use in a child."""

    def _after_fork(self) -> None: ...


_alive: weakref.WeakSet[Renewed] = weakref.WeakSet()


def renew(one: Renewed) -> None:
    """From now on call ``_after_fork`` of this object in every forked child, while it lives."""
    _alive.add(one)


def _in_child() -> None:
    for one in list(_alive):
        try:
            one._after_fork()
        except Exception as error:  # noqa: BLE001 - the others have locks of the parent's, too
            log.debug("after a fork: %r", error)


os.register_at_fork(after_in_child=_in_child)
