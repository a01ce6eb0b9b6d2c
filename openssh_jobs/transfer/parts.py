"""Removing parts (``.oj-….part``): after an error, and those of dead processes.

A part of ``resume=True`` has another name and stays: see ``resume``.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import logs, permissions
from ..commands import limits, scripts
from ..commands.os_errors import error_of, refused
from ..commands.quoting import quote_path, to_text, visible
from ..errors import ConnectionLost, InvalidAnswer, OpenSSHJobsError
from ..files.private_directory import functions
from ..files.writing import part_name
from ..openssh import pid_file
from . import listing
from .lanes import SCRIPTS

if TYPE_CHECKING:
    from .lanes import Lanes

log = logs.logger("openssh_jobs.transfer")

_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# --------------------------------------------------------------------------- after an error


def make_stage(lanes: Lanes, path: bytes, about: bytes) -> int:
    """Make the directory for a tree on the host; returns its number for ``remove_stage``.

    Raises the ``OSError`` of the path ``about``.
    """
    answer = lanes.shell.call(scripts.call(SCRIPTS, "oj_make_stage", scripts.path(path)))
    if answer.status != 0:
        raise error_of(to_text(answer.stderr), about, host=lanes.host)
    return stage_number(lanes, path, answer.stdout)


def stage_number(lanes: Lanes, path: bytes, line: bytes) -> int:
    """The inode number that a script printed for the stage that it made."""
    digits = line.strip()
    if not digits.isdigit() or len(digits) > limits.DIGITS:
        why = f"the host gave no number of {to_text(path)!r}"
        raise InvalidAnswer(why, host=lanes.host, command="put")
    return int(digits)


def enter_stage(path: bytes, number: int) -> bytes:
    """Shell text that enters the stage of a tree on the host, and ends where it is another one.

    Others who can rename in its parent could have put a link there.
    """
    return (
        # Blanks may stand before the number (BusyBox), quotes around the name (QUOTING_STYLE).
        b'cd -P -- %b && { n=$(ls -di .); n=${n#"${n%%%%[0-9]*}"}; [ "${n%%%%[!0-9]*}" = %d ] || '
        b"{ echo 'Operation not permitted' >&2; exit 1; }; }" % (quote_path(path), number)
    )


def refuse_shared(lanes: Lanes, directory: bytes, method: str) -> None:
    """Raise ``PermissionError`` for a directory on the host in which others can replace names.

    For methods that open a name again after it was made, and follow links then.
    """
    script = functions().encode() + b"cd -P " + scripts.path(directory)
    script += b' || exit 2\noj_check 0 all || echo "$oj_why"'
    answer = lanes.shell.call(script, again=True)
    if answer.status != 0:
        raise error_of(to_text(answer.stderr), directory, host=lanes.host)
    if answer.stdout:
        detail = visible(answer.stdout.strip())
        error = refused(errno.EPERM, to_text(directory), host=lanes.host, detail=detail)
        error.advice = f"Leave method={method!r} out."
        raise error


def remove_stage(lanes: Lanes, error: BaseException, path: bytes, number: int | None) -> None:
    """Remove the stage of a tree on the host after ``error``.

    Without a ``number`` the stage was not confirmed, and is empty.
    """
    script = b"rmdir -- " + quote_path(path)
    if number is not None:
        script = scripts.call(SCRIPTS, "oj_remove_stage", scripts.path(path), number)
    _remove_now_or_later(lanes, error, path, script)


def make_remote(lanes: Lanes, part: bytes) -> None:
    """Make the empty part of a single file on the host, which only this user can read."""
    answer = lanes.shell.call(scripts.call(SCRIPTS, "oj_make_part", scripts.path(part)), again=True)
    if answer.status != 0:
        raise error_of(to_text(answer.stderr), part, host=lanes.host)


def remove_remote(lanes: Lanes, error: BaseException, part: bytes) -> None:
    """Remove the part of a single file on the host after ``error``."""
    _remove_now_or_later(lanes, error, part, b"rm -f -- " + quote_path(part))


def _remove_now_or_later(lanes: Lanes, error: BaseException, part: bytes, script: bytes) -> None:
    """Run a script that removes a part; without a link, run it with the next call."""
    if isinstance(error, ConnectionLost):
        lanes.shell.later(script)
        return
    try:
        lanes.shell.call(b"( %b\n) 2>/dev/null" % script, again=True)
    except (OpenSSHJobsError, OSError) as problem:
        lanes.shell.later(script)
        log.warning("%s: to be removed later: %s (%s)", lanes.host, to_text(part), problem)


def remove_local(path: bytes) -> None:
    """Remove the part of a single file here."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        _warn_not_removed(path, error)


def make_local_stage(path: bytes) -> int:
    """Make the directory for a tree here; returns its number for ``remove_local_stage``."""
    os.mkdir(path, 0o700)
    # Others who can rename there could have put another directory of ours in its place already.
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        about = os.fstat(handle)
        theirs = about.st_uid != os.geteuid() or os.listdir(handle)
        if theirs or (about.st_mode & 0o022 and _keeps_modes(handle)):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), os.fsdecode(path))
        return about.st_ino
    finally:
        os.close(handle)


def _keeps_modes(directory: int) -> bool:
    """Whether the file system of a directory keeps modes: FAT and exFAT do not."""
    name = part_name()
    os.mkdir(name, 0o700, dir_fd=directory)
    try:
        return not os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode & 0o022
    finally:
        os.rmdir(name, dir_fd=directory)


