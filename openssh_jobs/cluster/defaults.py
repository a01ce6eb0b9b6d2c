"""What ``submit`` takes from ``servers.toml`` where the caller names nothing."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import settings

if TYPE_CHECKING:
    from ..schedulers.base import Scheduler
    from .specification import Specification

_PARAMETERS = ("queue", "account", "time_limit")


def with_defaults(
    wanted: Specification, scheduler: Scheduler, host: str, script: Callable[[], bytes]
) -> Specification:
    """The specification with the queue, account, time limit and options of the host's settings.

    What the job's own words or the directives of its script say holds before them; ``script``
    reads it, and is called only where that matters.  A scheduler without such a parameter gets
    none.
    """
    found: dict[str, Any] = {}
    for name in _PARAMETERS:
        value = settings.value(host, name)
        if value is not None and getattr(wanted, name) is None and name in scheduler.capabilities:
            found[name] = value
    if found:
        said = {*scheduler.understood(wanted.options), *scheduler.said_in_script(script())}
        found = {name: value for name, value in found.items() if name not in said}
    words = tuple(settings.value(host, "options") or ())
    if words and "options" in scheduler.capabilities and wanted.options[: len(words)] != words:
        found["options"] = words + wanted.options
    return replace(wanted, **found) if found else wanted


def below_base(host: str, directory: str | None) -> str:
    """A directory of a job, as it is given, below the host's base directory; ``~`` without both."""
    base: str = settings.value(host, "base_directory") or "~"
    if directory is None:
        return base
    if directory.startswith(("/", "~")) or base == "~":
        return directory
    return posixpath.join(base, directory)
