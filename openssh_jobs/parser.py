"""Parsers of schedulers' output: text in, data out.

No clock, no network, no files.  They read the output that this library asks for, and pasted
listings; with ``scheduler=None`` the text itself says whose it is.  A line that cannot be read is
kept in ``Snapshot.unparsed``, and the other rows count.  An answer that is not complete raises
``SchedulerError`` with a ``kind``: a failure is never an empty queue.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import tzinfo

from .errors import SchedulerError
from .jobs import CancelOutcome, Node, Queue, Snapshot
from .schedulers import available, get
from .schedulers.answer import Answer
from .schedulers.base import Scheduler
from .schedulers.fields import first_line

__all__ = [
    "detect",
    "parse_cancel",
    "parse_nodes",
    "parse_queues",
    "parse_status",
    "parse_submit",
]

# Characters at the beginning of the output that identify the scheduler.
_HEAD = 20_000


_FRAME = re.compile(r"^OJ\+([0-9a-f]{1,40})$", re.MULTILINE)


def _titles(text: str) -> str:
    """The titles of the parts of a framed answer; the parts may contain text of users."""
    opened = _FRAME.search(text)
    if opened is None:
        return ""
    return "\n".join(re.findall(rf"^OJ:{opened[1]} begin .*$", text, flags=re.MULTILINE))


def _unix(text: str) -> str:
    """Text without a byte order mark, its CRLF line ends (of a terminal, an editor) made LF."""
    text = text.removeprefix("\ufeff")
    count = text.count("\r\n")
    return text.replace("\r\n", "\n") if count and count == text.count("\n") else text


def detect(stdout: str, *, stderr: str = "", command: str | None = None) -> Scheduler:
    """The scheduler whose output this is.  Raises ``SchedulerError`` if none recognises it."""
    head = stdout[:_HEAD]
    for text in (_titles(head), head):
        for name in available() if text or not head else ():
            scheduler = get(name)
            if scheduler.recognises(text, stderr[:_HEAD], command):
                return scheduler
    raise SchedulerError(
        f"not the output of a known scheduler: {first_line(stdout, stderr)!r}",
        kind="parse_error",
        stdout=stdout,
        stderr=stderr,
        advice="Name the scheduler.",
    )


def _chosen(
    scheduler: str | Scheduler | None, stdout: str, stderr: str, command: str | None
) -> Scheduler:
    if isinstance(scheduler, Scheduler):
        return scheduler
    if scheduler is not None:
        return get(scheduler)
    return detect(stdout, stderr=stderr, command=command)


def parse_status(
    stdout: str,
    scheduler: str | Scheduler | None = None,
    *,
    stderr: str = "",
    returncode: int = 0,
    command: str | None = None,
    requested: Iterable[str] | None = None,
    timezone: tzinfo | None = None,
) -> Snapshot:
    """Parse a listing of jobs, from the queue or from the accounting.

    ``command`` is the command line, if known: it determines the columns of a listing without
    a header, and which jobs the listing covers.  ``requested`` are the ids of interest: each is
    then known, absent (a complete answer that covers it does not list it) or unknown.  Times
    without an offset are ``None`` unless ``timezone`` is given.  Raises ``SchedulerError``, and
    ``InputError`` for invalid ids.
    """
    stdout, stderr = _unix(stdout), _unix(stderr)
    return _chosen(scheduler, stdout, stderr, command).parse_status(
        Answer(stdout, stderr, returncode), requested=requested, command=command, timezone=timezone
    )


def parse_submit(
    stdout: str, scheduler: str | Scheduler, *, stderr: str = "", returncode: int = 0
) -> str:
    """The job id in the output of a submit command.

    Raises ``SubmitRejected`` (no job was created; ``SubmitLimit`` for a temporary limit) or
    ``SubmitUnknown`` (a job may exist).
    """
    stdout, stderr = _unix(stdout), _unix(stderr)
    return _chosen(scheduler, stdout, stderr, None).parse_submit(Answer(stdout, stderr, returncode))


def parse_cancel(
    stdout: str,
    scheduler: str | Scheduler,
    *,
    stderr: str = "",
    returncode: int = 0,
    requested: Iterable[str] | None = None,
) -> dict[str, CancelOutcome]:
    """The outcome of a cancel, hold or release command for each id."""
    stdout, stderr = _unix(stdout), _unix(stderr)
    return _chosen(scheduler, stdout, stderr, None).parse_cancel(
        Answer(stdout, stderr, returncode), requested=requested
    )


def parse_nodes(
    stdout: str, scheduler: str | Scheduler, *, stderr: str = "", returncode: int = 0
) -> list[Node]:
    """The nodes of a listing.  Raises ``SchedulerError`` for other text."""
    stdout, stderr = _unix(stdout), _unix(stderr)
    return _chosen(scheduler, stdout, stderr, None).parse_nodes(Answer(stdout, stderr, returncode))


def parse_queues(
    stdout: str, scheduler: str | Scheduler, *, stderr: str = "", returncode: int = 0
) -> list[Queue]:
    """The queues of a listing.  Raises ``SchedulerError`` for other text."""
    stdout, stderr = _unix(stdout), _unix(stderr)
    return _chosen(scheduler, stdout, stderr, None).parse_queues(Answer(stdout, stderr, returncode))
