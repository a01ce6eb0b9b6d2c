"""The line that is sent, run by real local shells, and the marks taken out of its streams."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs.commands import command_line, quoting
from openssh_jobs.commands.marks import CWD_FAILED, Marks

NONCE = b"oj-0123456789abcdef01"


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The same bytes in pieces."""
    at = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]


TEXT = st.binary(max_size=80).filter(lambda data: NONCE not in data)
PLACES = st.lists(st.integers(0, 400), max_size=12)


@given(before=TEXT, after=TEXT, places=PLACES)
def test_noise_before_the_first_mark_is_dropped_however_it_is_cut(
    before: bytes, after: bytes, places: list[int]
) -> None:
    marks = Marks(NONCE, hold=True)
    stream = before + NONCE + b"\n" + after
    out = b"".join(marks.feed(piece) for piece in cut(stream, places)) + marks.rest()
    assert out == after
    assert marks.found == [b""]


def test_the_mark_of_the_end_is_no_proof_of_the_beginning() -> None:
    marks = Marks(NONCE, hold=True)
    assert marks.feed(b"noise" + NONCE + b" end\n") + marks.rest() == b""
    assert marks.holds
    assert marks.noise == b"noise"


@given(texts=st.lists(TEXT, min_size=2, max_size=4), places=PLACES)
def test_marks_are_taken_out_and_nothing_else(texts: list[bytes], places: list[int]) -> None:
    marks = Marks(NONCE, hold=False)
    stream = texts[0]
    for number, text in enumerate(texts[1:]):
        stream += NONCE + b" word %d\n" % number + text
    out = b"".join(marks.feed(piece) for piece in cut(stream, places)) + marks.rest()
    assert out == b"".join(texts)
    assert marks.value(b"word") == [b"0"]
    assert marks.value(b"wor") is None
    assert len(marks.found) == len(texts) - 1


@given(text=TEXT, places=PLACES)
def test_a_stream_without_a_mark_is_the_commands_only_where_none_was_to_come(
    text: bytes, places: list[int]
) -> None:
    for hold in (True, False):
        marks = Marks(NONCE, hold=hold)
        out = b"".join(marks.feed(piece) for piece in cut(text, places)) + marks.rest()
        assert out == (b"" if hold else text)
        assert marks.noise == (text if hold else b"")


def test_output_is_not_kept_back() -> None:
    """A conversation would stand still if the last bytes waited for what comes after them."""
    marks = Marks(NONCE, hold=False)
    assert marks.feed(b"prompt> ") == b"prompt> "
    assert marks.feed(b"o") == b"", "this may be the beginning of a mark"
    assert marks.feed(b"k") == b"ok"


# -- run for real -------------------------------------------------------------------------------


def run(
    script: bytes, *, shell: str = "sh", data: bytes = b"", **options: object
) -> subprocess.CompletedProcess[bytes]:
    options = {"family": "sh", "with_input": bool(data), **options}
    line = command_line.build(script, NONCE, **options)  # type: ignore[arg-type]
    return subprocess.run(
        [shell, "-c", line.command],
        input=line.preamble + data,
        capture_output=True,
        timeout=20,
        check=False,
        start_new_session=True,
    )


def plain(done: subprocess.CompletedProcess[bytes]) -> tuple[int, bytes, bytes]:
    """Status as it was reported, and the streams without marks."""
    out, err = Marks(NONCE, hold=True), Marks(NONCE, hold=False)
    said = out.feed(done.stdout) + out.rest(), err.feed(done.stderr) + err.rest()
    (status,) = err.value(b"status") or [b"-1"]
    return int(status), *said


SHELLS = pytest.mark.parametrize("shell", ["sh", "bash", "dash"])
FAMILIES = pytest.mark.parametrize("family", ["sh", None, "other"])


@SHELLS
@FAMILIES
@pytest.mark.parametrize("limit", [None, 60])
def test_status_and_streams(shell: str, family: str, limit: int | None) -> None:
    for script, expected in (
        (b"echo out; echo err >&2; exit 3", (3, b"out\n", b"err\n")),
        (b"cat; exit 255", (255, b"in", b"")),
        (b"kill -9 $$", (137, b"", b"")),
        (b"kill -TERM $$", (143, b"", b"")),
        (b"trap 'exit 9' TERM; kill -TERM $$", (9, b"", b"")),
        (b"no-such-command 2>/dev/null", (127, b"", b"")),
    ):
        done = run(script, shell=shell, family=family, limit=limit, data=b"in")
        assert plain(done) == expected
        assert done.returncode == expected[0]


@SHELLS
@FAMILIES
def test_the_shell_that_waits_outlives_a_term_of_its_group(shell: str, family: str) -> None:
    done = run(b"trap 'echo bye; exit 4' TERM; kill -TERM 0; exit 1", shell=shell, family=family)
    assert plain(done) == (4, b"bye\n", b"")


@pytest.mark.parametrize(
    "shell", ["sh", *(pytest.param(name, marks=pytest.mark.long) for name in ("bash", "dash"))]
)
def test_the_host_itself_ends_what_takes_too_long(shell: str) -> None:
    done = run(b"trap '' TERM; echo begun; sleep 60; sleep 60", shell=shell, limit=1)
    assert done.returncode == -9, "the whole group is gone, and nobody was asked"
    assert b"begun" in done.stdout


def test_a_long_script_travels_on_stdin() -> None:
    script = b"x=1\n" * 60_000 + b"cat; exit 6"
    line = command_line.build(script, NONCE, family="sh")
    assert len(line.command) < 1000
    assert plain(run(script, data=b"rest")) == (6, b"rest", b"")


def test_the_environment_is_in_no_argument() -> None:
    line = command_line.build(b"true", NONCE, family="sh", env={"TOKEN": "se'cret"})
    assert b"cret" not in line.command
    assert plain(run(b'printf %s "$TOKEN"', env={"TOKEN": "se'cret"})) == (0, b"se'cret", b"")


@pytest.mark.parametrize("errors", ["pipe", "stdout", "devnull"])
def test_a_missing_directory_is_reported_wherever_stderr_goes(errors: str) -> None:
    done = run(b"echo ran", cwd="/no/such", errors=errors)
    marks = Marks(NONCE, hold=False)
    marks.feed(done.stderr)
    assert marks.value(CWD_FAILED) == [b"ENOENT"]
    assert plain(done) == (126, b"", b"")


def test_the_family_of_a_shell_is_found_by_trying() -> None:
    test = command_line.FAMILY_TEST + b"echo $f"
    for shell in ("sh", "bash", "dash"):
        command = b"sh -c " + quoting.quote(test) + b" sh " + command_line.FAMILY_WORDS
        done = subprocess.run([shell, "-c", command], capture_output=True, timeout=20, check=True)
        assert done.stdout == b"sh\n"
