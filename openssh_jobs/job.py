"""``Job``: the handle of one job, submitted here or not."""

from __future__ import annotations

import codecs
import logging
import os
import posixpath
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from .errors import CommandTimeout, ConnectError, ConnectionLost, InputError, SessionLimit
from .jobs import CancelOutcome, JobState, JobStatus
from .remote.oserrors import error_of
from .remote.quoting import quote_path, to_text
from .submission import PRIVATE, remove_private

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .asking import Asker
    from .connection import Connection
    from .jobs import Snapshot
    from .journal import Journal, Row
    from .remote.transfer import TransferResult
    from .watching import Watch

log = logging.getLogger("openssh_jobs.job")

_TAIL_CHUNK = 256 * 1024
_TAIL_FIRST, _TAIL_SLOWEST = 0.5, 5.0


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
    def _detail(self, job_id: str) -> JobStatus | None: ...
    def _clean_up(self, ids: Sequence[str]) -> None: ...


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
        return getattr(self._row, name, None) if self._row is not None else None

    @property
    def directory(self) -> str | None:
        """The directory on the host that the job was submitted from."""
        if self._row is not None:
            return self._row.directory
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
        """Where the job's standard output goes on the host, as far as known."""
        found: str | None = self._fact("stdout_path")
        return found

    @property
    def stderr_path(self) -> str | None:
        """Where the job's standard error goes on the host, as far as known."""
        found: str | None = self._fact("stderr_path")
        return found

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

    def _output_path(self, stream: str) -> str:
        if stream not in ("stdout", "stderr"):
            raise InputError(f"{stream!r} is neither stdout nor stderr")
        path = self.stdout_path if stream == "stdout" else self.stderr_path
        if path is None:
            self._detail = self._cluster._detail(self.id)
            path = self.stdout_path if stream == "stdout" else self.stderr_path
            if path is not None and self.token is not None:
                self._cluster.journal.change(
                    self.host,
                    self.token,
                    stdout_path=self.stdout_path,
                    stderr_path=self.stderr_path,
                )
        if path is None and self.name is not None:
            usual = self._cluster._asker.scheduler().usual_paths(self.id, self.name)
            path = None if usual is None else usual[stream == "stderr"]
        if path is None:
            raise InputError(
                f"nobody knows where the {stream} of job {self.id} goes",
                host=self.host,
                advice="The scheduler has forgotten the job; read the file by its name.",
            )
        if not path.startswith("/") and self.directory:
            path = posixpath.join(self.directory, path)
        return path

    def tail(self, stream: str = "stdout", follow: bool = False) -> Iterator[str]:
        """The lines of the job's output, with their newlines; with ``follow`` until it is over.

        Read in pieces by offset: nothing is held open on the host between two looks.  Raises
        ``FileNotFoundError`` where the job is over (or ``follow`` is false) and there is no file.
        """
        path = self._output_path(stream)
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        offset, kept, pause = 0, "", _TAIL_FIRST
        while True:
            over = not follow or self._is_over()
            size, data = self._read_from(path, offset, must_exist=over)
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

    def _read_from(self, path: str, offset: int, *, must_exist: bool) -> tuple[int, bytes]:
        """The size of a file on the host and its bytes from an offset, in one round trip."""
        word = quote_path(path)
        script = (
            b'f=%b; if [ -f "$f" ]; then wc -c < "$f"; tail -c +%d -- "$f" | head -c %d; '
            b'else ls -d -- "$f" >/dev/null; fi' % (word, offset + 1, _TAIL_CHUNK)
        )
        answer = self._cluster.connection._shell.call(script, again=True)
        if answer.status != 0:
            error = error_of(to_text(answer.stderr), path, host=self.host)
            if isinstance(error, FileNotFoundError) and not must_exist:
                return 0, b""
            raise error
        size, _, data = answer.stdout.partition(b"\n")
        return int(size or b"0"), data

    def fetch(self, local: str | os.PathLike[str], **options: Any) -> TransferResult:
        """Copy the job's directory to the local directory ``local``; options as for ``get``.

        Of a job that is known to be over, what this library keeps on the host is removed after
        that; the job's own files stay.
        """
        if self.directory is None:
            self._detail = self._cluster._detail(self.id)
        if self.directory is None:
            raise InputError(f"nobody knows the directory of job {self.id}", host=self.host)
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
