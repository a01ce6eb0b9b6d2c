"""Shell text of the package: read from the ``.sh`` files beside its modules, values filled in.

A file is POSIX sh that shellcheck accepts (``scripts/lint``).  Where a value goes it has a
placeholder, ``@NAME@``, as a shell word of its own or a part of one, never between quotes:
``fill`` quotes.  Comments and blank lines are not sent, so no such line may be a part of a quoted
text or of a here-document; ``#!`` stays.

The files are read at the first use, not at import time, and then kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache

from .quoting import quote, quote_path

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PLACEHOLDER = re.compile(rb"@([A-Z][A-Z0-9_]*)@")
_FUNCTION = re.compile(rb"^(\w+)\(\) \{(?:.*\}|\n(?:.*\n)*?\})\n", re.MULTILINE)
_COMMENT = re.compile(rb"^[ \t]*(?:#(?!!).*)?\n", re.MULTILINE)


class Shell(bytes):
    """Shell text that ``fill`` puts in as it is: a command, or a word that is quoted already."""


Word = str | bytes | int
Value = Word | Sequence[Word]


def path(name: str | bytes) -> Shell:
    """A path on the host as a word: only a leading ``~/`` means something to the shell."""
    return Shell(quote_path(name))


def fill(text: bytes, values: Mapping[str, Value]) -> bytes:
    """Shell text with each ``@NAME@`` replaced by the value of ``name``, quoted.

    A sequence becomes that many words, ``Shell`` stays as it is.  Raises ``ValueError`` for a
    placeholder without a value, a value without a placeholder, and text with a NUL byte.
    """
    words = {name.upper().encode(): _words(value) for name, value in values.items()}
    found = {match[1] for match in _PLACEHOLDER.finditer(text)}
    if found != words.keys():
        odd = b", ".join(sorted(found ^ words.keys())).decode()
        raise ValueError(f"placeholders and values of a script differ: {odd}")
    return _PLACEHOLDER.sub(lambda match: words[match[1]], text)


def _words(value: Value | Sequence[Value]) -> bytes:
    if isinstance(value, Shell):
        return value
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, str | bytes):
        return quote(value)
    return b" ".join(map(_words, value))


@cache
def read(name: str) -> bytes:
    """The text of a file: ``read("files/private_directory")``; no comments, no blank lines."""
    with open(os.path.join(_PACKAGE, f"{name}.sh"), "rb") as file:
        return _COMMENT.sub(b"", file.read())


@cache
def _functions(name: str) -> dict[bytes, bytes]:
    return {found[1]: found[0] for found in _FUNCTION.finditer(read(name))}


def functions(name: str, *wanted: str) -> bytes:
    """Some of the functions of a file.  Each begins and ends at the begin of a line."""
    return b"".join(_functions(name)[function.encode()] for function in wanted)


def call(function: str, *words: Value) -> bytes:
    """A line that calls a shell function or a program with these words, quoted."""
    return b"%b %b\n" % (function.encode(), _words(words))


def script(name: str, /, **values: Value) -> bytes:
    """The text of a file with its values filled in."""
    return fill(read(name), values)
