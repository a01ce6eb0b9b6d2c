"""``method="rsync"``: the rsync of both sides on the master's socket, into the stage of a transfer.

The target is the basis for rsync's deltas (``--compare-dest``): only the changed blocks of a large
file are sent.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from ..commands import command_line, scripts
from ..commands.marks import STATUS, mark, new_nonce
from ..commands.os_errors import error_of
from ..commands.quoting import OWN_SHELL, envelope, quote_path, to_text
from ..errors import ConfigurationError, TransferError
from ..files import host_names
from ..openssh import process
from . import listing, local_programs, parts, staging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..transport.base import Link
    from .lanes import Lanes
    from .options import Options

_STALL = 300
"""Seconds without a byte after which rsync gives up."""


def require(lanes: Lanes) -> str:
    """The path of the local rsync.

    Raises ``ConfigurationError`` if this machine has no rsync, ``TransferError`` if the host has no
    rsync.
    """
    here = shutil.which("rsync")
    if here is None:
        raise ConfigurationError(
            "there is no rsync on this machine", advice='Leave method="rsync" out.'
        )
    if not lanes.files.features.rsync:
        raise TransferError(
            "there is no rsync on the host", host=lanes.host, advice='Leave method="rsync" out.'
        )
    return here


def _shell_word(word: str) -> str:
    """One word of ``-e``: rsync splits at blanks and reads doubled quotes inside quotes."""
    return '"' + word.replace('"', '""') + '"'


# What rsync writes has a line of ours before it, with which its other half knows its stdin.  rsync
# may wait for this shell before it closes its end: cat is ended as soon as ssh is.
_FED = """\
line=$1
shift
{ /bin/sh -c 'echo "$PPID"'; printf '%s\\n' "$line"; exec cat; } | {
    read -r feeder
    "$@"
    status=$?
    kill "$feeder" 2>/dev/null
    exit "$status"
}"""


def _remote_shell(lanes: Lanes, link: Link, nonce: bytes) -> str:
    """The value of ``-e``: the command with which rsync starts its other half."""
    line = command_line.first_line(nonce).decode().rstrip("\n")
    argv = ["/bin/sh", "-c", _FED, "sh", line]
    argv += lanes.commands.sessions.program(link, "ssh") or []
    return " ".join(_shell_word(word) for word in argv)


def _options(options: Options, *, links: bool) -> list[str]:
    found = ["-s", "-p", "-I", "-H", f"--timeout={_STALL}", "--no-motd"]
    if options.follow_symlinks:
        found.append("-L")
    elif links:
        found.append("-l")
    if options.preserve:
        found.append("-t")
    return found


def _there(directory: bytes, number: int | None, nonce: bytes) -> bytes:
    """``--rsync-path``: rsync inside a directory on the host, so that no name is an argument.

    ``number``: of the stage, if it is one.
    """
    # rsync would expand glob characters of a name among the arguments.
    enter = b"cd -- " + quote_path(directory)
    if number is not None:
        enter = parts.enter_stage(directory, number)
    start = b"(" + enter + b' && exec rsync "$0" "$@"\n); set -- "$?"; '
    start += mark(nonce, STATUS, b"$1") + b' >&2; exit "$1"'
    return envelope(OWN_SHELL + command_line.after_first_line(nonce, start))


def _names(members: Sequence[listing.Member]) -> bytes:
    # "./" keeps a name that begins with # or ; from being a comment.
    return b"".join(b"./" + member.name + b"\0" for member in members)


# For each member: its kind (>f+++ a file, hf a hard link, cL a link), its size, bytes moved.
# rsync prints a format with %b when the member is complete.
_FORMAT = "--out-format=%i %l %b"
_LINE = re.compile(rb"^[<>ch.*][fL]\S* (\d+) \d+$", re.MULTILINE)
_knows_format: dict[str, bool] = {}


def _has_format(program: str) -> bool:
    """Whether this rsync prints a line for each file; openrsync (macOS) does not."""
    if program not in _knows_format:
        version = process.run([program, "--version"], timeout=10).stdout
        _knows_format[program] = b"openrsync" not in version
    return _knows_format[program]


@contextmanager
def _reporting(
    program: str, members: Sequence[listing.Member], options: Options, name: bytes
) -> Iterator[tuple[list[str], BinaryIO | None, Callable[[int], object]]]:
    """Options for rsync's output, a file for it, and the tick that reads the file for progress."""
    if options.progress is None or not _has_format(program):
        yield [], None, lambda pid: None
        return
    total = sum(member.size for member in members if member.kind == "f")
    count = sum(member.kind != "d" for member in members)
    import tempfile

    with tempfile.TemporaryFile() as report:

        def tick(pid: int) -> None:
            sizes = _LINE.findall(os.pread(report.fileno(), os.fstat(report.fileno()).st_size, 0))
            done = sum(map(int, sizes))
            options.report(min(done, total), total, min(len(sizes), count), count, name)

        yield [_FORMAT], report, tick


