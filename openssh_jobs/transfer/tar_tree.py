"""Trees as one tar stream between a tar of this machine and one of the host."""

from __future__ import annotations

import bisect
import os
import re
import stat
from functools import partial
from typing import TYPE_CHECKING

from ..commands import limits
from ..commands.os_errors import error_of, local_error
from ..commands.quoting import quote_path, to_text
from ..commands.stdio import close_fd
from ..errors import ConfigurationError, TransferError
from ..files import write_errors
from ..openssh import process
from . import listing, local_programs, tar_flavours, tar_stream
from .progress import Watch
from .streams import Background, launch_fed, remote_end, skip_to_mark, wide_pipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import FileIO

    from ..commands.child import Running
    from .options import Options, Site

_TAR_END = 60.0
# What tars say of a member that leads out of the directory: the first sort is no error to them.
_STRIPPED = re.compile("[Rr]emoving leading|Removing leading|unsafe|Path contains")
_HOSTILE = re.compile(
    r"contains '\.\.'|contains \.\.|unsafe|through (?:a )?symlink|[Cc]annot hard link|"
    r"[Cc]an't create (?:sym|hard)?link|Hard-link target"
)


def _flags(options: Options) -> list[str]:
    return [] if options.preserve else ["-m"]


def send_tree(
    site: Site,
    source: bytes,
    stage: bytes,
    members: Sequence[listing.Member],
    options: Options,
    *,
    whole: bool,
) -> None:
    """Members of a local tree into the directory ``stage`` on the host, as one tar stream."""
    tar = tar_flavours.required()
    receiver = tar_flavours.kind(site.files.features.tar)
    holes = tar_flavours.keeps_holes(
        members, lambda name: tar_flavours.is_local_hole(os.path.join(source, name))
    )
    argv: list[str | bytes] = [tar.path, "-c", "-f", "-"]
    argv += tar_flavours.create_flags(tar.kind, receiver, holes=holes)
    if options.follow_symlinks:
        argv.append("-h")
    argv += ["-C", source]
    by_list = tar_flavours.reads_lists(tar.kind)
    if by_list:
        argv += ["--no-recursion", "--null", "-T", "-"]
    elif whole:
        argv.append(".")
    else:
        raise ConfigurationError(
            "the tar of this machine cannot take a list of names", advice='Use method="sftp".'
        )
    flags = " ".join(["-x", "-f", "-", "-o", "-p", *_flags(options)])
    script = b"cd -- %b && exec tar %b" % (quote_path(stage), flags.encode())
    if receiver == "other":
        # BusyBox does not give the directory itself its mode.
        mode = stat.S_IMODE(os.stat(source).st_mode)
        script = b"cd -- %b && tar %b && chmod %o ." % (quote_path(stage), flags.encode(), mode)
    plan = site.commands.plan(script, prologue="", inert=True)
    ordered = by_list and tar.kind == "gnu"
    import tempfile

    with tempfile.TemporaryFile() as wanted, tempfile.TemporaryFile() as said:
        wanted.write(listing.tar_list(members) if by_list else b"")
        wanted.seek(0)
        # The tar here starts when the one there has begun.
        running, write_end = launch_fed(site.commands, plan)
        try:
            child = process.spawn(
                argv,
                stdin=wanted,
                stdout=write_end,
                stderr=said,
                # macOS would add ._ files of its own.
                env={"COPYFILE_DISABLE": "1"},
            )
        except BaseException:
            running.close()
            raise
        finally:
            close_fd(write_end)
        try:
            with Watch(_told_by_tar(child.pid, "wchar", members, options, source, ordered=ordered)):
                moved = partial(local_programs.moved_by, child.pid, "wchar")
                remote_end(running, site.commands, stage, site.host, moved=moved)
            _local_end(child, said, source)
        except BaseException:
            process.end(child)
            raise


