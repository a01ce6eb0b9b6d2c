"""The directory of the masters' sockets.

A process that can connect to a master's socket can act as the user on the host, so the directory
must belong to the user, have the mode 0700 and be no link; otherwise it is not used.
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
    """Every directory that may have our sockets, the preferred one first.

    cron and systemd services lack XDG_RUNTIME_DIR, and still find a master that was opened there.
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
    """Why a directory cannot be used for sockets; ``None`` if it exists and is private."""
    return permissions.problem_with(path, open_to_read=False)


def check_private(path: str) -> None:
    """Raise ``ConfigurationError`` unless a directory exists and is private."""
    _refuse(path, problem_with(path))


def _refuse(path: str, problem: str | None) -> None:
    if problem:
        raise ConfigurationError(
            f"the socket directory {path} {problem}",
            advice="Remove it, or name another one in OPENSSH_JOBS_RUNTIME_DIR.",
        )


def prepare_directory() -> str:
    """The directory for new sockets, created if it is missing.

    Raises ``ConfigurationError`` if it is not private or its path is too long.
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
            f"the socket directory {path!r} contains {sorted(bad)!r}, which ssh would expand",
            advice="Name another one in OPENSSH_JOBS_RUNTIME_DIR.",
        )
    try:
        _refuse(path, permissions.problem_of_new(path))
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigurationError(
            f"the socket directory {path} cannot be created: {error}",
            advice="Name another one in OPENSSH_JOBS_RUNTIME_DIR, in a directory that exists.",
        ) from error
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
    """12 hex digits: a hash of all that decides which host and account a login reaches.

    Two aliases of an account with the same route share a master.  The ssh configuration file
    counts because it defines the names of the jump hosts.
    """
    import hashlib  # imported only when it is needed

    facts = [_NAME_FORMAT, destination.config_path or "", destination.jump or ""]
    if destination.forward_agent:
        # A master that was opened without the agent cannot forward it later; a master that was
        # opened with it offers it to every later session.
        facts.append("ForwardAgent")
    facts += [
        f"{keyword} {value}" for keyword in _ROUTING for value in resolved.values.get(keyword, ())
    ]
    facts += [f"{key}={value}" for key, value in sorted(destination.ssh_options.items())]
    return hashlib.sha256("\0".join(facts).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def is_same_route(one: Resolved, other: Resolved) -> bool:
    """Whether two configurations lead to the same host and account, with the same keys."""
    return all(one.values.get(keyword) == other.values.get(keyword) for keyword in _ROUTING)


def places(path: str) -> tuple[str, str]:
    """The two paths that a route's master may use for its socket.

    A master whose socket file was deleted removes a file of that name when it ends, so its
    successor uses the other path.
    """
    base = path.rstrip("+")
    return base, base + "+"


def lock_of(path: str) -> str:
    """The lock file of the route with the socket ``path``."""
    return path.rstrip("+") + ".lock"


def ask_for_session(path: str) -> None:
    """Ask all processes for a free session, by the time stamp of a file."""
    with contextlib.suppress(OSError):
        write_file(path + ".wanted", "")


# --------------------------------------------------------------------------- files beside a socket

# What lies in the place of one of these files may be anything: a link or a hard link to a file that
# must stay as it is, a fifo, which blocks whoever opens it, a file without end.


def open_file(path: str, flags: int) -> int:
    """An opener for ``open()`` that accepts only a regular file, and follows no link."""
    return permissions.regular(path, flags | os.O_NOFOLLOW)


def read_file(path: str, most: int) -> str:
    """The first ``most`` bytes of a file.  Raises ``OSError``, and ``ValueError`` for no UTF-8."""
    with open(path, "rb", opener=open_file) as handle:
        return handle.read(most).decode("utf-8")


def write_file(path: str, text: str) -> None:
    """Put a new file in the place of a file.  Raises ``OSError``; the old one is kept then."""
    part = f"{path}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part)
    try:
        with open(part, "x", encoding="utf-8") as handle:
            handle.write(text)
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


def remove_file(path: str) -> None:
    """Remove a file if it is there.  Raises ``ConfigurationError`` if that fails."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be removed: {error.strerror}", advice="Remove it."
        ) from error
