"""What a person or a program gets to see: sentences, tables, JSON.

Tables go through rich where it is installed and stdout is a terminal, else they are plain aligned
text.  Colour only repeats what a word says already.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, timedelta
from typing import Any

from ..errors import printable as printable

_NARROWEST = 6
_STYLES = {
    "running": "green",
    "completed": "green",
    "pending": "yellow",
    "held": "yellow",
    "suspended": "yellow",
    "failed": "red",
    "timeout": "red",
    "out_of_memory": "red",
    "node_fail": "red",
    "cancelled": "magenta",
    "unknown": "magenta",
    "up": "green",
    "idle": "green",
    "mixed": "green",
    "allocated": "green",
    "down": "red",
    "drained": "red",
    "draining": "yellow",
}


# --------------------------------------------------------------------------- words


def one_line(text: object) -> str:
    """Text on one line, with all spelled out that a terminal would obey."""
    return printable(" ".join(str(text).split()))


def count(number: int, thing: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def size(number: float) -> str:
    """Bytes for people, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            break
        number /= 1000
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"


def duration(value: timedelta | None) -> str:
    """``0:12:03``, ``2-00:00:00`` from a day on; empty where not known."""
    if value is None:
        return ""
    seconds = int(value.total_seconds())
    days, seconds = divmod(seconds, 86400)
    text = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{days}-{text.rjust(8, '0')}" if days else text


def moment(value: datetime | None, today: date | None = None) -> str:
    """A time as people say it, in the time zone here: ``today 09:14``; empty where not known."""
    if value is None:
        return ""
    local = value.astimezone()
    days = ((today or datetime.now().astimezone().date()) - local.date()).days
    if days in (0, 1):
        return f"{('today', 'yesterday')[days]} {local:%H:%M}"
    return f"{local:%Y-%m-%d %H:%M}"


def plain(value: Any) -> Any:
    """A value for JSON: times in ISO 8601, durations in seconds, tuples as lists."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        return int(seconds) if seconds.is_integer() else seconds
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one) for one in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    return str(value) if isinstance(value, str) else value


# --------------------------------------------------------------------------- tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: ``shrinks`` says that its cells may be cut where the terminal is narrow."""

    title: str
    right: bool = False
    shrinks: bool = False


@dataclass(frozen=True, slots=True)
class _Layout:
    """A table as it will be seen: only columns that hold something, each with its width."""

    heads: list[Column]
    widths: list[int]
    cells: list[list[str]]


def _layout(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> _Layout:
    kept = [at for at in range(len(columns)) if any(row[at] for row in rows)]
    heads = [columns[at] for at in kept]
    cells = [[printable(row[at]) for at in kept] for row in rows]
    widths = [
        max(len(head.title), *(len(row[at]) for row in cells)) for at, head in enumerate(heads)
    ]
    if width is not None:
        _shrink(widths, heads, width)
    return _Layout(heads, widths, cells)


def table_lines(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None
) -> list[str]:
    """Aligned text; in ``width`` characters where one is given, empty columns left out."""
    table = _layout(columns, rows, width)
    if not table.heads:
        return []
    lines = []
    for row in ([head.title for head in table.heads], *table.cells):
        parts = []
        for head, room, cell in zip(table.heads, table.widths, row, strict=True):
            text = cell if len(cell) <= room else cell[: room - 1] + "…"
            parts.append(text.rjust(room) if head.right else text.ljust(room))
        lines.append("  ".join(parts).rstrip())
    return lines


def _shrink(widths: list[int], heads: Sequence[Column], width: int) -> None:
    """Take from the widest columns that may be cut until all fit, or no more can be taken."""
    while sum(widths) + 2 * (len(widths) - 1) > width:
        able = [at for at, head in enumerate(heads) if head.shrinks and widths[at] > _NARROWEST]
        if not able:
            return
        widths[max(able, key=lambda at: widths[at])] -= 1


def _rich_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> bool:
    """Draw with rich; false where that is not installed."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    found = _layout(columns, rows, terminal_width())
    console = Console(file=sys.stdout, width=terminal_width(), highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head, room in zip(found.heads, found.widths, strict=True):
        table.add_column(
            head.title,
            justify="right" if head.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            width=room,
        )
    for row in found.cells:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console.print(table)
    return True


def terminal_width() -> int:
    """Columns of the terminal, or ``COLUMNS``; 80 where nobody says."""
    return max(20, shutil.get_terminal_size((80, 24)).columns)


# --------------------------------------------------------------------------- the one who talks


class Ui:
    """Says things: data to stdout, all else to stderr.

    ``goes_on`` is what a Ctrl-C has to tell: what goes on, or stays as it was, without us.
    ``patience`` is how many seconds after a Ctrl-C the program leaves whatever is under way.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False, debug: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        self.debug = debug
        self.goes_on = ""
        self.patience = 0.9

    @property
    def on_terminal(self) -> bool:
        """Whether a person reads stdout."""
        return sys.stdout.isatty()

    @property
    def may_draw(self) -> bool:
        """Whether a line on stderr may be drawn over."""
        is_terminal = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        return is_terminal and not (self.json or self.quiet)

    def data(self, value: Any) -> None:
        """One JSON document."""
        print(json.dumps(plain(value), indent=2, ensure_ascii=True))

    def line(self, text: object) -> None:
        """A line of what was asked for."""
        print(printable(text))

    def say(self, text: object) -> None:
        """A word to a person that all went well; nothing where a program reads."""
        if self.on_terminal and not (self.json or self.quiet):
            print(printable(text))

    def note(self, text: object) -> None:
        """A sentence on stderr."""
        print(one_line(text), file=sys.stderr)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
        """A table; nothing at all for no rows."""
        if not rows:
            return
        if self.on_terminal and _rich_table(columns, rows):
            return
        for line in table_lines(columns, rows, terminal_width() if self.on_terminal else None):
            print(line)
