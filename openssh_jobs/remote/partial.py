"""``resume=True``: going on with a part of our own that an earlier transfer left.

The name of a part says what it is a part of: the target (hashed), and the size and mtime of the
source.  A source that changed has another name, so that nothing of the old one is ever used; and
before anything is added the bytes that are there are compared with those of the source.  Every
piece is written at its own place, so that two that send the same file at once do no harm.
"""

from __future__ import annotations

import fcntl
import os
import posixpath
import stat
from typing import TYPE_CHECKING, NamedTuple

from ..errors import OpenSSHJobsError, TransferError, VerifyFailed
from . import checksums, ranges
from .oserrors import error_of
from .quoting import quote_path, to_text

if TYPE_CHECKING:
    from .options import Options, Site


class Part(NamedTuple):
    """A part's path, and the whole blocks of it that were found to be right."""

    path: bytes
    blocks: int


def _prefix(target: bytes) -> bytes:
    import hashlib

    return b".oj-" + hashlib.sha256(target).hexdigest()[:16].encode() + b"."


def _name(target: bytes, size: int, mtime_ns: int) -> bytes:
    return _prefix(target) + b"%x.%x.part" % (size, mtime_ns & (1 << 64) - 1)


def _usable(size_there: int, size: int) -> int:
    """Whole blocks of a part of a file of ``size`` bytes; a part that is longer is not ours."""
    return 0 if size_there > size else size_there // ranges.BLOCK


def find_remote(site: Site, source: bytes, target: bytes, facts: os.stat_result) -> Part:
    """The part on the host, compared; parts of what the source was before are removed."""
    parent = posixpath.dirname(target) or b"/"
    path = posixpath.join(parent, _name(target, facts.st_size, facts.st_mtime_ns))
    begin = posixpath.join(parent, _prefix(target))
    script = (
        b'p=%b; for o in %b*.part; do [ "$o" = "$p" ] || rm -f -- "$o"; done; '
        b'if [ -f "$p" ] && [ ! -L "$p" ] && [ -O "$p" ]; then wc -c < "$p"; '
        b'else rm -f -- "$p"; echo 0; fi' % (quote_path(path), quote_path(begin))
    )
    answer = site.shell.call(script, again=True)
    if answer.status != 0:
        raise error_of(to_text(answer.stderr), target, host=site.host)
    blocks = _usable(int(answer.stdout), facts.st_size)
    if blocks and checksums.can_compare(site):
        length = blocks * ranges.BLOCK
        if checksums.local(source, length) == checksums.remote(site, path, length):
            return Part(path, blocks)
    site.shell.call(b"rm -f -- " + quote_path(path), again=True)
    return Part(path, 0)


def send(site: Site, source: bytes, part: Part, size: int, options: Options) -> None:
    """The rest of a local file onto its part on the host; compared whole where it was continued."""
    if size == 0:
        site.shell.call(b"umask 077; : > " + quote_path(part.path), again=True)
    ranges.send(
        site.commands,
        source,
        part.path,
        size,
        site.host,
        lambda done: options.report(done, size, 0, 1, source),
        lanes=1,
        begin=part.blocks,
    )
    if part.blocks or options.verify:
        checksums.compare(site, source, part.path)


class Local:
    """A part on this machine, locked: one process at a time adds to it."""

    def __init__(self, site: Site, source: bytes, target: bytes, size: int, mtime_ns: int) -> None:
        parent = os.path.dirname(target) or b"."
        name = _name(os.path.abspath(target), size, mtime_ns)
        self.path = os.path.join(parent, name)
        flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        self._handle = os.open(self.path, flags, 0o600)
        try:
            self._lock()
            facts = os.fstat(self._handle)
            if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
                raise TransferError(f"{os.fsdecode(self.path)!r} is no part of ours")
            self._remove_others(parent, _prefix(os.path.abspath(target)), name)
            self.blocks = self._compared(site, source, size, facts.st_size)
            os.ftruncate(self._handle, self.blocks * ranges.BLOCK)
        except BaseException:
            os.close(self._handle)
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
            if other.startswith(prefix) and other.endswith(b".part") and other != name:
                os.unlink(os.path.join(parent, other))

    def _compared(self, site: Site, source: bytes, size: int, there: int) -> int:
        blocks = _usable(there, size)
        if not blocks or not checksums.can_compare(site):
            return 0
        length = blocks * ranges.BLOCK
        ours, theirs = checksums.local(self.path, length), checksums.remote(site, source, length)
        return blocks if ours == theirs else 0

    def receive(self, site: Site, source: bytes, size: int, options: Options) -> None:
        """The rest of a file of the host; compared whole where it was continued."""
        ranges.receive(
            site.commands,
            source,
            self.path,
            size,
            site.host,
            lambda done: options.report(done, size, 0, 1, source),
            lanes=1,
            begin=self.blocks,
        )
        if self.blocks or options.verify:
            checksums.compare(site, self.path, source)

    def close(self) -> None:
        """Let others have it."""
        os.close(self._handle)


def is_worthless(error: BaseException) -> bool:
    """Whether what arrived is known to be wrong, or belongs to a source that has changed."""
    return isinstance(error, (VerifyFailed, SourceChanged))


def say_how_to_go_on(error: BaseException, part: bytes) -> None:
    """Add to an error that the part was kept and how to use it."""
    text = f"What arrived is kept as {to_text(part)!r}: the same call with resume=True goes on."
    if isinstance(error, OpenSSHJobsError):
        error.advice = f"{error.advice.rstrip('.')}. {text}" if error.advice else text
    else:
        error.add_note(text)


def changed(source: bytes, host: str) -> TransferError:
    """The error where the source became another file while it was read."""
    return SourceChanged(
        f"{to_text(source)!r} is not whole: it changed while it was read", host=host, sent="yes"
    )


class SourceChanged(TransferError):
    """What was kept is a part of a file that is no more."""
