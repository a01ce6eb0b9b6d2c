"""A program that has this process's terminal, such as the ssh of ``exec -t``, to its end.

Only the modes of the terminal are touched here: they are put back whatever happens to the program.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from . import process

_END_WITHIN = 2.0
# Back to the main screen, no mouse reports, no bracketed paste, usual keys, a cursor, no colours.
_LEAVE = b"\x1b[?1049;1000;1002;1003;1006;2004;1l\x1b>\x1b[?25h\x1b[0m"


def is_there() -> bool:
    """Whether standard input is a terminal of which this process is in the foreground."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def hold(argv: Sequence[str | bytes]) -> int:
    """Run a program on our standard streams; returns its status, ``-N`` after signal N.

    Ctrl-C is the program's alone.  An exception, such as one that a signal handler raises, ends
    the program first.
    """
    with _kept_modes() as leave:
        child = process.spawn(
            argv, stdin=None, stdout=None, stderr=None, own_environment=True, own_session=False
        )
        code = -int(signal.SIGKILL)
        try:
            with _keyboard_signals_are_the_childs():
                code = child.wait()
        finally:
            if child.returncode is None:
                child.terminate()
                if not process.wait(child, _END_WITHIN):
                    child.kill()
                    process.wait(child, _END_WITHIN)
            if code < 0:
                leave()
    return code


@contextlib.contextmanager
def _kept_modes() -> Iterator[Any]:
    """Put the modes of the terminal back; gives a function for a program that was cut off."""
    modes = None
    if is_there():
        with contextlib.suppress(termios.error):
            modes = termios.tcgetattr(0)

    def leave() -> None:
        if modes is not None and is_there():
            with contextlib.suppress(OSError):
                os.write(0, _LEAVE)

    sys.stdout.flush()
    try:
        yield leave
    finally:
        # From the background this would stop the process; a shell has its own modes by then.
        if modes is not None and is_there():
            with contextlib.suppress(termios.error):
                termios.tcsetattr(0, termios.TCSADRAIN, modes)


@contextlib.contextmanager
def _keyboard_signals_are_the_childs() -> Iterator[None]:
    """Do nothing on Ctrl-C and Ctrl-\\; as handlers they are not inherited by programs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}
    for number in (signal.SIGINT, signal.SIGQUIT):
        before[number] = signal.signal(number, lambda number, frame: None)
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, signal.SIG_DFL if handler is None else handler)
