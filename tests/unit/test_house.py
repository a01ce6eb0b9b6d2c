"""The house keeps its walls: who may import whom, who may start processes, who does no I/O.

Every rule is a function from a module's name and source to complaints, so that each can also be
shown a small bad example and has to complain.
"""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator

import pytest

from tests import architecture
from tests.architecture import parsed
from tests.paths import PACKAGE

# A module may import from rooms with a smaller number, and from its own room.
FLOORS = architecture.floors()
PURE = (
    "errors", "error_facts", "phrases", "printable", "jobs", "parser", "schedulers",
    "commands.quoting", "commands.scripts", "files.private_directory", "openssh.questions",
    "openssh.ssh_errors",
)  # fmt: skip

STARTS_PROCESSES = "openssh.process"
TALKS_ON_A_PTY = "openssh.prompts"
ERRORS_OF_SUBPROCESS = {"CalledProcessError", "TimeoutExpired"}
STARTERS_IN_OS = ("system", "popen", "exec", "spawn", "posix_spawn", "fork")

NO_IO = {
    "asyncio",
    "concurrent",
    "fcntl",
    "ftplib",
    "glob",
    "http",
    "io",
    "mmap",
    "multiprocessing",
    "os.path",
    "pexpect",
    "platform",
    "platformdirs",
    "pty",
    "pwd",
    "queue",
    "random",
    "resource",
    "sched",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "termios",
    "threading",
    "time",
    "tty",
    "urllib.request",
}
# What a pure module may use of modules that otherwise look at the machine.
ONLY = {
    "os": {"PathLike", "fsdecode", "fsencode", "fspath", "strerror"},
    "pathlib": {"PurePath", "PurePosixPath"},
}
READS_ENTRY_POINTS = "schedulers"
# The package's own .sh files, and nothing else.
READS_PACKAGE_DATA = "commands.scripts"
IO_CALLS = {"open", "input", "print", "__import__"}
CLOCKS = {"now", "today", "utcnow"}
NOT_AT_IMPORT = ("pexpect", "ptyprocess", "sqlite3", "asyncio", "rich", "multiprocessing")

Rule = Callable[[str, str], list[str]]


# -- reading ------------------------------------------------------------------------------------


@functools.cache
def modules() -> tuple[tuple[str, str], ...]:
    """Every module of the package: its name without the package's, and its source."""
    return tuple(_modules())


def _modules() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] == "__init__" and len(parts) > 1:
            parts.pop()
        yield ".".join(parts), path.read_text(encoding="utf-8")


@functools.cache
def is_module(name: str) -> bool:
    return (PACKAGE / (name.replace(".", "/") + ".py")).exists()


@functools.cache
def is_package(name: str) -> bool:
    return name == "__init__" or (PACKAGE / name.replace(".", "/") / "__init__.py").exists()


@functools.cache
def run_nodes(source: str) -> tuple[ast.AST, ...]:
    """All nodes of a module but those that only a type checker sees."""
    if "TYPE_CHECKING" not in source:
        return architecture.nodes(source)
    return tuple(without_type_checking(parsed(source)))


