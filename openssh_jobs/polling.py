"""Asking the queue: one query for all jobs of a host, no more often than the site likes it."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from . import settings
from .errors import (
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
from .jobs import JobStatus, Snapshot
from .marking import look_for_markers
from .openssh import forking
from .schedulers.base import Scheduler
from .watching import FIRST_LOOK, Watch

if TYPE_CHECKING:
    from .asking import Asker
    from .remote.result import CommandResult

log = logging.getLogger("openssh_jobs.cluster")

_QUICKEST, _SLOWEST = 0.2, 60.0
_HOPELESS = frozenset(("permission", "scheduler_missing", "invalid_request", "unsupported"))
_NO_ANSWER = (ConnectionLost, CommandTimeout, SessionLimit, CommandFailed)
# Ways of not getting through that pass by themselves, once the host was reached before.
_PASSING = (HostUnreachable, Throttled, JumpHostFailed)


class Poller:
    """Keeps a ``Watch`` up to date.

    ``interval``: the caller's least seconds between two queries, ``None`` for the scheduler's own.
    ``queries`` counts those of the queue.  Threads that want to know the same wait for one answer;
    what is known already is told without waiting.
    """

    def __init__(self, asker: Asker, watch: Watch, interval: float | None) -> None:
        self._asker = asker
        self.host = asker.host
        self.watch = watch
        self._interval = interval
        self._site_floor: float | None = None
        self._querying = threading.Lock()
        self._listed: dict[bool, tuple[float, list[JobStatus]]] = {}
        self._answer: tuple[float, CommandResult[str]] | None = None
        self.queries = 0
        forking.renew(self)

    def _after_fork(self) -> None:
        self._querying = threading.Lock()

    @property
    def interval(self) -> float:
        """The least seconds between two queries of the queue, as far as the scheduler is known."""
        if self._site_floor is None:
            self._site_floor = settings.poll_floor(self._asker.connection.host) or 0.0
        asked = self._interval
        if asked is None:
            known = self._asker.known
            asked = Scheduler.poll_floor if known is None else known.poll_floor
        return max(self._site_floor, asked)

    # ------------------------------------------------------------------ these jobs

    def status(self, wanted: Sequence[str]) -> Snapshot:
        """See ``Cluster.status``."""
        if not wanted:
            raise InputError("no job ids given", host=self.host)
        self.watch.follow(*wanted)
        if self.watch.seconds_until(wanted, self.interval) is not None:
            scheduler = self._asker.scheduler()
            with self._querying:
                # Another thread may have asked meanwhile.
                self._look_at_last_answer(scheduler, wanted)
                pause = self.watch.seconds_until(wanted, self.interval)
                if pause is not None:
                    time.sleep(pause)
                    self._refresh(scheduler, wanted)
        return self.watch.snapshot(wanted)

    def _look_at_last_answer(self, scheduler: Scheduler, wanted: Sequence[str]) -> None:
        """A job that came under watch since may be in the last answer already."""
        if self._answer is None or time.monotonic() - self._answer[0] >= self.interval:
            return
        strangers = self.watch.strangers(wanted)
        if strangers:
            self.watch.also_took(_read(scheduler, self._answer[1], strangers))
            self._ask_history(scheduler, self.watch.without_exit_code(strangers))
            self._write_down(strangers)

    def _refresh(self, scheduler: Scheduler, wanted: Sequence[str]) -> None:
        """One query of the queue, and one of the history for what has left it."""
        following = self.watch.unsettled(wanted)
        taken, began = datetime.now(UTC), time.monotonic()
        self.queries += 1
        try:
            done = self._asker.ask(scheduler.status_script(following))
            snapshot = _read(scheduler, done, [*following, *self.watch.settled()])
        except _NO_ANSWER as error:
            self._no_answer(error, following, began)
            return
        except ConnectError as error:
            # Who was never reached gets the whole error; who was, will be again.
            if not self.watch.has_answered or not isinstance(error, _PASSING):
                raise
            self._no_answer(error, following, began)
            return
        except SchedulerError as error:
            self._asker.placed(error)
            if error.kind in _HOPELESS:
                raise
            log.warning("%s: %s", self.host, error.message)
            self.watch.failed(error, following, began)
            return
        self._answer = (began, done)
        self._took(scheduler, snapshot, following, taken, began)

    def _no_answer(self, error: Exception, following: Sequence[str], began: float) -> None:
        message = getattr(error, "message", str(error))
        log.warning("%s: no answer of the queue: %s", self.host, message)
        failure = SchedulerError(message, kind="transport", host=self.host)
        failure.__cause__ = error
        self.watch.failed(failure, following, began)

    def _took(
        self,
        scheduler: Scheduler,
        snapshot: Snapshot,
        following: Sequence[str],
        taken: datetime,
        began: float,
    ) -> None:
        self.watch.took(snapshot, taken, began)
        open_questions = [
            *self.watch.without_exit_code(following),
            *self.watch.gone(following),
            *self.watch.unclear(following),
        ]
        if open_questions:
            self._ask_history(scheduler, open_questions)
            self._look_for_markers(scheduler, following)
        self._write_down(following)

    def _look_for_markers(self, scheduler: Scheduler, following: Sequence[str]) -> None:
        """The last to ask: what the jobs wrote themselves."""
        gone = self.watch.gone(following)
        if not gone or scheduler.name == "direct":
            return
        for one, said in look_for_markers(self._asker, gone).items():
            if isinstance(said, str):
                before = self.watch.marker_missing(one, said)
                log.info("%s: job %s left the queue; %s; %s", self.host, one, before, said)
            else:
                self.watch.took_marker(said)

    def _ask_history(self, scheduler: Scheduler, gone: Sequence[str]) -> None:
        if not gone:
            return
        since = self.watch.submitted_since(gone)
        script = scheduler.history_script(gone, since=since)
        if script is None:
            self.watch.no_history(gone, f"{scheduler.name} keeps no history")
            return
        try:
            done = self._asker.ask(script)
            found = scheduler.parse_history(
                done.stdout,
                stderr=done.stderr,
                returncode=done.returncode,
                requested=gone,
                since=since,
            )
        except (*_NO_ANSWER, ConnectError, SchedulerError) as error:
            log.info("%s: the history was not to be had: %s", self.host, error)
            self.watch.no_history(gone, f"the history did not answer: {error.message}")
            return
        self.watch.took_history(found, gone)

    def _write_down(self, ids: Iterable[str]) -> None:
        """Keep what changed in the journal, for the next program that asks."""
        journal = self._asker.journal
        for one in ids:
            status = self.watch.last(one)
            if status is None:
                continue
            row = journal.by_job(self.host, one)
            if row is None or (row.state == status.state and row.reason == status.reason):
                continue
            journal.change(
                self.host,
                row.token,
                state=str(status.state),
                reason=status.reason,
                exit_code=status.exit_code,
                nodes=",".join(status.nodes) if status.nodes else None,
                stdout_path=status.stdout_path or row.stdout_path,
                stderr_path=status.stderr_path or row.stderr_path,
            )

    # ------------------------------------------------------------------ all jobs

    def jobs(self, all_users: bool) -> list[JobStatus]:
        """See ``Cluster.jobs``."""
        scheduler = self._asker.scheduler()
        with self._querying:
            began, listed = self._listed.get(all_users, (-1e9, []))
            if time.monotonic() - began < self.interval and self.watch.is_calm:
                return list(listed)
            listed = self._list(scheduler, all_users)
            self._listed[all_users] = (time.monotonic(), listed)
            return list(listed)

    def _list(self, scheduler: Scheduler, all_users: bool) -> list[JobStatus]:
        self.queries += 1
        self.watch.calmed()
        taken, began = datetime.now(UTC), time.monotonic()
        done = self._asker.ask(scheduler.status_script((), all_users=all_users))
        try:
            snapshot = _read(scheduler, done, None)
            if snapshot.error is not None:
                raise snapshot.error
            if not all_users:
                # The same answer serves all that is under watch.
                following = self.watch.unsettled()
                watched = _read(scheduler, done, [*following, *self.watch.settled()])
                self._answer = (began, done)
                self._took(scheduler, watched, following, taken, began)
        except SchedulerError as error:
            raise self._asker.placed(error) from None
        return list(snapshot.known.values())

    # ------------------------------------------------------------------ waiting

    def settling(self, wanted: Sequence[str], timeout: float | None) -> Iterator[str]:
        """Yield each id when its job is over, asking ever more slowly.

        ``TimeoutError`` after ``timeout`` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pending = list(dict.fromkeys(wanted))
        pause = min(FIRST_LOOK, max(self.interval, _QUICKEST))
        while pending:
            self.status(pending)
            over = [one for one in pending if self.watch.is_over(one)]
            for one in over:
                pending.remove(one)
                yield one
            if not pending:
                return
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                states = ", ".join(f"{one} {self.watch.status(one).state}" for one in pending[:5])
                raise TimeoutError(f"{self.host}: not over after {timeout:g} s: {states}")
            wait = max(self.watch.seconds_until_due(self.interval), pause)
            wait *= 1 + 0.1 * random.random()  # noqa: S311 - jitter
            time.sleep(wait if left is None else max(0.01, min(wait, left)))
            pause = min(pause * 1.5, max(_SLOWEST, self.interval))


def _read(
    scheduler: Scheduler, done: CommandResult[str], requested: Sequence[str] | None
) -> Snapshot:
    return scheduler.parse_status(
        done.stdout, stderr=done.stderr, returncode=done.returncode, requested=requested
    )
