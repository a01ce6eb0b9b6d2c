"""``SitePolicy``: what the people who run a cluster ask of this package, in a TOML file.

There may be one on the host (``HOST_FILE``) and one on this machine (``local_file``).  A policy
only tightens what the user has set; of several the tightest holds.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

from . import permissions
from .settings import APP

HOST_FILE = "/etc/openssh-jobs.toml"
MOST_BYTES = 8192
"""A policy is a few lines; what is longer is not read."""
_MOST_CHARACTERS = 200
_MOST_PROBLEMS = 10
_MOST_SHOWN = 60
"""Characters of a name or a value in a problem."""
# The least and the most that a site can ask for: (type, from, to).
_NUMBERS: dict[str, tuple[type, float, float]] = {
    "poll_floor": (float, 0, 3600),
    "history_floor": (float, 0, 3600),
    "sessions": (int, 1, 1000),
    "streams": (int, 1, 1000),
    "max_age": (float, 60, 1e9),
}
_TEXTS = ("data_host", "message")
# Of these the larger number is the tighter one; of all others the smaller.
_LARGER = ("poll_floor", "history_floor")


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePolicy:
    """A site's limits; ``None`` where it sets none.

    ``poll_floor`` and ``history_floor``: the least seconds between two queries of the queue and of
    the accounting.  ``sessions``: the most sessions at a time.  ``streams``: the most streams for
    one file.  ``max_age``: seconds after which a master takes no new sessions.  ``data_host``: the
    host that large transfers should use.  ``agents``: whether programs that act by themselves for
    a user are welcome.  ``message``: a line for users.  ``problems``: what was not understood.
    """

    poll_floor: float | None = None
    history_floor: float | None = None
    sessions: int | None = None
    streams: int | None = None
    max_age: float | None = None
    data_host: str | None = None
    agents: bool | None = None
    message: str | None = None
    problems: tuple[str, ...] = ()

    def tightened(self, other: SitePolicy) -> SitePolicy:
        """Both policies together: the tighter value of each limit, the texts of ``other`` first."""
        merged: dict[str, Any] = {"problems": self.problems + other.problems}
        for name in _NUMBERS:
            values = [getattr(one, name) for one in (self, other)]
            given = [value for value in values if value is not None]
            if given:
                merged[name] = max(given) if name in _LARGER else min(given)
        for name in _TEXTS:
            merged[name] = getattr(other, name) or getattr(self, name)
        if self.agents is not None or other.agents is not None:
            merged["agents"] = self.agents is not False and other.agents is not False
        return SitePolicy(**merged)

    def as_dict(self) -> dict[str, Any]:
        """The limits that are set, by their names in the file."""
        found = dataclasses.asdict(self)
        del found["problems"]
        return {name: value for name, value in found.items() if value is not None}


def local_file() -> str:
    """The path of the policy of this machine, below ``platformdirs.site_config_dir``."""
    import platformdirs

    return os.path.join(platformdirs.site_config_dir(APP), "site.toml")


def local() -> SitePolicy:
    """The policy of this machine; empty if there is no file, or one that others can write."""
    path = local_file()
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as handle:
            if not permissions.is_trusted_file(os.fstat(handle.fileno())):
                return SitePolicy(problems=(f"{path} is not used: others can write it",))
            data = handle.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return SitePolicy()
    except OSError as error:
        return SitePolicy(problems=(f"{path} cannot be read: {error.strerror}",))
    return parse(data, path)


def parse(data: bytes, where: str) -> SitePolicy:
    """Read a policy.  Raises nothing: what is wrong is left out, and in ``problems``."""
    import tomllib

    found: dict[str, Any] = {}
    problems: list[str] = []
    try:
        if len(data) > MOST_BYTES:
            raise ValueError(f"it is longer than {MOST_BYTES} bytes")
        table = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        problems.append(f"{where} cannot be read: {error}")
        table = {}
    for name, value in table.items():
        try:
            found[name] = _checked(name, value)
        except ValueError as error:
            problems.append(f"{where}: {error}")
    if len(problems) > _MOST_PROBLEMS:
        more = len(problems) - _MOST_PROBLEMS
        problems[_MOST_PROBLEMS:] = [f"{where}: {more} more settings are wrong"]
    return SitePolicy(**found, problems=tuple(problems))


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "such a number"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _checked(name: str, value: object) -> object:
    if name in _NUMBERS:
        kind, least, most = _NUMBERS[name]
        allowed = int if kind is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, allowed) or not least <= value <= most:
            what = "an integer" if kind is int else "a number of seconds"
            raise ValueError(
                f"{name} must be {what} from {least:g} to {most:g}, not {_shown(value)}"
            )
        return kind(value)
    if name in _TEXTS:
        if not isinstance(value, str) or not value.isprintable() or len(value) > _MOST_CHARACTERS:
            raise ValueError(
                f"{name} must be one line of at most {_MOST_CHARACTERS} printable characters"
            )
        return value
    if name == "agents":
        if not isinstance(value, bool):
            raise ValueError(f"agents must be true or false, not {_shown(value)}")
        return value
    raise ValueError(f"{_shown(name)} is not a setting of a site")
