"""``qstat -f -F json`` of PBS, which is not always JSON.  Pure.

Seen in public reports of PBS Pro 18 to OpenPBS 20 (openpbs/openpbs 830, 1255, 2049, 2541): a
backslash before a comma or a quote, quotes that are not escaped, ``005`` as a number, shell
functions with bare line ends among the variables.  One such job would hide all others.  Before
18.1.2 (pull request 585) each of several ids begins with ``"Jobs":{`` and the braces do not close.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["load"]

_GOOD_ESCAPE = r'\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})'
_BACKSLASH = re.compile(rf"({_GOOD_ESCAPE})|\\")
_KEY = re.compile(r'\s*"[^"\\]*"\s*:')
_TEXT = re.compile(rf'"({_GOOD_ESCAPE}|[^"\\])*"', re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_HEAD = re.compile(r'^[ \t]*"Jobs"[ \t]*:[ \t]*\{[ \t]*$', re.MULTILINE)
_VARIABLES = re.compile(r'(\s*)"Variable_List"\s*:\s*\{\s*')
_WORKDIR = re.compile(r'\s*"PBS_O_WORKDIR"\s*:\s*"((?:[^"\\])*)"')


def load(text: str) -> Any:
    """What the text says; ``ValueError`` where it is beyond mending.

    Of a key that stands twice in one object it is not known which is meant: its value is ``None``.
    """
    if len(_HEAD.findall(text)) > 1:
        return _load_several(text)
    try:
        return _loads(text)
    except ValueError:
        pass
    try:
        return _loads(_with_good_escapes(text))
    except ValueError:
        return _loads("\n".join(_mended_lines(text)))


def _load_several(text: str) -> Any:
    """``"Jobs":{`` before each id, and no or too few braces behind the last."""
    first = _HEAD.search(text)
    if first is None:
        raise ValueError("no jobs")
    inside = re.sub(r",[ \t]*\n\s*,", ",\n", _HEAD.sub(",", text[first.end() :]))
    body = re.sub(r"[\s},]*\Z", "", inside)
    error: ValueError | None = None
    # The braces of the last job, of those that its attributes nest, of "Jobs" and of the whole.
    for count in (3, 4):
        try:
            return load(text[: first.end()] + body + "\n}" * count)
        except ValueError as one:
            error = one
    raise error or ValueError("no jobs")


def _loads(text: str) -> Any:
    try:
        answer, end = _DECODER.raw_decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    # What a site prints behind it does not count, but a text can have ended it too early.
    if '"job_state"' in text[end:]:
        raise ValueError("jobs behind its end")
    return answer


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                found[key] = None
            seen.add(key)
    return found


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_without_doubles)


def _with_good_escapes(text: str) -> str:
    return _BACKSLASH.sub(lambda match: match[1] or r"\\", text)


def _mended_lines(text: str) -> Iterator[str]:
    """PBS writes one value a line; of the variables only the directory is wanted."""
    indent: str | None = None
    inside: list[str] = []
    for line in text.split("\n"):
        if indent is not None:
            if line.rstrip() in (f"{indent}}}", f"{indent}}},"):
                yield f'{indent}"Variable_List":{{{",".join(inside[:1])}'
                yield line
                indent = None
            elif (work := _WORKDIR.match(line)) is not None:
                inside.append(f'"PBS_O_WORKDIR":{json.dumps(work[1])}')
            continue
        opened = _VARIABLES.fullmatch(line)
        if opened is not None:
            indent, inside = opened[1], []
            continue
        yield _mended_line(line)


def _mended_line(line: str) -> str:
    found = _KEY.match(line)
    if found is None:
        return line
    key, value = found[0], line[found.end() :].strip()
    end = "," if value.endswith(",") else ""
    value = value.removesuffix(",").rstrip()
    if not value or value in ("{", "}", "{}", "[", "]", "[]", "true", "false", "null"):
        return line
    if _NUMBER.fullmatch(value) is not None or _TEXT.fullmatch(value) is not None:
        return line
    if len(value) > 1 and value.startswith('"') and value.endswith('"'):
        # What is escaped well stays; any other quote or backslash is meant as it stands.
        inner = re.sub(rf'({_GOOD_ESCAPE})|(["\\])', _escaped, value[1:-1])
        return f'{key}"{inner}"{end}'
    return f"{key}{json.dumps(value)}{end}" if re.fullmatch(r"[\w.+\-]+", value) else line


def _escaped(found: re.Match[str]) -> str:
    return found[1] or f"\\{found[2]}"
