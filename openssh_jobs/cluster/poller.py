"""``Poller``: one query for all jobs of a host, no more often than the site allows."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .. import logs, settings
from ..errors import (
    CommandFailed,
    CommandTimeout,
    ConnectError,
    ConnectionLost,
    HostUnreachable,
    InputError,
    JumpHostFailed,
    SchedulerError,
    SessionLimit,
    Throttled,
)
from ..jobs import JobStatus, Snapshot
from ..schedulers.answer import Answer
from ..schedulers.base import Scheduler
from .history import NAME as HISTORY
from .history import History
from .learned import Learned
from .query import Late, Queries
from .shared_poll import Lease, Outcome, Pause, SharedPoll
from .tracker import FIRST_LOOK, Tracker, rest_after

if TYPE_CHECKING:
    from .exit_record import ExitRecords
    from .scheduler_client import SchedulerClient
    from .tidy import Tidy

log = logs.logger("openssh_jobs.cluster")

# Kinds of errors that end a query; they end a wait only if the next query has the same.
FINAL = frozenset(("permission", "scheduler_missing", "invalid_request", "unsupported"))
NO_ANSWER = (ConnectionLost, CommandTimeout, SessionLimit, CommandFailed)
# Errors of a connection that pass by themselves, if the host was reached before.
PASSING = (HostUnreachable, Throttled, JumpHostFailed)
# Names of the queries that processes share, beside the history.
_QUEUE, _LISTS = "queue", {False: "jobs of this user", True: "jobs of all users"}
_BUSY = 0.1
"""Seconds between two looks for the answer that another process is getting."""


class _CachedList(NamedTuple):
    """A list of jobs: when its query ended, for how many seconds it is good, changes before it."""

    ended: float
    good_for: float
    changes: int
    statuses: list[JobStatus]


class Poller:
    """Keeps a ``Tracker`` up to date.

    ``interval``: the caller's least seconds between two queries, ``None`` for the scheduler's own.
    ``queries`` counts those of the queue by this object.  Threads and processes that need the same
    answer share one query; what is known already is returned without one.  ``upkeep`` removes what
    is left of old jobs.
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
        self._floor: float | None = None
        self._listed: dict[bool, _CachedList] = {}
        self._answer: tuple[float, Answer] | None = None
        # The script for the next query, and the ids that it is about.
        self._script: tuple[tuple[str, ...], str] = (), ""
        self.queries = 0
        self._queries = Queries(client.connection, client.host)
        self._shared = SharedPoll(client)
        self._history = History(client, tracker, self._shared)
        self._seen = 0
        self._too_early_until = 0.0
        self._final: SchedulerError | None = None

    @property
    def interval(self) -> float:
        """The least seconds between two queries of the queue, as far as the scheduler is known."""
        if self._floor is None:
            self._floor = settings.poll_floor(self._client.connection.host) or 0.0
        asked = self._interval
        if asked is None:
            known = self._client.known
            asked = Scheduler.poll_floor if known is None else known.poll_floor
        return max(self._floor, self._client.policy.poll_floor or 0.0, asked)

    @property
    def is_asking(self) -> bool:
        """Whether a query is running."""
        return self._queries.at_work is not None

    @property
    def _history_interval(self) -> float | None:
        """The least seconds between two queries of the history; ``None``: it is not shared."""
        scheduler = self._client.scheduler()
        if self.interval <= 0:
            return None
        factor = 1.0
        if self._interval is not None and scheduler.poll_floor > 0:
            factor = min(1.0, self._interval / scheduler.poll_floor)
        floor = self._client.policy.history_floor or 0.0
        return max(self.interval, floor, scheduler.history_floor * factor)

    def close(self) -> None:
        """End a query that no thread waits for."""
        self._queries.close()
        self._shared.follow(_QUEUE, ())

    def outdate(self, *submitted: str) -> None:
        """Note that something was done to jobs, or which were submitted: the next look is early."""
        for job_id in submitted:
            self.tracker.add_submitted(job_id, self.interval)
        if not submitted:
            self.tracker.outdate()
        self._shared.note_change(_LISTS.values())

    @staticmethod
    def _sleep(seconds: float, deadline: float | None) -> None:
        """Sleep, holding no lock; raises ``Late`` where the deadline comes first."""
        left = seconds if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise Late
        time.sleep(min(seconds, left))

    # ------------------------------------------------------------------ these jobs

    def status(
        self, wanted: Sequence[str], deadline: float | None = None, pause: float = 0.0
    ) -> Snapshot:
        """See ``Cluster.status``; raises ``Late`` if a query is still running at ``deadline``.

        ``pause``: an answer that is younger is good enough, if that is more than the interval.
        """
        if not wanted:
            raise InputError("no job ids given", host=self.host)
        _held = self.tracker.follow(*wanted)
        while (wait := self.tracker.seconds_until(wanted, self._rest(pause))) is not None:
            if wait > 0 and not self._is_answered(wanted):
                self._sleep(wait, deadline)
            query, mine = self._queries.ask("status", partial(self._serve, wanted, pause), deadline)
            if not mine:
                continue
            if query.result is True:
                break
            if isinstance(query.result, Pause) and query.result.seconds > 0:
                if query.result.busy:
                    self._sleep(min(query.result.seconds, _BUSY), deadline)
                elif self._final is not None:
                    raise self._final
                elif self.tracker.never_queried(wanted):
                    self._sleep(query.result.seconds, deadline)
                else:
                    self._too_early_until = time.monotonic() + query.result.seconds
                    break
        return self.tracker.snapshot(wanted)

    def _rest(self, pause: float) -> float:
        """Seconds for which an answer is good enough for a caller who pauses so long."""
        return self.interval if self.tracker.is_failing else max(self.interval, pause)

    def _is_answered(self, wanted: Sequence[str]) -> bool:
        """Whether the last answer is young enough to look for new jobs in it."""
        young = self._answer and time.monotonic() - self._answer[0] < self.interval
        return bool(young and self.tracker.never_queried(wanted))

    def _serve(self, wanted: Sequence[str], pause: float) -> bool | Pause:
        """Query these jobs.

        False if an answer of the last interval covers them, a ``Pause`` if that cannot be done now.
        """
        scheduler = self._client.scheduler()
        _held = self.tracker.follow(*wanted)  # for a caller that has left meanwhile
        # Where there is no interval, an answer of another process would be old at once.
        shares = self.interval > 0 or pause >= FIRST_LOOK
        if shares:
            self._hear(scheduler, pause)
        if self._is_answered(wanted):
            self._look_at_last_answer(scheduler, wanted)
        if self.tracker.seconds_until(wanted, self._rest(pause)) != 0.0:
            return False
        following, lease = self.tracker.unsettled(wanted), None
        if shares:
            # Raises here, not elsewhere, for what is no id.
            self._script = tuple(following), scheduler.status_script(following)
            taken = self._shared.take(_QUEUE, following, interval=self.interval, seen=self._seen)
            if isinstance(taken, Pause):
                return taken
            lease = taken
        with lease or contextlib.nullcontext():
            self._refresh(scheduler, following, lease)
        return True

    def _look_at_last_answer(self, scheduler: Scheduler, wanted: Sequence[str]) -> None:
        """Look in the last answer for jobs that are followed only since then."""
        new = self.tracker.never_queried(wanted)
        if new and self._answer is not None:
            self.tracker.take_more(scheduler.parse_status(self._answer[1], requested=new))
            self._query_history(scheduler, self.tracker.without_exit_code(new))
            self._learned.write(new)
            self._answer = self._answer if not self.tracker.never_queried(new) else None

    def _hear(self, scheduler: Scheduler, pause: float) -> None:
        """Take what another process has found out since the last look."""
        outcome = self._shared.news(_QUEUE, self._seen)
        if outcome is None:
            return
        self._seen = outcome.stamp
        if not outcome.is_good(self._rest(pause)):
            return
        following = self.tracker.unsettled()
        if outcome.error is not None:
            self._hear_failure(outcome, outcome.error, following)
        elif outcome.answer is not None:
            answer = outcome.answer
            try:
                snapshot = self._parsed(scheduler, answer, following)
            except SchedulerError as error:
                self._failed(error, following, outcome.began)
                return
            self._answer, self._final = (outcome.began, answer), None
            self.tracker.take_answer(
                snapshot,
                outcome.taken,
                outcome.began,
                ended=outcome.ended,
                covers=outcome.covers,
            )
            self._query_further(scheduler, following)
        self._shared.follow(_QUEUE, self.tracker.unsettled())

    def _hear_failure(
        self, outcome: Outcome, error: SchedulerError, following: Sequence[str]
    ) -> None:
        if error.kind in FINAL:
            self._final = self._client.placed(error)
            raise self._final
        self.tracker.take_failure(
            error, following, outcome.began, ended=outcome.ended, failures=outcome.failures
        )

    def _parsed(self, scheduler: Scheduler, answer: Answer, following: Sequence[str]) -> Snapshot:
        return scheduler.parse_status(answer, requested=[*following, *self.tracker.settled()])

    def _refresh(self, scheduler: Scheduler, following: Sequence[str], lease: Lease | None) -> None:
        """Query the queue, then the history for what has left it."""
        ids = following if lease is None else lease.ids
        taken, began = datetime.now(UTC), time.monotonic()
        self.queries += 1
        try:
            due = self._upkeep.due() if self._upkeep is not None else []
            old = [row.job_id for row in due if row.job_id]
            asked, script = self._script
            self._script = (), ""
            if asked != (*ids, *old):
                script = scheduler.status_script([*ids, *old])
            answer = self._client.ask(script)
            snapshot = self._parsed(scheduler, answer, following)
        except (*NO_ANSWER, OSError) as error:
            failure = self._no_answer(error)
        except ConnectError as error:
            # Raised where the host never answered; otherwise what passes is only no answer.
            if not self.tracker.has_answered or not isinstance(error, PASSING):
                raise
            failure = self._no_answer(error)
        except SchedulerError as error:
            failure = self._client.placed(error)
            log.warning("%s: %s", self.host, error.message)
        else:
            stamp = None if lease is None else lease.answered(answer, ids, began, taken)
            self._seen = stamp or self._seen
            self._answer, self._final = (began, answer), None
            # Stamp 0: this process was stopped meanwhile, so the time says nothing of the host.
            ended = began if stamp == 0 else None if lease is None else lease.ended(began)
            self.tracker.take_answer(snapshot, taken, began, ended=ended)
            self._query_further(scheduler, following)
            if self._upkeep is not None and due:
                self._upkeep.begin(due, answer)
            return
        is_final = failure.kind in FINAL
        if lease is not None:
            self._seen = lease.failed(failure, began, taken, rests=not is_final) or self._seen
        self._failed(failure, following, began, None if lease is None else lease.ended(began))

    def _failed(
        self,
        error: SchedulerError,
        following: Sequence[str],
        began: float,
        ended: float | None = None,
    ) -> None:
        if error.kind in FINAL:
            self._final = error
            raise error
        self.tracker.take_failure(error, following, began, ended=ended)

    def _no_answer(self, error: Exception) -> SchedulerError:
        message = getattr(error, "message", str(error))
        log.warning("%s: no answer of the queue: %s", self.host, message)
        failure = SchedulerError(message, kind="transport", host=self.host)
        failure.__cause__ = error
        return failure

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
        # Also for none: one that was put off for a job that is listed again is due no more.
        self._query_history(scheduler, open_questions)
        if open_questions:
            self._read_exit_records(scheduler, following)
        self._compare_with_records(scheduler, following)
        self._learned.write(following, listed)
        self._learned.forget_ended()

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
                if self.tracker.awaits_history(job_id):
                    continue  # only then there is nothing else to ask
                before = self.tracker.lack_record(job_id, said)
                log.info("%s: job %s left the queue; %s; %s", self.host, job_id, before, said)
            else:
                self.tracker.take_record(said)

    def _query_history(self, scheduler: Scheduler, gone: Sequence[str]) -> None:
        self._history.query(scheduler, gone, self._history_interval)

    # ------------------------------------------------------------------ for those who wait

    def seconds_until_due(self, pause: float) -> float:
        """Seconds until the next query for a caller who pauses so long between two of them."""
        due = self.tracker.seconds_until_due(self._rest(pause))
        return max(due, self._too_early_until - time.monotonic())

    def has_news(self) -> bool:
        """Whether another process has found out something, or the history can be queried now."""
        seen, due = {_QUEUE: self._seen}, self._history.due_at
        if due is not None:
            if time.monotonic() >= due:
                return True
            seen[HISTORY] = self._history.seen
        return self._shared.has_news(seen)

    def take_news(self, pause: float, deadline: float | None) -> None:
        """Take what others found out, and query the history where that was put off."""
        self._queries.ask("news", partial(self._take_news, pause), deadline)

    def _take_news(self, pause: float) -> None:
        scheduler, answers = self._client.scheduler(), self.tracker.answers
        self._hear(scheduler, pause)
        if self._history.due_at is not None and self.tracker.answers == answers:
            self._query_further(scheduler, self.tracker.unsettled())

    def end_wait(self) -> None:
        """Where no job is followed any more, others need not query for this process."""
        if not self.tracker.unsettled():
            self._shared.follow(_QUEUE, ())

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
            if mine and isinstance(query.result, Pause):
                time.sleep(min(query.result.seconds, _BUSY))
            elif mine:
                return list(query.result)

    def _list(self, all_users: bool) -> list[JobStatus] | Pause:
        """All jobs; a ``Pause`` while another process lists them."""
        scheduler = self._client.scheduler()
        name, lease = _LISTS[all_users], None
        if self.interval > 0:
            last = self._shared.news(name, 0)
            since = max(self.tracker.changed_at, self._shared.changed(name))
            is_new = last is not None and last.is_good(self.interval) and last.began > since
            if last is not None and last.answer is not None and is_new:
                return self._listing(scheduler, all_users, last.answer, last)
            seen = 0 if last is None else last.stamp
            taken = self._shared.take(name, (), interval=self.interval, seen=seen)
            if isinstance(taken, Pause) and (taken.busy or taken.seconds == 0):
                return taken
            # Too early for a query, but something was done since the last one.
            lease = None if isinstance(taken, Pause) else taken
        self.queries += 1
        # What is done from now on may not be in the answer.
        when, began = datetime.now(UTC), time.monotonic()
        with lease or contextlib.nullcontext():
            answer = self._client.ask(scheduler.status_script((), all_users=all_users))
            stopped = None if lease is None else lease.ended(began)
            ended = time.monotonic() if stopped is None else stopped
            asked = Outcome(0, began, ended, when, answer=answer)
            statuses = self._listing(scheduler, all_users, answer, asked)
            if lease is not None:
                lease.answered(answer, (), began, when)
        return statuses

    def _listing(
        self, scheduler: Scheduler, all_users: bool, answer: Answer, asked: Outcome
    ) -> list[JobStatus]:
        """The jobs in a listing; it serves those that are followed, too."""
        changes = self.tracker.changes if self.tracker.changed_at <= asked.began else -1
        try:
            snapshot = scheduler.parse_status(answer)
            if snapshot.error is not None:
                raise snapshot.error
            if not all_users:
                following = self.tracker.unsettled()
                watched = self._parsed(scheduler, answer, following)
                self._answer = (asked.began, answer)
                self.tracker.take_answer(watched, asked.taken, asked.began, ended=asked.ended)
                self._query_further(scheduler, following, snapshot)
        except SchedulerError as error:
            raise self._client.placed(error) from None
        if all_users:
            self._learned.write_listing(snapshot, asked.taken)
        statuses = list(snapshot.known.values())
        good_for = rest_after(asked.ended - asked.began, self.interval)
        self._listed[all_users] = _CachedList(asked.ended, good_for, changes, statuses)
        return statuses
