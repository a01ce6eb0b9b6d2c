"""``Job``: the handle of one job, submitted here or not."""

from __future__ import annotations

import codecs
import errno
import logging
import os
import posixpath
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..commands.os_errors import error_of
from ..commands.quoting import quote, quote_path, to_bytes, to_text
from ..errors import (
    CommandFailed,
    CommandTimeout,
    ConnectError,
    ConnectionLost,
    InputError,
    RemoteFileNotFoundError,
    SchedulerError,
    SessionLimit,
    remote_oserror,
)
from ..files import host_names
from ..files.private_directory import PRIVATE
from ..jobs import CancelOutcome, JobId, JobState, JobStatus
from .submission import remove_private

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..connection import Connection
    from ..jobs import Snapshot
    from ..transfer.transfer import TransferResult
    from .journal import Journal, Row
    from .scheduler_client import Asker
    from .tracker import Watch

log = logging.getLogger("openssh_jobs.cluster.job")

_TAIL_CHUNK = 256 * 1024
_NO_FILE = 21
_TAIL_FIRST, _TAIL_SLOWEST = 0.5, 5.0
_PATHS_TIMEOUT = 30.0
_NO_ANSWER = (ConnectError, ConnectionLost, CommandFailed, CommandTimeout, SessionLimit)


class _Home(Protocol):
    """What a job asks of its cluster."""

    host: str
    connection: Connection
    journal: Journal
    _asker: Asker
    _watch: Watch

    def status(self, ids: Any) -> Snapshot: ...
    def wait(self, jobs: Any, *, timeout: float | None = None) -> list[JobStatus]: ...
    def cancel(self, ids: Any) -> dict[str, CancelOutcome]: ...
    def hold(self, ids: Any) -> dict[str, CancelOutcome]: ...
    def release(self, ids: Any) -> dict[str, CancelOutcome]: ...
    def _detail(self, job_id: str, timeout: float = ...) -> JobStatus | None: ...
    def _clean_up(self, ids: Sequence[str]) -> None: ...


class _Output(NamedTuple):
    """Where to read: ``path``, or where that is a directory, the first of ``names`` in it.

    ``guessed``: nobody told it, it is only the usual place.
    """

    path: str
    names: tuple[str, ...] = ()
    guessed: bool = False


def with_paths(cluster: _Home, row: Row) -> Row:
    """The row of a new job with where its output goes, where that cannot be asked for later.

    Whatever becomes of the question, the job is there: nothing is raised.
    """
    scheduler = cluster._asker.scheduler()
    forgets = getattr(scheduler, "base", scheduler).forgets_paths
    if row.job_id is None or row.stdout_path is not None or not forgets:
        return row
    try:
        detail = cluster._detail(row.job_id, _PATHS_TIMEOUT)
    except _NO_ANSWER as error:
        log.info("%s: nobody told where job %s writes: %s", row.host, row.job_id, error.message)
        return row
    # Of an array some tell of one member, whose file is not that of the others.
    if detail is None or detail.job_id != row.job_id:
        return row
    return _noted(cluster.journal, row, detail)


def _noted(journal: Journal, row: Row, detail: JobStatus) -> Row:
    """Write down where the output goes, and the name that the job has in the end."""
    told = {
        name: getattr(detail, name)
        for name in ("name", "stdout_path", "stderr_path")
        if getattr(detail, name) is not None
    }
    journal.change(row.host, row.token, **told)
    return replace(row, **told)


def _row_of_array(journal: Journal, host: str, job_id: str) -> Row | None:
    """The submission of the array that a job is a member of."""
    one = JobId.parse(job_id)
    if one.tasks is None and one.proc is None:
        return None
    names = [one.number] if one.array is None else [str(one.array), one.number]
    return next(filter(None, (journal.by_job(host, name) for name in names)), None)


