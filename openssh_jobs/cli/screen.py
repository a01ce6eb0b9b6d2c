"""``Screen``: the whole terminal for a command, keys without Enter, and everything as before.

Drawn by rich (the extra ``cli``) where it is installed, else by a few escape sequences.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

_KEYS = {
    "[A": "up", "OA": "up", "[B": "down", "OB": "down",
    "[5~": "page up", "[6~": "page down",
    "[H": "home", "OH": "home", "[1~": "home", "[F": "end", "OF": "end", "[4~": "end",
}  # fmt: skip
_NAMES = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace"}
_MOST = 4096
"""Bytes of keys read at once; a terminal that pastes more is read again."""


class Painter(Protocol):
    """What shows lines on the alternate screen of a terminal."""

    def start(self) -> None:
        """Enter the alternate screen."""

    def paint(self, lines: Sequence[str]) -> None:
        """Replace what is shown; lines may hold colours, and fit the screen."""

    def stop(self) -> None:
        """Leave the alternate screen."""


class _Plain:
    """Without rich."""

    def start(self) -> None:
        self._write("\x1b[?1049h\x1b[?25l\x1b[H\x1b[J")

    def paint(self, lines: Sequence[str]) -> None:
        # Not cleared first, which would flicker: each line clears its own rest.
        self._write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")

    def stop(self) -> None:
        self._write("\x1b[?25h\x1b[?1049l")

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


class _Rich:
    """By a live display of rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        self._text = Text
        self._live = Live(
            console=Console(highlight=False, markup=False, emoji=False),
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._is_starting = False

    def start(self) -> None:
        self._is_starting = True
        self._live.start()
        self._is_starting = False

    def paint(self, lines: Sequence[str]) -> None:
        text = self._text.from_ansi("\n".join(lines), no_wrap=True, overflow="crop", end="")
        self._live.update(text, refresh=True)

    def stop(self) -> None:
        if self._is_starting:  # a signal came in between; rich cannot undo a half of its start
            _Plain().stop()
        else:
            self._live.stop()


class Screen:
    """The terminal of stdin and stdout, taken over for the length of a ``with``.

    Ctrl-C and Ctrl-Z keep their meaning; after Ctrl-Z the terminal is as it was until the program
    goes on.  ``wake()`` ends a wait for keys, from any thread.
    """

    def __init__(self) -> None:
        self._painter: Painter = _Plain()
        self._stdin = sys.stdin.fileno()
        self._before: list[Any] = []
        self._lines: Sequence[str] = ()
        self._is_on = False
        self._handlers: dict[int, Any] = {}
        self._wake_out, self._wake_in = os.pipe()
        os.set_blocking(self._wake_in, False)
        os.set_blocking(self._wake_out, False)

    def __enter__(self) -> Screen:
        self._before = termios.tcgetattr(self._stdin)
        try:
            self._enter()
            for number, handler in (
                (signal.SIGTSTP, self._stopped),
                (signal.SIGWINCH, lambda number, frame: self.wake()),
            ):
                self._handlers[number] = signal.signal(number, handler)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._leave()
        os.close(self._wake_in)
        os.close(self._wake_out)

    def _enter(self) -> None:
        self._is_on = True
        tty.setcbreak(self._stdin, termios.TCSANOW)
        self._painter.start()

    def _leave(self) -> None:
        if not self._is_on:
            return
        self._is_on = False
        # A terminal that is gone has nothing to be restored.
        with contextlib.suppress(OSError, ValueError):
            self._painter.stop()
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._stdin, termios.TCSANOW, self._before)

    def _stopped(self, number: int, frame: Any) -> None:
        was_on = self._is_on
        self._leave()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # stands here until it goes on
        signal.signal(signal.SIGTSTP, self._stopped)
        if was_on:
            self._enter()
            self.wake()

    def draw_with_rich(self) -> None:
        """Go on with rich, if it is installed.

        Called behind the first picture, which its import would delay.
        """
        try:
            painter = _Rich()
        except ImportError:
            return
        self._painter.stop()
        self._painter = painter
        self._painter.start()
        self.paint(self._lines)

    @contextlib.contextmanager
    def left(self) -> Iterator[None]:
        """Give the terminal back for a while, to a program that needs it."""
        self._leave()
        try:
            yield
        finally:
            self._enter()
            self.paint(self._lines)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        found = shutil.get_terminal_size((80, 24))
        return max(20, found.columns), max(5, found.lines)

    def paint(self, lines: Sequence[str]) -> None:
        """Show these lines and nothing else."""
        self._lines = lines
        self._painter.paint(lines)

    def wake(self) -> None:
        """End a wait for keys."""
        with contextlib.suppress(OSError, ValueError):  # full, or over already
            os.write(self._wake_in, b".")

    def keys(self, timeout: float) -> list[str]:
        """The keys that were pressed, after at most ``timeout`` seconds.

        A character, or ``up``, ``down``, ``page up``, ``page down``, ``home``, ``end``, ``enter``,
        ``backspace``, ``escape``; ``hangup`` where the terminal is gone.
        """
        ready, _, _ = select.select([self._stdin, self._wake_out], [], [], timeout)
        if self._wake_out in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_out, _MOST)
        if self._stdin not in ready:
            return []
        try:
            data = os.read(self._stdin, _MOST)
        except OSError:  # EIO: the terminal is gone
            data = b""
        return split_keys(data.decode("utf-8", "ignore")) if data else ["hangup"]


def split_keys(text: str) -> list[str]:
    """What was typed, key by key; unknown sequences of a terminal are left out."""
    found = []
    at = 0
    while at < len(text):
        if text[at] != "\x1b":
            found.append(_NAMES.get(text[at], text[at]))
            at += 1
            continue
        known = next((code for code in _KEYS if text.startswith(code, at + 1)), None)
        if known is not None:
            found.append(_KEYS[known])
            at += 1 + len(known)
        elif text[at + 1 : at + 2] in ("[", "O"):
            at += 2
            while at < len(text) and not "@" <= text[at] <= "~":
                at += 1
            at += 1
        else:
            found.append("escape")
            at += 1
    return found
