"""Asking the queue: one query for all jobs of a host, no more often than the site likes it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable, Iterator, Sequence
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
from ..schedulers.base import Scheduler
from .query import Late, Queries
from .tracker import FIRST_LOOK, Tracker, rest_after

if TYPE_CHECKING:
    from ..commands.result import CommandResult
    from .exit_record import ExitRecords
    from .scheduler_client import SchedulerClient

log = logging.getLogger("openssh_jobs.cluster")

_QUICKEST, _SLOWEST = 0.2, 60.0
# A query is given up with these; a wait only where the next one, some time later, says the same.
_FINAL = frozenset(("permission", "scheduler_missing", "invalid_request", "unsupported"))
_FINAL_REST = 2.0
_NO_ANSWER = (ConnectionLost, CommandTimeout, SessionLimit, CommandFailed)
# Ways of not getting through that pass by themselves, once the host was reached before.
_PASSING = (HostUnreachable, Throttled, JumpHostFailed)


class _Listing(NamedTuple):
    """A listing: when its query ended, for how long it is good, and what had been done before."""

    ended: float
    good_for: float
    changes: int
    statuses: list[JobStatus]


class Poller:
    """Keeps a ``Tracker`` up to date.

    ``interval``: the caller's least seconds between two queries, ``None`` for the scheduler's own.
    ``queries`` counts those of the queue.  Threads that want to know the same wait for one answer;
    what is known already is told without waiting.
    """

    def __init__(
        self,
        client: SchedulerClient,
        records: ExitRecords,
        tracker: Tracker,
        interval: float | None,
    ) -> None:
        self._client = client
        self._records = records
        self.host = client.host
        self.tracker = tracker
        self._interval = interval
        self._site_floor: float | None = None
        self._listed: dict[bool, _Listing] = {}
        self._answer: tuple[float, CommandResult[str]] | None = None
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
        """Whether a query is at work."""
        return self._queries.at_work is not None

    def close(self) -> None:
        """End a query that nobody waits for."""
        self._queries.close()

    @staticmethod
    def _sleep(seconds: float, deadline: float | None) -> None:
        """Rest, with nothing held; ``Late`` where the caller's time is over before that."""
        left = seconds if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise Late
        time.sleep(min(seconds, left))

    # ------------------------------------------------------------------ these jobs

    def status(self, wanted: Sequence[str], deadline: float | None = None) -> Snapshot:
        """See ``Cluster.status``; ``Late`` where a query is at work at ``deadline``."""
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
        return bool(young and self.tracker.never_asked(wanted))

    def _serve(self, wanted: Sequence[str]) -> bool:
        """Find out about these jobs; false where the last answer said it, or it is not the time."""
        scheduler = self._client.scheduler()
        if self._is_answered(wanted):
            self._look_at_last_answer(scheduler, wanted)
        if self.tracker.seconds_until(wanted, self.interval) != 0.0:
            return False
        self._refresh(scheduler, wanted)
        return True

    def _look_at_last_answer(self, scheduler: Scheduler, wanted: Sequence[str]) -> None:
        """A job that came under watch since may be in the last answer already."""
        strangers = self.tracker.never_asked(wanted)
        if strangers and self._answer is not None:
            self.tracker.take_more(_read(scheduler, self._answer[1], strangers))
            self._ask_history(scheduler, self.tracker.without_exit_code(strangers))
            self._write_down(strangers)
            self._answer = self._answer if not self.tracker.never_asked(strangers) else None

    def _refresh(self, scheduler: Scheduler, wanted: Sequence[str]) -> None:
        """One query of the queue, and one of the history for what has left it."""
        following, changes = self.tracker.unsettled(wanted), self.tracker.changes
        taken, began = datetime.now(UTC), time.monotonic()
        self.queries += 1
        try:
            done = self._client.ask(scheduler.status_script(following))
            snapshot = _read(scheduler, done, [*following, *self.tracker.settled()])
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
        self._answer = (began, done)
        self.tracker.take_answer(snapshot, taken, began, changes)
        self._ask_further(scheduler, following)

    def _no_answer(self, error: Exception, following: Sequence[str], began: float) -> None:
        message = getattr(error, "message", str(error))
        log.warning("%s: no answer of the queue: %s", self.host, message)
        failure = SchedulerError(message, kind="transport", host=self.host)
        failure.__cause__ = error
        self.tracker.take_failure(failure, following, began)

    def _ask_further(self, scheduler: Scheduler, following: Sequence[str]) -> None:
        """What the queue did not say: the history, and what the jobs wrote themselves."""
        open_questions = [
            *self.tracker.without_exit_code(following),
            *self.tracker.gone(following),
            *self.tracker.unclear(following),
        ]
        if open_questions:
            self._ask_history(scheduler, open_questions)
            self._read_exit_records(scheduler, following)
        self._compare_with_records(scheduler, following)
        self._write_down(following)

    def _compare_with_records(self, scheduler: Scheduler, following: Sequence[str]) -> None:
        """Where a scheduler may tell a wrong exit code, the jobs' own records win."""
        how = scheduler.convention
        if how is None or not how.is_better:
            return
        ended = [one for one in following if self.tracker.is_settled(one)]
        for said in self._records.read(ended).values():
            if not isinstance(said, str):
                self.tracker.correct(said, scheduler.name)

    def _read_exit_records(self, scheduler: Scheduler, following: Sequence[str]) -> None:
        """The last to ask: what the jobs wrote themselves."""
        gone = self.tracker.gone(following)
        if not gone or scheduler.name == "direct":
            return
        for one, said in self._records.read(gone).items():
            if isinstance(said, str):
                before = self.tracker.lack_record(one, said)
                log.info("%s: job %s left the queue; %s; %s", self.host, one, before, said)
            else:
                self.tracker.take_record(said)

    def _ask_history(self, scheduler: Scheduler, gone: Sequence[str]) -> None:
        if not gone:
            return
        since = self.tracker.submitted_since(gone)
        script = scheduler.history_script(gone, since=since)
        if script is None:
            why = f"{scheduler.name} keeps no history"
            # Of others nobody has looked yet what their silence means.
            none_kept = scheduler.accounting_script() is not None
            self.tracker.lack_history(gone, why, for_good=True, none_kept=none_kept)
            return
        try:
            done = self._client.ask(script)
            found = scheduler.parse_history(
                done.stdout,
                stderr=done.stderr,
                returncode=done.returncode,
                requested=gone,
                since=since,
            )
        except (*_NO_ANSWER, ConnectError, SchedulerError) as error:
            log.info("%s: the accounting query failed: %s", self.host, error)
            self.tracker.lack_history(gone, f"the history did not answer: {error.message}")
            return
        self.tracker.take_history(found, gone)

    def _write_down(self, ids: Iterable[str]) -> None:
        """Keep what changed in the journal, for the next program that asks."""
        import sqlite3

        try:
            self._write_rows(ids)
        except (sqlite3.Error, ConfigurationError) as error:
            # Busy or full: what the host said is true all the same.
            log.warning("%s: the journal was not written: %s", self.host, error)

    def _write_rows(self, ids: Iterable[str]) -> None:
        journal = self._client.journal
        for one in ids:
            status = self.tracker.last(one)
            if status is None:
                continue
            row = journal.by_job(self.host, one)
            reason = self.tracker.lasting_reason(status)
            if row is None or (row.state == status.state and row.reason == reason):
                continue
            journal.change(
                self.host,
                row.token,
                state=str(status.state),
                reason=reason,
                exit_code=status.exit_code,
                nodes=",".join(status.nodes) if status.nodes else None,
                stdout_path=status.stdout_path or row.stdout_path,
                stderr_path=status.stderr_path or row.stderr_path,
            )

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
        # What is done from now on is not in the answer, or may not be.
        changes = self.tracker.changes
        taken, began = datetime.now(UTC), time.monotonic()
        done = self._client.ask(scheduler.status_script((), all_users=all_users))
        try:
            snapshot = _read(scheduler, done, None)
            if snapshot.error is not None:
                raise snapshot.error
            if not all_users:
                # The same answer serves all that is under watch.
                following = self.tracker.unsettled()
                watched = _read(scheduler, done, [*following, *self.tracker.settled()])
                self._answer = (began, done)
                self.tracker.take_answer(watched, taken, began, changes)
                self._ask_further(scheduler, following)
        except SchedulerError as error:
            raise self._client.placed(error) from None
        statuses = list(snapshot.known.values())
        ended = time.monotonic()
        good_for = rest_after(ended - began, self.interval)
        self._listed[all_users] = _Listing(ended, good_for, changes, statuses)
        return statuses

    # ------------------------------------------------------------------ waiting

    def settling(self, wanted: Sequence[str], timeout: float | None) -> Iterator[str]:
        """Yield each id when its job is over, asking ever more slowly.

        ``TimeoutError`` after ``timeout`` seconds, also while a query is at work (which goes on).
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
            over = [one for one in pending if self.tracker.is_over(one)]
            for one in over:
                pending.remove(one)
                yield one
            if not pending:
                return
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                states = ", ".join(f"{one} {self.tracker.status(one).state}" for one in pending[:5])
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
        """What a query raised in a wait, if it would end the wait the next time.

        A scheduler that is busy has many words, and some of them are final ones elsewhere: the
        same has to be said twice, some time apart.  Raises ``error`` where it was, where the call
        makes no sense, and where the host was never reached and somebody has to do something.
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


def _read(
    scheduler: Scheduler, done: CommandResult[str], requested: Sequence[str] | None
) -> Snapshot:
    return scheduler.parse_status(
        done.stdout, stderr=done.stderr, returncode=done.returncode, requested=requested
    )
