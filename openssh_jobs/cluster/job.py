"""``Job``: the handle of one job, submitted here or not."""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Unpack

from .. import logs, settings
from ..commands.quoting import envelope, join_command, to_bytes
from ..errors import ArrayOutput, InputError, JobNotRunning, JobPending, SchedulerError
from ..files import host_names
from ..files.private_directory import PRIVATE
from ..jobs import CancelOutcome, JobId, JobState, JobStatus
from ..jobs.explanation import Explanation
from ..schedulers.fields import expand_array, quote
from .dependencies import check_elements
from .leftovers import Leftover
from .output import JobOutput
from .tidy import Tidied

if TYPE_CHECKING:
    from ..commands.options import Command
    from ..transfer.options import Method, TransferOptions, TransferResult
    from .host_jobs import HostJobs, Understood
    from .journal import Row
    from .waiting import OnChange


log = logs.logger("openssh_jobs.cluster.job")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0
_MOST_ELEMENTS = 2000
"""Elements of an array whose states are asked for to name those with an output."""
_MOST_NAMED = 5
EVERYTHING = "everything=True fetches all of it."
"""The advice with which ``fetch`` refuses a home directory."""


def _has_not_begun(status: JobStatus) -> bool:
    """Whether a job waits, and never ran before."""
    return status.state in (JobState.PENDING, JobState.HELD) and not status.restarts


def _named(ids: list[str]) -> str:
    more = f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else ""
    return ", ".join(ids[:_MOST_NAMED]) + more


