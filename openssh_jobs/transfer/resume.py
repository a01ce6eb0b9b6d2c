"""``resume=True``: continue with the part that an earlier transfer of the same file left.

The name of such a part is made of the target (hashed), and the size and mtime of the source, so the
part of a source that has changed is never used.  Before anything is appended, the existing bytes
are compared with the source.  Every block is written at its own offset, so that two processes that
send the same file concurrently do no harm.
"""

from __future__ import annotations

import errno
import fcntl
import os
import posixpath
import stat
from typing import TYPE_CHECKING, NamedTuple

from .. import permissions
from ..commands import limits, scripts
from ..commands.os_errors import error_of
from ..commands.quoting import to_text
from ..errors import InvalidAnswer, OpenSSHJobsError, TransferError, VerifyFailed
from . import checksums, parallel
from .lanes import SCRIPTS

if TYPE_CHECKING:
    from .lanes import Lanes
    from .options import Options


class RemotePart(NamedTuple):
    """A part on the host: its path, and the count of blocks that match the source."""

    path: bytes
    blocks: int


def _prefix(target: bytes) -> bytes:
    import hashlib

    return b".oj-" + hashlib.sha256(target).hexdigest()[:16].encode() + b"."


def resumable_name(target: bytes, size: int, mtime_ns: int) -> bytes:
    """The name of the part of a source with this size and mtime for ``target``."""
    return _prefix(target) + b"%x.%x.part" % (size, mtime_ns & (1 << 64) - 1)


def _usable(size_there: int, size: int) -> int:
    """The count of whole blocks in a part of a file of ``size`` bytes; 0 if it is too long."""
    return 0 if size_there > size else size_there // parallel.BLOCK


def find_remote(lanes: Lanes, source: bytes, target: bytes, facts: os.stat_result) -> RemotePart:
    """Find the part on the host and compare it; remove parts of earlier versions of the source."""
    parent = posixpath.dirname(target) or b"/"
    path = posixpath.join(parent, resumable_name(target, facts.st_size, facts.st_mtime_ns))
    begin = posixpath.join(parent, _prefix(target))
    script = scripts.call(SCRIPTS, "oj_find_part", scripts.path(path), scripts.path(begin))
    answer = lanes.shell.call(script, again=True)
    if answer.status == 3:
        raise _not_ours(path, lanes.host)
    if answer.status != 0:
        raise error_of(to_text(answer.stderr), target, host=lanes.host)
    count = answer.stdout.strip()
    if not count.isdigit() or len(count) > limits.DIGITS:
        raise InvalidAnswer(
            f"the host gave no size of {to_text(path)!r}", host=lanes.host, command="put"
        )
    blocks = _usable(int(count), facts.st_size)
    if blocks and checksums.can_compare(lanes):
        length = blocks * parallel.BLOCK
        if checksums.local(source, length) == checksums.remote(lanes, path, length):
            return RemotePart(path, blocks)
    answer = lanes.shell.call(scripts.call(SCRIPTS, "oj_make_part", scripts.path(path)))
    if answer.status != 0:
        raise _not_ours(path, lanes.host)
    return RemotePart(path, 0)


def _not_ours(path: bytes, host: str | None) -> TransferError:
    return TransferError(
        f"{to_text(path)!r} is not a regular file that only you can write: "
        "it is not used as a part",
        host=host,
        advice="Remove it, or leave resume=True out.",
    )


def send(lanes: Lanes, source: bytes, part: RemotePart, size: int, options: Options) -> None:
    """Send the rest of a local file; compare the whole file if a part existed."""
    parallel.send(
        lanes.commands,
        source,
        part.path,
        size,
        lanes.host,
        lambda done: options.report(done, size, 0, 1, source),
        ranges=1,
        begin=part.blocks,
    )
    if part.blocks or options.verify:
        checksums.compare(lanes, source, part.path)


class LocalPart:
    """A part on this machine, locked: one process at a time writes to it."""

    def __init__(
        self, lanes: Lanes, source: bytes, target: bytes, size: int, mtime_ns: int
    ) -> None:
        parent = os.path.dirname(target) or b"."
        name = resumable_name(os.path.abspath(target), size, mtime_ns)
        self.path = os.path.join(parent, name)
        self._handle = self._open()
        try:
            self._lock()
            facts = os.fstat(self._handle)
            self._remove_others(parent, _prefix(os.path.abspath(target)), name)
            self.blocks = self._compared(lanes, source, size, facts.st_size)
            os.ftruncate(self._handle, self.blocks * parallel.BLOCK)
        except BaseException:
            os.close(self._handle)
            raise

    def _open(self) -> int:
        """Create the part, or open the existing one if no other user can write to it."""
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(self.path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        try:
            return permissions.opener(self.path, os.O_RDWR)
        except (PermissionError, IsADirectoryError) as error:
            raise _not_ours(self.path, None) from error
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EMLINK):
                raise _not_ours(self.path, None) from error
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TransferError(
                f"another process is getting {os.fsdecode(self.path)!r} now"
            ) from None

    @staticmethod
    def _remove_others(parent: bytes, prefix: bytes, name: bytes) -> None:
        for other in os.listdir(parent):
            if not other.startswith(prefix) or not other.endswith(b".part") or other == name:
                continue
            facts = os.lstat(os.path.join(parent, other))
            if facts.st_uid == os.geteuid() and stat.S_ISREG(facts.st_mode):
                os.unlink(os.path.join(parent, other))

    def _compared(self, lanes: Lanes, source: bytes, size: int, there: int) -> int:
        blocks = _usable(there, size)
        if not blocks or not checksums.can_compare(lanes):
            return 0
        length = blocks * parallel.BLOCK
        ours, theirs = checksums.local(self.path, length), checksums.remote(lanes, source, length)
        return blocks if ours == theirs else 0

    def receive(self, lanes: Lanes, source: bytes, size: int, options: Options) -> None:
        """Receive the rest of a file of the host; compare the whole file if a part existed."""
        parallel.receive(
            lanes.commands,
            source,
            self.path,
            size,
            lanes.host,
            lambda done: options.report(done, size, 0, 1, source),
            ranges=1,
            begin=self.blocks,
        )
        if self.blocks or options.verify:
            checksums.compare(lanes, self.path, source)

    def close(self) -> None:
        """Release the lock."""
        os.close(self._handle)


def is_worthless(error: BaseException) -> bool:
    """Whether the error says that the part is wrong, or that its source has changed."""
    return isinstance(error, (VerifyFailed, SourceChanged))


def say_how_to_go_on(error: BaseException, part: bytes) -> None:
    """Add to an error that the part is kept, and the call that continues with it."""
    error.kept_part = to_text(part)  # type: ignore[attr-defined] # for the command line
    text = f"What arrived is kept as {to_text(part)!r}: the same call with resume=True goes on."
    if isinstance(error, OpenSSHJobsError):
        error.advice = f"{error.advice.rstrip('.')}. {text}" if error.advice else text
    else:
        error.add_note(text)


def changed(source: bytes, host: str) -> TransferError:
    """The error for a source that changed while it was read."""
    return SourceChanged(
        f"{to_text(source)!r} is not whole: it changed while it was read", host=host, sent="yes"
    )


class SourceChanged(TransferError):
    """The source changed while it was read: its part is useless."""
