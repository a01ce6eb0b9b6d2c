"""``method="scp"``: single files by scp's old protocol, for hosts without an sftp subsystem.

The old protocol lets the login shell there read the name, so every sign of it that could mean
something is put behind a backslash.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

from ..commands.quoting import to_text
from ..errors import TransferError, UnrepresentableName
from ..openssh import ssh_config
from . import local_programs

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..openssh.master import Link
    from .options import Site

_SPECIAL = re.compile(rb"[^A-Za-z0-9_/.\x80-\xff-]")
STALL = 300
"""Seconds without a byte after which a transfer is given up."""
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


def remote_word(path: bytes) -> bytes:
    """A path on the host as scp's old protocol wants it.

    Raises ``UnrepresentableName`` for control characters: a newline ends a line of the protocol,
    and not every login shell takes the others behind a backslash.
    """
    if _CONTROL.search(path):
        raise UnrepresentableName(
            f"scp's protocol cannot express the name {to_text(path)!r}", advice="Leave method= out."
        )
    return _SPECIAL.sub(lambda found: b"\\" + found[0], path)


def _argv(link: Link) -> list[str | bytes]:
    quoted = link.path.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    words: list[str | bytes] = [ssh_config.find("scp"), "-B", "-F", "none"]
    if ssh_config.ssh_version().has("scp_sftp_mode"):
        words.append("-O")
    for option in ("ControlMaster=no", f'ControlPath="{quoted}"', "ProxyCommand=false"):
        words += ["-o", option]
    return words


def _watched(
    site: Site, tick: Callable[[int], object], moved: Callable[[int], int | None]
) -> Callable[[int], object]:
    """``tick``, and an end where nothing moved for too long: scp itself would wait for ever."""
    seen, since = moved(0), time.monotonic()

    def both(pid: int) -> None:
        nonlocal seen, since
        tick(pid)
        now = moved(pid)
        if now is None or now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > STALL:
            raise TransferError(f"nothing moved for {STALL} s", host=site.host, sent="yes")

    return both


def send(
    site: Site, source: bytes, part: bytes, tick: Callable[[int], object] = lambda pid: None
) -> None:
    """A local file (an absolute path) onto ``part`` on the host."""
    word = b"none:" + remote_word(part)
    if b"\n" in source:
        remote_word(source)
    local_programs.run(
        site,
        lambda link: [*_argv(link), "--", source, word],
        what="scp",
        path=part,
        local=source,
        sends=True,
        tick=_watched(site, tick, lambda pid: local_programs.read_counter(pid, "wchar")),
    )


def receive(
    site: Site, source: bytes, part: bytes, tick: Callable[[int], object] = lambda pid: None
) -> None:
    """A file of the host into the local file ``part`` (an absolute path, which exists)."""
    word = b"none:" + remote_word(source)
    local_programs.run(
        site,
        lambda link: [*_argv(link), "--", word, part],
        what="scp",
        path=source,
        local=part,
        sends=False,
        tick=_watched(site, tick, lambda pid: os.lstat(part).st_size),
    )
