"""A tree as one tar stream: starts, feeds and monitors the local tar and the tar on the host.

``tar_flavours`` has the flags that both tars understand; ``tar_guard`` checks received archives.
"""

from __future__ import annotations

import bisect
import os
import re
import stat
from functools import partial
from typing import TYPE_CHECKING

from ..commands.os_errors import local_error
from ..commands.quoting import quote_path, to_text
from ..commands.stdio import close_fd
from ..errors import ConfigurationError, TransferError
from ..files import writing
from ..openssh import process
from . import listing, parts, progress, tar_flavours, tar_guard
from .streams import Background, launch_fed, remote_end, skip_to_mark, wide_pipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import FileIO
    from typing import BinaryIO

    from ..commands.child import Running
    from .lanes import Lanes
    from .options import Options

_TAR_END = 60.0
"""Seconds for the local tar to end once its stream has."""
_EXTRACT = ("-x", "-f", "-", "-o", "-p")
# What tars print for a member outside the directory; with the first kind they exit with status 0.
_STRIPPED = re.compile("[Rr]emoving leading|Removing leading|unsafe|Path contains")
_HOSTILE = re.compile(
    r"contains '\.\.'|contains \.\.|unsafe|through (?:a )?symlink|[Cc]annot hard link|"
    r"[Cc]an't create (?:sym|hard)?link|Hard-link target"
)


def send_tree(
    lanes: Lanes,
    source: bytes,
    stage: bytes,
    number: int,
    members: Sequence[listing.Member],
    options: Options,
    *,
    whole: bool,
) -> None:
    """Send members of a local tree into ``stage``, the directory of that number on the host.

    ``whole``: the members are all of the tree.  Raises the ``OSError`` of the path that a tar
    complains about, ``TransferError``, ``ConfigurationError``.
    """
    tar = tar_flavours.required()
    receiver = tar_flavours.kind(lanes.files.features.tar)
    argv, names = _create_here(tar, receiver, source, members, options, whole=whole)
    extract = lanes.files.features.gently + b"tar"
    enter = parts.enter_stage(stage, number)
    script = _extract_script(extract, receiver, source, enter, options)
    plan = lanes.commands.plan(script, prologue="", inert=True)
    ordered = tar.kind == "gnu"
    import tempfile

    with tempfile.TemporaryFile() as list_file, tempfile.TemporaryFile() as stderr:
        list_file.write(names)
        list_file.seek(0)
        # The local tar starts after the one on the host has started.
        running, write_end = launch_fed(lanes.commands, plan)
        try:
            child = process.spawn(
                argv,
                stdin=list_file,
                stdout=write_end,
                stderr=stderr,
                # Else tar on macOS adds ._ files.
                env={"COPYFILE_DISABLE": "1"},
            )
        except BaseException:
            running.close()
            raise
        finally:
            close_fd(write_end)
        report = _report_by_counter(child.pid, "wchar", members, options, source, ordered=ordered)
        try:
            with progress.ProgressWatcher(report):
                moved = partial(progress.sign_of_life, child.pid, "wchar")
                remote_end(running, lanes.commands, stage, lanes.host, moved=moved)
            _end_of_local_tar(child, stderr, source)
        except BaseException:
            process.end(child)
            raise


def _create_here(
    tar: tar_flavours.Tar,
    receiver: tar_flavours.Kind,
    source: bytes,
    members: Sequence[listing.Member],
    options: Options,
    *,
    whole: bool,
) -> tuple[list[str | bytes], bytes]:
    """The command line of the local tar that writes the archive, and its list of names."""
    holes = tar_flavours.keeps_holes(
        members, lambda name: tar_flavours.is_local_hole(os.path.join(source, name))
    )
    argv: list[str | bytes] = [tar.path, "-c", "-f", "-"]
    argv += tar_flavours.create_flags(tar.kind, receiver, holes=holes)
    if options.follow_symlinks:
        argv.append("-h")
    argv += ["-C", source]
    if tar_flavours.reads_lists(tar.kind):
        return [*argv, "--no-recursion", "--null", "-T", "-"], listing.tar_list(members)
    if whole:
        return [*argv, "."], b""
    raise ConfigurationError(
        "the tar of this machine cannot take a list of names", advice='Use method="sftp".'
    )


