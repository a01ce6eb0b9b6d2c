"""``Queries``: one query of a host at a time, in a thread of its own, shared by its callers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from ..errors import SchedulerError
from ..openssh import at_fork, locks

if TYPE_CHECKING:
    from ..commands.runner import Scope
    from ..host import Host

_SLACK = 0.5
"""Seconds beyond its deadline that a caller waits for the answer of a running query."""
_LONGEST_QUERY = 900.0
_STEP = 0.5


class Late(Exception):
    """The caller's deadline is over; the query goes on."""


class Query:
    """A query in a thread of its own, so that each caller has its own deadline."""

    def __init__(self, key: Hashable, work: Callable[[], Any], scope: Scope) -> None:
        self.key = key
        self.result: Any = None
        self.error: BaseException | None = None
        self.over = False
        self.callers = 0
        self.thread = 0
        self._work = work
        self._scope = scope
        # Held while the query runs.  Not an Event: a signal handler may wait, too.
        self._busy = threading.Lock()
        self._busy.acquire()

    def run(self) -> None:
        """Do the work; keep its result or error for the callers."""
        self.thread = threading.get_ident()
        try:
            with self._scope.entered():
                self.result = self._work()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self.error = error

    def finish(self) -> None:
        """Wake the callers."""
        self.over = True
        self._busy.release()

    def wait(self, deadline: float) -> bool:
        """Wait for the end; false at the deadline (``time.monotonic()``)."""
        while not self.over:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            # In steps, because what this interrupts may be about to give the lock back.
            if self._busy.acquire(timeout=min(left, _STEP)):
                self._busy.release()
        return True

    def end(self) -> None:
        """End what runs on the host: no caller is left."""
        if not self.over:
            self._scope.end()


class Queries:
    """The queries of one host, never two at a time.

    Threads that need the same answer share one query.  ``at_work``: the running query, if any.
    """

    def __init__(self, connection: Host, host: str) -> None:
        self._connection = connection
        self._host = host
        self.after_fork()
        at_fork.renew(self)

    def after_fork(self) -> None:
        self._state = locks.StateLock()
        self.at_work: Query | None = None

    def close(self) -> None:
        """End a query that no thread waits for."""
        query = self.at_work
        if query is not None and query.callers == 0:
            query.end()

    def ask(
        self, key: Hashable, work: Callable[[], Any], deadline: float | None = None
    ) -> tuple[Query, bool]:
        """Start a query, or wait for the running one; returns it and whether this call started it.

        Raises what the query raised, if it was of the same kind, and ``Late`` at the deadline.
        """
        # The query's thread may need what this thread holds.
        locks.refuse_inside("a question to the scheduler", self._host)
        with self._state:
            query = self.at_work
            mine = query is None
            if query is None:
                query = self.at_work = Query(key, work, self._connection.internal.scope())
                threaded = self._start(query)
            query.callers += 1
        try:
            if mine and not threaded:
                self._run(query)
            elif query.thread == threading.get_ident():
                raise locks.interrupted("a question to the scheduler", self._host)
            until = time.monotonic() + _LONGEST_QUERY
            if not query.wait(until if deadline is None else min(until, deadline + _SLACK)):
                if deadline is not None:
                    raise Late
                raise SchedulerError(
                    f"the query is still at work after {_LONGEST_QUERY:g} s",
                    kind="transport",
                    host=self._host,
                )
        except (Exception, GeneratorExit):
            query.callers -= 1
            raise
        except BaseException:
            # Ctrl-C: what runs on the host ends with its last caller.
            query.callers -= 1
            if query.callers == 0:
                query.end()
            raise
        query.callers -= 1
        if query.error is not None and (mine or query.key == key):
            raise query.error
        return query, mine

    def _start(self, query: Query) -> bool:
        """Start a query in a thread; false at the end of the program, where no thread can start."""
        thread = threading.Thread(
            target=self._run, args=(query,), name="openssh-jobs-query", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            return False
        except BaseException:
            # Ctrl-C: the thread may run already, and then leaves ``at_work`` itself.
            query.end()
            if thread.ident is None:
                self.at_work = None
            raise
        return True

    def _run(self, query: Query) -> None:
        query.run()
        # First let the next query begin: a caller that goes on must not find this one again.
        with self._state:
            if self.at_work is query:
                self.at_work = None
        query.finish()
