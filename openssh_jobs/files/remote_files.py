"""``RemoteFiles``: the file methods of a connection, each a short script on the host.

To add a file method, add a method here that runs one command or a function of ``remote_files.sh``
with one of the methods of ``PathShell``.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ..commands import limits
from ..commands.os_errors import error_of
from ..commands.quoting import join, quote, quote_glob, quote_path, to_bytes, to_text
from ..errors import InvalidAnswer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..commands.control_shell import ControlShell
    from ..commands.runner import Commands
    from .path_shell import PathShell
    from .stat import DirEntry, DiskUsage, FileStat

SMALL_FILE = 64 * 1024
"""Maximum size in bytes of a file that is read by the held shell."""
_MODE_TEXT = r"(?:[0-7]{1,4}|[ugoa]*[-+=][rwxXst]*(?:,[ugoa]*[-+=][rwxXst]*)*)\Z"


class RemoteFiles:
    """Files of one host, with the names and the errors of ``os``, ``pathlib`` and ``shutil``.

    In paths ``~`` and ``$`` are literal, except for a leading ``~/``.  Errors are ``RemoteOSError``
    and the builtin subclass of ``OSError`` for their errno.
    """

    host: str
    _commands: Commands
    _shell: ControlShell

    # Modules that only file methods need are imported at the first call, which keeps the import
    # fast for programs that only run commands.

    @cached_property
    def _files(self) -> PathShell:
        from .path_shell import PathShell

        return PathShell(self._shell, self.host)

    # ------------------------------------------------------------------ contents

    def read_bytes(self, path: str) -> bytes:
        """Return the contents of a file.

        Raises ``InvalidAnswer`` if more or fewer bytes arrive than the file has.
        """
        small = self._read_small(path)
        return self._read_large(path) if small is None else small

    def _read_small(self, path: str) -> bytes | None:
        """The bytes of a file of at most ``SMALL_FILE``; ``None`` for a larger one."""
        script = self._files.script(
            "oj_read", path, words=(SMALL_FILE + 1, *self._files.size_arguments)
        )
        for last in (False, True):
            size, newline, data = self._files.ask(script, path).stdout.partition(b"\n")
            if not newline or not size.isdigit() or len(size) >= limits.DIGITS:
                raise self._files.invalid("read", path, size)
            if len(data) > SMALL_FILE:
                return None
            # More bytes: the file grew meanwhile, or is generated on read (/proc).  Fewer bytes: it
            # shrank meanwhile and is read again.
            if len(data) >= int(size):
                return data
            if last:
                raise self._files.invalid("read", path, b"%d bytes of %b" % (len(data), size))
        raise AssertionError("not reached")

    def _read_large(self, path: str) -> bytes:
        before = self._files.stat(path)
        # Only files that are generated on read (/proc) have the size 0 and content.
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
                    f"{path!r} is {after} bytes long, and {count} arrived",
                    host=self.host,
                    command=plan.what,
                )
        return done.stdout

    def read_text(
        self, path: str, *, encoding: str = "utf-8", errors: str = "surrogateescape"
    ) -> str:
        """Return the contents of a file as text."""
        return self.read_bytes(path).decode(encoding, errors)

    def write_bytes(self, path: str, data: bytes) -> int:
        """Write a file atomically and return the count of bytes.

        An existing file is replaced and keeps its mode.
        """
        from .writing import write_file

        target = to_bytes(self._files.absolute(path))
        write_file(self._commands, self._shell, target, bytes(data), self.host)
        return len(data)

    def write_text(
        self, path: str, text: str, *, encoding: str = "utf-8", errors: str = "surrogateescape"
    ) -> int:
        """Write text as ``write_bytes`` does, and return the count of bytes."""
        return self.write_bytes(path, text.encode(encoding, errors))

    # ------------------------------------------------------------------ facts

    def stat(self, path: str) -> FileStat:
        """Return the facts of a file, links followed."""
        return self._files.stat(path)

    def lstat(self, path: str) -> FileStat:
        """Return the facts of a file, links not followed."""
        return self._files.stat(path, follow_symlinks=False)

    def stat_many(self, paths: Sequence[str]) -> list[FileStat | None]:
        """Return the facts of many files in one round trip; ``None`` for what does not exist."""
        return self._files.stat_many(paths)

    def exists(self, path: str) -> bool:
        """Whether the path exists, links followed; false only for ENOENT and ENOTDIR."""
        return self._test(path, b"e")

    def exists_many(self, paths: Sequence[str]) -> list[bool]:
        """``exists`` for many paths in one round trip."""
        return [facts is not None for facts in self._files.stat_many(paths)]

    def is_file(self, path: str) -> bool:
        """Whether it is a regular file, links followed; false only for ENOENT and ENOTDIR."""
        return self._test(path, b"f")

    def is_dir(self, path: str) -> bool:
        """Whether it is a directory, links followed; false only for ENOENT and ENOTDIR."""
        return self._test(path, b"d")

    def _test(self, path: str, flag: bytes) -> bool:
        """``[ -FLAG path ]``; false if the path does not exist or is of another kind."""
        where, size = quote_path(path), join(self._files.size_arguments)
        script = b"if [ -%b %b ]; then echo yes; else stat -L %b -- %b; fi"
        script %= flag, where, size, where
        answer = self._files.ask_if_there(script, path)
        if answer == b"yes\n":
            return True
        # A size proves that the path exists and is of another kind.
        if answer is not None and not answer.strip().isdigit():
            raise self._files.invalid(f"[ -{flag.decode()} ]", path, answer)
        return False

    def disk_usage(self, path: str = ".") -> DiskUsage:
        """Return the total, used and free bytes of the file system that holds a path."""
        from .stat import DiskUsage

        where = quote_path(path)
        # BusyBox's df prints "can't find mount point" for every error; ls prints the reason.
        answer = self._files.ask(b"ls -d %b >/dev/null && df -Pk -- %b" % (where, where), path)
        words = b" ".join(answer.stdout.split(b"\n")[1:2]).split()
        numbers = [int(word) for word in words if word.isdigit() and len(word) < limits.DIGITS]
        if len(numbers) < 3:
            raise self._files.invalid("disk_usage", path, answer.stdout)
        total, used, free = numbers[:3]
        return DiskUsage(total * 1024, used * 1024, free * 1024)

    # ------------------------------------------------------------------ directories

    def listdir(self, path: str = ".") -> list[str]:
        """Return the names in a directory, in no particular order."""
        script = b"find " + quote_path(path) + b"/. -mindepth 1 -maxdepth 1 -print0"
        return self._entry_names(self._files.records("listdir", path, script))

    def _entry_names(self, paths: Sequence[bytes]) -> list[str]:
        """The last parts of the paths that ``find`` printed for the entries of a directory."""
        from .host_names import HostNames

        names = HostNames(self.host, "the directory")
        return [to_text(names.entry(path.rpartition(b"/")[2])) for path in paths]

    def scandir(self, path: str = ".") -> list[DirEntry]:
        """Return the entries of a directory with their facts, in one round trip."""
        from . import stat

        parse = stat.parse_stat
        if self._files.features.find_printf:
            parse = stat.parse_find
            script = b"find %b/. -mindepth 1 -maxdepth 1 -printf '%%f\\0%b\\0'"
            script %= quote_path(path), stat.FIND_FORMAT
        else:
            script = self._files.script("oj_scandir", path, words=self._files.stat_arguments)
        fields = self._files.records("scandir", path, script)
        if len(fields) % 2:
            raise self._files.invalid("scandir", path, fields[-1])
        names = self._entry_names(fields[::2])
        base = path.rstrip("/")
        return [
            stat.DirEntry(name, f"{base}/{name}", self._files.facts("scandir", path, facts, parse))
            for name, facts in zip(names, fields[1::2], strict=True)
            if facts  # else it was removed between the listing and stat
        ]

    def glob(self, pattern: str) -> list[str]:
        """Return the paths that match a shell pattern (``* ? [ ]``), sorted by the host."""
        from ..commands.scripts import Shell
        from . import host_names

        script = self._files.script("oj_glob", words=[Shell(quote_glob(pattern))])
        paths = self._files.records("glob", pattern, script)
        wanted = to_bytes(pattern)
        if wanted.startswith(b"~/"):
            wanted = to_bytes(self._files.features.home) + b"/" + wanted[2:].lstrip(b"/")
        elif not wanted.startswith(b"/"):
            paths = [path.removeprefix(b"./") for path in paths]
        return [to_text(path) for path in host_names.matching(paths, wanted, host=self.host)]

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """Make one directory; ``FileExistsError`` if the path exists."""
        option = b"" if mode == 0o777 else b"-m %o " % mode
        self._files.do("mkdir", b"mkdir " + option + b"-- " + quote_path(path), path)

    def makedirs(self, path: str, *, exist_ok: bool = False) -> None:
        """Make a directory and its missing parents."""
        script = self._files.script("oj_makedirs", path)
        if exist_ok:
            script = b"mkdir -p -- " + quote_path(path)
        self._files.do("makedirs", script, path, again=exist_ok)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory; the root and the home directory are refused."""
        self._files.refuse_precious(path, "removing")
        self._files.do("rmdir", b"rmdir -- " + quote_path(path), path)

    def rmtree(self, path: str) -> None:
        """Remove a directory and its contents; ``NotADirectoryError`` for a link to one.

        The root, the home directory and its parents are refused (``PermissionError``).
        """
        self._files.refuse_precious(path, "removing")
        self._files.do("rmtree", self._files.script("oj_rmtree", path), path)

    # ------------------------------------------------------------------ names

    def remove(self, path: str) -> None:
        """Remove a file or a link; ``IsADirectoryError`` for a directory."""
        self._files.refuse_precious(path, "removing")
        self._files.do("remove", self._files.script("oj_remove", path), path)

    def rename(self, source: str, target: str) -> None:
        """Rename, over an existing file, as ``os.rename`` on Unix."""
        self.replace(source, target)

    def replace(self, source: str, target: str) -> None:
        """Rename, replacing an existing file; a directory is never moved into another one."""
        self._files.refuse_precious(source, "moving")
        self._files.refuse_precious(target, "replacing")
        script = self._files.script("oj_replace", source, target)
        self._files.do_two("rename", script, source, target)

    def copy(self, source: str, target: str) -> None:
        """Copy a file on the host with its mode; the target is replaced atomically."""
        from .writing import part_name

        self._files.refuse_precious(target, "replacing")
        script = self._files.script("oj_copy", source, target, words=[part_name()])
        self._files.do_two("copy", script, source, target)

    def symlink(self, target: str, path: str) -> None:
        """Make ``path`` a symbolic link to ``target``, which is taken literally."""
        script = self._files.script("oj_symlink", path, words=[target])
        self._files.do("symlink", script, path)

    def readlink(self, path: str) -> str:
        """Return where a symbolic link points."""
        return self._files.line("readlink", path, self._files.script("oj_readlink", path))

    def realpath(self, path: str) -> str:
        """Return the path with all links resolved; all but its last part must exist."""
        from . import host_names

        script = self._files.script("oj_realpath", path)
        found = to_bytes(self._files.line("realpath", path, script))
        return to_text(host_names.absolute(found, host=self.host, call="realpath"))

    # ------------------------------------------------------------------ modes

    def chmod(self, path: str, mode: int | str) -> None:
        """Change a mode: an ``int``, octal text or symbolic text such as ``u+x,go-w``."""
        import re
        import stat

        text = mode
        if isinstance(mode, int) and 0 <= mode <= 0o177777:
            # The file type bits of st_mode are ignored, as by os.chmod.  GNU chmod clears set-id
            # bits of a directory only if the number has five digits.
            text = f"{stat.S_IMODE(mode):05o}"
        elif isinstance(mode, int) or not re.match(_MODE_TEXT, mode):
            raise ValueError(f"{mode!r} is not a file mode")
        # "--" keeps a mode such as -w from being an option; the path never begins with a dash.
        script = b"chmod -- " + quote(str(text)) + b" " + quote_path(path)
        self._files.do("chmod", script, path, again=True)
