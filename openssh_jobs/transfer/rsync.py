"""``method="rsync"``: both sides' rsync on the master's socket, into the stage of a transfer.

What lies at the target is the basis for its deltas (``--compare-dest``): of a large file that
changed in part only the changes travel.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from ..commands.quoting import envelope, quote_path
from ..errors import ConfigurationError, TransferError
from ..openssh import process, ssh_config
from ..transport.sessions import guarded_arguments
from . import local_programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..openssh.master import Link
    from . import listing
    from .options import Options, Site

_STALL = 300
"""Seconds without a byte after which rsync gives up."""


def require(site: Site) -> str:
    """The rsync of this machine; an error that says on which side there is none."""
    here = shutil.which("rsync")
    if here is None:
        raise ConfigurationError(
            "there is no rsync on this machine", advice='Leave method="rsync" out.'
        )
    if not site.files.features.rsync:
        raise TransferError(
            "there is no rsync on the host", host=site.host, advice='Leave method="rsync" out.'
        )
    return here


def _shell_word(word: str) -> str:
    """One word of ``-e``: rsync splits it at blanks, and knows doubled quotes inside quotes."""
    return '"' + word.replace('"', '""') + '"'


def _transport(link: Link) -> str:
    argv = [ssh_config.find("ssh"), *guarded_arguments(link.path), "-T"]
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


def _there(directory: bytes) -> bytes:
    """How rsync is started on the host: inside the directory, so that no name is an argument."""
    # A name among the arguments would go through rsync's own globbing.
    return envelope(b'cd -- %b && exec rsync "$0" "$@"' % quote_path(directory))


def _names(members: Sequence[listing.Member]) -> bytes:
    # "./" keeps a name that begins with # or ; from being a comment.
    return b"".join(b"./" + member.name + b"\0" for member in members)


# After each thing: what it was (>f+++ a file, hf a hard link, cL a link), its size, bytes moved.
# A form with %b is printed when the thing is done.
_FORMAT = "--out-format=%i %l %b"
_LINE = re.compile(rb"^[<>ch.*][fL]\S* (\d+) \d+$", re.MULTILINE)
_knows_format: dict[str, bool] = {}


def _tells(program: str) -> bool:
    """Whether this rsync can be asked for a line a file: that of macOS is another program."""
    if program not in _knows_format:
        said = process.run([program, "--version"], timeout=10).stdout
        _knows_format[program] = b"openrsync" not in said
    return _knows_format[program]


@contextmanager
def _telling(
    program: str, members: Sequence[listing.Member], options: Options, name: bytes
) -> Iterator[tuple[list[str], BinaryIO | None, Callable[[int], object]]]:
    """What rsync is asked to print, where, and who reads it for ``options.progress``."""
    if options.progress is None or not _tells(program):
        yield [], None, lambda pid: None
        return
    total = sum(member.size for member in members if member.kind == "f")
    count = sum(member.kind != "d" for member in members)
    import tempfile

    with tempfile.TemporaryFile() as said:

        def tick(pid: int) -> None:
            sizes = _LINE.findall(os.pread(said.fileno(), os.fstat(said.fileno()).st_size, 0))
            done = sum(map(int, sizes))
            options.report(min(done, total), total, min(len(sizes), count), count, name)

        yield [_FORMAT], said, tick


def send(
    site: Site,
    source: bytes,
    stage: bytes,
    members: Sequence[listing.Member],
    options: Options,
    basis: bytes | None,
) -> None:
    """Members of a local directory into one on the host."""
    ends = (os.path.abspath(source) + b"/", b"none:./")
    _run(site, ends, stage, basis, members, options, source, told=(basis or stage, source))


def receive(
    site: Site,
    source: bytes,
    stage: bytes,
    members: Sequence[listing.Member],
    options: Options,
    basis: bytes | None,
) -> None:
    """Directories and files of a directory on the host into a local one, but no links.

    A rsync that makes no links writes through none: they are made behind it.
    """
    if not options.follow_symlinks:
        members = [member for member in members if member.kind != "l"]
    ends = (b"none:./", os.path.abspath(stage) + b"/")
    compared = None if basis is None else os.path.abspath(basis)
    _run(site, ends, source, compared, members, options, source, told=(source, basis or stage))


def _run(
    site: Site,
    ends: tuple[bytes, bytes],
    there: bytes,
    basis: bytes | None,
    members: Sequence[listing.Member],
    options: Options,
    name: bytes,
    *,
    told: tuple[bytes, bytes],
) -> None:
    """rsync from one end to the other; ``there`` is where it runs on the host.

    ``told``: the paths that errors on the host and here are about.
    """
    program = require(site)
    sends = ends[1] == b"none:./"

    def argv(link: Link) -> list[str | bytes]:
        words: list[str | bytes] = [program, *_options(options, links=sends), *more]
        words += ["--files-from=-", "--from0"]
        if basis is not None:
            words.append(b"--compare-dest=" + basis)
        words += ["-e", _transport(link), b"--rsync-path=" + _there(there)]
        return [*words, "--", *ends]

    with _telling(program, members, options, name) as (more, said, tick):
        local_programs.run(
            site,
            argv,
            what="rsync",
            path=told[0],
            local=told[1],
            sends=sends,
            stdin=_names(members),
            stdout=said,
            tick=tick,
        )
