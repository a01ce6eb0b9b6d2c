"""``Cluster``: a host's scheduler; jobs submitted, watched and ended, each told truthfully."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from .. import settings
from ..connection import Connection
from ..errors import ConfigurationError, InputError, SchedulerError
from ..jobs import CancelOutcome, JobState, JobStatus, Node, Queue, Snapshot
from .evidence import CANCEL_ACCEPTED
from .exit_record import check_choice
from .job import Job, with_paths
from .journal import Journal
from .poller import Poller
from .scheduler_client import QUERY_TIMEOUT, Asker
from .specification import Specification, job_ids
from .submission import Submission, open_submission
from .tracker import Watch

if TYPE_CHECKING:
    from ..schedulers.base import Scheduler
    from .journal import Row

log = logging.getLogger("openssh_jobs.cluster")

__all__ = ["Cluster", "Job"]


class Cluster:
    """The scheduler of a host.

    ``scheduler``: ``auto`` finds out what the host has and remembers it.  ``poll_interval``: the
    least seconds between two queries of the queue (default: the scheduler's own, 10 s; the site's
    ``poll_floor`` in ``servers.toml`` is never gone below).  ``grace``: seconds for which a job
    that left the queue is looked for before that is told as it is.  ``login_shell``: scheduler
    commands run under the user's login shell, where PATH and modules come from; ``prologue`` is
    shell text before each of them.  ``record_exit``: whether jobs write down themselves how they
    ended (docs/exit-record.rst); ``auto``: only where the host keeps no accounting.  ``journal``:
    a ``Journal`` or its path.  All other options are
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
        self.host = _name_of(self.connection)
        check_choice(record_exit, self.host)
        self._record_exit = record_exit
        if poll_interval is not None and not poll_interval >= 0:
            raise ConfigurationError(f"poll_interval={poll_interval!r} is no number of seconds")
        self.journal = journal if isinstance(journal, Journal) else Journal(journal)
        self._asker = Asker(
            self.connection,
            self.journal,
            self.host,
            scheduler,
            login_shell=login_shell,
            prologue=prologue,
        )
        self._watch = Watch(grace)
        self._poller = Poller(self._asker, self._watch, poll_interval)

    def __repr__(self) -> str:
        return f"Cluster({self.host!r})"

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what is held; jobs and the master go on."""
        self._poller.close()
        self.connection.close()
        self.journal.close()

    # ------------------------------------------------------------------ asking the host

    @property
    def scheduler(self) -> str | None:
        """The scheduler's name, ``None`` while it is not known yet."""
        return None if self._asker.known is None else self._asker.known.name

    @property
    def queries(self) -> int:
        """How often this object has asked the queue."""
        return self._poller.queries

    @property
    def poll_interval(self) -> float:
        """The least seconds between two queries of the queue."""
        return self._poller.interval

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
        win.  ``env`` travels in a private file and is set around the submit command, so it reaches
        the job where that hands on its environment (sbatch does, unless told ``--export=NONE``).
        ``record_exit`` overrides that of the cluster.  The same ``token`` with the same
        specification is the same job.  Where there is no job in the end, what was put on the host
        is removed again.

        Raises ``InputError`` and ``OSError`` before anything is sent, ``SubmitRejected`` or
        ``SubmitLimit`` where there is no job, ``SubmitUnknown`` where there may be one.
        """
        if record_exit is None:
            record_exit = self._record_exit
        check_choice(record_exit, self.host)
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
            max_array=settings.max_array(self.connection.host),
        )
        submission = Submission(self._asker, specification, token, record_exit=record_exit)
        try:
            row = submission.submit()
        except SchedulerError as error:
            self._watch.disturbed()  # there may be a job
            raise self._asker.placed(error) from error.__cause__
        job = self._job_of(with_paths(self, row))
        self._watch.submitted(job.id, self.poll_interval)
        return job

    def _job_of(self, row: Row) -> Job:
        if row.job_id is None:
            raise open_submission(row)
        self._watch.told(_status_of(row, row.job_id))
        return Job(self, row.job_id, row)

    def job(self, job_id: Any = None, *, token: str | None = None) -> Job:
        """A handle for any job of this host, submitted here or not; asks nothing yet.

        Raises ``InputError`` for what is no id and for a token that the journal does not know,
        ``SubmitUnknown`` for one whose submission got no answer.
        """
        if (job_id is None) == (token is None):
            raise InputError("give either a job id or token=")
        if token is not None:
            row = self.journal.by_token(self.host, token)
            if row is None:
                raise InputError(f"the journal knows no token {token!r}", host=self.host)
            return self._job_of(row)
        found = job_ids(job_id)
        if len(found) != 1:
            raise InputError(f"one job, not {len(found)}: {job_id!r}", host=self.host)
        (one,) = found
        row = self.journal.by_job(self.host, one)
        if row is not None:
            return self._job_of(row)
        self._watch.follow(one)
        return Job(self, one, None)

    # ------------------------------------------------------------------ watching

    def status(self, ids: Any) -> Snapshot:
        """What is known of these jobs: one query for all jobs of this host, history for the gone.

        An answer younger than ``poll_interval`` is used again.  A scheduler that does not answer
        gives a ``Snapshot`` with ``.error`` and all ids in ``.unknown``; one that never will
        (permission, no such command) raises ``SchedulerError``.
        """
        return self._poller.status(job_ids(ids))

    def jobs(self, *, all_users: bool = False) -> list[JobStatus]:
        """The jobs that the scheduler tells of now: this user's, or everybody's.  One query.

        Ended ones are among them for as long as the scheduler remembers them: Slurm some minutes
        (MinJobAge), ``direct`` until they are fetched.  An answer younger than ``poll_interval``
        is used again unless something was done since.  Raises ``SchedulerError`` where there is no
        complete answer.
        """
        return self._poller.jobs(all_users)

    def wait(self, jobs: Any, *, timeout: float | None = None) -> list[JobStatus]:
        """Wait until all of these jobs are over; their statuses, in order.

        A job that left the queue and of which nobody can say how it ended is over after ``grace``
        seconds, with the state ``unknown``.  ``TimeoutError`` after ``timeout`` seconds.

        No answer ends the wait but a final one (no permission, no such command, a login that
        somebody has to make) that comes twice in a row; where the host was never reached, at once.
        """
        wanted = job_ids(jobs)
        for _ in self._poller.settling(wanted, timeout):
            pass
        return [self._watch.status(one) for one in wanted]

    def as_completed(self, jobs: Iterable[Job], *, timeout: float | None = None) -> Iterator[Job]:
        """The jobs one by one as they are over."""
        handles = {job.id: job for job in jobs}
        for one in self._poller.settling(tuple(handles), timeout):
            yield handles[one]

    def is_over(self, job_id: Any) -> bool:
        """Whether nothing more will be learned of a job; asks nobody.

        True for one that ended, and for one that left the queue longer than ``grace`` ago.
        """
        (one,) = job_ids(job_id)
        self._watch.follow(one)
        return self._watch.is_over(one)

    def following(self) -> list[str]:
        """The ids of the jobs under watch that are not over; asks nobody."""
        return self._watch.unsettled()

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
        scheduler = self._asker.scheduler()
        try:
            done = self._asker.ask(getattr(scheduler, script)(wanted))
            outcomes = scheduler.parse_cancel(
                done.stdout, stderr=done.stderr, returncode=done.returncode, requested=wanted
            )
        except SchedulerError as error:
            raise self._asker.placed(error) from None
        finally:
            # Without an answer, too, it may have been done.
            self._watch.disturbed()
        if script == "cancel_script":
            accepted = [one for one, what in outcomes.items() if what is CancelOutcome.REQUESTED]
            self._watch.cancelled(accepted)
            for row in filter(None, (self.journal.by_job(self.host, one) for one in accepted)):
                if not JobState(row.state).is_final:
                    self.journal.change(self.host, row.token, reason=CANCEL_ACCEPTED)
        return outcomes

    # ------------------------------------------------------------------ the machine

    def nodes(self) -> list[Node]:
        """The nodes of the cluster."""
        scheduler = self._asker.scheduler()
        done = self._asker.ask(scheduler.nodes_script())
        try:
            return scheduler.parse_nodes(
                done.stdout, stderr=done.stderr, returncode=done.returncode
            )
        except SchedulerError as error:
            raise self._asker.placed(error) from None

    def queues(self) -> list[Queue]:
        """The queues (Slurm: partitions) of the cluster."""
        scheduler = self._asker.scheduler()
        done = self._asker.ask(scheduler.queues_script())
        try:
            return scheduler.parse_queues(
                done.stdout, stderr=done.stderr, returncode=done.returncode
            )
        except SchedulerError as error:
            raise self._asker.placed(error) from None

    def _detail(self, job_id: str, timeout: float = QUERY_TIMEOUT) -> JobStatus | None:
        """All that the scheduler tells of one job, ``None`` where it tells nothing."""
        scheduler = self._asker.scheduler()
        script = scheduler.detail_script(job_id)
        if script is None:
            return None
        done = self._asker.ask(script, timeout)
        try:
            return scheduler.parse_detail(
                done.stdout, stderr=done.stderr, returncode=done.returncode
            )
        except SchedulerError as error:
            log.info("%s: no details of %s: %s", self.host, job_id, error.message)
            return None

    def _own_listing(self) -> list[JobStatus]:
        """This user's jobs by the scheduler's own command, where a site has another one.

        A listing for people may cut names, and show the jobs of others.
        """
        scheduler = self._asker.scheduler()
        own: Scheduler = getattr(scheduler, "base", scheduler)
        done = self._asker.ask(own.status_script(()))
        snapshot = own.parse_status(done.stdout, stderr=done.stderr, returncode=done.returncode)
        if snapshot.error is not None:
            raise snapshot.error
        return list(snapshot.known.values())

    def _clean_up(self, ids: Sequence[str]) -> None:
        """Remove what the scheduler's file keeps on the host of jobs that are over."""
        script = self._asker.scheduler().cleanup_script(ids)
        if script is not None:
            self._asker.ask(script)


def _name_of(connection: Connection) -> str:
    """The host as the journal knows it: two users of one host are two."""
    target = connection._master.target
    name = target.host if target.user is None else f"{target.user}@{target.host}"
    return name if target.port is None else f"{name}:{target.port}"


def _status_of(row: Row, job_id: str) -> JobStatus:
    """What the journal says of a job."""
    submitted = None if row.submitted is None else datetime.fromtimestamp(row.submitted, UTC)
    return JobStatus(
        job_id,
        JobState(row.state),
        name=row.name,
        reason=row.reason,
        exit_code=row.exit_code,
        nodes=tuple(row.nodes.split(",")) if row.nodes else None,
        submitted=submitted,
        directory=row.directory,
        stdout_path=row.stdout_path,
        stderr_path=row.stderr_path,
        source="journal",
    )
