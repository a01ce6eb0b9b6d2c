"""``Cluster``: a host's scheduler; jobs submitted, watched and ended."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from .. import logs
from ..connection import Connection
from ..errors import (
    ConfigurationError,
    InputError,
    OpenSSHJobsError,
    SubmitIncomplete,
    SubmitUnknown,
)
from ..host import Host
from ..jobs import CancelOutcome, JobStatus, Node, Queue, Snapshot
from .exit_record import check_choice
from .host_jobs import HostJobs
from .job import Job
from .journal import Journal, Row
from .journal_view import status_of
from .learned import is_current
from .scheduler_client import SchedulerClient
from .specification import job_ids, parameters_of_many
from .takeover import take_over
from .tidy import Tidied
from .unanswered import open_submission, open_submissions
from .waiting import OnChange, settling

if TYPE_CHECKING:
    from ..connection import ConnectionOptions
    from ..schedulers.base import Scheduler
    from .specification import AnyJob, AnyJobs, AnySpecifications, ScriptOptions, SubmitOptions
    from .submission import DryRun, Submission

__all__ = ["Cluster", "Job"]

log = logs.logger("openssh_jobs.cluster")


class Cluster:
    """The scheduler of a host.

    ``scheduler``: its name, an object, or ``auto``: detect it, and remember it in the journal.
    ``poll_interval``: the least seconds between two queries of the queue by all processes of this
    user, which share them (default: the scheduler's own, 10 s).  It is raised to ``poll_floor`` in
    ``servers.toml``, ``$OPENSSH_JOBS_POLL_INTERVAL`` and the site's policy (docs/polling.rst).
    ``grace``: seconds to keep querying a job that left the queue before it is reported with the
    state ``unknown``.  ``login_shell``: run the scheduler's commands under the user's login shell,
    where PATH and modules come from (default: yes); ``prologue``: shell text before each of them.
    ``record_exit``: whether jobs write an exit record (docs/exit-record.rst); ``auto``: only where
    the host keeps no accounting.  ``journal``: a ``Journal`` or its path.  All other options are
    those of ``Connection``.  ``scheduler``, ``login_shell``, ``prologue``, and what ``submit`` is
    not given (queue, account, time limit, options, where relative directories begin) come from
    ``servers.toml`` where it has them (docs/settings.rst).

    Sends nothing to the host before the first use.  Raises ``ConfigurationError`` for options that
    make no sense, also for those of a connection beside a ``Connection``.
    """

    def __init__(
        self,
        host_or_connection: str | Host,
        *,
        scheduler: str | Scheduler = "auto",
        poll_interval: float | None = None,
        grace: float = 600,
        record_exit: str | bool = "auto",
        login_shell: bool | None = None,
        prologue: str | None = None,
        journal: Journal | str | None = None,
        **connection_options: Unpack[ConnectionOptions],
    ) -> None:
        if isinstance(host_or_connection, str):
            self.connection: Host = Connection(host_or_connection, **connection_options)
        elif connection_options:
            raise ConfigurationError(
                f"{', '.join(sorted(connection_options))}: options of a connection together with "
                "a Connection that has them already"
            )
        else:
            self.connection = host_or_connection
        self.host = self.connection.name
        check_choice(record_exit, self.host)
        self._record_exit = record_exit
        if poll_interval is not None and not poll_interval >= 0:
            raise ConfigurationError(
                f"poll_interval must be a number of seconds >= 0, not {poll_interval!r}"
            )
        self.journal = journal if isinstance(journal, Journal) else Journal(journal)
        client = SchedulerClient(
            self.connection,
            self.journal,
            self.host,
            scheduler,
            login_shell=login_shell,
            prologue=prologue,
        )
        self.internal = HostJobs(client, grace=grace, poll_interval=poll_interval)
        """Shared with each ``Job``.  Not a public interface."""

    def __repr__(self) -> str:
        return f"Cluster({self.host!r})"

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what this object holds; jobs and the master go on."""
        self.internal.poller.close()
        self.connection.close()
        self.journal.close()

    # ------------------------------------------------------------------ asking the host

    @property
    def scheduler(self) -> str | None:
        """The scheduler's name, ``None`` while it is not known yet."""
        known = self.internal.client.known
        return None if known is None else known.name

    @property
    def capabilities(self) -> frozenset[str]:
        """The parameters of ``submit`` that this host's scheduler honours; others are refused.

        Detects the scheduler if it is not known yet.
        """
        scheduler = self.internal.client.scheduler()
        own = {"script", "script_file", "script_text", "directory", "upload", "env", "token"}
        if scheduler.convention is not None:
            own.add("record_exit")
        return scheduler.capabilities | own

    @property
    def queries(self) -> int:
        """How many queries of the queue this object has made."""
        return self.internal.poller.queries

    @property
    def poll_interval(self) -> float:
        """The least seconds between two queries of the queue."""
        return self.internal.poller.interval

    # ------------------------------------------------------------------ submitting

    @overload
    def submit(
        self,
        script: str | None = ...,
        *,
        again: AnyJob | None = ...,
        dry_run: Literal[False] = ...,
        **options: Unpack[ScriptOptions],
    ) -> Job: ...

    @overload
    def submit(
        self,
        script: str | None = ...,
        *,
        again: AnyJob | None = ...,
        dry_run: Literal[True],
        **options: Unpack[ScriptOptions],
    ) -> DryRun: ...

    def submit(
        self,
        script: str | None = None,
        *,
        script_file: str | os.PathLike[str] | None = None,
        script_text: str | None = None,
        directory: str | None = None,
        upload: str | os.PathLike[str] | None = None,
        name: str | None = None,
        array: str | None = None,
        after_ok: AnyJobs | None = None,
        after_any: AnyJobs | None = None,
        after_failed: AnyJobs | None = None,
        hold: bool = False,
        queue: str | None = None,
        account: str | None = None,
        time_limit: timedelta | str | None = None,
        nodes: int | str | None = None,
        cpus: int | None = None,
        memory: int | str | None = None,
        gpus: int | str | None = None,
        qos: str | None = None,
        reservation: str | None = None,
        constraint: str | None = None,
        stdout_path: str | None = None,
        stderr_path: str | None = None,
        mail: str | None = None,
        arguments: Sequence[str] = (),
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        record_exit: bool | str | None = None,
        token: str | None = None,
        again: AnyJob | None = None,
        dry_run: bool = False,
    ) -> Job | DryRun:
        """Submit one job.

        Exactly one of ``script`` (a path on the host, relative to ``directory``), ``script_file``
        (local) and ``script_text``.  ``upload``: a local directory that becomes ``directory``
        (which must not exist yet); ``directory`` is made if missing.  ``time_limit``: a
        ``timedelta``, ``HH:MM:SS`` or ``D-HH:MM:SS``.  ``memory``: bytes, or text with a unit,
        which is a power of 1024 (``8G``, ``8GB`` and ``8GiB`` are the same).  ``mail``: an address
        for a message when the job ends or fails.  ``arguments``: of the script, each as it is;
        others can see them.  ``options`` come last and win.  What the scheduler does not have
        (``capabilities``) is refused.

        ``env`` travels in a private file and is set around the submit command; the job gets it
        where the scheduler passes that environment on (sbatch does, without ``--export=NONE``).
        ``record_exit`` overrides that of the cluster.  The same ``token`` with the same
        specification is the same job, also where an earlier call got no answer: such a call goes on
        from there, as ``recover`` does.  Where there is no job in the end, what was put on the host
        is removed again.

        ``again``: a job that was submitted from here, in the place of the script: its script and
        parameters as the journal has them, but for those that are given.  Its ``env`` has to be
        given, and an uploaded directory goes into a new one, ``DIRECTORY-again-…``, unless
        ``directory`` is given.

        ``dry_run``: only say what would be sent.  The host is asked what has to be known for that;
        nothing is changed there, and nothing is written to the journal of submissions.

        Raises ``InputError`` and ``OSError`` before anything is sent, ``SubmitRejected`` or
        ``SubmitLimit`` where there is no job, ``SubmitUnknown`` where there may be one.
        """
        given = dict(locals())
        for name in ("self", "dry_run"):
            del given[name]
        wanted = self._submissions([given])
        if dry_run:
            return self.internal.dry_run(wanted)[0]
        (outcome,) = self._submit(wanted)
        if isinstance(outcome, Job):
            return outcome
        raise outcome from outcome.__cause__

    @overload
    def submit_many(
        self,
        specifications: AnySpecifications,
        *,
        dry_run: Literal[False] = ...,
        **common: Unpack[SubmitOptions],
    ) -> list[Job]: ...

    @overload
    def submit_many(
        self,
        specifications: AnySpecifications,
        *,
        dry_run: Literal[True],
        **common: Unpack[SubmitOptions],
    ) -> list[DryRun]: ...

    def submit_many(
        self,
        specifications: AnySpecifications,
        *,
        dry_run: bool = False,
        **common: Unpack[SubmitOptions],
    ) -> list[Job] | list[DryRun]:
        """Submit many jobs in a few round trips; the jobs, in order.

        ``specifications``: for each job the parameters of ``submit`` by name, or a local script; or
        a local directory, which becomes ``directory`` in one transfer: one job for each file
        directly in it that begins with ``#!``, by name.  ``common``: parameters of all, which those
        of a job override; both have a part in its ``env``.  ``dry_run``: as with ``submit``.

        Each is submitted once by its token, as ``submit`` does; the same call with the same tokens
        finishes what was not finished.  Raises ``InputError`` and ``OSError`` before anything is
        sent, also for an empty list and for one token of two submissions.  Where some have no job
        in the end the others do: ``SubmitIncomplete`` says of each what became of it.
        """
        wanted = self._submissions(parameters_of_many(specifications, common))
        if dry_run:
            return self.internal.dry_run(wanted)
        outcomes = self._submit(wanted)
        jobs = [job for job in outcomes if isinstance(job, Job)]
        if len(jobs) < len(outcomes):
            found = [one.id if isinstance(one, Job) else one for one in outcomes]
            raise SubmitIncomplete.of(found, host=self.host)
        return jobs

    def _submissions(self, given: Sequence[dict[str, Any]]) -> list[Submission]:
        for asked in given:
            if asked["record_exit"] is None:
                asked["record_exit"] = self._record_exit
        return self.internal.submissions(given)

    def _submit(self, wanted: Sequence[Submission]) -> list[Job | OpenSSHJobsError]:
        """The job of each submission, or why it is not known."""
        found = self.internal.submit(wanted)
        jobs = [self._job_of(one) if isinstance(one, Row) else one for one in found]
        ids = [job.id for job in jobs if isinstance(job, Job)]
        if ids:
            self.internal.poller.outdate(*ids)
        return jobs

    def _job_of(self, row: Row) -> Job:
        if row.job_id is None:
            raise open_submission(row)
        self.internal.tracker.add_known(status_of(row, row.job_id))
        return Job(self.internal, row.job_id, row)

    def recover(self, directory: str | None = None) -> list[Job]:
        """Finish every submission to this host that got no answer: its jobs, the newest first.

        A submission whose job is there gets its id; one that certainly has none is submitted now,
        if all its files are on the host, or else removed (as one that the scheduler refused): the
        logger ``openssh_jobs.cluster`` warns of that, and its token may be used again.  Sends
        nothing where none is open.  May wait for some minutes (docs/submitting.rst).

        Raises ``SubmitUnknown`` after all others are finished if it is still unknown whether a job
        exists; ``.tokens`` names the submissions, ``job(token=)`` gives the jobs of the others.

        ``directory``: instead, go on with the jobs that another machine submitted below this
        directory of the host.  Their private directories there, and those in the home directory
        whose jobs' directories lie there, are written to the journal of this machine, which keeps
        what it has.  What others could change is not believed: it is logged and left out, as are
        submissions whose job is not known.  Raises ``OSError`` where the directory cannot be
        entered, ``InvalidAnswer``, ``SchedulerError`` and the errors of a connection.
        """
        if directory is not None:
            rows = take_over(self.internal, directory)
            return [self._job_of(row) for row in rows if row.job_id is not None]
        jobs, unknown = [], []
        for row, outcome in self.internal.recover():
            if isinstance(outcome, SubmitUnknown):
                unknown.append(outcome)
            elif isinstance(outcome, Exception):
                log.warning("%s: %s (%s): %s", self.host, row.token, row.name, outcome)
            else:
                jobs.append(self._job_of(self.internal.with_paths([outcome])[0]))
        if unknown:
            raise open_submissions(unknown, self.host)
        return jobs

    def job(self, job_id: AnyJob | None = None, *, token: str | None = None) -> Job:
        """A handle for any job of this host, submitted here or not; sends nothing.

        Raises ``InputError`` for what is not an id and for a token that is not in the journal,
        ``SubmitUnknown`` for one whose submission got no answer.
        """
        if (job_id is None) == (token is None):
            raise InputError("give either a job id or token=")
        if token is not None:
            row = self.journal.by_token(self.host, token)
            if row is None:
                raise InputError(f"there is no token {token!r} in the journal", host=self.host)
            return self._job_of(row)
        found = job_ids(job_id, self.host)
        if len(found) != 1:
            raise InputError(f"one job, not {len(found)}: {job_id!r}", host=self.host)
        row = self.journal.by_job(self.host, found[0])
        if row is not None and not row.is_followed:
            return self._job_of(row)
        if row is not None and is_current(row):
            self.internal.tracker.add_known(status_of(row, found[0]))
        self.internal.tracker.follow(*found)
        return Job(self.internal, found[0], None)

    # ------------------------------------------------------------------ watching

    def status(self, ids: AnyJobs) -> Snapshot:
        """What is known about these jobs: one query for all jobs of this host, then the history.

        An answer younger than ``poll_interval`` is used again.  A scheduler that does not answer
        gives a ``Snapshot`` with ``.error`` and all ids in ``.unknown``; raises ``SchedulerError``
        for one that never will (permission, no such command).

        A job that ended, of which there is no ``Job`` any more and that no call has named for 10
        minutes, is answered from the journal (source ``journal``), which has fewer facts about it.
        """
        return self.internal.status(job_ids(ids, self.host))

    def jobs(self, *, all_users: bool = False) -> list[JobStatus]:
        """The jobs that the scheduler lists now: this user's, or everybody's.  One query.

        Ended ones are among them for as long as the scheduler remembers them: Slurm some minutes
        (MinJobAge), ``direct`` until they are fetched.  An answer younger than ``poll_interval``
        is used again unless something was done since.  Raises ``SchedulerError`` where there is no
        complete answer.
        """
        return self.internal.poller.jobs(all_users)

    def wait(
        self,
        jobs: AnyJobs,
        *,
        timeout: float | None = None,
        on_change: OnChange | None = None,
    ) -> list[JobStatus]:
        """Wait until all of these jobs are over; returns their statuses, in order.

        ``on_change`` is called in this thread with a list of statuses: first of all jobs of which
        something is known, then of those whose state or reason changed.  What it raises ends the
        wait, as Ctrl-C does; the jobs go on.

        A job that left the queue, and whose end neither history nor exit record has, is over
        after ``grace`` seconds, with the state ``unknown``.  Raises ``TimeoutError`` after
        ``timeout`` seconds.

        A failed query ends the wait only if its error is final (no permission, no such command, a
        login that the user has to make) and comes twice in a row; at once if the host was never
        reached.  A pending job whose dependency cannot come true any more is waited for like any
        other (its reason says so); the logger ``openssh_jobs.cluster`` warns of it once.
        """
        return self.internal.wait(job_ids(jobs, self.host), timeout, on_change)

    def as_completed(
        self,
        jobs: Iterable[Job],
        *,
        timeout: float | None = None,
        on_change: OnChange | None = None,
    ) -> Iterator[Job]:
        """Each of the jobs as soon as it is over; ``on_change`` and errors are those of ``wait``.

        ``jobs``: jobs, or one array.  Of an array that was submitted from here each element is
        yielded.
        """
        jobs = [*jobs]
        job_ids(jobs, self.host)
        parts = (job.elements() if job.token is not None else [job] for job in jobs)
        handles = {element.id: element for part in parts for element in part}
        for job_id in settling(self.internal.poller, tuple(handles), timeout, on_change):
            yield handles[job_id]

    def is_over(self, job_id: AnyJob) -> bool:
        """Whether the job ended, or left the queue longer than ``grace`` ago.  Sends nothing."""
        (checked,) = job_ids(job_id, self.host)
        self.internal.follow([checked])
        return self.internal.tracker.is_over(checked)

    def following(self) -> list[str]:
        """The ids of the jobs under watch that are not over.  Sends nothing."""
        return self.internal.tracker.unsettled()

    # ------------------------------------------------------------------ what is left

    def tidy(self, older_than: timedelta | float | None = None, *, dry_run: bool = False) -> Tidied:
        """Remove what this package keeps on the host of jobs that are over; their own files stay.

        ``older_than``: only of jobs whose end was known so long ago (a number is seconds).
        ``dry_run``: only say what would be removed.  Kept is what may be needed again: of jobs that
        go on, may be requeued, or whose end is not known, of submissions without an answer, and
        all that the journal of this machine does not know.  For each token that a caller chose one
        line stays on the host, so that it does not run again for 90 days.

        Of jobs that were fetched, or ended 7 days ago, it is removed without this call.  Raises
        ``SchedulerError`` where the queue does not answer, and the errors of a connection.
        """
        seconds = older_than.total_seconds() if isinstance(older_than, timedelta) else older_than
        if seconds is not None and (not isinstance(seconds, int | float) or not seconds >= 0):
            raise InputError(
                f"older_than must be a timedelta or a number of seconds >= 0, not {older_than!r}"
            )
        rows = self.journal.rows(self.host)
        done = self.internal.tidy(rows, older_than=seconds or 0.0, dry_run=dry_run)
        leftovers = self.internal.upkeep.leftovers
        return Tidied(
            removed=(*done.removed, *leftovers.dead_parts(rows, dry_run)),
            kept=(*done.kept, *leftovers.strangers(rows)),
        )

    # ------------------------------------------------------------------ acting

    def cancel(self, ids: AnyJobs) -> dict[str, CancelOutcome]:
        """Cancel jobs, one command for all; the outcome by id."""
        return self.internal.act("cancel", job_ids(ids, self.host))

    def hold(self, ids: AnyJobs) -> dict[str, CancelOutcome]:
        """Hold pending jobs; the outcome by id."""
        return self.internal.act("hold", job_ids(ids, self.host))

    def release(self, ids: AnyJobs) -> dict[str, CancelOutcome]:
        """Release held jobs; the outcome by id."""
        return self.internal.act("release", job_ids(ids, self.host))

    # ------------------------------------------------------------------ the machine

    def nodes(self) -> list[Node]:
        """The nodes of the cluster."""
        return self.internal.nodes()

    def queues(self) -> list[Queue]:
        """The queues (Slurm: partitions) of the cluster."""
        return self.internal.queues()
