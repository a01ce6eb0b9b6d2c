"""Shell text of the package: read from the ``.sh`` files beside its modules, values filled in.

A file is POSIX sh that shellcheck accepts (``scripts/lint``).  A placeholder, ``@NAME@``, stands
for a value, as a whole shell word or a part of one, never between quotes: ``fill`` quotes.
Comments and blank lines are not sent, so no such line may be a part of a quoted text or of a
here-document; ``#!`` stays.

A file is one script, or functions of which ``call`` sends those that a script needs.  The files are
read at the first use, not at import time, and then cached.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache

from .quoting import quote, quote_path

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PLACEHOLDER = re.compile(rb"@([A-Z][A-Z0-9_]*)@")
_COMMENT = re.compile(rb"^[ \t]*(?:#(?!!).*)?\n", re.MULTILINE)
_FUNCTION = re.compile(rb"^(oj_\w+)\(\) \{(?:.*\}|\n(?:.*\n)*?\})\n", re.MULTILINE)
_INDENT = re.compile(rb"^ +", re.MULTILINE)
_NAME = re.compile(rb"\boj_\w+")
COMMON = "commands/common"
"""The file whose functions all others may call."""


class Shell(bytes):
    """Shell text that ``fill`` inserts unquoted: a command, or a word that is quoted already."""


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


def words(*values: Value) -> bytes:
    """Values as words of a command line, quoted as ``fill`` does."""
    return _words(values)  # type: ignore[arg-type]


def _words(value: Value) -> bytes:
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


def script(name: str, /, **values: Value) -> bytes:
    """The text of a file with its values filled in."""
    return fill(read(name), values)


def call(name: str, function: str, /, *arguments: Value) -> bytes:
    """A call of one function of a file: its text, what it calls itself, and the arguments, quoted.

    Raises ``ValueError`` for a function that the file does not have.
    """
    return b" ".join([functions(name, function) + function.encode(), *map(_words, arguments)])


@cache
def functions(name: str, wanted: str) -> bytes:
    """The text of one function of a file, after those of the file and ``COMMON`` that it calls."""
    known = {**_functions(COMMON), **_functions(name)}
    if wanted.encode() not in known:
        raise ValueError(f"{name}.sh has no function {wanted}")
    needed: dict[bytes, None] = {}
    pending = [wanted.encode()]
    while pending:
        function = pending.pop()
        needed.pop(function, None)
        needed[function] = None
        pending += {*_NAME.findall(known[function])} & known.keys() - {function}
    return _INDENT.sub(b"", b"".join(known[function] for function in reversed(needed)))


@cache
def _functions(name: str) -> dict[bytes, bytes]:
    return {found[1]: found[0] for found in _FUNCTION.finditer(read(name))}
