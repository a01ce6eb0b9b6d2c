"""Job ids: their structure, and when two of them mean the same job.  Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..errors import InputError

__all__ = ["JobId"]

_ID = re.compile(
    r"""(?P<number>[0-9]{1,18})
        (?: _ (?P<task>[0-9]{1,18}) | _? \[ (?P<tasks> [0-9,:%.\-]* ) \] )?
        (?: \+ (?P<component>[0-9]{1,18}) )?
        (?: \. (?P<proc>[0-9] [0-9,:\-]* ) )?
        (?: \. (?P<server>[0-9]*[A-Za-z][A-Za-z0-9_.\-]* (?: @[A-Za-z0-9_.\-]+ )? ) )?
        (?: ; (?P<cluster>[A-Za-z0-9_.\-]+) )?""",
    re.VERBOSE | re.ASCII,
)
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18})(?::([0-9]{1,18}))?)?", re.ASCII)
MAX_ID = 65_536
"""The most letters of an id: Slurm lists the rest of a sparse array one by one."""


@dataclass(frozen=True, slots=True)
class JobId:
    """A job id and its structure; ``str()`` gives back the text it was parsed from.

    ``number`` is the job (or HTCondor cluster, or Slurm array), ``tasks`` the array part without
    brackets (``"4"``, ``"5-9%2"``, ``""`` for PBS' ``123[]``), ``component`` that of a
    heterogeneous Slurm job, ``proc`` HTCondor's process (or a Grid Engine task, or ``4-10:2``),
    ``server`` the PBS server, ``cluster`` the Slurm cluster.  What the id lacks is ``None``.

    ``==`` compares the whole text.  ``matches`` also lets the server or cluster be left out, and
    the server be named without its domain.
    """

    text: str
    number: str = field(compare=False)
    tasks: str | None = field(compare=False, default=None)
    component: str | None = field(compare=False, default=None)
    proc: str | None = field(compare=False, default=None)
    server: str | None = field(compare=False, default=None)
    cluster: str | None = field(compare=False, default=None)

    @classmethod
    def parse(cls, value: object) -> JobId:
        """The structure of an id given as text, number or ``JobId``; ``InputError`` if invalid.

        No form that a scheduler would take for more than one job's id (empty, a wildcard, an
        option) is an id.
        """
        if isinstance(value, JobId):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise InputError(f"a job id is text, not {type(value).__name__}: {value!r}")
        text = value.strip(" \t\r\n")
        found = _ID.fullmatch(text) if len(text) <= MAX_ID else None
        if found is None:
            raise InputError(f"not a job id: {text[:80]!r}")
        part = found.groupdict()
        tasks = part["task"] if part["task"] is not None else part["tasks"]
        return cls(
            text,
            part["number"],
            tasks,
            part["component"],
            part["proc"],
            part["server"],
            part["cluster"],
        )

    def __str__(self) -> str:
        return self.text

    @property
    def array(self) -> JobId | None:
        """The array that this element (or set of elements) belongs to, else ``None``."""
        if self.tasks is None:
            return None
        bare = self.number if "_" in self.text else f"{self.number}[]"
        server = f".{self.server}" if self.server else ""
        cluster = f";{self.cluster}" if self.cluster else ""
        return JobId.parse(f"{bare}{server}{cluster}")

    @property
    def members(self) -> int | None:
        """How many jobs it stands for: 50 for ``204_[1-50]``; ``None`` where it does not say."""
        ranges = self.tasks if self.tasks is not None else self.proc
        if ranges is None or _is_index(ranges):
            return 1
        count = 0
        for part in ranges.partition("%")[0].split(","):
            found = _RANGE.fullmatch(part)
            if found is None:
                return None
            low, high, step = int(found[1]), int(found[2] or found[1]), int(found[3] or 1) or 1
            count += max(0, (high - low) // step + 1)
        return count

    def _same_place(self, other: JobId) -> bool:
        return (
            self.number == other.number
            and _same_server(self.server or "", other.server or "")
            and (self.cluster == other.cluster or not self.cluster or not other.cluster)
        )

    def matches(self, other: JobId) -> bool:
        """True for the same job, where one of them may lack the server or the cluster."""
        return (
            self._same_place(other)
            and self.tasks == other.tasks
            and self.component == other.component
            and self.proc == other.proc
        )

    def contains(self, other: JobId) -> bool:
        """True where ``other`` is an element of this array, set of elements or cluster of jobs."""
        if not self._same_place(other) or self.matches(other):
            return False
        if self.tasks is None and self.component is None and self.proc is None:
            return True
        if self.proc is not None and other.proc is not None:
            return _is_index(other.proc) and _in_ranges(int(other.proc), self.proc)
        if self.tasks is None or other.tasks is None or not _is_index(other.tasks):
            return self.tasks == ""
        return self.tasks == "" or _in_ranges(int(other.tasks), self.tasks)


def _is_index(text: str) -> bool:
    return text.isdigit() and len(text) <= 18


def _in_ranges(index: int, tasks: str) -> bool:
    for part in tasks.partition("%")[0].split(","):
        found = _RANGE.fullmatch(part)
        if found is None:  # Slurm cuts a long list with "...": what is behind that is not known
            continue
        low = int(found[1])
        high = int(found[2] or low)
        step = int(found[3] or 1) or 1
        if low <= index <= high and (index - low) % step == 0:
            return True
    return False


def _same_server(name: str, other: str) -> bool:
    """Whether two names can be those of one PBS server: Torque's tables leave out its domain."""
    shorter, longer = sorted((name, other), key=len)
    return not shorter or longer == shorter or longer.startswith(f"{shorter}.")
