"""Exit records: whether a job's launcher writes one, and what the records of ended jobs say.

A launcher is the script that ``submit`` puts in the place of the user's; it records how that ends.
Its text comes from ``schedulers/launcher``.
"""

from __future__ import annotations

import posixpath
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from .. import logs
from ..errors import (
    CommandFailed,
    CommandTimeout,
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    InputError,
    SchedulerError,
    SessionLimit,
)
from ..jobs import JobId, JobStatus
from ..schedulers.launcher.any_shell import LAUNCH, LOOK, SCRIPT, LauncherFiles, launcher_files
from ..schedulers.launcher.exit_record import NEVER_STARTED, read_records, status_from_records
from ..schedulers.launcher.launcher import BODY, wrap
from .attempt import Order

if TYPE_CHECKING:
    from .job_files import JobFiles
    from .journal import Row
    from .scheduler_client import SchedulerClient

log = logs.logger("openssh_jobs.cluster")

_REMEMBERED = 7 * 86400.0
_UNCLEAR = 60.0
"""Seconds for which an accounting that did not answer is not asked again."""
_NO_ANSWER = (ConnectError, ConnectionLost, CommandTimeout, CommandFailed, SessionLimit)

# Names that a launcher uses itself, beside the script.
_OF_LAUNCHER = re.compile(r"(?:start|exit|new)\.|(?:\.script|owner)\Z")


def check_choice(record_exit: object, host: str) -> None:
    """Raise ``ConfigurationError`` unless it is ``"auto"``, ``True`` or ``False``."""
    if not (record_exit is True or record_exit is False or record_exit == "auto"):
        raise ConfigurationError(
            f"record_exit must be 'auto', True or False, not {record_exit!r}", host=host
        )


