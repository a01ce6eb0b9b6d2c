"""Running local programs (rsync, scp) that start an ssh, which uses the master or fails."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, BinaryIO

from ..commands import limits
from ..commands.child import ANOTHER_STDIN, SILENT, not_started
from ..commands.marks import CUT_SHORT, READ, START, STATUS, Marks, exit_status
from ..commands.os_errors import errno_of, error_of, local_error
from ..commands.quoting import to_bytes, to_text
from ..errors import InvalidAnswer, TransferError
from ..openssh import process
from ..transport.process import guest_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..errors import CommandNotStarted
    from ..transport.base import Link
    from .lanes import Lanes

STEP = 0.25
"""Seconds between two calls of ``tick``."""
_LINGER = 1.0
_REFUSALS = ("refused by peer", "Control socket connect", "UNKNOWN port 65535",
             "kex_exchange_identification", "read from master failed")  # fmt: skip
_CUT = ("Connection closed", "Connection reset", "Broken pipe", "lost connection",
        "connection unexpectedly closed", "code 255")  # fmt: skip
# rsync: [receiver] write failed on "/x": No space left on device (28)
_ROLE = re.compile(
    r"\[(?P<role>\w+)\](?: [^\"\n]*\"(?P<name>[^\"\n]+)\")?.*?: (?P<words>[^:\n]+?) \(\d+\)\s*$",
    re.MULTILINE,
)


def run(
    lanes: Lanes,
    argv_of: Callable[[Link], Sequence[str | bytes]],
    *,
    what: str,
    path: bytes,
    local: bytes,
    sends: bool,
    stdin: bytes = b"",
    stdout: BinaryIO | None = None,
    tick: Callable[[int], object] = lambda pid: None,
    nonce: bytes = b"",
    whole: Callable[[int], bool] = lambda pid: False,
) -> None:
    """Run such a program to its end, on a session that counts against the limit.

    ``tick`` is called with its pid while it runs; ``stdout`` receives its output.  ``path`` and
    ``local`` are the paths for errors on the host and on this machine.  If the session was refused
    the program is started again, because it has not transferred anything.  ``nonce``: of the marks
    on stderr with which its other half begins and ends; raises ``CommandNotStarted`` if the first
    does not come.  Once that ended, or ``whole`` of the pid is true, for ``_LINGER`` seconds the
    program is ended: a process of an rc file may hold the session that it waits for.
    A program that failed without a message runs once more, to learn the reason: rsync loses the
    message of its other half about once in 300 times (measured with rsync 3.5 and a used-up quota).
    """
    ended: list[tuple[int, str]] = []

    def starter(link: Link) -> Link:
        limit = lanes.commands.login_shell.start_timeout
        try:
            code, said = _run(argv_of(link), stdin, stdout, tick, nonce, limit, whole)
        except InvalidAnswer as error:
            raise InvalidAnswer(error.message, host=lanes.host, command=what) from None
        marks = Marks(nonce, hold=False)
        if nonce:
            said = to_text(marks.feed(to_bytes(said)) + marks.rest())
        if code is None or marks.value(CUT_SHORT) is not None:
            raise _not_begun(lanes, what, marks, nonce, said, limit)
        if code not in (0, 127) and any(text in said for text in _REFUSALS):
            raise guest_error(said.encode("utf-8", "replace"))
        ended[:] = [(code, said)]
        return link

    for _attempt in range(2):
        link, slot = lanes.commands.sessions.start(starter, what=what, again=True)
        slot.release()
        code, said = ended[0]
        if code == 0 or said.strip():
            break
    if code != 0:
        raise _error(lanes, link, what, code, said, path, local, sends=sends)
    lanes.commands.sessions.confirmed()


def _run(
    argv: Sequence[str | bytes],
    stdin: bytes,
    stdout: BinaryIO | None,
    tick: Callable[[int], object],
    nonce: bytes,
    limit: float,
    whole: Callable[[int], bool],
) -> tuple[int | None, str]:
    """The program's status, ``None`` if its other half did not begin, and what it said."""
    import tempfile

    with tempfile.TemporaryFile() as wanted, tempfile.TemporaryFile() as stderr:
        wanted.write(stdin)
        wanted.seek(0)
        out = process.DEVNULL if stdout is None else stdout
        child = process.spawn(argv, stdin=wanted, stdout=out, stderr=stderr)
        began = over = time.monotonic()
        until = began + limit if nonce else None
        try:
            while not process.wait(child, STEP):
                tick(child.pid)
                _check_size("stderr", stderr, limits.NOISE + limits.WORDS)
                if stdout is not None:
                    _check_size("stdout", stdout, limits.LISTING)
                code = 0 if whole(child.pid) else _status(stderr, nonce)
                if code is None:
                    over = time.monotonic()
                elif time.monotonic() - over > _LINGER:
                    process.end(child)
                    return code, to_text(_said(stderr))
                if until is not None and nonce + b" " + READ in _said(stderr):
                    until = None
                if until is not None and time.monotonic() > until:
                    # An rc file there reads the stdin, or starts something else.
                    process.end(child)
                    return None, to_text(_said(stderr))
        except BaseException:
            process.end(child)
            raise
        return child.returncode, to_text(_said(stderr))


