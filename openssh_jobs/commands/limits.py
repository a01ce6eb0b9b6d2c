"""How much is read from a host, and how long is waited for it: every limit in one place.

All are far beyond what a host that works sends.  What the user's own command prints has no limit
(``run`` keeps as much as it prints; ``keep=False`` keeps nothing).
"""

from __future__ import annotations

# --------------------------------------------------------------------------- bytes

NOISE = 8 << 20
"""What rc files may print before a command begins, on each stream."""
MARK = 4096
"""One line by which the wrapper around a command tells something."""
MARKS = 64
"""Such lines in one stream."""
DIGITS = 20
"""Digits of a number: 64 bits have no more."""
ANSWER = 16 << 20
"""The answer to one of the library's own commands: facts, a small file, what a tool said."""
LISTING = 1 << 30
"""The answer of a listing: some million names."""
WORDS = 1 << 20
"""What a program may print that is asked for nothing: sftp, tar and cat of a transfer."""
LINE = 16 << 20
"""One line for ``on_stdout`` and ``on_stderr``; a longer one comes in pieces."""
SAID = 400
"""Characters of a host's words in an error."""

# --------------------------------------------------------------------------- seconds

START = 30.0
"""For a command to begin: the login shell and its rc files (``start_timeout`` of a connection)."""
CALL = 120.0
"""For the answer to one of the library's own short commands."""
SILENCE = 900.0
"""For a transfer in which nothing moves in either direction."""
READING = 24 * 3600.0
"""For the host to read files through and tell their checksums; nothing moves meanwhile."""
