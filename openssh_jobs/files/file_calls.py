"""The file calls of a connection under their public names."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ..commands import limits
from ..commands.os_errors import error_of
from ..commands.quoting import quote_path, to_bytes
from ..errors import InvalidAnswer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..commands.control_shell import ControlShell
    from ..commands.runner import Commands
    from .remote_files import DirEntry, DiskUsage, Files
    from .stat import FileStat


class FileCalls:
    """Files of one host, as the builtin modules would have them.

    In paths ``~`` and ``$`` are literal, but for a leading ``~/``.  Errors are ``RemoteOSError``
    and the builtin subclass of ``OSError`` for their errno.
    """

    host: str
    _commands: Commands
    _shell: ControlShell

    # What moves files is imported when the first of them is asked for: who only runs commands
    # pays nothing for it.

    @cached_property
    def _files(self) -> Files:
        from .remote_files import Files

        return Files(self._shell, self.host)

    def read_bytes(self, path: str) -> bytes:
        """The contents of a file on the host.

        Raises ``InvalidAnswer`` where more or less comes than the file was long.
        """
        small = self._files.read_small(path)
        return self._read_large(path) if small is None else small

    def _read_large(self, path: str) -> bytes:
        before = self._files.stat(path)
        # What the system makes up as it is read has no size; all else is as long as it says.
        sized = before.is_file() and before.st_size > 0
        most = 2 * before.st_size + limits.ANSWER if sized else limits.LISTING
        plan = self._commands.plan(b"exec cat < " + quote_path(path), prologue="")
        done = self._commands.run_bytes(plan, again=True, most=most)
        if done.returncode != 0:
            raise error_of(done.stderr.decode("utf-8", "replace"), path, host=self.host)
        count = len(done.stdout)
        if sized and count != before.st_size:
            after = self._files.stat(path).st_size
            if not min(before.st_size, after) <= count <= max(before.st_size, after):
                raise InvalidAnswer(
                    f"{path!r} is {after} bytes long, and {count} came",
                    host=self.host,
                    command=plan.what,
                )
        return done.stdout

    def read_text(
        self, path: str, *, encoding: str = "utf-8", errors: str = "surrogateescape"
    ) -> str:
        """The contents of a file on the host, as text."""
        return self.read_bytes(path).decode(encoding, errors)

    def write_bytes(self, path: str, data: bytes) -> int:
        """Write a file on the host, whole or not at all; its mode stays where it existed."""
        from .writing import write_file

        target = to_bytes(self._files.absolute(path))
        write_file(self._commands, self._shell, target, bytes(data), self.host)
        return len(data)

    def write_text(
        self, path: str, text: str, *, encoding: str = "utf-8", errors: str = "surrogateescape"
    ) -> int:
        """Write a text file on the host, whole or not at all."""
        return self.write_bytes(path, text.encode(encoding, errors))

    def stat(self, path: str) -> FileStat:
        """The facts of a file, links followed; ``FileNotFoundError``, ``PermissionError``…"""
        return self._files.stat(path)

    def lstat(self, path: str) -> FileStat:
        """The facts of a file, links not followed."""
        return self._files.stat(path, follow_symlinks=False)

    def exists(self, path: str) -> bool:
        """Whether something is there; false only for ENOENT and ENOTDIR, else it raises."""
        return self._files.test(path, "e")

    def is_file(self, path: str) -> bool:
        """Whether it is a regular file (links followed)."""
        return self._files.test(path, "f")

    def is_dir(self, path: str) -> bool:
        """Whether it is a directory (links followed)."""
        return self._files.test(path, "d")

    def stat_many(self, paths: Sequence[str]) -> list[FileStat | None]:
        """Facts of many files in one round trip; ``None`` for what is not there."""
        return self._files.stat_many(paths)

    def exists_many(self, paths: Sequence[str]) -> list[bool]:
        """``exists`` for many paths in one round trip."""
        return self._files.exists_many(paths)

    def listdir(self, path: str = ".") -> list[str]:
        """The names in a directory."""
        return self._files.listdir(path)

    def scandir(self, path: str = ".") -> list[DirEntry]:
        """The entries of a directory with their facts, in one round trip."""
        return self._files.scandir(path)

    def glob(self, pattern: str) -> list[str]:
        """Paths on the host that match a shell pattern (``* ? [ ]``)."""
        return self._files.glob(pattern)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """Make one directory."""
        self._files.mkdir(path, mode)

    def makedirs(self, path: str, *, exist_ok: bool = False) -> None:
        """Make a directory and those above it."""
        self._files.makedirs(path, exist_ok=exist_ok)

    def remove(self, path: str) -> None:
        """Remove a file or a link."""
        self._files.remove(path)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        self._files.rmdir(path)

    def rmtree(self, path: str) -> None:
        """Remove a directory and all in it; never the root or the home directory."""
        self._files.rmtree(path)

    def rename(self, source: str, target: str) -> None:
        """Rename, over an existing file, as ``os.rename`` on Unix."""
        self._files.replace(source, target)

    def replace(self, source: str, target: str) -> None:
        """Rename, over an existing file."""
        self._files.replace(source, target)

    def chmod(self, path: str, mode: int | str) -> None:
        """Change a mode: an ``int``, or text as chmod(1) takes it."""
        self._files.chmod(path, mode)

    def symlink(self, target: str, path: str) -> None:
        """Make ``path`` a symbolic link to ``target``."""
        self._files.symlink(target, path)

    def readlink(self, path: str) -> str:
        """Where a symbolic link points."""
        return self._files.readlink(path)

    def realpath(self, path: str) -> str:
        """The path without links."""
        return self._files.realpath(path)

    def copy(self, source: str, target: str) -> None:
        """Copy a file on the host."""
        self._files.copy(source, target)

    def disk_usage(self, path: str = ".") -> DiskUsage:
        """Total, used and free bytes where a path lies."""
        return self._files.disk_usage(path)
