"""Exit markers: whether a job gets a launcher, and what the launchers wrote of ended jobs."""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..commands.os_errors import error_of
from ..commands.quoting import quote, quote_path, to_text
from ..errors import (
    CommandFailed,
    CommandTimeout,
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    SchedulerError,
    SessionLimit,
)
from ..jobs import JobId, JobStatus
from ..schedulers.launcher.any_shell import LAUNCH, LOOK, SCRIPT, Files, stub_files
from ..schedulers.launcher.launcher import (
    BODY,
    Convention,
    judge,
    markers_script,
    read_markers,
    wrap,
)

if TYPE_CHECKING:
    from .journal import Row
    from .scheduler_client import Asker

log = logging.getLogger("openssh_jobs.cluster")

_REMEMBERED = 7 * 86400.0
_NO_ANSWER = (ConnectError, ConnectionLost, CommandTimeout, CommandFailed, SessionLimit)
CHOICES = ("auto", True, False)

# Names that a launcher uses itself, beside the script.
_OF_LAUNCHER = re.compile(r"(?:start|exit|new)\.|(?:\.script|owner)\Z")


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


def brings_environment(asker: Asker, env: Mapping[str, str], record_exit: bool | str) -> bool:
    """Whether the launcher has to bring the job its ``env``: qsub hands on none of its own.

    ``SchedulerError`` of kind ``unsupported`` where there is to be no launcher.
    """
    scheduler = asker.scheduler()
    how = scheduler.convention
    if not env or how is None or not how.brings_environment:
        return False
    if record_exit is False:
        raise SchedulerError(
            f"env= reaches a job of {scheduler.name} through its launcher only, which "
            "record_exit=False forbids",
            kind="unsupported",
            sent="no",
            host=asker.host,
            advice="Leave record_exit at 'auto', or set the variables in the script.",
        )
    return True


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


def put_launcher(
    asker: Asker,
    content: bytes | None,
    *,
    private: str,
    submitted: str,
    members: int = 0,
    options: Sequence[str] = (),
    must: bool = False,
) -> None:
    """Put a launcher where the script is, and the script beside it.

    ``private``: the submission's own directory, absolute.  ``submitted``: the script's path there.
    ``content``: what stands in it; ``None`` where that has to be read first.  ``members``: the size
    of the array.  ``options``: of the submit command.  ``must``: ``SchedulerError`` of kind
    ``unsupported`` where nobody could foresee what the scheduler would make of a launcher; without
    it the script then goes as it is.
    """
    connection, how = asker.connection, asker.scheduler().convention
    name = posixpath.basename(submitted)
    if how is None or (_OF_LAUNCHER.match(name) and how.prefix is None):
        log.info("%s: %s is submitted without a launcher", asker.host, name)
        return
    if content is None:
        content = connection.read_bytes(submitted)
    if how.prefix is not None:
        found = _stub(content, how, name, private, members, options)
        if isinstance(found, Files):
            written = {LOOK: found.look, LAUNCH: found.launch}
            _put(asker, private, submitted, posixpath.join(private, SCRIPT), found.stub, written)
        elif must:
            raise SchedulerError(
                f"no launcher can record the exit of {name}: {found}",
                kind="unsupported",
                sent="no",
                host=asker.host,
                advice="Submit it without record_exit.",
            )
        else:
            log.info("%s: %s is submitted without a launcher: %s", asker.host, name, found)
        return
    body = posixpath.join(private, BODY, how.spooled or name)
    bash = connection.exists("/bin/bash")
    launcher = wrap(content, how, directory=private, body=body, members=members, bash=bash)
    if launcher is None:
        log.info("%s: %s is submitted without a launcher", asker.host, name)
        return
    _put(asker, private, submitted, body, launcher, {})


def _stub(
    content: bytes,
    how: Convention,
    name: str,
    private: str,
    members: int,
    options: Sequence[str],
) -> Files | str:
    if _OF_LAUNCHER.match(name):
        return "its name is one that a launcher uses itself"
    return stub_files(content, how, directory=private, members=members, options=options)


def _put(
    asker: Asker,
    private: str,
    submitted: str,
    body: str,
    launcher: bytes,
    written: dict[str, bytes],
) -> None:
    """Move the script to ``body``, and write the launcher and what belongs to it."""
    lines = [
        b"set -C && umask 077 && mkdir -m 700 -- %b" % quote_path(posixpath.join(private, BODY)),
        b"mv -- %b %b" % (quote_path(submitted), quote_path(body)),
    ]
    files = {posixpath.join(private, one): text for one, text in written.items()}
    for path, text in (files | {submitted: launcher}).items():
        lines.append(b"printf %%s %b >%b" % (quote(text), quote_path(path)))
    answer = asker.connection._shell.call(b" && ".join(lines))
    if answer.status != 0:
        raise error_of(to_text(answer.stderr), body, host=asker.host)


def look_for_markers(asker: Asker, ids: Iterable[str]) -> dict[str, JobStatus | str]:
    """How these jobs ended by their markers, or why that is not known.  One round trip.

    Only jobs of the journal are looked at: of others nobody knows where a marker would lie.
    """
    found: dict[str, JobStatus | str] = {}
    rows: dict[str, tuple[JobId, Row]] = {}
    for one in ids:
        row = _row_of(asker, JobId.parse(one))
        if row is None:
            found[one] = "it was not submitted from here: its record cannot be found"
        elif row.scheduler != "direct":
            rows[one] = JobId.parse(one), row
    if not rows:
        return found
    tokens = list(dict.fromkeys(row.token for _, row in rows.values()))
    marks = {token: str(number) for number, token in enumerate(tokens)}
    places = {marks[row.token]: (row.directory, row.token) for _, row in rows.values()}
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
    if row is None and (job_id.tasks is not None or job_id.proc is not None):
        row = asker.journal.by_job(asker.host, job_id.number)
    return row
