"""The calls of ARC's client that concern files."""

from __future__ import annotations

import io
import os
import shlex
from datetime import datetime

from .. import errors, logs
from ..host import Host
from . import exceptions

logger = logs.logger("openssh_jobs.arc")

COMMAND_TIMEOUT = 600.0
"""Seconds that a command on a server may take."""


def lines_of(text: str) -> list[str]:
    """Lines with their newlines, as files have them: a form feed in an output ends none."""
    return io.StringIO(text, newline="\n").readlines()


class ArcFiles:
    """What ``SSHClient`` does with files; it looks after connecting and ARC's exceptions."""

    @property
    def _connection(self) -> Host:
        raise NotImplementedError

    def _send_command_to_server(
        self, command: str | list[str], remote_path: str = ""
    ) -> tuple[list[str], list[str]]:
        raise NotImplementedError

    def upload_file(
        self,
        remote_file_path: str,
        local_file_path: str = "",
        file_string: str | None = None,
    ) -> None:
        """Upload a local file, or a text, under ``remote_file_path``; directories are made.

        Raises ``InputError`` for a missing local file or neither source, ``ServerError`` where
        the file did not arrive (an existing one is then as it was).
        """
        if local_file_path and not os.path.isfile(local_file_path):
            raise exceptions.InputError(
                f"Cannot upload a non-existing file. Check why file in path {local_file_path} is "
                "missing."
            )
        if not local_file_path and file_string is None:
            raise exceptions.InputError(
                "Cannot upload file to server. Either `file_string` or `local_file_path` must be "
                "specified"
            )
        try:
            if file_string is not None and not local_file_path:
                parent = os.path.dirname(remote_file_path)
                if parent:
                    self._connection.makedirs(parent, exist_ok=True)
                self._connection.write_text(remote_file_path, file_string)
            else:
                self._connection.put(local_file_path, remote_file_path)
        except (OSError, errors.TransferError) as error:
            raise exceptions.ServerError(
                f"Could not upload file to {remote_file_path}: {error}"
            ) from error

    def download_file(self, remote_file_path: str, local_file_path: str) -> bool:
        """Download a file; true if it is here now.

        A file that is missing there is no error, as ARC expects.  A local file of that name is
        then an older one: it is renamed to ``NAME.stale``, so that nobody takes it for the result.
        """
        try:
            self._connection.get(remote_file_path, local_file_path)
        except FileNotFoundError as error:
            if os.path.lexists(local_file_path):
                os.replace(local_file_path, f"{local_file_path}.stale")
            logger.warning("Could not download %s: %s", remote_file_path, error)
            return False
        except errors.TransferError as error:
            raise exceptions.ServerError(
                f"Could not download {remote_file_path}: {error}"
            ) from error
        return True

    def read_remote_file(self, remote_file_path: str) -> list[str]:
        """The lines of a remote file, with their newlines."""
        return lines_of(self._connection.read_text(remote_file_path))

    def get_last_modified_time(
        self, remote_file_path_1: str, remote_file_path_2: str | None = None
    ) -> datetime | None:
        """When the first of these files that exists was changed: local time, naive; or ``None``."""
        paths = [path for path in (remote_file_path_1, remote_file_path_2) if path]
        for facts in self._connection.stat_many(paths):
            if facts is not None:
                return datetime.fromtimestamp(facts.st_mtime)
        return None

    def list_dir(self, remote_path: str = "") -> list[str]:
        """The names in a remote directory, sorted."""
        return sorted(self._connection.listdir(remote_path or "."))

    def change_mode(
        self, mode: str, file_name: str, recursive: bool = False, remote_path: str = ""
    ) -> None:
        """chmod(1) on a file or, with ``recursive``, on a directory and all in it."""
        target = os.path.join(remote_path, file_name) if remote_path else file_name
        self._connection.chmod(target, mode)
        if recursive:
            word = shlex.quote(target if target.startswith("/") else f"./{target}")
            done = self._connection.run(
                f"chmod -R -- {shlex.quote(str(mode))} {word}", timeout=COMMAND_TIMEOUT
            )
            if done.returncode != 0:
                raise exceptions.ServerError(
                    f"Could not change the mode of {target}: {done.stderr.strip()}"
                )

    def remove_remote_files(self, remote_path: str) -> None:
        """Remove a job's directory on the server with all that is in it, if it exists.

        Raises ``ServerError`` where something is left, and for the root, the home directory and
        what holds it, which are never removed; ``InputError`` for no path at all.
        """
        if not remote_path:
            raise exceptions.InputError("There is no remote directory to remove: the path is empty")
        try:
            self._connection.rmtree(remote_path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise exceptions.ServerError(
                f"Cannot remove dir for the given path ({remote_path}): {error}"
            ) from error

    def delete_remote_check_files(self, remote_path: str) -> None:
        """Delete the ``*.chk`` files below a remote directory, which need not exist.

        One command, through ``_send_command_to_server``, with the path in it twice, each time as
        one word of the shell.  What could not be deleted is logged.
        """
        if not remote_path:
            return
        # find(1) takes words that begin like these for its own.
        odd = remote_path[0] in "-!(),"
        word = shlex.quote(f"./{remote_path}" if odd else remote_path)
        _, stderr = self._send_command_to_server(
            f"if [ -d {word} ]; then find {word} -type f -name '*.chk' -exec rm -f -- {{}} + ; fi"
        )
        if stderr:
            logger.warning("not all check files below %s were deleted: %s", remote_path,
                           "".join(stderr).strip())  # fmt: skip
