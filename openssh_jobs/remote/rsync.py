"""``method="rsync"``: both sides' rsync on the master's socket, into the stage of a transfer.

What lies at the target is the basis for its deltas (``--compare-dest``): of a large file that
changed in part only the changes travel.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, TransferError
from ..openssh import features
from ..openssh.sessions import guarded_arguments
from . import helpers
from .quoting import envelope, quote_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..openssh.master import Link
    from . import trees
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
    argv = [features.find("ssh"), *guarded_arguments(link.path), "-T"]
    return " ".join(_shell_word(word) for word in argv)


def _options(options: Options) -> list[str]:
    found = ["-s", "-p", "-I", "-H", f"--timeout={_STALL}", "--no-motd"]
    found.append("-L" if options.follow_symlinks else "-l")
    if options.preserve:
        found.append("-t")
    return found


def _there(directory: bytes) -> bytes:
    """How rsync is started on the host: inside the directory, so that no name is an argument."""
    # A name among the arguments would go through rsync's own globbing.
    return envelope(b'cd -- %b && exec rsync "$0" "$@"' % quote_path(directory))


def _names(members: Sequence[trees.Member]) -> bytes:
    # "./" keeps a name that begins with # or ; from being a comment.
    return b"".join(b"./" + member.name + b"\0" for member in members)


def send(
    site: Site,
    source: bytes,
    stage: bytes,
    members: Sequence[trees.Member],
    options: Options,
    basis: bytes | None,
) -> None:
    """Members of a local directory into one on the host."""
    program = require(site)

    def argv(link: Link) -> list[str | bytes]:
        words: list[str | bytes] = [program, *_options(options), "--files-from=-", "--from0"]
        if basis is not None:
            words.append(b"--compare-dest=" + basis)
        words += ["-e", _transport(link), b"--rsync-path=" + _there(stage)]
        return [*words, "--", os.path.abspath(source) + b"/", "none:./"]

    helpers.run(
        site,
        argv,
        what="rsync",
        path=basis or stage,
        local=source,
        sends=True,
        stdin=_names(members),
    )


def receive(
    site: Site,
    source: bytes,
    stage: bytes,
    members: Sequence[trees.Member],
    options: Options,
    basis: bytes | None,
) -> None:
    """Members of a directory on the host into a local one."""
    program = require(site)

    def argv(link: Link) -> list[str | bytes]:
        words: list[str | bytes] = [program, *_options(options), "--files-from=-", "--from0"]
        if basis is not None:
            words.append(b"--compare-dest=" + os.path.abspath(basis))
        words += ["-e", _transport(link), b"--rsync-path=" + _there(source)]
        return [*words, "--", "none:./", os.path.abspath(stage) + b"/"]

    helpers.run(
        site,
        argv,
        what="rsync",
        path=source,
        local=basis or stage,
        sends=False,
        stdin=_names(members),
    )
