"""The lines of a job's output: all of them, or the last ones without what is before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs.cluster import output
from openssh_jobs.cluster.output import JobOutput
from openssh_jobs.commands import limits


class File:
    """A file on a host that counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.bytes = 0

    def read_from(
        self, path: str, offset: int, most: int, names: Sequence[str]
    ) -> tuple[int, bytes]:
        """As ``JobFiles.read_from``."""
        found = self.data[offset : offset + most]
        self.bytes += len(found)
        return len(self.data), found


def lines(file: File, last: int | None) -> list[str]:
    """The lines of a job that is over."""
    files: Any = file
    made = JobOutput(client=files, files=files, job_id="1", stream="stdout", path="out")
    return list(made.lines(lambda: True, last))


@given(
    text=st.lists(st.sampled_from(["", "a", "bc", "d" * 9])).map("\n".join),
    last=st.none() | st.integers(0, 8),
    chunk=st.integers(1, 12),
)
def test_the_last_lines(text: str, last: int | None, chunk: int) -> None:
    whole = text.splitlines(keepends=True)
    expected = whole if last is None else whole[len(whole) - min(last, len(whole)) :]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(output, "_CHUNK", chunk)
        assert lines(File(text.encode()), last) == expected


def test_what_is_before_the_last_lines_is_not_read() -> None:
    file = File(b"a line of it\n" * 1_000_000)
    assert lines(file, 2) == ["a line of it\n"] * 2
    assert file.bytes <= 3 * output._CHUNK


class Endless(File):
    """A file of which there is always more, of any size."""

    def __init__(self, data: bytes, size: int | None = None) -> None:
        super().__init__(data)
        self.size = size

    def read_from(
        self, path: str, offset: int, most: int, names: Sequence[str]
    ) -> tuple[int, bytes]:
        self.bytes += most
        found = self.data * most
        return offset + 2 * most if self.size is None else self.size, found[:most]


def test_a_line_without_an_end_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LINE", 3 * output._CHUNK)
    file = File(b"x" * (10 * output._CHUNK) + b"\nlast\n")
    found = lines(file, None)
    assert "".join(found).encode() == file.data
    assert max(map(len, found)) <= 4 * output._CHUNK + 1
    assert found[-1] == "last\n"


def test_a_file_that_grows_for_ever_ends_where_it_was_at_the_end_of_its_job() -> None:
    file = Endless(b"x")
    assert len("".join(lines(file, None))) == 2 * output._CHUNK


@pytest.mark.parametrize("data", [b"", b"x"])
def test_last_lines_that_are_nowhere_are_not_looked_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr(limits, "TAIL", 4 * output._CHUNK)
    file = Endless(data, size=10**17)
    found = lines(file, 3)
    assert file.bytes <= 12 * output._CHUNK
    assert len("".join(found)) <= 6 * output._CHUNK
