"""The command line: ``openssh-jobs``."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code.  Errors become a sentence on stderr."""
    _open_closed_streams()
    # Not list(): once the command of that name is loaded, it is ``list`` in here.
    words = [*(sys.argv[1:] if argv is None else argv)]
    if words in (["--version"], ["-V"]):
        try:
            print(f"openssh-jobs {import_module(__name__.partition('.')[0]).__version__}")
            sys.stdout.flush()
        except OSError as error:
            from .app import not_written

            return not_written(error)
        return 0
    from .app import run

    return run(words)


def _open_closed_streams() -> None:
    """Open /dev/null in place of a closed stdin, stdout or stderr, as ssh does.

    Otherwise the next socket would get the number of a standard stream, and our output.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - stays
            setattr(sys, name, stream)
