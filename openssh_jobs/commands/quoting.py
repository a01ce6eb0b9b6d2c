"""Quoting of names and scripts for the shells and programs that read them.  Pure.

Text is ``str`` with surrogate escapes for bytes that are not UTF-8 (as ``os.fsdecode`` returns), so
that any file name can be sent and received.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from ..errors import UnrepresentableName, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

_BARE = re.compile(rb"[A-Za-z0-9_@%+=:,./-]+\Z")
_EXPANDED = re.compile(rb"(?:\A|[:=])=")
"""What zsh replaces by the path of a program: =ls, and PATH=/bin:=ls."""
# Inside single quotes these mean themselves to sh, bash, zsh, ksh, tcsh and fish alike.
_NEUTRAL = frozenset(
    b'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 _@+=:,./-;|&<>()[]{}*?#~"'
)
_ESCAPED = [bytes([code]) if code in _NEUTRAL else b"\\%03o" % code for code in range(256)]
MAX_COMMAND_BYTES = 128 * 1024 - 512
"""One argument of execve(2) holds 128 KiB on Linux (MAX_ARG_STRLEN), less our envelope."""


def to_bytes(text: str | bytes) -> bytes:
    """The bytes behind a text: UTF-8, with surrogate escapes as the bytes they stand for."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def to_text(data: bytes) -> str:
    """The text for some bytes, with surrogate escapes for what is not UTF-8."""
    return data.decode("utf-8", "surrogateescape")


def check_no_nul(text: str | bytes, what: str) -> None:
    """Raise ``ValueError`` for a NUL byte, which arguments and paths cannot hold."""
    if b"\0" in to_bytes(text):
        raise ValueError(f"{what} holds a NUL byte: {text!r}")


def quote(word: str | bytes) -> bytes:
    """One word for a POSIX shell, of any bytes.  Raises ``ValueError`` for NUL."""
    check_no_nul(word, "an argument")
    data = to_bytes(word)
    if _BARE.match(data) and not _EXPANDED.search(data):
        return data
    return b"'" + data.replace(b"'", b"'\"'\"'") + b"'"


def join(argv: Sequence[str | bytes]) -> bytes:
    """An argument vector as one line for a POSIX shell."""
    if not argv:
        raise ValueError("an empty argument vector names no command")
    return b" ".join(quote(word) for word in argv)


def quote_path(path: str | bytes) -> bytes:
    """A remote path as one shell word: ``~`` and ``$`` are literal, but for a leading ``~/``.

    A relative path gets a leading ``./``, so that a dash is never taken for an option.
    Raises ``ValueError`` for an empty path or one with a NUL byte.
    """
    data = to_bytes(path)
    if not data:
        raise ValueError("an empty path names no file")
    check_no_nul(data, "a path")
    if data == b"~":
        return b'"$HOME"'
    if data.startswith(b"~/"):
        rest = data[2:].lstrip(b"/")
        return b'"$HOME"/' + quote(rest) if rest else b'"$HOME"/'
    if not data.startswith(b"/"):
        data = b"./" + data
    return quote(data)


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


def quote_for_any_shell(data: bytes) -> bytes:
    """Text inside single quotes that bash, dash, tcsh and fish read the same, decoded by printf.

    Only for ``eval "$(printf …)"``: what has a meaning in any shell becomes a backslash and three
    octal digits, also ``!`` (csh's history) and newlines (which csh does not allow in quotes).
    """
    return b"".join(map(_ESCAPED.__getitem__, data))


def envelope(script: bytes) -> bytes:
    """A command line that runs a POSIX script whatever the login shell is.

    The script is sent as a printf format of letters and octal escapes, without any character that
    csh, tcsh or fish treat in their own way.  ``%`` is escaped too, so that printf finds no
    directive.  ``$(…)`` drops trailing newlines, which changes no script.  A bash that is /bin/sh
    may have got a function called printf from the environment.
    """
    return (
        b'exec /bin/sh -c \'unset -f printf; eval "$(printf "'
        + _no_double_quotes(script)
        + b'")"\''
    )


def _no_double_quotes(script: bytes) -> bytes:
    return quote_for_any_shell(script).replace(b'"', b"\\042")


def join_command(command: str | bytes | Sequence[str | bytes]) -> bytes:
    """A user's command as a POSIX script: text unchanged, a sequence quoted word by word."""
    if isinstance(command, (str, bytes)):
        script = to_bytes(command)
        check_no_nul(script, "a command")
        if not script.strip():
            raise ValueError("an empty command runs nothing")
        return script
    return join(command)


def describe(command: str | bytes | Sequence[str | bytes], limit: int = 200) -> str:
    """A command as one short line for messages and logs."""
    if isinstance(command, (str, bytes)):
        text = to_text(to_bytes(command).replace(OWN_SHELL, b""))
    else:
        text = shlex.join(to_text(to_bytes(word)) for word in command)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def visible(output: bytes | str, limit: int = 400) -> str:
    """Output of a host for a message: one line without control characters, of limited length."""
    text = to_text(output[: 4 * limit]) if isinstance(output, bytes) else output[: 4 * limit]
    plain = printable(" ".join(text.split()))
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


OWN_BUILTINS = (
    b"set +vx; unset -f unset printf command read kill sleep dd trap [ test 2>/dev/null || :; "
)
"""Shell text around a user's script: a bash that is /bin/sh takes exported functions."""

_PROGRAMS = (
    b"unset printf command read kill sleep dd trap [ test cd echo true false umask wait type "
    b"pwd shopt local awk basename cat chgrp chmod chown cmp cp cut date df dirname du env "
    b"expr find getconf getent grep head id ln ls mkdir mktemp mv nice nohup nproc od perl "
    b"ps python3 readlink realpath rm rmdir rsync sed setsid sha256 sha256sum shasum sort "
    b"stat sync sysctl tail tar tee timeout touch tr uname uptime wc xargs"
)
OWN_SHELL = (
    b"set +eufCvx; unset -f " + _PROGRAMS + b" 2>/dev/null || :; "
    b"case ${BASH_VERSION-} in ?*) "
    b"for oj_o in failglob nullglob dotglob nocaseglob nocasematch xpg_echo extdebug; "
    b"do shopt -u $oj_o; done 2>/dev/null;; esac; "
)
"""Shell text before the library's own scripts, which a /bin/sh runs.  If that is a bash it takes
options (SHELLOPTS, BASHOPTS) and functions from the environment, where an rc file or sshd put them.
Other functions stay, for jobs and their modules."""

OWN_ENVIRONMENT = (
    OWN_SHELL
    + b"PATH=${PATH:+$PATH:}/usr/local/bin:/usr/bin:/bin; export PATH; unset TAR_OPTIONS; "
)
"""The same for what does not run a user's command: an rc file may have exported a PATH without our
programs, and options of tar."""


# --------------------------------------------------------------------------- sftp batch lines


def sftp_quote(path: str | bytes) -> bytes:
    """One path for a line of sftp's batch language (makeargv in sftp.c).

    Inside double quotes only ``"`` and the backslash are special to the tokeniser, and it hides
    glob characters in them from the expansion that follows.
    Raises ``UnrepresentableName`` for a newline, which ends the line, and for NUL.
    """
    data = to_bytes(path)
    if b"\n" in data or b"\0" in data:
        raise UnrepresentableName(
            f"sftp's batch language cannot express the name {to_text(data)!r}",
            advice='use method="tar"',
        )
    return b'"' + data.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
