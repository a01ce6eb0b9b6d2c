"""A line that shows how far a transfer is, redrawn in place on a terminal.

It appears after one second, never without a number, and is erased at the end.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Self

from .output import count, printable, size, terminal_width

if TYPE_CHECKING:
    from .output import Output

_FIRST, _EVERY = 1.0, 0.2
LINE_EVERY = 10.0
"""Seconds between two lines where nothing can be redrawn."""
_BAR = 20


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


class Progress:
    """Shows how far a transfer is; ``put`` and ``get`` take it as ``progress=``."""

    def __init__(self, output: Output, what: str) -> None:
        self._what = what
        self._line = ProgressLine(output)
        self._output = output
        self._draws = output.may_draw
        self._known: tuple[int, int, int, int] | None = None
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, done: int, total: int, files: int, of: int, name: str) -> None:
        self._known = (done, total, files, of)

    def text(self) -> str:
        """The line as it would be drawn now."""
        seconds = time.monotonic() - self._began
        parts = [self._what]
        if self._known is not None:
            done, total, files, of = self._known
            if done:
                parts.append(bar(done, total))
                # With some methods only the bytes are known before the end.
                known = f"{files} of {count(of, 'file')}" if files or of == 1 else count(of, "file")
                parts.append(known)
                parts.append(f"{size(done)} of {size(total)}")
                parts.append(f"{size(done / max(seconds, 0.001))}/s")
                if seconds >= 1 and done < total:
                    parts.append(f"{(total - done) * seconds / done:.0f} s left")
            else:
                parts += [count(of, "file"), size(total)]
        parts.append(f"{seconds:.0f} s")
        return "  ".join(parts)

    def _write_lines(self) -> None:
        while not self._stop.wait(LINE_EVERY):
            self._output.note(self.text())

    def _run(self) -> None:
        pause = _FIRST
        while not self._stop.wait(pause):
            self._line.show(self.text())
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
