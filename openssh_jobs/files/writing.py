"""Writing a file on the host atomically: the part, its bytes, and the reason of a failure."""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING

from ..commands import limits, scripts
from ..commands.os_errors import errno_of, error_of
from ..commands.quoting import quote_for_any_shell, to_text, visible
from ..errors import InvalidAnswer
from ..openssh import pid_file
from . import private_directory
from .path_shell import SCRIPTS

if TYPE_CHECKING:
    from ..commands.control_shell import ControlShell
    from ..commands.runner import Commands
    from ..errors import TransferError

SMALL = 16 * 1024
"""Maximum bytes of shell text: bash reads its script byte by byte, and for 16 KiB it needs as long
as opening another session takes."""
_PIECE = 1024
# Not if printf is a program: other users could see its arguments.
BUILTIN_PRINTF = b'[ "$(command -v printf)" = printf ] || exit 9; '
"""Shell text that ends with ``NO_BUILTIN_PRINTF`` where printf is not a builtin."""
NO_BUILTIN_PRINTF = 9
_PROBE = 1 << 20
"""Bytes that are written to find out why a file cannot be written."""


def part_name() -> bytes:
    """A name for a part: short, independent of the length of the target's name.

    It contains the pid of this process, so that parts of dead processes can be found.
    """
    return b".oj-%b.%b.part" % (os.urandom(6).hex().encode(), pid_file.call().encode())


# --------------------------------------------------------------------------- the bytes


def write_file(
    commands: Commands, shell: ControlShell, target: bytes, data: bytes, host: str
) -> None:
    """Write bytes to a part on the host, count them there, and rename the part to ``target``.

    Small files are sent over the held shell, larger ones over a new session.
    """
    # cat writes in both cases: it reports the reason of a failure, which not every printf does.
    text = shell_text(data)
    if text is not None:
        answer = shell.call(BUILTIN_PRINTF + write_script(target, text + b" | cat", len(data)))
        if answer.status != NO_BUILTIN_PRINTF:
            _check(answer.status, answer.stdout, answer.stderr, target, host)
            return
    # The bytes are sent after the script has started: without them its length check fails.
    script = b"LC_ALL=C; export LC_ALL; " + write_script(target, b"cat", len(data))
    plan = commands.plan(script, prologue="", inert=True)
    done = commands.run_bytes(plan, data=data, most=limits.WORDS)
    _check(done.returncode, done.stdout, done.stderr, target, host)


def shell_text(data: bytes) -> bytes | None:
    """Shell text that prints the bytes; ``None`` if it would be longer than ``SMALL``."""
    if len(data) > SMALL:
        return None
    pieces = (data[at : at + _PIECE] for at in range(0, len(data), _PIECE))
    # A format that begins with a dash would be an option.
    formats = (quote_for_any_shell(piece).replace(b"-", b"\\055") for piece in pieces)
    text = b"{ " + b"".join(b"printf '%b'; " % form for form in formats) + b":; }"
    return text if len(text) <= SMALL else None


def write_script(target: bytes, source: bytes, size: int) -> bytes:
    """The script around ``source``, a command that prints ``size`` bytes."""
    parent = posixpath.dirname(target)
    part = posixpath.join(parent, part_name())
    paths = scripts.path(part), scripts.path(target)
    script = scripts.call(SCRIPTS, "oj_write", paths, size, scripts.path(parent + b"/."))
    return b"oj_source() { %b; }\n" % source + script


def _check(status: int, out: bytes, err: bytes, target: bytes, host: str) -> None:
    if status != 0:
        raise error_of(to_text(err), target, host=host)
    if out != b"done\n":
        raise InvalidAnswer(
            f"the host did not confirm that {visible(target)!r} was written",
            host=host,
            command="write",
        )


# --------------------------------------------------------------------------- why it failed


def explain(shell: ControlShell, host: str, error: TransferError, path: bytes) -> Exception:
    """The reason behind sftp's bare "Failure" (a full disk, a quota, …), or the error itself."""
    if isinstance(error, OSError) or "Failure" not in error.message:
        return error
    return probe_host(shell, host, path) or error


def probe_host(shell: ControlShell, host: str, path: bytes) -> OSError | None:
    """The host's error when it writes one more megabyte at a path; ``None`` if that succeeds."""
    script = scripts.call(SCRIPTS, "oj_probe", scripts.path(path), _PROBE)
    answer = shell.call(private_directory.opening() + script, again=True)
    stderr = to_text(answer.stderr)
    if answer.status == 0 or errno_of(stderr) is None:
        return None
    found = error_of(stderr, path, host=host)
    return found if isinstance(found, OSError) else None


def probe_here(directory: bytes) -> OSError | None:
    """The system's error when one more megabyte is written here; ``None`` if that succeeds."""
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=directory, buffering=0) as handle:
            while handle.tell() < _PROBE:
                handle.write(bytes(65536))
    except OSError as error:
        return error
    return None
