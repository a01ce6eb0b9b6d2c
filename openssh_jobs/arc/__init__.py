"""ARC's SSH client, call for call (``arc.job.ssh``), on a connection that is shared and guarded.

ARC's settings are taken verbatim; see ``configure``.  Statuses are ARC's words: ``running`` for
every job that is not known to be over, ``done`` for one that left output to read, ``errored…`` for
one that never ran or was taken away.  A query that failed is never a status.
"""

from __future__ import annotations

import functools
import logging
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from .. import errors
from ..cluster.cluster import Cluster
from ..host import Host
from ..jobs import CancelOutcome, JobStatus
from ..schedulers import get
from ..schedulers.site_commands import SiteCommands
from . import settings
from .files import COMMAND_TIMEOUT, FileCalls
from .settings import (
    check_status_command,
    delete_command,
    list_available_nodes_command,
    servers,
    submit_command,
    submit_filenames,
)
from .statuses import arc_id, arc_status, status_in_listing

logger = logging.getLogger("openssh_jobs.arc")

__all__ = [
    "InputError",
    "SSHClient",
    "ServerError",
    "check_connections",
    "check_job_status_in_stdout",
    "configure",
    "delete_all_arc_jobs",
    "delete_check_files_on_servers",
]

INTERVAL = 60.0
"""Seconds between two tries, as in ARC."""
LIMIT_INTERVAL = 300.0
"""Seconds before a submission that met a limit is tried again."""
_PASSES = ("transient", "transport")
# Trying again does not help with these, and a cluster bans whoever dials on and on.
_FINAL_ERRORS = (
    errors.ConfigurationError,
    errors.AuthenticationNeeded,
    errors.AuthenticationFailed,
    errors.HostKeyUnknown,
    errors.HostKeyChanged,
    errors.TooManyKeys,
    errors.MasterRequired,
)
_ARC_JOB_NAME = re.compile(r"a[0-9]+\Z")
_CUT_NAMES = 8
"""Listings for people cut names here (squeue), or later (qstat): shorter ones are whole."""

Function = TypeVar("Function", bound=Callable[..., Any])

InputError: Any = errors.InputError
ServerError: Any = errors.ServerError


def _adopt_arcs_exceptions() -> None:
    """Where ARC's own exceptions are loaded, ours become subclasses of both: ARC catches them."""
    theirs = sys.modules.get("arc.exceptions")
    for name, ours in (("InputError", errors.InputError), ("ServerError", errors.ServerError)):
        parent = getattr(theirs, name, None)
        if not (isinstance(parent, type) and issubclass(parent, Exception)):
            continue
        if not issubclass(globals()[name], parent):
            facts = {"__module__": __name__, "__doc__": ours.__doc__}
            globals()[name] = type(name, (ours, parent), facts)


_adopt_arcs_exceptions()


def configure(**tables: Mapping[str, Any]) -> None:
    """Set what ARC's settings file holds: ``servers`` and the five tables of commands.

    Tables are keyed by ``cluster_soft`` (``OGE SGE Slurm PBS HTCondor local``); their values may
    be shell text.  A table that is given replaces the old one, but for ``submit_filenames``, which
    is added to the defaults.  Raises ``InputError`` for a table that ARC does not know.
    """
    try:
        settings.configure(**tables)
    except errors.InputError as error:
        raise InputError(error.message) from error


def _load_settings() -> None:
    _adopt_arcs_exceptions()
    if not servers:
        settings.load()


def _cluster_of(server: str) -> Cluster:
    soft = str(servers[server].get("cluster_soft", "auto"))
    commands = SiteCommands(
        status=check_status_command.get(soft),
        submit=submit_command.get(soft),
        cancel=delete_command.get(soft),
        nodes=list_available_nodes_command.get(soft),
    )
    return settings.cluster_of(server, servers[server], commands)


