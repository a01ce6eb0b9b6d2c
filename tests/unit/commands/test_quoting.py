"""Words, paths and batch lines come out of real shells and of a real sftp as they went in."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openssh_jobs.commands import quoting
from openssh_jobs.commands.quoting import quote_glob
from openssh_jobs.errors import UnrepresentableName
from tests.lab import parts
from tests.names import EXPRESSIBLE, NAMES

BYTES = st.binary(max_size=60).filter(lambda data: b"\0" not in data)
HOSTILE = [name.encode("utf-8", "surrogateescape") for name in NAMES]


def run(argv: list[str | bytes], command: bytes) -> bytes:
    return subprocess.run([*argv, command], capture_output=True, timeout=20, check=True).stdout


def words(output: bytes) -> list[bytes]:
    return output.split(b"\0")[:-1]


@given(st.lists(BYTES, min_size=1, max_size=20))
@example(HOSTILE)
@example([b""])
def test_words_for_a_posix_shell(argv: list[bytes]) -> None:
    line = quoting.join([b"printf", b"%s\\0", *argv])
    assert words(run(["sh", "-c"], line)) == argv


@pytest.mark.parametrize("shell", ["bash", "dash", "tcsh", "fish"])
def test_the_envelope_means_the_same_to_every_login_shell(shell: str) -> None:
    parts.require(*([shell] if shell in parts.PARTS else []))
    argv = [str(shutil.which(shell)), *(["-f"] if shell == "tcsh" else []), "-c"]
    every = bytes(range(1, 256))
    script = quoting.join([b"printf", b"%s\\0", *HOSTILE, every]) + b"\nexit 7\n"
    done = subprocess.run(
        [*argv, quoting.envelope(script)], capture_output=True, timeout=20, check=False
    )
    assert done.returncode == 7
    assert words(done.stdout) == [*HOSTILE, every]


@pytest.mark.parametrize("shell", ["bash", "dash", "tcsh", "fish"])
@given(data=BYTES)
def test_what_every_shell_reads_the_same(shell: str, data: bytes) -> None:
    quoted = quoting.quote_for_any_shell(data)
    assert set(quoted) <= set(quoting._NEUTRAL) | set(b"\\01234567")
    assert shell


@pytest.mark.parametrize("empty", [[], ""])
def test_nothing_is_no_command(empty: str | list[str]) -> None:
    with pytest.raises(ValueError, match="empty"):
        quoting.join_command(empty)


@pytest.mark.parametrize(
    "refuse",
    [
        lambda: quoting.quote("a\0b"),
        lambda: quoting.quote_path("a\0b"),
        lambda: quoting.quote_path(""),
        lambda: quoting.join_command("a\0b"),
        lambda: quote_glob(""),
        lambda: quote_glob("*\0"),
    ],
)
def test_what_no_argument_can_hold_is_refused(refuse: object) -> None:
    with pytest.raises(ValueError, match=r"NUL|empty"):
        refuse()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("~", "/h o"),
        ("~/", "/h o/"),
        ("~/a b", "/h o/a b"),
        ("~//x", "/h o/x"),
        ("~x", "./~x"),
        ("-rf", "./-rf"),
        ("$HOME", "./$HOME"),
        ("/a/~", "/a/~"),
        ("a\udcff", "./a\udcff"),
    ],
)
def test_paths(path: str, seen: str) -> None:
    script = b"HOME='/h o'; printf '%s\\0' " + quoting.quote_path(path)
    assert words(run(["sh", "-c"], script)) == [seen.encode("utf-8", "surrogateescape")]


@given(st.binary(max_size=40))
def test_text_and_bytes_are_the_same_thing(data: bytes) -> None:
    assert quoting.to_bytes(quoting.to_text(data)) == data


def test_a_command_in_one_line() -> None:
    assert quoting.describe("a\n  b\tc") == "a b c"
    assert quoting.describe(["a b", "c"]) == "'a b' c"
    assert len(quoting.describe("x" * 500)) == 200


# -- sftp: its own server on a pipe, no ssh -----------------------------------------------------


def batch(line: bytes) -> subprocess.CompletedProcess[bytes]:
    found = [
        place
        for place in ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server")
        if Path(place).exists()
    ]
    if not found:
        parts.unavailable("there is no sftp-server here")
    return subprocess.run(
        ["sftp", "-q", "-D", found[0], "-b", "-"],
        input=line + b"\n",
        capture_output=True,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize("name", EXPRESSIBLE, ids=ascii)
def test_sftp_takes_every_name_that_is_one_line(tmp_path: Path, name: str) -> None:
    source, target = tmp_path / name, tmp_path / "to"
    source.write_bytes(b"content")
    target.mkdir()
    here, there = bytes(source), bytes(target / name)
    quote = quoting.sftp_quote
    done = batch(b"put " + quote(here) + b" " + quote(there))
    assert done.returncode == 0, done.stderr
    assert (target / name).read_bytes() == b"content"
    source.unlink()
    done = batch(b"get " + quote(there) + b" " + quote(here))
    assert done.returncode == 0, done.stderr
    assert source.read_bytes() == b"content"


@pytest.mark.parametrize("name", ["a\nb", "\n", "x\0"])
def test_sftp_cannot_express_a_newline(name: str) -> None:
    with pytest.raises(UnrepresentableName, match="batch language"):
        quoting.sftp_quote(name)


# -- patterns ---------------------------------------------------------------------------------


def test_only_the_four_signs_of_a_pattern_have_a_meaning(tmp_path: Path) -> None:
    for name in ("a1", "a2", "b1", "a b", "$x", "`y`", "-z", "{a1,a2}", "a;b"):
        (tmp_path / name).touch()

    def found(pattern: str) -> list[bytes]:
        script = (
            b"cd " + quoting.quote(bytes(tmp_path)) + b" && printf '%s\\0' " + quote_glob(pattern)
        )
        return sorted(one.removeprefix(b"./") for one in words(run(["sh", "-c"], script)))

    assert found("a?") == [b"a1", b"a2"]
    assert found("[a-b]1") == found("[ab]1") == [b"a1", b"b1"]
    assert found("[!a]1") == found("[^a]1") == [b"b1"]
    assert found("a[ ;]b") == [b"a b", b"a;b"]
    assert found("$*") == [b"$x"]
    assert found("`*") == [b"`y`"]
    assert found("{a1,a2}") == [b"{a1,a2}"]
    assert found("-*") == [b"-z"]
