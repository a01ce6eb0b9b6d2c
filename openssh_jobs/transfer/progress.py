"""Telling how far a transfer is while something else is doing it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY = 0.5


class Watch:
    """Calls ``tell`` every half second, from a thread; what it raises is raised at the end."""

    def __init__(self, tell: Callable[[], object] | None) -> None:
        self._tell = tell
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            try:
                if self._tell is not None:
                    self._tell()
            except BaseException as error:  # noqa: BLE001 - raised again at the end
                self._error = error
                return

    def __enter__(self) -> Self:
        if self._tell is not None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._error is not None and kind is None:
            raise self._error
