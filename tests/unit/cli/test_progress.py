"""The line that shows how far a transfer is."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from openssh_jobs.cli import progress as module
from openssh_jobs.cli.output import Output
from openssh_jobs.cli.progress import Progress, bar


def test_the_line_before_and_while_bytes_move() -> None:
    progress = Progress(Output(), "to hpc:x")
    assert progress.text() == "to hpc:x  0 s"
    progress(0, 1_200_000, 0, 38, "a")
    assert progress.text() == "to hpc:x  38 files  1.2 MB  0 s"
    progress(600_000, 1_200_000, 19, 38, "b")
    shown = progress.text()
    assert shown.startswith("to hpc:x  [##########----------]  19 of 38 files  600.0 kB of 1.2 MB")
    assert shown.endswith("/s  0 s")


@pytest.mark.parametrize(
    ("done", "total", "shown"),
    [
        (0, 10, "[----]"),
        (5, 10, "[##--]"),
        (10, 10, "[####]"),
        (11, 10, "[####]"),
        (0, 0, "[----]"),
    ],
)
def test_the_bar(done: int, total: int, shown: str) -> None:
    assert bar(done, total, 4) == shown


def test_lines_where_nothing_can_be_drawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "LINE_EVERY", 0.01)
    cases = ((Output(), True), (Output(quiet=True), False), (Output(json=True), False))
    for output, expected in cases:
        with Progress(output, "to hpc:x") as progress:
            progress(600, 1200, 0, 38, "a")
            time.sleep(0.1)
        said = capsys.readouterr().err
        assert ("[##########----------] 38 files 600 B of 1.2 kB" in said) is expected


@pytest.mark.parametrize("width", [20, 40, 60, 79, 119])
def test_rate_and_time_left_are_there_in_any_width(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([0.0, *(60.0 for _ in range(20))])
    monkeypatch.setattr(
        "openssh_jobs.cli.progress.time", SimpleNamespace(monotonic=lambda: next(moments))
    )
    progress = Progress(Output(), "from hpc:runs/a/long/way/to/the/directory/of/relax-7.chk")
    progress(600_000_000, 36_000_000_000, 19, 38_000, "b")
    shown = progress.text(width)
    assert len(shown) <= max(width, 46)
    assert "10.0 MB/s" in shown
    assert "59 min left" in shown
    assert ("relax-7.chk" in shown) is (width >= 60)


def test_nothing_is_drawn_while_it_is_paused() -> None:
    progress = Progress(Output(), "to hpc:x")
    before = progress.text()
    with progress.paused():
        time.sleep(1.1)
    assert progress.text() == before
