"""Submissions without an answer: their job is found, or submitted after all, or they stay unknown.

What decides, in this order: ``owner`` or a result on the host; the deadline of the last attempt;
two complete answers of the scheduler that know no such job, some time apart.
``docs/submitting.rst`` says it in full.
"""

from __future__ import annotations

import posixpath
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .. import logs
from ..errors import (
    ConfigurationError,
    OpenSSHJobsError,
    SchedulerError,
    SubmitRejected,
    SubmitUnknown,
)
from ..files.private_directory import PRIVATE
from ..openssh import pid_file
from ..schedulers.request import SubmitRequest
from .attempt import (
    ENVIRONMENT,
    LIMIT,
    MOST_COMMAND,
    NO_ANSWER,
    Attempts,
    Order,
    Taken,
    Trace,
    job_of,
    look_script,
    read_traces,
    unknown,
)
from .job_files import MOST_JOBS
from .journal import ASKED, FILES, Row
from .unanswered import at_work, open_submission

if TYPE_CHECKING:
    from ..schedulers.tokens import TokenAnswer
    from .job_files import JobFiles
    from .scheduler_client import SchedulerClient

log = logs.logger("openssh_jobs.cluster.recovery")

Outcome = Row | OpenSSHJobsError
"""The row with its job; ``SubmitUnknown``; any other error: there is no job, and no row."""

_PAUSE = 0.5
_LONGEST_PAUSE = 5.0
# A process that was stopped for longer than this is not waited for.
_PATIENCE = LIMIT + 60
# The scheduler's clock and rounding.
_CLOCKS = 5.0
# Jobs of this process that could not be written, by journal, host and token.
_unwritten: dict[tuple[str, str, str], Row] = {}


@dataclass(slots=True)
class _Open:
    """A submission whose end is looked for.

    ``absent``: when queries began that did not know its job (by our clock, and the host's).
    """

    row: Row
    order: Order | None
    trace: Trace = field(default_factory=lambda: Trace(where="absent"))
    absent: list[tuple[float, float]] = field(default_factory=list)
    settling: float = 0.0
    is_proven: bool = False
    waits: bool = False
    until: float | None = None

    @property
    def request(self) -> SubmitRequest:
        """What its scheduler was asked for; of an old row the directory and the token alone."""
        if self.order is not None:
            return self.order.request
        place = self.row.place or posixpath.join(self.row.directory, PRIVATE, self.row.token)
        return SubmitRequest(script=posixpath.join(place, "job"), token=self.row.token)


