"""Parts (``.oj-….part``) of what is not complete: removed after an error, and after a dead process.

A part of ``resume=True`` has another name and stays: see ``resume``.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import stat
import time
from typing import TYPE_CHECKING

from .. import permissions
from ..commands.quoting import quote_path, to_text
from ..errors import ConnectionLost, OpenSSHJobsError
from ..files.private_directory import functions
from ..openssh import pid_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from .lanes import Lanes

log = logging.getLogger("openssh_jobs.transfer")

# --------------------------------------------------------------------------- after an error


def remove_remote(lanes: Lanes, error: BaseException, part: bytes) -> None:
    """Remove a part on the host after ``error``; without a link, with the next call over one."""
    script = b"chmod -R u+rwx %b; rm -rf -- %b" % (quote_path(part), quote_path(part))
    if isinstance(error, ConnectionLost):
        lanes.shell.later(script)
        return
    try:
        lanes.shell.call(b"( %b ) 2>/dev/null" % script, again=True)
    except (OpenSSHJobsError, OSError) as problem:
        lanes.shell.later(script)
        log.warning("%s: to be removed later: %s (%s)", lanes.host, to_text(part), problem)


def remove_local(path: bytes) -> None:
    """Remove a local part, also a tree with directories that nobody may enter."""

    def retry(function: Callable[[str], object], name: str, _: object) -> None:
        os.chmod(os.path.dirname(name) or ".", 0o700)
        if not os.path.islink(name):  # chmod(2) would change what it points to
            os.chmod(name, 0o700)
        function(name)

    try:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(os.fsdecode(path), onerror=retry)
        else:
            os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        if os.path.lexists(path):
            log.warning("not removed: %s (%s)", os.fsdecode(path), error)


# --------------------------------------------------------------------------- after a dead process

_DAYS = 7
"""Age from which on a part is dead whose process ran on another machine."""
# As part_name makes it; older versions and copies on the host name no process.
_LEFT = re.compile(rb"\.oj-[0-9a-f]+(?:\.([0-9]+-[0-9a-f]+-[0-9a-f]{8}-[0-9a-f]{8}))?\.partd?\Z")


def _is_dead(name: bytes, old: bool) -> bool:
    """Whether the process of a part has ended; where that is not known, whether it is ``old``."""
    found = _LEFT.match(name)
    if found is None:
        return False
    gone = pid_file.ended(found[1].decode()) if found[1] is not None else None
    return old if gone is None else gone


def _newest(path: bytes) -> float:
    """The time of the last change of anything in a part, in seconds since 1970."""
    times = [os.lstat(path).st_mtime]
    for top, folders, files in os.walk(path):
        times += (os.lstat(os.path.join(top, name)).st_mtime for name in (*folders, *files))
    return max(times)


def sweep_here(parent: bytes) -> None:
    """Remove the parts in a local directory whose processes are dead.

    A tree is removed only where nobody else could have given it that name.
    """
    parent = parent or b"."
    try:
        with os.scandir(parent) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(b".oj-")]
        for name in names:
            path = os.path.join(parent, name)
            facts = os.lstat(path)
            old = _newest(path) < time.time() - _DAYS * 86400
            if facts.st_uid != os.geteuid() or not _is_dead(name, old):
                continue
            if not stat.S_ISDIR(facts.st_mode):
                os.unlink(path)
            elif permissions.problem_with(os.path.realpath(os.fsdecode(parent))) is None:
                remove_local(path)
    except OSError as error:
        log.info("dead parts in %s were not removed: %s", os.fsdecode(parent), error)


def list_left(parent: bytes) -> bytes:
    """Shell text that prints our parts in a directory of the host, for ``sweep_there``.

    Each is ``o`` (old) or ``n`` and the name, ended by NUL.
    """
    where = quote_path(parent.rstrip(b"/") + b"/.oj-")
    ours = b"*-" + pid_file.call().split("-", 2)[2].encode() + b".part*"
    return (
        b'{ for o in %b*.part %b*.partd; do [ -O "$o" ] && [ ! -L "$o" ] || continue; a=n; '
        b"case $o in %b) ;; "
        b'*) f=$(find "$o" ! -mtime +%d 2>/dev/null) && [ -z "$f" ] && a=o;; esac; '
        b'printf "%%s\\0" "$a${o##*/}"; done; :; }' % (where, where, ours, _DAYS - 1)
    )


def sweep_there(lanes: Lanes, parent: bytes, listed: bytes) -> None:
    """Remove, with the next command, those of the listed parts whose processes are dead."""
    records = listed.split(b"\0")[:-1]
    names = [record[1:] for record in records if _is_dead(record[1:], record[:1] == b"o")]
    if not names:
        return
    words = b" ".join(quote_path(name) for name in names)
    lanes.shell.later(
        functions().encode()
        + b'cd -P %b && for o in %b; do [ -O "$o" ] && [ ! -L "$o" ] || continue; '
        b'if [ ! -d "$o" ]; then rm -f -- "$o"; elif (oj_check 0 all); then '
        b'chmod -R u+rwx "$o"; rm -rf -- "$o"; fi; done' % (quote_path(parent), words)
    )
