"""Private directories on the host: shell text that makes, enters, checks and removes them.  Pure.

A private directory holds what must not be read or changed by others: the script as it was
submitted, ``env``, exit records.  It is ours, no link, and nobody else can write in it; and none of
the directories above it lets others rename or replace what leads to it (theirs, or writable by
others without the sticky bit).  Whoever stands between two of our steps can then change nothing.

The shell functions go into the directory first and look around from there: ``.``, ``..``, ``../..``
are what they are, whatever names are swapped meanwhile.  Owner and mode are asked with find(1)
(``-user``, ``-perm``), which GNU, BusyBox and the BSDs have.  A POSIX ACL needs no look of its own:
its mask is the group's bits, so whoever may write by it shows there.  A home on NFS counts by the
numbers that the client sees: where root is squashed, root's directories are still root's.

For any POSIX sh (dash, bash, BusyBox, ksh).  ``oj_why`` says why a directory was not taken.
"""

from __future__ import annotations

from ..commands import scripts
from ..commands.quoting import to_text

PRIVATE = ".openssh_jobs"
"""The private directory's name, in a job's directory and in the home directory."""
MARK = ".oj-mark"
"""In each submission's own directory: which call made it, and for which directory of a job."""
MADE = ".oj-made-"
"""Begins the name of an empty file in a job's directory that a call of ``submit`` has made."""


def functions() -> str:
    """The shell functions that enter, check and empty private directories."""
    return to_text(scripts.read("files/private_directory"))
