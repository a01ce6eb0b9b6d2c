"""The short file calls: each is one round trip over the control shell, exact in its errors."""

from __future__ import annotations

import errno
import re
import stat as stat_bits
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ConnectionLost, remote_oserror
from . import features as found
from . import host_names
from .host_names import HostNames
from .options import part_name
from .oserrors import errno_of, error_of, refused
from .quoting import RENAME, check_no_nul, quote, quote_path, to_bytes, to_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .shell import Answer, ControlShell

SMALL_FILE = 64 * 1024
_MODE_TEXT = re.compile(r"(?:[0-7]{3,4}|[ugoa]*[-+=][rwxXst]*(?:,[ugoa]*[-+=][rwxXst]*)*)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStat:
    """A file's facts under the names of ``os.stat_result``; times in ns as far as known."""

    st_mode: int
    st_size: int
    st_uid: int
    st_gid: int
    st_nlink: int
    st_ino: int
    st_dev: int
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int

    @property
    def st_mtime(self) -> float:
        """Time of the last change of the contents, seconds since 1970."""
        return self.st_mtime_ns / 1e9

    @property
    def st_atime(self) -> float:
        """Time of the last access, seconds since 1970."""
        return self.st_atime_ns / 1e9

    @property
    def st_ctime(self) -> float:
        """Time of the last change of the inode, seconds since 1970."""
        return self.st_ctime_ns / 1e9

    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return stat_bits.S_ISDIR(self.st_mode)

    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat_bits.S_ISREG(self.st_mode)

    def is_symlink(self) -> bool:
        """Whether it is a symbolic link (only ``lstat`` and ``scandir`` can say)."""
        return stat_bits.S_ISLNK(self.st_mode)


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


def _nanoseconds(text: str) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole) * 10**9 + int((fraction + "000000000")[:9])


def parse_stat(text: str) -> FileStat:
    """Read one line in the form of ``STAT_ARGUMENTS``; ``ValueError`` where it is none."""
    words = text.split()
    if len(words) != 10:
        raise ValueError(f"not a line of stat: {text!r}")
    return FileStat(
        st_mode=int(words[0], 16),
        st_size=int(words[1]),
        st_uid=int(words[2]),
        st_gid=int(words[3]),
        st_nlink=int(words[4]),
        st_ino=int(words[5]),
        st_dev=int(words[6]),
        st_atime_ns=_nanoseconds(words[7]),
        st_mtime_ns=_nanoseconds(words[8]),
        st_ctime_ns=_nanoseconds(words[9]),
    )


