"""The little XML that schedulers print, read without trust.

Grid Engine's is not always well-formed (``<unknown_jobs >``, nameless elements in old versions),
and a name in it must not be able to do what a document type can.  So: elements by name, nothing
else, in time linear in the text.
"""

from __future__ import annotations

import re

__all__ = ["elements", "fields", "unescape"]

_ENTITY = re.compile(r"&(?:#([0-9]{1,7})|#x([0-9A-Fa-f]{1,6})|(lt|gt|amp|quot|apos));")
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}
_LEAF = re.compile(r"<([A-Za-z_][\w.\-]*)(?:\s[^<>]*)?(?<!/)>([^<]*)</\1\s*>")


def unescape(text: str) -> str:
    """Text with its character entities resolved; unknown ones stay."""

    def letter(found: re.Match[str]) -> str:
        if found[3]:
            return _NAMED[found[3]]
        code = int(found[1]) if found[1] else int(found[2], 16)
        return chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else found[0]

    return _ENTITY.sub(letter, text) if "&" in text else text


def elements(text: str, name: str) -> list[str]:
    """What stands inside each element of this name (which do not nest)."""
    found: list[str] = []
    for piece in re.split(rf"<{name}(?=[\s>])", text)[1:]:
        body, closed, _ = piece.partition(f"</{name}>")
        if closed:
            found.append(body.partition(">")[2])
    return found


def fields(record: str) -> dict[str, list[str]]:
    """The texts of all elements without children, by name, in order."""
    found: dict[str, list[str]] = {}
    for name, text in _LEAF.findall(record):
        found.setdefault(name, []).append(unescape(text))
    return found
