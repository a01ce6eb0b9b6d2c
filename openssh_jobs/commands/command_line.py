"""The command line that is sent for a command, and the marks in its output streams.  Pure.

Two shells run around the user's script.  The outer one is the login shell (or a /bin/sh that it
replaced): it closes its stdout and stderr, so that neither its "Killed" nor the output of an EXIT
trap gets into the user's output, waits for the inner shell, and prints its status.  The inner shell
runs the script: it has its own ``$$``, and a signal that ends it becomes 128+N.  sshd starts every
session without a terminal as a new process group, so the outer shell's pid is the process group of
all processes of the command.

A mark is a line that begins with a nonce.  The command line holds the nonce only as two halves,
which ``printf`` joins, so that an echo of the line is not taken for a mark.  The marks on stderr
are ``start`` (the script is about to run: the outer shell's pid and family) and ``status`` (how it
ended); with a login shell between them the outer shell prints ``shell``, the inner one ``start``,
and both print ``status``, of which the first counts.  On stdout there is one mark, before the first
byte of the command.  Nothing may be sent to the command's stdin before ``start``: until then
another program could read it.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..errors import InvalidAnswer
from ..version import __version__
from . import limits
from .quoting import MAX_COMMAND_BYTES, OWN_ENVIRONMENT, envelope, quote, quote_path

if TYPE_CHECKING:
    from collections.abc import Mapping

Family = Literal["sh", "other"]
Errors = Literal["pipe", "stdout", "devnull"]

# Two words that only the sh family leaves unchanged: fish halves the backslashes of the first,
# csh removes the backslash before the exclamation mark of the second.
FAMILY_WORDS = b"'\\\\' \"\\!\""
FAMILY_TEST = b"if [ \"$1$2\" = '\\\\\\!' ]; then f=sh; else f=other; fi; "

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

# Where the command's stderr goes, after the marks that are printed before it runs.
_STDERR: dict[Errors, bytes] = {
    "pipe": b"exec 3>&-; ",
    "stdout": b"exec 2>&1 3>&-; ",
    "devnull": b"exec 2>/dev/null 3>&-; ",
}
# ksh closes descriptors above 2 that exec opened, in the programs that it starts, unless a
# redirection of the program names them.
_STREAMS = b">&4 2>&3 3>&3 4>&-"

NAME = b"openssh-jobs/" + __version__.encode()
"""In the arguments of each shell on a host, so that its site can see whose it is."""
SHELL, BEGIN, START, STATUS = b"shell", b"begin", b"start", b"status"
CWD_FAILED = b"cwd"
CUT_SHORT = b"short"
"""The script, or what precedes its input, did not arrive complete on stdin; nothing was run."""


class LoginShell:
    """The properties of the login shell that reads command lines on a host.

    ``start_timeout``: seconds for it to start a command.
    """

    def __init__(self, start_timeout: float = limits.START) -> None:
        self.start_timeout = start_timeout
        self.family: Family | None = None

    def learned(self, family: bytes) -> None:
        """Note the family (sh, csh, fish) that a start mark reported."""
        if self.family is None:
            self.family = "sh" if family == b"sh" else "other"


class CommandLine(NamedTuple):
    """What to send: the command line, and bytes that must be first on its stdin."""

    command: bytes
    preamble: bytes


def new_nonce() -> bytes:
    """A nonce for one command; each half of it is long enough not to be guessed."""
    return b"oj-" + os.urandom(16).hex().encode()


def mark(nonce: bytes, word: bytes = b"", *values: bytes) -> bytes:
    """Shell text that prints a mark; ``values`` are shell words behind it.

    They are quoted: an rc file may have put digits into IFS.
    """
    half = len(nonce) // 2
    values = tuple(b'"%b"' % value for value in values)
    words = [word, *(b"%s" for _ in values)] if word else []
    form = b" ".join([b"%s%s", *words])
    return b" ".join([b"printf '" + form + b"\\n'", nonce[:half], nonce[half:], *values])


def _sentinel(nonce: bytes) -> tuple[bytes, bytes]:
    """The end line of a script that is sent on stdin, in two halves, so that it is not a mark."""
    half = len(nonce) // 2
    return nonce[half:], nonce[:half]


def _change_directory(cwd: str | bytes | None, nonce: bytes, to: bytes) -> bytes:
    if cwd is None:
        return b""
    # Determine the reason only if cd fails, so that it costs nothing otherwise.
    where = quote_path(cwd)
    return (
        b"cd " + where + b" >/dev/null 2>&1 || { if [ -d " + where + b" ]; then e=EACCES; "
        b"elif [ -e " + where + b" ]; then e=ENOTDIR; else e=ENOENT; fi; "
        + mark(nonce, CWD_FAILED, b"$e") + b" >&" + to + b"; exit 126; }; "
    )  # fmt: skip


def exports(env: Mapping[str, str]) -> bytes:
    """Shell text that sets environment variables; ``ValueError`` for an invalid name."""
    lines = []
    for name, value in env.items():
        if not _NAME.match(name):
            raise ValueError(f"{name!r} is not a valid name of an environment variable")
        lines.append(b"export " + name.encode() + b"=" + quote(value) + b"\n")
    return b"".join(lines)


# Sets PATH itself: an rc file may have set one without dd.
_READ = b"$(PATH=${PATH-}:/usr/bin:/bin; dd bs=1 count=%d 2>/dev/null)"
# One byte at a time, as any shell reads what it shares with the programs that it starts.
_READ_LINE = b"IFS= read -r oj_in || :; "
# In a positional parameter, so that the script does not inherit a variable of ours.
_RUN_FIRST = b'eval "shift\n${1%@*}"'


def _check(text: bytes, nonce: bytes, to: bytes) -> bytes:
    first, second = _sentinel(nonce)
    return (
        b"case " + text + b" in *@" + first + b"''" + second + b") ;; *) "
        + mark(nonce, CUT_SHORT) + b" >&" + to + b"; exit 126;; esac; "
    )  # fmt: skip


class _Script:
    """The user's script for the inner shell: in the command line, or at the head of stdin.

    If input follows there is at least a line at the head of stdin: a shell that does not find it
    has another stdin, and the script would take that for all of its input.
    """

    def __init__(
        self,
        script: bytes,
        nonce: bytes,
        env: Mapping[str, str] | None,
        *,
        by_stdin: bool,
        with_input: bool,
    ) -> None:
        self.nonce = nonce
        self.text = script
        self.preamble = b""
        self.by_stdin = bool(env) or by_stdin
        first, second = _sentinel(nonce)
        if self.by_stdin:
            self.preamble = exports(env or {}) + script + b"\n@" + first + second
        elif with_input:
            self.preamble = b"@" + first + second + b"\n"

    def _check_input(self, to: bytes) -> bytes:
        if not self.preamble:
            return b""
        return _READ_LINE + _check(b"$oj_in", self.nonce, to) + b"unset oj_in; "

    def run(self, check_to: bytes, stderr: bytes) -> bytes:
        """Shell text that runs the script after ``stderr``, a redirection."""
        if not self.by_stdin:
            return self._check_input(check_to) + stderr + self.text
        take = b'set -- "' + _READ % len(self.preamble) + b'"; '
        return take + _check(b"$1", self.nonce, check_to) + stderr + _RUN_FIRST

    def run_quoted(self, check_to: bytes, stderr: bytes) -> bytes:
        """The same, so that a syntax error in the script does not affect the text around it."""
        if self.by_stdin:
            return self.run(check_to, stderr)
        return self._check_input(check_to) + stderr + b"eval " + quote(self.text)

    def take_for_csh(self) -> bytes:
        """For the outer shell: read the script into the environment."""
        if not self.preamble:
            return b""
        begin = mark(self.nonce, BEGIN) + b" >&3; "
        if not self.by_stdin:
            return begin + self._check_input(b"3")
        return (
            begin + b"OJ_SCRIPT=" + _READ % len(self.preamble) + b"; "
            + _check(b"$OJ_SCRIPT", self.nonce, b"3") + b"export OJ_SCRIPT; "
        )  # fmt: skip

    def run_from_csh(self, stderr: bytes) -> bytes:
        """For the inner shell: run the script from the environment."""
        if not self.by_stdin:
            return stderr + self.text
        return stderr + b'set -- "$OJ_SCRIPT"; unset OJ_SCRIPT; ' + _RUN_FIRST


def _tell(nonce: bytes, word: bytes, family: bytes) -> bytes:
    return mark(nonce, word, b"$$", family) + b" >&3 || exit 126; "


def _tell_status(nonce: bytes) -> bytes:
    return mark(nonce, STATUS, b"$oj_r") + b" >&3; "


def _start(nonce: bytes, to: bytes) -> bytes:
    """Shell text that prints the start mark, or exits if that fails."""
    return mark(nonce, START, b"$$") + b" >&" + to + b" || exit 126; "


def _login_shell(script: _Script, nonce: bytes, cwd: str | bytes | None, errors: Errors) -> bytes:
    """Shell text that runs the script in the user's own shell as a login shell.

    Output of its rc files and logout files on stdout is dropped.  tcsh accepts -l only as the
    single argument, so it reads its commands from stdin, and it closes all descriptors but the
    first three: the head of our stdin is passed to the script through the environment.
    """
    stderr = _STDERR[errors]
    begin = _start(nonce, b"3")
    out = mark(nonce) + b"; " + _change_directory(cwd, nonce, b"3")
    replaced = begin + out + script.run(b"3", stderr)
    # An EXIT trap or a logout file may change the status with which the shell itself ends.  Not
    # `(...) || oj_r=$?`: `set -e` would have no effect in the script.
    beside = (
        begin + b"exec 4>&1 >/dev/null 2>&1; (exec >&4 2>&3 4>&-; " + out
        + script.run_quoted(b"3", stderr) + b"\n); oj_r=$?; " + _tell_status(nonce)
        + b'exit "$oj_r"'
    )  # fmt: skip
    for_csh = _start(nonce, b"2") + mark(nonce) + b"; " + _change_directory(cwd, nonce, b"2")
    for_csh += script.run_from_csh(stderr)
    return (
        b'case "${SHELL##*/}" in '
        b"csh|tcsh) (" + script.take_for_csh() + b"printf '%s\\n' " + quote(envelope(for_csh))
        + b' | exec "$SHELL" -l ' + _STREAMS + b");; "
        b'fish) (exec "$SHELL" -l -c ' + quote(envelope(replaced)) + b" " + _STREAMS + b");; "
        b'*) (exec "${SHELL:-/bin/sh}" -l -c ' + quote(beside) + b" " + _STREAMS + b");; esac"
    )  # fmt: skip


def build(
    script: bytes,
    nonce: bytes,
    *,
    family: Family | None,
    cwd: str | bytes | None = None,
    env: Mapping[str, str] | None = None,
    login_shell: bool = False,
    errors: Errors = "pipe",
    limit: int | None = None,
    by_stdin: bool = False,
    with_input: bool = False,
) -> CommandLine:
    """The command line for a POSIX script.

    ``nonce`` marks the beginning on both streams and the status on stderr.  Environment values,
    and scripts that are too long for one argument or sent with ``by_stdin``, go at the head of
    stdin, not in argv.  ``with_input``: the caller's bytes follow there; the host first checks that
    it reads ours.  ``limit``: seconds after which the host itself ends the command.
    """
    for stdin in (by_stdin, True):
        body = _Script(script, nonce, env, by_stdin=stdin, with_input=with_input)
        if login_shell:
            inner = _login_shell(body, nonce, cwd, errors)
        else:
            # All on one line, so that line 1 in an error message is line 1 of the script.
            text = mark(nonce) + b"; "
            text += _change_directory(cwd, nonce, b"3") + body.run(b"3", _STDERR[errors])
            inner = b"exec /bin/sh -c " + quote(text) + b" " + _STREAMS + b")"
        command = _around(inner, nonce, family, limit, login_shell=login_shell)
        if len(command) <= MAX_COMMAND_BYTES:
            break
    return CommandLine(command, body.preamble)


# With MaxSessions 1 the command itself holds the only session, so no other one can end it.
# In steps of a second, because a shell cannot end its own sleep without a race: the watch ends
# within a second after the command.
_WATCH = (
    b'(PATH=${PATH-}:/usr/bin:/bin; i=%d; while [ "$i" -gt 0 ]; do kill -s 0 "$$" || exit; '
    # Without a sleep(1) program the loop would end at once.
    b"sleep 1 || exit; i=$((i-1)); done; trap '' TERM; "
    b'kill -s TERM -- "-$$"; sleep 1; kill -s KILL -- "-$$") </dev/null 3>&- 4>&- & w=$!; '
)


def _around(
    command: bytes, nonce: bytes, family: Family | None, limit: int | None, *, login_shell: bool
) -> bytes:
    """The shell that waits, around the one that runs the user's script.

    Between its mark and the script only a login shell can read stdin.
    """
    # Print the mark in the subshell, after its traps were reset: a signal between the mark and the
    # fork would reach only shells that survive it.
    word, before = (SHELL, b"") if login_shell else (START, b"(")
    # Not `command; r=$?`: an rc file may have said `set -e`.
    tail = b" && oj_r=0 || oj_r=$?; " + _tell_status(nonce)
    if limit is not None:
        before = _WATCH % limit + before
        tail += b'kill -s KILL "$w" || :; '
    tail += b'exit "$oj_r"'
    # The outer shell survives signals to the group, to report how the command ended.  The trap has
    # an action because the subshell resets such traps, but inherits ignored signals.
    start = b"exec 3>&2 4>&1 >/dev/null 2>&1; trap : HUP INT TERM USR1 USR2; "
    line = b": " + NAME + b"; " + start + before + _tell(nonce, word, b"sh") + command + tail
    # yash in the C locale rejects lines with non-ASCII characters.
    if family == "sh" and line.isascii():
        return line
    line = start + FAMILY_TEST + before + _tell(nonce, word, b"$f") + command + tail
    return envelope(line) + b" " + NAME + b" " + FAMILY_WORDS


def control_shell(nonce: bytes) -> bytes:
    """The command line of a shell that reads commands; its mark has its pid and the family.

    A second mark, on stdout, proves that answers arrive.  Its stdin may be used only after the
    mark: until then something else may read it.
    """
    # Characters that csh or fish interpret differently are octal, inside single quotes.
    script = (
        b'f=other; [ "$1$2" = "$(printf "\\134\\134\\134\\041")" ] && f=sh; '
        b"LC_ALL=C; export LC_ALL; unset CDPATH ENV BASH_ENV; "
        + OWN_ENVIRONMENT
        + mark(nonce, START, b"$$", b"$f").replace(b"'", b'"') + b" >&2 && "
        + mark(nonce).replace(b"'", b'"') + b" && exec /bin/sh +vx -s " + NAME
    )  # fmt: skip
    return b"exec /bin/sh -c '" + script + b"' sh " + FAMILY_WORDS


class Marks:
    """Removes the lines with the nonce from a stream that is read in pieces of any size.

    ``hold=True`` holds back what arrives before the first mark and then drops it: rc files print
    that.  Raises ``InvalidAnswer`` for more than ``limits.NOISE`` of it, and for more or longer
    marks than any command has.
    """

    def __init__(self, nonce: bytes, *, hold: bool, host: str | None = None) -> None:
        self._nonce = nonce
        self.host = host
        self._kept = b""
        self._noise = bytearray()
        self.holds = hold
        self.found: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """Take the next piece of the stream; returns it without the complete marks in it."""
        data = self._kept + data
        out = []
        while (at := data.find(self._nonce)) >= 0:
            out.append(self._before(data[:at]))
            data = data[at:]
            end = data.find(b"\n")
            if end < 0:
                if len(data) > limits.MARK:
                    raise self._too_much("a mark without an end")
                self._kept = data
                return b"".join(out)
            self.holds = False
            self.found.append(data[len(self._nonce) : end].strip())
            if len(self.found) > limits.MARKS:
                raise self._too_much("more marks than any command makes")
            data = data[end + 1 :]
        keep = self._partial(data)
        self._kept = data[len(data) - keep :]
        out.append(self._before(data[: len(data) - keep]))
        return b"".join(out)

    def _before(self, data: bytes) -> bytes:
        if not self.holds:
            return data
        self._noise += data
        if len(self._noise) > limits.NOISE:
            raise self._too_much(f"more than {limits.NOISE} bytes before the command began")
        return b""

    def _too_much(self, what: str) -> InvalidAnswer:
        return InvalidAnswer(f"the host sent {what}", host=self.host)

    def _partial(self, data: bytes) -> int:
        """The count of bytes at the end that could be the beginning of the nonce."""
        for length in range(min(len(self._nonce) - 1, len(data)), 0, -1):
            if self._nonce.startswith(data[len(data) - length :]):
                return length
        return 0

    def rest(self) -> bytes:
        """The bytes left at the end of the stream, without those that were held back."""
        data, self._kept = self._kept, b""
        return self._before(data)

    @property
    def noise(self) -> bytes:
        """What arrived before the first mark."""
        return bytes(self._noise)

    def value(self, word: bytes) -> list[bytes] | None:
        """The words after the first mark that begins with ``word``."""
        for found in self.found:
            words = found.split()
            if words and words[0] == word:
                return words[1:]
        return None

    def number(self, word: bytes, most: int) -> int | None:
        """The number after the mark ``word``; ``None`` without one of at most ``most``."""
        words = self.value(word)
        if not words or not words[0].isdigit() or len(words[0]) > limits.DIGITS:
            return None
        number = int(words[0])
        return number if number <= most else None


def exit_status(marks: Marks) -> int | None:
    """The exit status that a waiting shell printed; ``None`` where none did."""
    status = marks.number(STATUS, 511)
    if status is None or status <= 255:
        return status
    # After signal N ksh has 256+N and yash 384+N, where all others have 128+N.
    return status - (256 if status >= 384 else 128)
