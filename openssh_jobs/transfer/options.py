"""``Options`` and ``TransferResult``: what ``put`` and ``get`` take and return."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypedDict, get_args

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from . import listing
    from .plan import TransferPlan

    Progress = Callable[[int, int, int, int, str], object]
    Approve = Callable[[TransferPlan], object]

Method = Literal["auto", "sftp", "scp", "tar", "rsync"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferResult:
    """What a ``put`` or ``get`` moved: counts of files and bytes, and the seconds that it took.

    ``skipped`` counts files that a pattern left out or that were there already, ``deleted`` what
    ``delete=True`` removed in the target, directories too.  With ``dry_run=True`` these are the
    counts of ``plan``, of which nothing was done.
    """

    files: int
    bytes: int
    skipped: int
    elapsed: float
    deleted: int = 0
    plan: TransferPlan | None = None


class TransferOptions(TypedDict, total=False):
    """The options of ``put`` and ``get`` beside ``method``; ``mark`` is not for callers outside."""

    only: Sequence[str] | None
    exclude: Sequence[str] | None
    update: bool
    merge: bool
    resume: bool
    verify: bool
    preserve: bool
    follow_symlinks: bool
    progress: Progress | None
    delete: bool
    dry_run: bool
    approve: Approve | None
    mark: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to move files.  Raises ``ConfigurationError`` for contradicting options."""

    method: Method = "auto"
    only: Sequence[str] | None = None
    exclude: Sequence[str] | None = None
    update: bool = False
    merge: bool = False
    resume: bool = False
    verify: bool = False
    preserve: bool = False
    follow_symlinks: bool = False
    progress: Progress | None = None
    delete: bool = False
    dry_run: bool = False
    approve: Approve | None = None
    """Called once with the ``TransferPlan``, before anything is changed; raises to prevent it."""
    mark: bytes | None = None
    """The name of a file that is created in a new directory before it is renamed to the target."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigurationError(
                f"method must be one of {', '.join(METHODS)}, not {self.method!r}"
            )
        if self.resume and self.method not in ("auto", "tar"):
            raise ConfigurationError(
                f"resume=True always uses a stream and excludes method={self.method!r}",
                advice="Leave method= out.",
            )
        if self.delete and not self.update:
            raise ConfigurationError("delete=True needs update=True")

    @property
    def filter(self) -> listing.Filter:
        """The patterns of ``only`` and ``exclude``."""
        from . import listing

        return listing.Filter(self.only, self.exclude)

    @property
    def keeps_times(self) -> bool:
        """Whether files get the times of their sources; the next ``update`` compares them."""
        return self.preserve or self.update

    @property
    def into_existing(self) -> bool:
        """Whether members are added to a directory that exists."""
        return self.merge or self.update

    def with_times(self) -> Options:
        """The options for a tree, where ``preserve`` means the times only."""
        return replace(self, preserve=self.keeps_times)

    def report(self, done: int, total: int, files: int, of: int, name: bytes) -> None:
        """Call ``progress``, if there is one."""
        if self.progress is not None:
            self.progress(done, total, files, of, os.fsdecode(os.path.basename(name)))
