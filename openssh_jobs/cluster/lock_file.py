"""``LockFile``: a lock for file systems that have none: a link that only one process can make."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from ..openssh import pid_file

_LONGEST_PAUSE = 0.05


class LockFile:
    """A symbolic link whose target names its holder; the link is made in one step or not at all.

    The link of a process that has ended is removed.  Not reentrant.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    @contextlib.contextmanager
    def held(self, timeout: float) -> Iterator[None]:
        """Hold the lock; ``TimeoutError`` after ``timeout`` seconds, and ``OSError``."""
        mine = self._take(time.monotonic() + timeout)
        try:
            yield
        finally:
            # In a forked child it is still the parent's.
            if mine.partition(".")[2] == pid_file.call() and self._holder() == mine:
                os.unlink(self.path)

    def _take(self, deadline: float) -> str:
        mine = f"{os.urandom(8).hex()}.{pid_file.call()}"
        pause = 0.001
        while True:
            try:
                os.symlink(mine, self.path)
            except FileExistsError:
                holder = self._holder()
            else:
                return mine
            if holder is not None and pid_file.ended(holder.partition(".")[2]):
                self._remove(holder)
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{self.path} is held by {holder or 'an unknown process'}")
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _holder(self) -> str | None:
        try:
            return os.readlink(self.path)
        except OSError:
            return None  # released meanwhile

    def _remove(self, dead: str) -> None:
        """Remove the link of a holder that has ended.

        Only one process may do that, or a second one could remove the link of the next holder: it
        makes a link of a name that belongs to this dead holder alone.
        """
        guard = f"{self.path}-{dead.partition('.')[0]}"
        with contextlib.suppress(OSError):
            os.symlink(pid_file.call(), guard)
            try:
                if self._holder() == dead:
                    os.unlink(self.path)
            finally:
                os.unlink(guard)
