"""What a transfer is about to do: the files that it moves and deletes. Changes nothing."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from ..commands.quoting import to_text
from ..files.stat import FileStat

if TYPE_CHECKING:
    from .listing import Member


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePlan:
    """What becomes of one source of a transfer.

    ``members`` are moved, ``retimed`` only get the time of their source, ``surplus`` are deleted;
    their names are below ``source`` and ``target``.  ``skipped`` counts files that stay.
    """

    source: bytes
    target: bytes
    members: Sequence[Member]
    skipped: int
    retimed: Sequence[Member] = ()
    surplus: Sequence[Member] = ()

    @property
    def files(self) -> int:
        """Count of the members to move that are not directories."""
        return sum(member.kind != "d" for member in self.members)

    @property
    def bytes(self) -> int:
        """Bytes of the files to move."""
        return sum(member.size for member in self.members if member.kind == "f")


Stat = TypeVar("Stat", os.stat_result, FileStat)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePlan(SourcePlan, Generic[Stat]):
    """A single file; ``facts`` are what ``stat`` said of the source."""

    facts: Stat


@dataclass(frozen=True, slots=True, kw_only=True)
class TreePlan(SourcePlan):
    """A tree.  ``whole``: all of its members are moved; ``there``: its target exists.

    ``mode`` is that of the source directory.
    """

    method: str
    whole: bool
    there: bool
    mode: int


class PlannedFile(NamedTuple):
    """A file, link or directory in a plan: ``path`` is that in the target, ``size`` in bytes.

    ``kind`` is one of ``f d l o`` (file, directory, link, other).
    """

    path: str
    kind: str
    size: int


@dataclass(frozen=True, slots=True)
class TransferPlan:
    """What a transfer would do, from the listings of both sides.

    ``files`` and ``bytes`` are those to move, ``skipped`` is as in ``TransferResult``.  The names
    and sizes are what the two sides said: print them only with control characters escaped.
    """

    sources: Sequence[SourcePlan] = field(repr=False)

    @property
    def files(self) -> int:
        """Count of the files and links to move."""
        return sum(plan.files for plan in self.sources)

    @property
    def bytes(self) -> int:
        """Bytes of the files to move."""
        return sum(plan.bytes for plan in self.sources)

    @property
    def skipped(self) -> int:
        """Count of the files that a pattern leaves out or that are there already."""
        return sum(plan.skipped for plan in self.sources)

    @property
    def is_file(self) -> bool:
        """Whether it is a single file, which ``resume=True`` continues."""
        return len(self.sources) == 1 and isinstance(self.sources[0], FilePlan)

    @property
    def moves(self) -> Iterator[PlannedFile]:
        """The files and links to move, and the directories that hold none."""
        for plan in self.sources:
            parents = {member.name.rpartition(b"/")[0] for member in plan.members}
            for member in plan.members:
                if member.kind != "d" or member.name not in parents:
                    yield _planned(plan, member)

    @property
    def deletes(self) -> Iterator[PlannedFile]:
        """What is deleted in the target, members of a directory before it."""
        for plan in self.sources:
            for member in plan.surplus:
                yield _planned(plan, member)


def _planned(plan: SourcePlan, member: Member) -> PlannedFile:
    path = posixpath.join(plan.target, member.name) if member.name else plan.target
    return PlannedFile(to_text(path), member.kind, member.size)