def remove_local_stage(path: bytes, number: int | None) -> None:
    """Remove the stage of a tree here, if its inode number is still ``number``.

    Its contents are removed from inside: users who can rename in the parent could have put another
    directory of the user in its place.  Without a number only an empty directory is removed.
    """
    try:
        if number is not None and not _emptied(path, number):
            return
        os.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        _warn_not_removed(path, error)


def _emptied(path: bytes, number: int) -> bool:
    """Remove the contents of a directory; false if its inode has another number."""
    handle = _opened(path, number)
    try:
        if os.fstat(handle).st_ino != number:
            return False
        os.fchmod(handle, 0o700)
        # Not shutil.rmtree or os.fwalk: they call themselves and hold a descriptor for each level,
        # and the host has chosen how deep the tree is.
        directories = ["."]
        for directory in directories:
            place = os.open(directory, os.O_RDONLY | _DIRECTORY, dir_fd=handle)
            try:
                for name in os.listdir(place):
                    if stat.S_ISDIR(os.lstat(name, dir_fd=place).st_mode):
                        os.chmod(name, 0o700, dir_fd=place)
                        directories.append(f"{directory}/{name}")
                    else:
                        os.unlink(name, dir_fd=place)
            finally:
                os.close(place)
        for directory in reversed(directories[1:]):
            os.rmdir(directory, dir_fd=handle)
    finally:
        os.close(handle)
    return True


def _opened(path: bytes, number: int) -> int:
    """A descriptor of a directory, also if its mode does not even let its owner in."""
    try:
        return os.open(path, os.O_RDONLY | _DIRECTORY)
    except PermissionError:
        parent = os.path.realpath(os.fsdecode(os.path.dirname(path) or b"."))
        if hasattr(os, "O_PATH") and os.path.exists("/proc/self/fd"):
            handle = os.open(path, os.O_PATH | _DIRECTORY)
            try:
                if os.fstat(handle).st_ino == number:
                    os.chmod(f"/proc/self/fd/{handle}", 0o700)
            finally:
                os.close(handle)
        elif permissions.problem_with(parent) is None and os.lstat(path).st_ino == number:
            # Nobody else can put another directory in its place meanwhile.
            os.chmod(path, 0o700, follow_symlinks=os.chmod not in os.supports_follow_symlinks)
        return os.open(path, os.O_RDONLY | _DIRECTORY)


def _warn_not_removed(path: bytes, error: OSError) -> None:
    if os.path.lexists(path):
        log.warning("not removed: %s (%s)", os.fsdecode(path), error)


# --------------------------------------------------------------------------- after a dead process

_DAYS = 7
"""Age after which a part is dead if its process ran on another machine."""
# The form of part_name; names by older versions and of copies on the host have no pid.
_LEFT = re.compile(rb"\.oj-[0-9a-f]+(?:\.([0-9]+-[0-9a-f]+-[0-9a-f]{8}-[0-9a-f]{8}))?\.partd?\Z")


def _is_dead(name: bytes, old: bool) -> bool:
    """Whether the process of a part has ended; ``old`` if that is unknown."""
    found = _LEFT.match(name)
    if found is None:
        return False
    gone = pid_file.ended(found[1].decode()) if found[1] is not None else None
    return old if gone is None else gone


def _newest(path: bytes) -> float:
    """The time of the last change of anything in a part, in seconds since 1970."""
    below = (facts.st_mtime for facts in listing.facts_below(path))
    return max(os.lstat(path).st_mtime, *below, 0.0)


def sweep_here(parent: bytes) -> None:
    """Remove the parts in a local directory whose processes are dead.

    A tree is removed only if no other user could have given it that name.
    """
    parent = parent or b"."
    try:
        with os.scandir(parent) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(b".oj-")]
    except OSError as error:
        log.info("dead parts in %s were not removed: %s", os.fsdecode(parent), error)
        return
    for name in names:
        try:
            _remove_dead(parent, name)
        except FileNotFoundError:
            pass  # another process has removed it
        except OSError as error:
            log.info("not removed: %s (%s)", os.fsdecode(os.path.join(parent, name)), error)


def _remove_dead(parent: bytes, name: bytes) -> None:
    path = os.path.join(parent, name)
    facts = os.lstat(path)
    old = _newest(path) < time.time() - _DAYS * 86400
    if facts.st_uid != os.geteuid() or not _is_dead(name, old):
        return
    if not stat.S_ISDIR(facts.st_mode):
        os.unlink(path)
    elif permissions.problem_with(os.path.realpath(os.fsdecode(parent))) is None:
        remove_local_stage(path, facts.st_ino)


def list_words() -> tuple[str, int]:
    """Arguments of ``oj_list_parts``, whose answer is for ``sweep_there``."""
    return pid_file.call().split("-", 2)[2], _DAYS - 1


def dead_names(listed: bytes) -> list[bytes]:
    """Of the parts that ``oj_list_parts`` printed, those whose processes are dead."""
    records = listed.split(b"\0")[:-1]
    return [record[1:] for record in records if _is_dead(record[1:], record[:1] == b"o")]


def sweep_script(parent: bytes, names: Sequence[bytes]) -> bytes:
    """Shell text that removes these parts in a directory on the host."""
    words = [scripts.path(name) for name in names]
    sweep = scripts.call(SCRIPTS, "oj_sweep_parts", scripts.path(parent), words)
    return functions().encode() + sweep


def sweep_there(lanes: Lanes, parent: bytes, listed: bytes) -> None:
    """Remove, with the next command, those of the listed parts whose processes are dead."""
    names = dead_names(listed)
    if names:
        lanes.shell.later(sweep_script(parent, names))
