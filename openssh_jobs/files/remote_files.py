"""The short file calls: each is one round trip over the control shell, exact in its errors."""

from __future__ import annotations

import errno
import re
import stat as stat_bits
from typing import TYPE_CHECKING, NamedTuple

from ..commands import host_tools as found
from ..commands import limits
from ..commands.os_errors import error_of, refused
from ..commands.quoting import RENAME, quote, quote_glob, quote_path, to_bytes, to_text, visible
from ..errors import InvalidAnswer, remote_oserror
from .stat import FileStat, parse_stat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..commands.control_shell import Answer, ControlShell
    from ..errors import RemoteOSError

SMALL_FILE = 64 * 1024
_NO_SUCH_COMMAND = 127
# Behind a script: that it was done is said, and not taken from an answer that is empty.
_SAY_DONE = b"\ns=$?; [ $s = 0 ] && echo done; exit $s"
_DONE = b"done\n"
# Behind a listing: it is complete, also where there is nothing.
_SAY_END = b" && printf '\\0'"
_MODE_TEXT = re.compile(r"(?:[0-7]{1,4}|[ugoa]*[-+=][rwxXst]*(?:,[ugoa]*[-+=][rwxXst]*)*)\Z")


class DirEntry(NamedTuple):
    """One entry of ``scandir``: its name, its path, and its own facts (links not followed)."""

    name: str
    path: str
    stat: FileStat


class DiskUsage(NamedTuple):
    """Bytes of a file system, as ``shutil.disk_usage``."""

    total: int
    used: int
    free: int


