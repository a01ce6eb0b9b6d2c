"""A file's whole content onto the host: by the held shell where it is small, else by a session."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from ..commands import limits
from ..commands.os_errors import error_of
from ..commands.quoting import quote_for_any_shell, quote_path, to_text, visible
from ..errors import InvalidAnswer
from .part_name import part_name

if TYPE_CHECKING:
    from ..commands.control_shell import ControlShell
    from ..commands.runner import Commands

SMALL = 16 * 1024
"""Bytes of shell text: bash reads its script byte by byte, 16 KiB in the time that a session of
its own takes."""
_PIECE = 1024
# Not where printf is a program: its arguments could be seen by all.
_BUILTIN = b'[ "$(command -v printf)" = printf ] || exit 9; '
_NO_BUILTIN = 9


def write_file(
    commands: Commands, shell: ControlShell, target: bytes, data: bytes, host: str
) -> None:
    """Bytes onto a file on the host: written beside it, counted, and renamed over it."""
    # Of both ways it is cat that writes: it says what was wrong, as not every printf does.
    text = _text(data)
    if text is not None:
        answer = shell.call(_BUILTIN + _script(target, text + b" | cat", len(data)))
        if answer.status != _NO_BUILTIN:
            _check(answer.status, answer.stdout, answer.stderr, target, host)
            return
    # Without the bytes, which come when it has begun, it is none of the right length.
    script = b"LC_ALL=C; export LC_ALL; " + _script(target, b"cat", len(data))
    plan = commands.plan(script, prologue="", inert=True)
    done = commands.run_bytes(plan, data=data, most=limits.WORDS)
    _check(done.returncode, done.stdout, done.stderr, target, host)


def _text(data: bytes) -> bytes | None:
    """Shell text that prints the bytes, where it is small."""
    if len(data) > SMALL:
        return None
    pieces = (data[at : at + _PIECE] for at in range(0, len(data), _PIECE))
    # A format that begins with a dash would be an option.
    formats = (quote_for_any_shell(one).replace(b"-", b"\\055") for one in pieces)
    text = b"{ " + b"".join(b"printf '%b'; " % one for one in formats) + b":; }"
    return text if len(text) <= SMALL else None


def _script(target: bytes, source: bytes, size: int) -> bytes:
    """The script around a command that prints the bytes."""
    parent = posixpath.dirname(target)
    part = posixpath.join(parent, part_name())
    return (
        b"set -C; p=%b; t=%b; if [ -d \"$t\" ]; then echo 'Is a directory' >&2; exit 1; fi; "
        b'm=; if [ -f "$t" ]; then m=$(stat -c %%a -- "$t" 2>/dev/null || '
        # Nobody reads it meanwhile who may not read what it replaces.
        b'stat -f %%Lp -- "$t" 2>/dev/null); [ -z "$m" ] || umask 077; fi; '
        b'{ %b > "$p" && n=$(wc -c < "$p") && [ $n -eq %d ] && '
        b'{ [ -z "$m" ] || chmod "$m" "$p"; } && mv -f -- "$p" "$t" && echo done; } || '
        b'{ s=$?; rm -f -- "$p"; ls -d %b >/dev/null; exit $s; }'
        % (quote_path(part), quote_path(target), source, size, quote_path(parent + b"/."))
    )


def _check(status: int, out: bytes, err: bytes, target: bytes, host: str) -> None:
    if status != 0:
        raise error_of(to_text(err), target, host=host)
    if out != b"done\n":
        raise InvalidAnswer(
            f"{visible(target)!r} was not said to be written", host=host, command="write"
        )