def _check_size(name: str, stream: BinaryIO, most: int) -> None:
    if os.fstat(stream.fileno()).st_size > most:
        raise InvalidAnswer(f"more than {most} bytes came on {name}")


def _status(stderr: BinaryIO, nonce: bytes) -> int | None:
    """How the other half ended, if it said so."""
    if not nonce or nonce + b" " + STATUS not in _said(stderr):
        return None
    marks = Marks(nonce, hold=False)
    marks.feed(_said(stderr))
    return exit_status(marks)


def _not_begun(
    lanes: Lanes, what: str, marks: Marks, nonce: bytes, said: str, limit: float
) -> CommandNotStarted:
    """End what began on the host and does not read its stdin; returns the error for it."""
    sessions, groups = lanes.commands.sessions, lanes.commands.groups
    pid = marks.number(START, 2**31 - 1)
    why = f"{SILENT} {limit:g} s"
    if pid is None:
        groups.end_unstarted(nonce)
    else:
        why = ANOTHER_STDIN
        if marks.value(CUT_SHORT) is None:
            groups.end([pid])
    return not_started(sessions, what, why=why, err=to_bytes(said))


def _said(stderr: BinaryIO) -> bytes:
    return os.pread(stderr.fileno(), limits.WORDS, 0)


def _error(
    lanes: Lanes,
    link: Link,
    what: str,
    code: int,
    said: str,
    path: bytes,
    local: bytes,
    *,
    sends: bool,
) -> Exception:
    said = said.strip()
    sessions = lanes.commands.sessions
    if any(text in said for text in _CUT) and not sessions.answers(link):
        sessions.forget(link)
        return sessions.lost(link, what)
    # A broken pipe on one side is a consequence of a failure on the other side.
    roles = [found for found in _ROLE.finditer(said) if found["words"] != "Broken pipe"]
    if roles:
        role = roles[0]
        there = (role["role"] != "sender") == sends
        top = path if there else local
        # A file in a tree: that one could not be read, not the whole.
        name = to_bytes(role["name"] or "")
        if role["role"] == "sender" and name.startswith(top.rstrip(b"/") + b"/"):
            top = name
        if there:
            return error_of(role["words"], top, host=lanes.host)
        return local_error(to_text(top), role["words"])
    lines = [line for line in said.splitlines() if line.strip()]
    if errno_of(lines[0] if lines else "") is not None:
        if lines[0].startswith((to_text(local), f"{what}: {to_text(local)}")):
            return local_error(to_text(local), lines[0])
        return error_of(lines[0], path, host=lanes.host)
    text = lines[0] if lines else f"ended with status {code} and without a message"
    advice = None
    if "is your shell clean" in said:
        advice = "The login shell there prints something before a command begins."
    return TransferError(f"{what}: {text}", host=lanes.host, sent="yes", advice=advice)
