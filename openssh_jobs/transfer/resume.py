"""``resume=True``: going on with a part of our own that an earlier transfer left.

The name of a part says what it is a part of: the target (hashed), and the size and mtime of the
source.  A source that changed has another name, so that nothing of the old one is ever used; and
before anything is added the bytes that are there are compared with those of the source.  Every
piece is written at its own place, so that two that send the same file at once do no harm.

And what becomes of parts whose process was killed: the next transfer into the same directory
removes them (``sweep_here``, ``sweep_there``), where that process is known to be dead.
"""

from __future__ import annotations

import errno
import fcntl
import os
import posixpath
import re
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

from .. import permissions
from ..commands import limits
from ..commands.os_errors import error_of
from ..commands.quoting import quote_path, to_text
from ..errors import InvalidAnswer, OpenSSHJobsError, TransferError, VerifyFailed
from ..files.private_directory import functions
from ..openssh import pid_file
from . import checksums, parallel, streams

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
    return 0 if size_there > size else size_there // parallel.BLOCK


def find_remote(site: Site, source: bytes, target: bytes, facts: os.stat_result) -> Part:
    """The part on the host, compared; parts of what the source was before are removed."""
    parent = posixpath.dirname(target) or b"/"
    path = posixpath.join(parent, _name(target, facts.st_size, facts.st_mtime_ns))
    begin = posixpath.join(parent, _prefix(target))
    script = (
        b'p=%b; for o in %b*.part; do [ "$o" = "$p" ] || [ -L "$o" ] || [ ! -O "$o" ] || '
        b'rm -f -- "$o"; done; if [ ! -e "$p" ] && [ ! -L "$p" ]; then echo 0; else '
        b'n=$(find "$p" -prune -type f -links 1 -user "$(id -u)" ! -perm -0020 ! -perm -0002 '
        b'-print); [ -n "$n" ] || exit 3; wc -c < "$p"; fi' % (quote_path(path), quote_path(begin))
    )
    answer = site.shell.call(script, again=True)
    if answer.status == 3:
        raise _not_ours(path, site.host)
    if answer.status != 0:
        raise error_of(to_text(answer.stderr), target, host=site.host)
    told = answer.stdout.strip()
    if not told.isdigit() or len(told) > limits.DIGITS:
        raise InvalidAnswer(
            f"the host told no size of {to_text(path)!r}", host=site.host, command="put"
        )
    blocks = _usable(int(told), facts.st_size)
    if blocks and checksums.can_compare(site):
        length = blocks * parallel.BLOCK
        if checksums.local(source, length) == checksums.remote(site, path, length):
            return Part(path, blocks)
    # Made by ourselves and by nobody else: what lies there is what was looked at above, or nothing.
    script = (
        b'p=%b; { [ ! -O "$p" ] || [ -L "$p" ] || rm -f -- "$p"; } && (umask 077; set -C; : > "$p")'
    )
    answer = site.shell.call(script % quote_path(path))
    if answer.status != 0:
        raise _not_ours(path, site.host)
    return Part(path, 0)


def _not_ours(path: bytes, host: str | None) -> TransferError:
    return TransferError(
        f"{to_text(path)!r} is no part of ours: somebody else has made it",
        host=host,
        advice="Leave resume=True out, or remove it.",
    )


