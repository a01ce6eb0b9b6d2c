"""One submission: checked, written to the journal, then carried to the host.

On the host a submission has a private directory of its own, ``DIRECTORY/.openssh_jobs/TOKEN/``,
that holds the script as it was submitted; its path carries the token to where the scheduler shows
it.  Where others could replace that directory it is ``~/.openssh_jobs/TOKEN/`` (see
``files/private_directory.py``).
"""

from __future__ import annotations

import logging
import os
import posixpath
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from .. import settings
from ..commands.command_line import exports
from ..commands.quoting import to_bytes
from ..commands.scripts import Shell
from ..commands.scripts import script as shell_script
from ..errors import (
    CommandFailed,
    CommandTimeout,
    ConnectError,
    ConnectionLost,
    InputError,
    OpenSSHJobsError,
    SchedulerError,
    SessionLimit,
    SubmitRejected,
    SubmitUnknown,
)
from ..files.private_directory import MADE, PRIVATE
from ..jobs import JobId, JobState
from ..openssh import pid_file
from ..schedulers.answer import Answer
from ..schedulers.fields import expand_array
from ..schedulers.launcher.any_shell import ENVIRONMENT
from ..schedulers.request import SubmitRequest
from .job_files import TokenUsed, made_mark
from .journal import ASKED, SENDING, Row
from .leftovers import is_random
from .specification import Specification, check_token, read_script
from .submitted import kept_of
from .tidy import TIDIED

if TYPE_CHECKING:
    from .exit_record import ExitRecords
    from .job_files import JobFiles, UsedToken
    from .scheduler_client import SchedulerClient

log = logging.getLogger("openssh_jobs.cluster.submission")

_ENVIRONMENT = ".oj-env"
SUBMIT_TIMEOUT = 120.0
"""Seconds that a submit command may take; without an answer by then it may have worked."""


def open_submission(row: Row) -> OpenSSHJobsError:
    """The error for a submission that has no answer yet, or was never sent."""
    if row.stage == ASKED:
        return InputError(
            f"the submission with the token {row.token!r} has not been sent: there is no job",
            host=row.host,
            advice="Submit it again; the token may be used for it.",
        )
    return SubmitUnknown(
        "an earlier call with this token got no answer: its job may exist",
        token=row.token,
        kind="no_job_id",
        host=row.host,
        advice=f"Look for a job whose script lies in {private_of(row)}.",
    )


def private_of(row: Row) -> str:
    """The private directory of a submission on the host, as far as known."""
    return row.place or posixpath.join(row.directory, PRIVATE, row.token)


