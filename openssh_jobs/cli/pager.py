"""Text that is longer than the screen goes through the user's pager, as git and man do it."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from .output import Output


def show(lines: Sequence[str], output: Output) -> None:
    """Print lines, through a pager where stdout is a terminal with fewer lines."""
    command = _pager() if output.on_terminal and not output.quiet else []
    child = None
    if command and len(lines) >= shutil.get_terminal_size((80, 24)).lines:
        from ..openssh import process

        # As git does: leave if it fits on the screen, pass colours on, do not clear the screen.
        env = {"LESS": os.environ.get("LESS", "FRX"), "LV": os.environ.get("LV", "-c")}
        with contextlib.suppress(OSError):
            child = process.spawn(
                command, stdin=process.PIPE, stdout=None, stderr=None, env=env, own_session=False
            )
    if child is None:
        for line in lines:
            print(line)
        return
    sys.stdout.flush()
    text = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
    with interrupts_are_the_childs():
        try:
            child.communicate(text)  # not an error if it is left before the end
        except BaseException:
            child.terminate()
            child.wait()
            raise


def _pager() -> list[str]:
    """``$PAGER``, else less, else more; nothing where none is wanted or there is none."""
    if os.environ.get("TERM", "dumb") == "dumb":
        return []
    given = os.environ.get("PAGER")
    if given is not None:
        try:
            words = shlex.split(given)
        except ValueError:
            words = []
        return words if words and words != ["cat"] and shutil.which(words[0]) else []
    return next(([name] for name in ("less", "more") if shutil.which(name)), [])


@contextlib.contextmanager
def interrupts_are_the_childs() -> Iterator[None]:
    """Leave Ctrl-C to the program that has the terminal, such as a pager."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Not SIG_IGN, which it would inherit.
    before: Any = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
