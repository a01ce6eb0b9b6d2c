"""Every place of the package that removes or replaces something, with what guards it.

A new one fails here until it stands in the list, with a guard that holds.
"""

from __future__ import annotations

import ast
import re
from collections import Counter

import pytest

from openssh_jobs.commands.scripts import read
from tests.architecture import parsed
from tests.paths import PACKAGE

OURS = "made by this very call under a name of random digits, or by mkdir(1), which fails on others"
NUMBER = "inside a directory that is entered and has the number of the one that was made"
HELD = "inside a directory held by the check for private directories, which carries our mark"
FILE = "a file of ours (owner looked at, no link), in a directory where others could remove it too"
ASKED = "what the caller of a public function named; precious directories are refused"
LISTED = "names in a directory of the target, entered without passing a link; not the home"
PLACED = "gives a name to what is whole, over what the caller named"
RUNTIME = "in the runtime directory, which is ours alone"
DEMO = "inside a directory that this program made for itself"
JOURNAL = "beside the journal, in a directory that nobody else can write; each looks whose it is"
EMPTY = "an empty directory of ours (owner looked at, no link)"
TOKENS = "names of its own in ~/.openssh_jobs, held by the check for private directories"
LAUNCHER = "names of its own in the submission's private directory, which nobody else can enter"

MARK = "a mark of the call itself, by its random number, to another name of it beside it"
UNMARKED = "a mark that was never whole, in a directory of ours that holds nothing else"

