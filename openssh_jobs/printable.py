"""printable: text for a terminal, in which nothing is interpreted or invisible."""

from __future__ import annotations

# A terminal does not show these, although Unicode calls them letters or marks.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")


def printable(text: object) -> str:
    """Text in which everything that a terminal would interpret or not display is escaped.

    Control characters (C0, C1, line ends too), bidirectional controls, zero-width characters and
    undecodable bytes become ``\\x1b``, ``\\n``, ``\\u202e``, ``\\udcff``.
    """
    return "".join(
        char
        if (char.isprintable() or char in "\xa0\u202f\u3000") and char not in _INVISIBLE
        else char.encode("unicode_escape").decode("ascii")
        for char in str(text)
    )
