"""``get``: copy a file or a directory from a host."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from . import options, transfers
from .exit_codes import ExitCode, UsageError

if TYPE_CHECKING:
    import argparse

    from .output import Output


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``get`` to the command line."""
    parser = options.add_command(
        subparsers,
        "get",
        summary,
        run,
        usage="[options] HOST:PATH... [LOCAL]",
        examples="""\
  openssh-jobs get hpc:runs/relax.log
      into this directory, under the same name
  openssh-jobs get hpc:runs results
      LOCAL is the new name; an existing directory is changed only with --merge
  openssh-jobs get hpc:runs results/ --only '*.log'
      a slash at the end: into that directory, as results/runs
  openssh-jobs get hpc:'runs/*.log' hpc:notes.txt results
      several, and patterns (quoted, so that the host expands them): into a directory""",
    )
    parser.add_argument(
        "remote", metavar="HOST:PATH", nargs="+", help="files, directories or patterns there"
    )
    parser.add_argument("local", metavar="LOCAL", nargs="?", help="their name or directory here")
    transfers.add_options(parser)
    options.add_connection_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Copy from the host."""
    paths = _remote_paths(args)
    is_pattern = [any(sign in path for sign in "*?[") for path in paths]
    local = args.local
    if os.path.basename(local) in (".", ".."):
        local += "/"
    if len(paths) > 1 or any(is_pattern):
        local = local.rstrip("/") + "/" if local != "/" else local
    for word, path in zip(args.remote, paths, strict=True):
        nameless = path.rstrip("/").rpartition("/")[2] in ("~", "", ".", "..")
        if nameless and local.endswith("/"):
            raise UsageError(f"{word!r} has no name of its own: give LOCAL a name.")
    output.if_interrupted = f"what was at {args.local} before is unchanged"
    transfers.arguments(args)
    with options.connection(args) as host:
        wanted: list[str] = []
        for path, expands in zip(paths, is_pattern, strict=True):
            # As in a shell, a pattern that matches nothing is a name.
            found = host.glob(path) if expands else []
            wanted += found or [path]
        source = transfers.named(args.remote)
        mover = transfers.Mover(
            args, output, what=f"from {source}", source=source, target=args.local
        )
        sources = wanted[0] if len(wanted) == 1 else list(dict.fromkeys(wanted))
        mover.run(partial(host.get, sources, local))
    return ExitCode.OK


def _remote_paths(args: argparse.Namespace) -> list[str]:
    """The paths of all sources on the one host; the last word is LOCAL unless it is one, too."""
    words = [*args.remote, *([args.local] if args.local is not None else [])]
    if len(words) > 1 and not _is_remote(words[-1]):
        args.remote, args.local = words[:-1], words[-1]
    else:
        args.remote, args.local = words, "."
    if not args.local:
        raise UsageError("LOCAL is empty: name a file or directory.")
    hosts = [options.split_remote(word) for word in args.remote]
    args.host = hosts[0][0]
    if any(host != args.host for host, _ in hosts):
        raise UsageError("the sources are on different hosts: use one get for each host.")
    return [path for _, path in hosts]


def _is_remote(word: str) -> bool:
    """Whether a word is HOST:PATH; a local name with a colon is written ./a:b."""
    try:
        options.split_remote(word)
    except UsageError:
        return False
    return True