def _extract_script(
    tar: bytes, receiver: tar_flavours.Kind, source: bytes, enter: bytes, options: Options
) -> bytes:
    """The shell text that extracts an archive from stdin where ``enter`` leads."""
    extract = tar + b" " + " ".join([*_EXTRACT, *_times(options)]).encode()
    if receiver != "other":
        return b"%b && exec %b" % (enter, extract)
    # BusyBox does not give the directory itself its mode.
    mode = stat.S_IMODE(os.stat(source).st_mode)
    return b"%b && %b && chmod %o ." % (enter, extract, mode)


def _times(options: Options) -> list[str]:
    return [] if options.preserve else ["-m"]


def _report_by_counter(
    pid: int,
    counter: str,
    members: Sequence[listing.Member],
    options: Options,
    name: bytes,
    *,
    ordered: bool,
) -> Callable[[], object] | None:
    """Reports the progress of a local tar, from the bytes that the system counts for it.

    ``None`` without ``progress=``, or if the system does not count.  An archive has a header of 512
    bytes for each member and whole blocks of 512 bytes, so if the order of the members is known
    the position in the stream determines which of them are complete.
    """
    if options.progress is None or progress.read_counter(pid, counter) is None:
        return None
    total = sum(member.size for member in members if member.kind == "f")
    ends, sizes, at, size = [], [0], 0, 0
    for member in (other for other in members if other.kind != "d"):
        content = member.size if member.kind == "f" else 0
        at, size = at + _header(member) + -(-content // 512) * 512, size + content
        ends.append(at)
        sizes.append(size)
    headers = sum(_header(member) for member in members if member.kind == "d")

    def report() -> None:
        seen = progress.read_counter(pid, counter)
        if seen is None:
            return
        if ordered:
            done = bisect.bisect_right(ends, max(0, seen - headers))
            options.report(sizes[done], total, done, len(ends), name)
        else:
            share = min(1.0, seen / max(1, at + headers))
            options.report(int(total * share), total, 0, len(ends), name)

    return report


def _header(member: listing.Member) -> int:
    """Bytes before the content of a member: more for a long name, in GNU's form."""
    length = len(member.name) + len(b"./") + (member.kind == "d")
    return 512 if length <= 100 else 1024 + -(-(length + 1) // 512) * 512


def _end_of_local_tar(child: process.Child, stderr: BinaryIO, path: bytes) -> None:
    """Wait for the local tar; its errors are about ``path`` on this machine."""
    if not process.wait(child, _TAR_END):
        raise TransferError("the local tar does not end")
    stderr.seek(0)
    text = to_text(stderr.read())
    if child.returncode == 0 and not _STRIPPED.search(text):
        return
    line = text.strip().splitlines()[0] if text.strip() else f"status {child.returncode}"
    if child.returncode == 0 or _HOSTILE.search(text):
        raise TransferError(f"the local tar refused the archive: {line}", sent="yes")
    # "Wrote only 5 of 10 bytes" may be a quota as well as a full disk.
    if "rote only" in line and (error := writing.probe_here(path)) is not None:
        line = error.strerror or line
    raise local_error(os.fsdecode(path), line)


def receive_tree(
    lanes: Lanes,
    source: bytes,
    stage: bytes,
    members: Sequence[listing.Member],
    options: Options,
    *,
    whole: bool,
) -> None:
    """Receive members of a tree on the host into the local directory ``stage``.

    ``whole`` and the errors are those of ``send_tree``; what ``tar_guard`` refuses raises
    ``UnsafeName`` or ``TransferError``.
    """
    tar = tar_flavours.required()
    sender = tar_flavours.kind(lanes.files.features.tar)
    script, names = _create_script(lanes, sender, tar.kind, source, members, options, whole=whole)
    plan = lanes.commands.plan(script, prologue="")
    flags = [*_EXTRACT, *tar_flavours.extract_flags(tar.kind), *_times(options)]
    argv: list[str | bytes] = [tar.path, *flags, "-C", stage]
    guard = tar_guard.TarGuard(
        members,
        lanes.host,
        stage,
        # Only a tar of the whole tree can hold members that were created after the listing.
        strangers=whole and options.filter.passes_all,
        plain=tar.kind == "other",
    )
    ordered = not whole and sender == "gnu"

    def report_of(pid: int) -> Callable[[], object] | None:
        return _report_by_counter(pid, "rchar", members, options, source, ordered=ordered)

    read_end, write_end = wide_pipe()
    with os.fdopen(read_end, "rb", buffering=0) as pipe:
        try:
            running = lanes.commands.launch(plan, data=names, stdout=write_end)
        finally:
            close_fd(write_end)
        tar_pid: list[int] = []  # the pid of the local tar, once it runs
        remote = Background(
            lambda: remote_end(
                running, lanes.commands, source, lanes.host, names,
                lambda: progress.sign_of_life(tar_pid[0], "rchar") if tar_pid else 0,
                lambda: guard.ended,
            )
        )  # fmt: skip
        try:
            skip_to_mark(read_end, running)
        except TransferError:
            remote.join()  # the command's stderr names the reason
            raise
        except BaseException:
            running.session.close()
            remote.join_quietly()
            raise
        _extract_here(argv, pipe, stage, running, remote, guard, tar_pid, report_of)


def _create_script(
    lanes: Lanes,
    sender: tar_flavours.Kind,
    receiver: tar_flavours.Kind,
    source: bytes,
    members: Sequence[listing.Member],
    options: Options,
    *,
    whole: bool,
) -> tuple[bytes, bytes]:
    """The shell text that writes an archive on the host, and the list of names for its stdin."""
    holes = tar_flavours.keeps_holes(members, lambda name: False)
    words = ["-c", "-f", "-", *tar_flavours.create_flags(sender, receiver, holes=holes)]
    if options.follow_symlinks:
        words.append("-h")
    names = b""
    if whole:
        words.append(".")
    elif tar_flavours.reads_lists(sender):
        words += ["--no-recursion", "--null", "-T", "-"]
        names = listing.tar_list(members)
    else:
        raise ConfigurationError(
            "the host's tar cannot take a list of names",
            host=lanes.host,
            advice='Use method="sftp".',
        )
    # Else tar on macOS sends ._ files.
    script = b"COPYFILE_DISABLE=1; export COPYFILE_DISABLE; cd -- %b && exec %btar %b"
    gently = lanes.files.features.gently
    return script % (quote_path(source), gently, " ".join(words).encode()), names


def _extract_here(
    argv: Sequence[str | bytes],
    pipe: FileIO,
    stage: bytes,
    running: Running,
    remote: Background,
    guard: tar_guard.TarGuard,
    tar_pid: list[int],
    report_of: Callable[[int], Callable[[], object] | None],
) -> None:
    """Extract the archive from ``pipe`` through the guard, with a local tar."""
    import tempfile

    with tempfile.TemporaryFile() as stderr:
        here, to = wide_pipe()
        try:
            child = process.spawn(argv, stdin=here, stderr=stderr)
        except BaseException:
            close_fd(to)
            raise
        finally:
            close_fd(here)  # else, if the local tar dies, the one on the host goes on writing
        archive = os.dup(pipe.fileno())
        pipe.close()
        guarding = Background(lambda: tar_guard.pass_on(archive, to, guard))
        tar_pid.append(child.pid)
        try:
            try:
                with progress.ProgressWatcher(report_of(child.pid)):
                    remote.join()
            except (OSError, TransferError):
                # A refusal by the guard breaks the pipe of the tar on the host ...
                guarding.join()
                # ... and so does a failure of the local tar (a full disk).
                if process.wait(child, 5.0):
                    _end_of_local_tar(child, stderr, stage)
                raise
            guarding.join()
            _end_of_local_tar(child, stderr, stage)
        except BaseException:
            process.end(child)
            if remote.at_work:
                running.end()
            remote.join_quietly()
            guarding.join_quietly()
            raise