def send(
    lanes: Lanes,
    source: bytes,
    stage: tuple[bytes, int],
    members: Sequence[listing.Member],
    options: Options,
    basis: bytes | None,
) -> None:
    """Send members of a local directory into a stage on the host: its path and number."""
    ends = (os.path.abspath(source) + b"/", b"none:./")
    _run(lanes, ends, stage, basis, members, options, source, about=(basis or stage[0], source))


def receive(
    lanes: Lanes,
    source: bytes,
    stage: bytes,
    members: Sequence[listing.Member],
    options: Options,
    basis: bytes | None,
) -> None:
    """Receive directories and files of a directory on the host into a local one, but no links.

    The caller makes the links afterwards, so that rsync cannot write through one; those that were
    listed although links are followed lead nowhere.
    """
    members = [member for member in members if member.kind != "l"]
    ends = (b"none:./", os.path.abspath(stage) + b"/")
    compared = None if basis is None else os.path.abspath(basis)
    size = sum(member.size for member in members if member.kind == "f")
    _run(
        lanes,
        ends,
        (source, None),
        compared,
        members,
        options,
        source,
        about=(source, basis or stage),
        watch=staging.SizeWatch(stage, size, source, lanes.host).look,
    )


def send_file(lanes: Lanes, here: bytes, part: bytes, target: bytes, options: Options) -> None:
    """Send one local file (an absolute path) to ``part`` on the host.

    rsync keeps names: the file is sent into a new directory and then moved to the part.
    """
    stage, name = part + b"d", os.path.basename(here)
    basis = posixpath.dirname(target) if posixpath.basename(target) == name else None
    require(lanes)
    number = None
    try:
        number = parts.make_stage(lanes, stage, part)
        members = [listing.Member(name, "f", 0)]
        send(lanes, os.path.dirname(here), (stage, number), members, _for_one_file(options), basis)
        moved = parts.enter_stage(stage, number)
        moved += b" && mv -f -- %b %b" % (scripts.path(b"./" + name), scripts.path(part))
        answer = lanes.shell.call(moved)
        if answer.status != 0:
            raise error_of(to_text(answer.stderr), part, host=lanes.host)
    except BaseException as error:
        parts.remove_stage(lanes, error, stage, number)
        raise
    lanes.shell.call(b"rmdir -- " + quote_path(stage), again=True)


def receive_file(
    lanes: Lanes, source: bytes, here: bytes, target: bytes, size: int, options: Options
) -> None:
    """Receive one file of ``size`` into the local file ``here`` (an absolute path).

    The way is that of ``send_file``.
    """
    directory, name = posixpath.dirname(source), host_names.last_part(source, host=lanes.host)
    require(lanes)
    stage, number = here + b"d", None
    try:
        number = parts.make_local_stage(stage)
        basis = None
        is_file = os.path.isfile(target) and not os.path.islink(target)
        if os.path.basename(target) == name and is_file:
            basis = os.path.dirname(os.path.abspath(target))
        members = [listing.Member(name, "f", size)]
        with staging.held(stage, number) as inside:
            receive(lanes, directory, inside, members, _for_one_file(options), basis)
            arrived = os.path.join(inside, name)
            if not os.path.lexists(arrived):
                raise TransferError(
                    f"{to_text(source)!r} did not arrive", host=lanes.host, sent="yes"
                )
            staging.is_whole_file(arrived, lanes.host)
            # rsync has set the source's mode: as a part nobody else may write to it.
            os.chmod(arrived, 0o600)
            os.replace(arrived, here)
    finally:
        parts.remove_local_stage(stage, number)


def _for_one_file(options: Options) -> Options:
    """The options for one file: links are followed, as with all other methods."""
    return replace(options.with_times(), follow_symlinks=True, progress=None)


def _run(
    lanes: Lanes,
    ends: tuple[bytes, bytes],
    there: tuple[bytes, int | None],
    basis: bytes | None,
    members: Sequence[listing.Member],
    options: Options,
    name: bytes,
    *,
    about: tuple[bytes, bytes],
    watch: Callable[[int], object] = lambda pid: None,
) -> None:
    """Run rsync from one end to the other; ``there`` is its working directory on the host
    with the number of a stage.

    ``about``: the paths that errors on the host and here are about.  ``watch`` is called while it
    runs, and may raise.
    """
    program = require(lanes)
    sends = ends[1] == b"none:./"
    nonce = new_nonce()

    def argv(link: Link) -> list[str | bytes]:
        words: list[str | bytes] = [program, *_options(options, links=sends), *more]
        words += ["--files-from=-", "--from0"]
        if basis is not None:
            words.append(b"--compare-dest=" + basis)
        words += ["-e", _remote_shell(lanes, link, nonce)]
        words.append(b"--rsync-path=" + _there(*there, nonce))
        return [*words, "--", *ends]

    with _reporting(program, members, options, name) as (more, report, tell):

        def tick(pid: int) -> None:
            watch(pid)
            tell(pid)

        local_programs.run(
            lanes,
            argv,
            what="rsync",
            path=about[0],
            local=about[1],
            sends=sends,
            stdin=_names(members),
            stdout=report,
            tick=tick,
            nonce=nonce,
        )
