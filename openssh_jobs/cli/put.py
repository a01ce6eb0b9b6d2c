"""``put``: copy a file or a directory to a host."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from . import options
from .exit_codes import ExitCode, UsageError
from .progress import Progress

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
        usage="[options] LOCAL HOST:PATH",
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
  openssh-jobs put wavefunction.gbw hpc:scratch/ --resume --verify
      a large file over an unreliable link: the same command again continues""",
    )
    parser.add_argument("local", metavar="LOCAL", help="a file or directory here")
    parser.add_argument("remote", metavar="HOST:PATH", help="its name there")
    options.add_transfer_options(parser)
    options.add_connection_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Copy to the host."""
    args.host, path = options.split_remote(args.remote)
    output.if_interrupted = f"what was at {args.remote} before is unchanged"
    if not args.local or not os.path.exists(args.local):
        raise UsageError(f"there is no {args.local!r} on this machine.")
    arguments = options.transfer_arguments(args)
    with options.connection(args) as host, Progress(output, f"to {args.remote}") as progress:
        try:
            moved = host.put(args.local, path, progress=progress, **arguments)
        except OSError as error:
            raise options.with_transfer_advice(error, path) from error
    options.report_transfer(output, moved, source=args.local, target=args.remote, host=args.host)
    return ExitCode.OK
