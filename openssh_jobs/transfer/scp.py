"""``method="scp"``: single files by scp's old protocol, for hosts without an sftp subsystem.

With the old protocol the login shell on the host interprets the name: every character of it that
could be special is escaped by a backslash.
"""

from __future__ import annotations

import os
import posixpath
import re
import time
from typing import TYPE_CHECKING

from ..commands import limits
from ..commands.child import SILENT, not_started
from ..commands.quoting import quote_path, to_text
from ..commands.stdio import Movement
from ..errors import TransferError, UnrepresentableName
from ..openssh import ssh_config
from . import local_programs, parts, progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..transport.base import Link
    from .lanes import Lanes

_SPECIAL = re.compile(rb"[^A-Za-z0-9_/.\x80-\xff-]")
STALL = 300
"""Seconds in which fewer than ``limits.TRICKLE`` bytes move, after which a transfer fails."""
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


def remote_word(path: bytes) -> bytes:
    """Quote a path on the host for scp's old protocol.

    Raises ``UnrepresentableName`` for control characters: a newline ends a line of the protocol,
    and not every login shell accepts the others behind a backslash.
    """
    if _CONTROL.search(path):
        raise UnrepresentableName(
            f"scp's protocol cannot express the name {to_text(path)!r}", advice="Leave method= out."
        )
    return _SPECIAL.sub(lambda found: b"\\" + found[0], path)


def _argv(lanes: Lanes, link: Link) -> list[str]:
    program = lanes.commands.sessions.program(link, "scp")
    if program is None:
        raise TransferError(
            "there is no ssh to copy over with scp", host=lanes.host, advice="Leave method= out."
        )
    old_protocol = ["-O"] if ssh_config.ssh_version().has("scp_sftp_mode") else []
    return [*program, "-B", *old_protocol]


def _watched(
    lanes: Lanes,
    tick: Callable[[int], object],
    moved: Callable[[int], int | None],
    *,
    sends: bool,
) -> Callable[[int], object]:
    """``tick`` that raises an error if no data moves: scp itself would wait for ever.

    The one that sends writes nothing before the other one has answered.
    """
    seen, movement = moved(0) or 0, Movement()
    start_timeout = lanes.commands.login_shell.start_timeout

    def both(pid: int) -> None:
        nonlocal seen
        tick(pid)
        now = moved(pid)
        movement.add(limits.TRICKLE if now is None else abs(now - seen))
        seen = now or 0
        still = time.monotonic() - movement.at
        if sends and now == 0 and still > start_timeout:
            raise not_started(lanes.commands.sessions, "scp", why=f"{SILENT} {start_timeout:g} s")
        if still > STALL:
            raise TransferError(f"nothing moved for {STALL} s", host=lanes.host, sent="yes")

    return both


def send(lanes: Lanes, source: bytes, part: bytes, report: Callable[[int], object]) -> None:
    """Send a local file (an absolute path) to ``part`` on the host.

    ``report`` is called with the count of bytes that scp has read.
    """
    word = b"none:" + remote_word(part)
    if b"\n" in source:
        remote_word(source)

    opened, size = False, os.stat(source).st_size

    def tick(pid: int) -> None:
        nonlocal opened
        done = progress.descriptor_offset(pid, source)
        if done is not None:
            opened = True
            report(done)

    def whole(pid: int) -> bool:
        if not opened or progress.descriptor_offset(pid, source) is not None:
            return False
        there = lanes.shell.call(b"wc -c < " + quote_path(part), again=True)
        return there.status == 0 and there.stdout.strip() == b"%d" % size

    parts.refuse_shared(lanes, posixpath.dirname(part), "scp")
    # Create it first: scp would create it with the source's mode, and others could read it.
    parts.make_remote(lanes, part)
    local_programs.run(
        lanes,
        lambda link: [*_argv(lanes, link), "--", source, word],
        what="scp",
        path=part,
        local=source,
        sends=True,
        tick=_watched(lanes, tick, lambda pid: progress.read_counter(pid, "wchar"), sends=True),
        whole=whole,
    )


def receive(
    lanes: Lanes, source: bytes, part: bytes, size: int, tick: Callable[[int], object]
) -> None:
    """Receive a file of ``size`` into the local file ``part`` (an absolute path, which exists).

    ``tick`` is called with scp's pid while it runs.
    """
    word = b"none:" + remote_word(source)
    local_programs.run(
        lanes,
        lambda link: [*_argv(lanes, link), "--", word, part],
        what="scp",
        path=source,
        local=part,
        sends=False,
        tick=_watched(lanes, tick, lambda pid: os.stat(part).st_size, sends=False),
        whole=lambda pid: os.stat(part).st_size == size,
    )