def send(site: Site, source: bytes, part: Part, size: int, options: Options) -> None:
    """The rest of a local file onto its part on the host; compared whole where it was continued."""
    parallel.send(
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
        self._handle = self._open()
        try:
            self._lock()
            facts = os.fstat(self._handle)
            self._remove_others(parent, _prefix(os.path.abspath(target)), name)
            self.blocks = self._compared(site, source, size, facts.st_size)
            os.ftruncate(self._handle, self.blocks * parallel.BLOCK)
        except BaseException:
            os.close(self._handle)
            raise

    def _open(self) -> int:
        """Make it, or open the one that is there if it is ours alone."""
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
            if _is_ours(facts) and stat.S_ISREG(facts.st_mode):
                os.unlink(os.path.join(parent, other))

    def _compared(self, site: Site, source: bytes, size: int, there: int) -> int:
        blocks = _usable(there, size)
        if not blocks or not checksums.can_compare(site):
            return 0
        length = blocks * parallel.BLOCK
        ours, theirs = checksums.local(self.path, length), checksums.remote(site, source, length)
        return blocks if ours == theirs else 0

    def receive(self, site: Site, source: bytes, size: int, options: Options) -> None:
        """The rest of a file of the host; compared whole where it was continued."""
        parallel.receive(
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


# --------------------------------------------------------------------------- what was left behind

_DAYS = 7
# As part_name makes it; without the process as older versions did, and as a copy on the host.
_LEFT = re.compile(rb"\.oj-[0-9a-f]+(?:\.([0-9]+-[0-9a-f]+-[0-9a-f]{8}-[0-9a-f]{8}))?\.partd?\Z")


def _is_ours(facts: os.stat_result) -> bool:
    return facts.st_uid == os.geteuid()


def _is_dead(name: bytes, old: bool) -> bool:
    """Whether a part is one that nobody will go on with.  ``old``: nothing in it is younger."""
    found = _LEFT.match(name)
    if found is None:
        return False
    gone = pid_file.ended(found[1].decode()) if found[1] is not None else None
    return old if gone is None else gone


def _newest(path: bytes) -> float:
    """When something in a part was changed last, by the clock of its file system."""
    times = [os.lstat(path).st_mtime]
    for top, folders, files in os.walk(path):
        times += (os.lstat(os.path.join(top, name)).st_mtime for name in (*folders, *files))
    return max(times)


def sweep_here(parent: bytes) -> None:
    """Remove the parts in a directory of this machine whose processes are dead.

    A tree only where nobody else could have given it that name.
    """
    parent = parent or b"."
    try:
        with os.scandir(parent) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(b".oj-")]
        for name in names:
            path = os.path.join(parent, name)
            facts = os.lstat(path)
            old = _newest(path) < time.time() - _DAYS * 86400
            if not _is_ours(facts) or not _is_dead(name, old):
                continue
            if not stat.S_ISDIR(facts.st_mode):
                os.unlink(path)
            elif permissions.problem_with(os.path.realpath(os.fsdecode(parent))) is None:
                streams.remove_local(path)
    except OSError as error:
        streams.log.info("parts in %s were not looked at: %s", os.fsdecode(parent), error)


def list_left(parent: bytes) -> bytes:
    """Shell text that prints the parts of ours in a directory of the host, for ``sweep_there``."""
    where = quote_path(parent.rstrip(b"/") + b"/.oj-")
    ours = b"*-" + pid_file.call().split("-", 2)[2].encode() + b".part*"
    return (
        b'{ for o in %b*.part %b*.partd; do [ -O "$o" ] && [ ! -L "$o" ] || continue; a=n; '
        b"case $o in %b) ;; "
        b'*) f=$(find "$o" ! -mtime +%d 2>/dev/null) && [ -z "$f" ] && a=o;; esac; '
        b'printf "%%s\\0" "$a${o##*/}"; done; :; }' % (where, where, ours, _DAYS - 1)
    )


def sweep_there(site: Site, parent: bytes, listed: bytes) -> None:
    """Remove, with the next command, those of the listed parts whose processes are dead."""
    names = [one[1:] for one in listed.split(b"\0")[:-1] if _is_dead(one[1:], one[:1] == b"o")]
    if not names:
        return
    words = b" ".join(quote_path(name) for name in names)
    site.shell.later(
        functions().encode()
        + b'cd -P %b && for o in %b; do [ -O "$o" ] && [ ! -L "$o" ] || continue; '
        b'if [ ! -d "$o" ]; then rm -f -- "$o"; elif (oj_check 0 all); then '
        b'chmod -R u+rwx "$o"; rm -rf -- "$o"; fi; done' % (quote_path(parent), words)
    )
