"""``JobOutput``: what a job prints, read from its file on the host piece by piece."""

from __future__ import annotations

import codecs
import errno
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import logs
from ..commands import limits
from ..errors import InputError, RemoteFileNotFoundError, remote_oserror
from .job_files import NotRegular

if TYPE_CHECKING:
    from .job_files import JobFiles
    from .scheduler_client import SchedulerClient

log = logs.logger("openssh_jobs.cluster.job")

_CHUNK = 256 * 1024
_FAR = 1 << 52
"""An offset behind every file: a read from there gives the size only."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutput:
    """One output stream of a job: ``path`` on the host, or, where that is a directory, the first
    of ``names`` in it.

    ``guessed``: the scheduler did not say where it is, this is only the usual place.
    """

    client: SchedulerClient
    files: JobFiles
    job_id: str
    stream: str
    path: str
    names: tuple[str, ...] = ()
    guessed: bool = False

    def lines(self, is_over: Callable[[], bool], last: int | None = None) -> Iterator[str]:
        """The lines, with their newlines, up to the end of the file once ``is_over()`` is true.

        A line of more than ``limits.LINE`` characters comes in pieces: it may never end.
        ``last``: of those that are there now only so many; what is before them is not read.
        """
        has_warned = False
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        offset, pause = 0, _FIRST_PAUSE
        kept, length = [""], 0
        end: int | None = None
        if last is not None:
            there = self._read(_FAR, must_exist=is_over())
            offset = 0 if there is None else self._start_of(last, there[0])
        while True:
            over = is_over()
            found = self._read(offset, must_exist=over)
            if found is None and not has_warned:
                self._warn()
                has_warned = True
            size, data = found or (0, b"")
            if size < offset:
                # The job was requeued, and its output begins again.
                offset, kept, length = 0, [""], 0
                decoder.reset()
                continue
            offset += len(data)
            first, *lines = decoder.decode(data).split("\n")
            kept.append(first)
            length += len(first)
            if lines or length > limits.LINE:
                yield "".join(kept) + ("\n" if lines else "")
                yield from (line + "\n" for line in lines[:-1])
                kept, length = lines[-1:], len(lines[-1]) if lines else 0
            if data:
                pause = _FIRST_PAUSE
            if over:
                # What is written after the end of the job may have no end.
                end = size if end is None else end
                if len(data) == _CHUNK and offset < end:
                    continue
                kept.append(decoder.decode(b"", final=True))
                if any(kept):
                    yield "".join(kept)
                return
            if len(data) == _CHUNK:
                continue
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _start_of(self, last: int, size: int) -> int:
        """The offset of the last lines in the first ``size`` bytes, read from their end.

        Of lines that are longer than ``limits.TAIL`` together only the end is wanted.
        """
        if last == 0:
            return size
        end, newlines = size, last
        while end > max(0, size - limits.TAIL):
            start = max(0, end - _CHUNK)
            _, data = self._read(start, must_exist=True) or (0, b"")
            data = data[: end - start]
            at = len(data)
            if end == size and data.endswith(b"\n"):
                at -= 1  # it ends the last line
            while (at := data.rfind(b"\n", 0, at)) >= 0:
                newlines -= 1
                if not newlines:
                    return start + at + 1
            end = start
        return end

    def _warn(self) -> None:
        """Log that there is no file yet: a warning only if the scheduler keeps it elsewhere."""
        late = self._late
        level = logging.WARNING if late else logging.INFO
        log.log(level, "job %s: its %s is not there yet. %s", self.job_id, self.stream, late or "")

    def _read(self, offset: int, *, must_exist: bool) -> tuple[int, bytes] | None:
        """The size of the file and its bytes from an offset on; ``None`` if there is none yet."""
        try:
            return self.files.read_from(self.path, offset, _CHUNK, self.names)
        except NotRegular as error:
            raise InputError(
                f"the output of job {self.job_id} goes to {error.path}, which is not a regular "
                "file: what was written there cannot be read again",
                host=self.client.host,
            ) from None
        except RemoteFileNotFoundError as error:
            if not must_exist:
                return None
            if self.guessed:
                raise self._no_file(_name_of(error) or self.path) from None
            error.advice = self._late or error.advice
            raise

    @property
    def _late(self) -> str | None:
        """Why there is no file yet, where the scheduler keeps it elsewhere meanwhile."""
        return self.client.scheduler().late_output

    def _no_file(self, path: str) -> OSError:
        """The error for a usual place without a file, where the scheduler names no other."""
        scheduler = self.client.scheduler().name
        error = remote_oserror(
            errno.ENOENT,
            path,
            host=self.client.host,
            detail=f"the usual place; {scheduler} no longer tells where job {self.job_id} wrote, "
            "and its script may name another file",
        )
        named = "Read the file by the name that the script (-o, -e) gives it."
        error.advice = f"{self._late} {named}" if self._late else named
        return error


def _name_of(error: OSError) -> str | None:
    """The file name of an ``OSError`` as text."""
    return error.filename if isinstance(error.filename, str) else None
