"""``config``: settings of other programs as this package's own."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from . import options
from .exit_codes import ExitCode, UsageError

if TYPE_CHECKING:
    from .output import Output

_LARGEST = 1 << 20


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``config`` to the command line."""
    parser = options.add_command(
        subparsers,
        "config",
        summary,
        run,
        usage="--import-arc SETTINGS.py",
        examples="  openssh-jobs config --import-arc ~/.arc/settings.py",
    )
    parser.add_argument(
        "--import-arc",
        metavar="SETTINGS.py",
        required=True,
        help="print ARC's servers and commands as the text of a servers.toml; the file is read, "
        "not executed: what is not a literal in it is left out and named on stderr",
    )
    options.add_output_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Print ARC's settings as TOML; failed where something could not be read."""
    from ..arc import settings_import

    path = os.path.expanduser(args.import_arc)
    found = settings_import.read_settings(_source(path), path)
    for note in (*found.left_out, *found.notes):
        output.note(note)
    if output.json:
        output.data({**found.tables, "left_out": found.left_out, "notes": found.notes})
    else:
        for line in settings_import.to_toml(found.tables).splitlines():
            output.line(line)
    if not found.tables:
        output.note(f"{path} sets none of ARC's tables ({', '.join(settings_import.TABLES)})")
    return ExitCode.OK if found.tables and not found.left_out else ExitCode.FAILED


def _source(path: str) -> str:
    with open(path, "rb") as handle:
        data = handle.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise UsageError(f"{path} is larger than a settings file can be ({_LARGEST} bytes)")
    return data.decode("utf-8", "surrogateescape")