class Files:
    """File calls on one host.

    In paths ``~`` and ``$`` are literal, but for a leading ``~/``.  Errors are the ``OSError``
    subclasses of their errno.
    """

    def __init__(self, shell: ControlShell, host: str) -> None:
        self._shell = shell
        self._host = host
        self._features: found.Features | None = None

    @property
    def features(self) -> found.Features:
        """What the host's userland can do; asked once."""
        if self._features is None:
            answer = self._shell.call(found.PROBE, again=True)
            try:
                self._features = found.parse(answer.stdout)
            except ValueError as error:
                raise InvalidAnswer(
                    f"{error}; it said: {visible(answer.stderr) or 'nothing'}",
                    host=self._host,
                    command="features",
                ) from error
        return self._features

    # ------------------------------------------------------------------ helpers

    def _ask(
        self, script: bytes, path: str | bytes, *, again: bool = True, most: int = limits.ANSWER
    ) -> Answer:
        """Run a script about a path; anything but status 0 is the error of that path."""
        answer = self._shell.call(script, again=again, most=most)
        if answer.status != 0:
            raise self._failed(answer.status, to_text(answer.stderr), path)
        return answer

    def _failed(self, status: int, said: str, path: str | bytes) -> RemoteOSError:
        if status == _NO_SUCH_COMMAND:
            # "not found" is not about the path.
            detail = f"a command is missing there: {visible(said)}"
            return remote_oserror(errno.EIO, path, host=self._host, detail=detail)
        return error_of(said, path, host=self._host)

    def _invalid(self, call: str, path: str | bytes, answer: bytes) -> InvalidAnswer:
        """The error for an answer that is none: never taken for a success, nor for an absence."""
        said = visible(answer) or "nothing"
        return InvalidAnswer(
            f"{call} of {visible(to_bytes(path))!r}: the host's answer makes no sense: {said}",
            host=self._host,
            command=call,
        )

    def _facts(self, call: str, path: str | bytes, line: bytes) -> FileStat:
        try:
            return parse_stat(to_text(line))
        except ValueError:
            raise self._invalid(call, path, line) from None

    def _list(self, call: str, path: str | bytes, script: bytes) -> list[bytes]:
        """What a script prints, each ended by NUL, and one more NUL at the end."""
        answer = self._ask(script + _SAY_END, path, most=limits.LISTING).stdout
        if not answer.endswith(b"\0") or (len(answer) > 1 and answer[-2:] != b"\0\0"):
            raise self._invalid(call, path, answer[-limits.SAID :])
        return answer.split(b"\0")[:-2]

    def _done(self, call: str, script: bytes, path: str | bytes, *, again: bool = False) -> None:
        """Do something about a path."""
        self.check_done(call, path, self._ask(script + _SAY_DONE, path, again=again))

    def check_done(self, call: str, path: str | bytes, answer: Answer) -> None:
        """Raise ``InvalidAnswer`` unless a script that ends in ``echo done`` came to its end."""
        if not answer.stdout.endswith(_DONE):
            raise self._invalid(call, path, answer.stdout)

    def _stat_command(self, follow: bool) -> bytes:
        start = b"stat -L " if follow else b"stat "
        return start + found.STAT_ARGUMENTS[self.features.stat] + b" -- "

    def absolute(self, path: str | bytes) -> str:
        """A remote path as the host's tools will see it, links left alone; no round trip."""
        quote_path(path)  # the checks
        text = path if isinstance(path, str) else to_text(path)
        if text == "~":
            return self.features.home
        if text.startswith("~/"):
            return self.features.home.rstrip("/") + "/" + text[2:].lstrip("/")
        if text.startswith("/"):
            return text
        return self.features.cwd.rstrip("/") + "/" + text

    def _refuse_precious(self, path: str | bytes, what: str) -> None:
        """The empty path, the root and the home directory are nobody's to remove or move."""
        if not to_bytes(path).strip():
            raise refused(errno.EINVAL, path, host=self._host, detail="an empty path")
        parts = [part for part in self.absolute(path).split("/") if part not in ("", ".")]
        # A new shell starts at home: its directory is the home with all links followed.
        homes = [
            [part for part in home.split("/") if part]
            for home in (self.features.home, self.features.cwd)
        ]
        if ".." in parts or any(parts == home[: len(parts)] for home in homes):
            raise refused(
                errno.EPERM,
                path,
                host=self._host,
                detail=f"{what} the root, the home directory or what holds it is refused",
            )

    # ------------------------------------------------------------------ asking

    def stat(self, path: str | bytes, *, follow_symlinks: bool = True) -> FileStat:
        """The facts of a file, of a link's target where it is one."""
        script = self._stat_command(follow_symlinks) + quote_path(path)
        return self._facts("stat", path, self._ask(script, path).stdout)

    def stat_many(
        self, paths: Sequence[str | bytes], *, follow_symlinks: bool = True
    ) -> list[FileStat | None]:
        """Facts of many files in one round trip; ``None`` for what is not there.

        Any other error (no permission, a dead mount) raises, because it says nothing.
        """
        if not paths:
            return []
        words = b" ".join(quote_path(path) for path in paths)
        script = (
            b'for p in %b; do if e=$(%b"$p" 2>&1); then printf \'0 %%s\\0\' "$e"; '
            b"else printf '%%s %%s\\0' $? \"$e\"; fi; done"
            % (words, self._stat_command(follow_symlinks))
        )
        records = self._list("stat", paths[0], script)
        if len(records) != len(paths):
            raise self._invalid("stat", paths[0], b"%d of %d answers" % (len(records), len(paths)))
        return [self._one_of_many(*pair) for pair in zip(paths, records, strict=True)]

    def _one_of_many(self, path: str | bytes, record: bytes) -> FileStat | None:
        status, _, rest = record.partition(b" ")
        if status == b"0":
            return self._facts("stat", path, rest)
        text = to_text(rest)
        if not status.isdigit() or len(status) > 3:
            raise self._invalid("stat", path, record)
        error = self._failed(int(status), text, path)
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise error

    def exists_many(self, paths: Sequence[str | bytes]) -> list[bool]:
        """As ``exists`` for many paths in one round trip."""
        return [one is not None for one in self.stat_many(paths)]

    def test(self, path: str | bytes, flag: str) -> bool:
        """``[ -FLAG path ]``; false only where nothing is there or it is something else."""
        where = quote_path(path)
        script = b"if [ -%b %b ]; then echo yes; else stat -L %b; fi" % (
            flag.encode(),
            where,
            _SIZE[self.features.stat] + b" " + where,
        )
        answer = self._shell.call(script, again=True)
        if answer.status == 0:
            if answer.stdout == b"yes\n":
                return True
            # It is something else: its size was told.
            if not answer.stdout.strip().isdigit():
                raise self._invalid(f"[ -{flag} ]", path, answer.stdout)
            return False
        error = self._failed(answer.status, to_text(answer.stderr), path)
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise error

    def listdir(self, path: str | bytes = ".") -> list[str]:
        """The names in a directory, in no order."""
        script = b"find " + quote_path(path) + b"/. -mindepth 1 -maxdepth 1 -print0"
        return self._names(self._list("listdir", path, script))

    def _names(self, paths: Sequence[bytes]) -> list[str]:
        """The last parts of what ``find`` printed: one entry each, none twice."""
        from .host_names import HostNames

        names = HostNames(self._host, "the directory")
        return [to_text(names.entry(path.rpartition(b"/")[2])) for path in paths]

    def scandir(self, path: str | bytes = ".") -> list[DirEntry]:
        """The entries of a directory with their facts, in one round trip."""
        where = quote_path(path)
        if self.features.find_printf:
            script = (
                b"find %b/. -mindepth 1 -maxdepth 1 "
                b"-printf '%%f\\0%%y %%m %%s %%U %%G %%n %%i %%D %%A@ %%T@ %%C@\\0'" % where
            )
        else:
            script = (
                b"find %b/. -mindepth 1 -maxdepth 1 -exec /bin/sh -c "
                b'\'for p; do printf "%%s\\0%%s\\0" "$p" "$(%b"$p")"; done\' sh {} +'
                % (where, self._stat_command(False).replace(b"'", b"'\\''"))
            )
        fields = self._list("scandir", path, script)
        if len(fields) % 2:
            raise self._invalid("scandir", path, fields[-1])
        names = self._names(fields[::2])
        base = to_text(to_bytes(path)).rstrip("/")
        return [
            DirEntry(name, f"{base}/{name}", self._entry_stat(path, facts))
            for name, facts in zip(names, fields[1::2], strict=True)
            if facts  # else gone between the listing and the look
        ]

    def _entry_stat(self, path: str | bytes, facts: bytes) -> FileStat:
        if self.features.find_printf:
            kind, mode, rest = (*facts.split(b" ", 2), b"", b"")[:3]
            if not re.match(rb"[0-7]{1,7}\Z", mode):
                raise self._invalid("scandir", path, facts)
            bits = _KIND_BITS.get(to_text(kind), 0) | int(mode, 8)
            facts = b"%x %b" % (bits, rest)
        return self._facts("scandir", path, facts)

    def glob(self, pattern: str) -> list[str]:
        """Paths that match a shell pattern (``* ? [ ]``), sorted by the host; none is no error."""
        script = (
            b'for p in %b; do if [ -e "$p" ] || [ -L "$p" ]; then printf \'%%s\\0\' "$p"; fi; '
            b"done" % quote_glob(pattern)
        )
        paths = self._list("glob", pattern, script)
        asked = to_bytes(pattern)
        if asked.startswith(b"~/"):
            asked = to_bytes(self.features.home) + b"/" + asked[2:].lstrip(b"/")
        elif not asked.startswith(b"/"):
            paths = [path.removeprefix(b"./") for path in paths]
        from . import host_names

        return [to_text(path) for path in host_names.matching(paths, asked, host=self._host)]

    def readlink(self, path: str | bytes) -> str:
        """Where a symbolic link points."""
        where = quote_path(path)
        script = (
            b"if [ -L %b ]; then readlink -- %b; elif [ -e %b ]; then "
            b"echo 'Invalid argument' >&2; exit 1; else echo 'No such file or directory' >&2; "
            b"exit 1; fi" % (where, where, where)
        )
        return self._line("readlink", path, script)

    def _line(self, call: str, path: str | bytes, script: bytes) -> str:
        """One path that a program prints; it may hold newlines, and is never empty."""
        answer = self._ask(script, path).stdout
        if len(answer) < 2 or not answer.endswith(b"\n") or b"\0" in answer:
            raise self._invalid(call, path, answer)
        return to_text(answer[:-1])

    def realpath(self, path: str | bytes) -> str:
        """The path without links; all but the last part must exist."""
        where = quote_path(path)
        script = (
            # No "--": BusyBox takes it for a name, and the path never begins with a dash.
            b"if command -v realpath >/dev/null; then realpath %b; else readlink -f -- %b; fi"
            % (where, where)
        )
        from . import host_names

        found = to_bytes(self._line("realpath", path, script))
        return to_text(host_names.absolute(found, host=self._host, call="realpath"))

    def disk_usage(self, path: str | bytes = ".") -> DiskUsage:
        """Total, used and free bytes of the file system that holds a path (``df -Pk``)."""
        where = quote_path(path)
        # BusyBox's df says "can't find mount point" of whatever is wrong.
        answer = self._ask(b"ls -d %b >/dev/null && df -Pk -- %b" % (where, where), path)
        words = b" ".join(answer.stdout.split(b"\n")[1:2]).split()
        numbers = [int(word) for word in words if word.isdigit() and len(word) < limits.DIGITS]
        if len(numbers) < 3:
            raise self._invalid("disk_usage", path, answer.stdout)
        total, used, free = numbers[:3]
        return DiskUsage(total * 1024, used * 1024, free * 1024)

    def read_small(self, path: str | bytes) -> bytes | None:
        """The bytes of a file of at most ``SMALL_FILE``; ``None`` for a larger one."""
        where = quote_path(path)
        # dash says "No such file" also of a path through a file; ls says what is.
        script = (
            b"if [ -d %b ]; then echo 'Is a directory' >&2; exit 1; fi; "
            b"stat -L %b %b 2>/dev/null || { ls -d %b >/dev/null && echo 0; } || exit; "
            b"head -c %d < %b || { s=$?; ls -d %b >/dev/null; exit $s; }"
        ) % (where, _SIZE[self.features.stat], where, where, SMALL_FILE + 1, where, where)
        for last in (False, True):
            size, newline, data = self._ask(script, path).stdout.partition(b"\n")
            if not newline or not size.isdigit() or len(size) >= limits.DIGITS:
                raise self._invalid("read", path, size)
            if len(data) > SMALL_FILE:
                return None
            # More has come to it meanwhile, or the system makes it up as it is read; what became
            # shorter is read once more.
            if len(data) >= int(size):
                return data
            if last:
                raise self._invalid("read", path, b"%d bytes of %b" % (len(data), size))
        raise AssertionError("not reached")

    # ------------------------------------------------------------------ changing

    def mkdir(self, path: str | bytes, mode: int = 0o777) -> None:
        """Make one directory; ``FileExistsError`` where something is there already."""
        script = b"mkdir "
        if mode != 0o777:
            script += b"-m %o " % mode
        self._done("mkdir", script + b"-- " + quote_path(path), path)

    def makedirs(self, path: str | bytes, *, exist_ok: bool = False) -> None:
        """Make a directory and those above it."""
        where = quote_path(path)
        script = b"mkdir -p -- " + where
        if not exist_ok:
            script = (
                b"if [ -e %b ] || [ -L %b ]; then echo 'File exists' >&2; exit 1; fi; "
                % (where, where)
                + script
            )
        self._done("makedirs", script, path, again=exist_ok)

    def remove(self, path: str | bytes) -> None:
        """Remove a file or link, not a directory."""
        self._refuse_precious(path, "removing")
        where = quote_path(path)
        script = (
            b"if [ -d %b ] && [ ! -L %b ]; then echo 'Is a directory' >&2; exit 1; fi; "
            b"rm -- %b" % (where, where, where)
        )
        self._done("remove", script, path)

    def rmdir(self, path: str | bytes) -> None:
        """Remove an empty directory."""
        self._refuse_precious(path, "removing")
        self._done("rmdir", b"rmdir -- " + quote_path(path), path)

    def rmtree(self, path: str | bytes) -> None:
        """Remove a directory and all in it; a link is ``NotADirectoryError``."""
        self._refuse_precious(path, "removing")
        where = quote_path(path)
        script = (
            b"if [ -L %b ]; then echo 'Not a directory' >&2; exit 1; fi; "
            b"if [ ! -e %b ]; then echo 'No such file or directory' >&2; exit 1; fi; "
            b"if [ ! -d %b ]; then echo 'Not a directory' >&2; exit 1; fi; rm -rf -- %b"
            % (where, where, where, where)
        )
        self._done("rmtree", script, path)

    def replace(self, source: str | bytes, target: str | bytes) -> None:
        """Rename, over an existing file; a directory is never put into another one."""
        self._refuse_precious(source, "moving")
        self._refuse_precious(target, "replacing")
        one, two = quote_path(source), quote_path(target)
        script = (
            b"if [ ! -e %b ] && [ ! -L %b ]; then "
            b"echo 'No such file or directory' >&2; exit 1; fi; "
            b"if [ -d %b ] && [ ! -L %b ]; then if [ ! -d %b ] || [ -L %b ]; then "
            b"echo 'Is a directory' >&2; exit 2; fi; rmdir -- %b || exit 2; fi; p=%b; t=%b; "
            % (one, one, two, two, one, one, two, one, two)
        ) + RENAME
        self._of_two("rename", script, source, target)

    def _of_two(self, call: str, script: bytes, source: str | bytes, target: str | bytes) -> None:
        """Do something about two paths; status 2 is about the second one."""
        answer = self._shell.call(script + _SAY_DONE)
        if answer.status != 0:
            path = target if answer.status == 2 else source
            raise self._failed(answer.status, to_text(answer.stderr), path)
        self.check_done(call, target, answer)

    def chmod(self, path: str | bytes, mode: int | str) -> None:
        """Change a mode: an ``int``, octal text or symbolic text such as ``u+x,go-w``."""
        text = mode
        if isinstance(mode, int) and 0 <= mode <= 0o177777:
            # What st_mode says of the kind of a file is left out, as os.chmod does.  GNU's chmod
            # takes set-id bits from a directory only where the number has five digits.
            text = f"{stat_bits.S_IMODE(mode):05o}"
        elif isinstance(mode, int) or not _MODE_TEXT.match(mode):
            raise ValueError(f"{mode!r} is no file mode")
        # Behind "--" a mode such as -w is no option; the path never begins with a dash.
        script = b"chmod -- " + quote(str(text)) + b" " + quote_path(path)
        self._done("chmod", script, path, again=True)

    def symlink(self, target: str | bytes, path: str | bytes) -> None:
        """Make ``path`` a symbolic link to ``target`` (which is taken literally)."""
        where = quote_path(path)
        script = (
            b"if [ -e %b ] || [ -L %b ]; then echo 'File exists' >&2; exit 1; fi; ln -s -- %b %b"
            % (where, where, quote(target), where)
        )
        self._done("symlink", script, path)

    def copy(self, source: str | bytes, target: str | bytes) -> None:
        """Copy a file on the host, mode and all; it appears whole under its new name."""
        from .part_name import part_name

        self._refuse_precious(target, "replacing")
        one, two = quote_path(source), quote_path(target)
        script = (
            b"if [ -d %b ]; then echo 'Is a directory' >&2; exit 1; fi; "
            b"if [ -d %b ]; then echo 'Is a directory' >&2; exit 2; fi; "
            b't=%b; d=$(dirname -- "$t"; echo x); d=${d%%?x}; p="$d/"%b; '
            b'cp -- %b "$p" || { rm -f -- "$p"; exit 1; }; '
            b'mv -f -- "$p" "$t" || { rm -f -- "$p"; exit 2; }' % (one, two, two, part_name(), one)
        )
        self._of_two("copy", script, source, target)


_SIZE: dict[found.StatFlavour, bytes] = {
    "gnu": b"-c %s --",
    "plain": b"-c %s --",
    "bsd": b"-f %z --",
}
_KIND_BITS = {
    "f": stat_bits.S_IFREG,
    "d": stat_bits.S_IFDIR,
    "l": stat_bits.S_IFLNK,
    "p": stat_bits.S_IFIFO,
    "s": stat_bits.S_IFSOCK,
    "c": stat_bits.S_IFCHR,
    "b": stat_bits.S_IFBLK,
}
