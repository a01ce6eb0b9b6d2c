"""Limits on the bytes that are read from a host and on the seconds that calls wait for it.

All are far above what a working host needs.  The output of the user's own command is not limited
(``run`` keeps all of it, or with ``keep=False`` nothing).
"""

from __future__ import annotations

# --------------------------------------------------------------------------- bytes

NOISE = 8 << 20
"""Output of rc files before a command begins, on each stream."""
MARK = 4096
"""One mark: a line of the shell around a command."""
MARKS = 64
"""Count of marks in one stream."""
DIGITS = 20
"""Digits of a number of 64 bits."""
ANSWER = 16 << 20
"""The answer to one of the library's own commands: facts, a small file, errors of a tool."""
LISTING = 128 << 20
"""The answer of a listing: a million names."""
RECORDS = 2 << 20
"""Records in an answer that are ended by NUL: each takes far more memory than its bytes."""
WORDS = 1 << 20
"""Output of a program that should print nothing: sftp, tar and cat of a transfer."""
LINE = 16 << 20
"""One line for ``on_stdout`` and ``on_stderr``; a longer one is passed in pieces."""
TAIL = 64 << 20
"""The last lines of a job's output."""
SAID = 400
"""Characters of a host's output that an error message quotes."""


def grown(size: int) -> int:
    """Bytes to receive at most of files with this listed size: they may grow meanwhile."""
    return 2 * size + (64 << 20)


# --------------------------------------------------------------------------- streams

STREAMS = 4
"""Streams for one large file at a time."""

# --------------------------------------------------------------------------- seconds

START = 30.0
"""For a command to start: the login shell and its rc files (``start_timeout`` of a connection)."""
CALL = 120.0
"""For the answer to one of the library's own short commands."""
SILENCE = 900.0
"""For a transfer in which no data moves in either direction."""
TRICKLE = 4096
"""Bytes that have to move within ``SILENCE``: fewer are the same as none."""
READING = 24 * 3600.0
"""For the host to compute checksums of files; no data moves meanwhile."""
