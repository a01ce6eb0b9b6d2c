"""The pager: when there is one, which, and what it gets."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from openssh_jobs.cli import pager
from openssh_jobs.cli.output import Output

LINES = [f"line {number}" for number in range(30)]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pager that writes down what it gets; the terminal has 24 lines."""
    found = tmp_path / "log"
    program = tmp_path / "my pager"
    program.write_text(f'#!/bin/sh\necho "$LESS $1" >"{found}"\nexec cat >>"{found}"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(Output, "on_terminal", True)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_, **__: os.terminal_size((80, 24)))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("PAGER", f"'{program}' -x")
    monkeypatch.delenv("LESS", raising=False)
    return found


def test_what_is_longer_than_the_screen_goes_to_the_pager(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pager.show(LINES, Output())
    assert log.read_text().splitlines() == ["FRX -x", *LINES]
    assert capsys.readouterr().out == ""


def test_an_own_less_stays(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LESS", "S")
    pager.show(LINES, Output())
    assert log.read_text().splitlines()[0] == "S -x"


def _no_terminal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Output, "on_terminal", False)


@pytest.mark.parametrize("value", ["", "cat", "no-such-program-here", "'"])
def test_no_pager_is_wanted_or_there(
    log: Path, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PAGER", value)
    pager.show(LINES, Output())
    assert capsys.readouterr().out.splitlines() == LINES
    assert not log.exists()


@pytest.mark.parametrize("why", ["short", "pipe", "dumb", "quiet"])
def test_no_pager_is_needed(
    log: Path, why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = LINES[:23] if why == "short" else LINES
    if why == "pipe":
        _no_terminal(monkeypatch)
    if why == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    pager.show(lines, Output(quiet=why == "quiet"))
    assert capsys.readouterr().out.splitlines() == lines
    assert not log.exists()


def test_a_pager_that_is_left_early_is_no_error(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER", "true")
    pager.show([*LINES, "x" * 1_000_000], Output())
    assert not log.exists()
