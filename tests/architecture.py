"""The two blocks of docs/architecture.rst that the package has to agree with.

``python -m tests.architecture`` rewrites the annotated tree from the first sentence of every
module's docstring.  The order of the rooms is read from the page, and never written.
"""

from __future__ import annotations

import ast
import functools
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from tests.paths import CHECKOUT, PACKAGE

PAGE = CHECKOUT / "docs" / "architecture.rst"
_ORDER = re.compile(r"^\.\. the order of the rooms\n\n::\n\n((?:    .+\n)+)", re.M)
_TREE = re.compile(r"^(\.\. the tree\n\n::\n\n)((?:(?:    .+)?\n)+)(?=\S)", re.M)
_WIDTH = 112
_FOR_SHELLCHECK = re.compile(r"shellcheck|SC[0-9]{4}:")


@functools.cache
def parsed(source: str) -> ast.Module:
    """The tree of a module: many rules look at it, and none changes it."""
    return ast.parse(source)


@functools.cache
def nodes(source: str) -> tuple[ast.AST, ...]:
    """All nodes of a module."""
    return tuple(ast.walk(parsed(source)))


def floors() -> dict[str, int]:
    """The floor of each room, from the page: a room may import from rooms with a smaller number."""
    found = _ORDER.search(PAGE.read_text(encoding="utf-8"))
    assert found, f"{PAGE.name} shows no order of the rooms"
    lines = [line.split() for line in found[1].splitlines()]
    order = {room: floor for floor, rooms in enumerate(reversed(lines)) for room in rooms}
    top = len(lines)
    return {**order, "__main__": top, "__init__": top + 1}


def tree() -> str:
    """The annotated tree, indented as a literal block."""
    return "".join(f"    {line}\n".rstrip(" ") for line in _lines(PACKAGE, 0))


def written_tree() -> str:
    """The annotated tree as it stands on the page."""
    found = _TREE.search(PAGE.read_text(encoding="utf-8"))
    assert found, f"{PAGE.name} shows no tree"
    return found[2].rstrip("\n") + "\n"


def _lines(directory: Path, depth: int) -> Iterator[str]:
    files = sorted(directory.glob("*.py"), key=lambda path: path.stem)
    scripts = sorted(directory.glob("*.sh"))
    for path in (*files, *scripts):
        if path.stem != "__init__" or depth == 0:
            yield _line(path.name, _sentence(path), depth)
    for inner in sorted(directory.iterdir()):
        if (inner / "__init__.py").exists():
            yield _line(inner.name + "/", _sentence(inner / "__init__.py"), depth)
            yield from _lines(inner, depth + 1)


def _line(name: str, sentence: str, depth: int) -> str:
    begin = f"{'  ' * depth + name:<28} "
    return begin + textwrap.shorten(sentence, _WIDTH - len(begin), placeholder=" ...")


def _sentence(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".sh":
        lines = [line for line in text.splitlines() if line.startswith("# ")]
        first = next((line[2:] for line in lines if not _FOR_SHELLCHECK.search(line)), "")
    else:
        first = (ast.get_docstring(parsed(text)) or "").partition("\n\n")[0].replace("\n", " ")
    assert first, f"{path} has no sentence at its head"
    return first.removesuffix("  Pure.").removesuffix(".").replace("``", "")


def main() -> None:
    """Write the tree of the page."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_TREE.sub(lambda found: found[1] + tree() + "\n", text), encoding="utf-8")


if __name__ == "__main__":
    main()
