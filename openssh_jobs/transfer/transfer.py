"""``put`` and ``get``: determine source and target, and whether it is a file or a tree."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..commands.os_errors import refused
from ..commands.quoting import to_bytes, to_text
from ..errors import InputError, TransferError, remote_oserror
from ..files import host_names
from . import deletion, listing, staging
from .lanes import Lanes
from .options import METHODS, Options, TransferResult
from .plan import FilePlan, SourcePlan, TransferPlan, TreePlan
from .single_file import FileMoves
from .tree import TreeMoves

if TYPE_CHECKING:
    from ..commands.control_shell import ControlShell
    from ..commands.runner import Commands
    from ..files.path_shell import PathShell
    from ..files.stat import FileStat
    from .sftp import Sftp

__all__ = ["METHODS", "Options", "Transfer", "TransferResult"]


class Transfer:
    """Moves files and trees between this machine and one host.

    A target is whole or absent: a file or tree is written under another name in the directory of
    the target and renamed when it is complete.
    """

    def __init__(
        self, commands: Commands, shell: ControlShell, sftp: Sftp, files: PathShell, host: str
    ) -> None:
        self._files = files
        self._host = host
        self._lanes = lanes = Lanes(commands, shell, sftp, files, host)
        self.single_files = FileMoves(lanes)
        self.trees = TreeMoves(lanes)

    def put(
        self,
        local: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        remote: str,
        options: Options,
    ) -> TransferResult:
        """Copy local files and trees to the host; several go into the directory ``remote``."""
        began = time.monotonic()
        if isinstance(local, str | os.PathLike):
            sources = [local]
        else:
            sources, remote = list(local), remote.rstrip("/") + "/"
        plans = [self._plan_put(one, remote, options) for one in sources]
        self._refuse_twice([plan.target for plan in plans])

        def carry_out(plan: SourcePlan, options: Options, began: float) -> TransferResult:
            if isinstance(plan, TreePlan):
                return self.trees.put(plan, options, began)
            assert isinstance(plan, FilePlan)
            return self.single_files.put(plan, options, began)

        def delete(plan: SourcePlan) -> int:
            return deletion.delete_remote(self._lanes, plan.target, plan.surplus)

        return self._carried_out(plans, options, began, carry_out, delete)

    def _plan_put(
        self, local: str | os.PathLike[str], remote: str, options: Options
    ) -> TreePlan | FilePlan[os.stat_result]:
        source = os.fsencode(os.fspath(local))
        if not source:
            raise FileNotFoundError(errno.ENOENT, "an empty path names no file", "")
        source = source.rstrip(b"/") or b"/"
        facts = os.stat(source)
        target = self._target(remote, os.path.basename(os.path.abspath(source)))
        if stat.S_ISDIR(facts.st_mode):
            return self.trees.plan_put(source, target, options)
        if not stat.S_ISREG(facts.st_mode):
            raise TransferError(f"{os.fsdecode(source)!r} is neither a file nor a directory")
        return self.single_files.plan_put(source, target, facts, options)

    def _target(self, remote: str, name: bytes) -> bytes:
        """The remote target: the path itself, or ``name`` below it where it ends in a slash."""
        target = to_bytes(self._files.absolute(remote))
        if target.endswith(b"/"):
            target = target.rstrip(b"/") + b"/" + name
        if not target.strip(b"/"):
            raise refused(errno.EPERM, remote, host=self._host, detail="replacing / is refused")
        return target

    def get(
        self,
        remote: str | Sequence[str],
        local: str | os.PathLike[str],
        options: Options,
    ) -> TransferResult:
        """Copy files and directories of the host; several go into the local directory ``local``."""
        began = time.monotonic()
        target = os.fsencode(local)
        if not target:
            raise FileNotFoundError(errno.ENOENT, "an empty path names no file", "")
        if isinstance(remote, str):
            sources = [remote]
        else:
            sources, target = list(remote), target.rstrip(b"/") + b"/"
        facts = self._facts(sources)
        plans = [
            self._plan_get(one, known, target, options)
            for one, known in zip(sources, facts, strict=True)
        ]
        self._refuse_twice([plan.target for plan in plans])

        def carry_out(plan: SourcePlan, options: Options, began: float) -> TransferResult:
            if isinstance(plan, TreePlan):
                return self.trees.get(plan, options, began)
            assert isinstance(plan, FilePlan)
            return self.single_files.get(plan, options, began)

        def delete(plan: SourcePlan) -> int:
            return deletion.delete_local(plan.target, plan.surplus, host=self._host)

        def prepare() -> None:
            # A name that is another one's here would replace that file.
            staging.make_directories(target)
            kinds = ["d" if isinstance(plan, TreePlan) else "f" for plan in plans]
            names = [os.path.basename(plan.target) for plan in plans]
            members = [listing.Member(*pair, 0) for pair in zip(names, kinds, strict=True)]
            host_names.check_target(target, members, host=self._host)

        then = prepare if len(plans) > 1 else None
        return self._carried_out(plans, options, began, carry_out, delete, then)

    def _facts(self, sources: Sequence[str]) -> list[FileStat]:
        """What ``stat`` says of files of the host, in one round trip."""
        paths = [self._source(one) for one in sources]
        if len(paths) == 1:
            return [self._files.stat(paths[0])]
        found = []
        for path, facts in zip(paths, self._files.stat_many(paths), strict=True):
            if facts is None:
                raise remote_oserror(errno.ENOENT, path, host=self._host)
            found.append(facts)
        return found

    def _source(self, remote: str) -> bytes:
        return to_bytes(self._files.absolute(remote)).rstrip(b"/") or b"/"

    def _plan_get(
        self, remote: str, facts: FileStat, target: bytes, options: Options
    ) -> TreePlan | FilePlan[FileStat]:
        source = self._source(remote)
        if target.endswith(b"/"):
            target = os.path.join(target, host_names.last_part(source, host=self._host))
        staging.refuse_too_long(target)
        if facts.is_dir():
            return self.trees.plan_get(source, target, facts.st_mode, options)
        if not facts.is_file():
            raise TransferError(
                f"{remote!r} is neither a file nor a directory", host=self._host, sent="yes"
            )
        return self.single_files.plan_get(source, target, facts, options)

    # ------------------------------------------------------------------ several sources

    def _refuse_twice(self, targets: Sequence[bytes]) -> None:
        """Raise ``InputError`` if two sources have one target."""
        seen: set[bytes] = set()
        for target in targets:
            if target in seen:
                name = to_text(posixpath.basename(target))
                raise InputError(
                    f"two of the sources are called {name!r}: one would replace the other",
                    host=self._host,
                )
            seen.add(target)

    @staticmethod
    def _carried_out(
        plans: Sequence[SourcePlan],
        options: Options,
        began: float,
        carry_out: Callable[[SourcePlan, Options, float], TransferResult],
        delete: Callable[[SourcePlan], int],
        prepare: Callable[[], None] | None = None,
    ) -> TransferResult:
        """Ask ``approve``, then move everything, then delete; the sum of the results."""
        whole = TransferPlan(plans)
        deleted = sum(len(plan.surplus) for plan in plans)
        if options.dry_run:
            elapsed = time.monotonic() - began
            return TransferResult(
                files=whole.files,
                bytes=whole.bytes,
                skipped=whole.skipped,
                elapsed=elapsed,
                deleted=deleted,
                plan=whole,
            )
        if options.approve is not None:
            options.approve(whole)
        if prepare is not None:
            prepare()
        files = moved = skipped = 0
        for plan in plans:
            result = carry_out(plan, _counted(options, whole, files, moved), began)
            files, moved = files + result.files, moved + result.bytes
            skipped += result.skipped
        deleted = sum(delete(plan) for plan in plans if plan.surplus)
        elapsed = time.monotonic() - began
        return TransferResult(
            files=files, bytes=moved, skipped=skipped, elapsed=elapsed, deleted=deleted
        )


def _counted(options: Options, whole: TransferPlan, files: int, moved: int) -> Options:
    """The options of one of several sources: its progress is reported as part of the whole."""
    report = options.progress
    if report is None or len(whole.sources) == 1:
        return options
    total, count = whole.bytes, whole.files

    def progress(done: int, _total: int, done_files: int, _of: int, name: str) -> None:
        report(moved + done, total, files + done_files, count, name)

    return replace(options, progress=progress)
