"""Leftovers: whether the streams of a command that has ended are held by others than its own.

A process that an rc file starts in the background inherits the streams of the session, and a server
ends no session whose streams are open.  What the command itself left running keeps them, too, as
with ``subprocess``: its output belongs to the command.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

from .marks import END

if TYPE_CHECKING:
    from .command_line import LoginShell
    from .marks import Marks
    from .process_groups import ProcessGroups

_LINGER, _LINGER_AGAIN = 0.5, 0.05
"""Seconds for the streams to end after the command; the second where rc files left processes."""
_ON_THE_WAY = 0.1
"""Seconds for what was written before a look: its answer may be faster than the last pieces."""
_NO_END = 15.0
"""Seconds for the mark at the end of a stdout that has none at its beginning either."""
_SELDOM = 60.0


class _Marked(Protocol):
    takes_stdout: bool
    out_marks: Marks


class Leftovers:
    """Looks, at growing intervals, who holds the streams of one command that has ended."""

    def __init__(self, streams: _Marked, login_shell: LoginShell, groups: ProcessGroups) -> None:
        self.ask_at: float | None = None
        """When the next look is due; ``None`` before the command has ended."""
        self._streams = streams
        self._login_shell = login_shell
        self._groups = groups
        self._ended_at = 0.0
        self._interval = 1.0
        self._alone = False
        self._asking = threading.Lock()

    def hold_alone(self, group: int | None, first: int | None, *, own: bool) -> bool:
        """Whether processes of rc files hold the streams, and none that the command left.

        ``own``: a command of the library, which leaves none; for others the host is asked.
        ``group`` and ``first``: the session's shell, and a process that began after the rc files.
        """
        now = time.monotonic()
        if self.ask_at is None:
            again = self._login_shell.leaves_processes
            self._ended_at, self.ask_at = now, now + (_LINGER_AGAIN if again else _LINGER)
        if now < self.ask_at or not self._asking.acquire(blocking=False):
            return False
        try:
            if self._alone:
                return True
            marks = self._streams.out_marks
            if self._streams.takes_stdout and marks.value(END) is None:
                self.ask_at = now + _LINGER
                # An rc file gave it another stdout, of which there is nothing to wait for.
                return marks.holds and now - self._ended_at > _NO_END
            if own:
                return True
            self._alone = self._ask(group, first)
            self.ask_at = time.monotonic() + (_ON_THE_WAY if self._alone else self._interval)
            self._interval = min(2 * self._interval, _SELDOM)
            return False
        finally:
            self._asking.release()

    def _ask(self, group: int | None, first: int | None) -> bool:
        if group is None or first is None or not self._groups.is_left(group, first):
            return False
        self._login_shell.leaves_processes = True
        return True
