"""The front door of the pure half: a scheduler's output in, data out.

No clock, no network, no files.  It reads what this library asks for and what people paste; with
``scheduler=None`` it finds out whose output it is by looking.  One odd line spoils one row and is
kept in ``Snapshot.unparsed``.  What is no complete answer raises ``SchedulerError`` with a
``kind``; nothing here ever takes a failure for an empty queue.
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

# Whose output it is shows at its beginning.
_HEAD = 20_000


_FRAME = re.compile(r"^OJ\+([0-9a-f]{1,40})$", re.MULTILINE)


def _titles(text: str) -> str:
    """The titles of the parts of a framed answer: in the parts stands what users write."""
    opened = _FRAME.search(text)
    if opened is None:
        return ""
    return "\n".join(re.findall(rf"^OJ:{opened[1]} begin .*$", text, flags=re.MULTILINE))


def _unix(text: str) -> str:
    """Text that came through a terminal or an editor with other line ends, with ours."""
    count = text.count("\r\n")
    return text.replace("\r\n", "\n") if count and count == text.count("\n") else text


def detect(stdout: str, *, stderr: str = "", command: str | None = None) -> Scheduler:
    """The scheduler whose output this is; ``SchedulerError`` where nobody's is recognised."""
    head = stdout[:_HEAD]
    for text in (_titles(head), head):
        for name in available() if text or not head else ():
            scheduler = get(name)
            if scheduler.recognises(text, stderr[:_HEAD], command):
                return scheduler
    raise SchedulerError(
        f"no scheduler's output: {first_line(stdout, stderr)!r}",
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
    """What a listing of jobs says, of the queue or of the accounting.

    ``command`` is what was typed, where known: it tells the columns of a listing without header
    and what the listing covers.  ``requested`` are the ids of interest: each is then known, absent
    (a complete answer that covers it does not have it) or unknown.  Times without an offset are
    ``None`` unless ``timezone`` is given.  Raises ``SchedulerError`` and ``InputError`` (ids).
    """
    stdout, stderr = _unix(stdout), _unix(stderr)
    return _chosen(scheduler, stdout, stderr, command).parse_status(
        Answer(stdout, stderr, returncode), requested=requested, command=command, timezone=timezone
    )


def parse_submit(
    stdout: str, scheduler: str | Scheduler, *, stderr: str = "", returncode: int = 0
) -> str:
    """The id of the job that a submit command's output tells of.

    Raises ``SubmitRejected`` (certainly no job; ``SubmitLimit`` where the limit passes) or
    ``SubmitUnknown`` (there may be one).
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
    """What a cancel (hold, release) command did to each id."""
    stdout, stderr = _unix(stdout), _unix(stderr)
    return _chosen(scheduler, stdout, stderr, None).parse_cancel(
        Answer(stdout, stderr, returncode), requested=requested
    )


def parse_nodes(
    stdout: str, scheduler: str | Scheduler, *, stderr: str = "", returncode: int = 0
) -> list[Node]:
    """The nodes of a listing; ``SchedulerError`` for what is none."""
    stdout, stderr = _unix(stdout), _unix(stderr)
    return _chosen(scheduler, stdout, stderr, None).parse_nodes(Answer(stdout, stderr, returncode))


def parse_queues(
    stdout: str, scheduler: str | Scheduler, *, stderr: str = "", returncode: int = 0
) -> list[Queue]:
    """The queues of a listing; ``SchedulerError`` for what is none."""
    stdout, stderr = _unix(stdout), _unix(stderr)
    return _chosen(scheduler, stdout, stderr, None).parse_queues(Answer(stdout, stderr, returncode))
