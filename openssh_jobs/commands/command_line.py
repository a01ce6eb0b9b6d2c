"""The command line that is sent for a command, and the marks in its output streams.  Pure.

Two shells run around the user's script.  The outer one is the login shell (or a /bin/sh that it
replaced): it closes its stdout and stderr, so that neither its "Killed" nor the output of an EXIT
trap gets into the user's output, waits for the inner shell, and prints its status.  The inner shell
is a new /bin/sh, without the functions, aliases, traps and read-only variables of rc files.  It
runs the script: it has its own ``$$``, and a signal that ends it becomes 128+N.  sshd starts every
session without a terminal as a new process group, so the outer shell's pid is the process group of
all processes of the command.

Text that the login shell itself executes relies on as little as possible: ``\\`` before a command
prevents aliases, results are in positional parameters, because any variable may be read-only, and
if an rc file has replaced a builtin a mark is missing, so that no result is believed.

A mark is a line that begins with a nonce.  The command line holds the nonce only as two halves,
which ``printf`` joins, so that an echo of the line is not taken for a mark.  The marks on stderr
are ``start`` (the script is about to run: the outer shell's pid and family) and ``status`` (how it
ended); with a login shell between them ``shell`` comes before its rc files and ``start`` after
them, and both print ``status``, of which the first counts.  The last word of ``start`` is the pid
of a process that began after the rc files and before the script.  On stdout there is a mark before
the first byte of the command and, unless a program on our side reads it, ``end`` after the last
byte: a process that an rc file started may hold the stream for ever.  Nothing may be sent to the
command's stdin before ``start``: until then another program could read it.  Then a line of ours is
at its head; the shell reads it and prints ``read``.  With another stdin, which an rc file put in
its place, it ends or is ended.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..version import __version__
from . import limits
from .marks import CUT_SHORT, CWD_FAILED, END, READ, SHELL, START, STATUS, mark
from .quoting import (
    MAX_COMMAND_BYTES,
    OWN_BUILTINS,
    OWN_ENVIRONMENT,
    envelope,
    quote,
    quote_path,
)

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
_KEPT = b"3>&3"
_STREAMS = b">&4 2>&3 " + _KEPT + b" 4>&-"

NAME = b"openssh-jobs/" + __version__.encode()
"""In the arguments of each shell on a host, so that its site can see whose it is."""


class LoginShell:
    """The properties of the login shell that reads command lines on a host.

    ``start_timeout``: seconds for it to start a command.
    """

    def __init__(self, start_timeout: float = limits.START) -> None:
        self.start_timeout = start_timeout
        self.family: Family | None = None
        self.leaves_processes = False
        """Rc files start processes that hold the streams of each session."""

    def learned(self, family: bytes) -> None:
        """Note the family (sh, csh, fish) that a start mark reported."""
        if self.family is None:
            self.family = "sh" if family == b"sh" else "other"

    def distrust(self) -> None:
        """Let a /bin/sh in its place read command lines: its rc files have changed what it does."""
        self.family = "other"


class CommandLine(NamedTuple):
    """What to send: the command line, and bytes that must be first on its stdin."""

    command: bytes
    preamble: bytes


def _sentinel(nonce: bytes) -> tuple[bytes, bytes]:
    """The end line of a script that is sent on stdin, in two halves, so that it is not a mark."""
    half = len(nonce) // 2
    return nonce[half:], nonce[:half]


def _leave(nonce: bytes) -> bytes:
    """Shell text that leaves the shell, also where a function is called exit."""
    return b'\\exit 126; { : "${' + _variable(nonce) + b'_no:?}"; } 2>/dev/null'


def _change_directory(cwd: str | bytes | None, nonce: bytes, to: bytes) -> bytes:
    if cwd is None:
        return b""
    # Determine the reason only if cd fails, so that it costs nothing otherwise.
    where = quote_path(cwd)

    def failed(reason: bytes) -> bytes:
        return mark(nonce, CWD_FAILED, reason) + b" >&" + to + b"; "

    # Not a function called cd.  In zsh `command` finds only programs.
    return (
        b"{ \\command cd " + where + b" || \\builtin cd " + where
        + b"; } >/dev/null 2>&1 || { if [ -d " + where + b" ]; then " + failed(b"EACCES")
        + b"elif [ -e " + where + b" ]; then " + failed(b"ENOTDIR") + b"else " + failed(b"ENOENT")
        + b"fi; " + _leave(nonce) + b"; }; "
    )  # fmt: skip


def exports(env: Mapping[str, str]) -> bytes:
    """Shell text that sets environment variables; ``ValueError`` for an invalid name."""
    lines = []
    for name, value in env.items():
        if not _NAME.match(name):
            raise ValueError(f"{name!r} is not a valid name of an environment variable")
        # Not `export NAME=VALUE`, which `set -k` takes apart.
        lines.append(b"%b=%b; export %b\n" % (name.encode(), quote(value), name.encode()))
    return b"".join(lines)


# An rc file may have set a PATH without dd, or one that cannot be changed.  In quotes: with
# GLOB_SUBST zsh expands what is assigned.
_READ = (
    b'"$(\\command dd bs=1 count=%d 2>/dev/null || '
    b'{ PATH=${PATH-}:/usr/bin:/bin; \\command dd bs=1 count=%d; } 2>/dev/null)"'
)


def _read(nonce: bytes, size: int) -> bytes:
    return _variable(nonce) + b"=" + _READ % (size, size) + b"; "


def _variable(nonce: bytes) -> bytes:
    """A name that no rc file can have made read-only."""
    return b"oj_" + nonce[3:11]


def _run_read(nonce: bytes) -> bytes:
    """Shell text that runs the script in the variable, which the script does not inherit."""
    name = _variable(nonce)
    return b'\\eval "\\\\unset ' + name + b" >/dev/null 2>&1\n${" + name + b'%@*}"'


def _check(text: bytes, nonce: bytes, to: bytes) -> bytes:
    first, second = _sentinel(nonce)
    return (
        b'case "' + text + b'" in *@' + first + b"''" + second + b") " + mark(nonce, READ)
        + b" >&" + to + b";; *) " + mark(nonce, CUT_SHORT) + b" >&" + to + b"; "
        + _leave(nonce) + b";; esac; "
    )  # fmt: skip


def _take_line(nonce: bytes, to: bytes) -> bytes:
    name = _variable(nonce)
    # /dev/zero has no line, and no session has a device as its stdin.
    line = name + b"=; \\[ -c /dev/stdin ] || IFS= \\read -r " + name + b" || :; "
    return line + _check(b"$" + name, nonce, to) + b"\\unset " + name + b" >/dev/null 2>&1; "


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
            # What an rc file put in its place is no input of the command.
            return b"\\exec </dev/null; "
        # One byte at a time, as any shell reads what it shares with the programs that it starts.
        return _take_line(self.nonce, to)

    def run(self, check_to: bytes, stderr: bytes) -> bytes:
        """Shell text that runs the script after ``stderr``, a redirection."""
        if not self.by_stdin:
            return self._check_input(check_to) + stderr + self.text
        take = _read(self.nonce, len(self.preamble))
        take += _check(b"$" + _variable(self.nonce), self.nonce, check_to)
        return take + stderr + _run_read(self.nonce)


def _tell_status(nonce: bytes, *, tells_end: bool) -> bytes:
    end = mark(nonce, END) + b" >&4; " if tells_end else b""
    # An EXIT trap or a logout file that does not end holds none of the streams.
    return mark(nonce, STATUS, b"$1") + b" >&3; " + end + b"\\exec 3>&- 4>&- </dev/null; "


# The pid of a new process: those of rc files began before it.
_NEW_PID = b"$(\\exec /bin/sh -c 'echo $$')"


def _start(nonce: bytes, to: bytes, word: bytes = START, *values: bytes) -> bytes:
    """Shell text that prints the start mark, or exits if that fails."""
    return mark(nonce, word, *(values or (b"$$", _NEW_PID))) + b" >&" + to + b" || \\exit 126; "


def _login_shell(
    script: _Script, nonce: bytes, cwd: str | bytes | None, errors: Errors, *, tells_end: bool
) -> bytes:
    """Shell text that runs the script in the user's own shell as a login shell.

    Output of its rc files and logout files on stdout is dropped.  tcsh accepts -l only as the
    single argument, so it reads its command from stdin, and it closes all descriptors but the first
    three: behind the command the same pipe has our stdin, of which nothing comes before the start
    mark.  The cat(1) ends with the session.
    """
    stderr = _STDERR[errors]
    # A trace of this text would stand in the output of the command (BASH_XTRACEFD), or its errors.
    text = b"\\set +vx; \\unset -f command builtin read [ 2>/dev/null || :; "
    text += _start(nonce, b"3") + mark(nonce) + b"; " + _change_directory(cwd, nonce, b"3")
    text += script.run(b"3", stderr)
    # An EXIT trap or a logout file may change the status with which the shell itself ends, and an
    # ERR trap would do so before the mark.  Not `(...) || ...`: `set -e` would have no effect in
    # the script.  All that matters is in the text that eval gets: a function of that name leaves no
    # mark.
    beside = (
        b"case ${BASH_VERSION-}${ZSH_VERSION-} in ?*) \\trap - ERR DEBUG;; esac; "
        b'\\exec 4>&1 >/dev/null 2>&1; \\set -- "$-"; \\set +e; '
        b"(case $1 in *e*) \\set -e;; esac; \\shift; \\eval " + quote(text)
        + b'\n) >&4 2>&3 4>&-; \\set -- "$?"; ' + _tell_status(nonce, tells_end=tells_end)
        + b'\\exit "$1"'
    )  # fmt: skip
    for_csh = _start(nonce, b"2") + mark(nonce) + b"; " + _change_directory(cwd, nonce, b"2")
    for_csh += script.run(b"2", stderr)
    return (
        b'case "${SHELL##*/}" in '
        b"csh|tcsh) exec 5<&0; { { printf '%s\\n' " + quote(envelope(for_csh))
        + b"; PATH=${PATH-}:/usr/bin:/bin; exec cat; } <&5 2>/dev/null 3>&- 5<&- & } | "
        b'exec "$SHELL" -l 5<&-;; '
        b'fish) exec "$SHELL" -l -c ' + quote(envelope(text)) + b" " + _KEPT + b";; "
        b'*) exec "${SHELL:-/bin/sh}" -l -c ' + quote(beside) + b" " + _KEPT + b";; esac"
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
    tells_end: bool = False,
) -> CommandLine:
    """The command line for a POSIX script.

    ``nonce`` marks the beginning on both streams and the status on stderr.  Environment values,
    and scripts that are too long for one argument or sent with ``by_stdin``, go at the head of
    stdin, not in argv.  ``with_input``: the caller's bytes follow there; the host first checks that
    it reads ours.  ``limit``: seconds after which the host itself ends the command.  ``tells_end``:
    a mark on stdout says that it ended, too.
    """
    for stdin in (by_stdin, True):
        body = _Script(script, nonce, env, by_stdin=stdin, with_input=with_input)
        if login_shell:
            inner = _login_shell(body, nonce, cwd, errors, tells_end=tells_end)
        else:
            # All on one line, so that line 1 in an error message is line 1 of the script.
            inner = mark(nonce) + b"; "
            inner += _change_directory(cwd, nonce, b"3") + body.run(b"3", _STDERR[errors])
        ending = _tell_status(nonce, tells_end=tells_end)
        command = _around(inner, nonce, family, limit, ending, login_shell=login_shell)
        if len(command) <= MAX_COMMAND_BYTES:
            break
    return CommandLine(command, body.preamble)


# With MaxSessions 1 the command itself holds the only session, so no other one can end it.
# In steps of a second, because a shell cannot end its own sleep without a race: the watch ends
# within a second after the command.
_WATCH = (
    b'PATH=${PATH-}:/usr/bin:/bin; i=%d; while [ "$i" -gt 0 ]; do kill -s 0 "$0" || exit; '
    # Without a sleep(1) program the loop would end at once.
    b"sleep 1 || exit; i=$((i-1)); done; trap '' TERM; "
    b'kill -s TERM -- "-$0"; sleep 1; kill -s KILL -- "-$0"'
)


def _around(
    command: bytes,
    nonce: bytes,
    family: Family | None,
    limit: int | None,
    ending: bytes,
    *,
    login_shell: bool,
) -> bytes:
    """The shell that waits, around the one that runs the user's script.

    Between its mark and the script only a login shell can read stdin.
    """
    # Print the mark in the new shell, whose traps were reset: a signal between the mark and the
    # fork would reach only shells that survive it.  Its parent is the shell that waits.
    word = SHELL if login_shell else START
    known = quote(OWN_BUILTINS + _start(nonce, b"3", word, b"$PPID", b"sh", b"$$") + command)
    tried = _start(nonce, b"3", word, b"$PPID", b"@F@", b"$$").partition(b"@F@")
    unknown = quote(OWN_BUILTINS + tried[0]) + b'"$f"' + quote(tried[2] + command)
    # Not `command; r=$?`: an rc file may have said `set -e`.  No variable: it may be read-only.
    tail = b" " + _STREAMS + b') && \\set -- 0 || \\set -- "$?"; ' + ending
    before = b"(\\exec /bin/sh -c "
    if limit is not None:
        watch = quote(OWN_BUILTINS + _WATCH % limit)
        before = b"/bin/sh -c " + watch + b' "$$" </dev/null 3>&- 4>&- & ' + before
        tail += b'\\kill -s KILL "$!" || :; '
    tail += b'\\exit "$1"'
    # The outer shell survives signals to the group, to report how the command ended.  The trap has
    # an action because the inner shell resets such traps, but inherits ignored signals.
    start = b"\\exec 3>&2 4>&1 >/dev/null 2>&1; \\trap : HUP INT TERM USR1 USR2 PIPE; "
    line = b": " + NAME + b"; " + start + before + known + tail
    # yash in the C locale rejects lines with non-ASCII characters.
    if family == "sh" and line.isascii():
        return line
    line = OWN_BUILTINS + start + FAMILY_TEST + before + unknown + tail
    return envelope(line) + b" " + NAME + b" " + FAMILY_WORDS


def control_shell(nonce: bytes) -> bytes:
    """The command line of a shell that reads commands; its mark has its pid and the family.

    A second mark, on stdout, proves that answers arrive.  Its stdin may be used only after the
    mark: until then something else may read it.  First ``first_line`` must be sent: another
    stdin, which an rc file opened, would be run as commands.
    """
    # Characters that csh or fish interpret differently are octal, inside single quotes.
    script = (
        OWN_ENVIRONMENT
        + b'f=other; [ "$1$2" = "$(printf "\\134\\134\\134\\041")" ] && f=sh; '
        b"LC_ALL=C; export LC_ALL; unset CDPATH ENV BASH_ENV; "
        + mark(nonce, START, b"$$", b"$f").replace(b"'", b'"') + b" >&2 && "
        + mark(nonce).replace(b"'", b'"') + b" || exit 126; "
        b"l=; [ -c /dev/stdin ] || IFS= read -r l || :; "
        b'case $l in "@%b""%b") ;; *) ' % _sentinel(nonce)
        + mark(nonce, CUT_SHORT).replace(b"'", b'"') + b" >&2; exit 126;; esac; unset l; "
        + mark(nonce, READ).replace(b"'", b'"') + b" >&2; exec /bin/sh +vx -s " + NAME
    )  # fmt: skip
    return b"exec /bin/sh -c '" + script + b"' sh " + FAMILY_WORDS


def after_first_line(nonce: bytes, start: bytes) -> bytes:
    """Shell text that runs ``start`` if ``first_line`` is in stdin; its marks go to stderr."""
    return _start(nonce, b"2") + _take_line(nonce, b"2") + start


def first_line(nonce: bytes) -> bytes:
    """The line at the head of stdin that proves whose stdin it is."""
    return b"@" + b"".join(_sentinel(nonce)) + b"\n"
