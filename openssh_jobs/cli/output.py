"""What a person or a program reads: text, JSON and the sentences of errors."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, timedelta
from typing import Any

from .. import phrases
from ..errors import OpenSSHJobsError
from ..errors import printable as printable
from ..phrases import duration as duration
from ..phrases import size as size
from ..phrases import span as span
from . import exit_codes

# --------------------------------------------------------------------------- text


def one_line(text: object) -> str:
    """Text on one line; whatever a terminal would obey is escaped."""
    return printable(" ".join(str(text).split()))


def count(number: int, thing: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def moment(value: datetime | None, today: date | None = None) -> str:
    """A time in the local time zone: ``today 09:14``, ``2026-03-09 09:14``; empty for ``None``."""
    return phrases.moment(value, today or datetime.now().astimezone().date())


def wrapped(text: str, width: int) -> list[str]:
    """Text in lines of ``width``, broken at spaces but not inside a `command` that fits on one."""
    lines = [""]
    for part in re.findall(r"(?:[^\s`]|`[^`]*`|`)+", text):
        for word in [part] if len(part) <= width else part.split():
            if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
                lines.append("")
            lines[-1] += f" {word}" if lines[-1] else word
    return lines


def terminal_width() -> int:
    """Columns of the terminal, or ``COLUMNS``; 80 if neither is known."""
    return max(20, shutil.get_terminal_size((80, 24)).columns)


# --------------------------------------------------------------------------- JSON


def plain(value: Any) -> Any:
    """A value for JSON: times in ISO 8601, durations in seconds, tuples as lists."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        return int(seconds) if seconds.is_integer() else seconds
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return plain(attributes(value))
    return str(value) if isinstance(value, str) else value


def attributes(value: Any) -> dict[str, Any]:
    """The fields of a dataclass and their values."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


# --------------------------------------------------------------------------- errors


def error_sentence(error: BaseException) -> str:
    """An error as one sentence: what happened, why, and what to type next."""
    if isinstance(error, OpenSSHJobsError):
        text = str(error) if error.host else f"openssh-jobs: {error}"
    elif isinstance(error, exit_codes.UsageError):
        text = str(error)
        if not text.startswith("openssh-jobs"):
            text = f"openssh-jobs: {text}"
    elif isinstance(error, OSError) and error.strerror:
        name = f": {error.filename!r}" if error.filename is not None else ""
        text = f"openssh-jobs: {error.strerror} on this machine{name}"
    elif isinstance(error, TimeoutError):
        text = f"openssh-jobs: {error}"
    else:
        text = (
            f"openssh-jobs: this is a bug: {type(error).__name__}: {error}. "
            "The same command with --debug shows where."
        )
    text = one_line(text)
    return text if text.endswith((".", "?", "!", "`")) else text + "."


def error_data(error: BaseException) -> dict[str, Any]:
    """An error for ``--json``."""
    found: dict[str, Any] = {
        "type": type(error).__name__.lstrip("_"),
        "message": error_sentence(error),
        "exit_code": int(exit_codes.of_error(error)),
    }
    for name in ("host", "sent", "kind", "token"):
        value = getattr(error, name, None)
        if value is not None and value != "":
            found[name] = value
    return {"error": found}


# --------------------------------------------------------------------------- streams


class Output:
    """Writes results to stdout and everything else to stderr.

    ``if_interrupted`` is what the message after Ctrl-C adds, or returns it: what goes on, or is
    unchanged.
    ``grace`` is how many seconds after Ctrl-C the program leaves, whatever is still at work.
    ``successor`` is the command line of the program that replaces this one after the command.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False, debug: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        self.debug = debug
        self.if_interrupted: str | Callable[[], str] = ""
        self.grace = 0.9
        self.successor: list[str] | None = None

    @property
    def on_terminal(self) -> bool:
        """Whether stdout is a terminal."""
        return sys.stdout.isatty()

    @property
    def may_draw(self) -> bool:
        """Whether a line on stderr may be drawn over."""
        is_terminal = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        return is_terminal and not (self.json or self.quiet)

    def data(self, value: Any) -> None:
        """Print one JSON document."""
        import json  # here: most command lines do without

        print(json.dumps(plain(value), indent=2, ensure_ascii=True))

    def line(self, text: object) -> None:
        """Print a line of the result."""
        print(printable(text))

    def say(self, text: object) -> None:
        """Print a confirmation for a person; nothing with ``--json``, ``--quiet`` or in a pipe."""
        if self.on_terminal and not (self.json or self.quiet):
            print(printable(text))

    def note(self, text: object) -> None:
        """Print a sentence to stderr; on a terminal it is broken at words."""
        line = one_line(text)
        lines = wrapped(line, terminal_width()) if sys.stderr.isatty() else [line]
        print("\n".join(lines), file=sys.stderr)
