"""The lines of a job's output: all of them, or the last ones without what is before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs.cluster import output
from openssh_jobs.cluster.output import JobOutput


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
