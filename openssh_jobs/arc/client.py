"""``SSHClient``: ARC's client for one server, on a connection that is shared and guarded."""

from __future__ import annotations

import functools
import re
import shlex
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from .. import errors, logs
from ..cluster.cluster import Cluster
from ..host import Host
from ..jobs import CancelOutcome, JobState, JobStatus
from ..schedulers import get
from . import settings
from .exceptions import InputError, ServerError
from .files import COMMAND_TIMEOUT, ArcFiles, lines_of
from .paramiko_adapters import SFTPAdapter, SSHAdapter
from .statuses import arc_id, arc_status, status_in_listing

logger = logs.logger("openssh_jobs.arc")

INTERVAL = 60.0
"""Seconds between two tries, as in ARC."""
LIMIT_INTERVAL = 300.0
"""Seconds before a submission that met a limit is tried again."""
_PASSES = ("transient", "transport")
# Trying again does not help with these, and clusters ban who keeps on logging in.
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
_GONE = (CancelOutcome.REQUESTED, CancelOutcome.ALREADY_FINISHED, CancelOutcome.NOT_FOUND)
_CUT_NAMES = 8
"""Listings for people cut names here (squeue), or later (qstat): shorter ones are whole."""

Function = TypeVar("Function", bound=Callable[..., Any])


def check_job_status_in_stdout(job_id: int | str, stdout: str | list[str], server: str) -> str:
    """The status of one job in a listing that somebody made: ``running``, ``done``, ``errored``.

    A listing without a header is read by the form of ``check_status_command``, or by its columns.
    ``KeyError`` for an unknown server, ``ValueError`` for an unknown ``cluster_soft``,
    ``SchedulerError`` for what cannot be read (it is no proof that the job is over).
    """
    settings.load()
    software = str(settings.servers[server]["cluster_soft"])
    try:
        scheduler = get(software)
    except errors.ConfigurationError as error:
        raise ValueError(f"Unknown cluster software: {software}") from error
    if not isinstance(stdout, str):
        stdout = "".join(line if line.endswith("\n") else line + "\n" for line in stdout)
    command = settings.check_status_command.get(software)
    return status_in_listing(str(job_id), stdout, scheduler, command)


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
        except errors.OpenSSHJobsError as error:
            raise ServerError(str(error)) from error

    return checked  # type: ignore[return-value]


def _ended_somehow(status: JobStatus) -> bool:
    """Whether there is nothing to cancel; Torque lists ended jobs as C, which does not say how."""
    torque_ended = status.state is JobState.UNKNOWN and status.raw_state == "C"
    return status.is_final or torque_ended