class Job:
    """One job of a cluster.  Attributes tell what is known; only methods ask the host.

    ``id``, ``host``, ``directory`` and ``name`` (``None`` where not known), ``token`` (``None``
    for a job that was not submitted from here).
    """

    def __init__(self, cluster: _Home, job_id: str, row: Row | None) -> None:
        self._cluster = cluster
        self.id = job_id
        self.host = cluster.host
        self.token = row.token if row is not None else None
        self._row = row
        # What it shares with the other members of its array.
        self._shared = row or _row_of_array(cluster.journal, cluster.host, job_id)
        self._detail: JobStatus | None = None

    def __repr__(self) -> str:
        return f"<Job {self.id} on {self.host}: {self.last.state}>"

    # ------------------------------------------------------------------ what is known

    @property
    def last(self) -> JobStatus:
        """The status known now."""
        known = self._cluster._watch.last(self.id)
        if known is not None:
            return known
        return JobStatus(self.id, JobState.UNKNOWN, reason="not asked yet")

    def _fact(self, name: str) -> Any:
        for status in (self._cluster._watch.last(self.id), self._detail):
            value = getattr(status, name, None) if status is not None else None
            if value is not None:
                return value
        return getattr(self._shared, name, None) if self._shared is not None else None

    @property
    def directory(self) -> str | None:
        """The directory on the host that the job was submitted from."""
        if self._shared is not None:
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
        told: str | None = self._fact(name)
        scheduler = self._cluster._asker.known
        if told is None or scheduler is None:
            return told
        return scheduler.actual_path(told, self.id, self.last.nodes)

    # ------------------------------------------------------------------ asking and acting

    def status(self) -> JobStatus:
        """The job's status; asks the queue unless an answer is younger than ``poll_interval``.

        A job that was submitted less than 2 s ago (or the interval, if that is shorter) is not
        asked about: it is what the submission said, ``pending`` with the source ``journal``.
        A scheduler that does not answer changes nothing: then this is what was known before.
        """
        self._cluster.status([self.id])
        return self._cluster._watch.status(self.id)

    def wait(self, timeout: float | None = None) -> JobStatus:
        """Wait until the job is over; ``TimeoutError`` after ``timeout`` seconds."""
        return self._cluster.wait([self.id], timeout=timeout)[0]

    def cancel(self) -> CancelOutcome:
        """Ask the scheduler to end the job."""
        return self._outcome(self._cluster.cancel([self.id]))

    def hold(self) -> CancelOutcome:
        """Keep the pending job from starting."""
        return self._outcome(self._cluster.hold([self.id]))

    def release(self) -> CancelOutcome:
        """Let the held job start."""
        return self._outcome(self._cluster.release([self.id]))

    def _outcome(self, outcomes: dict[str, CancelOutcome]) -> CancelOutcome:
        return outcomes[self.id]

    # ------------------------------------------------------------------ output

    def _output(self, stream: str) -> _Output:
        if stream not in ("stdout", "stderr"):
            raise InputError(f"{stream!r} is neither stdout nor stderr")
        key = f"{stream}_path"
        scheduler = self._cluster._asker.scheduler()
        if self._fact(key) is None:
            self._detail = self._cluster._detail(self.id)
            if self._detail is not None and self._row is not None and self._fact(key) is not None:
                self._row = self._shared = _noted(self._cluster.journal, self._row, self._detail)
        told, path = self._fact(key), self._path(key)
        name = self.name
        usual = scheduler.usual_paths(self.id, name) if name is not None else None
        inside = scheduler.names_in_directory(self.id, name)
        names: tuple[str, ...] = ()
        if told is None and usual is not None:
            path = usual[stream == "stderr"]
        elif inside is not None:
            # Joined streams lie under the name of one of them.
            is_one_file = stream == "stderr" and told == self._fact("stdout_path")
            names = inside[::-1] if is_one_file else (inside[stream == "stderr"],)
        if path is None:
            raise self._no_path(stream, told)
        if not path.startswith("/") and self.directory:
            path = posixpath.join(self.directory, path)
        return _Output(path, names, guessed=told is None)

    def _no_path(self, stream: str, told: str | None) -> InputError:
        if told is None:
            return InputError(
                f"nobody knows where the {stream} of job {self.id} goes",
                host=self.host,
                advice="The scheduler has forgotten the job; read the file by its name.",
            )
        return InputError(
            f"the {stream} of job {self.id} goes to {told}: that is one file for each member of "
            "the array, or each node",
            host=self.host,
            advice="Take one member by its id; the node is known once the job was seen there.",
        )

    def tail(self, stream: str = "stdout", follow: bool = False) -> Iterator[str]:
        """The lines of the job's output, with their newlines; with ``follow`` until it is over.

        Read in pieces by offset: nothing is held open on the host between two looks.  Raises
        ``FileNotFoundError`` where the job is over (or ``follow`` is false) and there is no file,
        ``InputError`` where nobody knows which file it is, or where it goes to a device or pipe.
        With ``follow`` a file that is not there yet is waited for; where the scheduler keeps it
        elsewhere meanwhile, a warning of the logger says so.
        """
        output = self._output(stream)
        has_warned = False
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        offset, kept, pause = 0, "", _TAIL_FIRST
        while True:
            over = not follow or self._is_over()
            found = self._read_from(output, offset, must_exist=over)
            if found is None and not has_warned:
                # Of a job that waits or has just begun that is no news; a spool is.
                late = self._late_output()
                level = logging.WARNING if late else logging.INFO
                log.log(level, "job %s: its %s is not there yet. %s", self.id, stream, late or "")
                has_warned = True
            size, data = found or (0, b"")
            if size < offset:
                # Begun anew: the job was requeued.
                offset, kept = 0, ""
                decoder.reset()
                continue
            offset += len(data)
            *lines, kept = (kept + decoder.decode(data)).split("\n")
            for line in lines:
                yield line + "\n"
            if data:
                pause = _TAIL_FIRST
                if len(data) == _TAIL_CHUNK:
                    continue
            if over:
                kept += decoder.decode(b"", final=True)
                if kept:
                    yield kept
                return
            time.sleep(pause)
            pause = min(pause * 1.5, _TAIL_SLOWEST)

    def _is_over(self) -> bool:
        self.status()
        return self._cluster._watch.is_over(self.id)

    def _read_from(
        self, output: _Output, offset: int, *, must_exist: bool
    ) -> tuple[int, bytes] | None:
        """The size of a file on the host and its bytes from an offset, in one round trip.

        ``None`` for a file that is not there yet.
        """
        script = b"f=%b; " % quote_path(output.path)
        if output.names:
            names = b" ".join(map(quote, output.names))
            script += (
                b'if [ -d "$f" ]; then d=$f; for n in %b; do f=$d/$n; [ ! -f "$f" ] || break; '
                b"done; fi; " % names
            )
        script += (
            b'if [ -f "$f" ]; then wc -c < "$f" && tail -c +%d -- "$f" | head -c %d; '
            b'else printf "%%s" "$f"; ls -d -- "$f" >/dev/null && exit %d; fi'
            % (offset + 1, _TAIL_CHUNK, _NO_FILE)
        )
        answer = self._cluster.connection._shell.call(script, again=True)
        path = output.path
        if answer.stdout and answer.status:
            path = to_text(answer.stdout).removeprefix("./")  # what quote_path put there
        if answer.status == _NO_FILE:
            raise InputError(
                f"the output of job {self.id} goes to {path}, which is no file: nothing that was "
                "written there can be read again",
                host=self.host,
            )
        if answer.status != 0:
            error = error_of(to_text(answer.stderr), path, host=self.host)
            if not isinstance(error, RemoteFileNotFoundError):
                raise error
            if not must_exist:
                return None
            if output.guessed:
                raise self._no_file(path)
            error.advice = self._late_output() or error.advice
            raise error
        size, _, data = answer.stdout.partition(b"\n")
        if not size.strip().isdigit():
            raise SchedulerError(
                f"no answer on the size of {output.path}", kind="transport", host=self.host
            )
        return int(size), data

    def _late_output(self) -> str | None:
        """Why the output is not there yet, where the scheduler keeps it elsewhere meanwhile."""
        return self._cluster._asker.scheduler().late_output

    def _no_file(self, path: str) -> OSError:
        """There is nothing where the output usually lies, and nobody to ask."""
        scheduler = self._cluster._asker.scheduler().name
        error = remote_oserror(
            errno.ENOENT,
            path,
            host=self.host,
            detail=f"the usual place; {scheduler} no longer tells where job {self.id} wrote, "
            "and its script may name another file",
        )
        late = self._late_output()
        named = "Read the file by the name that the script (-o, -e) gives it."
        error.advice = f"{late} {named}" if late else named
        return error

    def fetch(self, local: str | os.PathLike[str], **options: Any) -> TransferResult:
        """Copy the job's directory to the local directory ``local``; options as for ``get``.

        Of a job that is known to be over, what this library keeps on the host is removed after
        that; the job's own files stay.
        """
        if self.directory is None:
            self._detail = self._cluster._detail(self.id)
        if self.directory is None:
            raise InputError(f"nobody knows the directory of job {self.id}", host=self.host)
        if self._shared is None:
            # The scheduler's word, not ours: it names what is to be copied.
            told = to_bytes(self.directory)
            host_names.absolute(told, host=self.host, call=f"the directory of job {self.id}")
        exclude = [*(options.pop("exclude", None) or ()), PRIVATE]
        target = os.fspath(local)
        moved = self._cluster.connection.get(
            self.directory, target.rstrip("/") or target, exclude=exclude, **options
        )
        if self.last.is_final:
            self._tidy()
        return moved

    def _tidy(self) -> None:
        """Leave nothing behind; what fails here costs nobody a result."""
        try:
            if self.token is not None and self.directory is not None:
                remove_private(self._cluster.connection, self.directory, self.token)
            self._cluster._clean_up([self.id])
        except (ConnectError, ConnectionLost, CommandTimeout, SessionLimit) as error:
            log.info("%s: nothing was cleaned up behind job %s: %s", self.host, self.id, error)
