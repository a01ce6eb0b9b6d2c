"""``JobFiles``: what a job of this package has on the host, by one shell function per method.

A submission has a private directory of its own, ``DIRECTORY/.openssh_jobs/TOKEN/``, or
``~/.openssh_jobs/TOKEN/`` where others could replace that (``files/private_directory.py``).
Directories are absolute paths.  A method is one round trip.
"""

from __future__ import annotations

import errno
import logging
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..commands.os_errors import error_of, refused
from ..commands.quoting import OWN_SHELL, to_text
from ..commands.scripts import Value, call, functions, path
from ..errors import InputError, SchedulerError, SubmitUnknown
from ..files import private_directory
from ..files.private_directory import MADE
from ..schedulers.launcher.exit_record import records_script

if TYPE_CHECKING:
    from ..host import Host

log = logging.getLogger("openssh_jobs.cluster.job_files")

WRITE_TIMEOUT = 120.0
"""Seconds that writing a private file may take."""
_SCRIPTS = "cluster/job_files"
_NO_FILE = 21  # the status of oj_print_from for a device, a pipe or a directory


class PrivateDirectory(NamedTuple):
    """A new private directory; ``made``: the job's directory was made for it, too."""

    path: str
    made: bool


class UsedToken(NamedTuple):
    """A token in the host's record: its job, which is over, and the digest of its submission."""

    job_id: str
    digest: str
    state: str
    exit_code: int | None

    @classmethod
    def of(cls, line: str) -> UsedToken | None:
        """What a line of the record says; ``None`` for one that is not whole."""
        words = line.split()
        if len(words) != 7:
            return None
        _, job_id, digest, _, state, code, _ = words
        return cls(job_id, digest, state, int(code) if re.fullmatch("[0-9]{1,9}", code) else None)


class TokenUsed(Exception):
    """The job of a token is over, as the host's record of tokens says."""

    def __init__(self, used: UsedToken) -> None:
        super().__init__(used)
        self.used = used


class NotRegular(Exception):
    """The output goes to what is no regular file; ``path`` is its name."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def made_mark(call_id: str) -> str:
    """The name of the file that says which call of ``submit`` has made a job's directory."""
    return f"./{MADE}{call_id}"


def private_script(function: str, *arguments: Value) -> bytes:
    """A call of a function of ``job_files.sh`` that goes into private directories."""
    return private_directory.functions().encode() + call(_SCRIPTS, function, *arguments) + b"\n"


def remove_private_script(directory: str, token: str, call_id: str = "") -> bytes:
    """Shell text that removes a private directory; ``call_id``: only if this call has made it."""
    return private_script("oj_remove_private", directory, token, call_id)


def remove_made_script(directory: str, call_id: str) -> bytes:
    """Shell text that removes a job's directory that this call has made."""
    return private_script("oj_remove_made", directory, made_mark(call_id))