class Job:
    """One job of a cluster.  Attributes say what is known; only methods ask the host.

    ``id``, ``host``, ``directory`` and ``name`` (``None`` where not known), ``token`` (``None``
    for a job that was not submitted from here).
    """

    def __init__(
        self, jobs: HostJobs, job_id: str, row: Row | None, shared: Row | None = None
    ) -> None:
        self._jobs = jobs
        self.id = job_id
        self.host = jobs.host
        self.token = row.token if row is not None else None
        self._row = row
        # The submission that the job shares with the other members of its array.
        self._shared = row or shared or jobs.journal.by_member(jobs.host, job_id)
        self._detail: JobStatus | None = None
        # What is known of the job is kept as long as this handle.
        self._held = jobs.tracker.follow(job_id)

    def __repr__(self) -> str:
        return f"<Job {self.id} on {self.host}: {self.last.state}>"

    # ------------------------------------------------------------------ what is known

    @property
    def last(self) -> JobStatus:
        """The status known now."""
        known = self._jobs.tracker.last(self.id)
        if known is not None:
            return known
        return JobStatus(self.id, JobState.UNKNOWN, reason="not asked yet")

    def _fact(self, name: str) -> Any:
        for status in (self._jobs.tracker.last(self.id), self._detail):
            value = getattr(status, name, None) if status is not None else None
            if value is not None:
                return value
        return getattr(self._shared, name, None) if self._shared is not None else None

    @property
    def understood(self) -> Understood | None:
        """Queue and time limit as the scheduler understood them, of a job just submitted here."""
        return self._jobs.understood.get(self.id)

    @property
    def directory(self) -> str | None:
        """The directory on the host that the job was submitted from."""
        if self._shared is not None and self._shared.directory:
            return self._shared.directory
        found: str | None = self._fact("directory")
        return found

    @property
    def name(self) -> str | None:
        """The job's name."""
        found: str | None = self._fact("name")
        return found

    @property
    def exit_code(self) -> int | None:
        """The exit code of the job's script, once known."""
        return self.last.exit_code

    @property
    def reason(self) -> str | None:
        """Why the job is in its state, in the scheduler's words."""
        return self.last.reason

    @property
    def stdout_path(self) -> str | None:
        """Where the job's standard output goes on the host, as far as known.

        Grid Engine takes a directory, too: the file in it is ``NAME.oID``, as ``tail`` knows.
        """
        return self._path("stdout_path")

    @property
    def stderr_path(self) -> str | None:
        """Where the job's standard error goes on the host, as far as known."""
        return self._path("stderr_path")

    def _path(self, name: str) -> str | None:
        given: str | None = self._fact(name)
        scheduler = self._jobs.client.known
        if given is None or scheduler is None:
            return given
        return scheduler.actual_path(given, self.id, self.last.nodes)

    # ------------------------------------------------------------------ elements of an array

    def elements(self) -> list[Job]:
        """The elements of an array, each a job of its own; of any other job the job itself.

        Sends nothing.  Raises ``InputError`` for an array that was not submitted from here.
        """
        array = self._array()
        if array is None:
            return [self]
        found = self._jobs.client.scheduler().element_ids(self.id, array)
        self._jobs.tracker.follow(*found)
        return [Job(self._jobs, job_id, None, self._shared) for job_id in found]

    def __getitem__(self, index: int) -> Job:
        """The element of an array with this index; ``InputError`` for one that it does not have."""
        array = self._array()
        if array is None:
            raise InputError(f"job {self.id} is not an array", host=self.host)
        if isinstance(index, bool) or not isinstance(index, int):
            raise InputError(f"the index of an element must be an integer, not {index!r}")
        check_elements(self.id, array, (index,), self.host)
        (job_id,) = self._jobs.client.scheduler().element_ids(self.id, str(index))
        self._jobs.tracker.follow(job_id)
        return Job(self._jobs, job_id, None, self._shared)

    def __iter__(self) -> Iterator[Job]:
        return iter(self.elements())

    def __len__(self) -> int:
        """How many elements an array has; 1 for any other job."""
        array = self._array()
        return 1 if array is None else len(expand_array(array))

    def __bool__(self) -> bool:
        return True

    def _array(self) -> str | None:
        """The indices that this job was submitted with, ``None`` if it is not an array."""
        if self._row is None:
            if JobId.parse(self.id).tasks in (None, "") and self._shared is None:
                raise InputError(
                    f"job {self.id} was not submitted from here: it is not known whether it is an "
                    "array",
                    host=self.host,
                )
            return None
        return self._row.array

    # ------------------------------------------------------------------ asking and acting

    def status(self) -> JobStatus:
        """The job's status; asks the queue unless an answer is younger than ``poll_interval``.

        A job that was submitted less than 2 s ago (or the interval, if that is shorter) is not
        queried: it is ``pending``, with the source ``journal``.
        Where the scheduler does not answer, this is what was known before.
        """
        self._jobs.status([self.id])
        return self._jobs.tracker.status(self.id)

    def wait(self, timeout: float | None = None, on_change: OnChange | None = None) -> JobStatus:
        """Wait until the job is over; ``TimeoutError`` after ``timeout`` seconds.

        ``on_change`` is called as by ``Cluster.wait``.
        """
        return self._jobs.wait([self.id], timeout, on_change)[0]

    def explain(self) -> Explanation:
        """Why the job waits, or what ended it and what it used; asks the host as ``status`` does.

        At most one round trip more.  ``cause`` is ``UNKNOWN`` where what the scheduler says does
        not settle it.
        """
        return self._jobs.explain([self.status()])[self.id]

    def cancel(self) -> CancelOutcome:
        """Ask the scheduler to end the job."""
        return self._act("cancel")

    def hold(self) -> CancelOutcome:
        """Keep the pending job from starting."""
        return self._act("hold")

    def release(self) -> CancelOutcome:
        """Let the held job start."""
        return self._act("release")

    def _act(self, action: str) -> CancelOutcome:
        return self._jobs.act(action, [self.id])[self.id]

    def on_node(self, command: Command | None = None, *, tty: bool = False) -> str:
        """Shell text for the host that runs a command, or a shell, on the job's first node.

        By the scheduler's own means, inside the job; by the host's ssh to the node only if
        ``node_ssh`` of ``servers.toml`` is true.  ``tty``: for ``interact``.  Asks the queue as
        ``status`` does.  Raises ``JobNotRunning``, ``SchedulerError`` of kind
        ``unsupported`` if the scheduler cannot.
        """
        status = self.status()
        if status.state != JobState.RUNNING or not status.nodes:
            why = f" ({status.reason})" if status.reason else ""
            raise JobNotRunning(
                f"job {self.id} is {status.state}{why}, so it has no node to run a command on",
                host=self.host,
            )
        script = b'exec "${SHELL:-/bin/sh}" -l' if command is None else join_command(command)
        if settings.node_ssh(self.host):
            there = envelope(script).decode("utf-8", "surrogateescape")
            words = ("ssh", "-t" if tty else "-T", "--", status.nodes[0], there)
            text = "exec " + " ".join(quote(word) for word in words)
        else:
            wanted = script.decode("utf-8", "surrogateescape")
            text = self._jobs.client.scheduler().node_script(self.id, wanted, tty=tty)
        complete = self._jobs.client.after_prologue(text.encode("utf-8", "surrogateescape"))
        return complete.decode("utf-8", "surrogateescape")

    # ------------------------------------------------------------------ output

    def _output(self, stream: str) -> JobOutput:
        if stream not in ("stdout", "stderr"):
            raise InputError(f"{stream!r} is neither stdout nor stderr")
        key = f"{stream}_path"
        scheduler = self._jobs.client.scheduler()
        if self._fact(key) is None:
            self._detail = self._jobs.detail(self.id)
            if self._detail is not None and self._row is not None and self._fact(key) is not None:
                self._row = self._shared = self._jobs.note_paths(self._row, self._detail)
        given, path = self._fact(key), self._path(key)
        name = self.name
        if (self._fact(key) is None and self._is_array) or self._is_of_element(key):
            raise self._no_path(stream, None)
        usual = scheduler.usual_paths(self.id, name) if name is not None else None
        inside = scheduler.names_in_directory(self.id, name)
        names: tuple[str, ...] = ()
        if given is None and usual is not None:
            path = usual[stream == "stderr"]
        elif inside is not None:
            # Joined streams lie under the name of one of them.
            is_one_file = stream == "stderr" and given == self._fact("stdout_path")
            names = inside[::-1] if is_one_file else (inside[stream == "stderr"],)
        if path is None:
            raise self._no_path(stream, given)
        if not path.startswith("/") and self.directory:
            path = posixpath.join(self.directory, path)
        return JobOutput(
            client=self._jobs.client,
            files=self._jobs.files,
            job_id=self.id,
            stream=stream,
            path=path,
            names=names,
            guessed=given is None,
        )

    @property
    def _is_array(self) -> bool:
        return self._row is not None and self._row.array is not None

    def _is_of_element(self, key: str) -> bool:
        """Whether a path is that of one element, whose record the scheduler gave for the array."""
        detail = self._detail
        if detail is None or getattr(self._shared, key, None) is not None:
            return False
        return JobId.parse(self.id).contains(JobId.parse(detail.job_id)) and (
            JobId.parse(detail.job_id).tasks is not None
        )

    def _no_path(self, stream: str, given: str | None) -> InputError:
        detail = self._detail
        if self._is_array or (detail is not None and self._is_of_element(f"{stream}_path")):
            return self._array_output(stream)
        if given is not None and JobId.parse(self.id).tasks is None:
            found = self._listed_elements()
            if found:
                return self._array_output(stream, found)
        if given is None:
            return InputError(
                f"it is not known where the {stream} of job {self.id} goes",
                host=self.host,
                advice="The scheduler has forgotten the job; read the file by its name.",
            )
        return InputError(
            f"the {stream} of job {self.id} goes to {given}: that is one file for each member of "
            "the array, or each node",
            host=self.host,
            advice="Take one member by its id; the node is known once the job was seen there.",
        )

    def _listed_elements(self) -> list[JobStatus]:
        """The elements that the scheduler lists now, or all that were submitted from here."""
        if self._is_array:
            ids = [job.id for job in self.elements()]
            if len(ids) <= _MOST_ELEMENTS:
                known = self._jobs.status(ids).known
                return [known[job_id] for job_id in ids if job_id in known]
            return []
        whole = JobId.parse(self.id)
        listed = self._jobs.poller.jobs(all_users=False)
        return [status for status in listed if whole.contains(JobId.parse(status.job_id))]

    def _array_output(self, stream: str, found: list[JobStatus] | None = None) -> ArrayOutput:
        found = self._listed_elements() if found is None else found
        if not found and self._detail is not None and self._detail.job_id != self.id:
            found = [self._detail]  # a listing that is reused is older than the job
        single = [status for status in found if JobId.parse(status.job_id).members == 1]
        begun = [status for status in single if not _has_not_begun(status)]
        begun.sort(key=lambda status: status.state is not JobState.RUNNING)
        ids = [status.job_id for status in (begun or single)] or [
            job.id for job in (self.elements() if self._is_array else ())
        ]
        counts: dict[str, list[str]] = {}
        for status in found:
            counts.setdefault(status.state, []).append(status.job_id)
        said = "; ".join(f"{state}: {_named(names)}" for state, names in counts.items())
        return ArrayOutput(
            f"job {self.id} is an array, whose elements have a {stream} each"
            + (f" ({said})" if said else ""),
            host=self.host,
            elements=ids,
            advice=f"Take one element by its id, such as {ids[0]}." if ids else None,
        )

    def tail(
        self,
        stream: str = "stdout",
        follow: bool = False,
        lines: int | None = None,
        on_pending: Callable[[JobStatus], object] | None = None,
    ) -> Iterator[str]:
        """The lines of the job's output, with their newlines; with ``follow`` until it is over.

        ``lines``: of those that are there already only the last ones, as with ``tail -n``.

        Read in pieces by offset: nothing is held open on the host between two of them.  Raises
        ``FileNotFoundError`` where the job is over (or ``follow`` is false) and there is no file,
        ``InputError`` where it is not known which file it is, or where it goes to a device or
        pipe, ``ArrayOutput`` for an array whose elements have a file each.  With ``follow`` waits
        for the start of a pending job, and for a file that is not there yet; where the scheduler
        keeps it elsewhere meanwhile, the logger warns.  ``on_pending`` is called with the status of
        a job that waits, again when its reason or its expected start changes.
        """
        if lines is not None and (isinstance(lines, bool) or lines < 0):
            raise InputError(f"lines must be a whole number >= 0; {lines!r} was given")
        if follow:
            self._wait_for_start(on_pending)
        yield from self._output(stream).lines(lambda: not follow or self._is_over(), lines)

    def _wait_for_start(self, on_pending: Callable[[JobStatus], object] | None) -> None:
        """Wait while the job has never begun; an array waits in its elements."""
        passed: tuple[object, ...] = ()
        pause = _FIRST_PAUSE
        while not self._is_array and _has_not_begun(status := self.status()):
            known = status.state, status.reason, status.expected_start
            if on_pending is not None and status.source != "journal" and known != passed:
                passed = known
                on_pending(status)
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _is_over(self) -> bool:
        self.status()
        return self._jobs.tracker.is_over(self.id)

    def fetch(
        self,
        local: str | os.PathLike[str],
        *,
        everything: bool = False,
        method: Method = "auto",
        **options: Unpack[TransferOptions],
    ) -> TransferResult:
        """Copy the job's directory to the local directory ``local``; options as for ``get``.

        Of a job that is known to be over, what this library keeps on the host is removed after
        that; the job's own files stay.  Raises ``JobPending`` where the job has not begun, which is
        asked unless it is known to be over, and ``InputError`` where it was not submitted from here
        and its directory is the home directory or one above it, unless ``everything=True`` or
        ``dry_run=True``.
        """
        if self.directory is None:
            self._detail = self._jobs.detail(self.id)
        self._require_begun()
        if self.directory is None:
            raise InputError(f"the directory of job {self.id} is not known", host=self.host)
        if self._shared is None or self._shared.is_followed:
            # The scheduler says what is copied: check it like any name from the host.
            host_names.absolute(
                to_bytes(self.directory), host=self.host, call=f"the directory of job {self.id}"
            )
        if not (everything or options.get("dry_run")):
            self._refuse_home(self.directory)
        options["exclude"] = [*(options.get("exclude") or ()), PRIVATE]
        target = os.fspath(local)
        moved = self._jobs.connection.get(
            self.directory, target.rstrip("/") or target, method=method, **options
        )
        if self.token is not None and not options.get("dry_run"):
            self._jobs.tidy_fetched(self.token)
        return moved

    def _require_begun(self) -> None:
        """Raise ``JobPending`` if the scheduler says that the job has not begun."""
        status: JobStatus | None = self._detail
        if status is None and not self.last.is_final:
            try:
                status = self.status()
            except SchedulerError as error:
                log.info("%s: the state of job %s is not known: %s", self.host, self.id, error)
        if status is None or not _has_not_begun(status) or status.source == "journal":
            return
        why = f" ({status.reason})" if status.reason else ""
        raise JobPending(
            f"job {self.id} is {status.state}{why}: there is nothing to fetch yet",
            job_id=self.id,
            host=self.host,
            advice="Wait for its end first.",
        )

    def _refuse_home(self, directory: str) -> None:
        """Raise ``InputError`` if a job of others' making has the home directory as its own."""
        if self._shared is not None and not self._shared.is_followed:
            return
        host = self._jobs.connection
        paths = directory, host.realpath(directory)
        if any(host.internal.is_precious(path) for path in paths):
            raise InputError(
                f"job {self.id} was not submitted from here, and its directory {directory} is your "
                "home directory, or above it",
                host=self.host,
                sent="yes",
                advice=EVERYTHING,
            )

    def tidy(self) -> Tidied:
        """Remove what this package keeps on the host of the job, if it is over.

        The job's own files stay.  The members of an array share what is kept.  What stays, and
        why, is in the result: a job that was not submitted from here, that goes on or may be run
        again, or whose end is not known.  Raises as ``Cluster.tidy`` does.
        """
        if self._shared is None or self._shared.is_followed:
            why = "it was not submitted from here"
            place = self.directory or ""
            return Tidied(kept=(Leftover(path=place, reason=why, job_id=self.id),))
        return self._jobs.tidy([self._shared])
