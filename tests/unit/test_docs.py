"""What the documentation names has to be there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.paths import CHECKOUT

PAGES = sorted([*CHECKOUT.glob("*.rst"), *(CHECKOUT / "docs").glob("*.rst")])


def _tests() -> set[str]:
    found: set[str] = set()
    for path in (CHECKOUT / "tests").rglob("*.py"):
        found |= set(re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_and_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r"``(test_\w+)``", text))
    assert named <= _tests(), f"no such test: {sorted(named - _tests())}"
    files = set(re.findall(r"``((?:tests|scripts|docs|openssh_jobs)/[\w./-]+)``", text))
    missing = [name for name in files if not (CHECKOUT / name).exists()]
    assert missing == []


def test_the_faults_that_a_page_names_are_in_the_table() -> None:
    from tests.faults.table import FAULTS

    assert "*fault: the master is stopped*" in (CHECKOUT / "docs" / "pitfalls.rst").read_text()
    assert any(fault.name == "the master is stopped" for fault in FAULTS)


def test_the_command_line_of_the_readme_is_the_command_line_there_is() -> None:
    from openssh_jobs.cli.app import build_parser

    named = set(
        re.findall(r"^    \$ openssh-jobs (\w+)", (CHECKOUT / "README.rst").read_text(), re.M)
    )
    assert named
    text = build_parser().format_help()
    for command in named:
        assert re.search(rf"^    {command}\b", text, re.MULTILINE), command
