"""Looks after what is held: gives idle sessions back, and sees that no wait is for ever.

Sessions are scarce, and shared with the user's other processes.  One daemon thread a process,
alive only while something is held.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Protocol

log = logging.getLogger("openssh_jobs.sessions")

IDLE_SECONDS = 3.0
_STEP = 0.25


class Holder(Protocol):
    """Something that may hold sessions: a lane between calls, or the sessions of a master."""

    def give_back(self, *, idle_for: float) -> bool:
        """Close the held session if unused for so many seconds; true if none is held now."""


# Reentrant: a signal handler may hold something in the middle of ``watch``.
_lock = threading.RLock()
# No weak references: what a dropped Connection still held has to be given back, too.
_holders: set[Holder] = set()
_running = False


def watch(holder: Holder) -> None:
    """See to it that a holder's session is given back when it is idle."""
    global _running
    with _lock:
        _holders.add(holder)
        if _running:
            return
        _running = True
        try:
            threading.Thread(target=_watch, name="openssh-jobs-reaper", daemon=True).start()
        except BaseException as error:
            # The next one who holds something tries again.
            _running = False
            if not isinstance(error, RuntimeError):
                raise
            # No threads are left, or the interpreter is about to end, and all sessions with it.
            log.debug("nobody looks after idle sessions: %s", error)


def _watch() -> None:
    global _running
    troubled: set[int] = set()
    while True:
        time.sleep(_STEP)
        with _lock:
            current = list(_holders)
        for holder in current:
            _look(holder, troubled)
        del current
        with _lock:
            if not _holders:
                _running = False
                return


def _look(holder: Holder, troubled: set[int]) -> None:
    """Ask one holder, and go on watching it unless it certainly holds nothing."""
    # Taken off before the question: what it begins to hold meanwhile puts it on again.
    with _lock:
        _holders.discard(holder)
    nothing_held = False
    try:
        nothing_held = holder.give_back(idle_for=IDLE_SECONDS)
    except BaseException as error:  # noqa: BLE001 - others have sessions to be given back, too
        if id(holder) not in troubled:
            log.warning("an idle session could not be given back: %r", error)
        troubled.add(id(holder))
    finally:
        if not nothing_held:
            with _lock:
                _holders.add(holder)


def _after_fork() -> None:
    global _lock, _holders, _running
    _lock = threading.RLock()
    _holders = set()
    _running = False


os.register_at_fork(after_in_child=_after_fork)
