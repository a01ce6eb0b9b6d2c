"""The functions of ARC's ``arc.job.local``: commands, files and jobs of this machine.

Jobs are those of the server ``local`` of ARC's settings, whose scheduler runs on this machine:
submitted once, queried and cancelled as ``SSHClient`` does it for the others.
"""

from __future__ import annotations

import os
import shlex
import shutil
import time
from datetime import datetime

from .. import errors, logs
from ..openssh import process
from ..schedulers import get
from ..schedulers.answer import Answer
from ..schedulers.base import Scheduler
from . import exceptions, settings
from .client import LIMIT_INTERVAL, SSHClient
from .settings import (
    check_status_command,
    delete_command,
    output_filenames,
    servers,
    submit_command,
    submit_filenames,
)
from .statuses import arc_id, ids_in_listing

__all__ = [
    "change_mode",
    "check_job_status",
    "check_running_jobs_ids",
    "check_status_command",
    "delete_all_local_arc_jobs",
    "delete_command",
    "delete_job",
    "execute_command",
    "get_last_modified_time",
    "output_filenames",
    "parse_running_jobs_ids",
    "rename_output",
    "servers",
    "submit_command",
    "submit_filenames",
    "submit_job",
    "write_file",
]

logger = logs.logger("openssh_jobs.arc")

SERVER = "local"
ATTEMPTS = 30
"""How often, once a minute, a scheduler that may come back is queried."""
_CANNOT_RUN = (126, 127)
_OUTPUT_CHECKS, _OUTPUT_INTERVAL = 5, 6.0
_COMPUTE_NODE = ("do not submit jobs on compute nodes", "submitted on login server")


class LocalOutput(tuple[list[str], list[str]]):
    """The lines of stdout and of stderr, as ARC unpacks them; ``returncode`` as in subprocess."""

    returncode: int


# --------------------------------------------------------------------------- commands


def execute_command(
    command: str | list[str],
    shell: bool = True,
    no_fail: bool = False,
    executable: str | None = None,
    timeout: float | None = None,
) -> LocalOutput:
    """Run a command (a list: one after the other while they succeed); its lines, without newlines.

    Waits for its end, however long a calculation takes, unless ``timeout`` (seconds) is given.
    The exit status is ``returncode`` of the result, and is logged where it is not 0: what a
    command prints counts even then.  Raises ``SettingsError`` for a command that cannot be run
    (not found, not executable) unless ``no_fail``, ``TimeoutError`` after ``timeout``.
    """
    text = command if isinstance(command, str) else " && ".join(command)
    argv = [executable or "/bin/sh", "-c", text]
    if not shell:
        argv = list(command) if isinstance(command, list) else shlex.split(command)
    try:
        done = process.run(argv, timeout=timeout, most=None)
    except OSError as error:
        done = process.FinishedProcess(127, b"", os.fsencode(str(error)))
    if done.timed_out:
        raise TimeoutError(f"{text!r} has not ended within {timeout} seconds")
    code = done.returncode
    output = LocalOutput((_lines(done.stdout), _lines(done.stderr)))
    output.returncode = code
    if code == 0:
        logger.debug("%s -> 0", text)
        return output
    logger.warning("%s -> %d: %s", text, code, " ".join(output[1])[-400:])
    if code in _CANNOT_RUN and not no_fail:
        raise exceptions.SettingsError(
            f"The command {text!r} is erroneous: {' '.join(output[1])}",
            advice="Correct it in the settings; `which` finds the path of a program.",
        )
    return output


def _lines(data: bytes) -> list[str]:
    # Of bytes: text has more ends of lines than commands mean.
    return [line.decode("utf-8", "surrogateescape") for line in data.splitlines()]


# --------------------------------------------------------------------------- jobs


def _client() -> SSHClient:
    return SSHClient(SERVER, connection_attempts=ATTEMPTS)


def _scheduler(software: str) -> Scheduler:
    try:
        return get(software)
    except errors.ConfigurationError as error:
        raise ValueError(f"Unrecognized cluster software: {software}") from error


def _software(given: str | None = None) -> str:
    settings.load()
    return given or str(servers[SERVER]["cluster_soft"])


def check_job_status(job_id: int | str) -> str:
    """``running``, ``done``, ``errored on node NAME``, ``errored: REASON``; ``before_submission``.

    Raises ``ServerError`` where the scheduler gives no answer: the status is unknown.
    """
    return _client().check_job_status(job_id)


def delete_job(job_id: int | str) -> None:
    """Cancel one job; nothing happens to one that is over.  ``RuntimeError`` if it goes on."""
    try:
        _client().delete_job(job_id)
    except errors.ServerError as error:
        raise RuntimeError(f"Could not delete job {job_id}: {error}") from error


def check_running_jobs_ids() -> list[str]:
    """The ids of this user's jobs that are not known to be over; none without a queueing system.

    Raises ``ValueError`` for a ``cluster_soft`` that is not supported, ``ServerError`` where the
    scheduler gives no answer, and never returns an empty list then.
    """
    software = _software()
    if software.lower() == "local":
        return []
    try:
        get(software)
    except errors.ConfigurationError as error:
        raise ValueError(f"Server cluster software {software} is not supported.") from error
    return _client().check_running_jobs_ids()


def parse_running_jobs_ids(stdout: list[str], cluster_soft: str | None = None) -> list[str]:
    """The ids of the jobs in a listing that are not over.  ``SchedulerError`` if it is none."""
    software = _software(cluster_soft)
    commands = {name.lower(): text for name, text in settings.check_status_command.items()}
    return ids_in_listing(
        "\n".join(stdout) + "\n" if stdout else "",
        _scheduler(software),
        commands.get(software.lower()),
    )


