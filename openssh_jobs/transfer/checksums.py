"""``verify=True``: sha256 on both sides, of one file or of many in one command."""

from __future__ import annotations

import os
import posixpath
import re
from typing import TYPE_CHECKING

from .. import permissions
from ..commands import limits, scripts
from ..commands.os_errors import error_of
from ..commands.quoting import to_text, visible
from ..errors import InvalidAnswer, TransferError, VerifyFailed
from .lanes import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .lanes import Lanes

_CHUNK = 1 << 20
_HEX = 64
_HEXADECIMAL = re.compile(rb"[0-9a-f]{64}\Z")


def _tool(lanes: Lanes) -> tuple[str, ...]:
    """The host's command, as words, that prints the sha256 of its stdin."""
    program = lanes.files.features.sha256
    if not program:
        raise TransferError("the host has no sha256sum to compare with", host=lanes.host)
    words = {"shasum": ("shasum", "-a", "256"), "sha256": ("sha256", "-q")}
    return words.get(program, ("sha256sum",))


def can_compare(lanes: Lanes) -> bool:
    """Whether the host has a program for sha256."""
    return bool(lanes.files.features.sha256)


def local(path: bytes, size: int | None = None) -> str:
    """The sha256 of a local file, or of its first ``size`` bytes, in hex."""
    import hashlib

    digest = hashlib.sha256()
    left = size
    with open(path, "rb", buffering=0, opener=permissions.regular) as handle:
        while data := handle.read(_CHUNK if left is None else min(_CHUNK, left)):
            digest.update(data)
            if left is not None:
                left -= len(data)
    return digest.hexdigest()


def remote(lanes: Lanes, path: bytes, size: int | None = None) -> str:
    """The sha256 of a file on the host, or of its first ``size`` bytes, in hex."""
    most = "" if size is None else size
    script = scripts.call(SCRIPTS, "oj_checksum", scripts.path(path), most, *_tool(lanes))
    plan = lanes.commands.plan(script, prologue="")
    done = lanes.commands.run_bytes(plan, again=True, timeout=limits.READING, most=limits.WORDS)
    if done.returncode != 0:
        raise error_of(to_text(done.stderr), path, host=lanes.host)
    return _sum(lanes, b"".join(done.stdout.split()[:1]), path)


def _sum(lanes: Lanes, word: bytes, path: bytes) -> str:
    if not _HEXADECIMAL.match(word):
        raise InvalidAnswer(
            f"the host's checksum of {visible(path)!r} is not valid: {visible(word) or 'empty'}",
            host=lanes.host,
            command="checksum",
        )
    return to_text(word)


def local_many(top: bytes, names: Sequence[bytes]) -> dict[bytes, str]:
    """The sha256 of local files below ``top``, by name."""
    return {name: local(os.path.join(top, name)) for name in names}


def remote_many(lanes: Lanes, top: bytes, names: Sequence[bytes]) -> dict[bytes, str]:
    """The sha256 of files on the host below ``top``, by name: one command, any names."""
    if not names:
        return {}
    script = scripts.call(SCRIPTS, "oj_checksums", scripts.path(top), _tool(lanes))
    data = b"".join(b"./" + name + b"\0" for name in names)
    plan = lanes.commands.plan(script, prologue="")
    done = lanes.commands.run_bytes(
        plan, data=data, again=True, timeout=limits.READING, most=limits.LISTING
    )
    if done.returncode != 0:
        raise error_of(to_text(done.stderr), top, host=lanes.host)
    found: dict[bytes, str] = {}
    for record in done.stdout.split(b"\0")[:-1]:
        name = record[_HEX + 2 :].removeprefix(b"./")
        found[name] = _sum(lanes, record[:_HEX], name)
    missing = set(names) - found.keys()
    if missing:
        raise TransferError(
            f"the host gave no checksum of {to_text(min(missing))!r}", host=lanes.host, sent="yes"
        )
    return found


def compare(lanes: Lanes, here: bytes, there: bytes) -> None:
    """Raise ``VerifyFailed`` unless a local file and one on the host have the same sha256."""
    if local(here) != remote(lanes, there):
        raise VerifyFailed(
            f"the checksums of {os.fsdecode(here)!r} and {to_text(there)!r} differ",
            host=lanes.host,
            sent="yes",
        )


def compare_many(lanes: Lanes, here: bytes, there: bytes, names: Sequence[bytes]) -> None:
    """Compare files below two directories; ``VerifyFailed`` names the first that differs."""
    theirs = remote_many(lanes, there, names)
    for name, ours in local_many(here, names).items():
        if theirs[name] != ours:
            both = os.fsdecode(os.path.join(here, name)), to_text(posixpath.join(there, name))
            raise VerifyFailed(
                f"the checksums of {both[0]!r} and {both[1]!r} differ", host=lanes.host, sent="yes"
            )
