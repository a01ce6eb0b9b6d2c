"""What ``put`` and ``get`` may be told, what they answer, and what all ways to move files need."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..commands.control_shell import ControlShell
    from ..commands.runner import Commands
    from ..files.remote_files import Files
    from . import listing
    from .sftp import Sftp

    Progress = Callable[[int, int, int, int, str], object]

METHODS = ("auto", "sftp", "scp", "tar", "rsync")


class Site(NamedTuple):
    """The lanes of one connection, for whatever moves files on them."""

    commands: Commands
    shell: ControlShell
    sftp: Sftp
    files: Files
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferResult:
    """What a ``put`` or ``get`` moved: counts of files, bytes, and seconds.

    ``skipped`` are files that were left out: by a pattern, or because they were there already.
    """

    files: int
    bytes: int
    skipped: int
    elapsed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to move files; checked before anything is touched."""

    method: str = "auto"
    only: Sequence[str] | None = None
    exclude: Sequence[str] | None = None
    update: bool = False
    merge: bool = False
    resume: bool = False
    verify: bool = False
    preserve: bool = False
    follow_symlinks: bool = False
    progress: Progress | None = None
    mark: bytes | None = None
    """A file's name: one of our own that a directory is to have when it gets its name."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigurationError(f"method={self.method!r} is none of {', '.join(METHODS)}")
        if self.resume and self.method not in ("auto", "tar"):
            raise ConfigurationError(
                f"resume=True goes on by a stream of its own, not by method={self.method!r}",
                advice="Leave method= out.",
            )

    @property
    def filter(self) -> listing.Filter:
        """The patterns of ``only`` and ``exclude``."""
        from . import listing

        return listing.Filter(self.only, self.exclude)

    @property
    def keeps_times(self) -> bool:
        """Whether files get the times of their sources: else an update would find them changed."""
        return self.preserve or self.update

    @property
    def into_existing(self) -> bool:
        """Whether a directory that exists is added to."""
        return self.merge or self.update

    def with_times(self) -> Options:
        """The same for what moves trees, where ``preserve`` means the times only."""
        return replace(self, preserve=self.keeps_times)

    def report(self, done: int, total: int, files: int, of: int, name: bytes) -> None:
        """Tell ``progress``, if anybody listens."""
        if self.progress is not None:
            self.progress(done, total, files, of, os.fsdecode(os.path.basename(name)))
