"""Where the masters' sockets lie.

Whoever can connect to a master's socket is the user on the cluster, so the directory is ours
alone (0700, no link) or it is not used.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from typing import TYPE_CHECKING

from .. import permissions
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from .destination import Destination
    from .ssh_config import Resolved

# The master binds PATH.<16 random characters> first and renames it (mux.c), so 17 bytes and the
# final NUL are lost from sun_path: 108 bytes on Linux, 104 on macOS.
MAX_SOCKET_BYTES = (104 if sys.platform == "darwin" else 108) - 1 - 17

_NAME_FORMAT = "1"


def directories() -> list[str]:
    """Every directory in which a socket of ours may lie, the preferred one first.

    cron and systemd services lack XDG_RUNTIME_DIR; a master that a terminal opened there is
    found all the same.
    """
    uid = os.geteuid()
    explicit = os.environ.get("OPENSSH_JOBS_RUNTIME_DIR")
    if explicit:
        return [os.path.abspath(explicit)]
    found = []
    for base in (os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{uid}"):
        if base and os.path.isabs(base) and _owned_directory(base):
            path = os.path.join(base, "oj")
            if path not in found:
                found.append(path)
    found.append(f"/tmp/oj-{uid}")  # noqa: S108 - checked to be ours alone before any use
    return found


def _owned_directory(path: str) -> bool:
    try:
        facts = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid()


def problem_with(path: str) -> str | None:
    """Why a directory cannot hold our sockets; ``None`` where it exists and is ours alone."""
    return permissions.problem_with(path, open_to_read=False)


def check_private(path: str) -> None:
    """Raise ``ConfigurationError`` unless a directory exists and is ours alone."""
    problem = problem_with(path)
    if problem:
        raise ConfigurationError(
            f"the socket directory {path} {problem}",
            advice="Remove it, or name another one in OPENSSH_JOBS_RUNTIME_DIR.",
        )


def prepare_directory() -> str:
    """The directory for new sockets: made if missing, private, and short enough.

    Raises ``ConfigurationError`` that names the directory and what is wrong with it.
    """
    path = directories()[0]
    room = MAX_SOCKET_BYTES - len(os.fsencode(path)) - 1 - 13
    if room < 0:
        raise ConfigurationError(
            f"the socket directory {path} is {-room} bytes too long for a Unix socket",
            advice="Name a shorter one in OPENSSH_JOBS_RUNTIME_DIR.",
        )
    bad = set(path) & set("%${}\"' \t\n\\")
    if bad:
        raise ConfigurationError(
            f"the socket directory {path!r} holds {sorted(bad)!r}, which ssh would expand",
            advice="Name another one in OPENSSH_JOBS_RUNTIME_DIR.",
        )
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigurationError(f"the socket directory {path} cannot be made: {error}") from error
    check_private(path)
    return path


_ROUTING = (
    "hostname",
    "user",
    "port",
    "proxyjump",
    "proxycommand",
    "hostkeyalias",
    "identityfile",
    "certificatefile",
    "identityagent",
    "pkcs11provider",
    "bindaddress",
    "bindinterface",
)


def route_name(destination: Destination, resolved: Resolved) -> str:
    """12 hex digits over everything that decides where a login goes and as whom.

    Two aliases of one account by one way share a master; the ssh configuration file counts,
    because the names of jump hosts mean what it says.
    """
    import hashlib  # here and in other places: not before it is needed

    facts = [_NAME_FORMAT, destination.config_path or "", destination.jump or ""]
    if destination.forward_agent:
        # A master that was opened without the agent cannot forward it later, and one that was
        # opened with it shows it to every later session.
        facts.append("ForwardAgent")
    facts += [
        f"{keyword} {value}" for keyword in _ROUTING for value in resolved.values.get(keyword, ())
    ]
    facts += [f"{key}={value}" for key, value in sorted(destination.ssh_options.items())]
    return hashlib.sha256("\0".join(facts).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def places(path: str) -> tuple[str, str]:
    """Where a route's master may have its socket: under its name, and under the one beside it.

    A master whose socket file was deleted removes that name again when it ends, so its successor
    takes the other one.
    """
    base = path.rstrip("+")
    return base, base + "+"


def lock_of(path: str) -> str:
    """The lock file of the route whose socket lies at ``path``."""
    return path.rstrip("+") + ".lock"


def wish(path: str) -> None:
    """Say, to all processes, that somebody wants a session: the time stamp of a file says when."""
    with contextlib.suppress(OSError), open(path + ".wish", "wb"):
        pass
