"""``Poller``: one query for all jobs of a host, no more often than the site allows."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .. import settings
from ..errors import (
    CommandFailed,
    CommandTimeout,
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    HostUnreachable,
    InputError,
    JumpHostFailed,
    OpenSSHJobsError,
    SchedulerError,
    SessionLimit,
    Throttled,
)
from ..jobs import JobStatus, Snapshot
from ..schedulers.answer import Answer
from ..schedulers.base import Scheduler
from .learned import Learned
from .query import Late, Queries
from .tracker import FIRST_LOOK, Tracker, rest_after

if TYPE_CHECKING:
    from .exit_record import ExitRecords
    from .scheduler_client import SchedulerClient
    from .tidy import Tidy

log = logging.getLogger("openssh_jobs.cluster")

_QUICKEST, _SLOWEST = 0.2, 60.0
# Kinds of errors that end a query; they end a wait only if the next query has the same.
_FINAL = frozenset(("permission", "scheduler_missing", "invalid_request", "unsupported"))
_FINAL_REST = 2.0
_NO_ANSWER = (ConnectionLost, CommandTimeout, SessionLimit, CommandFailed)
# Errors of a connection that pass by themselves, if the host was reached before.
_PASSING = (HostUnreachable, Throttled, JumpHostFailed)


class _CachedList(NamedTuple):
    """A list of jobs: when its query ended, for how many seconds it is good, changes before it."""

    ended: float
    good_for: float
    changes: int
    statuses: list[JobStatus]


class Poller:
    """Keeps a ``Tracker`` up to date.

    ``interval``: the caller's least seconds between two queries, ``None`` for the scheduler's own.
    ``queries`` counts those of the queue.  Threads that need the same answer share one query; what
    is known already is returned without one.  ``upkeep`` removes what is left of old jobs.
    """

    def __init__(
        self,
        client: SchedulerClient,
        records: ExitRecords,
        tracker: Tracker,
        interval: float | None,
        upkeep: Tidy | None = None,
    ) -> None:
        self._client = client
        self._records = records
        self.host = client.host
        self.tracker = tracker
        self._learned = Learned(client, tracker)
        self._interval = interval
        self._upkeep = upkeep
        self._site_floor: float | None = None
        self._listed: dict[bool, _CachedList] = {}
        self._answer: tuple[float, Answer] | None = None
        self.queries = 0
        self._queries = Queries(client.connection, client.host)

    @property
    def interval(self) -> float:
        """The least seconds between two queries of the queue, as far as the scheduler is known."""
        if self._site_floor is None:
            self._site_floor = settings.poll_floor(self._client.connection.host) or 0.0
        asked = self._interval
        if asked is None:
            known = self._client.known
            asked = Scheduler.poll_floor if known is None else known.poll_floor
        return max(self._site_floor, asked)

    @property
    def is_asking(self) -> bool:
        """Whether a query is running."""
        return self._queries.at_work is not None

    def close(self) -> None:
        """End a query that no thread waits for."""
        self._queries.close()

    @staticmethod
    def _sleep(seconds: float, deadline: float | None) -> None:
        """Sleep, holding no lock; raises ``Late`` where the deadline comes first."""
        left = seconds if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise Late
        time.sleep(min(seconds, left))

    # ------------------------------------------------------------------ these jobs

    def status(self, wanted: Sequence[str], deadline: float | None = None) -> Snapshot:
        """See ``Cluster.status``; raises ``Late`` if a query is still running at ``deadline``."""
        if not wanted:
            raise InputError("no job ids given", host=self.host)
        self.tracker.follow(*wanted)
        while (pause := self.tracker.seconds_until(wanted, self.interval)) is not None:
            if pause > 0 and not self._is_answered(wanted):
                self._sleep(pause, deadline)
            query, mine = self._queries.ask("status", partial(self._serve, wanted), deadline)
            if mine and query.result:
                break
        return self.tracker.snapshot(wanted)

    def _is_answered(self, wanted: Sequence[str]) -> bool:
        """Whether the last answer is young enough to look for new jobs in it."""
        young = self._answer and time.monotonic() - self._answer[0] < self.interval
        return bool(young and self.tracker.never_queried(wanted))

    def _serve(self, wanted: Sequence[str]) -> bool:
        """Query these jobs; false if the last answer covers them, or the interval is not over."""
        scheduler = self._client.scheduler()
        if self._is_answered(wanted):
            self._look_at_last_answer(scheduler, wanted)
        if self.tracker.seconds_until(wanted, self.interval) != 0.0:
            return False
        self._refresh(scheduler, wanted)
        return True

    def _look_at_last_answer(self, scheduler: Scheduler, wanted: Sequence[str]) -> None:
        """Look in the last answer for jobs that are followed only since then."""
        new = self.tracker.never_queried(wanted)
        if new and self._answer is not None:
            self.tracker.take_more(scheduler.parse_status(self._answer[1], requested=new))
            self._query_history(scheduler, self.tracker.without_exit_code(new))
            self._learned.write(new)
            self._answer = self._answer if not self.tracker.never_queried(new) else None

    def _refresh(self, scheduler: Scheduler, wanted: Sequence[str]) -> None:
        """Query the queue, then the history for what has left it."""
        following, changes = self.tracker.unsettled(wanted), self.tracker.changes
        taken, began = datetime.now(UTC), time.monotonic()
        self.queries += 1
        try:
            due = self._upkeep.due() if self._upkeep is not None else []
            old = [row.job_id for row in due if row.job_id]
            answer = self._client.ask(scheduler.status_script([*following, *old]))
            snapshot = scheduler.parse_status(
                answer, requested=[*following, *self.tracker.settled()]
            )
        except (*_NO_ANSWER, OSError) as error:
            self._no_answer(error, following, began)
            return
        except ConnectError as error:
            # Raised where the host never answered; otherwise what passes is only no answer.
            if not self.tracker.has_answered or not isinstance(error, _PASSING):
                raise
            self._no_answer(error, following, began)
            return
        except SchedulerError as error:
            self._client.placed(error)
            if error.kind in _FINAL:
                raise
            log.warning("%s: %s", self.host, error.message)
            self.tracker.take_failure(error, following, began)
            return
        self._answer = (began, answer)
        self.tracker.take_answer(snapshot, taken, began, changes)
        self._query_further(scheduler, following)
        if self._upkeep is not None and due:
            self._upkeep.begin(due, answer)

    def _no_answer(self, error: Exception, following: Sequence[str], began: float) -> None:
        message = getattr(error, "message", str(error))
        log.warning("%s: no answer of the queue: %s", self.host, message)
        failure = SchedulerError(message, kind="transport", host=self.host)
        failure.__cause__ = error
        self.tracker.take_failure(failure, following, began)

    def _query_further(
        self, scheduler: Scheduler, following: Sequence[str], listed: Snapshot | None = None
    ) -> None:
        """Query what the queue did not say: the history, then the exit records.

        ``listed``: all jobs in the answer, for the journal.
        """
        open_questions = [
            *self.tracker.without_exit_code(following),
            *self.tracker.gone(following),
            *self.tracker.unclear(following),
        ]
        if open_questions:
            self._query_history(scheduler, open_questions)
            self._read_exit_records(scheduler, following)
        self._compare_with_records(scheduler, following)
        self._learned.write(following, listed)

    def _compare_with_records(self, scheduler: Scheduler, following: Sequence[str]) -> None:
        """Where a scheduler may report a wrong exit code, the exit records win."""
        how = scheduler.convention
        if how is None or not how.is_better:
            return
        ended = [job_id for job_id in following if self.tracker.is_settled(job_id)]
        for said in self._records.read(ended).values():
            if not isinstance(said, str):
                self.tracker.correct(said, scheduler.name)

    def _read_exit_records(self, scheduler: Scheduler, following: Sequence[str]) -> None:
        """Read the exit records of jobs about which nothing else is known."""
        gone = self.tracker.gone(following)
        if not gone or scheduler.name == "direct":
            return
        for job_id, said in self._records.read(gone).items():
            if isinstance(said, str):
                before = self.tracker.lack_record(job_id, said)
                log.info("%s: job %s left the queue; %s; %s", self.host, job_id, before, said)
            else:
                self.tracker.take_record(said)

    def _query_history(self, scheduler: Scheduler, gone: Sequence[str]) -> None:
        if not gone:
            return
        since = self.tracker.submitted_since(gone)
        script = scheduler.history_script(gone, since=since)
        if script is None:
            why = f"{scheduler.name} keeps no history"
            # Without an accounting script, a missing history proves nothing.
            none_kept = scheduler.accounting_script() is not None
            self.tracker.lack_history(gone, why, for_good=True, none_kept=none_kept)
            return
        try:
            answer = self._client.ask(script)
            found = scheduler.parse_history(
                answer,
                requested=gone,
                since=since,
            )
        except (*_NO_ANSWER, ConnectError, SchedulerError) as error:
            log.info("%s: the accounting query failed: %s", self.host, error)
            self.tracker.lack_history(gone, f"the history did not answer: {error.message}")
            return
        self.tracker.take_history(found, gone)

    # ------------------------------------------------------------------ all jobs

    def jobs(self, all_users: bool) -> list[JobStatus]:
        """See ``Cluster.jobs``."""
        while True:
            listed = self._listed.get(all_users)
            if (
                listed is not None
                and listed.changes == self.tracker.changes
                and time.monotonic() - listed.ended < listed.good_for
            ):
                return list(listed.statuses)
            query, mine = self._queries.ask(("jobs", all_users), partial(self._list, all_users))
            if mine:
                return list(query.result)

    def _list(self, all_users: bool) -> list[JobStatus]:
        scheduler = self._client.scheduler()
        self.queries += 1
        # What is done from now on may not be in the answer.
        changes = self.tracker.changes
        taken, began = datetime.now(UTC), time.monotonic()
        answer = self._client.ask(scheduler.status_script((), all_users=all_users))
        try:
            snapshot = scheduler.parse_status(answer)
            if snapshot.error is not None:
                raise snapshot.error
            if not all_users:
                # The same answer serves all jobs that are followed.
                following = self.tracker.unsettled()
                watched = scheduler.parse_status(
                    answer, requested=[*following, *self.tracker.settled()]
                )
                self._answer = (began, answer)
                self.tracker.take_answer(watched, taken, began, changes)
                self._query_further(scheduler, following, snapshot)
        except SchedulerError as error:
            raise self._client.placed(error) from None
        if all_users:
            self._learned.write_listing(snapshot, taken)
        statuses = list(snapshot.known.values())
        ended = time.monotonic()
        good_for = rest_after(ended - began, self.interval)
        self._listed[all_users] = _CachedList(ended, good_for, changes, statuses)
        return statuses

    # ------------------------------------------------------------------ waiting

    def settling(self, wanted: Sequence[str], timeout: float | None) -> Iterator[str]:
        """Yield each id when its job is over, with ever longer pauses between queries.

        ``TimeoutError`` after ``timeout`` seconds, also during a query (which goes on).
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pending = list(dict.fromkeys(wanted))
        pause = min(FIRST_LOOK, max(self.interval, _QUICKEST))
        trouble: OpenSSHJobsError | None = None
        while pending:
            try:
                self.status(pending, deadline)
                trouble = trouble if self.tracker.is_failing else None
            except Late:
                pass
            except (OpenSSHJobsError, OSError) as error:
                trouble = self._not_the_end(error, trouble)
            over = [job_id for job_id in pending if self.tracker.is_over(job_id)]
            for job_id in over:
                pending.remove(job_id)
                yield job_id
            if not pending:
                return
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                states = ", ".join(
                    f"{job_id} {self.tracker.status(job_id).state}" for job_id in pending[:5]
                )
                raise TimeoutError(f"{self.host}: not over after {timeout:g} s: {states}")
            wait = max(self.tracker.seconds_until_due(self.interval), pause)
            if trouble is not None:
                wait = max(wait, self.interval, _FINAL_REST)
            wait *= 1 + 0.1 * random.random()  # noqa: S311 - jitter
            time.sleep(wait if left is None else max(0.01, min(wait, left)))
            pause = min(pause * 1.5, max(_SLOWEST, self.interval))

    def _not_the_end(
        self, error: OpenSSHJobsError | OSError, before: OpenSSHJobsError | None
    ) -> OpenSSHJobsError | None:
        """The error of a query, if the same error ends the wait the next time.

        A busy scheduler has many messages, and some of them are final elsewhere: so the same kind
        has to come twice, some time apart.  Raises ``error`` the second time, where the call makes
        no sense, and where the host was never reached and the user has to act.
        """
        if isinstance(error, ConfigurationError | InputError):
            raise error
        passing = isinstance(error, (*_NO_ANSWER, *_PASSING)) or not isinstance(
            error, ConnectError | SchedulerError
        )
        if isinstance(error, ConnectError) and not self.tracker.has_answered:
            if not passing:
                raise error
            passing = False
        if isinstance(error, SchedulerError):
            passing = error.kind not in _FINAL
        log.warning("%s: no answer of the queue: %s", self.host, getattr(error, "message", error))
        if passing or not isinstance(error, OpenSSHJobsError):
            return None
        if before is not None and _same(error, before):
            raise error
        return error


def _same(error: OpenSSHJobsError, before: OpenSSHJobsError) -> bool:
    kinds = getattr(error, "kind", None), getattr(before, "kind", None)
    return type(error) is type(before) and kinds[0] == kinds[1]
