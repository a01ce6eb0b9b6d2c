"""Whether the key of a host is known here already; asks ``ssh-keygen``, and no host."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from . import process, ssh_config

if TYPE_CHECKING:
    from .ssh_config import Resolved

_TIMEOUT = 10.0


def files(resolved: Resolved) -> Iterable[str]:
    """The paths of the known_hosts files of a host, there or not."""
    for keyword in ("userknownhostsfile", "globalknownhostsfile"):
        for value in resolved.values.get(keyword, ()):
            # ssh -G quotes nothing: several names, or one with blanks in it.
            for name in (value, *value.split()):
                yield os.path.expanduser(name.strip('"'))


def is_known(resolved: Resolved, paths: Sequence[str] | None = None) -> bool | None:
    """Whether these files (of ``resolved`` without ``paths``) have a key for the host.

    ``None`` where that cannot be told.
    """
    if resolved.get("knownhostscommand") is not None:
        return None
    found: bool | None = False
    for path in dict.fromkeys(files(resolved) if paths is None else paths):
        for name in _names(resolved) if os.path.isfile(path) else ():
            argv = [ssh_config.find("ssh-keygen"), "-F", name, "-f", path]
            done = process.run(argv, timeout=_TIMEOUT)
            lines = done.stdout.splitlines()
            if any(line.strip() and not line.startswith((b"#", b"@revoked")) for line in lines):
                return True
            if done.timed_out or done.returncode not in (0, 1):
                found = None
    return found


def _names(resolved: Resolved) -> Iterable[str]:
    """As whom ssh looks for a host: with its port, and where that is not there without."""
    alias, host = resolved.get("hostkeyalias"), resolved.get("hostname")
    port = resolved.get("port") or "22"
    if alias is None and host is not None and port != "22":
        yield f"[{host}]:{port}"
    if alias or host:
        yield alias or host or ""
