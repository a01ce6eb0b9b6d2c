"""Job ids: their structure, and when two of them mean the same job.  Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Generic, TypeVar

from ..errors import InputError

__all__ = ["JobId", "JobIds"]

T = TypeVar("T")

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
_LONG = 100  # letters of an id that is not kept parsed
_KEPT = 1 << 15
"""Ids that are kept parsed: each query of a queue names the same ones again."""


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
        return _parsed(text) if len(text) <= _LONG else _parse(text)

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

    @property
    def is_single(self) -> bool:
        """Whether it can contain no other id: an element, a process, a component."""
        if self.component is not None:
            return True
        part = self.proc if self.proc is not None else self.tasks
        return part is not None and _is_index(part)

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


@lru_cache(maxsize=64)
def _ranges(tasks: str) -> tuple[list[int], list[tuple[int, int, int]], bool]:
    """The ranges of a list of elements by their first ones, and whether some overlap."""
    found = []
    for part in tasks.partition("%")[0].split(","):
        match = _RANGE.fullmatch(part)
        if match is None:  # Slurm cuts a long list with "...": what is behind that is not known
            continue
        low = int(match[1])
        found.append((low, int(match[2] or low), int(match[3] or 1) or 1))
    found.sort()
    overlap = any(left[1] >= right[0] for left, right in pairwise(found))
    return [low for low, _, _ in found], found, overlap


def _in_ranges(index: int, tasks: str) -> bool:
    lows, ranges, overlap = _ranges(tasks)
    place = bisect_right(lows, index)
    return any(
        index <= high and (index - low) % step == 0
        for low, high, step in ranges[0 if overlap else max(0, place - 1) : place]
    )


def _same_server(name: str, other: str) -> bool:
    """Whether two names can be those of one PBS server: Torque's tables leave out its domain."""
    shorter, longer = sorted((name, other), key=len)
    return not shorter or longer == shorter or longer.startswith(f"{shorter}.")


def _parse(text: str) -> JobId:
    found = _ID.fullmatch(text) if len(text) <= MAX_ID else None
    if found is None:
        raise InputError(
            f"not a job id: {text[:80]!r} (a job id is as 4711 or 4711_3, never a name)"
        )
    part = found.groupdict()
    tasks = part["task"] if part["task"] is not None else part["tasks"]
    return JobId(
        text,
        part["number"],
        tasks,
        part["component"],
        part["proc"],
        part["server"],
        part["cluster"],
    )


_parsed = lru_cache(maxsize=_KEPT)(_parse)


class JobIds(Generic[T]):
    """Ids, each with something; those that mean, contain or belong to an id are found quickly.

    A comparison of each with each would take hours for the elements of a large array.
    """

    def __init__(self, items: Iterable[tuple[JobId, T]]) -> None:
        self._by_number: dict[str, list[tuple[JobId, T]]] = {}
        self._by_part: dict[tuple[str | None, ...], list[tuple[JobId, T]]] = {}
        # The ids of a number that may contain others.
        self._wide: dict[str, list[tuple[JobId, T]]] = {}
        self.update(items)

    def __bool__(self) -> bool:
        return bool(self._by_number)

    def update(self, items: Iterable[tuple[JobId, T]]) -> None:
        """Add more ids."""
        for job_id, found in items:
            item = job_id, found
            self._by_number.setdefault(job_id.number, []).append(item)
            self._by_part.setdefault(_part(job_id), []).append(item)
            if not job_id.is_single:
                self._wide.setdefault(job_id.number, []).append(item)

    def matching(self, wanted: JobId) -> list[T]:
        """What stands with ids that match this one."""
        return [
            found
            for job_id, found in self._by_part.get(_part(wanted), ())
            if job_id.matches(wanted)
        ]

    def around(self, wanted: JobId) -> list[tuple[JobId, T]]:
        """The ids that contain this one, with what stands with them."""
        return [item for item in self._wide.get(wanted.number, ()) if item[0].contains(wanted)]

    def is_cut(self, wanted: JobId) -> bool:
        """Whether an element may be among those that Slurm left out of a long list (``...``)."""
        return wanted.is_single and any(
            "..." in (job_id.tasks or "") and job_id._same_place(wanted)
            for job_id, _ in self._wide.get(wanted.number, ())
        )

    def within(self, wanted: JobId) -> list[T]:
        """What stands with ids that this one contains."""
        if wanted.is_single:
            return []
        return [
            found
            for job_id, found in self._by_number.get(wanted.number, ())
            if wanted.contains(job_id)
        ]


def _part(job_id: JobId) -> tuple[str | None, ...]:
    return job_id.number, job_id.tasks, job_id.component, job_id.proc
