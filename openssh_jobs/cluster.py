"""``Cluster``: a host's scheduler; jobs submitted, watched and ended, each told truthfully."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from . import settings
from .connection import Connection
from .errors import (
    CommandFailed,
    CommandTimeout,
    ConfigurationError,
    ConnectionLost,
    InputError,
    SchedulerError,
    SessionLimit,
)
from .job import Job
from .jobs import CancelOutcome, JobStatus, Node, Queue, Snapshot
from .journal import Journal
from .remote.quoting import quote
from .schedulers import available, detection_script, get, parse_detection
from .submission import Specification, Submission, job_ids
from .watching import Watch

if TYPE_CHECKING:
    from .journal import Row
    from .remote.result import CommandResult
    from .schedulers.base import Scheduler

log = logging.getLogger("openssh_jobs.cluster")

QUERY_TIMEOUT = 180.0
"""Seconds for one answer of a scheduler; Slurm's own clients give up after 60 to 100."""
_FIRST_LOOK = 2.0
_SLOWEST = 60.0
_HOPELESS = frozenset(("permission", "scheduler_missing", "invalid_request", "unsupported"))

__all__ = ["Cluster", "Job"]


class Cluster:
    """The scheduler of a host.

    ``scheduler``: ``auto`` finds out what the host has and remembers it.  ``poll_interval``: the
    least seconds between two queries of the queue (default: the scheduler's own, 10 s; the site's
    ``poll_floor`` in ``servers.toml`` is never gone below).  ``grace``: seconds for which a job
    that left the queue is looked for before that is told as it is.  ``login_shell``: scheduler
    commands run under the user's login shell, where PATH and modules come from; ``prologue`` is
    shell text before each of them.  ``journal``: a ``Journal`` or its path.  All other options are
    those of ``Connection``; together with a ``Connection`` they are a ``ConfigurationError``.

    Nothing is asked of the host before the first use.
    """

    def __init__(
        self,
        host_or_connection: str | Connection,
        *,
        scheduler: str | Scheduler = "auto",
        poll_interval: float | None = None,
        grace: float = 600,
        record_exit: str | bool = "auto",
        login_shell: bool = True,
        prologue: str = "",
        journal: Journal | str | None = None,
        **connection_options: Any,
    ) -> None:
        if isinstance(host_or_connection, str):
            self.connection = Connection(host_or_connection, **connection_options)
        elif connection_options:
            raise ConfigurationError(
                f"{', '.join(sorted(connection_options))}: options of a connection together with "
                "a Connection that has them already"
            )
        else:
            self.connection = host_or_connection
        self.host = self.connection.host
        if record_exit not in ("auto", False):
            raise ConfigurationError(
                f"record_exit={record_exit!r} is not there yet", host=self.host
            )
        if poll_interval is not None and not poll_interval >= 0:
            raise ConfigurationError(f"poll_interval={poll_interval!r} is no number of seconds")
        self._finds_scheduler = scheduler == "auto"
        self._scheduler: Scheduler | None = None
        if not self._finds_scheduler:
            self._scheduler = get(scheduler) if isinstance(scheduler, str) else scheduler
        self._poll_interval = poll_interval
        self._login_shell = login_shell
        self._prologue = prologue
        self.journal = journal if isinstance(journal, Journal) else Journal(journal)
        self._watch = Watch(grace)
        self._lock = threading.RLock()
        self._site_floor: float | None = None
        self._listed: dict[bool, tuple[float, list[JobStatus]]] = {}
        self.queries = 0

    def __repr__(self) -> str:
        return f"Cluster({self.host!r})"

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what is held; jobs and the master go on."""
        self.connection.close()
        self.journal.close()

    # ------------------------------------------------------------------ asking the host

    @property
    def scheduler(self) -> str | None:
        """The scheduler's name, ``None`` while it is not known yet."""
        return None if self._scheduler is None else self._scheduler.name

    def _run(self, script: bytes, timeout: float) -> CommandResult[str]:
        before = self._prologue.encode() + b"\n" if self._prologue else b""
        return self.connection.run(before + script, login_shell=self._login_shell, timeout=timeout)

    def _ask(self, script: str, timeout: float = QUERY_TIMEOUT) -> CommandResult[str]:
        """Run a scheduler's script; what it says is the parser's to judge."""
        text = script.encode("utf-8", "surrogateescape")
        return self._run(b"exec /bin/sh -c " + quote(text), timeout)

    def _the_scheduler(self) -> Scheduler:
        with self._lock:
            if self._scheduler is None:
                known = self.journal.scheduler_of(self.host)
                self._scheduler = get(known) if known in available() else self._find_scheduler()
            return self._scheduler

    def _find_scheduler(self) -> Scheduler:
        done = self._ask(detection_script())
        found = parse_detection(done.stdout)
        name = next((name for name in available() if name in found), None)
        if name is None:
            raise SchedulerError(
                "no scheduler was found",
                kind="scheduler_missing",
                host=self.host,
                stdout=done.stdout,
                stderr=done.stderr,
                advice="Name it with scheduler=, or give a prologue that sets PATH.",
            )
        log.info("%s: %s (%s)", self.host, name, found[name])
        self.journal.remember_scheduler(self.host, name)
        return get(name)

    def _placed(self, error: SchedulerError) -> SchedulerError:
        """The parser's error with the host in front; a lost scheduler is looked for anew."""
        if error.host is None:
            error.host = self.host
        if error.kind == "scheduler_missing" and self._finds_scheduler:
            self.journal.remember_scheduler(self.host, None)
            self._scheduler = None
        return error

    # ------------------------------------------------------------------ submitting

    def submit(
        self,
        script: str | None = None,
        *,
        script_file: Any = None,
        script_text: str | None = None,
        directory: str | None = None,
        upload: Any = None,
        name: str | None = None,
        array: str | None = None,
        after_ok: Any = None,
        after_any: Any = None,
        after_failed: Any = None,
        hold: bool = False,
        queue: str | None = None,
        account: str | None = None,
        time_limit: timedelta | str | None = None,
        nodes: int | str | None = None,
        cpus: int | None = None,
        memory: int | str | None = None,
        gpus: int | str | None = None,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        record_exit: bool | str | None = None,
        token: str | None = None,
    ) -> Job:
        """Submit one job.

        Exactly one of ``script`` (a path on the host, relative to ``directory``), ``script_file``
        (local) and ``script_text``.  ``upload``: a local directory that becomes ``directory``
        (which must not exist yet); ``directory`` is made if missing.  ``options`` come last and
        win.  ``env`` travels in a private file.  The same ``token`` with the same specification
        is the same job.

        Raises ``InputError`` and ``OSError`` before anything is sent, ``SubmitRejected`` or
        ``SubmitLimit`` where there is no job, ``SubmitUnknown`` where there may be one.
        """
        if record_exit not in (None, "auto", False):
            raise ConfigurationError(
                f"record_exit={record_exit!r} is not there yet", host=self.host
            )
        specification = Specification.of(
            script=script,
            script_file=script_file,
            script_text=script_text,
            directory=directory,
            upload=upload,
            name=name,
            array=array,
            after_ok=after_ok,
            after_any=after_any,
            after_failed=after_failed,
            hold=hold,
            queue=queue,
            account=account,
            time_limit=time_limit,
            nodes=nodes,
            cpus=cpus,
            memory=memory,
            gpus=gpus,
            options=options,
            env=env,
        )
        submission = Submission(
            self.connection, self.journal, self._the_scheduler(), self._run, specification, token
        )
        try:
            row = submission.submit()
        except SchedulerError as error:
            raise self._placed(error) from error.__cause__
        self._watch.submitted()
        return self._job_of(row)

    def _job_of(self, row: Row) -> Job:
        if row.job_id is None:
            raise InputError(
                f"the submission {row.token} has no job yet: nobody knows whether it was accepted",
                host=self.host,
            )
        self._watch.follow(row.job_id)
        return Job(self, row.job_id, row)

    def job(self, job_id: Any = None, *, token: str | None = None) -> Job:
        """A handle for any job of this host, submitted here or not; asks nothing yet."""
        if (job_id is None) == (token is None):
            raise InputError("give either a job id or token=")
        if token is not None:
            row = self.journal.by_token(self.host, token)
            if row is None:
                raise InputError(f"the journal knows no token {token!r}", host=self.host)
            return self._job_of(row)
        (one,) = job_ids(job_id)
        row = self.journal.by_job(self.host, one)
        self._watch.follow(one)
        return Job(self, one, row)

    # ------------------------------------------------------------------ watching

    @property
    def poll_interval(self) -> float:
        """The least seconds between two queries of the queue."""
        if self._site_floor is None:
            self._site_floor = settings.poll_floor(self.host) or 0.0
        if self._poll_interval is not None:
            return max(self._site_floor, self._poll_interval)
        return max(self._site_floor, self._the_scheduler().poll_floor)

    def status(self, ids: Any) -> Snapshot:
        """What is known of these jobs: one query for all jobs of this host, history for the gone.

        An answer younger than ``poll_interval`` is used again.  A scheduler that does not answer
        gives a ``Snapshot`` with ``.error`` and all ids in ``.unknown``; one that never will
        (permission, no such command) raises ``SchedulerError``.
        """
        wanted = job_ids(ids)
        if not wanted:
            raise InputError("no job ids given", host=self.host)
        with self._lock:
            self._watch.follow(*wanted)
            if self._watch.is_due(wanted, self.poll_interval):
                self._refresh(wanted)
            return self._watch.snapshot(wanted)

    def _refresh(self, wanted: Sequence[str]) -> None:
        """One query of the queue, and one of the history for what has left it."""
        scheduler = self._the_scheduler()
        following = self._watch.unsettled(wanted)
        if not following:
            return
        taken = datetime.now(UTC)
        began = time.monotonic()
        self.queries += 1
        try:
            done = self._ask(scheduler.status_script(following))
            snapshot = scheduler.parse_status(
                done.stdout,
                stderr=done.stderr,
                returncode=done.returncode,
                requested=following,
            )
        except (ConnectionLost, CommandTimeout, SessionLimit, CommandFailed) as error:
            self._watch.failed(
                SchedulerError(error.message, kind="transport", host=self.host), following, began
            )
            return
        except SchedulerError as error:
            self._placed(error)
            if error.kind in _HOPELESS:
                raise
            log.warning("%s: %s", self.host, error.message)
            self._watch.failed(error, following, began)
            return
        self._watch.took(snapshot, taken, began)
        gone = self._watch.gone(following)
        if gone:
            self._ask_history(scheduler, gone)
        self._write_down(following)

    def _ask_history(self, scheduler: Scheduler, gone: Sequence[str]) -> None:
        since = self._watch.followed_since(gone)
        script = scheduler.history_script(gone, since=since)
        if script is None:
            self._watch.no_history(gone, f"{scheduler.name} keeps no history")
            return
        try:
            done = self._ask(script)
            found = scheduler.parse_history(
                done.stdout,
                stderr=done.stderr,
                returncode=done.returncode,
                requested=gone,
                since=since,
            )
        except (ConnectionLost, CommandTimeout, SessionLimit, CommandFailed, SchedulerError) as e:
            log.info("%s: the history was not to be had: %s", self.host, e)
            self._watch.no_history(gone, f"the history did not answer: {e.message}")
            return
        self._watch.took_history(found, gone)

    def _write_down(self, ids: Iterable[str]) -> None:
        """Keep what changed in the journal, for the next program that asks."""
        for one in ids:
            status = self._watch.last(one)
            if status is None:
                continue
            row = self.journal.by_job(self.host, one)
            if row is None or (row.state == status.state and row.reason == status.reason):
                continue
            self.journal.change(
                self.host,
                row.token,
                state=str(status.state),
                reason=status.reason,
                exit_code=status.exit_code,
                nodes=",".join(status.nodes) if status.nodes else None,
                stdout_path=status.stdout_path or row.stdout_path,
                stderr_path=status.stderr_path or row.stderr_path,
            )

    def jobs(self, *, all_users: bool = False) -> list[JobStatus]:
        """The jobs that the scheduler tells of now: this user's, or everybody's.  One query.

        An answer younger than ``poll_interval`` is used again unless something was done since.
        Raises ``SchedulerError`` where there is no complete answer.
        """
        with self._lock:
            began, listed = self._listed.get(all_users, (-1e9, []))
            if time.monotonic() - began < self.poll_interval and self._watch.is_calm:
                return list(listed)
            listed = self._list(all_users)
            self._listed[all_users] = (time.monotonic(), listed)
            return list(listed)

    def _list(self, all_users: bool) -> list[JobStatus]:
        scheduler = self._the_scheduler()
        self.queries += 1
        self._watch.calmed()
        done = self._ask(scheduler.status_script((), all_users=all_users))
        try:
            snapshot = scheduler.parse_status(
                done.stdout, stderr=done.stderr, returncode=done.returncode
            )
            if snapshot.error is not None:
                raise snapshot.error
        except SchedulerError as error:
            raise self._placed(error) from None
        return list(snapshot.known.values())

    def wait(self, jobs: Any, *, timeout: float | None = None) -> list[JobStatus]:
        """Wait until all of these jobs are over; their statuses, in order.

        A job that left the queue and of which nobody can say how it ended is over after ``grace``
        seconds, with the state ``unknown``.  ``TimeoutError`` after ``timeout`` seconds.
        """
        wanted = job_ids(jobs)
        for _ in self._settling(wanted, timeout):
            pass
        return [self._watch.status(one) for one in wanted]

    def as_completed(self, jobs: Iterable[Job], *, timeout: float | None = None) -> Iterator[Job]:
        """The jobs one by one as they are over."""
        handles = {job.id: job for job in jobs}
        for one in self._settling(tuple(handles), timeout):
            yield handles[one]

    def _settling(self, wanted: Sequence[str], timeout: float | None) -> Iterator[str]:
        """Yield each id when its job is over, asking ever more slowly."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pending = list(dict.fromkeys(wanted))
        pause = min(_FIRST_LOOK, self.poll_interval) if pending else 0.0
        while pending:
            self.status(pending)
            over = [one for one in pending if self._watch.is_over(one)]
            for one in over:
                pending.remove(one)
                yield one
            if not pending:
                return
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                states = ", ".join(f"{one} {self._watch.status(one).state}" for one in pending[:5])
                raise TimeoutError(f"{self.host}: not over after {timeout:g} s: {states}")
            wait = max(self._watch.seconds_until_due(self.poll_interval), pause)
            wait *= 1 + 0.1 * random.random()  # noqa: S311 - jitter
            time.sleep(wait if left is None else max(0.01, min(wait, left)))
            pause = min(pause * 1.5, max(_SLOWEST, self.poll_interval))

    def is_over(self, job_id: Any) -> bool:
        """Whether nothing more will be learned of a job; asks nobody.

        True for one that ended, and for one that left the queue longer than ``grace`` ago.
        """
        (one,) = job_ids(job_id)
        self._watch.follow(one)
        return self._watch.is_over(one)

    def following(self) -> list[str]:
        """The ids of the jobs under watch that are not over; asks nobody."""
        return [one for one in self._watch.unsettled(()) if not self._watch.is_over(one)]

    # ------------------------------------------------------------------ acting

    def cancel(self, ids: Any) -> dict[str, CancelOutcome]:
        """Cancel jobs, one command for all; what became of each wish, by id."""
        return self._act("cancel_script", ids)

    def hold(self, ids: Any) -> dict[str, CancelOutcome]:
        """Hold pending jobs; what became of each wish, by id."""
        return self._act("hold_script", ids)

    def release(self, ids: Any) -> dict[str, CancelOutcome]:
        """Release held jobs; what became of each wish, by id."""
        return self._act("release_script", ids)

    def _act(self, script: str, ids: Any) -> dict[str, CancelOutcome]:
        wanted = job_ids(ids)
        if not wanted:
            raise InputError("no job ids given", host=self.host)
        scheduler = self._the_scheduler()
        done = self._ask(getattr(scheduler, script)(wanted))
        try:
            outcomes = scheduler.parse_cancel(
                done.stdout, stderr=done.stderr, returncode=done.returncode, requested=wanted
            )
        except SchedulerError as error:
            raise self._placed(error) from None
        self._watch.disturbed()
        return outcomes

    # ------------------------------------------------------------------ the machine

    def nodes(self) -> list[Node]:
        """The nodes of the cluster."""
        scheduler = self._the_scheduler()
        done = self._ask(scheduler.nodes_script())
        try:
            return scheduler.parse_nodes(
                done.stdout, stderr=done.stderr, returncode=done.returncode
            )
        except SchedulerError as error:
            raise self._placed(error) from None

    def queues(self) -> list[Queue]:
        """The queues (Slurm: partitions) of the cluster."""
        scheduler = self._the_scheduler()
        done = self._ask(scheduler.queues_script())
        try:
            return scheduler.parse_queues(
                done.stdout, stderr=done.stderr, returncode=done.returncode
            )
        except SchedulerError as error:
            raise self._placed(error) from None

    def _detail(self, job_id: str) -> JobStatus | None:
        """All that the scheduler tells of one job, ``None`` where it tells nothing."""
        scheduler = self._the_scheduler()
        script = scheduler.detail_script(job_id)
        if script is None:
            return None
        done = self._ask(script)
        try:
            return scheduler.parse_detail(
                done.stdout, stderr=done.stderr, returncode=done.returncode
            )
        except SchedulerError as error:
            log.info("%s: no details of %s: %s", self.host, job_id, error.message)
            return None
