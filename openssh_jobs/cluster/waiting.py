"""The wait for jobs: when the next query is due, and which errors end it."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from .. import logs
from ..errors import (
    ConfigurationError,
    ConnectError,
    InputError,
    OpenSSHJobsError,
    SchedulerError,
)
from ..jobs import JobState, JobStatus
from ..jobs.status import NEVER_STARTS
from .poller import FINAL, NO_ANSWER, PASSING
from .query import Late
from .tracker import FIRST_LOOK

if TYPE_CHECKING:
    from .poller import Poller

log = logs.logger("openssh_jobs.cluster")

OnChange = Callable[[list[JobStatus]], object]
"""Called with jobs whose state or reason is new, in the thread that waits."""
# LSF: "Dependency condition invalid or never satisfied".
_NEVER = re.compile(rf"{NEVER_STARTS}|never satisfied", re.IGNORECASE)
_QUICKEST, _SLOWEST = 0.2, 60.0
_FINAL_REST = 2.0
_PEEK = 1.0
"""Seconds between two looks for what another process has found out."""


class _Changes:
    """What changed since the last look: passed to a caller; warns where a job can never start."""

    def __init__(self, poller: Poller, on_change: OnChange | None) -> None:
        self._host, self._tracker = poller.host, poller.tracker
        self._on_change = on_change
        self._revisions: dict[str, int] = {}
        self._told: dict[str, tuple[JobState, str | None]] = {}

    def tell(self, ids: Iterable[str]) -> None:
        """Look at these jobs.  Raises what ``on_change`` raises."""
        changed = []
        for job_id, revision in self._tracker.revisions(ids).items():
            if self._revisions.get(job_id) == revision:
                continue
            self._revisions[job_id] = revision
            status = self._tracker.last(job_id)
            if status is None or self._told.get(job_id) == (status.state, status.reason):
                continue
            self._told[job_id] = status.state, status.reason
            changed.append(status)
            if never_starts(status):
                log.warning("%s: job %s: %s; cancel it", self._host, job_id, status.reason)
        if changed and self._on_change is not None:
            self._on_change(changed)


def never_starts(status: JobStatus) -> bool:
    """Whether a pending job waits for what cannot come true, by its scheduler's word."""
    return status.state is JobState.PENDING and _NEVER.search(status.reason or "") is not None


def settling(
    poller: Poller,
    wanted: Sequence[str],
    timeout: float | None,
    on_change: OnChange | None = None,
) -> Iterator[str]:
    """Yield each id when its job is over, with ever longer pauses between queries.

    ``on_change``: is called with the statuses that are new or changed.  ``TimeoutError`` after
    ``timeout`` seconds, also during a query (which goes on).
    """
    tracker = poller.tracker
    deadline = None if timeout is None else time.monotonic() + timeout
    pending = dict.fromkeys(wanted)
    _held = tracker.follow(*pending)
    pause = min(FIRST_LOOK, max(poller.interval, _QUICKEST))
    trouble: OpenSSHJobsError | None = None
    has_news, looks, changes = False, 0, _Changes(poller, on_change)
    while pending:
        answers, raised = tracker.answers, False
        try:
            if has_news:
                poller.take_news(pause, deadline)
            else:
                poller.status(tuple(pending), deadline, pause)
            if tracker.answers != answers and not tracker.is_failing:
                trouble = None
        except Late:
            pass
        except (OpenSSHJobsError, OSError) as error:
            trouble, raised = _not_the_end(poller, error, trouble), True
        changes.tell(pending)
        over = [job_id for job_id in pending if tracker.is_over(job_id)]
        for job_id in over:
            del pending[job_id]
            yield job_id
        if not pending:
            break
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            first = list(pending)[:5]
            states = ", ".join(_described(tracker.status(job_id)) for job_id in first)
            raise TimeoutError(f"{poller.host}: not over after {timeout:g} s: {states}")
        if looks and (raised or tracker.answers != answers):
            pause = min(pause * 1.5, max(_SLOWEST, poller.interval))
        looks += 1
        wait = max(
            poller.seconds_until_due(pause),
            pause if raised else pause - tracker.age,
            _QUICKEST,
        )
        if trouble is not None:
            wait = max(wait, poller.interval, _FINAL_REST)
        wait *= 1 + 0.1 * random.random()  # noqa: S311 - jitter
        has_news = _has_news_within(poller, wait if left is None else max(0.01, min(wait, left)))
    poller.end_wait()


def _described(status: JobStatus) -> str:
    why = f" ({status.reason})" if never_starts(status) else ""
    return f"{status.job_id} {status.state}{why}"


def _has_news_within(poller: Poller, seconds: float) -> bool:
    """Sleep until the next query; true as soon as there is an answer that is to be taken."""
    until, answers = time.monotonic() + seconds, poller.tracker.answers
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _PEEK))
        if poller.tracker.answers != answers or poller.has_news():
            return True
    return False


def _not_the_end(
    poller: Poller, error: OpenSSHJobsError | OSError, before: OpenSSHJobsError | None
) -> OpenSSHJobsError | None:
    """The error of a query, if the same error ends the wait the next time.

    A busy scheduler has many messages, and some of them are final elsewhere: so the same kind
    has to come twice, some time apart.  Raises ``error`` the second time, where the call makes
    no sense, and where the host was never reached and the user has to act.
    """
    if isinstance(error, ConfigurationError | InputError):
        raise error
    passing = isinstance(error, (*NO_ANSWER, *PASSING)) or not isinstance(
        error, ConnectError | SchedulerError
    )
    if isinstance(error, ConnectError) and not poller.tracker.has_answered:
        if not passing:
            raise error
        passing = False
    if isinstance(error, SchedulerError):
        passing = error.kind not in FINAL
    log.warning("%s: no answer of the queue: %s", poller.host, getattr(error, "message", error))
    if passing or not isinstance(error, OpenSSHJobsError):
        return None
    if before is not None and _same(error, before):
        raise error
    return error


def _same(error: OpenSSHJobsError, before: OpenSSHJobsError) -> bool:
    kinds = getattr(error, "kind", None), getattr(before, "kind", None)
    return type(error) is type(before) and kinds[0] == kinds[1]
