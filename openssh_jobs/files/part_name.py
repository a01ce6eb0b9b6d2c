"""Names of what is not complete yet.  The process that made it can be found by it."""

from __future__ import annotations

import os

from ..openssh import pid_file


def part_name() -> bytes:
    """A name for what is not complete: short, so that a long target's name is no trouble.

    It says which process makes the part, so that what a killed one left can be told by it.
    """
    return b".oj-%b.%b.part" % (os.urandom(6).hex().encode(), pid_file.call().encode())
