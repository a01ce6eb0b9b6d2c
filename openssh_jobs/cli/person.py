"""The person at the terminal: whether there is one, and the questions of a login put to them."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from .output import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from ..openssh.prompts import Prompt


def is_there() -> bool:
    """Whether stderr is the terminal of this process, which is not in its background."""
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except (OSError, ValueError):  # another terminal, a file, closed
        return False


@contextlib.contextmanager
def asked() -> Iterator[TerminalPrompter | None]:
    """A responder that asks the person at the terminal; ``None`` if nobody is there."""
    terminal = None
    if is_there():
        with contextlib.suppress(OSError):
            terminal = open_terminal()
    if terminal is None:
        yield None
        return
    with terminal:
        yield TerminalPrompter(terminal)


def open_terminal() -> TextIO:
    """The controlling terminal, for questions.  Raises ``OSError`` where there is none."""
    return os.fdopen(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY), "w", encoding="utf-8")


class TerminalPrompter:
    """Asks a person on the controlling terminal, whatever stdin and stdout are."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal

    def __call__(self, prompt: Prompt) -> str | None:
        """The answer; ``None`` at the end of input (Ctrl-D)."""
        *before, last = prompt.text.split("\n")
        for line in before:
            self._write(printable(line) + "\n")
        if prompt.kind == "touch":
            self._write(f"{printable(last)}\nTouch the security key.\n")
            return ""
        question = printable(last)
        if not question.endswith(" "):
            question += " "
        try:
            return self._shown(question) if prompt.echo else self._hidden(question)
        except EOFError:
            self._write("\n")
            return None

    def _write(self, text: str) -> None:
        self._terminal.write(text)
        self._terminal.flush()

    def _shown(self, question: str) -> str:
        self._write(question)
        with open("/dev/tty", encoding="utf-8", errors="surrogateescape") as answers:
            line = answers.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")

    def _hidden(self, question: str) -> str:
        import getpass

        return getpass.getpass(question)
