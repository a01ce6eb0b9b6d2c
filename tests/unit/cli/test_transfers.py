"""The command that goes on, and what a person is asked."""

from __future__ import annotations

import io
import shlex

import pytest

from openssh_jobs.cli import app, transfers


def test_the_command_that_goes_on_is_the_one_that_was_typed_with_one_more_option() -> None:
    words = ["get", "-F", "a b", "hpc:x';y", "here"]
    said = transfers.again(app.parse(words), "--resume")
    assert said[0] == said[-1] == "`"
    assert shlex.split(said.strip("`")) == ["openssh-jobs", "get", "--resume", *words[1:]]
    assert transfers.again(app.parse([*words, "--resume"]), "--resume").count("--resume") == 1


@pytest.mark.parametrize(
    ("answer", "meant"),
    [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)],
)
def test_only_yes_is_yes(
    answer: str, meant: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert transfers.confirmed("delete 1 file in a\x1bb?") is meant
    assert capsys.readouterr().err == "Delete 1 file in a\\x1bb? [y/N] "


def test_nobody_is_there_without_a_terminal() -> None:
    assert transfers.is_person_there() is False
