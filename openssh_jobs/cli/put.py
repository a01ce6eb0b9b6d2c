"""``put``: copy a file or a directory to a host."""

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
    """Add ``put`` to the command line."""
    parser = options.add_command(
        subparsers,
        "put",
        summary,
        run,
        usage="[options] LOCAL... HOST:PATH",
        examples="""\
  openssh-jobs put relax.sh hpc:runs/relax.sh
      relative to the home directory there; missing directories are made
  openssh-jobs put basis hpc:~/basis
      PATH is the directory's new name; an existing one is changed only with --merge
  openssh-jobs put basis hpc:/scratch/alice/
      a slash at the end: into that directory, as /scratch/alice/basis
  openssh-jobs put runs hpc:runs --only '*.inp' --merge
  openssh-jobs put runs hpc:runs --update
      again later: only what has changed since
  openssh-jobs put runs hpc:runs --update --delete --dry-run
      lists what would be copied, and deleted there because it is not here any more
  openssh-jobs put *.inp basis hpc:runs
      several into one directory
  openssh-jobs put wavefunction.gbw hpc:scratch/ --resume --verify
      a large file over an unreliable link: the same command again continues""",
    )
    parser.add_argument("local", metavar="LOCAL", nargs="+", help="files or directories here")
    parser.add_argument("remote", metavar="HOST:PATH", help="their name or directory there")
    transfers.add_options(parser)
    options.add_connection_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Copy to the host."""
    args.host, path = options.split_remote(args.remote)
    for local in args.local:
        if not local or not os.path.exists(local):
            raise UsageError(f"there is no {local!r} on this machine.")
    transfers.arguments(args)
    sources = args.local[0] if len(args.local) == 1 else args.local
    with options.connection(args) as host:
        mover = transfers.Mover(
            args,
            output,
            what=f"to {args.remote}",
            source=transfers.named(args.local),
            target=args.remote,
            place=path,
        )
        mover.run(partial(host.put, sources, path))
    return ExitCode.OK
