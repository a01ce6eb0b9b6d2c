"""One submission: checked, written to the journal, then carried to the host.

On the host a submission has a private directory of its own, ``DIRECTORY/.openssh_jobs/TOKEN/``,
that holds the script as it was submitted; its path carries the token to where the scheduler shows
it.  Where others could replace that directory it is ``~/.openssh_jobs/TOKEN/`` (see
``files/private_directory.py``).
"""

from __future__ import annotations

import os
import posixpath
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from .. import settings
from ..commands.command_line import exports
from ..commands.quoting import to_bytes
from ..errors import InputError, SubmitRejected
from ..files.private_directory import MADE, PRIVATE
from ..jobs import JobId, JobState
from ..openssh import pid_file
from ..schedulers.fields import expand_array
from ..schedulers.launcher.any_shell import ENVIRONMENT as LAUNCHER_ENVIRONMENT
from ..schedulers.request import SubmitRequest
from .attempt import ENVIRONMENT, NO_ANSWER, Order, Taken, environment_files, run, unknown
from .job_files import TokenUsed
from .journal import ASKED, FILES, SENDING, Row
from .leftovers import is_random
from .recovery import at_work
from .specification import Specification, check_token, read_script
from .submitted import kept_of
from .tidy import TIDIED

if TYPE_CHECKING:
    from .exit_record import ExitRecords
    from .job_files import JobFiles, UsedToken
    from .recovery import Recovery
    from .scheduler_client import SchedulerClient


class Submission:
    """Carries one specification to the host and brings back the job's id."""

    def __init__(
        self,
        client: SchedulerClient,
        files: JobFiles,
        records: ExitRecords,
        recovery: Recovery,
        specification: Specification,
        token: str | None,
        *,
        record_exit: bool | str = False,
    ) -> None:
        # Before the host is asked anything.
        self.token = check_token(token) if token is not None else "t" + secrets.token_hex(8)
        self._client = client
        self._files = files
        self._records = records
        self._connection = client.connection
        self._journal = client.journal
        self._recovery = recovery
        self._scheduler = client.scheduler()
        self._specification = specification
        self._host = client.host
        self.directory = self._private = ""
        self._record_exit, self._launcher, self._brings_env = record_exit, False, False
        # What this call makes on the host carries this text, and only that is removed by it.
        self._call = secrets.token_hex(8)
        self._marked = specification.upload is not None

    def submit(self) -> Row:
        """Submit, or find that this was done before: the row of the journal with the job's id.

        Raises ``InputError`` for a token with another specification, ``SubmitRejected`` and
        ``SubmitLimit`` where there is certainly no job, ``SubmitUnknown`` where there may be one (a
        later call goes on from there),
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
            self._journal.change(self._host, self.token, stage=FILES)
            used = self._prepare(script)
            if used is not None:
                return self._over(new, used)
            self._keep(script)
            order = self._order()
            # On disk before the command is sent: from now on there may be a job.
            row = replace(new, stage=SENDING, place=self._private, request=order.text())
            self._journal.change(
                self._host, self.token, stage=row.stage, place=row.place, request=row.request
            )
        except BaseException:
            self._recovery.withdraw(new)
            raise
        return self._send(row, order)

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

    def _settled(self, row: Row, new: Row) -> Row | None:
        """The row of a token that has a job; ``None`` where there is none and it is ours now."""
        if not row.opened:
            return None
        if row.stage in (ASKED, FILES) and row.job_id is None:
            self._take_over(row, new)
            return None
        if row.digest not in (new.digest, ""):  # that of an older version's may not be known
            raise self._other(row.name, row.directory)
        outcome = self._recovery.finish([row])[self.token]
        if isinstance(outcome, Row):
            return outcome
        if not isinstance(outcome, InputError):
            raise outcome
        # It has no job, and its files are not whole any more: from the beginning.
        return self._settled(self._journal.open_row(new), new)

    def _other(self, name: str | None, directory: str) -> InputError:
        return InputError(
            f"the token {self.token!r} belongs to another submission (of {name!r} in {directory})",
            host=self._host,
            advice="Take another token.",
        )

    def _take_over(self, row: Row, new: Row) -> None:
        """Take over from a call that ended before its submit command."""
        if row.caller and not pid_file.ended(row.caller):
            raise at_work(row)
        if not self._journal.take_over(row, new):
            raise at_work(self._journal.by_token(self._host, self.token) or row)
        try:
            if row.call and row.stage == FILES:
                self._files.undo(row.directory, self.token, row.call)
        except BaseException:
            self._journal.change(self._host, self.token, stage=FILES, call=row.call, caller="")
            raise

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
            self._files.write_private(posixpath.join(self._private, LAUNCHER_ENVIRONMENT), values)
        elif wanted.env:
            path = posixpath.join(self._private, ENVIRONMENT)
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

    def _order(self) -> Order:
        files = environment_files(env=bool(self._specification.env), brought=self._brings_env)
        return Order(request=self._request(), environment=files, marked=self._marked)

    def _send(self, row: Row, order: Order) -> Row:
        """The first attempt."""
        try:
            return self._recovery.accept(row, run(self._client, row, order, 1))
        except (*NO_ANSWER, SubmitRejected):
            self._recovery.withdraw(row)  # nothing was submitted
            raise
        except BaseException as error:
            self._recovery.give_back(self.token)
            if isinstance(error, Taken):
                raise unknown(row, "another process has gone on with it") from None
            raise
