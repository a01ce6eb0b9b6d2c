"""``get``: copy a file or a directory from a host."""

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
    """Add ``get`` to the command line."""
    parser = options.add_command(
        subparsers,
        "get",
        summary,
        run,
        usage="[options] HOST:PATH [LOCAL]",
        examples="""\
  openssh-jobs get hpc:runs/relax.log
      into this directory, under the same name
  openssh-jobs get hpc:runs results
      LOCAL is the new name; an existing directory is changed only with --merge
  openssh-jobs get hpc:runs results/ --only '*.log'
      a slash at the end: into that directory, as results/runs""",
    )
    parser.add_argument("remote", metavar="HOST:PATH", help="a file or directory there")
    parser.add_argument("local", metavar="LOCAL", nargs="?", default=".", help="its name here")
    options.add_transfer_options(parser)
    options.add_connection_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Copy from the host."""
    args.host, path = options.split_remote(args.remote)
    local = args.local
    if os.path.basename(local) in (".", ".."):
        local += "/"
    nameless = path.rstrip("/").rpartition("/")[2] in ("~", "", ".", "..")
    if nameless and local.endswith("/"):
        raise UsageError(f"{args.remote!r} has no name of its own: give LOCAL a name.")
    output.if_interrupted = f"what was at {args.local} before is unchanged"
    arguments = options.transfer_arguments(args)
    with options.connection(args) as host, Progress(output, f"from {args.remote}") as progress:
        try:
            moved = host.get(path, local, progress=progress, **arguments)
        except OSError as error:
            raise options.with_transfer_advice(error, args.local) from error
    options.report_transfer(output, moved, source=args.remote, target=args.local, host=args.host)
    return ExitCode.OK
