"""``PathShell``: runs scripts about paths on the control shell and raises exact errors.

It has what all file methods share; the methods themselves are in ``remote_files``.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ..commands import host_tools, limits, scripts
from ..commands.os_errors import error_of, refused
from ..commands.quoting import join, quote_path, to_bytes, to_text, visible
from ..errors import InvalidAnswer, remote_oserror
from .stat import FileStat, parse_stat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..commands.control_shell import ControlShell, ShellAnswer
    from ..errors import RemoteOSError

SCRIPTS = "files/remote_files"
"""The file of the scripts of all file methods."""
_NO_SUCH_COMMAND = 127
# Appended to a script, so that an empty answer is never read as success.
_SAY_DONE = b"\ns=$?; [ $s = 0 ] && echo done; exit $s"
_DONE = b"done\n"
# Appended to a listing, so that one without entries is known to be complete.
_SAY_END = b" && printf '\\0'"


class PathShell:
    """Runs scripts about paths of one host; an answer that is incomplete is never a success.

    In paths ``~`` and ``$`` are literal, except for a leading ``~/``.  Paths are text with
    surrogate escapes, or bytes.  Every method may raise ``RemoteOSError`` (also the builtin
    ``OSError`` subclass of its errno), ``InvalidAnswer``, and what ``ControlShell.call`` raises.
    """

    def __init__(self, shell: ControlShell, host: str) -> None:
        self._shell = shell
        self._host = host
        self.known_features: host_tools.Features | None = None

    @property
    def features(self) -> host_tools.Features:
        """The features of the host's tools; one round trip, then cached."""
        if self.known_features is None:
            # If the directory can change, ``cwd`` is the home directory, too, with links resolved.
            home = b"" if self._shell.directory is None else b"cd && "
            answer = self._shell.call(home + host_tools.probe(), again=True)
            try:
                self.known_features = host_tools.parse(answer.stdout)
            except ValueError as error:
                raise InvalidAnswer(
                    f"{error}; its stderr: {visible(answer.stderr) or 'nothing'}",
                    host=self._host,
                    command="features",
                ) from error
        return self.known_features

    # ------------------------------------------------------------------ running a script

    @staticmethod
    def script(function: str, *paths: str | bytes, words: Sequence[scripts.Value] = ()) -> bytes:
        """A call of a function of ``remote_files.sh``: its paths, then other words."""
        return scripts.call(SCRIPTS, function, [scripts.path(path) for path in paths], *words)

    def ask(
        self, script: bytes, path: str | bytes, *, again: bool = True, most: int = limits.ANSWER
    ) -> ShellAnswer:
        """Run a script about a path; any status but 0 raises the error of that path."""
        answer = self._shell.call(script, again=again, most=most)
        if answer.status != 0:
            raise self.failed(answer.status, answer.stderr, path)
        return answer

    def ask_if_there(self, script: bytes, path: str | bytes) -> bytes | None:
        """Run a script about a path; its stdout, or ``None`` where the path does not exist."""
        answer = self._shell.call(script, again=True)
        if answer.status == 0:
            return answer.stdout
        self._raise_unless_absent(self.failed(answer.status, answer.stderr, path))
        return None

    def do(self, call: str, script: bytes, path: str | bytes, *, again: bool = False) -> None:
        """Run a script that changes something at a path; raises unless it ran to its end."""
        self.check_done(call, path, self.ask(script + _SAY_DONE, path, again=again))

    def do_two(self, call: str, script: bytes, source: str | bytes, target: str | bytes) -> None:
        """Run a script that changes two paths; its status 2 means the second one."""
        answer = self._shell.call(script + _SAY_DONE)
        if answer.status != 0:
            path = target if answer.status == 2 else source
            raise self.failed(answer.status, answer.stderr, path)
        self.check_done(call, target, answer)

    def check_done(self, call: str, path: str | bytes, answer: ShellAnswer) -> None:
        """Raise ``InvalidAnswer`` unless the answer ends as that of a script with ``echo done``."""
        if not answer.stdout.endswith(_DONE):
            raise self.invalid(call, path, answer.stdout)

    def records(self, call: str, path: str | bytes, script: bytes) -> list[bytes]:
        """Run a script that prints records, each of them ended by NUL; returns the records."""
        answer = self.ask(script + _SAY_END, path, most=limits.LISTING).stdout
        if not answer.endswith(b"\0") or (len(answer) > 1 and answer[-2:] != b"\0\0"):
            raise self.invalid(call, path, answer[-limits.SAID :])
        return answer.split(b"\0")[:-2]

    def line(self, call: str, path: str | bytes, script: bytes) -> str:
        """Run a script that prints a path, which may hold newlines; raises if it is empty."""
        answer = self.ask(script, path).stdout
        if len(answer) < 2 or not answer.endswith(b"\n") or b"\0" in answer:
            raise self.invalid(call, path, answer)
        return to_text(answer[:-1])

    # ------------------------------------------------------------------ errors

    def failed(self, status: int, stderr: bytes, path: str | bytes) -> RemoteOSError:
        """The error of a path for a script that ended with this status and this stderr."""
        if status == _NO_SUCH_COMMAND:
            # Here "not found" means the command, not the path.
            detail = f"the host lacks a command: {visible(stderr)}"
            return remote_oserror(errno.EIO, path, host=self._host, detail=detail)
        return error_of(to_text(stderr), path, host=self._host)

    def invalid(self, call: str, path: str | bytes, answer: bytes) -> InvalidAnswer:
        """The error for an answer that means neither success nor that the path is missing."""
        shown = visible(answer) or "nothing"
        return InvalidAnswer(
            f"{call} of {visible(to_bytes(path))!r}: the host's answer is not valid: {shown}",
            host=self._host,
            command=call,
        )

    @staticmethod
    def _raise_unless_absent(error: RemoteOSError) -> None:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise error

    # ------------------------------------------------------------------ paths

    def absolute(self, path: str | bytes) -> str:
        """A path as an absolute path on the host, links not resolved; at most one round trip."""
        quote_path(path)  # raises ValueError for an invalid path
        text = path if isinstance(path, str) else to_text(path)
        if text == "~":
            return self.features.home
        if text.startswith("~/"):
            return self.features.home.rstrip("/") + "/" + text[2:].lstrip("/")
        if text.startswith("/"):
            return text
        directory = self._shell.directory
        here = self.features.cwd if directory is None else directory()
        return here.rstrip("/") + "/" + text

    def refuse_precious(self, path: str | bytes, what: str) -> None:
        """Raise ``RemoteOSError`` for the empty path, the root, and the home and its parents.

        ``what`` is the word for the error: ``removing``, ``moving``, ``replacing``.
        """
        if not to_bytes(path).strip():
            raise refused(errno.EINVAL, path, host=self._host, detail="an empty path")
        if self.is_precious(path):
            raise refused(
                errno.EPERM,
                path,
                host=self._host,
                detail=f"{what} the root, the home directory or a parent of it is refused",
            )

    def is_precious(self, path: str | bytes) -> bool:
        """Whether a path is the root, the home or a parent of it, or has ``..``.

        Links in the path are not resolved; at most one round trip.
        """
        parts = [part for part in self.absolute(path).split("/") if part not in ("", ".")]
        # A new shell starts in the home directory; its cwd has all links resolved.
        homes = [
            [part for part in home.split("/") if part]
            for home in (self.features.home, self.features.cwd)
        ]
        return ".." in parts or any(parts == home[: len(parts)] for home in homes)

    # ------------------------------------------------------------------ facts

    @property
    def size_arguments(self) -> tuple[str, str]:
        """Option and format with which the host's stat(1) prints a size."""
        return host_tools.SIZE_ARGUMENTS[self.features.stat]

    @property
    def stat_arguments(self) -> tuple[str, str]:
        """Option and format with which the host's stat(1) prints a line for ``parse_stat``."""
        return host_tools.STAT_ARGUMENTS[self.features.stat]

    def facts(
        self,
        call: str,
        path: str | bytes,
        line: bytes,
        parse: Callable[[str], FileStat] = parse_stat,
    ) -> FileStat:
        """The facts from one line of stat(1), or from another form that ``parse`` reads."""
        try:
            return parse(to_text(line))
        except ValueError:
            raise self.invalid(call, path, line) from None

    def stat(self, path: str | bytes, *, follow_symlinks: bool = True) -> FileStat:
        """The facts of a file; of a link's target unless ``follow_symlinks`` is false."""
        words = ["stat", *(["-L"] if follow_symlinks else []), *self.stat_arguments, "--"]
        script = join(words) + b" " + quote_path(path)
        return self.facts("stat", path, self.ask(script, path).stdout)

    def stat_many(self, paths: Sequence[str | bytes]) -> list[FileStat | None]:
        """The facts of many files in one round trip; ``None`` for each that does not exist.

        Any other error (no permission, a dead mount) raises: it does not say that a file is absent.
        """
        if not paths:
            return []
        words = [scripts.path(path) for path in paths]
        script = scripts.call(SCRIPTS, "oj_stat_many", self.stat_arguments, words)
        records = self.records("stat", paths[0], script)
        if len(records) != len(paths):
            raise self.invalid("stat", paths[0], b"%d of %d answers" % (len(records), len(paths)))
        return [self._facts_or_none(*pair) for pair in zip(paths, records, strict=True)]

    def _facts_or_none(self, path: str | bytes, record: bytes) -> FileStat | None:
        status, _, rest = record.partition(b" ")
        if status == b"0":
            return self.facts("stat", path, rest)
        if not status.isdigit() or len(status) > 3:
            raise self.invalid("stat", path, record)
        self._raise_unless_absent(self.failed(int(status), rest, path))
        return None
