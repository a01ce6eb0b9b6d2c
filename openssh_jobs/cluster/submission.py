"""One submission: what is put on the host for it, what the scheduler gets, what the journal keeps.

On the host a submission has a private directory of its own, ``DIRECTORY/.openssh_jobs/TOKEN/``,
that holds the script as it was submitted; its path carries the token to where the scheduler shows
it.  Where others could replace that directory it is ``~/.openssh_jobs/TOKEN/`` (see
``files/private_directory.py``).
"""

from __future__ import annotations

import os
import posixpath
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .. import settings
from ..commands.command_line import exports
from ..commands.quoting import to_bytes, to_text
from ..files.private_directory import PRIVATE
from ..openssh import pid_file
from ..schedulers.fields import expand_array
from ..schedulers.launcher.any_shell import ENVIRONMENT as LAUNCHER_ENVIRONMENT
from ..schedulers.request import SubmitRequest
from .attempt import ENVIRONMENT, SUBMIT_FILE, Order, environment_files
from .defaults import below_base, with_defaults
from .job_files import NewFiles
from .journal import ASKED, SENDING, Row
from .leftovers import is_random
from .specification import Specification, check_token, read_script

if TYPE_CHECKING:
    from .exit_record import ExitRecords
    from .scheduler_client import SchedulerClient


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What a submission would send.

    ``script``: its text, as it was given; ``command``: what submits it, run in ``directory`` of
    ``host``.  ``record_exit``: a launcher takes the place of the script, to record its end.
    ``upload``: the local directory that would become ``directory``.  ``env``: the names of the
    variables.
    """

    host: str
    scheduler: str
    name: str
    token: str
    directory: str
    script: str
    command: str
    record_exit: bool
    upload: str | None
    env: tuple[str, ...]


class Submission:
    """One specification, with all that is made of it.

    ``call``: a random text.  What this call makes on the host carries it, and only that is removed
    by it.  Raises ``InputError`` for what is no token, before the host is asked anything.
    """

    def __init__(
        self,
        client: SchedulerClient,
        specification: Specification,
        token: str | None,
        *,
        record_exit: bool | str = False,
        call: str | None = None,
    ) -> None:
        self.token = check_token(token) if token is not None else "t" + secrets.token_hex(8)
        self.specification = specification
        self._connection = client.connection
        self._client = client
        self._record_exit = record_exit
        self.launcher = self._brings_env = False
        self._max_array: int | None = None
        self._is_marked = specification.upload is not None
        self._call = call or secrets.token_hex(8)
        self.directory = self.private = ""
        self.script: str | None = None
        """The path of a script that lies on the host, absolute."""
        self.row = Row(host=client.host, token=self.token, digest="", scheduler="", directory="")

    def check(self, records: ExitRecords) -> None:
        """Find out what will be sent, and where to.

        Raises ``SchedulerError`` for what the scheduler cannot do, ``InputError`` where the
        script's own directives contradict the parameters.
        """
        wanted, scheduler = self.specification, self._client.scheduler()
        directory = below_base(self._connection.host, wanted.directory)
        self.directory = self._connection.internal.absolute(directory).rstrip("/") or "/"
        script = wanted.script
        if script is not None and not script.startswith(("/", "~/")):
            script = posixpath.join(self.directory, script)
        self.script = script
        self.private = posixpath.join(self.directory, PRIVATE, self.token)
        host = self._connection.host
        wanted = with_defaults(wanted, scheduler, host, self._own_script)
        self.specification = wanted
        self._max_array = settings.max_array(host)
        request = self.request()
        scheduler.check_options(request)
        scheduler.submit_script(request)
        if scheduler.needs_script(request):
            scheduler.check_script(request, self._own_script())
        self._brings_env = records.bring_environment(wanted.env, self._record_exit)
        self.launcher = self._brings_env or records.are_wanted(self._record_exit)
        self.row = Row(
            host=self._client.host,
            token=self.token,
            digest=wanted.digest(scheduler.name),
            scheduler=scheduler.name,
            directory=self.directory,
            name=scheduler.understood(wanted.options).get("name")
            or wanted.name
            or wanted.script_name,
            stage=ASKED,
            call=self._call,
            caller=pid_file.call(),
            array=wanted.array,
        )

    def request(self) -> SubmitRequest:
        """What the scheduler's class gets, with the script where it lies."""
        wanted = self.specification
        submitted = posixpath.join(self.private, wanted.script_name)
        return wanted.request(submitted, self.token, self._max_array)

    @property
    def command(self) -> str:
        """The submit command."""
        return self._client.scheduler().submit_script(self.request())

    def dry_run(self) -> DryRun:
        """What would be sent."""
        wanted = self.specification
        return DryRun(
            host=self._client.host,
            scheduler=self._client.scheduler().name,
            name=self.row.name or "",
            token=self.token,
            directory=self.directory,
            script=to_text(self._own_script()),
            command=self.command,
            record_exit=self.launcher,
            upload=wanted.upload,
            env=tuple(wanted.env),
        )

    # ------------------------------------------------------------------ the script

    @property
    def host_script(self) -> str | None:
        """The path of a script that is read on the host for the journal, or for its launcher."""
        return None if self._content() is not None else self.script

    def _content(self) -> bytes | None:
        """The script's bytes, if it lies on this machine."""
        wanted = self.specification
        if wanted.content is not None or self.script is None:
            return wanted.content or b""
        name = wanted.script or self.script
        if wanted.upload is not None and not name.startswith(("/", "~/")):
            path = os.path.join(wanted.upload, name)
            return read_script(path) if os.path.isfile(path) else None
        return None

    def _own_script(self) -> bytes:
        """The text that will be submitted; read on the host where it lies there."""
        content = self._content()
        if content is None and self.script is not None:
            content = self._connection.read_bytes(self.script)
        return content or b""

    # ------------------------------------------------------------------ what is sent

    def files(
        self, records: ExitRecords, read: bytes | None, *, bash: bool, stored: bool
    ) -> NewFiles:
        """The files of the private directory.

        ``read``: the bytes of a script of the host, as far as they were read.  ``stored``: the
        submit command is among the files.
        """
        wanted, made = self.specification, dict[str, bytes]()
        launcher = None
        if self.launcher:
            content = self._content() if read is None else read
            launcher = records.launcher(
                self._own_script() if content is None else content,
                private=self.private,
                name=wanted.script_name,
                bash=bash,
                members=len(expand_array(wanted.array)) if wanted.array else 0,
                options=wanted.options,
                arguments=wanted.arguments,
                must=self._record_exit is True or self._brings_env,
            )
        if launcher is not None:
            made |= launcher
        elif wanted.content is not None:
            made[wanted.script_name] = wanted.content
        if self._brings_env:
            values = "".join(f"{name}={value}\0" for name, value in wanted.env.items())
            made[LAUNCHER_ENVIRONMENT] = to_bytes(values)
        elif wanted.env:
            made[ENVIRONMENT] = exports(wanted.env)
        if stored:
            made[SUBMIT_FILE] = to_bytes(self.command)
        copied = self.script if launcher is None and wanted.content is None else None
        return NewFiles(
            directory=self.directory,
            token=self.token,
            call_id=self._call,
            files=made,
            copied=None if copied is None else (copied, wanted.script_name),
            chosen=not is_random(self.token),
        )

    def placed(self, private: str, *, made: bool) -> None:
        """Note where the private directory is; ``made``: the job's directory was made for it."""
        self.private = private
        self._is_marked = self._is_marked or made

    def order(self) -> Order:
        """What an attempt needs."""
        names = environment_files(env=bool(self.specification.env), brought=self._brings_env)
        return Order(request=self.request(), environment=names, marked=self._is_marked)

    def sending(self, order: Order) -> Row:
        """The row of the journal from the moment on when there may be a job."""
        self.row = replace(self.row, stage=SENDING, place=self.private, request=order.text())
        return self.row
