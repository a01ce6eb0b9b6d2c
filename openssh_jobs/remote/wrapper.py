"""The line that is sent for a command, and the marks by which its streams are read.  Pure.

Around the user's script stand two shells.  The outer one is the login shell (or a /bin/sh that it
became): it has no stderr of its own, so that its "Killed" never lands in the user's, and it waits
and reports.  The inner one is the user's: its ``$$`` is its own and a signal that ends it becomes
128+N.  sshd starts every session without a terminal as its own process group, so the outer
shell's pid names the group of all that runs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from .quoting import MAX_COMMAND_BYTES, envelope, quote, quote_path

if TYPE_CHECKING:
    from collections.abc import Mapping

Family = Literal["sh", "other"]
Errors = Literal["pipe", "stdout", "devnull"]

# Two words that only the sh family leaves as they are: fish halves the backslashes of the first,
# csh takes the one before the exclamation mark of the second.
FAMILY_WORDS = b"'\\\\' \"\\!\""
FAMILY_TEST = b"if [ \"$1$2\" = '\\\\\\!' ]; then f=sh; else f=other; fi; "

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

_REDIRECT: dict[Errors, bytes] = {
    "pipe": b"2>&3 3>&-",
    "stdout": b"2>&1 3>&-",
    "devnull": b"2>/dev/null 3>&-",
}
# Where the user's stderr goes elsewhere, word about the directory still has to come through.
_REDIRECT_FOR_CWD: dict[Errors, bytes] = {
    "pipe": b"2>&3",
    "stdout": b"2>&1",
    "devnull": b"2>/dev/null",
}

CWD_FAILED = b"cwd"


class Line(NamedTuple):
    """What to send: the command line, and bytes that must come first on its stdin."""

    command: bytes
    preamble: bytes


def _change_directory(cwd: str | bytes, nonce: bytes, told_on: bytes) -> bytes:
    # The codes are looked at only when cd has failed, so they cost nothing otherwise.
    where = quote_path(cwd)
    return (
        b"cd " + where + b" 2>/dev/null || { if [ -d " + where + b" ]; then e=EACCES; "
        b"elif [ -e " + where + b" ]; then e=ENOTDIR; else e=ENOENT; fi; "
        b"echo " + nonce + b" " + CWD_FAILED + b" $e >&" + told_on + b"; exit 126; }; exec 3>&-; "
    )


def exports(env: Mapping[str, str]) -> bytes:
    """Shell text that sets environment variables; ``ValueError`` for what is no name."""
    lines = []
    for name, value in env.items():
        if not _NAME.match(name):
            raise ValueError(f"{name!r} is no name for an environment variable")
        lines.append(b"export " + name.encode() + b"=" + quote(value) + b"\n")
    return b"".join(lines)


_FROM_STDIN = b'eval "$(dd bs=1 count=%d 2>/dev/null)"'
_FROM_VARIABLE = b'oj_script=$OJ_SCRIPT; unset OJ_SCRIPT; eval "$oj_script"'


def _login_shell(inner: bytes, for_csh: bytes, preamble: int, errors: bytes) -> bytes:
    """The user's own shell as a login shell.

    tcsh takes -l only alone, so it reads its commands from stdin, and closes all descriptors but
    the first three: what comes first on our stdin reaches the script in the environment.
    """
    anyones = envelope(inner)
    take = b""
    if preamble:
        take = b"OJ_SCRIPT=$(dd bs=1 count=%d 2>/dev/null); export OJ_SCRIPT; " % preamble
    return (
        b'case "${SHELL##*/}" in '
        b"csh|tcsh) ("
        + take
        + b"printf '%s\\n' "
        + quote(envelope(for_csh))
        + b' | exec "$SHELL" -l '
        + errors
        + b");; "
        b'fish) (exec "$SHELL" -l -c ' + quote(anyones) + b" " + errors + b");; "
        b'*) (exec "${SHELL:-/bin/sh}" -l -c ' + quote(inner) + b" " + errors + b");; esac"
    )


def build(
    script: bytes,
    nonce: bytes,
    *,
    family: Family | None,
    report_status: bool,
    cwd: str | bytes | None = None,
    env: Mapping[str, str] | None = None,
    login_shell: bool = False,
    errors: Errors = "pipe",
    limit: int | None = None,
) -> Line:
    """The line for a POSIX script.

    ``nonce`` marks the beginning on both streams; ``report_status`` adds a last line with the
    exit status on stderr, for a backend that cannot tell 255 from its own.  Environment values
    and scripts too long for one argument travel at the head of stdin, not in argv.  ``limit``:
    seconds after which the host itself ends the command.
    """
    for by_stdin in (False, True):
        body, preamble = script, b""
        if env or by_stdin:
            preamble = exports(env or {}) + script + b"\n"
            body = _FROM_STDIN % len(preamble)
        before = for_csh = b"echo " + nonce + b"; "
        redirect = _REDIRECT[errors]
        if cwd is not None:
            before += _change_directory(cwd, nonce, b"3")
            for_csh += _change_directory(cwd, nonce, b"2")
            redirect = _REDIRECT_FOR_CWD[errors]
        if login_shell:
            for_csh += _FROM_VARIABLE if preamble else body
            inner = _login_shell(before + body, for_csh, len(preamble), redirect)
        else:
            inner = b"(exec /bin/sh -c " + quote(before + body) + b" " + redirect + b")"
        command = _around(inner, nonce, family, report_status, limit)
        if len(command) <= MAX_COMMAND_BYTES:
            break
    return Line(command, preamble)


# Where MaxSessions is 1 the command itself holds the only session, and nobody could end it from
# outside.  In steps, because a shell cannot end its own sleep without a race: what is left of the
# watch after a command looks around within a second and goes.
_WATCH = (
    b"(i=%d; while [ $i -gt 0 ]; do kill -s 0 $$ || exit; sleep 1; i=$((i-1)); done; trap '' TERM; "
    b"kill -s TERM -- -$$; sleep 1; kill -s KILL -- -$$) </dev/null >/dev/null 3>&- & w=$!; "
)


def _around(
    command: bytes, nonce: bytes, family: Family | None, report_status: bool, limit: int | None
) -> bytes:
    """The shell that waits, around the one that runs the user's script."""
    tail = b"exit $?"
    if limit is not None:
        command = _WATCH % limit + command
        tail = b"r=$?; kill -s KILL $w; exit $r"
    if report_status:
        tail = b"r=$?; echo " + nonce + b" status $r >&3; " + tail.removeprefix(b"r=$?; ")
        tail = tail.replace(b"exit $?", b"exit $r")
    # It outlives what the group is sent, to say how the command took it.  A trap that does
    # something is reset in the subshell; one that ignores would not be.
    start = b"exec 3>&2 2>/dev/null; trap : HUP INT TERM USR1 USR2; "
    if family == "sh":
        return start + b"echo " + nonce + b" start $$ sh >&3; " + command + b"; " + tail
    line = start + FAMILY_TEST + b"echo " + nonce + b" start $$ $f >&3; " + command + b"; " + tail
    return envelope(line) + b" sh " + FAMILY_WORDS