def submit_job(
    path: str,
    cluster_soft: str | None = None,
    submit_cmd: str | None = None,
    submit_filename: str | None = None,
    recursion: bool = False,
) -> tuple[str, str]:
    """Submit the script in the directory ``path``: ``('running', id)`` or ``('errored', '')``.

    A limit that passes is waited for unless ``recursion`` is true.  Raises ``ValueError`` on a
    compute node that takes no jobs, ``ServerError`` where it is not known whether the job exists.
    """
    software = _software(cluster_soft)
    name = submit_filename or submit_filenames[software]
    scheduler = _scheduler(software)
    own = servers.get(SERVER, {}).get("cluster_soft")
    if submit_cmd is None and own is not None and scheduler is _scheduler(str(own)):
        client = _client()
        answer = client.submit_script(name, os.path.abspath(path), again=not recursion)
        _refuse_compute_node(str(client.last_submission or ""))
        return answer
    command = f"{submit_cmd or submit_command[software]} {shlex.quote(name)}"
    return _submit_by_command(f"cd -- {shlex.quote(path)} && {command}", scheduler, not recursion)


def _submit_by_command(command: str, scheduler: Scheduler, again: bool) -> tuple[str, str]:
    """Submit by a command that the caller named, which no journal can know."""
    for trial in range(ATTEMPTS):
        output = execute_command(command, no_fail=True)
        stdout, stderr = ("".join(f"{line}\n" for line in lines) for lines in output)
        code = getattr(output, "returncode", 0 if stdout else 1)
        try:
            return "running", arc_id(scheduler.parse_submit(Answer(stdout, stderr, code)))
        except errors.SubmitLimit as error:
            logger.warning("%s: %s", command, error)
            if not again or trial == ATTEMPTS - 1:
                break
        except errors.SubmitRejected as error:
            _refuse_compute_node(stderr)
            logger.error("%s: %s", command, error)
            break
        except errors.SchedulerError as error:
            _refuse_compute_node(stderr)
            raise exceptions.ServerError(f"{command}: {error}") from error
        time.sleep(LIMIT_INTERVAL)
    return "errored", ""


def _refuse_compute_node(message: str) -> None:
    if any(words in message.lower() for words in _COMPUTE_NODE):
        raise ValueError(
            "Job submission attempted from a compute node. Submit jobs from the login server."
        )


def _determine_job_id(stdout: list[str], cluster_soft: str | None = None) -> str:
    """The id in what a submit command printed; ``ValueError`` where it holds none."""
    scheduler = _scheduler(_software(cluster_soft))
    try:
        return arc_id(scheduler.parse_submit(Answer("".join(f"{line}\n" for line in stdout))))
    except errors.SchedulerError as error:
        raise ValueError(f"no job id in {stdout!r}: {error}") from error


def delete_all_local_arc_jobs(jobs: list[str | int] | None = None) -> None:
    """Cancel this user's jobs with ARC's names (``a1``), or those of them in ``jobs``.

    ``jobs`` may hold ids and names.  One command for all; does nothing without a server ``local``.
    """
    settings.load()
    if SERVER not in servers:
        return
    client = _client()
    client.connect()
    found = client.arcs_jobs()
    wanted = None if jobs is None else {str(job) for job in jobs}
    client.delete_jobs(
        [job_id for job_id, name in found.items()
         if wanted is None or name in wanted or not wanted.isdisjoint((job_id, arc_id(job_id)))]
    )  # fmt: skip


# --------------------------------------------------------------------------- files


def get_last_modified_time(file_path_1: str, file_path_2: str | None = None) -> datetime | None:
    """When the first of these files that exists was changed: local time, naive; or ``None``."""
    for path in (file_path_1, file_path_2):
        if path and os.path.isfile(path):
            return datetime.fromtimestamp(os.stat(path).st_mtime)
    return None


def write_file(file_path: str, file_string: str) -> None:
    """Write a text file."""
    with open(file_path, "w", encoding="utf-8") as handle:
        handle.write(file_string)


def rename_output(local_file_path: str, software: str) -> None:
    """Rename the output of ``software`` (``output_filenames`` of the settings) to this path.

    Waits up to half a minute for it.  ``KeyError`` for software that the settings do not have.
    """
    settings.load()
    name = output_filenames[software.lower()]
    written = os.path.join(os.path.dirname(local_file_path), name)
    for _ in range(_OUTPUT_CHECKS):
        if os.path.isfile(written):
            shutil.move(written, local_file_path)
            return
        if os.path.isfile(local_file_path):
            return
        time.sleep(_OUTPUT_INTERVAL)


def change_mode(mode: str, file_name: str, recursive: bool = False, path: str = "") -> None:
    """chmod(1) on a file (in the directory ``path``) or, with ``recursive``, on a directory.

    Raises ``FileNotFoundError`` for one that is missing, ``RuntimeError`` where chmod fails.
    """
    directory = os.path.dirname(path) if os.path.isfile(path) else path
    target = os.path.join(directory, file_name)
    if not os.path.lexists(target):
        raise FileNotFoundError(f"there is no {target} to change the mode of")
    argv = ["chmod", *(["-R"] if recursive else []), "--", mode, target]
    output = execute_command(shlex.join(argv))
    if output.returncode != 0:
        raise RuntimeError(f"chmod of {target} failed: {' '.join(output[1])}")