def without_type_checking(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes below one, without what only a type checker sees."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from without_type_checking(other)
            continue
        yield child
        yield from without_type_checking(child)


@functools.cache
def imports(name: str, nodes: tuple[ast.AST, ...]) -> list[tuple[str, set[str]]]:
    """(module, names taken from it); modules of the package begin with ``openssh_jobs.``."""
    return list(_imports(name, nodes))


def _imports(name: str, nodes: Iterable[ast.AST]) -> Iterator[tuple[str, set[str]]]:
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, set()
        elif isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            base = node.module or ""
            if node.level:
                here = ["openssh_jobs", *(name.split(".") if name != "__init__" else [])]
                up = node.level - (1 if is_package(name) else 0)
                base = ".".join([*here[: len(here) - up], *filter(None, [base])])
            yield base, names


def own_imports(name: str, nodes: tuple[ast.AST, ...]) -> Iterator[str]:
    """What a module imports of the package, without the package's name."""
    for module, names in imports(name, nodes):
        if module == "openssh_jobs":
            # The top's own names (`from openssh_jobs import Connection`) come from above.
            for taken in names or {"__init__"}:
                yield taken if taken in FLOORS else "__init__"
        elif module.startswith("openssh_jobs."):
            inner = module.removeprefix("openssh_jobs.")
            # `from ..commands import quoting` takes a module, not a name of the room.
            for taken in names or {""}:
                deeper = f"{inner}.{taken}"
                yield deeper if is_module(deeper) else inner


def room(name: str) -> str:
    return name.split(".")[0]


# -- the rules ----------------------------------------------------------------------------------


def imports_go_down(name: str, source: str) -> list[str]:
    """Types count too: who needs a type from above to be understood is not below."""
    if room(name) not in FLOORS:
        return [f"{name}: has no floor yet; give it one in docs/architecture.rst"]
    found = []
    for target in own_imports(name, architecture.nodes(source)):
        if room(target) not in FLOORS:
            found.append(f"{name}: imports {target}, which has no floor")
        elif room(target) != room(name) and FLOORS[room(target)] >= FLOORS[room(name)]:
            found.append(f"{name}: imports {target}, which is not below it")
    return found


def one_place_starts_processes(name: str, source: str) -> list[str]:
    if name == STARTS_PROCESSES:
        return []
    found = []
    nodes = run_nodes(source)
    for module, names in imports(name, nodes):
        top = module.split(".")[0]
        if top == "subprocess":
            if name != "errors" or not names or names - ERRORS_OF_SUBPROCESS:
                found.append(f"{name}: imports subprocess")
        elif top in ("multiprocessing", "pty"):
            found.append(f"{name}: imports {top}")
        elif top == "os":
            found += [f"{name}: takes os.{taken}" for taken in names if _starts(taken)]
        elif top == "asyncio":
            found += [f"{name}: takes {taken}" for taken in names if "subprocess" in taken]
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "os" and _starts(node.attr):
                found.append(f"{name}: uses os.{node.attr}")
            if node.value.id == "asyncio" and "subprocess" in node.attr:
                found.append(f"{name}: uses asyncio.{node.attr}")
    return found


def _starts(attribute: str) -> bool:
    return attribute.startswith(STARTERS_IN_OS)


def one_place_talks_on_a_pty(name: str, source: str) -> list[str]:
    if name == TALKS_ON_A_PTY:
        return []
    return [
        f"{name}: imports {module}"
        for module, _ in imports(name, run_nodes(source))
        if module.split(".")[0] in ("pexpect", "ptyprocess")
    ]


def is_pure(name: str) -> bool:
    return any(name == pure or name.startswith(pure + ".") for pure in PURE)


def pure_is_pure(name: str, source: str) -> list[str]:
    if not is_pure(name):
        return []
    found = []
    nodes = run_nodes(source)
    for module, names in imports(name, nodes):
        top = module.split(".")[0]
        if name == "errors" and top == "subprocess":
            continue  # the rule about processes looks after it
        looks_around = top == "importlib" and name != READS_ENTRY_POINTS
        if top in NO_IO or module in NO_IO or looks_around:
            found.append(f"{name}: imports {module}")
        elif top in ONLY and names - ONLY[top]:
            found.append(f"{name}: takes {', '.join(sorted(names - ONLY[top]))} from {top}")
    for target in own_imports(name, nodes):
        if not is_pure(target):
            found.append(f"{name}: imports {target}, which is not pure")
    for node in nodes:
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value).rpartition(".")[2]
            reads_data = name == READS_PACKAGE_DATA and owner == "os" and node.attr == "path"
            if owner in ONLY and node.attr not in ONLY[owner] and not reads_data:
                found.append(f"{name}: uses {owner}.{node.attr}")
            if owner in ("datetime", "date") and node.attr in CLOCKS:
                found.append(f"{name}: looks at the clock with {owner}.{node.attr}")
        elif isinstance(node, ast.Call) and _does_io(name, ast.unparse(node.func)):
            found.append(f"{name}: calls {ast.unparse(node.func)}()")
    return found


def _does_io(name: str, function: str) -> bool:
    return function in IO_CALLS and not (name == READS_PACKAGE_DATA and function == "open")


# Names with an underscore that the standard library documents, or has no other name for.
DOCUMENTED = {
    "_Hash", "_asdict", "_exit", "_fields", "_make", "_replace", "_typeshed", "_value_",
}  # fmt: skip