class JobFiles:
    """The files of jobs on one host.  ``host``: its name in errors and in the journal."""

    def __init__(self, connection: Host, host: str) -> None:
        self._connection = connection
        self._host = host

    def create(
        self, directory: str, token: str, call_id: str, script: str | None, name: str
    ) -> PrivateDirectory:
        """Make a submission's private directory, and the job's directory if there is none.

        ``script``: a script of the host that is copied there as ``name``.

        Raises ``OSError``, ``PermissionError`` where no place is private, ``InputError`` for an
        empty script, ``SubmitUnknown`` where this token has a private directory already,
        ``TokenUsed`` where its job is over and its files are gone.
        """
        lines = functions("cluster/tokens", "oj_token_line")
        lines += private_script("oj_create", directory, token, call_id, made_mark(call_id))
        if script is not None:
            lines += call(_SCRIPTS, "oj_copy_script", path(script), path(name))
        answer = self._connection.internal.call(lines)
        if answer.status == 4:
            raise InputError(f"the script {script} is empty", host=self._host)
        fields = [to_text(field) for field in answer.stdout.split(b"\0")]
        made, place, reason, why, _ = (*fields, *[""] * 5)[:5]
        used = UsedToken.of(made) if answer.status == 7 else None
        if used is not None:
            raise TokenUsed(used)
        if answer.status == 5:
            error = refused(errno.EPERM, directory, host=self._host, detail=f"{reason}; {why}")
            error.advice = "Take the permissions of your home directory from others (chmod go-w ~)."
            raise error
        if answer.status == 6:
            raise SubmitUnknown(
                f"the host has the files of an earlier submission with this token ({place})",
                token=token,
                kind="no_job_id",
                host=self._host,
                advice=f"Look for a job whose script lies there, and remove {place} or take "
                "another token.",
            )
        if answer.status != 0:
            failed = script if answer.status == 3 and script is not None else directory
            raise error_of(to_text(answer.stderr), failed, host=self._host)
        if reason:
            log.warning(
                "%s: the job's private files lie in %s, because %s", self._host, place, reason
            )
        return PrivateDirectory(place, made == "made")

    def used_token(self, token: str) -> UsedToken | None:
        """What the host's record of tokens says about one whose job is over and files are gone."""
        script = private_directory.functions().encode()
        script += call("cluster/tokens", "oj_token_line", token)
        answer = self._connection.internal.call(script, again=True)
        return UsedToken.of(to_text(answer.stdout)) if answer.status == 0 else None

    def write_private(self, file: str, data: bytes) -> None:
        """Write a new file that only its owner can read; the data travels on stdin."""
        script = OWN_SHELL + call(_SCRIPTS, "oj_write", path(file))
        done = self._connection.run(script, input=data, text=False, timeout=WRITE_TIMEOUT)
        if done.returncode != 0:
            raise error_of(to_text(done.stderr), file, host=self._host)

    def forget_environment(self, file: str) -> None:
        """Remove a file with the variables of ``env=``."""
        script = call(_SCRIPTS, "oj_forget_environment", path(file))
        self._connection.internal.call(script, again=True)

    def wrap(self, script: str, body: str, written: Mapping[str, bytes]) -> None:
        """Move ``script`` to ``body``, in a new directory, and write new files, path by path."""
        pairs: list[Value] = []
        for file, data in written.items():
            pairs += [path(file), data]
        moved = (path(posixpath.dirname(body)), path(script), path(body))
        answer = self._connection.internal.call(call(_SCRIPTS, "oj_wrap", *moved, *pairs))
        if answer.status != 0:
            raise error_of(to_text(answer.stderr), body, host=self._host)

    def read_private(self, directory: str, token: str, name: str) -> str:
        """The begin of a file in a submission's private directory; empty where there is none."""
        script = private_script("oj_print", directory, token, name)
        answer = self._connection.internal.call(script, again=True)
        if answer.stderr:
            log.warning("%s: %s was not read: %s", self._host, token, to_text(answer.stderr))
        return to_text(answer.stdout)

    def read_exit_records(self, places: Mapping[str, tuple[str, str]]) -> str:
        """What launchers wrote, by a mark of letters and digits; a place is (directory, token)."""
        script = records_script(places).encode("utf-8", "surrogateescape")
        return to_text(self._connection.internal.call(script, again=True).stdout)

    def read_from(
        self, file: str, offset: int, most: int, names: Sequence[str] = ()
    ) -> tuple[int, bytes]:
        """The size of a file, and its bytes from an offset on, ``most`` at most.

        ``names``: where ``file`` is a directory, the first of these in it that is a file.
        Raises ``OSError``, ``NotRegular``.
        """
        script = call(_SCRIPTS, "oj_print_from", path(file), offset + 1, most, *names)
        answer = self._connection.internal.call(script, again=True)
        found = file
        if answer.stdout and answer.status:
            found = to_text(answer.stdout).removeprefix("./")  # what path() put there
        if answer.status == _NO_FILE:
            raise NotRegular(found)
        if answer.status != 0:
            raise error_of(to_text(answer.stderr), found, host=self._host)
        size, _, data = answer.stdout.partition(b"\n")
        if not size.strip().isdigit():
            raise SchedulerError(
                f"no answer on the size of {file}", kind="transport", host=self._host
            )
        return int(size), data

    def remove(self, directory: str, token: str) -> None:
        """Remove a submission's private directory; what carries no mark of ours stays, logged."""
        script = remove_private_script(directory, token)
        answer = self._connection.internal.call(script, again=True)
        if answer.status != 0:
            why = " ".join(to_text(answer.stderr).split())
            log.warning("%s: the files of %s were not removed: %s", self._host, token, why)

    def undo(self, directory: str, token: str, call_id: str) -> bool:
        """Remove what a call of ``submit`` has made; false where some of it stays, logged.

        Another run's directory of the same name carries no mark of this call.
        """
        script = private_script("oj_undo", directory, token, call_id, made_mark(call_id))
        answer = self._connection.internal.call(script, again=True)
        if answer.status != 0:
            why = " ".join(to_text(answer.stderr).split())
            log.warning("%s: %s is left as it is: %s", self._host, directory, why)
        return answer.status == 0