class SSHClient(ArcFiles):
    """ARC's client for one of its ``servers``.

    Raises ``ValueError`` for a server that the settings do not have.  ``connection_attempts``:
    how often, once a minute, a connection or a scheduler that may come back is tried.  Settings
    that make no sense (a user name that is still ARC's placeholder) fail at ``connect``.  May be
    shared by threads.
    """

    def __init__(self, server: str = "", connection_attempts: int = 1440) -> None:
        settings.load()
        if not server:
            raise ValueError("A server name must be specified")
        servers = settings.servers
        if server not in servers:
            raise ValueError(
                f"Server name {server!r} is invalid. Currently defined servers are: "
                f"{', '.join(servers) or 'none'}"
            )
        self.server = server
        self._entry = servers[server]
        self._software = settings.software_of(server)
        self._site_commands = settings.commands_of(self._software)
        self.address = self._entry.get("address", server)
        self.un = self._entry.get("un", "")
        self.key = self._entry.get("key") or None
        self.connection_attempts = connection_attempts
        self.last_submission: Any = None
        self._sftp: Any = None
        self._ssh: Any = None
        self._logins_before: int | None = None

    def __enter__(self) -> SSHClient:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ the link

    @functools.cached_property
    def _shared(self) -> settings.SharedServer:
        return settings.shared(self.server, self._entry, self._site_commands)

    @property
    def _cluster(self) -> Cluster:
        return self._shared.cluster

    @property
    def _connection(self) -> Host:
        return self._shared.connection

    @property
    def logins(self) -> int:
        """Logins made over this client's connection since the client first connected."""
        if self._logins_before is None:
            return 0
        return self._connection.stats().logins - self._logins_before

    def _connect(self) -> tuple[SFTPAdapter, SSHAdapter]:
        """One try: the pair (sftp, ssh), both on the one connection to this server."""
        connection = self._connection
        if self._logins_before is None:
            self._logins_before = connection.stats().logins
        connection.open()
        return SFTPAdapter(connection), SSHAdapter(connection)

    def connect(self) -> None:
        """Connect, up to ``connection_attempts`` times, once a minute; then ``ServerError``.

        What cannot get better by waiting (a refused key, a changed host key) is raised at once.
        """
        for trial in range(1, max(1, self.connection_attempts) + 1):
            try:
                self._sftp, self._ssh = self._connect()
                return
            except _FINAL_ERRORS as error:
                raise ServerError(f"Could not connect to server {self.server}: {error}") from error
            except Exception as error:
                logger.warning("%s: try %d to connect failed: %s", self.server, trial, error)
                if trial >= self.connection_attempts:
                    raise ServerError(
                        f"Could not connect to server {self.server} even after {trial} trials: "
                        f"{error}"
                    ) from error
            time.sleep(INTERVAL)

    def close(self) -> None:
        """Let go; the master stays for the next client."""
        self._sftp = self._ssh = None

    @check_connections
    def _send_command_to_server(
        self, command: str | list[str], remote_path: str = ""
    ) -> tuple[list[str], list[str]]:
        """Run shell text (in ``remote_path``); the lines of stdout and of stderr.

        A list holds commands that run one after the other.  Nothing is sent twice.  Raises
        ``InputError`` where ``remote_path`` is missing (nothing is run then), ``ServerError``
        where the end of the command was not seen.
        """
        text = command if isinstance(command, str) else "; ".join(command)
        try:
            done = self._connection.run(
                text,
                cwd=remote_path or None,
                timeout=COMMAND_TIMEOUT,
                login_shell=bool(self._entry.get("login_shell", False)),
            )
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputError(f"Cannot execute command at given remote_path: {error}") from error
        logger.debug("%s: %s -> %d", self.server, text, done.returncode)
        return lines_of(done.stdout), lines_of(done.stderr)

    def _persist(self, question: Callable[[], Any], what: str) -> Any:
        """Ask again while the reason may pass; then ``ServerError``.  Nothing is made up."""
        for trial in range(1, max(1, self.connection_attempts) + 1):
            try:
                return question()
            except (InputError, OSError):
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

    upload_file = check_connections(ArcFiles.upload_file)
    download_file = check_connections(ArcFiles.download_file)
    read_remote_file = check_connections(ArcFiles.read_remote_file)
    get_last_modified_time = check_connections(ArcFiles.get_last_modified_time)
    list_dir = check_connections(ArcFiles.list_dir)
    change_mode = check_connections(ArcFiles.change_mode)
    remove_remote_files = check_connections(ArcFiles.remove_remote_files)
    remove_dir = remove_remote_files

    # ------------------------------------------------------------------ jobs

    @check_connections
    def submit_job(self, remote_path: str, recursion: bool = False) -> tuple[str, str]:
        """Submit the job script in ``remote_path``: ``('running', id)`` or ``('errored', '')``.

        ``last_submission`` holds the ``Job`` or the error that said why.  A
        limit that passes, and a scheduler that was certainly not reached, are tried again unless
        ``recursion`` is true.  ``ServerError`` where it is not known whether the job exists:
        submitting again could make a second one.
        """
        name = settings.submit_filenames.get(self._software, "submit.sh")
        return self.submit_script(name, remote_path, again=not recursion)

    @check_connections
    def submit_script(self, name: str, directory: str, *, again: bool = True) -> tuple[str, str]:
        """``submit_job`` for a script of another name; ``again``: try again as it does."""
        left = self.connection_attempts * INTERVAL if again else 0.0
        while True:
            try:
                job = self._cluster.submit(name, directory=directory)
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
            except (errors.SchedulerError, InputError, OSError) as error:
                self.last_submission = error
                logger.error("%s: %s", self.server, error)
                return "errored", ""
            else:
                self.last_submission = job
                return "running", arc_id(job.id)

    @check_connections
    def check_job_status(self, job_id: int | str) -> str:
        """``running``, ``done``, ``errored on node NAME`` or ``errored: REASON``.

        ``before_submission`` for the token of a submission that the journal holds without a job.
        """
        wanted = str(job_id)
        if not wanted.isdigit():
            row = self._cluster.journal.by_token(self._cluster.host, wanted)
            if row is not None and row.job_id is None:
                return "before_submission"
            if row is not None and row.job_id is not None:
                wanted = row.job_id

        def ask() -> str:
            snapshot = self._cluster.status([wanted])
            if snapshot.error is not None and wanted in snapshot.unknown:
                raise snapshot.error
            status = self._cluster.job(wanted).last
            return arc_status(status, over=self._cluster.is_over(wanted))

        answer: str = self._persist(ask, f"the status of job {wanted}")
        return answer

    @check_connections
    def check_running_jobs_ids(self) -> list[str]:
        """The ids of all jobs of this user that are not known to be over, as ``submit_job``'s.

        A job that left the queue stays in the list until it is known how it ended, or until the
        grace time is over: ARC takes an id that is missing here for a finished job.  Raises
        ``ValueError`` for a ``cluster_soft`` that is not supported.
        """
        self._check_software()

        def ask() -> list[str]:
            listed = self._cluster.jobs()
            found = [status.job_id for status in listed if not self._is_over(status)]
            following = self._cluster.following()
            if following:
                snapshot = self._cluster.status(following)
                if snapshot.error is not None:
                    raise snapshot.error
            still = [job_id for job_id in following if not self._cluster.is_over(job_id)]
            return list(dict.fromkeys(arc_id(job_id) for job_id in [*found, *still]))

        answer: list[str] = self._persist(ask, "the list of jobs")
        return answer

    def _is_over(self, status: JobStatus) -> bool:
        """Whether a job that the queue lists has ended; Torque's C does not say how."""
        if status.state is JobState.UNKNOWN:
            return self._cluster.is_over(status.job_id)
        return status.is_final

    def _check_software(self) -> None:
        if self._software == "auto":
            return
        try:
            get(self._software)
        except errors.ConfigurationError as error:
            raise ValueError(
                f"Server cluster software {self._software} is not supported."
            ) from error

    def arcs_jobs(self) -> dict[str, str]:
        """Ids and names of this user's unfinished jobs that have ARC's names (``a1``).

        Queried by the scheduler's own command, because a site's listing may cut names and show
        the jobs of others.
        """

        def ask_as_the_site_does() -> list[JobStatus]:
            listed = self._cluster.jobs()
            return [status for status in listed if len(status.name or "") < _CUT_NAMES]

        try:
            listed = self._persist(self._cluster.internal.own_listing, "the list of jobs")
        except ServerError as error:
            if getattr(error.__cause__, "kind", "") != "scheduler_missing":
                raise
            listed = self._persist(ask_as_the_site_does, "the list of jobs")
        return {
            status.job_id: status.name
            for status in listed
            if status.name and _ARC_JOB_NAME.match(status.name) and not _ended_somehow(status)
        }

    @check_connections
    def delete_job(self, job_id: int | str) -> None:
        """Cancel one job; nothing happens to one that is over."""
        self.delete_jobs([str(job_id)])

    @check_connections
    def delete_jobs(self, jobs: Iterable[int | str] | None = None) -> None:
        """Cancel these jobs; without a list, all of this user with ARC's names (``a1``).

        One command for all of them.  ``ServerError`` names those that could not be cancelled.
        """
        wanted = list(self.arcs_jobs()) if jobs is None else [str(job_id) for job_id in jobs]
        if not wanted:
            return
        outcomes = self._persist(lambda: self._cluster.cancel(wanted), "cancelling")
        failed = {job_id: what for job_id, what in outcomes.items() if what not in _GONE}
        if failed:
            raise ServerError(
                f"not cancelled on {self.server}: "
                + ", ".join(f"{job_id} ({what})" for job_id, what in failed.items())
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
        return lines_of(done.stdout)


# --------------------------------------------------------------------------- many servers


def delete_all_arc_jobs(server_list: list[str] | str, jobs: list[str] | None = None) -> None:
    """Cancel ARC's jobs (names ``a`` and digits) on these servers; or just those listed."""
    for server in [server_list] if isinstance(server_list, str) else server_list:
        with SSHClient(server) as client:
            client.delete_jobs(jobs)


def delete_check_files_on_servers(
    remote_project_paths: Mapping[str, str | Iterable[str]],
) -> None:
    """Delete the ``*.chk`` files below directories on servers.

    Never raises: what fails is logged, and each server is tried once.
    """
    for server, paths in remote_project_paths.items():
        if not server or server.lower() == "local" or not paths:
            continue
        try:
            with SSHClient(server, connection_attempts=1) as client:
                for path in [paths] if isinstance(paths, str) else paths:
                    client.delete_remote_check_files(path)
        except Exception as error:  # noqa: BLE001 - ARC is through: nothing may spoil its result
            logger.error("check files on %s were not deleted: %s", server, error)