def no_reach_into_privates(name: str, source: str) -> list[str]:
    """``_private`` names are used in the module that defines them, and nowhere else."""
    nodes = architecture.nodes(source)
    own = set(DOCUMENTED)
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.Attribute) and _is_own(node):
            own.add(node.attr)
    found = []
    for node in nodes:
        if isinstance(node, ast.Attribute) and _is_private(node.attr) and node.attr not in own:
            found.append(f"{name}: reaches for {ast.unparse(node)}")
    for module, names in imports(name, nodes):
        taken = [*module.split("."), *names]
        private = [word for word in taken if _is_private(word) and word not in DOCUMENTED]
        found += [f"{name}: imports {word}" for word in private]
    return found


def _is_own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def _is_private(word: str) -> bool:
    return word.startswith("_") and not word.startswith("__")


def errno_has_a_name(name: str, source: str) -> list[str]:
    """``errno.ENOENT``, never 2: the numbers differ between systems."""
    found = []
    for node in architecture.nodes(source):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(_is_errno(side) for side in sides) and any(_has_number(one) for one in sides):
                found.append(f"{name}: compares {ast.unparse(node)}")
        elif isinstance(node, ast.Call) and _makes_oserror(node):
            found.append(f"{name}: makes {ast.unparse(node)}")
    return found


def _makes_oserror(node: ast.Call) -> bool:
    is_maker = _last_word(node.func) in ("OSError", "remote_oserror")
    return is_maker and bool(node.args) and _has_number(node.args[0])


def _is_errno(node: ast.expr) -> bool:
    return _last_word(node) == "errno"


