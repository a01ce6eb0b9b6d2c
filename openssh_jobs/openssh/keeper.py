"""Looks after what is held: gives idle sessions back, and sees that no wait is for ever.

Sessions are scarce, and shared with the user's other processes.  One daemon thread a process,
alive only while something is held.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Protocol

IDLE_SECONDS = 3.0
_STEP = 0.25


class Holder(Protocol):
    """Something that may hold sessions: a lane between calls, or the sessions of a master."""

    def give_back(self, *, idle_for: float) -> bool:
        """Close the held session if unused for so many seconds; true if none is held now."""


_lock = threading.Lock()
# No weak references: what a dropped Connection still held has to be given back, too.
_holders: set[Holder] = set()
_running = False


def watch(holder: Holder) -> None:
    """See to it that a holder's session is given back when it is idle."""
    global _running
    with _lock:
        _holders.add(holder)
        if not _running:
            _running = True
            threading.Thread(target=_watch, name="openssh-jobs-keeper", daemon=True).start()


def _watch() -> None:
    global _running
    while True:
        time.sleep(_STEP)
        with _lock:
            current = list(_holders)
        for holder in current:
            if holder.give_back(idle_for=IDLE_SECONDS):
                with _lock:
                    _holders.discard(holder)
        del current
        with _lock:
            if not _holders:
                _running = False
                return


def _after_fork() -> None:
    global _lock, _holders, _running
    _lock = threading.Lock()
    _holders = set()
    _running = False


os.register_at_fork(after_in_child=_after_fork)
