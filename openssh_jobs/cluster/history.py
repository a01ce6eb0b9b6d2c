"""``History``: how jobs ended, by one query of the accounting for all processes of this user."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .. import logs
from ..errors import (
    CommandFailed,
    CommandTimeout,
    ConnectError,
    ConnectionLost,
    SchedulerError,
    SessionLimit,
)
from .shared_poll import Lease, Pause, SharedPoll

if TYPE_CHECKING:
    from ..schedulers.answer import Answer
    from ..schedulers.base import Scheduler
    from .scheduler_client import SchedulerClient
    from .tracker import Tracker

log = logs.logger("openssh_jobs.cluster")

NAME = "history"
"""The name of its queries among those of a ``SharedPoll``."""
_NO_ANSWER = (ConnectionLost, CommandTimeout, SessionLimit, CommandFailed, ConnectError)
_BUSY = 1.0


class History:
    """Queries the history, and notes in the tracker what it says.

    ``due_at``: when the jobs may be queried for whose turn has not come yet (``time.monotonic``),
    ``None`` if there are none.  ``seen``: the stamp of the last query of any process.
    """

    def __init__(self, client: SchedulerClient, tracker: Tracker, shared: SharedPoll) -> None:
        self._client = client
        self._tracker = tracker
        self._shared = shared
        self.due_at: float | None = None
        self.seen = 0

    def query(self, scheduler: Scheduler, gone: Sequence[str], interval: float | None) -> None:
        """Query for these jobs, or use what another process has just found out.

        ``interval``: the least seconds between two queries; ``None``: this process queries alone.
        """
        self.due_at = None
        if not gone:
            return
        script = scheduler.history_script(gone, since=self._tracker.submitted_since(gone))
        if script is None:
            why = f"{scheduler.name} keeps no history"
            # Without an accounting script, a missing history proves nothing.
            none_kept = scheduler.accounting_script() is not None
            self._tracker.lack_history(gone, why, for_good=True, none_kept=none_kept)
            return
        left, lease = list(gone), None
        if interval is not None:
            while left:
                left = self._without_news(scheduler, left, interval)
                taken = self._shared.take(NAME, left, interval=interval, seen=self.seen)
                if not isinstance(taken, Pause):
                    lease = taken
                    break
                if taken.seconds > 0:
                    pause = min(taken.seconds, _BUSY) if taken.busy else taken.seconds
                    self.due_at = time.monotonic() + pause
                    self._tracker.defer_history(left)
                    return
        if left:
            self._ask(scheduler, left, lease)
        # The next query for a job that is still unknown begins with its own process.
        self._shared.follow(NAME, ())

    def _without_news(self, scheduler: Scheduler, gone: list[str], interval: float) -> list[str]:
        """Note what another process found out; returns the jobs that it did not ask about."""
        outcome = self._shared.news(NAME, self.seen)
        if outcome is None:
            return gone
        self.seen = outcome.stamp
        if not outcome.is_good(interval):
            return gone
        if outcome.error is not None:
            self._lacking(gone, outcome.error)
            return []
        mine = [job_id for job_id in gone if job_id in outcome.covers]
        if mine and outcome.answer is not None:
            try:
                self._take(scheduler, outcome.answer, mine)
            except SchedulerError as error:
                self._lacking(mine, error)
        return [job_id for job_id in gone if job_id not in outcome.covers]

    def _take(self, scheduler: Scheduler, answer: Answer, gone: Sequence[str]) -> None:
        since = self._tracker.submitted_since(gone)
        found = scheduler.parse_history(answer, requested=gone, since=since)
        self._tracker.take_history(found, gone)

    def _lacking(self, gone: Sequence[str], error: SchedulerError) -> None:
        self._tracker.lack_history(gone, f"the history did not answer: {error.message}")

    def _ask(self, scheduler: Scheduler, gone: Sequence[str], lease: Lease | None) -> None:
        since = self._tracker.submitted_since(gone) if lease is None else None
        ids = gone if lease is None else lease.ids
        began, taken = time.monotonic(), datetime.now(UTC)
        with lease or contextlib.nullcontext():
            try:
                answer = self._client.ask(scheduler.history_script(ids, since=since) or "")
                self._take(scheduler, answer, gone)
            except (*_NO_ANSWER, SchedulerError) as error:
                log.info("%s: the accounting query failed: %s", self._client.host, error)
                kind = error.kind if isinstance(error, SchedulerError) else "transport"
                failure = SchedulerError(error.message, kind=kind, host=self._client.host)
                self._lacking(gone, failure)
                if lease is not None:
                    lease.failed(failure, began, taken, rests=True)
            else:
                if lease is not None:
                    self.seen = lease.answered(answer, ids, began, taken) or self.seen
