"""``put`` and ``get``: determine source and target, and whether it is a file or a tree."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import TYPE_CHECKING

from ..commands.os_errors import refused
from ..commands.quoting import to_bytes
from ..errors import TransferError
from ..files import host_names
from .lanes import Lanes
from .options import METHODS, Options, TransferResult
from .single_file import FileMoves
from .tree import TreeMoves

if TYPE_CHECKING:
    from ..commands.control_shell import ControlShell
    from ..commands.runner import Commands
    from ..files.path_shell import PathShell
    from .sftp import Sftp

__all__ = ["METHODS", "Options", "Transfer", "TransferResult"]


class Transfer:
    """Moves files and trees between this machine and one host.

    A target is whole or absent: a file or tree is written under another name in the directory of
    the target and renamed when it is complete.
    """

    def __init__(
        self, commands: Commands, shell: ControlShell, sftp: Sftp, files: PathShell, host: str
    ) -> None:
        self._files = files
        self._host = host
        lanes = Lanes(commands, shell, sftp, files, host)
        self.single_files = FileMoves(lanes)
        self.trees = TreeMoves(lanes)

    def put(self, local: str | os.PathLike[str], remote: str, options: Options) -> TransferResult:
        """Copy a local file or directory to the host."""
        began = time.monotonic()
        source = os.fsencode(os.fspath(local))
        if not source:
            raise FileNotFoundError(errno.ENOENT, "an empty path names no file", "")
        source = source.rstrip(b"/") or b"/"
        facts = os.stat(source)
        target = self._target(remote, os.path.basename(os.path.abspath(source)))
        if stat.S_ISDIR(facts.st_mode):
            return self.trees.put(source, target, options, began)
        if not stat.S_ISREG(facts.st_mode):
            raise TransferError(f"{os.fsdecode(source)!r} is neither a file nor a directory")
        return self.single_files.put(source, target, facts, options, began)

    def _target(self, remote: str, name: bytes) -> bytes:
        """The remote target: the path itself, or ``name`` below it where it ends in a slash."""
        target = to_bytes(self._files.absolute(remote))
        if target.endswith(b"/"):
            target = target.rstrip(b"/") + b"/" + name
        if not target.strip(b"/"):
            raise refused(errno.EPERM, remote, host=self._host, detail="replacing / is refused")
        return target

    def get(self, remote: str, local: str | os.PathLike[str], options: Options) -> TransferResult:
        """Copy a file or directory of the host to this machine."""
        began = time.monotonic()
        source = to_bytes(self._files.absolute(remote)).rstrip(b"/") or b"/"
        target = os.fsencode(local)
        if not target:
            raise FileNotFoundError(errno.ENOENT, "an empty path names no file", "")
        if target.endswith(b"/"):
            target = os.path.join(target, host_names.last_part(source, host=self._host))
        if (facts := self._files.stat(source)).is_dir():
            return self.trees.get(source, target, facts.st_mode, options, began)
        if not facts.is_file():
            raise TransferError(
                f"{remote!r} is neither a file nor a directory", host=self._host, sent="yes"
            )
        return self.single_files.get(source, target, facts, options, began)