def _told_by_tar(
    pid: int,
    counter: str,
    members: Sequence[listing.Member],
    options: Options,
    name: bytes,
    *,
    ordered: bool,
) -> Callable[[], object] | None:
    """How far a local tar is, by the bytes that the system counts for it; ``None``: not told.

    An archive is a header of 512 bytes a member and whole blocks of 512, so that the place in the
    stream says which members are through, where their order is known.
    """
    if options.progress is None or local_programs.read_counter(pid, counter) is None:
        return None
    total = sum(member.size for member in members if member.kind == "f")
    ends, sizes, at, size = [], [0], 0, 0
    for member in (one for one in members if one.kind != "d"):
        content = member.size if member.kind == "f" else 0
        at, size = at + _header(member) + -(-content // 512) * 512, size + content
        ends.append(at)
        sizes.append(size)
    headers = sum(_header(member) for member in members if member.kind == "d")

    def tell() -> None:
        seen = local_programs.read_counter(pid, counter)
        if seen is None:
            return
        if ordered:
            done = bisect.bisect_right(ends, max(0, seen - headers))
            options.report(sizes[done], total, done, len(ends), name)
        else:
            share = min(1.0, seen / max(1, at + headers))
            options.report(int(total * share), total, 0, len(ends), name)

    return tell


def _header(member: listing.Member) -> int:
    """Bytes before the content of a member: GNU's form takes more for a long name."""
    length = len(member.name) + len(b"./") + (member.kind == "d")
    return 512 if length <= 100 else 1024 + -(-(length + 1) // 512) * 512


def _local_end(child: process.Child, said: object, path: bytes) -> None:
    """Wait for the local tar; an error of its is about a local path."""
    if not process.wait(child, _TAR_END):
        raise TransferError("the local tar does not end")
    said.seek(0)  # type: ignore[attr-defined]
    text = to_text(said.read())  # type: ignore[attr-defined]
    if child.returncode == 0 and not _STRIPPED.search(text):
        return
    if child.returncode == 0 or _HOSTILE.search(text):
        line = text.strip().splitlines()[0]
        raise TransferError(f"the archive was refused here: {line}", sent="yes")
    line = text.strip().splitlines()[0] if text.strip() else f"status {child.returncode}"
    if "rote only" in line and (error := write_errors.asked_here(path)) is not None:
        line = error.strerror or line
    raise local_error(os.fsdecode(path), line)


def list_remote(site: Site, source: bytes, follow_symlinks: bool) -> list[listing.Member]:
    """All members of a tree on the host, in one round trip."""
    script = listing.FIND_PRINTF if site.files.features.find_printf else listing.FIND_PLAIN
    if follow_symlinks:
        script = script.replace(b"find .", b"find -L .", 1)
        script = script.replace(b'if [ -L "$p" ]; then k=l; elif', b"if")
    script = b"cd -- %b && %b" % (quote_path(source), script)
    answer = site.shell.call(script, again=True, timeout=600, most=limits.LISTING)
    if answer.status != 0:
        raise error_of(to_text(answer.stderr), source, host=site.host)
    try:
        return listing.parse_find(answer.stdout, site.host)
    except ValueError as error:
        raise listing.unreadable(source, error, site.host) from error


def receive_tree(
    site: Site,
    source: bytes,
    stage: bytes,
    members: Sequence[listing.Member],
    options: Options,
    *,
    whole: bool,
) -> None:
    """Members of a tree on the host into the local directory ``stage``, as one tar stream."""
    tar_here = tar_flavours.required()
    sender = tar_flavours.kind(site.files.features.tar)
    holes = tar_flavours.keeps_holes(members, lambda name: False)
    words = ["-c", "-f", "-", *tar_flavours.create_flags(sender, tar_here.kind, holes=holes)]
    if options.follow_symlinks:
        words.append("-h")
    flags = " ".join(words).encode()
    data = b""
    if whole:
        tar = b"tar %b ." % flags
    elif tar_flavours.reads_lists(sender):
        tar = b"tar %b --no-recursion --null -T -" % flags
        data = listing.tar_list(members)
    else:
        raise ConfigurationError(
            "the host's tar cannot take a list of names",
            host=site.host,
            advice='Use method="sftp".',
        )
    # Else macOS would send ._ files of its own.
    quiet = b"COPYFILE_DISABLE=1; export COPYFILE_DISABLE; "
    plan = site.commands.plan(
        quiet + b"cd -- %b && exec %b" % (quote_path(source), tar), prologue=""
    )
    argv: list[str | bytes] = [tar_here.path, "-x", "-f", "-", "-C", stage, "-o", "-p"]
    argv += _flags(options)
    read_end, write_end = wide_pipe()
    with os.fdopen(read_end, "rb", buffering=0) as pipe:
        try:
            running = site.commands.launch(plan, data=data, stdout=write_end)
        finally:
            close_fd(write_end)
        at_work: list[int] = []  # the tar here, once there is one
        remote = Background(
            lambda: remote_end(
                running, site.commands, source, site.host, data,
                lambda: local_programs.moved_by(at_work[0], "rchar") if at_work else 0,
            )
        )  # fmt: skip
        try:
            skip_to_mark(read_end, running)
        except TransferError:
            remote.join()  # the command said why on stderr
            raise
        except BaseException:
            running.session.close()
            remote.join_quietly()
            raise
        tell = (members, options, source, not whole and sender == "gnu")
        reader = tar_stream.Reader(
            members,
            site.host,
            stage,
            # Only a tar of everything holds what was made since it was listed.
            strangers=whole and options.filter.passes_all,
            plain=tar_here.kind == "other",
        )
        _extract(argv, pipe, stage, running, remote, tell, reader, at_work)


def _extract(
    argv: Sequence[str | bytes],
    pipe: FileIO,
    stage: bytes,
    running: Running,
    remote: Background,
    tell: tuple[Sequence[listing.Member], Options, bytes, bool],
    reader: tar_stream.Reader,
    at_work: list[int],
) -> None:
    members, options, source, ordered = tell

    import tempfile

    with tempfile.TemporaryFile() as said:
        here, to = wide_pipe()
        try:
            child = process.spawn(argv, stdin=here, stderr=said)
        except BaseException:
            close_fd(to)
            raise
        finally:
            close_fd(here)  # else a tar here that dies would leave the one there writing
        archive = os.dup(pipe.fileno())
        pipe.close()
        door = Background(lambda: tar_stream.pass_on(archive, to, reader))
        at_work.append(child.pid)
        try:
            try:
                with Watch(
                    _told_by_tar(child.pid, "rchar", members, options, source, ordered=ordered)
                ):
                    remote.join()
            except (OSError, TransferError):
                # What was refused here broke the pipe of the tar there.
                door.join()
                # So did a tar here that failed (a full disk).
                if process.wait(child, 5.0):
                    _local_end(child, said, stage)
                raise
            door.join()
            _local_end(child, said, stage)
        except BaseException:
            process.end(child)
            if remote.at_work:
                running.end()
            remote.join_quietly()
            door.join_quietly()
            raise