class Marks:
    """Takes the lines with the nonce out of a stream, however the stream is cut into pieces.

    ``hold=True`` keeps back what comes before the first mark and then drops it: that is what rc
    files print.
    """

    def __init__(self, nonce: bytes, *, hold: bool) -> None:
        self._nonce = nonce
        self._hold = hold
        self._kept = b""
        self.found: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """The next piece of the stream without the marks that are complete in it."""
        data = self._kept + data
        out = []
        while True:
            at = data.find(self._nonce)
            if at < 0:
                break
            end = data.find(b"\n", at)
            if end < 0:
                if not self._hold:
                    out.append(data[:at])
                    data = data[at:]
                self._kept = data
                return b"".join(out)
            if self._hold:
                self._hold = False
            else:
                out.append(data[:at])
            self.found.append(data[at + len(self._nonce) : end].strip())
            data = data[end + 1 :]
        if self._hold:
            self._kept = data
            return b""
        keep = self._partial(data)
        self._kept = data[len(data) - keep :]
        out.append(data[: len(data) - keep])
        return b"".join(out)

    def _partial(self, data: bytes) -> int:
        """How many last bytes could be the beginning of the nonce."""
        for length in range(min(len(self._nonce) - 1, len(data)), 0, -1):
            if self._nonce.startswith(data[len(data) - length :]):
                return length
        return 0

    def rest(self) -> bytes:
        """What is left at the end of the stream; noise, too, where no mark ever came."""
        data, self._kept = self._kept, b""
        return data

    def value(self, word: bytes) -> list[bytes] | None:
        """The words after the first mark that begins with ``word``."""
        for mark in self.found:
            words = mark.split()
            if words and words[0] == word:
                return words[1:]
        return None
