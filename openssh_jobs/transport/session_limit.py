"""The limit of concurrent sessions of this process on one route, and the wait for a free one."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SLOT_TIMEOUT = 120.0
"""Seconds without any session becoming free before ``SessionLimit`` is raised."""
NESTED_TIMEOUT = 2.0
"""The same for a call that interrupts another one, which cannot end in the meantime."""


class Patience:
    """How long to wait for a session: as long as others of this process end, at most ``until``."""

    def __init__(self, until: float | None = None) -> None:
        self._began = time.monotonic()
        self._until = until

    def left(self, freed_at: float) -> float:
        """Seconds left if the last session of this process ended at ``freed_at``."""
        now = time.monotonic()
        left = max(self._began, freed_at) + SLOT_TIMEOUT - now
        return left if self._until is None else min(left, self._until - now)

    @property
    def spent(self) -> float:
        """Seconds since the wait began."""
        return time.monotonic() - self._began


class Slot:
    """One of the sessions that this process may have at a time; released once."""

    def __init__(self, slots: Slots) -> None:
        self._slots: Slots | None = slots
        self._open = False
        # Until ``kept`` it belongs to a call, which releases it at its end.
        self._caller: int | None = threading.get_ident()
        slots.callers[self._caller] += 1

    def opened(self) -> None:
        """Note that the session for which this slot was taken is open."""
        self._open = True
        if self._slots is not None:
            self._slots.opened()

    def kept(self) -> None:
        """Note that the slot is held beyond the call that took it, so its thread may wait again."""
        if self._slots is not None and self._caller is not None:
            self._slots.callers[self._caller] -= 1
            self._caller = None

    def release(self) -> None:
        """Release the slot; a second call does nothing."""
        slots, self._slots = self._slots, None
        if slots is not None:
            if self._caller is not None:
                slots.callers[self._caller] -= 1
            slots.give_back(was_open=self._open)


class Slots:
    """Counts this process's sessions on one route against a limit that refusals lower."""

    def __init__(self, limit: int, *, wide: bool = False) -> None:
        self._most = limit
        self._limit = limit
        self._used = 0
        self._good = 0
        self.freed_at = 0.0
        self._open = 0
        self._narrow = False
        self.wide = wide
        """Whether the server grants a second session: observed, or certain (``wide``)."""
        self._changed = threading.Condition()
        self.callers: Counter[int] = Counter()
        """How many slots the calls of each thread hold; more than one where calls are nested."""

    @property
    def interrupted_all(self) -> bool:
        """Whether all open sessions belong to calls that this thread interrupted.

        A call from a signal handler or a callback then cannot wait for any of them.
        """
        return 0 < self._used <= self.callers[threading.get_ident()]

    @property
    def used(self) -> int:
        """Sessions that are open now."""
        return self._used

    def acquire(self, patience: Patience, reclaim: Callable[[], None]) -> Slot:
        """Wait for a free slot; meanwhile reclaim idle held sessions of this process."""
        with self._changed:
            while self._used >= self._limit:
                left = patience.left(self.freed_at)
                if left <= 0 or self.interrupted_all:
                    raise TimeoutError
                self._changed.release()
                try:
                    reclaim()
                finally:
                    self._changed.acquire()
                if self._used >= self._limit:
                    self._changed.wait(min(left, 0.25))
            self._used += 1
        return Slot(self)

    def limit(self, most: int) -> None:
        """Lower the limit for good; sessions that are open stay open."""
        with self._changed:
            self._most = min(self._most, most)
            self._limit = min(self._limit, most)

    def opened(self) -> None:
        """Count a session that was opened in one of the slots."""
        with self._changed:
            self._open += 1
            self.wide = not self._narrow and (self.wide or self._open >= 2)

    def give_back(self, *, was_open: bool) -> None:
        """Count a slot that is free again."""
        with self._changed:
            self._used -= 1
            self._open -= was_open
            self.freed_at = time.monotonic()
            self._changed.notify()

    def refused(self) -> None:
        """Lower the limit for a while: the server refused one more session than are open."""
        with self._changed:
            self._good = 0
            self._limit = max(1, min(self._limit, self._used - 1))
            if self._open <= 1:
                # Not permanently: a session that just ended may still count on the server.
                self._narrow, self.wide = True, False

    def granted(self) -> None:
        """Count a granted session; after several in a row the limit is raised again."""
        with self._changed:
            self._good += 1
            if self._good >= 16 and self._limit < self._most:
                self._good = 0
                self._limit += 1
                self._changed.notify()
