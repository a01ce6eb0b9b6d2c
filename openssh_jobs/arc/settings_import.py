"""ARC's settings file as ``servers.toml``.  The file is read, never executed; pure.

What is not a literal in it (a call, a name, an f-string) is left out and named in the notes.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from .settings import TABLES

__all__ = ["TABLES", "ImportedSettings", "read_settings", "to_toml"]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_LARGEST_INTEGER = 2**63


@dataclass
class ImportedSettings:
    """``tables`` by name, as far as they could be read.

    ``left_out`` says what could not be read, ``notes`` what means something else here.
    """

    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class _NotReadable(Exception):
    """A value that is not a literal, or that TOML cannot hold."""


def read_settings(source: str | bytes, name: str = "settings.py") -> ImportedSettings:
    """Read the tables of ARC's settings from Python source; bytes may begin with its encoding.

    Assignments of literals are read, to a table (``servers = {…}``) and to an entry
    (``servers['hpc']['un'] = 'me'``).  Raises ``InputError`` for text that is not Python.
    """
    try:
        tree = ast.parse(source, name)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{name} is not Python source: {error}") from error
    found = ImportedSettings()
    for statement in tree.body:
        if not _read_assignment(statement, found):
            _note_if_it_concerns_us(statement, found)
    for server, entry in found.tables.get("servers", {}).items():
        if isinstance(entry, dict):
            _check_entry(server, entry, found.notes)
    return found


def _read_assignment(statement: ast.stmt, found: ImportedSettings) -> bool:
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target, value = statement.targets[0], statement.value
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        target, value = statement.target, statement.value
    else:
        return False
    path = _path_of(target)
    if not path or path[0] not in TABLES:
        return False
    try:
        content = _value(value, path, found.left_out)
        if len(path) == 1:
            if not isinstance(content, dict):
                raise _NotReadable
            found.tables[path[0]] = content
            return True
        table: Any = found.tables[path[0]]
        for key in path[1:-1]:
            table = table[key]
        table[path[-1]] = content
    except (_NotReadable, KeyError, TypeError):
        found.left_out.append(f"line {statement.lineno}: {_title(path)} is not a literal: left out")
    return True


def _path_of(target: ast.expr) -> list[str]:
    """``servers['a']['b']`` as names; empty for anything else."""
    if isinstance(target, ast.Name):
        return [target.id]
    if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
        before = _path_of(target.value)
        return [*before, str(target.slice.value)] if before else []
    return []


def _title(path: list[str]) -> str:
    return path[0] + "".join(f"[{key!r}]" for key in path[1:])


def _value(node: ast.expr, path: list[str], left_out: list[str]) -> Any:
    """The value of a literal; of a table what of it is literal, with a note for the rest."""
    if not isinstance(node, ast.Dict):
        try:
            return _for_toml(ast.literal_eval(node))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
            raise _NotReadable from error
    table: dict[str, Any] = {}
    for key, content in zip(node.keys, node.values, strict=True):
        if not isinstance(key, ast.Constant):
            left_out.append(
                f"line {content.lineno}: a key of {_title(path)} is not a literal: left out"
            )
            continue
        below = [*path, str(key.value)]
        try:
            table[below[-1]] = _value(content, below, left_out)
        except _NotReadable:
            left_out.append(f"line {content.lineno}: {_title(below)} is not a literal: left out")
    return table


def _for_toml(value: Any) -> Any:
    if isinstance(value, list | tuple | set):
        items = sorted(value, key=repr) if isinstance(value, set) else value
        return [_for_toml(item) for item in items]
    if isinstance(value, bool | float):
        return value
    if isinstance(value, dict):
        return {str(key): _for_toml(content) for key, content in value.items()}
    if isinstance(value, int) and -_LARGEST_INTEGER <= value < _LARGEST_INTEGER:
        return value
    if isinstance(value, str) and not re.search(r"[\ud800-\udfff]", value):
        return value
    raise _NotReadable


def _note_if_it_concerns_us(statement: ast.stmt, found: ImportedSettings) -> None:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
        return
    names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    for name in sorted(names & TABLES.keys()):
        found.left_out.append(f"line {statement.lineno}: what this does with {name} was not read")


def _check_entry(server: str, entry: dict[str, Any], notes: list[str]) -> None:
    if "<" in str(entry.get("un", "")):
        notes.append(f"{server}: un is still {entry['un']!r}: put your user name there")
    key = str(entry.get("key", ""))
    if key.rsplit("/", 1)[-1].startswith("known_hosts"):
        del entry["key"]
        notes.append(
            f"{server}: key named {key}, which holds host keys and is not a key to log in with: "
            "left out (your agent or ssh configuration has the right one)"
        )
    if entry.get("strict_host_key_checking") is False:
        notes.append(f"{server}: host keys are checked whatever strict_host_key_checking says")


# --------------------------------------------------------------------------- TOML


def to_toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """The tables as the text of a ``servers.toml``."""
    return "\n".join(_table_lines(tables))


def _table_lines(tables: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, table in tables.items():
        if name != "servers":
            yield f"[{_key(name)}]"
            yield from _pairs(table)
            continue
        for server, entry in table.items():
            yield f"[servers.{_key(server)}]"
            yield from _pairs(entry if isinstance(entry, dict) else {})


def _pairs(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        yield f"{_key(key)} = {_toml(value)}"
    yield ""


def _key(name: str) -> str:
    return name if _BARE_KEY.match(name) else _toml(name)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        pairs = ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value)
