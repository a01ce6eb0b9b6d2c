"""Tables: one ``Column`` is one fact about a row, in the text and in ``--json``.

A table goes through rich if that is installed and stdout is a terminal; otherwise it is aligned
plain text.  Colour only repeats what a word says already.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .output import Output, printable, terminal_width

Row = TypeVar("Row")

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


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One fact about a row.

    ``key`` names it: the field in JSON, and the attribute of the row if there is no ``get``.
    ``title`` heads its text column; without one it is in JSON only.  ``show`` makes the text of a
    value, ``missing`` is the text of ``None``.  ``right`` aligns to the right; cells of a column
    that ``shrinks`` may be cut on a narrow terminal.  ``in_json=False``: in the text only.
    """

    key: str
    title: str = ""
    get: Callable[[Row], Any] | None = None
    show: Callable[[Any], str] = str
    missing: str = ""
    right: bool = False
    shrinks: bool = False
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
        if not rows:
            return
        if output.on_terminal and self._show_with_rich(rows):
            return
        for line in self.lines(rows, terminal_width() if output.on_terminal else None):
            print(line)

    def lines(self, rows: Sequence[Row], width: int | None) -> list[str]:
        """Aligned text without empty columns, at most ``width`` characters wide if possible."""
        layout = _Layout(self.columns, rows, width)
        if not layout.columns:
            return []
        lines = []
        for cells in ([column.title for column in layout.columns], *layout.cells):
            parts = []
            for column, room, cell in zip(layout.columns, layout.widths, cells, strict=True):
                text = cell if len(cell) <= room else cell[: room - 1] + "…"
                parts.append(text.rjust(room) if column.right else text.ljust(room))
            lines.append("  ".join(parts).rstrip())
        return lines

    def _show_with_rich(self, rows: Sequence[Row]) -> bool:
        """Draw with rich; false if that is not installed."""
        try:
            from rich.console import Console
            from rich.table import Table as RichTable
            from rich.text import Text
        except ImportError:
            return False
        layout = _Layout(self.columns, rows, terminal_width())
        console = Console(file=sys.stdout, width=terminal_width(), highlight=False)
        table = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column, room in zip(layout.columns, layout.widths, strict=True):
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                no_wrap=True,
                overflow="ellipsis",
                width=room,
            )
        for cells in layout.cells:
            table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in cells))
        console.print(table)
        return True


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
        self.widths = [
            max(len(column.title), *(len(line[at]) for line in self.cells))
            for at, column in enumerate(self.columns)
        ]
        if width is not None:
            self._shrink(width)

    def _shrink(self, width: int) -> None:
        """Narrow the widest columns that may be cut until all fit or none can be narrowed."""
        while sum(self.widths) + 2 * (len(self.widths) - 1) > width:
            able = [
                at
                for at, column in enumerate(self.columns)
                if column.shrinks and self.widths[at] > _NARROWEST
            ]
            if not able:
                return
            self.widths[max(able, key=lambda at: self.widths[at])] -= 1
