"""The package as a whole agrees with docs/architecture.rst: circles, doubles, mirrors, the tree.

The rules for one module at a time are in test_house.py.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tests import architecture
from tests.paths import CHECKOUT
from tests.unit.test_house import is_package, modules, own_imports

UNIT = CHECKOUT / "tests" / "unit"
# Tests of the package as a whole, or of what is no module of it.
OF_THE_WHOLE = {"architecture", "conftest", "docs", "house", "removals", "typing"}


def circle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """The modules of one circle of imports, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_no_circle_of_imports() -> None:
    """Also none that only a type checker sees."""
    graph = {}
    for name, source in modules():
        targets = set(own_imports(name, architecture.nodes(source)))
        if is_package(name):
            # The front of a room imports the room's modules, which do not import the front.
            targets = {target for target in targets if target.startswith(f"{name}.")}
        graph[name] = targets - {name}
    assert len(graph) > 100
    assert circle(graph) == []


def test_a_circle_is_seen() -> None:
    assert circle({"a": ["b"], "b": ["c"], "c": ["a"], "d": []}) != []


def class_names(sources: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The modules of every class name that stands in more than one."""
    found = defaultdict(list)
    for name, source in sources:
        for node in architecture.nodes(source):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(name)
    return {name: homes for name, homes in found.items() if len(homes) > 1}


def test_a_class_name_means_one_thing() -> None:
    assert class_names(modules()) == {}


def test_a_double_is_seen() -> None:
    source = "class _Held:\n    pass"
    assert class_names([("a", source), ("b", source)]) == {"_Held": ["a", "b"]}


def unmirrored(tests: Iterable[Path], names: set[str]) -> list[str]:
    """Unit tests whose name does not begin with the name of a module in the same room.

    ``test_room_*.py`` is about a room as a whole.
    """
    found = []
    for path in tests:
        folder = path.parent.as_posix().replace("/", ".").strip(".")
        words = path.stem.removeprefix("test_").split("_")
        begins = ["_".join(words[:length]) for length in range(len(words), 0, -1)]
        if begins[-1] in (OF_THE_WHOLE if not folder else {"room"}):
            continue
        candidates = [".".join(filter(None, [folder, begin])) for begin in begins]
        if not names & set(candidates):
            found.append(path.as_posix())
    return found


def test_unit_tests_mirror_the_package() -> None:
    tests = [path.relative_to(UNIT) for path in UNIT.rglob("test_*.py")]
    assert len(tests) > 40
    assert unmirrored(tests, {name for name, _ in modules()}) == []


def test_a_test_in_the_wrong_room_is_seen() -> None:
    names = {"cluster.poller"}
    assert unmirrored([Path("cluster/test_poller_rest.py"), Path("test_house.py")], names) == []
    assert unmirrored([Path("openssh/test_poller.py")], names) == ["openssh/test_poller.py"]


def test_the_page_shows_the_tree_as_it_is() -> None:
    """``python -m tests.architecture`` writes it."""
    assert architecture.written_tree() == architecture.tree()


def test_every_room_has_a_floor() -> None:
    rooms = {name.split(".")[0] for name, _ in modules()}
    assert set(architecture.floors()) - {"__main__"} == rooms - {"__main__"}