def check_job_status_in_stdout(job_id: int | str, stdout: str | list[str], server: str) -> str:
    """The status of one job in a listing that somebody made: ``running``, ``done``, ``errored``.

    ``KeyError`` for an unknown server, ``ValueError`` for an unknown ``cluster_soft``,
    ``SchedulerError`` for what is no listing at all (it is no proof that the job is over).
    """
    _load_settings()
    soft = str(servers[server]["cluster_soft"])
    try:
        scheduler = get(soft)
    except errors.ConfigurationError as error:
        raise ValueError(f"Unknown cluster software: {soft}") from error
    if not isinstance(stdout, str):
        stdout = "".join(line if line.endswith("\n") else line + "\n" for line in stdout)
    return status_in_listing(str(job_id), stdout, scheduler)


# --------------------------------------------------------------------------- the client


def check_connections(function: Function) -> Function:
    """Decorator: connect before the call where that was not done yet; errors in ARC's names."""

    @functools.wraps(function)
    def checked(self: SSHClient, *args: Any, **kwargs: Any) -> Any:
        if self._ssh is None:
            self.connect()
        try:
            return function(self, *args, **kwargs)
        except (InputError, ServerError, OSError):
            raise  # ARC looks for these: its own names, and IOError
        except errors.InputError as error:
            raise InputError(str(error)) from error
        except errors.OpenSSHJobsError as error:
            raise ServerError(str(error)) from error

    return checked  # type: ignore[return-value]


