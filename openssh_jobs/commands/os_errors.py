"""The errno behind the error message of a program on the host, in the C locale.  Pure.

mkdir, stat, mv and most others end their line with the text of strerror(3).  glibc, musl and the
BSDs have the same texts, but for a few that are here in both forms.
"""

from __future__ import annotations

import errno
import re

from ..errors import NoSpace, RemoteOSError, TransferError, remote_oserror

_TEXTS = {
    "no such file or directory": errno.ENOENT,
    "no such file": errno.ENOENT,
    "not found": errno.ENOENT,
    "nonexistent directory": errno.ENOENT,
    "directory nonexistent": errno.ENOENT,
    "permission denied": errno.EACCES,
    "operation not permitted": errno.EPERM,
    "file exists": errno.EEXIST,
    "not a directory": errno.ENOTDIR,
    "is a directory": errno.EISDIR,
    "directory not empty": errno.ENOTEMPTY,
    "no space left on device": errno.ENOSPC,
    # GNU tar, for a short write.
    "wrote only # of # bytes": errno.ENOSPC,
    "disk quota exceeded": errno.EDQUOT,
    "disc quota exceeded": errno.EDQUOT,
    "quota exceeded": errno.EDQUOT,
    "read-only file system": errno.EROFS,
    "file name too long": errno.ENAMETOOLONG,
    "filename too long": errno.ENAMETOOLONG,
    "too many levels of symbolic links": errno.ELOOP,
    "symbolic link loop": errno.ELOOP,
    "too many symbolic links": errno.ELOOP,
    "invalid argument": errno.EINVAL,
    "input/output error": errno.EIO,
    "i/o error": errno.EIO,
    "text file busy": errno.ETXTBSY,
    "device or resource busy": errno.EBUSY,
    "resource busy": errno.EBUSY,
    "cross-device link": errno.EXDEV,
    "invalid cross-device link": errno.EXDEV,
    "stale file handle": errno.ESTALE,
    "stale nfs file handle": errno.ESTALE,
    "file too large": errno.EFBIG,
    "file size limit exceeded": errno.EFBIG,
    "too many open files": errno.EMFILE,
    "transport endpoint is not connected": errno.ENOTCONN,
    "required key not available": getattr(errno, "ENOKEY", errno.EACCES),
    "cannot allocate memory": errno.ENOMEM,
}
_TAIL = re.compile(r"[:(]?\s*([^:]+?)\)?\.?\s*\Z")


def errno_of(stderr: str) -> int | None:
    """The errno of the last line with a known text; ``None`` if no line has one."""
    for line in reversed(stderr.strip().splitlines()):
        lowered = re.sub(r"\bonly \d+ of \d+\b", "only # of #", line.strip().lower())
        # The text is at the end; the pattern is slow on a long line.
        found = _TAIL.search(lowered[-500:])
        if lowered.startswith('file "') and lowered.endswith('" not found.'):
            return errno.ENOENT
        if found and found[1].strip() in _TEXTS:
            return _TEXTS[found[1].strip()]
        for text, number in _TEXTS.items():
            if len(text) > 10 and lowered.endswith(text):
                return number
    return None


def refused(number: int, path: str | bytes, *, host: str, detail: str) -> RemoteOSError:
    """The error for a path that is refused on this machine: nothing was sent."""
    error = remote_oserror(number, path, host=host, detail=detail)
    error.sent = "no"
    return error


def error_of(stderr: str, path: str | bytes, *, host: str) -> RemoteOSError:
    """The error of a path from a program's stderr; EIO with its text where no errno is known."""
    number = errno_of(stderr)
    if number is not None:
        return remote_oserror(number, path, host=host)
    message = " ".join(stderr.split())[:300] or "no reason given"
    return remote_oserror(errno.EIO, path, host=host, detail=message)


def local_error(path: str, message: str) -> OSError | TransferError:
    """The error of a local path from the stderr of a local program."""
    number = errno_of(message)
    if number == errno.ENOSPC:
        return NoSpace(f"no space left here: {message}", path=path, number=number, sent="yes")
    if number is not None:
        return OSError(number, message, path)
    return TransferError(f"it failed here: {message} ({path!r})", sent="yes")
