"""The hosts on the way to a target, as ``ssh`` itself would resolve them.  Dials nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ConfigurationError
from . import features
from .target import Target

if TYPE_CHECKING:
    from .features import Resolved

_DEEPEST = 8
_HOP = re.compile(
    r"(?:ssh://)?(?:(?P<user>.*)@)?(?P<host>\[[^\]]+\]|[^:\[\]]+)(?::(?P<port>\d+))?/?\Z"
)


class Hop(NamedTuple):
    """One jump host: its name as it is configured, and what ssh makes of it."""

    name: str
    resolved: Resolved


def hops(target: Target, resolved: Resolved) -> list[Hop]:
    """The jump hosts, the first to be dialed first; empty where there are none.

    A ``ProxyCommand`` of the user's own is no jump host that could be named.  Raises
    ``ConfigurationError`` for names that cannot be meant, and ways that go round in circles.
    """
    return _before(target, resolved, 0)


def _before(target: Target, resolved: Resolved, depth: int) -> list[Hop]:
    names = resolved.get("proxyjump")
    if names is None:
        return []
    if depth >= _DEEPEST:
        raise ConfigurationError("the ProxyJump goes round in circles", host=target.host)
    found: list[Hop] = []
    for number, name in enumerate(names.split(",")):
        hop = _target(name.strip(), target)
        its = features.resolve(hop)
        if number == 0:
            # ssh gives the others a -J of its own; only the first goes by its configuration.
            found += _before(hop, its, depth + 1)
        found.append(Hop(name.strip(), its))
    return found


def _target(name: str, behind: Target) -> Target:
    found = _HOP.match(name)
    if found is None:
        raise ConfigurationError(f"{name!r} is no name of a jump host", host=behind.host)
    return Target(
        host=found["host"].strip("[]"),
        user=found["user"] or None,
        port=int(found["port"]) if found["port"] else None,
        # Nothing else of the command line reaches the ssh of a jump host.
        ssh_config=behind.config_path,
    )


def called(name: str, target: Target, resolved: Resolved) -> int:
    """How many hosts on the way, the target too, have this name or address: they ask alike."""
    everybody = [resolved, *(hop.resolved for hop in hops(target, resolved))]
    return sum(name in (one.get("hostname"), one.get("hostkeyalias")) for one in everybody)