class SSHClient(FileCalls):
    """ARC's client for one of its ``servers``.

    Raises ``ValueError`` for a server that the settings do not have.  ``connection_attempts``:
    how often, once a minute, a connection or a scheduler that may come back is tried.
    """

    def __init__(self, server: str = "", connection_attempts: int = 1440) -> None:
        _load_settings()
        if not server:
            raise ValueError("A server name must be specified")
        if server not in servers:
            raise ValueError(
                f"Server name {server!r} is invalid. Currently defined servers are: "
                f"{', '.join(servers) or 'none'}"
            )
        self.server = server
        self.address = servers[server].get("address", server)
        self.un = servers[server].get("un", "")
        self.key = servers[server].get("key", "")
        self.connection_attempts = connection_attempts
        self.last_submission: Any = None
        self._sftp: Any = None
        self._ssh: Any = None
        self._cluster = _cluster_of(server)

    def __enter__(self) -> SSHClient:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ the link

    def _connect(self) -> tuple[Host, Host]:
        """One try: the pair that ARC calls (sftp, ssh); here one connection does both."""
        connection = self._cluster.connection.open()
        return connection, connection

    def connect(self) -> None:
        """Connect, up to ``connection_attempts`` times, once a minute; then ``ServerError``.

        What cannot get better by waiting (a refused key, a changed host key) is raised at once.
        """
        for trial in range(1, self.connection_attempts + 1):
            try:
                self._sftp, self._ssh = self._connect()
                return
            except _FINAL_ERRORS as error:
                raise ServerError(f"Could not connect to server {self.server}: {error}") from error
            except Exception as error:
                logger.warning("%s: try %d to connect failed: %s", self.server, trial, error)
                if trial == self.connection_attempts:
                    raise ServerError(
                        f"Could not connect to server {self.server} even after {trial} trials: "
                        f"{error}"
                    ) from error
            time.sleep(INTERVAL)

    def close(self) -> None:
        """Let go; the master stays for the next client."""
        self._sftp = self._ssh = None

    @property
    def _connection(self) -> Host:
        return self._cluster.connection

    @check_connections
    def _send_command_to_server(
        self, command: str | list[str], remote_path: str = ""
    ) -> tuple[list[str], list[str]]:
        """Run shell text (in ``remote_path``); the lines of stdout and of stderr."""
        text = command if isinstance(command, str) else " ".join(command)
        try:
            done = self._connection.run(
                text,
                cwd=remote_path or None,
                timeout=COMMAND_TIMEOUT,
                login_shell=bool(servers[self.server].get("login_shell", False)),
            )
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputError(f"Cannot execute command at given remote_path: {error}") from error
        logger.debug("%s: %s -> %d", self.server, text, done.returncode)
        return done.stdout.splitlines(keepends=True), done.stderr.splitlines(keepends=True)

    def _persist(self, question: Callable[[], Any], what: str) -> Any:
        """Ask again while the reason may pass; then ``ServerError``.  Nothing is made up."""
        for trial in range(1, max(1, self.connection_attempts) + 1):
            try:
                return question()
            except (InputError, errors.InputError, OSError):
                raise
            except errors.OpenSSHJobsError as error:
                lasts = isinstance(error, _FINAL_ERRORS) or (
                    isinstance(error, errors.SchedulerError) and error.kind not in _PASSES
                )
                if lasts or trial >= self.connection_attempts:
                    raise ServerError(f"{what} on {self.server}: {error}") from error
                logger.warning("%s: %s: %s", self.server, what, error)
            time.sleep(INTERVAL)
        raise AssertionError("not reached")

    # ------------------------------------------------------------------ files

    upload_file = check_connections(FileCalls.upload_file)
    download_file = check_connections(FileCalls.download_file)
    read_remote_file = check_connections(FileCalls.read_remote_file)
    get_last_modified_time = check_connections(FileCalls.get_last_modified_time)
    list_dir = check_connections(FileCalls.list_dir)
    change_mode = check_connections(FileCalls.change_mode)

    def delete_remote_check_files(self, remote_path: str) -> None:
        """Delete the ``*.chk`` files below a remote directory; one that is missing is no error."""
        plain = remote_path if remote_path.startswith(("/", "./")) else f"./{remote_path}"
        word = shlex.quote(plain)
        self._send_command_to_server(
            f"if [ -d {word} ]; then find {word} -type f -name '*.chk' -exec rm -f -- {{}} + ; fi"
        )

    # ------------------------------------------------------------------ jobs

    @check_connections
    def submit_job(self, remote_path: str, recursion: bool = False) -> tuple[str, str]:
        """Submit the job script in ``remote_path``: ``('running', id)`` or ``('errored', '')``.

        The whole story is in the log and on ``last_submission`` (the ``Job`` or the error).  A
        limit that passes, and a scheduler that was certainly not reached, are tried again unless
        ``recursion`` is true.  ``ServerError`` where nobody knows if the job exists: submitting
        again could make a second one.
        """
        soft = str(servers[self.server].get("cluster_soft", "local"))
        name = submit_filenames.get(soft, "submit.sh")
        left = 0.0 if recursion else self.connection_attempts * INTERVAL
        while True:
            try:
                job = self._cluster.submit(name, directory=remote_path)
            except errors.SubmitRejected as error:
                self.last_submission = error
                logger.error("%s: %s", self.server, error)
                passes = isinstance(error, errors.SubmitLimit)
                pause = LIMIT_INTERVAL if passes else INTERVAL
                left -= pause
                if left <= 0 or not (passes or error.kind in _PASSES):
                    return "errored", ""
                time.sleep(pause)
            except errors.SubmitUnknown as error:
                self.last_submission = error
                raise ServerError(str(error)) from error
            except (errors.SchedulerError, errors.InputError, OSError) as error:
                self.last_submission = error
                logger.error("%s: %s", self.server, error)
                return "errored", ""
            else:
                self.last_submission = job
                return "running", arc_id(job.id)

    @check_connections
    def check_job_status(self, job_id: int | str) -> str:
        """``running``, ``done``, ``errored on node NAME`` or ``errored: REASON``."""
        one = str(job_id)

        def ask() -> str:
            snapshot = self._cluster.status([one])
            if snapshot.error is not None and one in snapshot.unknown:
                raise snapshot.error
            status = self._cluster.job(one).last
            return arc_status(status, over=self._cluster.is_over(one))

        answer: str = self._persist(ask, f"the status of job {one}")
        return answer

    @check_connections
    def check_running_jobs_ids(self) -> list[str]:
        """The ids of all jobs of this user that are not known to be over, as ``submit_job``'s.

        A job that left the queue stays in the list until it is known how it ended, or until the
        grace time is over: ARC takes an id that is missing here for a finished job.
        """

        def ask() -> list[str]:
            listed = self._cluster.jobs()
            found = [one.job_id for one in listed if not one.is_final]
            following = self._cluster.following()
            if following:
                snapshot = self._cluster.status(following)
                if snapshot.error is not None:
                    raise snapshot.error
            still = [one for one in following if not self._cluster.is_over(one)]
            return list(dict.fromkeys(arc_id(one) for one in [*found, *still]))

        answer: list[str] = self._persist(ask, "the list of jobs")
        return answer

    def _arcs_jobs(self) -> list[str]:
        """The ids of this user's unfinished jobs that have ARC's names.

        Asked for by the scheduler's own command, because a site's listing may cut names and show
        the jobs of others.
        """

        def ask_as_the_site_does() -> list[JobStatus]:
            listed = self._cluster.jobs()
            return [one for one in listed if len(one.name or "") < _CUT_NAMES]

        try:
            listed = self._persist(self._cluster.internal.own_listing, "the list of jobs")
        except errors.ServerError as error:
            cause = error.__cause__
            if getattr(cause, "kind", "") != "scheduler_missing":
                raise
            listed = self._persist(ask_as_the_site_does, "the list of jobs")
        names = ((one.job_id, one.name or "") for one in listed if not one.is_final)
        return [job_id for job_id, name in names if _ARC_JOB_NAME.match(name)]

    @check_connections
    def delete_job(self, job_id: int | str) -> None:
        """Cancel one job; one that is over already is no error."""
        self.delete_jobs([str(job_id)])

    @check_connections
    def delete_jobs(self, jobs: Iterable[int | str] | None = None) -> None:
        """Cancel these jobs of the list of running ones; without a list, all that ARC named.

        ``ServerError`` names those that could not be cancelled.
        """
        wanted = self._arcs_jobs() if jobs is None else [str(one) for one in jobs]
        if not wanted:
            return
        outcomes = self._persist(lambda: self._cluster.cancel(wanted), "cancelling")
        good = (
            CancelOutcome.REQUESTED, CancelOutcome.ALREADY_FINISHED, CancelOutcome.NOT_FOUND
        )  # fmt: skip
        bad = {one: outcome for one, outcome in outcomes.items() if outcome not in good}
        if bad:
            raise ServerError(
                f"not cancelled on {self.server}: "
                + ", ".join(f"{one} ({outcome})" for one, outcome in bad.items())
            )

    # ------------------------------------------------------------------ the machine

    @check_connections
    def list_available_nodes(self) -> list[str]:
        """The names of the nodes on which something is free."""
        nodes = self._persist(self._cluster.nodes, "the list of nodes")
        return [node.name for node in nodes if node.state in ("idle", "mixed")]

    @check_connections
    def find_package(self, package_name: str) -> list[str]:
        """Where a program is found by the user's login shell, and modules of that name."""
        word = shlex.quote(package_name)
        script = (
            f"command -v -- {word}\n"
            "if command -v module >/dev/null 2>&1; then "
            f"module -t avail {word} 2>&1 | grep -i -F -- {word}; fi\n"
            "exit 0"
        )
        done = self._connection.run(script, login_shell=True, timeout=COMMAND_TIMEOUT)
        lines: list[str] = done.stdout.splitlines(keepends=True)
        return lines


# --------------------------------------------------------------------------- many servers


def delete_all_arc_jobs(server_list: list[str] | str, jobs: list[str] | None = None) -> None:
    """Cancel ARC's jobs (names ``a`` and digits) on these servers; or just those listed."""
    for server in [server_list] if isinstance(server_list, str) else server_list:
        with SSHClient(server) as client:
            client.delete_jobs(jobs)


def delete_check_files_on_servers(
    remote_paths: Mapping[str, str | Iterable[str]],
) -> None:
    """Delete the ``*.chk`` files below directories on servers; never raises for a server's sake."""
    for server, paths in remote_paths.items():
        if not server or server.lower() == "local" or not paths:
            continue
        try:
            with SSHClient(server, connection_attempts=1) as client:
                for path in [paths] if isinstance(paths, str) else paths:
                    client.delete_remote_check_files(path)
        except (errors.OpenSSHJobsError, ValueError, OSError) as error:
            logger.error("check files on %s were not deleted: %s", server, error)
