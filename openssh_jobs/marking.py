"""Exit markers: whether a job gets a launcher, and what the launchers wrote of ended jobs."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .errors import (
    CommandFailed,
    CommandTimeout,
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    SchedulerError,
    SessionLimit,
)
from .jobs import JobId, JobStatus
from .remote.quoting import to_text
from .schedulers.launcher import judge, markers_script, read_markers

if TYPE_CHECKING:
    from .asking import Asker
    from .journal import Row

log = logging.getLogger("openssh_jobs.cluster")

PRIVATE = ".openssh_jobs"
"""What a submission keeps in its directory on the host."""

_REMEMBERED = 7 * 86400.0
_NO_ANSWER = (ConnectError, ConnectionLost, CommandTimeout, CommandFailed, SessionLimit)
CHOICES = ("auto", True, False)


def check_choice(record_exit: object, host: str) -> None:
    """``ConfigurationError`` for what is neither ``auto`` nor true nor false."""
    if not any(record_exit is one or record_exit == one == "auto" for one in CHOICES):
        raise ConfigurationError(
            f"record_exit is 'auto', True or False, not {record_exit!r}", host=host
        )


def wants_launcher(asker: Asker, record_exit: bool | str) -> bool:
    """Whether a job is to write down itself how it ended.  May ask the host, once a week.

    ``SchedulerError`` of kind ``unsupported`` where it is wanted and there is no launcher for the
    scheduler.  ``direct`` writes a marker of its own.
    """
    scheduler = asker.scheduler()
    if not record_exit or scheduler.name == "direct":
        return False
    if scheduler.convention is None:
        if record_exit is True:
            scheduler.unsupported("record_exit=True")
        return False
    return record_exit is True or _keeps_accounting(asker) is False


def _keeps_accounting(asker: Asker) -> bool | None:
    """Whether the host remembers ended jobs; ``None`` where nobody can tell now."""
    scheduler = asker.scheduler()
    script = scheduler.accounting_script()
    if script is None:
        return True
    name = f"accounting of {scheduler.name}"
    known = asker.journal.fact(asker.host, name, max_age=_REMEMBERED)
    if known is not None:
        return known == "yes"
    try:
        done = asker.ask(script)
    except (CommandTimeout, CommandFailed) as error:
        log.info("%s: nobody could tell whether there is an accounting: %s", asker.host, error)
        return None
    found = scheduler.parse_accounting(done.stdout, stderr=done.stderr, returncode=done.returncode)
    if found is not None:
        log.info("%s: accounting: %s", asker.host, "yes" if found else "none, jobs are wrapped")
        asker.journal.remember_fact(asker.host, name, "yes" if found else "no")
    return found


def look_for_markers(asker: Asker, ids: Iterable[str]) -> dict[str, JobStatus | str]:
    """How these jobs ended by their markers, or why that is not known.  One round trip.

    Only jobs of the journal are looked at: of others nobody knows where a marker would lie.
    """
    found: dict[str, JobStatus | str] = {}
    rows: dict[str, tuple[JobId, Row]] = {}
    for one in ids:
        row = _row_of(asker, JobId.parse(one))
        if row is None:
            found[one] = "it was not submitted from here: nobody knows of a marker"
        elif row.scheduler != "direct":
            rows[one] = JobId.parse(one), row
    if not rows:
        return found
    tokens = list(dict.fromkeys(row.token for _, row in rows.values()))
    marks = {token: str(number) for number, token in enumerate(tokens)}
    places = {
        marks[row.token]: posixpath.join(row.directory, PRIVATE, row.token)
        for _, row in rows.values()
    }
    script = markers_script(places).encode("utf-8", "surrogateescape")
    try:
        answer = asker.connection._shell.call(script, again=True)
    except (*_NO_ANSWER, SchedulerError) as error:
        return found | dict.fromkeys(rows, f"its marker could not be read: {error.message}")
    markers = read_markers(to_text(answer.stdout))
    if markers is None:
        return found | dict.fromkeys(rows, "its marker could not be read: the answer is cut off")
    for one, (job_id, row) in rows.items():
        member = job_id.tasks if job_id.tasks is not None and job_id.tasks.isdigit() else None
        if member is None and job_id.proc is not None and job_id.proc.isdigit():
            member = job_id.proc
        found[one] = judge(markers[marks[row.token]], one, job_id.number, member)
    return found


def _row_of(asker: Asker, job_id: JobId) -> Row | None:
    """The submission of a job, or of the array that it belongs to."""
    row = asker.journal.by_job(asker.host, str(job_id))
    if row is None and job_id.array is not None:
        row = asker.journal.by_job(asker.host, str(job_id.array))
    if row is None and job_id.tasks is not None:
        row = asker.journal.by_job(asker.host, job_id.number)
    return row
