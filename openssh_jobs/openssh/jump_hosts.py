"""The jump hosts of a destination, as ``ssh`` itself resolves them.  Opens no connection."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ConfigurationError
from . import ssh_config
from .destination import Destination

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .ssh_config import Resolved

_DEEPEST = 8
_HOP = re.compile(
    r"(?:ssh://)?(?:(?P<user>.*)@)?(?P<host>\[[^\]]+\]|[^:\[\]]+)(?::(?P<port>\d+))?/?\Z"
)


class Hop(NamedTuple):
    """One jump host: its name as it is configured, and its resolved configuration."""

    name: str
    resolved: Resolved


def hops(destination: Destination, resolved: Resolved) -> list[Hop]:
    """The jump hosts in the order in which they are connected; empty without a ProxyJump.

    A ``ProxyCommand`` of the user does not count.  Raises ``ConfigurationError`` for invalid
    names, and for a ProxyJump that leads back to itself.
    """
    return _before(destination, resolved, 0)


def _before(destination: Destination, resolved: Resolved, depth: int) -> list[Hop]:
    names = resolved.get("proxyjump")
    if names is None:
        return []
    if depth >= _DEEPEST:
        raise ConfigurationError("the ProxyJump goes round in circles", host=destination.host)
    found: list[Hop] = []
    for number, name in enumerate(names.split(",")):
        hop = _hop_destination(name.strip(), destination)
        its = ssh_config.resolve(hop)
        if number == 0:
            # ssh gives the others a -J of its own; only the first goes by its configuration.
            found += _before(hop, its, depth + 1)
        found.append(Hop(name.strip(), its))
    return found


def _hop_destination(name: str, behind: Destination) -> Destination:
    found = _HOP.match(name)
    if found is None:
        raise ConfigurationError(f"{name!r} is not a valid jump host", host=behind.host)
    return Destination(
        host=found["host"].strip("[]"),
        user=found["user"] or None,
        port=int(found["port"]) if found["port"] else None,
        # Nothing else of the command line reaches the ssh of a jump host.
        ssh_config=behind.config_path,
    )


def command(hops: Sequence[Hop], number: int, destination: Destination) -> str:
    """The command line that connects to one of the jump hosts only, for advice in errors."""
    config = destination.config_path
    words = ["ssh", *(["-F", config] if config is not None else [])]
    if number:
        words += ["-J", ",".join(hop.name for hop in hops[:number])]
    return shlex.join([*words, hops[number].name])


def proxy_command(
    destination: Destination,
    hops: Sequence[Hop],
    *,
    options: Sequence[Sequence[str]],
    logs: Sequence[str],
    stderr: str,
) -> str | None:
    """The ProxyCommand for a ProxyJump, as ssh.c builds it, with options for each jump host.

    ssh does not pass its options on: the ssh to a jump host would ask three times, wait without
    end on a dead link, and with ControlPersist its messages are lost.  Here the messages of each
    go to a file of ``logs``, and other output (banners) to ``stderr``.  ``None`` without hops.
    """
    line = None
    for hop, own, log in zip(hops, options, logs, strict=True):
        line = _through(hop.name, destination, line, [*own], log)
    if line is None:
        return None
    # The user's shell runs this line, and not every shell knows 2>>.
    redirected = f"exec {line} 2>>{shlex.quote(stderr.replace('%', '%%'))}"
    return f"/bin/sh -c {shlex.quote(redirected)}"


def _through(
    name: str, destination: Destination, before: str | None, options: list[str], log: str
) -> str:
    """The command that leads on from a jump host, which the command ``before`` reaches."""
    hop = _hop_destination(name, destination)
    argv = [ssh_config.find("ssh"), "-E", log]
    if destination.config_path is not None:
        argv += ["-F", destination.config_path]
    if hop.user:
        argv += ["-l", hop.user]
    if hop.port:
        argv += ["-p", str(hop.port)]
    if before is not None:
        options.insert(0, f"ProxyCommand={before}")
    for option in options:
        argv += ["-o", option]
    argv = [word.replace("%", "%%") for word in argv]
    # ssh starts it with ``exec``; each level of quotes triples the length.
    return shlex.join([*argv, "-W", "[%h]:%p", "--", hop.host.replace("%", "%%")])


def called(name: str, resolved: Resolved, hops: Sequence[Hop]) -> int:
    """How many of the jump hosts and the destination have this name or address.

    Their prompts look the same.
    """
    hosts = [resolved, *(hop.resolved for hop in hops)]
    return sum(name in (host.get("hostname"), host.get("hostkeyalias")) for host in hosts)
