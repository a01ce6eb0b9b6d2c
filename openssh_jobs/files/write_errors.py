"""Why something could not be written, where a program does not say: told by writing there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..commands.os_errors import errno_of, error_of
from ..commands.quoting import quote_path, to_text

if TYPE_CHECKING:
    from ..commands.control_shell import ControlShell
    from ..errors import TransferError

_MORE = 1 << 20


def reason(shell: ControlShell, host: str, error: TransferError, path: bytes) -> Exception:
    """What sftp's "Failure" hides (a full disk, a quota…), or the error itself."""
    if isinstance(error, OSError) or "Failure" not in error.message:
        return error
    return asked(shell, host, path) or error


def asked(shell: ControlShell, host: str, path: bytes) -> OSError | None:
    """What the host says to one megabyte more in a file or directory; ``None``: it takes it."""
    script = b'p=%b; [ -d "$p" ] && p=$p/.oj-probe; head -c %d /dev/zero >> "$p"; s=$?; '
    script = script % (quote_path(path), _MORE) + b'rm -f -- "$p"; exit $s'
    answer = shell.call(script, again=True)
    said = to_text(answer.stderr)
    if answer.status == 0 or errno_of(said) is None:
        return None
    found = error_of(said, path, host=host)
    return found if isinstance(found, OSError) else None


def asked_here(directory: bytes) -> OSError | None:
    """The same for a directory of this machine."""
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=directory, buffering=0) as handle:
            while handle.tell() < _MORE:
                handle.write(bytes(65536))
    except OSError as error:
        return error
    return None