# (module, function or constant): how many words that remove or replace, and what guards them.
GUARDS: dict[tuple[str, str], tuple[int, str]] = {
    ("arc.files", "ArcFiles.delete_remote_check_files"): (1, ASKED),
    ("arc.files", "ArcFiles.download_file"): (1, ASKED),
    ("arc.files", "ArcFiles.remove_remote_files"): (1, ASKED),
    ("arc.local", "rename_output"): (1, ASKED),
    ("cli.demo", "_clear_away"): (1, DEMO),
    ("cluster.file_system", "abilities"): (2, OURS),
    ("cluster.lock_file", "LockFile._remove"): (2, JOURNAL),
    ("cluster.lock_file", "LockFile.held"): (1, JOURNAL),
    ("testing.sshd", "PrivateSshd.stop"): (1, DEMO),
    ("testing.sshd", "PrivateSshd._launch"): (1, DEMO),
    ("cluster/job_files.sh", "oj_remove_private"): (1, HELD),
    ("cluster/tidy.sh", "oj_remove_empty"): (1, EMPTY),
    ("cluster/tokens.sh", "oj_new_tokens"): (1, TOKENS),
    ("cluster/tokens.sh", "oj_keep_tokens"): (2, TOKENS),
    ("cluster/job_files.sh", "oj_remove_made"): (1, HELD),
    ("cluster/job_files.sh", "oj_own"): (1, OURS),
    ("cluster/job_files.sh", "oj_directory"): (1, EMPTY),
    ("cluster/job_files.sh", "oj_is_abandoned"): (2, UNMARKED),
    ("cluster/job_files.sh", "oj_remove_new"): (1, EMPTY),
    ("cluster/job_files.sh", "oj_forget_environment"): (1, LAUNCHER),
    ("cluster/attempt.sh", "oj_claim"): (1, LAUNCHER),
    ("cluster/attempt.sh", "oj_leave_unstarted"): (1, LAUNCHER),
    ("cluster/attempt.sh", "oj_attempt"): (4, LAUNCHER),
    ("cluster/attempt.sh", "oj_end_attempts"): (2, LAUNCHER),
    ("cluster/submit.sh", "oj_keep"): (2, MARK),
    ("openssh.login_record", "LoginRecord._write"): (1, RUNTIME),
    ("openssh.locks", "_say"): (1, RUNTIME),
    ("openssh.runtime_directory", "write_file"): (3, RUNTIME),
    ("openssh.runtime_directory", "remove_file"): (1, RUNTIME),
    ("permissions", "opener"): (1, FILE),
    ("transfer.staging", "finish_file"): (1, PLACED),
    ("transfer.staging", "place"): (2, PLACED),
    ("files.remote_files", "RemoteFiles.rmdir"): (1, ASKED),
    ("files/remote_files.sh", "oj_remove"): (1, ASKED),
    ("files/remote_files.sh", "oj_rmtree"): (1, ASKED),
    ("files/remote_files.sh", "oj_replace"): (1, ASKED),
    ("files/remote_files.sh", "oj_copy"): (3, ASKED),
    ("files/remote_files.sh", "oj_write"): (1, OURS),
    ("files/remote_files.sh", "oj_probe"): (1, OURS),
    ("files.host_names", "_probe"): (2, OURS),
    ("transfer.resume", "LocalPart.__init__"): (1, FILE),
    ("transfer.resume", "LocalPart._remove_others"): (1, FILE),
    ("transfer.parts", "_remove_dead"): (1, FILE),
    ("files/private_directory.sh", "oj_empty"): (2, HELD),
    ("files/private_directory.sh", "oj_leave"): (1, HELD),
    ("files/private_directory.sh", "oj_open"): (1, OURS),
    ("commands/common.sh", "oj_rename"): (5, PLACED),
    ("transfer.parts", "remove_stage"): (1, OURS),
    ("transfer.parts", "remove_remote"): (1, OURS),
    ("transfer/transfer.sh", "oj_remove_stage"): (2, NUMBER),
    ("transfer/transfer.sh", "oj_sweep_parts"): (2, FILE),
    ("transfer/transfer.sh", "oj_find_part"): (1, FILE),
    ("transfer/transfer.sh", "oj_make_part"): (1, FILE),
    ("transfer/transfer.sh", "oj_delete"): (2, LISTED),
    ("transfer.deletion", "delete_local"): (2, LISTED),
    ("transfer/transfer.sh", "oj_place"): (3, PLACED),
    ("transfer/transfer.sh", "oj_merge"): (3, PLACED),
    ("transfer.parts", "remove_local"): (1, OURS),
    ("transfer.parts", "remove_local_stage"): (1, NUMBER),
    ("transfer.parts", "_emptied"): (2, NUMBER),
    ("transfer.parts", "_keeps_modes"): (1, OURS),
    ("transfer/transfer.sh", "oj_keeps_modes"): (1, OURS),
    ("transfer.rsync", "send_file"): (2, OURS),
    ("transfer.rsync", "receive_file"): (1, OURS),
    ("schedulers/direct/launch.sh", "oj_end"): (1, HELD),
    ("schedulers/direct/launch.sh", ""): (2, HELD),
    ("schedulers/direct/submit.sh", "oj_undo"): (1, HELD),
    ("schedulers/direct/submit.sh", ""): (1, HELD),
    ("schedulers/direct/clean.sh", ""): (2, HELD),
    ("schedulers/launcher/launch.sh", "oj_write"): (1, LAUNCHER),
    ("schedulers/launcher/launch.sh", ""): (1, LAUNCHER),
    ("schedulers/launcher/look.sh", ""): (2, LAUNCHER),
    ("schedulers/launcher/count.sh", ""): (1, LAUNCHER),
    ("schedulers/launcher/start.sh", ""): (1, LAUNCHER),
}

_IN_SHELL = re.compile(
    rb"(?:^|[\s;&|({'\"!])(?:exec |command )?(?:rm|rmdir|unlink|shred|truncate)(?= +-| +[\"$./%@'])"
    rb"|(?:^|[\s;&|({'\"!])mv(?= +-| +[\"$./%@'])|(?<!-)-delete\b"
)
_CALLS = {
    "unlink", "remove", "rmdir", "removedirs", "rmtree", "replace", "rename", "renames", "move",
    "truncate", "ftruncate",
}  # fmt: skip
_MODULES = {"os", "shutil"}


