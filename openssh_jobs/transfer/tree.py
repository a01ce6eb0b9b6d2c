"""A tree: staged beside its target by tar, sftp or rsync, checked, then renamed to it.

With ``merge`` and ``update`` the members are renamed one by one over existing ones.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ..commands import limits, scripts
from ..commands.os_errors import error_of
from ..commands.quoting import quote_path, sftp_quote, to_text, visible
from ..errors import ConfigurationError, NoSpace, RemoteOSError, TransferError, remote_oserror
from ..files import host_names, writing
from ..files.writing import part_name
from . import deletion, listing, parts, sftp_tree, staging, streams, tar_flavours, tar_tree, update
from .lanes import SCRIPTS
from .options import TransferResult
from .plan import TreePlan

if TYPE_CHECKING:
    from .lanes import Lanes
    from .options import Method, Options

_CHMODS_AT_ONCE = 500


class TreeMoves:
    """Moves trees between this machine and one host."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._shell = lanes.shell
        self._files = lanes.files
        self._host = lanes.host

    def _method(
        self,
        options: Options,
        members: list[listing.Member],
        sender: tar_flavours.Kind,
        *,
        whole: bool,
    ) -> Method:
        """The method to use; ``sender`` is the source's tar, ``whole``: the whole tree is moved."""
        if options.resume:
            raise ConfigurationError(
                "resume=True is for single files", advice="Use update=True to continue with a tree."
            )
        if options.method == "auto":
            fits = whole or tar_flavours.reads_lists(sender)
            both = self._files.features.tar and tar_flavours.local() is not None
            if fits and both:
                return "tar"
            options = replace(options, method="sftp")
        if options.method == "tar" and not self._files.features.tar:
            raise TransferError("the host has no tar", host=self._host, advice='Use method="sftp".')
        if options.method == "sftp":
            for member in members:
                sftp_quote(member.name)  # refuse before anything is sent
        if options.method == "scp":
            raise ConfigurationError(
                'method="scp" is for single files', advice='Use method="tar" or "sftp".'
            )
        if options.method == "rsync":
            from . import rsync

            rsync.require(self._lanes)
        return options.method

    # ------------------------------------------------------------------ put

    def plan_put(self, source: bytes, target: bytes, options: Options) -> TreePlan:
        """What sending a local directory would do."""
        everything = listing.walk(source, follow_symlinks=options.follow_symlinks)
        members = options.filter.select(everything)
        _refuse_others(members, source)
        there, retimed, surplus = False, list[listing.Member](), list[listing.Member]()
        if options.update:
            if options.delete:
                self._files.refuse_precious(target, "deleting in")
            known = update.list_remote(self._lanes, target)
            if known is not None:
                there = True
                members, retimed = self._changed_to_put(source, target, members, options, known)
                if options.delete:
                    names = {member.name for member in everything}
                    found = update.members(known)
                    surplus = deletion.surplus(names, found, options.filter, host=self._host)
        elif options.dry_run and not options.merge:
            self._refuse_existing(target)
        tar = tar_flavours.local()
        whole = len(members) == len(everything)
        return TreePlan(
            source=source,
            target=target,
            members=members,
            skipped=_skipped(everything, members),
            retimed=retimed,
            surplus=surplus,
            method=self._method(options, members, tar.kind if tar else "other", whole=whole),
            whole=whole,
            there=there,
            mode=stat.S_IMODE(os.stat(source).st_mode),
        )

    def _refuse_existing(self, target: bytes) -> None:
        """The error that a new tree would meet; without ``dry_run`` a later script finds it."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self._files.stat(target, follow_symlinks=False)
            raise remote_oserror(errno.EEXIST, target, host=self._host)

    def put(self, plan: TreePlan, options: Options, began: float) -> TransferResult:
        """Send a local directory; ``began`` is when the call began (``time.monotonic``)."""
        source, target, members = plan.source, plan.target, list(plan.members)
        if plan.retimed:
            update.set_remote_times(self._lanes, target, plan.retimed)
        if plan.there and not members:
            return _result(plan, 0, 0, began)
        parent = posixpath.dirname(target.rstrip(b"/")) or b"/"
        stage = posixpath.join(parent, part_name())
        total, count = _sums(members)
        number = None
        # The stage is made inside the try: an interruption may come right after.
        try:
            number = self._prepare(target, parent, stage, options.into_existing)
            options.report(0, total, 0, count, source)
            basis = target if plan.there else None
            self._send(plan.method, source, (stage, number), members, options, plan.whole, basis)
            self._check(stage, members)
            if options.verify:
                from . import checksums

                names = [member.name for member in members if member.kind == "f"]
                checksums.compare_many(self._lanes, source, stage, names)
            self._place(stage, target, members, options, number)
        except RemoteOSError as error:
            parts.remove_stage(self._lanes, error, stage, number)
            if error.path != to_text(stage):
                raise
            # The caller knows the target, not the stage: name the target in the error.
            raise remote_oserror(error.number, target, host=self._host) from error
        except BaseException as error:
            parts.remove_stage(self._lanes, error, stage, number)
            raise
        options.report(total, total, count, count, source)
        return _result(plan, count, total, began)

    def _changed_to_put(
        self,
        source: bytes,
        target: bytes,
        members: list[listing.Member],
        options: Options,
        there: dict[bytes, update.MemberFacts],
    ) -> update.Difference:
        here = update.list_local(source, follow_symlinks=options.follow_symlinks) or {}
        members = [member for member in members if member.name in here]
        sides = update.Sides(source, target, upwards=True)
        by_content = options.verify
        return update.changed(self._lanes, sides, members, here, there, by_content=by_content)

    def _send(
        self,
        method: str,
        source: bytes,
        there: tuple[bytes, int],
        members: list[listing.Member],
        options: Options,
        whole: bool,
        basis: bytes | None,
    ) -> None:
        options = options.with_times()
        stage, number = there
        if method == "tar":
            try:
                tar_tree.send_tree(
                    self._lanes, source, stage, number, members, options, whole=whole
                )
            except NoSpace as error:
                # GNU tar's "wrote only" may mean a quota as well.
                raise writing.probe_host(self._shell, self._host, stage) or error from error
        elif method == "rsync":
            from . import rsync

            rsync.send(self._lanes, source, there, members, options, basis)
            mode = stat.S_IMODE(os.stat(source).st_mode)
            enter = parts.enter_stage(stage, number)
            self._shell.call(b"%b && chmod %o ." % (enter, mode), again=True)
        else:
            parts.refuse_shared(self._lanes, posixpath.dirname(stage), "sftp")
            sftp_tree.send_tree(self._lanes, source, stage, members, options)

    def _prepare(self, target: bytes, parent: bytes, stage: bytes, merge: bool) -> int:
        """Make the directory of the target and the stage in it; returns the stage's number."""
        paths = [scripts.path(name) for name in (target, parent, stage)]
        words = parts.list_words()
        script = scripts.call(
            SCRIPTS, "oj_prepare_tree", "merge" if merge else "new", paths, *words
        )
        answer = self._shell.call(script)
        if answer.status != 0:
            path = target if answer.status == 2 else parent
            raise error_of(to_text(answer.stderr), path, host=self._host)
        self._files.check_done("put", target, answer)
        listed, nul, rest = answer.stdout.rpartition(b"\0")
        number = parts.stage_number(self._lanes, stage, rest.removesuffix(b"done\n"))
        parts.sweep_there(self._lanes, parent, listed + nul)
        return number

    def _check(self, stage: bytes, members: list[listing.Member]) -> None:
        """Compare the count of members on the host with what was sent."""
        script = b"cd -- %b && find . ! -name . -print0 | tr -cd '\\0' | wc -c"
        answer = self._shell.call(script % quote_path(stage), again=True)
        if answer.status != 0:
            raise error_of(to_text(answer.stderr), stage, host=self._host)
        arrived = answer.stdout.strip()
        if arrived != b"%d" % len(members):
            raise TransferError(
                f"{visible(arrived) or 'none'} of {len(members)} members arrived",
                host=self._host,
                sent="yes",
            )

    def _place(
        self,
        stage: bytes,
        target: bytes,
        members: list[listing.Member],
        options: Options,
        number: int,
    ) -> None:
        paths = scripts.path(stage), scripts.path(target)
        if options.into_existing:
            rename = scripts.functions(SCRIPTS, "oj_rename")
            script = scripts.call(SCRIPTS, "oj_merge", paths, number, rename)
        else:
            script = scripts.call(SCRIPTS, "oj_place", paths, options.mark or b"", number)
        answer = self._shell.call(script)
        if answer.status != 0:
            raise error_of(to_text(answer.stderr), target, host=self._host)
        self._files.check_done("put", target, answer)
        self._give_modes(target, members, answer.stdout.split(b"\0")[:-1])

    def _give_modes(self, target: bytes, members: list[listing.Member], made: list[bytes]) -> None:
        """Set the modes of the directories that a merge has created, deepest first."""
        modes = {member.name: stat.S_IMODE(member.mode) for member in members}
        lines = [
            b"chmod %o %b" % (modes[name], quote_path(posixpath.join(target, name)))
            for name in sorted((record.removeprefix(b"./") for record in made), reverse=True)
            if name in modes
        ]
        for start in range(0, len(lines), _CHMODS_AT_ONCE):
            script = b" && ".join(lines[start : start + _CHMODS_AT_ONCE])
            answer = self._shell.call(script, again=True)
            if answer.status != 0:
                raise error_of(to_text(answer.stderr), target, host=self._host)

    # ------------------------------------------------------------------ get

    def plan_get(self, source: bytes, target: bytes, mode: int, options: Options) -> TreePlan:
        """What receiving a directory of the host would do; ``mode`` is its own."""
        there = os.path.lexists(target)
        if there and not options.into_existing:
            raise FileExistsError(
                errno.EEXIST, "File exists (merge=True adds to it)", os.fsdecode(target)
            )
        if there and not os.path.isdir(target):
            raise NotADirectoryError(errno.ENOTDIR, "Not a directory", os.fsdecode(target))
        if there:
            # Through a link of another user nothing is read either: rsync would send what it finds.
            with staging.entered(target, b""):
                pass
        if options.delete:
            deletion.refuse_precious_here(target, host=self._host)
        everything, members, retimed, surplus = self._wanted_to_get(source, target, options)
        whole = len(members) == len(everything)
        sender = tar_flavours.kind(self._files.features.tar)
        return TreePlan(
            source=source,
            target=target,
            members=members,
            skipped=_skipped(everything, members),
            retimed=retimed,
            surplus=surplus,
            method=self._method(options, members, sender, whole=whole),
            whole=whole,
            there=there,
            mode=mode,
        )

    def get(self, plan: TreePlan, options: Options, began: float) -> TransferResult:
        """Receive a directory of the host; ``began`` is as with ``put``."""
        source, target, members = plan.source, plan.target, list(plan.members)
        if plan.retimed:
            update.set_local_times(target, plan.retimed)
        if options.update and plan.there and not members:
            return _result(plan, 0, 0, began)
        parent = os.path.dirname(os.path.abspath(target))
        staging.make_directories(parent)
        parts.sweep_here(parent)
        stage = os.path.join(parent, part_name())
        total, count = _sums(members)
        number = None
        try:
            number = parts.make_local_stage(stage)
            for member in members:
                staging.refuse_too_long(os.path.join(target, member.name))
            host_names.refuse_not_taken(stage, members, host=self._host)
            # No file of the target is read (as a basis) or replaced through a link.
            if plan.there:
                host_names.check_target(target, members, host=self._host)
            host_names.check_apart(stage, members, host=self._host)
            options.report(0, total, 0, count, source)
            has_basis = options.update and plan.there and not _links(target, members)
            basis = target if has_basis else None
            with staging.held(stage, number) as inside, staging.named(inside, target):
                self._receive(plan.method, source, inside, members, options, plan.whole, basis)
                got = staging.check(
                    inside,
                    members,
                    self._host,
                    # Only a tar of the whole tree can hold members created after the listing.
                    strangers=plan.method == "tar" and plan.whole and options.filter.passes_all,
                    keep_special_modes=options.preserve,
                )
                if got > limits.grown(total):
                    raise streams.too_much(source, total, self._host)
                if options.verify:
                    from . import checksums

                    names = [member.name for member in members if member.kind == "f"]
                    checksums.compare_many(self._lanes, inside, source, names)
                # Neither rsync nor BusyBox's tar sets the mode of the top directory itself.
                os.chmod(inside, stat.S_IMODE(plan.mode))
                staging.place(stage, inside, target, merge=options.into_existing, host=self._host)
        finally:
            parts.remove_local_stage(stage, number)
        options.report(got, got, count, count, source)
        return _result(plan, count, got, began)

    def _wanted_to_get(
        self, source: bytes, target: bytes, options: Options
    ) -> tuple[
        list[listing.Member], list[listing.Member], list[listing.Member], list[listing.Member]
    ]:
        """All members of a tree on the host, and those to receive, to retime and to delete."""
        if not options.update:
            everything = listing.list_remote(self._lanes, source, options.follow_symlinks)
            members = options.filter.select(everything)
            _refuse_others(members, source)
            return everything, members, [], []
        there = update.list_remote(self._lanes, source, follow_symlinks=options.follow_symlinks)
        if there is None:  # it was there when it was asked about
            raise remote_oserror(errno.ENOENT, source, host=self._host)
        everything = update.members(there)
        members = options.filter.select(everything)
        _refuse_others(members, source)
        here = update.list_local(target)
        if here is None:
            return everything, members, [], []
        sides = update.Sides(target, source, upwards=False)
        by_content = options.verify
        members, retimed = update.changed(
            self._lanes, sides, members, there, here, by_content=by_content
        )
        surplus = []
        if options.delete:
            found = update.members(here)
            surplus = deletion.surplus(there.keys(), found, options.filter, host=self._host)
        return everything, members, retimed, surplus

    def _receive(
        self,
        method: str,
        source: bytes,
        stage: bytes,
        members: list[listing.Member],
        options: Options,
        whole: bool,
        basis: bytes | None,
    ) -> None:
        options = options.with_times()
        if method == "tar":
            tar_tree.receive_tree(self._lanes, source, stage, members, options, whole=whole)
        elif method == "rsync":
            from . import rsync

            rsync.receive(self._lanes, source, stage, members, options, basis)
            sftp_tree.receive_links(self._lanes, source, stage, members)
        else:
            sftp_tree.receive_tree(self._lanes, source, stage, members, options)


def _links(target: bytes, members: list[listing.Member]) -> bool:
    """Whether a link is in the place of a file: rsync would read its target as a basis."""
    paths = (os.path.join(target, member.name) for member in members if member.kind == "f")
    return any(os.path.islink(path) for path in paths)


def _sums(members: list[listing.Member]) -> tuple[int, int]:
    """Bytes of all files, and the count of members that are not directories."""
    total = sum(member.size for member in members if member.kind == "f")
    return total, sum(member.kind != "d" for member in members)


def _skipped(everything: list[listing.Member], members: list[listing.Member]) -> int:
    return _sums(everything)[1] - _sums(members)[1]


def _result(plan: TreePlan, count: int, moved: int, began: float) -> TransferResult:
    elapsed = time.monotonic() - began
    return TransferResult(files=count, bytes=moved, skipped=plan.skipped, elapsed=elapsed)


def _refuse_others(members: list[listing.Member], top: bytes) -> None:
    for member in members:
        if member.kind == "o":
            name = os.fsdecode(os.path.join(top, member.name))
            raise TransferError(
                f"{name!r} is a fifo, socket or device",
                advice="Leave it out with exclude=.",
            )
