"""The version and features of the installed OpenSSH, and its configuration of a host.

The sources are ``ssh -V`` and ``ssh -G``; no configuration file is parsed here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ConfigurationError, UnsupportedOpenSSH
from . import process

if TYPE_CHECKING:
    from .destination import Destination

_VERSION = re.compile(
    r"OpenSSH_(?:for_(?P<windows>Windows)_)?(?P<major>\d{1,4})\.(?P<minor>\d{1,4})"
)

# First release with a feature, from the release notes and the tags of openssh-portable.
SINCE = {
    "dump_configuration": (6, 8),  # ssh -G
    "proxy_jump": (7, 3),
    "remote_command": (7, 6),  # RemoteCommand, StrictHostKeyChecking=accept-new
    "set_env": (7, 8),
    "askpass_prompt": (8, 2),
    "askpass_require": (8, 4),
    "persist_frees_stderr": (8, 5),
    "log_verbose": (8, 5),
    "scp_sftp_mode": (8, 7),  # scp -s / -O, SessionType, ForkAfterAuthentication
    "scp_sftp_default": (9, 0),
    "mux_connect_timeout": (9, 4),
    "percent_j": (9, 6),
}
OLDEST = (7, 4)
_LONGEST = 4000
"""Bytes of a message of ssh: a ``Match exec`` may print any number before it."""


class SshVersion(NamedTuple):
    """The version of an ssh binary, as ``ssh -V`` gives it."""

    major: int
    minor: int
    text: str
    windows: bool = False

    def has(self, feature: str) -> bool:
        """Whether this release has a feature of ``SINCE`` (``KeyError`` for an unknown name)."""
        return (self.major, self.minor) >= SINCE[feature]


def parse_version(text: str) -> SshVersion:
    """Parse the output of ``ssh -V``.  An unknown form counts as a new version."""
    line = text.strip().splitlines()[0].strip() if text.strip() else ""
    found = _VERSION.search(line)
    if found is None:
        return SshVersion(99, 0, line)
    return SshVersion(
        int(found["major"]), int(found["minor"]), line.split(",")[0], bool(found["windows"])
    )


def find(program: str) -> str:
    """The path of ``ssh``, ``sftp``… on PATH; ``UnsupportedOpenSSH`` if there is none."""
    import shutil

    path = shutil.which(program)
    if path is None:
        raise UnsupportedOpenSSH(
            f"there is no {program} on the PATH",
            advice="Install the OpenSSH client (Debian: openssh-client).",
        )
    return path


_versions: dict[str, SshVersion] = {}


def ssh_version() -> SshVersion:
    """The version of the ``ssh`` on PATH, asked once per binary.

    Raises ``UnsupportedOpenSSH`` if it is too old or has no connection sharing.
    """
    ssh = find("ssh")
    if ssh not in _versions:
        done = process.run([ssh, "-V"], timeout=10, most=_LONGEST)
        version = parse_version((done.stderr or done.stdout).decode("utf-8", "replace"))
        if version.windows:
            raise UnsupportedOpenSSH(
                "the Windows build of OpenSSH has no ControlMaster",
                advice="Use the ssh of WSL.",
            )
        if (version.major, version.minor) < OLDEST:
            raise UnsupportedOpenSSH(
                f"{version.text} is too old: connection sharing here needs OpenSSH "
                f"{OLDEST[0]}.{OLDEST[1]} or newer"
            )
        _versions[ssh] = version
    return _versions[ssh]


class Resolved(NamedTuple):
    """The output of ``ssh -G``: keyword (lower case) to its values, in order."""

    values: dict[str, tuple[str, ...]]

    def get(self, keyword: str) -> str | None:
        """The first value of a keyword, ``None`` if it is unset or ``none``."""
        found = self.values.get(keyword)
        if not found or found[0].lower() == "none":
            return None
        return found[0]


def parse_resolved(text: str) -> Resolved:
    """Parse the output of ``ssh -G``: a keyword and a value per line."""
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        keyword, _, value = line.strip().partition(" ")
        if keyword:
            values.setdefault(keyword.lower(), []).append(value.strip())
    return Resolved({keyword: tuple(found) for keyword, found in values.items()})


def resolve(destination: Destination, *, timeout: float = 30.0) -> Resolved:
    """Resolve a destination with ``ssh -G``, which runs ``Match exec`` and opens no connection.

    Raises ``ConfigurationError`` with ssh's message if ssh does not accept its configuration.
    """
    argv = [find("ssh"), "-G", *destination.arguments(), "--", destination.host]
    done = process.run(argv, timeout=timeout)
    message = done.stderr[-_LONGEST:].decode("utf-8", "replace").replace("\r", "").strip()
    if done.timed_out:
        raise ConfigurationError(
            f"ssh did not resolve the name within {timeout:.0f} s",
            host=destination.host,
            advice="A `Match exec` of the ssh configuration may hang.",
        )
    if done.returncode != 0:
        raise ConfigurationError(
            f"ssh does not accept its configuration: {message or 'no reason given'}",
            host=destination.host,
            advice=f"See what `ssh -G {destination.host}` says.",
        )
    return parse_resolved(done.stdout.decode("utf-8", "surrogateescape"))
