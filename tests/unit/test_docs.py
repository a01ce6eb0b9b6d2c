"""What the documentation names has to be there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import openssh_jobs
from openssh_jobs.cli.app import COMMANDS
from openssh_jobs.cli.exit_codes import ExitCode
from openssh_jobs.settings import SETTINGS
from tests import command_line
from tests.paths import CHECKOUT

PUBLIC_NAMES = (CHECKOUT / "docs" / "public-names.rst").read_text()
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


# -- the command line ---------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_commands_that_there_are(page: Path) -> None:
    text = page.read_text()
    if page.name == "CHANGELOG.rst":
        return  # what was, too
    named = re.findall(r"(?:^ +\$ |``|`)openssh-jobs\s+([a-z]+)", text, re.MULTILINE)
    assert set(named) <= {*COMMANDS, "help"}


def test_the_page_of_the_command_line_has_each_command_and_option() -> None:
    assert command_line.shown() == command_line.block(), "python -m tests.command_line writes it"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_an_option_beside_a_command_is_one_of_it(page: Path) -> None:
    """In examples and in text: ``openssh-jobs put --merge``."""
    text = page.read_text()
    if page.name == "CHANGELOG.rst":
        return
    found = re.findall(r"^ +\$ openssh-jobs ([a-z]+) (.*)$", text, re.MULTILINE)
    found += re.findall(r"``openssh-jobs\s+([a-z]+) ([^`]*)``", text)
    for command, words in found:
        if command not in COMMANDS:
            continue
        known = command_line.parser_of(command)._option_string_actions
        before = words.split(" -- ")[0].split("#")[0]
        if command == "exec":  # what follows HOST is not ours
            parts = before.split()
            before = " ".join(parts[: command_line.parser_of(command).end_of_first(parts)])
        for option in re.findall(r"(?<!\S)(--[a-z][a-z-]*)", before):
            assert option in known, f"{command} {option}"


def test_the_exit_codes_are_those_of_the_program() -> None:
    page = command_line.PAGE.read_text()
    table = page.split(".. the exit codes\n", 1)[1].split("\nWhat 1 means:", 1)[0]
    rows = re.findall(r"^([0-9]+) +(.+)$", table, re.MULTILINE)
    assert rows == [(str(int(code)), code.meaning) for code in sorted(ExitCode)]
    of_one = page.split("What 1 means:", 1)[1].split("JSON\n----", 1)[0]
    assert sorted(re.findall(r"``([a-z]+)``", of_one.replace("``--job``", ""))) == sorted(COMMANDS)


def test_every_setting_is_in_the_table_of_settings() -> None:
    page = (CHECKOUT / "docs" / "settings.rst").read_text()
    assert set(re.findall(r"^``([a-z_]+)``  ", page, re.MULTILINE)) == set(SETTINGS)


# -- public names -------------------------------------------------------------------------------


def _listed(module: str) -> list[str]:
    """The names in the first column of the table about a module."""
    section = PUBLIC_NAMES.split(f"From ``{module}``\n", 1)[1].split("\nFrom ``", 1)[0]
    return re.findall(r"^``(\w+)``  ", section, re.MULTILINE)


@pytest.mark.parametrize("module", ["openssh_jobs", "openssh_jobs.testing"])
def test_the_names_that_can_be_imported_are_those_of_the_page(module: str) -> None:
    names = list(importlib.import_module(module).__all__)
    assert sorted(_listed(module)) == names == sorted(names)
    assert set(names) <= set(dir(importlib.import_module(module)))
    for name in names:
        assert getattr(importlib.import_module(module), name) is not None


def test_a_name_that_is_not_public_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Responder'"):
        _ = openssh_jobs.Responder


def _imports(page: str) -> list[tuple[str, str]]:
    """What the examples of a page import of this package: (module, name)."""
    found = [(module, "") for module in re.findall(r"^ +import (openssh_jobs[\w.]*)", page, re.M)]
    for module, names in re.findall(
        r"^ +from (openssh_jobs[\w.]*) import ([\w, ]+?) *(?:#.*)?$", page, re.MULTILINE
    ):
        found += [(module, name.strip()) for name in names.split(",")]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_import_public_names(page: Path) -> None:
    for module, name in _imports(page.read_text()):
        loaded = importlib.import_module(module)
        if module == "openssh_jobs":
            assert name in loaded.__all__, name
        else:
            assert f"``{module}``" in PUBLIC_NAMES, f"{module} is not in docs/public-names.rst"
            assert not name or hasattr(loaded, name), f"{module} has no {name}"


def test_the_examples_have_imports_that_are_looked_at() -> None:
    found = [item for page in PAGES for item in _imports(page.read_text())]
    assert {("openssh_jobs", "Connection"), ("openssh_jobs.testing", "PrivateSshd")} <= set(found)
    assert ("openssh_jobs.arc", "SSHClient") in found
    assert _imports("    from openssh_jobs.openssh.prompts import Prompt, Talk  # why\n") == [
        ("openssh_jobs.openssh.prompts", "Prompt"),
        ("openssh_jobs.openssh.prompts", "Talk"),
    ]
