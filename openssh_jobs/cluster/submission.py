"""One submission: what is asked for, checked and written down before a byte is sent.

On the host a submission has a private directory of its own, ``DIRECTORY/.openssh_jobs/TOKEN/``,
that holds the script as it was submitted; its path carries the token to where the scheduler shows
it.  Where others could replace that directory it is ``~/.openssh_jobs/TOKEN/`` (see
``remote/private_directory.py``).
"""

from __future__ import annotations

import errno
import logging
import os
import posixpath
import re
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from .. import settings
from ..commands.command_line import exports
from ..commands.os_errors import error_of, refused
from ..commands.quoting import quote, quote_path, to_bytes, to_text
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
from ..files.private_directory import (
    MADE,
    PRIVATE,
    functions,
    place_functions,
    remove_made_script,
    remove_script,
)
from ..jobs import JobId
from ..openssh import pid_file
from ..schedulers.base import SubmitRequest
from ..schedulers.fields import expand_array
from ..schedulers.launcher.any_shell import ENVIRONMENT
from ..transfer.options import Options
from .exit_record import brings_environment, put_launcher, wants_launcher
from .journal import ASKED, SENDING, Row
from .specification import Specification, check_token, read_script
from .specification import job_ids as job_ids

if TYPE_CHECKING:
    from ..connection import Connection
    from .scheduler_client import Asker

log = logging.getLogger("openssh_jobs.cluster.submission")

_ENVIRONMENT = ".oj-env"
SUBMIT_TIMEOUT = 120.0
"""Seconds that a submit command may take; one that has no answer by then may have worked."""


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


def remove_private(connection: Connection, directory: str, token: str) -> None:
    """Remove the private directory of a submission; what does not carry our mark stays, logged."""
    answer = connection._shell.call(remove_script(directory, check_token(token)), again=True)
    if answer.status != 0:
        why = " ".join(to_text(answer.stderr).split())
        log.warning("%s: the files of %s were not removed: %s", connection.host, token, why)


# Prints, each with a NUL behind it: whether the job's directory was made, the private directory,
# why that lies in the home directory, and why it cannot lie there either.
_MAKE = rb"""
oj_d=@D@
if [ -e "$oj_d" ] && [ ! -d "$oj_d" ]; then echo 'Not a directory' >&2; exit 2; fi
oj_made=
if [ ! -d "$oj_d" ]; then
  mkdir -p -- @UP@ 2>/dev/null || mkdir -p -- "$oj_d" || exit 2
  if mkdir -- "$oj_d" 2>/dev/null; then
    oj_made=made
    (cd -P "$oj_d" && set -C && : >@MADE@) || exit 2
  else
    mkdir -p -- "$oj_d" || exit 2
  fi
fi
oj_place "$oj_d" @TOKEN@ @CALL@
oj_r=$?
printf '%s\0' "$oj_made" "$oj_private" "$oj_reason" "$oj_why"
case $oj_r in 0) ;; 1) exit 5;; 3) exit 6;; *) exit 2;; esac
"""


