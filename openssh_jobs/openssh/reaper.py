"""The reaper: a thread that closes idle sessions.

The server limits the sessions of a connection, and the user's other processes share them.  There
is one daemon thread per process, and it runs only while a session is held.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Protocol

from .. import logs

log = logs.logger("openssh_jobs.sessions")

IDLE_SECONDS = 3.0
_STEP = 0.25


class Holder(Protocol):
    """An object that may hold a session between calls."""

    def give_back(self, *, idle_for: float) -> bool:
        """Close the session if it was unused for ``idle_for`` seconds; true if none is held now."""


# Reentrant: a signal handler may call ``watch`` while its thread is in ``watch``.
_lock = threading.RLock()
# No weak references: the session of a dropped Connection has to be closed too.
_holders: set[Holder] = set()
_running = False


def watch(holder: Holder) -> None:
    """Have the session of ``holder`` closed when it is idle."""
    global _running
    with _lock:
        _holders.add(holder)
        if _running:
            return
        _running = True
        try:
            threading.Thread(target=_watch, name="openssh-jobs-reaper", daemon=True).start()
        except BaseException as error:
            # The next call of ``watch`` tries again.
            _running = False
            if not isinstance(error, RuntimeError):
                raise
            # The thread limit is reached, or the interpreter ends, and all sessions with it.
            log.debug("idle sessions are not closed: the reaper did not start: %s", error)


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
    """Call ``give_back`` of a holder; keep watching it unless it certainly holds nothing."""
    # Removed before the call: ``watch`` adds it again if it takes a session meanwhile.
    with _lock:
        _holders.discard(holder)
    nothing_held = False
    try:
        nothing_held = holder.give_back(idle_for=IDLE_SECONDS)
    except BaseException as error:  # noqa: BLE001 - the other holders' sessions come next
        if id(holder) not in troubled:
            log.warning("an idle session could not be given back: %s", repr(error))
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