class Submission:
    """Carries one specification to the host and brings back the job's id."""

    def __init__(
        self,
        client: SchedulerClient,
        files: JobFiles,
        records: ExitRecords,
        specification: Specification,
        token: str | None,
        *,
        record_exit: bool | str = False,
    ) -> None:
        self._client = client
        self._files = files
        self._records = records
        self._connection = client.connection
        self._journal = client.journal
        self._scheduler = client.scheduler()
        self._specification = specification
        self._host = client.host
        self.token = check_token(token) if token is not None else "t" + secrets.token_hex(8)
        self.directory = self._private = ""
        self._record_exit, self._launcher, self._brings_env = record_exit, False, False
        # What this call makes on the host carries this text, and only that is removed by it.
        self._call = secrets.token_hex(8)
        self._marked = specification.upload is not None

    def submit(self) -> Row:
        """Submit, or find that this was done before: the row of the journal with the job's id.

        Raises ``InputError`` for a token with another specification, ``SubmitRejected`` and
        ``SubmitLimit`` where there is certainly no job, ``SubmitUnknown`` where there may be one,
        ``PermissionError`` where no directory on the host is private, and whatever the upload
        raises (then there is no job).
        """
        wanted = self._specification
        digest = wanted.digest(self._scheduler.name)
        self.directory = self._connection.internal.absolute(wanted.directory or "~").rstrip("/")
        script = wanted.script
        if script is not None and not script.startswith(("/", "~/")):
            script = posixpath.join(self.directory, script)
        self._private = posixpath.join(self.directory, PRIVATE, self.token)
        self._text()  # raises for what the scheduler cannot do
        if self._scheduler.needs_script(self._request()):
            self._scheduler.check_script(self._request(), self._own_script(script))
        self._brings_env = self._records.bring_environment(wanted.env, self._record_exit)
        self._launcher = self._brings_env or self._records.are_wanted(self._record_exit)
        new = Row(
            host=self._host,
            token=self.token,
            digest=digest,
            scheduler=self._scheduler.name,
            directory=self.directory,
            name=wanted.name or wanted.script_name,
            stage=ASKED,
            call=self._call,
            caller=pid_file.call(),
            array=wanted.array,
        )
        row = self._journal.open_row(new)
        settled = self._settled(row, new)
        if settled is not None:
            return settled
        try:
            used = self._prepare(script)
            if used is not None:
                return self._over(row, used)
            self._keep(script)
        except BaseException:
            self._undo()
            raise
        return self._send()

    def _over(self, row: Row, used: UsedToken) -> Row:
        """The row of a token whose job is over, as the host's record of tokens says.

        Raises ``InputError`` for another submission, and where the record makes no sense.
        """
        if used.digest not in (row.digest, "-"):
            raise self._other("another name", "a directory on the host")
        over = replace(
            row,
            job_id=str(JobId.parse(used.job_id)),
            state=str(JobState(used.state)),
            exit_code=used.exit_code,
            reason="it ended before, by the host's record of tokens",
            tidied=TIDIED,
        )
        names = ("job_id", "state", "exit_code", "reason", "tidied")
        self._journal.change(
            self._host, self.token, **{name: getattr(over, name) for name in names}
        )
        return over

    def _text(self) -> str:
        """The submit command, with the script where it lies."""
        request = self._request()
        self._scheduler.check_options(request)
        return self._scheduler.submit_script(request)

    def _request(self) -> SubmitRequest:
        wanted = self._specification
        submitted = posixpath.join(self._private, wanted.script_name)
        most = settings.max_array(self._connection.host)
        return wanted.request(submitted, self.token, most)

    def _own_script(self, script: str | None) -> bytes:
        """The text that will be submitted; read on the host where it lies there."""
        wanted = self._specification
        if wanted.content is not None or script is None:
            return wanted.content or b""
        name = wanted.script or script
        if wanted.upload is not None and not name.startswith(("/", "~/")):
            return read_script(os.path.join(wanted.upload, name))
        return self._connection.read_bytes(script)

    def _undo(self) -> None:
        """Remove everything of a submission that was not sent, on the host and from the journal.

        What cannot be removed now is removed by the next call with this token.
        """
        facts = {"stage": ASKED, "caller": "", "call": self._call}
        self._journal.change(self._host, self.token, **facts)
        try:
            if self._files.undo(self.directory, self.token, self._call):
                self._journal.forget(self._host, self.token, self._call)
        except (OpenSSHJobsError, OSError) as error:
            log.info("%s: %s was not tidied up: %s", self._host, self.directory, error)

    def _settled(self, row: Row, new: Row) -> Row | None:
        """The row of a token that has a job by the journal, or by what its launcher wrote."""
        if not row.opened:
            return None
        if row.stage == ASKED and row.job_id is None and self._taken_over(row, new):
            return None
        if row.digest not in (new.digest, ""):  # that of another machine's job is not known
            raise self._other(row.name, row.directory)
        if row.job_id is not None:
            return row
        job_id = self._owner(row)
        if job_id is None:
            raise open_submission(row)
        return self._accepted(job_id)

    def _other(self, name: str | None, directory: str) -> InputError:
        return InputError(
            f"the token {self.token!r} belongs to another submission (of {name!r} in {directory})",
            host=self._host,
            advice="Take another token.",
        )

    def _taken_over(self, row: Row, new: Row) -> bool:
        """Take over from a call that ended before its submit command.  False if it sent that."""
        if row.caller and not pid_file.ended(row.caller):
            raise SubmitUnknown(
                f"another call with this token is at work (process {row.caller.partition('-')[0]})",
                token=self.token,
                kind="no_job_id",
                host=self._host,
                advice="Wait for it, and call again: then its job, or its error, is known.",
            )
        if not self._journal.take_over(row, new):
            now = self._journal.by_token(self._host, self.token)
            raise open_submission(replace(now or row, stage=SENDING))
        try:
            if row.call:
                self._files.undo(row.directory, self.token, row.call)
        except BaseException:
            self._journal.change(self._host, self.token, call=row.call, caller="")
            raise
        return True

    def _owner(self, row: Row) -> str | None:
        """The job id that the launcher wrote to ``TOKEN/owner``, or ``None``."""
        try:
            return str(
                JobId.parse(self._files.read_private(row.directory, row.token, "owner").strip())
            )
        except InputError:
            return None  # not written yet, or the job has no launcher

    def _accepted(self, job_id: str) -> Row:
        self._journal.change(
            self._host,
            self.token,
            job_id=job_id,
            state="pending",
            submitted=self._client.host_time(),  # compared with times by the host's clock
        )
        row = self._journal.by_token(self._host, self.token)
        if row is None:
            raise AssertionError("the journal lost a row")
        log.info("%s: submitted %s as %s", self._host, row.name, job_id)
        return row

    # ------------------------------------------------------------------ files

    def _prepare(self, script: str | None) -> UsedToken | None:
        """Put all files on the host, unless the job of this token is over, as the host says."""
        wanted = self._specification
        if wanted.upload is not None:
            if not is_random(self.token) and (used := self._files.used_token(self.token)):
                return used
            # The mark comes with the directory, so that no other directory is taken for it.
            mark = os.fsencode(MADE + self._call)
            self._connection.put(wanted.upload, self.directory, mark=mark)
        try:
            made = self._files.create(
                self.directory, self.token, self._call, script, wanted.script_name
            )
        except TokenUsed as error:
            return error.used
        self._private = made.path
        self._marked = self._marked or made.made
        submitted = posixpath.join(made.path, wanted.script_name)
        if wanted.content is not None:
            self._connection.write_bytes(submitted, wanted.content)
        if self._launcher:
            self._records.put_launcher(
                wanted.content,
                private=self._private,
                submitted=submitted,
                members=len(expand_array(wanted.array)) if wanted.array else 0,
                options=wanted.options,
                must=self._record_exit is True or self._brings_env,
            )
        if self._brings_env:
            values = to_bytes("".join(f"{name}={value}\0" for name, value in wanted.env.items()))
            self._files.write_private(posixpath.join(self._private, ENVIRONMENT), values)
        elif wanted.env:
            path = posixpath.join(self._private, _ENVIRONMENT)
            self._files.write_private(path, exports(wanted.env))
        return None

    def _keep(self, script: str | None) -> None:
        """Write down what is about to be sent."""
        kept = kept_of(
            self._specification,
            self._files,
            script,
            scheduler=self._scheduler.name,
            command=self._text(),
        )
        self._journal.keep(self._host, self.token, kept)

    # ------------------------------------------------------------------ the one command

    def _send(self) -> Row:
        try:
            script = self._command()
            # On disk before the command is sent: from now on there may be a job.
            self._journal.change(self._host, self.token, stage=SENDING, place=self._private)
        except BaseException:
            self._undo()
            raise
        try:
            done = self._client.run_sh(script, SUBMIT_TIMEOUT, once=True)
        except (ConnectError, ConnectionLost, CommandTimeout, CommandFailed, SessionLimit) as error:
            if error.sent == "no":
                self._undo()
                raise
            raise self._unknown(error.message) from error
        try:
            if done.returncode == 125 and self._not_started in done.stdout:
                raise SubmitRejected(
                    done.stderr.strip() or f"{self.directory} could not be used",
                    kind="invalid_request",
                    stdout=done.stdout,
                    stderr=done.stderr,
                    returncode=done.returncode,
                )
            job_id = self._scheduler.parse_submit(Answer.of(done))
        except SubmitRejected as error:
            self._undo()
            raise self._placed(error) from None
        except SchedulerError as error:
            raise self._unknown(error.message, error) from error
        return self._accepted(job_id)

    def _command(self) -> bytes:
        """The submit command with what comes before it."""
        environment = ""
        if self._specification.env and not self._brings_env:
            environment = posixpath.join(self._private, _ENVIRONMENT)
        return shell_script(
            "cluster/submit",
            not_started=self._not_started,
            directory=self.directory,
            environment=environment,
            command=Shell(to_bytes(self._text())),
            mark=made_mark(self._call) if self._marked else "",
        )

    @property
    def _not_started(self) -> str:
        return f"openssh_jobs: {self.token}: not started"

    def _placed(self, error: SubmitRejected) -> SubmitRejected:
        """The scheduler's refusal, with the host in front of it."""
        return type(error)(
            f"{self._scheduler.name} refused the job: {error.message}",
            kind=error.kind,
            stdout=error.stdout,
            stderr=error.stderr,
            returncode=error.returncode,
            host=self._host,
            advice=error.advice,
        )

    def _unknown(self, why: str, error: SchedulerError | None = None) -> SubmitUnknown:
        return SubmitUnknown(
            f"it is not known whether the job was submitted: {why}",
            token=self.token,
            kind=error.kind if error is not None else "transport",
            stdout=error.stdout if error is not None else "",
            stderr=error.stderr if error is not None else "",
            returncode=error.returncode if error is not None else None,
            host=self._host,
            advice="Before submitting it again, look for a job whose script lies in "
            f"{self._private}.",
        )