class Recovery:
    """Finishes the open submissions of one host."""

    def __init__(self, client: SchedulerClient, files: JobFiles) -> None:
        self._client = client
        self._files = files
        self._journal = client.journal
        self._host = client.host

    def open_rows(self) -> list[Row]:
        """The submissions of this host without an answer, by the journal."""
        return self._journal.rows(self._host, is_open=True)

    def finish(self, rows: Iterable[Row]) -> dict[str, Outcome]:
        """What has become of these submissions, by token.  May submit, and may wait minutes.

        Raises the errors of the connection; what was known by then is in the journal.
        """
        outcomes: dict[str, Outcome] = {}
        opened: list[_Open] = []
        try:
            for row in rows:
                taken = self._take(row)
                if isinstance(taken, _Open):
                    opened.append(taken)
                else:
                    outcomes[row.token] = taken
            pause = _PAUSE
            while opened:
                before = len(opened)
                self._look(opened)
                outcomes |= self._settled(opened)
                opened = [one for one in opened if one.row.token not in outcomes]
                outcomes |= self._ask(opened)
                opened = [one for one in opened if one.row.token not in outcomes]
                if opened:
                    pause = _PAUSE if len(opened) < before else min(pause * 1.5, _LONGEST_PAUSE)
                    time.sleep(pause)
        finally:
            left = [token for token, it in outcomes.items() if isinstance(it, SubmitUnknown)]
            self.give_back(
                *left, *(one.row.token for one in opened if one.row.token not in outcomes)
            )
        return outcomes

    # ------------------------------------------------------------------ the journal

    def _take(self, row: Row) -> _Open | Outcome:
        """The submission for us alone; ``SubmitUnknown`` while another process is at work."""
        if row.job_id is not None:
            return row
        answered = _unwritten.get((self._journal.path, self._host, row.token))
        if answered is not None:
            return self._write([answered])[0]
        has_ended = pid_file.ended(row.caller) if row.caller else True
        # Whose process cannot be seen from here: claims on the host keep attempts apart.
        if has_ended is False or (has_ended is None and row.stage in (ASKED, FILES)):
            return at_work(row)
        mine = replace(row, caller=pid_file.call())
        if not self._journal.take_over(row, mine):
            now = self._journal.by_token(self._host, row.token)
            return now if now is not None and now.job_id is not None else at_work(row)
        if row.stage == ASKED:
            self._journal.forget(self._host, row.token, row.call)
            return open_submission(row)
        if row.stage == FILES:
            self.withdraw(mine)
            return open_submission(row)
        order = None
        if row.request is not None:
            try:
                order = Order.of(row.request)
            except (ValueError, OpenSSHJobsError) as error:
                log.warning("%s: %s is not submitted again: %s", self._host, row.token, error)
        return _Open(mine, order)

    def give_back(self, *tokens: str) -> None:
        """Say that no process is at work on submissions any more."""
        if not tokens:
            return
        try:
            with self._journal.file.transaction():
                for token in tokens:
                    self._journal.change(self._host, token, caller="")
        except ConfigurationError as error:
            log.warning("%s", error)

    def accept_all(
        self, jobs: Sequence[tuple[Row, str]], submitted: float | None = None
    ) -> list[Row]:
        """Write the jobs of submissions, in one transaction.

        ``submitted``: when, by the host's clock; else now.
        """
        # Compared with times by the host's clock.
        when = self._client.host_time() if submitted is None else submitted
        known = [
            replace(row, job_id=job_id, state="pending", submitted=when) for row, job_id in jobs
        ]
        for row in known:
            log.info("%s: submitted %s as %s", self._host, row.name, row.job_id)
        return self._write(known)

    def _write(self, rows: Sequence[Row]) -> list[Row]:
        """Write the ids of jobs to the journal.

        Where that fails they are not lost: the host has them, and so has the caller.
        """
        keys = [(self._journal.path, self._host, row.token) for row in rows]
        found = []
        try:
            with self._journal.file.transaction():
                for row in rows:
                    names = ("job_id", "state", "submitted")
                    facts = {name: getattr(row, name) for name in names}
                    self._journal.change(self._host, row.token, **facts)
                    now = self._journal.by_token(self._host, row.token)
                    if now is None:
                        now = self._journal.open_row(row)  # the file is another one by now
                    found.append(now)
        except (ConfigurationError, OSError) as error:
            for key, row in zip(keys, rows, strict=True):
                _unwritten[key] = row
                log.warning(
                    "%s: job %s of %s was submitted, and is not in the journal (recover() writes "
                    "it when that is possible): %s",
                    *(self._host, row.job_id, row.token, error),
                )
            return list(rows)
        for key in keys:
            _unwritten.pop(key, None)
        return found

    def withdraw(self, *rows: Row) -> None:
        """Remove everything of submissions that have no job, on the host and from the journal.

        What cannot be removed now is removed by the next call with this token.
        """
        if not rows:
            return
        try:
            with self._journal.file.transaction():
                for row in rows:
                    self._journal.change(
                        self._host, row.token, stage=FILES, caller="", call=row.call
                    )
        except ConfigurationError as error:
            log.warning("%s", error)
        try:
            for start in range(0, len(rows), MOST_JOBS):
                some = rows[start : start + MOST_JOBS]
                done = self._files.undo(*((r.directory, r.token, r.call or "") for r in some))
                with self._journal.file.transaction():
                    for row, is_gone in zip(some, done, strict=True):
                        if is_gone:
                            self._journal.forget(self._host, row.token, row.call)
        except (OpenSSHJobsError, OSError) as error:
            log.info("%s: %s was not tidied up: %s", self._host, rows[0].directory, error)

    # ------------------------------------------------------------------ the host

    def _look(self, opened: Sequence[_Open]) -> None:
        """Read what the host holds of all of them, in one round trip."""
        mark = f"OJL+{secrets.token_hex(8)}"
        script = look_script([(one.row, one.request, one.order) for one in opened], mark)
        answer = self._client.connection.internal.call(script, again=True)
        traces = read_traces(answer.stdout, mark)
        if len(traces) != len(opened):
            raise SchedulerError(
                "what the host holds of the open submissions was not read: the answer is cut off",
                kind="transport",
                host=self._host,
                stderr=answer.stderr.decode("utf-8", "replace"),
            )
        for one, trace in zip(opened, traces, strict=True):
            if trace.number != one.trace.number:
                one.absent, one.is_proven, one.until = [], False, None
            one.trace = trace

    def _settled(self, opened: Sequence[_Open]) -> dict[str, Outcome]:
        """Ends of submissions as far as the host's files tell them; submits what has no job."""
        outcomes: dict[str, Outcome] = {}
        jobs: list[tuple[_Open, str]] = []
        refused: list[Row] = []
        again: list[_Open] = []
        for one in opened:
            try:
                job_id = self._known(one)
                if job_id is not None:
                    jobs.append((one, job_id))
                    continue
                one.waits = self._may_go_on(one)
                if not one.waits and self._is_absent(one):
                    again.append(one)
            except SubmitUnknown as error:
                outcomes[one.row.token] = error
            except SubmitRejected as error:
                refused.append(one.row)
                outcomes[one.row.token] = error
        for one, job_id in jobs:
            log.info("%s: job %s of %s is known by its files", self._host, job_id, one.row.token)
            self._forget_environment(one)
            (outcomes[one.row.token],) = self.accept_all([(one.row, job_id)], one.trace.began)
        self.withdraw(*refused)
        return outcomes | self._again(again)

    def _known(self, one: _Open) -> str | None:
        trace = one.trace
        if trace.where == "refused":
            raise unknown(one.row, trace.why)
        if trace.owner is not None:
            return trace.owner
        if trace.answer is not None:
            try:
                return job_of(self._client, one.row, trace.answer)
            except SubmitUnknown:
                return None  # it may have been carried out all the same
        return None

    def _may_go_on(self, one: _Open) -> bool:
        """Whether the last attempt may still submit.  ``SubmitUnknown`` if that has no end."""
        if self._client.scheduler().starts_once:
            return False  # of two jobs one will end at once
        rest = one.trace.rest()
        if one.trace.where == "absent":
            # No attempt can be claimed any more, but one may be under way.
            rest = one.row.changed + LIMIT - time.time()
        if rest <= 0:
            return False
        if one.until is None:
            one.until = time.monotonic() + _PATIENCE
        if time.monotonic() > one.until:
            raise unknown(one.row, "its submit command has not ended on the host")
        return True

    def _is_absent(self, one: _Open) -> bool:
        trace = one.trace
        if trace.where == "found" and (trace.number == 0 or self._client.scheduler().starts_once):
            return True
        return one.is_proven

    def _again(self, absent: Sequence[_Open]) -> dict[str, Outcome]:
        """Submit what has no job, many as one; what is not complete on the host is withdrawn."""
        ready = [one for one in absent if one.order is not None and one.trace.complete]
        gone = [one.row for one in absent if one not in ready]
        self.withdraw(*gone)
        outcomes: dict[str, Outcome] = {
            row.token: open_submission(replace(row, stage=FILES)) for row in gone
        }
        for number in sorted({one.trace.number for one in ready}):
            left = [one for one in ready if one.trace.number == number]
            while left:
                some = self._attempted(left, number + 1, outcomes)
                left = left[len(some) :]
        return outcomes

    def _attempted(
        self, left: Sequence[_Open], number: int, outcomes: dict[str, Outcome]
    ) -> Sequence[_Open]:
        """The next attempt of as many of these as one command takes."""
        orders = [(one.row, one.order) for one in left[:MOST_JOBS] if one.order is not None]
        attempts = Attempts(self._client, orders, number)
        while len(orders) > 1 and attempts.size > MOST_COMMAND:
            orders = orders[: len(orders) // 2]
            attempts = Attempts(self._client, orders, number)
        some = left[: len(orders)]
        for one in some:
            log.info("%s: %s has no job and is submitted again", self._host, one.row.token)
        try:
            found = attempts.run()
        except BaseException as error:
            if getattr(error, "sent", None) != "no":
                self._take_in(some, attempts.outcomes("the call was interrupted"), outcomes)
            raise
        self._take_in(some, found, outcomes)
        return some

    def _take_in(
        self,
        some: Sequence[_Open],
        found: Sequence[str | Exception | None],
        outcomes: dict[str, Outcome],
    ) -> None:
        """Write down what became of attempts."""
        jobs: list[tuple[Row, str]] = []
        refused: list[Row] = []
        for one, outcome in zip(some, found, strict=True):
            if isinstance(outcome, str):
                jobs.append((one.row, outcome))
            elif isinstance(outcome, Taken):
                one.waits = True
            elif isinstance(outcome, OpenSSHJobsError):
                outcomes[one.row.token] = outcome
                if isinstance(outcome, SubmitRejected):
                    refused.append(one.row)
            elif any(isinstance(other, SubmitUnknown) for other in found):
                why = "it was not begun after another one that got no answer"
                outcomes[one.row.token] = unknown(one.row, why)
        outcomes |= {row.token: row for row in (self.accept_all(jobs) if jobs else ())}
        self.withdraw(*refused)

    def _forget_environment(self, one: _Open) -> None:
        if one.order is not None and ENVIRONMENT in one.order.environment and one.row.place:
            self._files.forget_environment(posixpath.join(one.row.place, ENVIRONMENT))

    # ------------------------------------------------------------------ the scheduler

    def _ask(self, opened: Sequence[_Open]) -> dict[str, Outcome]:
        """Ask the queue and the history for those whose last attempt is over; what they settle."""
        now, clock = time.monotonic(), time.time()
        over = [one for one in opened if not one.waits and not one.is_proven]
        if not any(not one.absent or now - one.absent[0][0] >= one.settling for one in over):
            return {}
        scheduler = self._client.scheduler()
        requests = [one.request for one in over]
        since = datetime.fromtimestamp(min(map(self._earliest, over)), UTC)
        script = scheduler.token_script(requests, since=since)
        if script is None:
            why = f"{scheduler.name} does not show of which submission a job is"
            return {one.row.token: unknown(one.row, why) for one in over}
        try:
            answer = scheduler.parse_tokens(self._client.ask(script), requests)
        except (*NO_ANSWER, SchedulerError) as error:
            said = error if isinstance(error, SchedulerError) else None
            return {one.row.token: unknown(one.row, error.message, said) for one in over}
        # By the host's clock, which is known only now.
        began = clock + self._client.host_time() - time.time()
        outcomes: dict[str, Outcome] = {}
        for one in over:
            try:
                outcome = self._judge(one, answer, now, began)
            except SubmitUnknown as error:
                outcome = error
            if outcome is not None:
                outcomes[one.row.token] = outcome
        return outcomes

    def _judge(self, one: _Open, answer: TokenAnswer, now: float, began: float) -> Outcome | None:
        """What one answer says of one submission, with those before it."""
        found = sorted(answer.jobs.get(one.row.token, ()))
        if len(found) > 1:
            raise unknown(one.row, f"the jobs {', '.join(found)} have its script")
        if found:
            log.info("%s: job %s of %s was found by its token", self._host, *found, one.row.token)
            self._forget_environment(one)
            return self.accept_all([(one.row, found[0])], one.trace.began)[0]
        one.settling = answer.settling
        one.absent.append((now, began))
        first, last = one.absent[0], one.absent[-1]
        if last[0] - first[0] < answer.settling:
            return None
        self._check_proof(one, answer, last[1])
        # The files are read once more: the job may have written its id meanwhile.
        one.is_proven = True
        return None

    def _check_proof(self, one: _Open, answer: TokenAnswer, asked: float) -> None:
        """Raise ``SubmitUnknown`` unless a job that was submitted would be in such an answer."""
        if not answer.is_whole:
            raise unknown(one.row, "the scheduler's answer may not show its job")
        if one.trace.launcher:
            return  # a job that has begun has written its id
        known = self._journal.by_member
        others = {job_id for job_id in answer.others if known(self._host, job_id) is None}
        if others:
            some = ", ".join(sorted(others)[:5])
            raise unknown(one.row, f"it may be one of the ended jobs {some}")
        if asked - self._earliest(one) > answer.remembers - _CLOCKS:
            raise unknown(
                one.row,
                f"the scheduler remembers ended jobs for {answer.remembers:g} s only, and there is "
                "no accounting to query",
            )

    def _earliest(self, one: _Open) -> float:
        """No job of the last attempt is older, by the host's clock."""
        if one.trace.began is not None:
            return one.trace.began
        return one.row.opened + self._client.host_time() - time.time()