def found_in(module: str, source: str) -> Counter[tuple[str, str]]:
    """How many calls and shell words that remove or replace each function of a module holds."""
    counts: Counter[tuple[str, str]] = Counter()

    def look(node: ast.AST, where: str) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            where = node.name if where == "" else f"{where}.{node.name}"
            body = [one for one in node.body if not _is_text(one)]
            for child in [*body, *getattr(node, "decorator_list", [])]:
                look(child, where)
            return
        if where == "" and isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            where = ast.unparse(target)
        if isinstance(node, ast.Call) and _removes(node):
            counts[module, where] += 1
        if isinstance(node, ast.JoinedStr):
            text = "".join(
                str(one.value) if isinstance(one, ast.Constant) else "@" for one in node.values
            )
            counts[module, where] += len(_IN_SHELL.findall(text.encode()))
            for child in node.values:
                if isinstance(child, ast.FormattedValue):
                    look(child.value, where)
            return
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            data = node.value if isinstance(node.value, bytes) else node.value.encode(
                "utf-8", "surrogateescape")  # fmt: skip
            counts[module, where] += len(_IN_SHELL.findall(data))
        for child in ast.iter_child_nodes(node):
            look(child, where)

    for node in parsed(source).body:
        if not _is_text(node):
            look(node, "")
    return +counts


def found_in_shell(file: str, text: bytes) -> Counter[tuple[str, str]]:
    """The same of each function of a file of shell text."""
    counts: Counter[tuple[str, str]] = Counter()
    where = ""
    for line in text.splitlines():
        if start := re.match(rb"(\w+)\(\)", line):
            where = start[1].decode()
        counts[file, where] += len(_IN_SHELL.findall(line))
        if line == b"}" or (start and line.endswith(b"}")):
            where = ""
    return +counts


def _is_text(node: ast.AST) -> bool:
    """A docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _removes(call: ast.Call) -> bool:
    function = call.func
    if isinstance(function, ast.Name):
        return function.id in {"rmtree", "unlink", "rmdir"}
    if not isinstance(function, ast.Attribute) or function.attr not in _CALLS:
        return False
    owner = ast.unparse(function.value)
    if function.attr in ("replace", "remove", "move", "rename", "truncate"):
        # Of texts, lists and records there are many; of files only these.
        if owner in _MODULES or "_files" in owner or "connection" in owner:
            return True
        # pathlib's have one argument, those of a text two.
        return "path" in owner.lower() and len(call.args) == 1
    return True


def everything() -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        counts += found_in(name, path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.sh")):
        name = str(path.relative_to(PACKAGE))
        counts += found_in_shell(name, read(name.removesuffix(".sh")))
    return counts


def test_what_removes_or_replaces_stands_in_the_list_with_its_guard() -> None:
    assert {key: number for key, (number, _) in GUARDS.items()} == dict(everything())


@pytest.mark.parametrize(
    "source",
    [
        "def f(p):\n    os.unlink(p)",
        "def f(p):\n    shutil.rmtree(p)",
        "def f(path):\n    path.unlink()",
        "def f(path):\n    path.rename('x')",
        "def f(p):\n    os.replace(p, 'x')",
        "def f(connection):\n    connection.rmtree('x')",
        "def f(p):\n    return b'rm -rf -- %b' % p",
        "def f(p):\n    return f'cd x && rmdir {p}'",
        "TEXT = r'''\ncd x\nmv \"$a\" \"$b\"\n'''",
        "TEXT = 'find . -type f -delete'",
        "def f():\n    return 'find . -exec rm -f -- {} +'",
        "def f():\n    return '[ -e x ] || rm ./x'",
    ],
)
def test_a_new_one_would_be_seen(source: str) -> None:
    assert sum(found_in("m", source).values()) == 1


def test_a_new_one_would_be_seen_in_shell_text() -> None:
    text = b"a() {\n  rm -f x\n}\nb() { rm -rf -- x; }\nmv -- a b; rmdir ./c\n"
    assert found_in_shell("f", text) == {("f", "a"): 1, ("f", "b"): 1, ("f", ""): 2}


def test_texts_that_only_speak_of_it_are_none() -> None:
    source = 'def f():\n    """rm -rf -- x"""\n    return "removing it", "a b".replace("a", "b")\n'
    assert not found_in("m", source)


if __name__ == "__main__":
    for key, number in everything().items():
        print(f"    {key!r}: ({number}, ),")
