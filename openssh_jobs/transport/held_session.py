"""One session that a lane keeps open between calls, and releases when it is idle.

Sessions are scarce and shared with the user's other processes: the reaper, another lane of this
process or the request of another process can reclaim an idle session at any time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from ..errors import ConnectError, ConnectionLost
from ..openssh import reaper
from ..openssh.locks import CallLock
from .base import Link

if TYPE_CHECKING:
    from collections.abc import Callable

    from .session_limit import Slot
    from .sessions import Sessions

GRACE = 2.0
"""Seconds for a released session to end before it is ended by force."""


class Worker(Protocol):
    """The process that uses the held session: a remote shell, a local sftp."""

    link: Link

    @property
    def is_alive(self) -> bool:
        """Whether it still runs, as far as is known without a round trip."""

    def close(self, *, grace: float) -> None:
        """End it; after ``grace`` seconds by force."""

    def abandon(self) -> None:
        """In a forked child: forget it, send nothing to it."""


W = TypeVar("W", bound=Worker)
R = TypeVar("R")


class WorkerLost(Exception):
    """The worker ended in the middle of a call; ``error`` is what the caller gets for that."""

    def __init__(self, error: ConnectionLost) -> None:
        super().__init__(str(error))
        self.error = error


class HeldSession(Generic[W]):
    """At most one worker, opened by ``start`` when a call needs it.

    ``what`` names a call in messages.  ``counts``: see ``CallLock``.
    """

    def __init__(
        self,
        sessions: Sessions,
        start: Callable[[Link, str], W],
        what: str,
        *,
        counts: bool = True,
    ) -> None:
        self._sessions = sessions
        self._start = start
        self._what = what
        self._counts = counts
        self.worker: W | None = None
        self.reset()
        sessions.on_reclaim(self._reclaim)

    def reset(self) -> None:
        """Forget all state, as after a fork."""
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.abandon()
        self._slot: Slot | None = None
        # Not reentrant: a call from a signal handler would disturb the one that it interrupts.
        self.lock = CallLock(self._what, self._sessions.host, counts=self._counts)
        self._used_at = 0.0
        self.started = 0

    def call(self, work: Callable[[W], R], what: str, *, again: bool) -> R:
        """Run ``work`` with the worker; the caller has the lock.

        A worker that failed is dropped.  ``again``: ``work`` is repeated once where it raised
        ``WorkerLost``.
        """
        lost: ConnectionLost | None = None
        for last in (not again, True):
            try:
                worker = self._hold(what)
            except ConnectError as error:
                if lost is None:
                    raise
                # Raise the first error, which is the cause; this one only follows from it.
                raise lost from error
            try:
                result = work(worker)
            except WorkerLost as ended:
                self.drop()
                self._sessions.forget(worker.link)
                if last:
                    raise ended.error from None
                lost = ended.error
                continue
            except BaseException:
                self.drop()
                raise
            self._used_at = time.monotonic()
            self._sessions.confirmed()
            if self._sessions.wanted_by_others():
                self.drop(grace=GRACE)
            return result
        raise AssertionError("not reached")

    @property
    def is_ready(self) -> bool:
        """Whether a worker is held that still runs."""
        return self.worker is not None and self.worker.is_alive

    def _hold(self, what: str) -> W:
        if self.worker is not None:
            if self.worker.is_alive:
                return self.worker
            self.drop()
        worker, slot = self._sessions.start(
            lambda link: self._start(link, what), what=what, again=True
        )
        slot.kept()
        self.worker, self._slot = worker, slot
        self.started += 1
        reaper.watch(self)
        return worker

    def drop(self, grace: float = 0.0) -> None:
        """End the worker, if one is held, and release its session."""
        worker, self.worker = self.worker, None
        slot, self._slot = self._slot, None
        if worker is not None:
            worker.close(grace=grace)
        if slot is not None:
            slot.release()

    def _reclaim(self) -> None:
        self.give_back(idle_for=0.0)

    def give_back(self, *, idle_for: float) -> bool:
        """End the worker if it is idle; true if none is held now."""
        if self.lock.is_mine or not self.lock.acquire(blocking=False):
            return False
        try:
            if self.worker is None:
                return True
            idle = time.monotonic() - self._used_at
            if idle >= idle_for or self._sessions.wanted_by_others():
                self.drop(grace=GRACE)
                return True
            return False
        finally:
            self.lock.release()

    def close(self) -> None:
        """Release the session now."""
        with self.lock:
            self.drop(grace=GRACE)
