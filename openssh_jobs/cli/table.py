"""Tables: one ``Column`` is one fact about a row, in the text and in ``--json``.

On a narrow terminal cells are cut, then columns left out.  Colour only repeats what a word says
already.  Drawn here: rich would take longer for 200 rows than all the rest of ``list``.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .output import Output, printable, terminal_width

Row = TypeVar("Row")

_RED, _GREEN, _YELLOW, _MAGENTA, _BOLD, _PLAIN = (
    f"\x1b[{number}m" for number in (31, 32, 33, 35, 1, 0)
)
_COLOURS = {
    "running": _GREEN,
    "completed": _GREEN,
    "pending": _YELLOW,
    "held": _YELLOW,
    "suspended": _YELLOW,
    "failed": _RED,
    "timeout": _RED,
    "out_of_memory": _RED,
    "node_fail": _RED,
    "cancelled": _MAGENTA,
    "unknown": _MAGENTA,
    "up": _GREEN,
    "idle": _GREEN,
    "mixed": _GREEN,
    "allocated": _GREEN,
    "down": _RED,
    "drained": _RED,
    "draining": _YELLOW,
}


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One fact about a row.

    ``key`` names it: the field in JSON, and the attribute of the row if there is no ``get``.
    ``title`` heads its text column; without one it is in JSON only.  ``show`` makes the text of a
    value, ``missing`` is the text of ``None``.  ``right`` aligns to the right.
    ``in_json=False``: in the text only.

    On a narrow terminal cells of a column that ``shrinks`` are cut, at the start if it
    ``keeps_end``, down to ``least`` characters.  Then the column with the highest number in
    ``drops`` is left out, and so on; none with 0 is.  Cells of one that ``shrinks_last`` are cut
    when no other column is left to go.
    """

    key: str
    title: str = ""
    get: Callable[[Row], Any] | None = None
    show: Callable[[Any], str] = str
    missing: str = ""
    right: bool = False
    shrinks: bool = False
    keeps_end: bool = False
    least: int = 6
    drops: int = 0
    shrinks_last: bool = False
    in_json: bool = True

    def value(self, row: Row) -> Any:
        """The fact."""
        return getattr(row, self.key) if self.get is None else self.get(row)

    def cell(self, row: Row) -> str:
        """The fact as text that no terminal obeys."""
        value = self.value(row)
        return printable(self.missing if value is None else self.show(value))


class OutputTable(Generic[Row]):
    """Columns in the order in which the text shows them.

    ``facts(row)`` gives what stands in JSON beside the columns, under its own names.
    """

    def __init__(
        self,
        *columns: Column[Row],
        facts: Callable[[Row], Mapping[str, Any]] | None = None,
    ) -> None:
        self.columns = columns
        self._facts = facts

    def record(self, row: Row) -> dict[str, Any]:
        """A row for JSON."""
        found = dict(self._facts(row)) if self._facts is not None else {}
        found.update((column.key, column.value(row)) for column in self.columns if column.in_json)
        return found

    def records(self, rows: Iterable[Row]) -> list[dict[str, Any]]:
        """All rows for JSON."""
        return [self.record(row) for row in rows]

    def show(self, rows: Sequence[Row], output: Output) -> None:
        """Print the text; nothing for no rows."""
        for line in self.lines_for(rows, output):
            print(line)

    def lines_for(self, rows: Sequence[Row], output: Output) -> list[str]:
        """The text for where it goes: a terminal's width and colours, or neither."""
        if not output.on_terminal:
            return self.lines(rows, None)
        return self.lines(rows, terminal_width(), colour=has_colour())

    def lines(self, rows: Sequence[Row], width: int | None, *, colour: bool = False) -> list[str]:
        """Aligned text without empty columns, at most ``width`` characters wide if possible."""
        if not rows:
            return []
        layout = _Layout(self.columns, rows, width)
        if not layout.columns:
            return []
        head = _line(layout, [column.title for column in layout.columns])
        lines = [f"{_BOLD}{head}{_PLAIN}" if colour else head]
        lines += (_line(layout, cells, colour) for cells in layout.cells)
        return lines


def has_colour() -> bool:
    """Whether the user and the terminal allow colours."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def coloured(line: str, word: str, output: Output) -> str:
    """A line whose words up to a colon or comma have the colour of ``word``, if there are any."""
    style = _COLOURS.get(word, "") if output.on_terminal and has_colour() else ""
    end = min((at for mark in ":," if (at := line.find(mark)) > 0), default=0)
    return f"{style}{line[:end]}{_PLAIN}{line[end:]}" if style and end else line


def _line(layout: _Layout[Row], cells: Sequence[str], colour: bool = False) -> str:
    line = ""
    for column, room, cell in zip(layout.columns, layout.widths, cells, strict=True):
        text = cut(cell, room, column.keeps_end)
        spaces = " " * (room - display_width(text))
        style = _COLOURS.get(cell, "") if colour else ""
        text = f"{style}{text}{_PLAIN}" if style else text
        line += (spaces + text if column.right else text + spaces) + "  "
    return line.rstrip()


def display_width(text: str) -> int:
    """The columns of a terminal that printable text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def cut(text: str, room: int, keeps_end: bool = False) -> str:
    """Text in ``room`` columns, with a mark where some of it is missing."""
    if display_width(text) <= room:
        return text
    kept = text
    while kept and display_width(kept) > room - 1:
        kept = kept[1:] if keeps_end else kept[:-1]
    return f"…{kept}" if keeps_end else f"{kept}…"


class _Layout(Generic[Row]):
    """The columns with a title that are not empty, the width of each, and the cells."""

    def __init__(
        self, columns: Sequence[Column[Row]], rows: Sequence[Row], width: int | None
    ) -> None:
        titled = [column for column in columns if column.title]
        cells = [[column.cell(row) for column in titled] for row in rows]
        kept = [at for at in range(len(titled)) if any(line[at] for line in cells)]
        self.columns = [titled[at] for at in kept]
        self.cells = [[line[at] for at in kept] for line in cells]
        self._full = [
            max(len(column.title), *(display_width(line[at]) for line in self.cells))
            for at, column in enumerate(self.columns)
        ]
        self.widths = list(self._full)
        if width is not None:
            self._fit(width)

    def _over(self, width: int) -> int:
        """By how much it is too wide."""
        return sum(self.widths) + 2 * (len(self.widths) - 1) - width

    def _fit(self, width: int) -> None:
        """Cut cells and leave out columns until all fit, or nothing more may go."""
        while True:
            self._shrink(width)
            at = max(range(len(self.columns)), key=lambda at: self.columns[at].drops, default=0)
            if self._over(width) <= 0 or not self.columns or not self.columns[at].drops:
                break
            del self.columns[at], self._full[at]
            for line in self.cells:
                del line[at]
            self.widths = list(self._full)
        for at, column in enumerate(self.columns):
            if column.shrinks_last:
                least = min(column.least, self.widths[at])
                self.widths[at] = max(least, self.widths[at] - max(0, self._over(width)))

    def _shrink(self, width: int) -> None:
        """Narrow columns, the least telling first, else the widest, until all fit."""
        while self._over(width) > 0:
            able = [
                at
                for at, column in enumerate(self.columns)
                if column.shrinks and self.widths[at] > column.least
            ]
            if not able:
                return
            self.widths[max(able, key=lambda at: (self.columns[at].drops, self.widths[at]))] -= 1
