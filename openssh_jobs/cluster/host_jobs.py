"""``HostJobs``: the jobs of one host, asked about, waited for and acted on.

What ``Cluster`` and each ``Job`` share.  Not a public interface.
"""

from __future__ import annotations

import math
import re
import secrets
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from .. import logs, settings
from ..errors import (
    CommandFailed,
    CommandTimeout,
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    InputError,
    OpenSSHJobsError,
    SchedulerError,
    SessionLimit,
)
from ..jobs import CancelOutcome, JobId, JobState, JobStatus, Node, Queue, Snapshot
from ..jobs.cause import Cause
from ..jobs.explanation import Explanation
from ..jobs.time_limit import time_limit_of
from ..schedulers.answer import Answer
from ..schedulers.base import Scheduler
from .dependencies import check_dependencies
from .evidence import JobEvidence
from .exit_record import ExitRecords, check_choice
from .job_files import JobFiles
from .journal import POSTPONED, TIDIED, Row
from .journal_view import HOME, status_of
from .learned import Learned
from .poller import Poller
from .recovery import Outcome, Recovery
from .scheduler_client import QUERY_TIMEOUT, SchedulerClient, split_answers, together
from .specification import Specification
from .submission import DryRun, Submission
from .submitted import specification_again
from .submitter import Submitter
from .tidy import AGE, Tidied, Tidy
from .tracker import Tracker
from .waiting import OnChange, settling

log = logs.logger("openssh_jobs.cluster")

_PATHS_TIMEOUT = 30.0
_NO_ANSWER = (ConnectError, ConnectionLost, CommandFailed, CommandTimeout, SessionLimit)
_SCRIPTS = {"cancel": "cancel_script", "hold": "hold_script", "release": "release_script"}


class Understood(NamedTuple):
    """What a new job is, by the scheduler's record of it, or else by what was asked for."""

    queue: str | None
    time_limit: timedelta | None

    @classmethod
    def of(cls, asked: Specification, scheduler: Scheduler) -> Understood:
        """By the parameters and the words of a submission."""
        said, limit = scheduler.understood(asked.options), time_limit_of(asked.time_limit)
        words = scheduler.submit_words
        if words is not None and "time_limit" in said:
            seconds = words.seconds(said["time_limit"])
            limit = None if seconds is None else timedelta(seconds=seconds)
        return cls(said.get("queue", asked.queue), limit)


