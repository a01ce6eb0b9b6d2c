"""The command line: ``openssh-jobs``."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code and never raises for what a user can mend."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words in (["--version"], ["-V"]):
        print(f"openssh-jobs {import_module(__name__.partition('.')[0]).__version__}")
        return 0
    from .app import run

    return run(words)