class Submission:
    """Carries one specification to the host and brings back the job's id."""

    def __init__(
        self,
        asker: Asker,
        specification: Specification,
        token: str | None,
        *,
        record_exit: bool | str = False,
    ) -> None:
        self._asker = asker
        self._connection = asker.connection
        self._journal = asker.journal
        self._scheduler = asker.scheduler()
        self._specification = specification
        self._host = asker.host
        self.token = check_token(token) if token is not None else "t" + secrets.token_hex(8)
        self.directory = self._private = ""
        self._record_exit, self._launcher, self._brings_env = record_exit, False, False
        # What this call makes on the host carries this text, and only that is removed by it.
        self._call = secrets.token_hex(8)
        self._marked = specification.upload is not None

    def submit(self) -> Row:
        """Do it, or find that it was done: the row of the journal with the job's id.

        Raises ``InputError`` for a token with another specification, ``SubmitRejected`` and
        ``SubmitLimit`` where there is certainly no job, ``SubmitUnknown`` where there may be one,
        ``PermissionError`` where no directory on the host is private, and whatever the upload
        raises (then there is no job).
        """
        wanted = self._specification
        digest = wanted.digest(self._scheduler.name)
        self.directory = self._connection._files.absolute(wanted.directory or "~").rstrip("/")
        script = wanted.script
        if script is not None and not script.startswith(("/", "~/")):
            script = posixpath.join(self.directory, script)
        self._private = posixpath.join(self.directory, PRIVATE, self.token)
        self._text()  # refuses what the scheduler cannot do
        if self._scheduler.needs_script(self._request()):
            self._scheduler.check_script(self._request(), self._own_script(script))
        self._brings_env = brings_environment(self._asker, wanted.env, self._record_exit)
        self._launcher = self._brings_env or wants_launcher(self._asker, self._record_exit)
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
        )
        row = self._journal.open_row(new)
        settled = self._settled(row, new)
        if settled is not None:
            return settled
        try:
            self._prepare(script)
        except BaseException:
            self._undo()
            raise
        return self._send()

    def _text(self) -> str:
        """The submit command, with the script where it lies."""
        return self._scheduler.submit_script(self._request())

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
        """Nothing was submitted: the same token may try again, and nothing is left on the host.

        What cannot be removed now is removed by the next call with this token.
        """
        facts = {"stage": ASKED, "caller": "", "call": self._call}
        self._journal.change(self._host, self.token, **facts)
        try:
            if self._remove(self.directory, self._call):
                self._journal.forget(self._host, self.token, self._call)
        except (OpenSSHJobsError, OSError) as error:
            log.info("%s: %s was not tidied up: %s", self._host, self.directory, error)

    def _remove(self, directory: str, call: str) -> bool:
        """Remove what a call has made on the host, as its marks say; false where some of it stays.

        Another run's directory of the same name carries no such mark.
        """
        scripts = remove_script(directory, self.token, call), remove_made_script(directory, call)
        # Another call's directory of this token (1) stays: that is nothing to wait for.
        script = b"( %b ) 2>/dev/null; oj_r=$?; ( %b ) && [ $oj_r -le 1 ]" % scripts
        answer = self._connection._shell.call(script, again=True)
        if answer.status != 0:
            why = " ".join(to_text(answer.stderr).split())
            log.warning("%s: %s is left as it is: %s", self._host, directory, why)
        return answer.status == 0

    def _settled(self, row: Row, new: Row) -> Row | None:
        """What the journal knows of this token already, or the job itself has written down."""
        if not row.opened:
            return None
        if row.stage == ASKED and row.job_id is None and self._taken_over(row, new):
            return None
        if row.digest != new.digest:
            raise InputError(
                f"the token {self.token!r} belongs to another submission (of {row.name!r} in "
                f"{row.directory})",
                host=self._host,
                advice="Take another token.",
            )
        if row.job_id is not None:
            return row
        job_id = self._owner(row)
        if job_id is None:
            raise open_submission(row)
        return self._accepted(job_id)

    def _taken_over(self, row: Row, new: Row) -> bool:
        """Go on where a call ended that had sent no submit command.  False where that one did."""
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
                self._remove(row.directory, row.call)
        except BaseException:
            self._journal.change(self._host, self.token, call=row.call, caller="")
            raise
        return True

    def _owner(self, row: Row) -> str | None:
        """The job id that the launcher wrote to ``TOKEN/owner``, or ``None``."""
        script = (
            b"oj_find %b %b || { [ $? -ne 1 ] || printf '%%s\\n' \"$oj_why\" >&2; exit 0; }; "
            b"[ -f owner ] && [ ! -L owner ] && head -c 256 owner; exit 0"
        ) % (quote(row.directory), quote(row.token))
        answer = self._connection._shell.call(functions().encode() + script, again=True)
        if answer.stderr:
            log.warning("%s: %s was not read: %s", row.host, row.token, to_text(answer.stderr))
        try:
            return str(JobId.parse(to_text(answer.stdout).strip()))
        except InputError:
            return None  # nobody has yet, or its job has no launcher

    def _accepted(self, job_id: str) -> Row:
        self._journal.change(
            self._host,
            self.token,
            job_id=job_id,
            state="pending",
            submitted=self._asker.host_time(),  # compared with times that the host tells
        )
        row = self._journal.by_token(self._host, self.token)
        if row is None:
            raise AssertionError("the journal lost a row")
        log.info("%s: submitted %s as %s", self._host, row.name, job_id)
        return row

    # ------------------------------------------------------------------ files

    def _prepare(self, script: str | None) -> None:
        wanted = self._specification
        if wanted.upload is not None:
            # The mark comes with the directory, so that nobody else's is ever taken for it.
            options = Options(mark=os.fsencode(MADE + self._call))
            self._connection._transfer.put(wanted.upload, self.directory, options)
        submitted = self._place(script)
        if wanted.content is not None:
            self._connection.write_bytes(submitted, wanted.content)
        if self._launcher:
            put_launcher(
                self._asker,
                wanted.content,
                private=self._private,
                submitted=submitted,
                members=len(expand_array(wanted.array)) if wanted.array else 0,
                options=wanted.options,
                must=self._record_exit is True or self._brings_env,
            )
        if self._brings_env:
            values = to_bytes("".join(f"{name}={value}\0" for name, value in wanted.env.items()))
            self._write_environment(posixpath.join(self._private, ENVIRONMENT), values)
        elif wanted.env:
            path = posixpath.join(self._private, _ENVIRONMENT)
            self._write_environment(path, exports(wanted.env))

    def _place(self, script: str | None) -> str:
        """Make the private directory, and put a script of the host there; the script's path."""
        words = {
            b"@D@": quote(self.directory),
            b"@UP@": quote(posixpath.dirname(self.directory) or "/"),
            b"@TOKEN@": quote(self.token),
            b"@CALL@": quote(self._call),
            b"@MADE@": quote("./" + MADE + self._call),
        }
        text = re.sub(b"@[A-Z]+@", lambda found: words[found[0]], _MAKE)
        if script is not None:
            one, name = quote_path(script), quote_path(self._specification.script_name)
            text += (
                b"if [ ! -f %b ]; then if [ -e %b ]; then echo 'Is a directory' >&2; else "
                b"echo 'No such file or directory' >&2; fi; exit 3; fi; "
                b"if [ ! -s %b ]; then exit 4; fi; cp -p -- %b %b || exit 3"
                % (one, one, one, one, name)
            )
        answer = self._connection._shell.call(place_functions().encode() + text)
        if answer.status == 4:
            raise InputError(f"the script {script} is empty", host=self._host)
        made, place, reason, why, _ = (*map(to_text, answer.stdout.split(b"\0")), *[""] * 5)[:5]
        if answer.status == 5:
            error = refused(errno.EPERM, self.directory, host=self._host, detail=f"{reason}; {why}")
            error.advice = "Take the permissions of your home directory from others (chmod go-w ~)."
            raise error
        if answer.status == 6:
            raise SubmitUnknown(
                f"the host has the files of an earlier submission with this token ({place})",
                token=self.token,
                kind="no_job_id",
                host=self._host,
                advice=f"Look for a job whose script lies there, and remove {place} or take "
                "another token.",
            )
        if answer.status != 0:
            path = script if answer.status == 3 and script is not None else self.directory
            raise error_of(to_text(answer.stderr), path, host=self._host)
        self._marked = self._marked or made == "made"
        self._private = place
        if reason:
            log.warning(
                "%s: the job's private files lie in %s, because %s", self._host, place, reason
            )
        return posixpath.join(place, self._specification.script_name)

    def _write_environment(self, path: str, text: bytes) -> None:
        """The environment for the job, in a file that only its owner can read."""
        script = b"umask 077; set -C; cat > " + quote_path(path)
        done = self._connection.run(script, input=text, text=False, timeout=SUBMIT_TIMEOUT)
        if done.returncode != 0:
            raise error_of(to_text(done.stderr), path, host=self._host)

    # ------------------------------------------------------------------ the one command

    def _send(self) -> Row:
        try:
            script = self._command()
            # On disk before the command is on its way: from now on there may be a job.
            self._journal.change(self._host, self.token, stage=SENDING, place=self._private)
        except BaseException:
            self._undo()
            raise
        try:
            done = self._asker.run_sh(script, SUBMIT_TIMEOUT, once=True)
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
            job_id = self._scheduler.parse_submit(
                done.stdout, stderr=done.stderr, returncode=done.returncode
            )
        except SubmitRejected as error:
            self._undo()
            raise self._placed(error) from None
        except SchedulerError as error:
            raise self._unknown(error.message, error) from error
        return self._accepted(job_id)

    def _command(self) -> bytes:
        """The submit command with what comes before it."""
        script = self._text().encode("utf-8", "surrogateescape")
        # Said where it is certain that the submit command was not started.
        failed = b"|| { echo %b; exit 125; }\n" % quote(self._not_started)
        if self._specification.env and not self._brings_env:
            path = quote_path(posixpath.join(self._private, _ENVIRONMENT))
            script = b". %b && rm -f -- %b %b" % (path, path, failed) + script
        if self._marked:
            # The directory is the job's from now on.
            script = b"(\n%b\n)\noj_r=$?; [ $oj_r -ne 0 ] || rm -f %b; exit $oj_r" % (
                script,
                quote("./" + MADE + self._call),
            )
        return b"cd -- " + quote_path(self.directory) + b" " + failed + script

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