class ExitRecords:
    """The exit records of one host's jobs: who writes them, and what they say."""

    def __init__(self, client: SchedulerClient, files: JobFiles) -> None:
        self._client = client
        self._files = files
        self._host = client.host
        self._unclear_until = 0.0

    def are_wanted(self, record_exit: bool | str) -> bool:
        """Whether a job gets a launcher that records its end.  May ask the host, once a week.

        ``SchedulerError`` of kind ``unsupported`` for ``True`` where the scheduler has no launcher.
        ``direct`` writes an exit record itself.
        """
        scheduler = self._client.scheduler()
        if not record_exit or scheduler.name == "direct":
            return False
        if scheduler.convention is None:
            if record_exit is True:
                scheduler.unsupported("record_exit=True")
            return False
        return record_exit is True or self._keeps_accounting() is False

    def bring_environment(self, env: Mapping[str, str], record_exit: bool | str) -> bool:
        """Whether the launcher has to bring the job its ``env``: qsub hands on none of its own.

        ``SchedulerError`` of kind ``unsupported`` where ``record_exit`` forbids a launcher.
        """
        scheduler = self._client.scheduler()
        how = scheduler.convention
        if not env or how is None or not how.brings_environment:
            return False
        if record_exit is False:
            raise SchedulerError(
                f"env= reaches a job of {scheduler.name} through its launcher only, which "
                "record_exit=False forbids",
                kind="unsupported",
                sent="no",
                host=self._host,
                advice="Leave record_exit at 'auto', or set the variables in the script.",
            )
        return True

    def _keeps_accounting(self) -> bool | None:
        """Whether the host remembers ended jobs; ``None`` if it cannot be found out now."""
        scheduler = self._client.scheduler()
        script = scheduler.accounting_script()
        if script is None:
            return True
        name = f"accounting of {scheduler.name}"
        known = self._client.journal.fact(self._host, name, max_age=_REMEMBERED)
        if known is not None:
            return known == "yes"
        if time.monotonic() < self._unclear_until:
            return None  # of many submissions the first one has asked
        self._unclear_until = time.monotonic() + _UNCLEAR
        try:
            answer = self._client.ask(script)
        except (CommandTimeout, CommandFailed) as error:
            log.info("%s: whether there is an accounting is not known: %s", self._host, error)
            return None
        found = scheduler.parse_accounting(answer)
        if found is not None:
            log.info("%s: accounting: %s", self._host, "yes" if found else "none, jobs are wrapped")
            self._client.journal.remember_fact(self._host, name, "yes" if found else "no")
        return found

    # ------------------------------------------------------------------ writing

    def launcher(
        self,
        content: bytes,
        *,
        private: str,
        name: str,
        bash: bool,
        members: int = 0,
        options: Sequence[str] = (),
        arguments: Sequence[str] = (),
        must: bool = False,
    ) -> dict[str, bytes] | None:
        """The files of a launcher in the place of a script, by their names, and the script's own.

        ``private``: the submission's own directory, absolute.  ``content``: the script's bytes, to
        be submitted as ``name``.  ``bash``: whether there is a /bin/bash.  ``members``: the size
        of the array.  ``options``: of the submit command.  ``arguments``: of the script.
        ``must``: ``SchedulerError`` of kind ``unsupported`` where it cannot be foreseen what the
        scheduler makes of a launcher; else it is ``None`` then: the script is submitted as it is.
        """
        how = self._client.scheduler().convention
        if how is None or (_OF_LAUNCHER.match(name) and how.prefix is None):
            self._log_plain(name)
            return None
        if how.prefix is not None:
            found: LauncherFiles | str = "its name is one that a launcher uses itself"
            if not _OF_LAUNCHER.match(name):
                found = launcher_files(
                    content, how,
                    directory=private, members=members, options=options, arguments=arguments,
                )  # fmt: skip
            if isinstance(found, LauncherFiles):
                return {
                    SCRIPT: content,
                    LOOK: found.look,
                    LAUNCH: found.launch,
                    name: found.submitted,
                }
            if must:
                raise SchedulerError(
                    f"no launcher can record the exit of {name}: {found}",
                    kind="unsupported",
                    sent="no",
                    host=self._host,
                    advice="Submit it without record_exit.",
                )
            self._log_plain(name, found)
            return None
        body = posixpath.join(BODY, how.spooled or name)
        file = posixpath.join(private, body)
        text = wrap(content, how, directory=private, body=file, members=members, bash=bash)
        if text is None:
            self._log_plain(name)
            return None
        return {body: content, name: text}

    @property
    def asks_for_bash(self) -> bool:
        """Whether a launcher of this scheduler depends on a /bin/bash on the host."""
        how = self._client.scheduler().convention
        return how is not None and how.prefix is None

    def _log_plain(self, name: str, why: str = "no launcher can run it") -> None:
        log.info("%s: %s is submitted without a launcher: %s", self._host, name, why)

    # ------------------------------------------------------------------ reading

    def read(self, ids: Iterable[str]) -> dict[str, JobStatus | str]:
        """How these jobs ended by their exit records, or why that is not known.  One round trip.

        Only of jobs in the journal is it known where their records lie.
        """
        found: dict[str, JobStatus | str] = {}
        rows: dict[str, tuple[JobId, Row]] = {}
        for job_id in ids:
            row = self._client.journal.by_member(self._host, job_id)
            if row is None:
                found[job_id] = "it was not submitted from here: its record cannot be found"
            elif row.scheduler != "direct":
                rows[job_id] = JobId.parse(job_id), row
        if not rows:
            return found
        tokens = list(dict.fromkeys(row.token for _, row in rows.values()))
        marks = {token: str(number) for number, token in enumerate(tokens)}
        places = {marks[row.token]: (row.directory, row.token) for _, row in rows.values()}
        try:
            answer = self._files.read_exit_records(places)
        except (*_NO_ANSWER, SchedulerError) as error:
            why = f"its exit record could not be read: {error.message}"
            return found | dict.fromkeys(rows, why)
        records = read_records(answer)
        if records is None:
            why = "its exit record could not be read: the answer is cut off"
            return found | dict.fromkeys(rows, why)
        for job_id, (parsed, row) in rows.items():
            member = next(
                (part for part in (parsed.tasks, parsed.proc) if part and part.isdigit()), None
            )
            said = status_from_records(records[marks[row.token]], job_id, parsed.number, member)
            found[job_id] = NEVER_STARTED + _waited_for(row) if said == NEVER_STARTED else said
        return found


def _waited_for(row: Row) -> str:
    """What a job that never started was to wait for.

    PBS deletes a job whose condition cannot come true any more; without a history at once, where
    the other job is over already (measured).
    """
    try:
        request = Order.of(row.request or "").request
    except (ValueError, InputError):
        return ""
    names = ("after_ok", "after_any", "after_failed")
    waited = {name: ",".join(getattr(request, name)) for name in names}
    named = [f"{name}={ids}" for name, ids in waited.items() if ids]
    if not named:
        return ""
    return (
        f"; it was to wait ({' '.join(named)}): a job whose condition cannot come true any more is "
        "deleted, also if the other job is over and forgotten"
    )
