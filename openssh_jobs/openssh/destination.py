"""``Destination``: a host as the user names it, with the ssh options given for it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

# ssh.c valid_hostname() and valid_ruser() of 9.6, held against older clients too: with those, a
# host name goes into ProxyCommand unquoted (CVE-2023-51385).
_BAD_IN_HOST = re.compile(r"[\s\x00-\x1f\x7f'`\"$\\;&<>|(){}]")
# A user before an @ of the host name may belong to a domain (DOMAIN\\user); see user= for more.
_BAD_BEFORE_AT = re.compile(r"[\s\x00-\x1f\x7f'`\"$;&<>|(){}]|\\\Z")
_BAD_IN_USER = re.compile(r"[\s\x00-\x1f\x7f'`\";&<>|(){}]|\\\Z")
_KEYWORD = re.compile(r"[A-Za-z][A-Za-z0-9]*\Z")

# Options that the master sets; another value would break it.
_OURS = {
    "controlmaster": "the master= argument",
    "controlpath": "the master= argument",
    "controlpersist": "the persist= argument",
    "remotecommand": "run()",
    "requesttty": "nothing: sessions here have no terminal",
    "sessiontype": "nothing",
    "forkafterauthentication": "nothing",
    "stdinnull": "nothing",
    "batchmode": "the responder= argument",
}


def _no_control(value: str, what: str) -> None:
    if re.search(r"[\x00-\x1f\x7f]", value):
        raise ConfigurationError(f"{what} contains a control character: {value!r}")


def check_host(host: str) -> None:
    """Raise ``ConfigurationError`` for a host name that ssh could take for something else."""
    if not host:
        raise ConfigurationError("the host name is empty")
    if host.startswith("-"):
        raise ConfigurationError(f"the host name {host!r} starts with a dash")
    user, at, rest = host.removeprefix("ssh://").rpartition("@")
    found = _BAD_BEFORE_AT.search(user) or _BAD_IN_HOST.search(rest)
    if found:
        raise ConfigurationError(f"the host name {host!r} contains {found.group()!r}")
    if at:
        check_user(user)
    if not rest or rest.startswith("-"):
        what = " after the @" if at else ""
        raise ConfigurationError(f"the host name {host!r} names no host{what}")


def check_user(user: str) -> None:
    """Like ``check_host``, for a login name."""
    if not user:
        raise ConfigurationError("the user name is empty")
    if user.startswith("-"):
        raise ConfigurationError(f"the user name {user!r} starts with a dash")
    found = _BAD_IN_USER.search(user)
    if found:
        raise ConfigurationError(f"the user name {user!r} contains {found.group()!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A host and its ssh options.  ``host`` is passed to ssh unchanged.

    Raises ``ConfigurationError`` for invalid names, keywords and values.
    """

    host: str
    user: str | None = None
    port: int | None = None
    identity_file: str | None = None
    jump: str | None = None
    ssh_config: str | None = None
    ssh_options: Mapping[str, str] = field(default_factory=dict)
    forward_agent: bool = False

    def __post_init__(self) -> None:
        check_host(self.host)
        if self.user is not None:
            check_user(self.user)
        if self.port is not None and not 0 < self.port < 65536:
            raise ConfigurationError(f"port={self.port} must be from 1 to 65535", host=self.host)
        if self.jump is not None:
            for hop in self.jump.split(","):
                check_host(hop)
        for name in ("identity_file", "ssh_config"):
            value = getattr(self, name)
            if value is not None:
                _no_control(value, name)
        if self.ssh_config is not None and self.ssh_config != "none":
            path = os.path.expanduser(self.ssh_config)
            if not os.path.isfile(path):
                raise ConfigurationError(
                    f"there is no ssh configuration file {self.ssh_config!r}", host=self.host
                )
        for keyword, value in self.ssh_options.items():
            self._check_option(keyword, str(value))

    def _check_option(self, keyword: str, value: str) -> None:
        if not _KEYWORD.match(keyword):
            raise ConfigurationError(f"{keyword!r} is not an ssh_config keyword", host=self.host)
        if keyword.lower() in _OURS:
            raise ConfigurationError(
                f"ssh_options must not set {keyword}: the master sets it itself",
                host=self.host,
                advice=f"Use {_OURS[keyword.lower()]}.",
            )
        _no_control(value, f"the value of {keyword}")

    @property
    def config_path(self) -> str | None:
        """The configuration file as an absolute path, ``None`` for the user's usual ones."""
        if self.ssh_config is None or self.ssh_config == "none":
            return self.ssh_config
        return os.path.abspath(os.path.expanduser(self.ssh_config))

    def arguments(self, *, with_jump: bool = True) -> list[str]:
        """The arguments before ``-- host`` on the command line of ssh (not of scp and sftp)."""
        argv: list[str] = []
        if self.config_path is not None:
            argv += ["-F", self.config_path]
        for keyword, value in self.ssh_options.items():
            argv += ["-o", f"{keyword}={value}"]
        if self.user is not None:
            argv += ["-o", f"User={self.user}"]
        if self.port is not None:
            argv += ["-o", f"Port={self.port}"]
        if self.identity_file is not None:
            # IdentitiesOnly only beside a key that was asked for: alone it breaks agent users.
            argv += ["-i", os.path.expanduser(self.identity_file), "-o", "IdentitiesOnly=yes"]
        if self.jump is not None and with_jump:
            argv += ["-J", self.jump]
        if self.forward_agent:
            argv += ["-A"]
        return argv

    def shell_command(self, *between: str) -> str:
        """The ``ssh`` command line for this destination, for advice in errors."""
        import shlex

        return shlex.join(["ssh", *self.arguments(), *between, self.host])

    def login_command(self) -> str:
        """The ``openssh-jobs login`` command for this destination, for advice in errors."""
        import shlex

        way: list[str] = []
        for flag, value in (
            ("-F", self.config_path),
            ("-J", self.jump),
            ("-i", self.identity_file),
            ("-p", self.port),
            ("-l", self.user),
        ):
            if value is not None:
                way += [flag, str(value)]
        for keyword, text in self.ssh_options.items():
            way += ["-o", f"{keyword}={text}"]
        return shlex.join(["openssh-jobs", "login", *way, self.host])
