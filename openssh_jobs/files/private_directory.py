"""Private directories on the host: shell text that makes, enters, checks and removes them.  Pure.

A private directory holds files that others must not read or change: the script as it was submitted,
``env``, exit records.  It belongs to the user, is not a link, and cannot be written by others; no
directory above it lets others rename or replace a component of its path (because it belongs to
them, or is writable by others without the sticky bit).  So others cannot interfere between two
steps of a script.

The shell functions first change into the directory and check from there: ``.``, ``..`` and
``../..`` stay the same directories even if names are swapped meanwhile.  find(1) (``-user``,
``-perm``; in GNU, BusyBox and the BSDs) tests owner and mode.  POSIX ACLs need no separate check:
their mask is shown as the group's bits.  On NFS the owner that the client sees counts: with
root_squash, root's directories still belong to root.

For any POSIX sh (dash, bash, BusyBox, ksh).  ``oj_why`` holds the reason for a refusal.
"""

from __future__ import annotations

from ..commands import scripts
from ..commands.quoting import to_text

_SCRIPTS = "files/private_directory"
PRIVATE = ".openssh_jobs"
"""The private directory's name, in a job's directory and in the home directory."""
MARK = ".oj-mark"
"""In each submission's directory: the call that made it, and the job's directory."""
MADE = ".oj-made-"
"""Prefix of an empty file in a job's directory that a call of ``submit`` has made."""


def functions() -> str:
    """The shell functions that enter, check and empty private directories."""
    return to_text(scripts.read(_SCRIPTS))


def opening() -> bytes:
    """The shell function ``oj_open``, and what it needs of the others."""
    variables = scripts.read(_SCRIPTS).partition(b"oj_check() {")[0]
    return variables + scripts.functions(_SCRIPTS, "oj_open")
