"""A line that shows how far a transfer is, redrawn in place on a terminal.

It appears after one second, never without a number, and is erased at the end.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Self

from .output import count, printable, size, span, terminal_width

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .output import Output

_FIRST, _EVERY = 1.0, 0.2
LINE_EVERY = 10.0
"""Seconds between two lines where nothing can be redrawn."""
_BAR = 20
_RECENT = 10.0
"""Seconds over which the rate is measured."""
_LEAST_NAME = 24
"""Columns of the name, below which something else is left out."""


def bar(done: float, total: float, width: int = _BAR) -> str:
    """``[#####-----]``: in ASCII, for every terminal and screen reader."""
    filled = min(width, int(width * done / total)) if total > 0 else 0
    return f"[{'#' * filled}{'-' * (width - filled)}]"


class ProgressLine:
    """One line on stderr that is redrawn in place; draws nothing where that is impossible."""

    def __init__(self, output: Output) -> None:
        self._on = output.may_draw
        self._shown = 0

    def show(self, text: str) -> None:
        """Draw ``text`` in place of the previous one."""
        if not self._on:
            return
        text = printable(text)[: terminal_width() - 1]
        sys.stderr.write("\r" + text + " " * max(0, self._shown - len(text)) + "\r")
        sys.stderr.flush()
        self._shown = len(text)

    def clear(self) -> None:
        """Erase the line."""
        if self._shown:
            sys.stderr.write("\r" + " " * self._shown + "\r")
            sys.stderr.flush()
            self._shown = 0


class Known(NamedTuple):
    """How far a transfer is, in bytes and in files."""

    done: int
    total: int
    files: int
    of: int


class Progress:
    """Shows how far a transfer is; ``put`` and ``get`` take it as ``progress=``.

    ``known`` is ``None`` before the sizes are known.
    """

    def __init__(self, output: Output, what: str) -> None:
        self._what = what
        self._line = ProgressLine(output)
        self._output = output
        self._draws = output.may_draw
        self.known: Known | None = None
        self._began = time.monotonic()
        self._moments: deque[tuple[float, int]] = deque()
        self._drawing = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, done: int, total: int, files: int, of: int, name: str) -> None:
        self.known = Known(done, total, files, of)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is drawn meanwhile, and the time does not count."""
        with self._drawing:
            self._line.clear()
            before = time.monotonic()
            yield
            self._began += time.monotonic() - before

    def _rate(self, done: int) -> float:
        """Bytes per second over the last seconds, or since the begin."""
        now = time.monotonic()
        self._moments.append((now, done))
        while len(self._moments) > 2 and self._moments[0][0] < now - _RECENT:
            self._moments.popleft()
        then, before = self._moments[0]
        if now - then < 1 or done < before:
            then, before = self._began, 0
        return (done - before) / max(now - then, 0.001)

    def text(self, width: int = 0) -> str:
        """The line as it would be drawn now; in ``width`` columns the least telling parts go."""
        seconds = time.monotonic() - self._began
        if self.known is None:
            return _fitted(self._what, [span(seconds)], width)
        done, total, files, of = self.known
        if not done:
            return _fitted(self._what, [count(of, "file"), size(total), span(seconds)], width)
        rate = self._rate(done)
        # With some methods only the bytes are known before the end.
        known = f"{files} of {count(of, 'file')}" if files or of == 1 else count(of, "file")
        moved = f"{size(done)} of {size(total)}"
        left = [f"{size(rate)}/s"]
        if seconds >= 1 and done < total and rate > 0:
            left.append(f"{span((total - done) / rate)} left")
        choices = (
            [bar(done, total), known, moved, *left, span(seconds)],
            [bar(done, total), known, moved, *left],
            [bar(done, total, 10), moved, *left],
            [moved, *left],
        )
        for parts in choices[:-1]:
            if not width or len(_fitted(self._what, parts, 0)) <= width:
                return _fitted(self._what, parts, width)
            if len("  ".join(parts)) + _LEAST_NAME <= width:
                return _fitted(self._what, parts, width)
        return _fitted(self._what, choices[-1], width)

    def _write_lines(self) -> None:
        while not self._stop.wait(LINE_EVERY):
            self._output.note(self.text())

    def _run(self) -> None:
        pause = _FIRST
        while not self._stop.wait(pause):
            with self._drawing:
                self._line.show(self.text(terminal_width() - 1))
            pause = _EVERY
        self._line.clear()

    def __enter__(self) -> Self:
        work = self._run if self._draws else self._write_lines
        if self._draws or not (self._output.json or self._output.quiet):
            self._thread = threading.Thread(target=work, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1)


def _fitted(what: str, parts: list[str], width: int) -> str:
    """A line of ``width`` columns at most: of ``what`` its end stays."""
    rest = "  ".join(parts)
    room = width - len(rest) - 2
    if width and len(what) > room:
        what = "..." + what[len(what) - max(room - 3, 0) :] if room > _LEAST_NAME // 2 else ""
    return f"{what}  {rest}" if what else rest