def quote_glob(pattern: str) -> bytes:
    """A pattern for the shell: ``* ? [ ]`` keep their meaning, all else is quoted."""
    check_no_nul(pattern, "a pattern")
    if not pattern:
        raise ValueError("an empty pattern matches nothing")
    data, start = to_bytes(pattern), b""
    if data.startswith(b"~/"):
        start, data = b'"$HOME"/', data[2:].lstrip(b"/")
    elif not data.startswith(b"/"):
        start = b"./"
    out = []
    in_brackets = False
    for piece in re.split(rb"([*?\[\]]|(?<=\[)[!^])", data):
        if piece in (b"*", b"?", b"[", b"]", b"!", b"^") and piece:
            in_brackets = piece == b"[" or (in_brackets and piece != b"]")
            out.append(b"!" if piece == b"^" else piece)
        elif in_brackets:
            # A range needs its dash bare.
            out.append(b"-".join(quote(part) if part else b"" for part in piece.split(b"-")))
        elif piece:
            out.append(quote(piece))
    return start + b"".join(out)


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
                raise ConnectionLost(
                    f"{error}; it said: {to_text(answer.stderr)[:200]}", host=self._host
                ) from error
        return self._features

    # ------------------------------------------------------------------ helpers

    def _ask(self, script: bytes, path: str | bytes, *, again: bool = True) -> Answer:
        """Run a script about a path; anything but status 0 is the error of that path."""
        answer = self._shell.call(script, again=again)
        if answer.status != 0:
            raise error_of(to_text(answer.stderr), path, host=self._host)
        return answer

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
        return parse_stat(to_text(self._ask(script, path).stdout))

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
            b'for p in %b; do if e=$(%b"$p" 2>&1); then printf \'0%%s\\0\' "$e"; '
            b"else printf '1%%s\\0' \"$e\"; fi; done" % (words, self._stat_command(follow_symlinks))
        )
        records = self._ask(script, paths[0]).stdout.split(b"\0")[:-1]
        if len(records) != len(paths):
            raise ConnectionLost("the host's answer is not complete", host=self._host)
        return [self._one_of_many(*pair) for pair in zip(paths, records, strict=True)]

    def _one_of_many(self, path: str | bytes, record: bytes) -> FileStat | None:
        text = to_text(record[1:])
        if record[:1] == b"0":
            return parse_stat(text)
        if errno_of(text) in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise error_of(text, path, host=self._host)

    def exists_many(self, paths: Sequence[str | bytes]) -> list[bool]:
        """As ``exists`` for many paths in one round trip."""
        return [one is not None for one in self.stat_many(paths)]

    def test(self, path: str | bytes, flag: str) -> bool:
        """``[ -FLAG path ]``; false only where nothing is there or it is something else."""
        where = quote_path(path)
        script = b"if [ -%b %b ]; then echo yes; else stat -L %b; fi" % (
            flag.encode(),
            where,
            (b"-f %z -- " if self.features.stat == "bsd" else b"-c %s -- ") + where,
        )
        answer = self._shell.call(script, again=True)
        if answer.status == 0:
            return answer.stdout == b"yes\n"
        said = to_text(answer.stderr)
        if errno_of(said) in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise error_of(said, path, host=self._host)

    def listdir(self, path: str | bytes = ".") -> list[str]:
        """The names in a directory, in no order."""
        script = b"find " + quote_path(path) + b"/. -mindepth 1 -maxdepth 1 -print0"
        names = self._ask(script, path).stdout.split(b"\0")[:-1]
        return [to_text(name) for name in self._entries(names)]

    def _entries(self, paths: Sequence[bytes]) -> list[bytes]:
        """The last parts of what ``find`` printed: one entry each, none twice."""
        names = HostNames(self._host, "the directory")
        return [names.entry(path.rpartition(b"/")[2]) for path in paths]

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
        fields = self._ask(script, path).stdout.split(b"\0")[:-1]
        base = to_text(to_bytes(path)).rstrip("/")
        entries = []
        for name, facts in zip(self._entries(fields[::2]), fields[1::2], strict=True):
            plain = to_text(name)
            if not facts:
                continue  # gone between the listing and the look
            entries.append(DirEntry(plain, f"{base}/{plain}", self._entry_stat(to_text(facts))))
        return entries

    def _entry_stat(self, facts: str) -> FileStat:
        if not self.features.find_printf:
            return parse_stat(facts)
        kind, mode, rest = facts.split(" ", 2)
        bits = _KIND_BITS.get(kind, 0) | int(mode, 8)
        return parse_stat(f"{bits:x} {rest}")

    def glob(self, pattern: str) -> list[str]:
        """Paths that match a shell pattern (``* ? [ ]``), sorted by the host; none is no error."""
        script = (
            b'for p in %b; do if [ -e "$p" ] || [ -L "$p" ]; then printf \'%%s\\0\' "$p"; fi; '
            b"done" % quote_glob(pattern)
        )
        paths = self._ask(script, pattern).stdout.split(b"\0")[:-1]
        asked = to_bytes(pattern)
        if asked.startswith(b"~/"):
            asked = to_bytes(self.features.home) + b"/" + asked[2:].lstrip(b"/")
        elif not asked.startswith(b"/"):
            paths = [path.removeprefix(b"./") for path in paths]
        return [to_text(path) for path in host_names.matching(paths, asked, host=self._host)]

    def readlink(self, path: str | bytes) -> str:
        """Where a symbolic link points."""
        where = quote_path(path)
        script = (
            b"if [ -L %b ]; then readlink -- %b; elif [ -e %b ]; then "
            b"echo 'Invalid argument' >&2; exit 1; else echo 'No such file or directory' >&2; "
            b"exit 1; fi" % (where, where, where)
        )
        return to_text(self._ask(script, path).stdout.removesuffix(b"\n"))

    def realpath(self, path: str | bytes) -> str:
        """The path without links; all but the last part must exist."""
        where = quote_path(path)
        script = (
            # No "--": BusyBox takes it for a name, and the path never begins with a dash.
            b"if command -v realpath >/dev/null; then realpath %b; else readlink -f -- %b; fi"
            % (where, where)
        )
        found = self._ask(script, path).stdout.removesuffix(b"\n")
        return to_text(host_names.absolute(found, host=self._host, call="realpath"))

    def disk_usage(self, path: str | bytes = ".") -> DiskUsage:
        """Total, used and free bytes of the file system that holds a path (``df -Pk``)."""
        where = quote_path(path)
        # BusyBox's df says "can't find mount point" of whatever is wrong.
        answer = self._ask(b"ls -d %b >/dev/null && df -Pk -- %b" % (where, where), path)
        words = answer.stdout.split(b"\n")[1].split()
        numbers = [int(word) for word in words if word.isdigit()]
        if len(numbers) < 3:
            raise remote_oserror(errno.EIO, path, host=self._host, detail="df gave no numbers")
        total, used, free = numbers[:3]
        return DiskUsage(total * 1024, used * 1024, free * 1024)

    def read_small(self, path: str | bytes) -> bytes | None:
        """The bytes of a file of at most ``SMALL_FILE``; ``None`` for a larger one."""
        where = quote_path(path)
        # dash says "No such file" also of a path through a file; ls says what is.
        script = (
            b"if [ -d %b ]; then echo 'Is a directory' >&2; exit 1; fi; "
            b"head -c %d < %b || { s=$?; ls -d %b >/dev/null; exit $s; }"
        )
        answer = self._ask(script % (where, SMALL_FILE + 1, where, where), path)
        return None if len(answer.stdout) > SMALL_FILE else answer.stdout

    # ------------------------------------------------------------------ changing

    def mkdir(self, path: str | bytes, mode: int = 0o777) -> None:
        """Make one directory; ``FileExistsError`` where something is there already."""
        script = b"mkdir "
        if mode != 0o777:
            script += b"-m %o " % mode
        self._ask(script + b"-- " + quote_path(path), path, again=False)

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
        self._ask(script, path, again=exist_ok)

    def remove(self, path: str | bytes) -> None:
        """Remove a file or link, not a directory."""
        self._refuse_precious(path, "removing")
        where = quote_path(path)
        script = (
            b"if [ -d %b ] && [ ! -L %b ]; then echo 'Is a directory' >&2; exit 1; fi; "
            b"rm -- %b" % (where, where, where)
        )
        self._ask(script, path, again=False)

    def rmdir(self, path: str | bytes) -> None:
        """Remove an empty directory."""
        self._refuse_precious(path, "removing")
        self._ask(b"rmdir -- " + quote_path(path), path, again=False)

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
        self._ask(script, path, again=False)

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
        answer = self._shell.call(script)
        if answer.status != 0:
            path = target if answer.status == 2 else source
            raise error_of(to_text(answer.stderr), path, host=self._host)

    def chmod(self, path: str | bytes, mode: int | str) -> None:
        """Change a mode: an ``int``, octal text or symbolic text such as ``u+x,go-w``."""
        text = f"{mode:o}" if isinstance(mode, int) else mode
        if not _MODE_TEXT.match(text):
            raise ValueError(f"{mode!r} is no file mode")
        # Behind "--" a mode such as -w is no option; the path never begins with a dash.
        self._ask(b"chmod -- " + quote(text) + b" " + quote_path(path), path)

    def symlink(self, target: str | bytes, path: str | bytes) -> None:
        """Make ``path`` a symbolic link to ``target`` (which is taken literally)."""
        where = quote_path(path)
        script = (
            b"if [ -e %b ] || [ -L %b ]; then echo 'File exists' >&2; exit 1; fi; ln -s -- %b %b"
            % (where, where, quote(target), where)
        )
        self._ask(script, path, again=False)

    def copy(self, source: str | bytes, target: str | bytes) -> None:
        """Copy a file on the host, mode and all; it appears whole under its new name."""
        self._refuse_precious(target, "replacing")
        one, two = quote_path(source), quote_path(target)
        script = (
            b"if [ -d %b ]; then echo 'Is a directory' >&2; exit 1; fi; "
            b"if [ -d %b ]; then echo 'Is a directory' >&2; exit 2; fi; "
            b't=%b; d=$(dirname -- "$t"; echo x); d=${d%%?x}; p="$d/"%b; '
            b'cp -- %b "$p" || { rm -f -- "$p"; exit 1; }; '
            b'mv -f -- "$p" "$t" || { rm -f -- "$p"; exit 2; }' % (one, two, two, part_name(), one)
        )
        answer = self._shell.call(script)
        if answer.status != 0:
            path = target if answer.status == 2 else source
            raise error_of(to_text(answer.stderr), path, host=self._host)


_KIND_BITS = {
    "f": stat_bits.S_IFREG,
    "d": stat_bits.S_IFDIR,
    "l": stat_bits.S_IFLNK,
    "p": stat_bits.S_IFIFO,
    "s": stat_bits.S_IFSOCK,
    "c": stat_bits.S_IFCHR,
    "b": stat_bits.S_IFBLK,
}