class HostJobs:
    """The jobs of the host of a ``SchedulerClient``; ids are checked already.

    ``grace``: seconds to keep querying a job that left the queue.  ``poll_interval``: the least
    seconds between two queries, ``None`` for the scheduler's own.
    """

    def __init__(
        self, client: SchedulerClient, *, grace: float, poll_interval: float | None
    ) -> None:
        self.client = client
        self.connection = client.connection
        self.journal = client.journal
        self.host = client.host
        self.files = JobFiles(client.connection, client.host)
        self.records = ExitRecords(client, self.files)
        self.recovery = Recovery(client, self.files)
        self.submitter = Submitter(client, self.files, self.records, self.recovery)
        self.tracker = Tracker(grace)
        self.learned = Learned(client, self.tracker)
        self._began = time.time()
        self.upkeep = Tidy(client, self.files)
        self.poller = Poller(client, self.records, self.tracker, poll_interval, self.upkeep)
        self.understood: dict[str, Understood] = {}
        """How the scheduler understood the jobs that were submitted here, by id."""

    def follow(self, ids: Sequence[str]) -> tuple[JobEvidence, ...]:
        """Follow these jobs, with what the journal says where they are forgotten."""
        self.learned.recall(ids, self._began)
        return self.tracker.follow(*ids)

    def status(self, ids: Sequence[str]) -> Snapshot:
        """See ``Cluster.status``."""
        _held = self.follow(ids)
        return self.poller.status(ids)

    def update_journal(self) -> None:
        """Have the journal say of all of this user's jobs what the scheduler says now.

        Jobs that were submitted elsewhere are in it from now on, an array as one.  An answer that
        any process got within the poll interval is used again.  Raises ``SchedulerError`` where
        there is no complete answer.
        """
        rows = [row for row in self.journal.active(self.host) if _may_go_on(row)]
        for row in rows:
            if row.job_id is not None:
                self.tracker.add_known(status_of(row, row.job_id))
        known = [row.job_id for row in rows if row.job_id is not None]
        listed = [status.job_id for status in self.poller.jobs(all_users=False)]
        new = self.tracker.not_followed(whole_jobs(listed, known))
        new = [job_id for job_id in new if self.journal.by_member(self.host, job_id) is None]
        ids = [*known, *new]
        _held = self.follow(ids)
        left_open = self.tracker.never_queried(ids)
        error = self.poller.status(left_open).error if left_open else None
        if error is not None:
            raise self.client.placed(error)
        taken = self.tracker.taken_at
        if taken is not None:
            self.journal.note_listed(self.host, taken.timestamp())

    def wait(
        self, ids: Sequence[str], timeout: float | None, on_change: OnChange | None = None
    ) -> list[JobStatus]:
        """See ``Cluster.wait``."""
        _held = self.follow(ids)
        for _ in settling(self.poller, ids, timeout, on_change):
            pass
        return [self.tracker.status(job_id) for job_id in ids]

    def act(self, action: str, ids: Sequence[str]) -> dict[str, CancelOutcome]:
        """Cancel, hold or release jobs, one command for all; the outcome by id."""
        if not ids:
            raise InputError("no job ids given", host=self.host)
        scheduler = self.client.scheduler()
        try:
            answer = self.client.ask(getattr(scheduler, _SCRIPTS[action])(ids))
            outcomes = scheduler.parse_cancel(answer, requested=ids)
        except SchedulerError as error:
            raise self.client.placed(error) from None
        finally:
            # Without an answer, too, it may have been done.
            self.poller.outdate()
        accepted = [job_id for job_id, what in outcomes.items() if what is CancelOutcome.REQUESTED]
        if action == "cancel":
            self.tracker.cancel_accepted(accepted)
        self.learned.write_accepted(accepted, action)
        return outcomes

    # ------------------------------------------------------------------ submitting

    def submissions(self, given: Sequence[Mapping[str, Any]]) -> list[Submission]:
        """What the parameters of ``submit`` describe, checked without the host."""
        most, call = settings.max_array(self.connection.host), secrets.token_hex(8)
        made, by_token = [], dict[str, Specification]()
        for asked in map(dict, given):
            record_exit, token = asked.pop("record_exit"), asked.pop("token")
            check_choice(record_exit, self.host)
            asked |= check_dependencies(self.journal, self.host, asked)
            again = asked.pop("again", None)
            if again is None:
                wanted = Specification.of(max_array=most, **asked)
            else:
                wanted = specification_again(self.journal, self.host, again, asked, most)
            if token is not None and by_token.setdefault(token, wanted) != wanted:
                raise InputError(
                    f"two different submissions have the token {token!r}",
                    host=self.host,
                    advice="A token names one submission.",
                )
            made.append(Submission(self.client, wanted, token, record_exit=record_exit, call=call))
        return made

    def submit(self, wanted: Sequence[Submission]) -> list[Outcome]:
        """See ``Submitter.submit``."""
        details = list[Answer]()
        try:
            outcomes = self.submitter.submit(wanted, details)
        except SchedulerError as error:
            self.poller.outdate()  # there may be a job
            raise self.client.placed(error) from error.__cause__
        new = [row for row in outcomes if isinstance(row, Row)]
        rows = iter(self.with_paths(new, details))
        self._note_understood(wanted, outcomes)
        found: list[Outcome] = []
        for outcome in outcomes:
            if isinstance(outcome, Row):
                found.append(next(rows))
            elif isinstance(outcome, SchedulerError):
                found.append(self.client.placed(outcome))
            else:
                found.append(outcome)
        if any(not isinstance(one, Row) for one in found):
            self.poller.outdate()  # there may be jobs
        return found

    def _note_understood(self, wanted: Sequence[Submission], outcomes: Sequence[Outcome]) -> None:
        """By what was asked for, where the scheduler's record does not say it."""
        scheduler = self.client.scheduler()
        for submission, row in zip(wanted, outcomes, strict=True):
            if not isinstance(row, Row) or row.job_id is None:
                continue
            asked = Understood.of(submission.specification, scheduler)
            said = self.understood.get(row.job_id, asked)
            self.understood[row.job_id] = Understood(
                said.queue or asked.queue, said.time_limit or asked.time_limit
            )
        self.learned.add_queues(one.queue for one in self.understood.values())

    def dry_run(self, wanted: Sequence[Submission]) -> list[DryRun]:
        """What would be sent for each."""
        try:
            self.submitter.check(wanted)
        except SchedulerError as error:
            raise self.client.placed(error) from error.__cause__
        return [submission.dry_run() for submission in wanted]

    def recover(self) -> list[tuple[Row, Outcome]]:
        """Finish the open submissions of this host: each, and what has become of it."""
        rows = self.recovery.open_rows()
        if not rows:
            return []
        try:
            outcomes = self.recovery.finish(rows)
        except SchedulerError as error:
            raise self.client.placed(error) from None
        finally:
            self.tracker.outdate()
        return [(row, outcomes[row.token]) for row in rows]

    # ------------------------------------------------------------------ other questions

    def nodes(self) -> list[Node]:
        """See ``Cluster.nodes``."""
        scheduler = self.client.scheduler()
        answer = self.client.ask(scheduler.nodes_script())
        try:
            return scheduler.parse_nodes(answer)
        except SchedulerError as error:
            raise self.client.placed(error) from None

    def queues(self) -> list[Queue]:
        """See ``Cluster.queues``."""
        scheduler = self.client.scheduler()
        answer = self.client.ask(scheduler.queues_script())
        try:
            found = scheduler.parse_queues(answer)
        except SchedulerError as error:
            raise self.client.placed(error) from None
        self.learned.write_queues(queue.name for queue in found)
        return found

    def detail(self, job_id: str, timeout: float = QUERY_TIMEOUT) -> JobStatus | None:
        """All that the scheduler says about one job, ``None`` where it says nothing."""
        return self.details([job_id], timeout).get(job_id)

    def details(self, ids: Sequence[str], timeout: float = QUERY_TIMEOUT) -> dict[str, JobStatus]:
        """All that the scheduler says about jobs, one command for many; some may be missing."""
        scheduler, found = self.client.scheduler(), dict[str, JobStatus]()
        numbers = [job_id for job_id in ids if job_id.isdigit()]
        together_text = scheduler.details_text() if len(numbers) > 1 else None
        if together_text is not None:
            taken = datetime.now(UTC)
            script = f"set -- {' '.join(numbers)}\n{together_text}"
            found = self.read_details(self.client.ask(script, timeout), numbers, taken)
            if found:  # else a site's command may take no jobs on stdin
                ids = [job_id for job_id in ids if not job_id.isdigit()]
        scripts = {job_id: scheduler.detail_script(job_id) for job_id in ids}
        asked = {job_id: script for job_id, script in scripts.items() if script is not None}
        while asked:
            taken = datetime.now(UTC)
            script, mark, count = together(list(asked.values()))
            answers = split_answers(self.client.ask(script, timeout), mark, count)
            for job_id, answer in zip(list(asked), answers, strict=False):
                del asked[job_id]
                try:
                    status = scheduler.parse_detail(answer)
                except SchedulerError as error:
                    log.info("%s: no details of %s: %s", self.host, job_id, error.message)
                    continue
                if status is not None:
                    self.learned.write_one(status, taken)
                    found[job_id] = status
        return found

    def read_details(
        self, answer: Answer, ids: Sequence[str], taken: datetime
    ) -> dict[str, JobStatus]:
        """What an answer to ``details_text`` says of these jobs, written to the journal."""
        try:
            found = self.client.scheduler().parse_details(answer, ids)
        except SchedulerError as error:
            log.info("%s: no details of %s: %s", self.host, ", ".join(ids[:5]), error.message)
            return {}
        for status in found.values():
            self.learned.write_one(status, taken)
        return found

    def explain(
        self, statuses: Sequence[JobStatus], *, asks: bool = True
    ) -> dict[str, Explanation]:
        """Why these jobs wait, what ended them, what they used: by id.  One round trip at most.

        Where the scheduler does not answer, and without ``asks``: what the statuses show by
        themselves.
        """
        scheduler = self.client.scheduler()
        scheduler = getattr(scheduler, "base", scheduler)
        found = {status.job_id: scheduler.explained(status) for status in statuses}
        script = scheduler.explain_script(statuses) if statuses and asks else None
        if script is not None:
            try:
                answer = self.client.ask(f'printf "OJ~%s\\n" "$HOME"\n{script}')
                found.update(scheduler.parse_explanations(answer, statuses))
                self._note_home(answer.stdout)
            except (*_NO_ANSWER, SchedulerError) as error:
                log.info("%s: no more about these jobs: %s", self.host, error.message)
        now = datetime.now(UTC)
        for job_id, explanation in found.items():
            found[job_id] = explanation = replace(explanation, asked_at=now)
            if explanation.cause is Cause.CANCELLED and self._was_cancelled_here(job_id):
                found[job_id] = replace(explanation, cause=Cause.CANCELLED_BY_USER)
        return found

    def _note_home(self, said: str) -> None:
        """Write down where the user's home directory is, for paths that people read."""
        home = re.search(r"^OJ~(/[^\n]{1,300})$", said, re.MULTILINE)
        if home is not None and home[1] != self.journal.fact(self.host, HOME, max_age=math.inf):
            try:
                self.journal.remember_fact(self.host, HOME, home[1])
            except ConfigurationError as error:
                log.info("%s: the journal was not written: %s", self.host, error)

    def _was_cancelled_here(self, job_id: str) -> bool:
        """Whether the journal has the cancellation of this job, asked for by this user."""
        row = self.journal.by_job(self.host, job_id) or self.journal.by_member(self.host, job_id)
        if row is None:
            return False
        return any(event.source == "cancel" for event in self.journal.events(row.host, row.token))

    def own_listing(self) -> list[JobStatus]:
        """This user's jobs by the scheduler's own command, where a site has replaced it.

        A listing for people may cut names, and show the jobs of others.
        """
        scheduler = self.client.scheduler()
        own: Scheduler = getattr(scheduler, "base", scheduler)
        answer = self.client.ask(own.status_script(()))
        snapshot = own.parse_status(answer)
        if snapshot.error is not None:
            raise snapshot.error
        return list(snapshot.known.values())

    # ------------------------------------------------------------------ what is kept of a job

    def with_paths(self, rows: Sequence[Row], said: Sequence[Answer] = ()) -> list[Row]:
        """The rows of new jobs with where their output goes, if that cannot be asked for later.

        ``said``: answers to ``details_text`` that came with the jobs; the rest is asked.  Raises
        nothing: the jobs were submitted, whatever becomes of this query.
        """
        scheduler = self.client.scheduler()
        forgets = getattr(scheduler, "base", scheduler).forgets_paths
        ids = [row.job_id for row in rows if row.job_id is not None and row.stdout_path is None]
        if not ids or not forgets:
            return list(rows)
        found, taken = dict[str, JobStatus](), datetime.now(UTC)
        numbers = [job_id for job_id in ids if job_id.isdigit()]
        for answer in said:
            found |= self.read_details(answer, numbers, taken)
        try:
            found |= self.details([job_id for job_id in ids if job_id not in found], _PATHS_TIMEOUT)
        except _NO_ANSWER as error:
            log.info("%s: no output paths of job %s: %s", self.host, ids[0], error.message)
        # For an array some schedulers describe one member, whose file is not that of the others.
        found = {job_id: detail for job_id, detail in found.items() if detail.job_id == job_id}
        self.understood |= {
            job_id: Understood(detail.queue, detail.time_limit) for job_id, detail in found.items()
        }
        with self.journal.file.transaction():
            return [
                self.note_paths(row, found[row.job_id])
                if row.job_id in found and row.stdout_path is None
                else row
                for row in rows
            ]

    def note_paths(self, row: Row, detail: JobStatus) -> Row:
        """Write to the journal where the output goes, and the name that the job got in the end."""
        facts = {
            name: getattr(detail, name)
            for name in ("name", "stdout_path", "stderr_path")
            if getattr(detail, name) is not None
        }
        try:
            self.journal.change(row.host, row.token, **facts)
        except ConfigurationError as error:
            log.warning("%s: the journal was not written: %s", row.host, error)
        return replace(row, **facts)

    def tidy(
        self, rows: Sequence[Row], *, older_than: float = 0.0, dry_run: bool = False
    ) -> Tidied:
        """Remove what is left on the host of those of these submissions that are over.

        The queue is queried for those about which the journal does not know that.
        """
        rows = [row for row in rows if not row.is_followed and row.tidied != TIDIED]
        following = [row.job_id for row in rows if row.job_id and _may_go_on(row)]
        if following:
            for job_id in following:
                self.tracker.follow(job_id)
            self.poller.status(following)
        current = [self.journal.by_token(self.host, row.token) or row for row in rows]
        return self.upkeep.tidy(current, older_than=older_than, dry_run=dry_run)

    def tidy_fetched(self, token: str) -> None:
        """Remove what is left of a fetched job if it is over, or note that it was fetched.

        Failures are logged.
        """
        try:
            row = self.journal.by_token(self.host, token)
            if row is None or row.tidied == TIDIED:
                return
            status = self.tracker.last(row.job_id) if row.job_id else None
            # A young answer also covers ended jobs: it would have shown a requeue.
            is_young = self.tracker.seconds_until_due(self.poller.interval) > 0
            known = status if is_young and status and status.source != "journal" else None
            done = self.upkeep.tidy([row], known=known)
            for left in done.kept:
                self.journal.mark_tidied(self.host, token, POSTPONED)
                log.info("%s: %s stays: %s", self.host, left.path, left.reason)
        except (OpenSSHJobsError, OSError, sqlite3.Error) as error:
            log.info("%s: nothing was tidied up behind %s: %s", self.host, token, error)


def whole_jobs(listed: Iterable[str], known: Iterable[str]) -> list[str]:
    """The jobs in a listing, by the ids in ``known`` where these mean them; an array is one job."""
    by_number: dict[str, list[JobId]] = {}
    for text in known:
        job_id = JobId.parse(text)
        by_number.setdefault(job_id.number, []).append(job_id)
    rows: dict[str, list[JobId]] = {}
    for text in listed:
        job_id = JobId.parse(text)
        rows.setdefault(job_id.number, []).append(job_id)
    found: dict[str, None] = {}
    for number, members in rows.items():
        for job_id in members:
            meant = next((one for one in by_number.get(number, ()) if _means(one, job_id)), None)
            if meant is None and job_id.tasks is not None:
                meant = job_id.array
            elif meant is None and job_id.proc is not None and len(members) > 1:
                meant = JobId.parse(number)
            found[str(meant or job_id)] = None
    return list(found)


def _means(known: JobId, listed: JobId) -> bool:
    return known.matches(listed) or known.contains(listed)


def _may_go_on(row: Row) -> bool:
    """Whether more may become known of a job, by the journal."""
    if row.known_state is JobState.UNKNOWN:
        return row.changed > time.time() - AGE
    return not row.known_state.is_final
