"""The package's .sh files: how values get into them, and that each file can be used."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from openssh_jobs.commands import scripts
from openssh_jobs.commands.scripts import Shell, Value, call, fill, path, read, script
from tests.paths import CHECKOUT, PACKAGE

FILES = sorted(PACKAGE.rglob("*.sh"))
SHELLS = ["/bin/sh", *filter(None, map(shutil.which, ("bash", "busybox", "mksh")))]
HOSTILE = ["a b", "a'b", "$(touch x)", "`id`", "@B@", "-n", "", "a\nb", "~/x", "é*?[]\\", "\udcff"]


def run(shell: str, text: bytes) -> bytes:
    argv = [shell, "sh"] if shell.endswith("busybox") else [shell]
    return subprocess.run(argv, input=text, capture_output=True, timeout=30, check=True).stdout


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it looks into /proc")
@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("broken", ["", "grep() { return 2; }\n"])
def test_what_cannot_be_looked_at_is_not_left_by_rc_files(shell: str, broken: str) -> None:
    """A shell that is there after it gave up the streams is in an EXIT trap, if nothing else is."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as left:
        try:
            look = call("commands/process_groups", "oj_is_left", left.pid, left.pid + 1)
            answer = run(shell, broken.encode() + look + b"\necho $?\n")
        finally:
            left.kill()
    assert answer == (b"1\n" if broken else b"0\n")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_arrives_as_it_is(shell: str, value: str) -> None:
    data = value.encode("utf-8", "surrogateescape")
    assert run(shell, fill(b"printf %s. @A@", {"a": value})) == data + b"."
    assert run(shell, fill(b'oj_a=@A@; printf %s. "$oj_a"', {"a": data})) == data + b"."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, b"3"),
        (["a", "b c", 4], b"a 'b c' 4"),
        ([], b""),
        (Shell(b"$(date)"), b"$(date)"),
        ([Shell(b'"$HOME"'), "$x"], b"\"$HOME\" '$x'"),
        (path("~/a b"), b"\"$HOME\"/'a b'"),
        (path("-n"), b"./-n"),
    ],
)
def test_how_a_value_is_written(value: Value, text: bytes) -> None:
    assert fill(b"x @A_1@ @A_1@", {"a_1": value}) == b"x %b %b" % (text, text)


@pytest.mark.parametrize(
    ("text", "values"),
    [(b"@A@", {}), (b"@A@", {"a": "x", "b": "y"}), (b"@A@ @B@", {"b": "y"}), (b"@A@", {"a": "\0"})],
)
def test_what_does_not_fit_is_refused(text: bytes, values: dict[str, Value]) -> None:
    with pytest.raises(ValueError, match=r"NUL|differ: [AB]"):
        fill(text, values)


def test_comments_and_blank_lines_are_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "_PACKAGE", str(tmp_path))
    (tmp_path / "a.sh").write_text(
        "#!/bin/sh\n# why\n\n  # too\necho '#' \\\n  @A@ # kept\n \t\ndone\n"
    )
    read.cache_clear()
    try:
        assert script("a", a="x") == b"#!/bin/sh\necho '#' \\\n  x # kept\ndone\n"
    finally:
        read.cache_clear()


def test_a_function_comes_with_those_that_it_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "_PACKAGE", str(tmp_path))
    (tmp_path / "commands").mkdir()
    (tmp_path / "commands" / "common.sh").write_text("oj_a() { echo a; }\noj_x() { echo x; }\n")
    (tmp_path / "f.sh").write_text(
        "# why\noj_b() {\n  oj_a\n  oj_unknown\n}\n"
        "oj_c() {\n  oj_b; oj_a # oj_c\n}\noj_y() { :; }\n"
    )
    caches = (read, scripts.functions, scripts._functions)
    for cache in caches:
        cache.cache_clear()
    try:
        assert call("f", "oj_c", "a b", [path("-n"), 3]) == (
            b"oj_a() { echo a; }\noj_b() {\noj_a\noj_unknown\n}\n"
            b"oj_c() {\noj_b; oj_a # oj_c\n}\noj_c 'a b' ./-n 3"
        )
        assert call("f", "oj_x").endswith(b"\noj_x")
        with pytest.raises(ValueError, match=r"f\.sh has no function oj_z"):
            call("f", "oj_z")
    finally:
        for cache in caches:
            cache.cache_clear()


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_file_is_shell_text_with_bare_placeholders(file: Path) -> None:
    text = read(str(file.relative_to(PACKAGE).with_suffix("")))
    assert text.endswith(b"\n")
    for shell in SHELLS:
        run(shell, b"set -n\n" + text)
    for line in text.splitlines():
        for found in re.finditer(rb"@[A-Z][A-Z0-9_]*@", line):
            before = line[: found.start()].replace(b"\\'", b"").replace(b'\\"', b"")
            assert before.count(b"'") % 2 == before.count(b'"') % 2 == 0, line


def test_a_syntax_error_would_be_seen() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run("/bin/sh", b"set -n\nif true; then\n")


def test_there_are_files() -> None:
    assert FILES


@pytest.mark.long
def test_all_files_are_shipped(tmp_path: Path) -> None:
    source, built = tmp_path / "source", tmp_path / "built"
    source.mkdir()
    shutil.copytree(PACKAGE, source / "openssh_jobs", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "setup.py", "README.rst", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build", "--build-lib", built],
        cwd=source, check=True, timeout=100, capture_output=True,
    )  # fmt: skip
    shipped = {str(file.relative_to(built)) for file in built.rglob("*.sh")}
    assert shipped == {str(Path("openssh_jobs") / file.relative_to(PACKAGE)) for file in FILES}


def test_importing_the_package_reads_none() -> None:
    code = (
        "import sys, openssh_jobs, openssh_jobs.cluster\n"
        "scripts = sys.modules.get('openssh_jobs.commands.scripts')\n"
        "print(scripts.read.cache_info().currsize if scripts else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    assert done.stdout == b"0\n"
