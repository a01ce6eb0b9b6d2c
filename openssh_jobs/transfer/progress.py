"""The progress of a transfer: counted by the system while another process does the work."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY = 0.5
"""Seconds between two reports."""


class ProgressWatcher:
    """Calls ``report`` every half second from a thread; its exception is raised at the end.

    A context manager; with ``None`` it makes no reports.
    """

    def __init__(self, report: Callable[[], object] | None) -> None:
        self._report = report
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            try:
                if self._report is not None:
                    self._report()
            except BaseException as error:  # noqa: BLE001 - raised again at the end
                self._error = error
                return

    def __enter__(self) -> Self:
        if self._report is not None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._error is not None and kind is None:
            raise self._error


def read_counter(pid: int, name: str) -> int | None:
    """Bytes that a process has read (``rchar``) or written (``wchar``); ``None`` if not counted."""
    try:
        with open(f"/proc/{pid}/io", "rb") as handle:
            for line in handle:
                key, _, value = line.partition(b":")
                if key == name.encode():
                    return int(value)
    except OSError:
        pass
    return None


def sign_of_life(pid: int, name: str) -> int:
    """A number that changes while data moves; always changes if the system does not count."""
    counted = read_counter(pid, name)
    if counted is None and not os.path.isdir("/proc/self"):
        return time.monotonic_ns()
    return -1 if counted is None else counted


def descriptor_offset(pid: int, path: bytes) -> int | None:
    """The offset of a process in a file that it has open; ``None`` if the system does not say."""
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            if os.readlink(os.fsencode(f"/proc/{pid}/fd/{name}")) == path:
                with open(f"/proc/{pid}/fdinfo/{name}", "rb") as handle:
                    return int(handle.readline().split()[1])
    except (OSError, IndexError, ValueError):
        pass
    return None