def _last_word(node: ast.expr) -> str:
    """``c`` of ``a.b.c``, and of ``c``."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _has_number(node: ast.expr) -> bool:
    parts = node.elts if isinstance(node, ast.Tuple | ast.Set | ast.List) else [node]
    return any(isinstance(part, ast.Constant) and type(part.value) is int for part in parts)


# -- kept, and able to fail ---------------------------------------------------------------------

RULES: list[Rule] = [
    imports_go_down,
    one_place_starts_processes,
    one_place_talks_on_a_pty,
    pure_is_pure,
    no_reach_into_privates,
    errno_has_a_name,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule.__name__))
def test_the_house_keeps(rule: Rule) -> None:
    assert len(modules()) > 10
    assert [complaint for name, source in modules() for complaint in rule(name, source)] == []


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        (imports_go_down, "openssh.master", "from ..commands import control_shell"),
        (
            imports_go_down,
            "openssh.master",
            "from openssh_jobs.commands.control_shell import ControlShell",
        ),
        (imports_go_down, "openssh.master", "def f():\n    from ..connection import Connection"),
        (imports_go_down, "files.remote_files", "import openssh_jobs.cluster"),
        (imports_go_down, "files.remote_files", "from openssh_jobs import Connection"),
        (imports_go_down, "files.remote_files", "from .. import connection"),
        (imports_go_down, "files.remote_files", "import openssh_jobs"),
        (imports_go_down, "connection", "from .schedulers import slurm"),
        (imports_go_down, "schedulers.base", "from ..connection import Connection"),
        (imports_go_down, "arc.files", "from ..cli import main"),
        (imports_go_down, "errors", "if TYPE_CHECKING:\n    from .jobs import JobId"),
        (imports_go_down, "attic", "import os"),
        (one_place_starts_processes, "openssh.master", "import subprocess"),
        (one_place_starts_processes, "files.remote_files", "from subprocess import run"),
        (one_place_starts_processes, "errors", "from subprocess import Popen"),
        (one_place_starts_processes, "errors", "import subprocess"),
        (one_place_starts_processes, "cli.demo", "import os\nos.system('true')"),
        (one_place_starts_processes, "cli.demo", "from os import popen"),
        (one_place_starts_processes, "cli.demo", "import os\nos.execvp('a', ['a'])"),
        (one_place_starts_processes, "cli.demo", "import os\nos.posix_spawn('a', ['a'], {})"),
        (one_place_starts_processes, "cli.demo", "import os\npid = os.fork()"),
        (one_place_starts_processes, "cluster", "import asyncio\nasyncio.create_subprocess_exec"),
        (one_place_starts_processes, "cluster", "import multiprocessing"),
        (one_place_talks_on_a_pty, "openssh.master", "def f():\n    import pexpect"),
        (one_place_talks_on_a_pty, "cli.login", "from ptyprocess import PtyProcess"),
        (pure_is_pure, "jobs", "import time"),
        (pure_is_pure, "parser", "import sqlite3"),
        (pure_is_pure, "parser", "from urllib.request import urlopen"),
        (pure_is_pure, "parser", "from pathlib import Path"),
        (pure_is_pure, "parser", "import pathlib\npathlib.Path('x')"),
        (pure_is_pure, "parser", "text = open('x').read()"),
        (pure_is_pure, "schedulers.slurm", "import os\nos.environ['USER']"),
        (pure_is_pure, "schedulers.slurm", "from os import environ"),
        (pure_is_pure, "schedulers.slurm", "from importlib.metadata import entry_points"),
        (pure_is_pure, "schedulers.base", "from ..commands import control_shell"),
        (pure_is_pure, "schedulers", "import socket"),
        (pure_is_pure, "jobs", "from datetime import datetime\ndatetime.now()"),
        (pure_is_pure, "jobs", "import datetime\ndatetime.datetime.now()"),
        (pure_is_pure, "commands.quoting", "from .control_shell import ControlShell"),
        (pure_is_pure, "openssh.ssh_errors", "def f():\n    import threading"),
        (no_reach_into_privates, "cluster.job", "def f(host):\n    return host._shell"),
        (no_reach_into_privates, "cluster.job", "from ..connection import _helper"),
        (no_reach_into_privates, "cluster.job", "from .._hidden import helper"),
        (errno_has_a_name, "files.stat", "def f(error):\n    return error.errno == 2"),
        (errno_has_a_name, "files.stat", "def f(error):\n    return error.errno in (2, 13)"),
        (errno_has_a_name, "files.stat", "raise OSError(2, 'no such file')"),
    ],
)
def test_a_rule_can_fail(rule: Rule, name: str, source: str) -> None:
    assert rule(name, source) != []


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        (
            imports_go_down,
            "files.remote_files",
            "from ..openssh import process\nfrom . import stat",
        ),
        (imports_go_down, "cluster.job", "from ..connection import Connection\nimport os"),
        (imports_go_down, "__init__", "from .cluster import Cluster"),
        (one_place_starts_processes, "openssh.process", "import subprocess"),
        (one_place_starts_processes, "errors", "from subprocess import TimeoutExpired"),
        (one_place_starts_processes, "cli.demo", "if TYPE_CHECKING:\n    import subprocess"),
        (one_place_starts_processes, "connection", "import os\nos.register_at_fork(print)"),
        (one_place_talks_on_a_pty, "openssh.prompts", "import pexpect"),
        (pure_is_pure, "schedulers", "from importlib.metadata import entry_points"),
        (
            pure_is_pure,
            "schedulers.slurm",
            "from ...commands.quoting import quote\nimport os",
        ),
        (pure_is_pure, "schedulers.base", "from ..commands import quoting"),
        (pure_is_pure, "jobs", "import os\nos.fspath('x')\nfrom pathlib import PurePosixPath"),
        (pure_is_pure, "parser", "from urllib.parse import quote"),
        (pure_is_pure, "commands.control_shell", "import time"),
        (no_reach_into_privates, "cluster.job", "def f(self, other):\n    self._a = other._a"),
        (no_reach_into_privates, "cluster.job", "from __future__ import annotations"),
        (no_reach_into_privates, "cluster.job", "import os\nos._exit(1)"),
        (errno_has_a_name, "files.stat", "import errno\nerror.errno == errno.ENOENT"),
        (errno_has_a_name, "files.stat", "raise OSError(errno.ENOENT, 'no such file')"),
    ],
)
def test_a_rule_allows_what_is_right(rule: Rule, name: str, source: str) -> None:
    assert rule(name, source) == []


def imported_by(code: str) -> set[str]:
    """The modules that a fresh Python has loaded after running some code."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint('\\n'.join(sys.modules))"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_the_package_is_cheap() -> None:
    assert imported_by("import openssh_jobs").isdisjoint(NOT_AT_IMPORT)


def test_an_expensive_import_would_be_seen() -> None:
    assert "sqlite3" in imported_by("import sqlite3")
