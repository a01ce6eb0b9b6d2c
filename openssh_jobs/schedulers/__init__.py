"""The schedulers: one file each, found by name, alias or entry point.

A third party adds one with an entry point in the group ``openssh_jobs.schedulers``, whose name is
the scheduler's name and whose value is a subclass of ``base.Scheduler``.  Reading the entry points
(``importlib.metadata``) is the only look that this package takes at the disk.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from .base import Scheduler

__all__ = ["available", "detection_script", "get", "parse_detection"]

GROUP = "openssh_jobs.schedulers"

# In the order of detection: Slurm's qsub wrappers stand beside the real thing, and a host with a
# scheduler can still start a process directly.  Needed in a checkout that is not installed, too.
_BUILT_IN = {
    "slurm": "openssh_jobs.schedulers.slurm:Slurm",
    "torque": "openssh_jobs.schedulers.pbs.torque:Torque",
    "pbs": "openssh_jobs.schedulers.pbs:PBS",
    "sge": "openssh_jobs.schedulers.gridengine:GridEngine",
    "lsf": "openssh_jobs.schedulers.lsf:LSF",
    "htcondor": "openssh_jobs.schedulers.htcondor:HTCondor",
    "direct": "openssh_jobs.schedulers.direct:Direct",
}
_ALIASES = {
    "local": "direct",
    "none": "direct",
    "oge": "sge",
    "uge": "sge",
    "gridengine": "sge",
    "pbspro": "pbs",
    "openpbs": "pbs",
    "condor": "htcondor",
}


@cache
def _entry_points() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {entry.name.lower(): entry for entry in entry_points(group=GROUP)}


@cache
def _load(name: str) -> Scheduler:
    from .base import Scheduler

    try:
        if name in _BUILT_IN:
            module, _, attribute = _BUILT_IN[name].partition(":")
            cls = getattr(import_module(module), attribute)
        else:
            cls = _entry_points()[name].load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"the scheduler {name!r} cannot be loaded: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, Scheduler)):
        raise ConfigurationError(f"the scheduler {name!r} must be a subclass of base.Scheduler")
    return cls()


def available() -> tuple[str, ...]:
    """The names of all schedulers, in the order in which they are looked for on a host."""
    third = (name for name in sorted(_entry_points()) if name not in _BUILT_IN)
    names = [name for name in _BUILT_IN if name != "direct"]
    return (*names, *third, "direct")


def get(name: str) -> Scheduler:
    """A scheduler by name or alias, in any case (ARC's ``OGE SGE Slurm PBS HTCondor local``).

    Raises ``ConfigurationError`` for an unknown name.
    """
    wanted = name.strip().lower()
    wanted = _ALIASES.get(wanted, wanted)
    if wanted in _BUILT_IN or wanted in _entry_points():
        return _load(wanted)
    for third in available():
        if third not in _BUILT_IN and wanted in (alias.lower() for alias in _load(third).aliases):
            return _load(third)
    import difflib

    close = difflib.get_close_matches(wanted, [*available(), *_ALIASES], n=1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    raise ConfigurationError(
        f"there is no scheduler {name!r}{meant}", advice=f"Known are: {', '.join(available())}."
    )


def detection_script(names: tuple[str, ...] | None = None) -> str:
    """A framed script that asks the host which of these schedulers it has (all, if not given)."""
    from .framing import framed, section

    # Each in a separate subshell, because a probe may exit.
    return framed(
        *(section(name, f"({get(name).probe}\n) </dev/null") for name in names or available())
    )


def parse_detection(stdout: str) -> dict[str, str]:
    """Version lines by scheduler name, best first, of those that the host has.

    Raises ``SchedulerError`` for an answer that is cut off.
    """
    from ..errors import SchedulerError
    from .fields import first_line
    from .framing import read_frame

    sections = read_frame(stdout)
    if sections is None:
        raise SchedulerError("no answer to what schedulers there are", kind="transport")
    return {part.name: first_line(part.text) for part in sections if part.returncode == 0}
