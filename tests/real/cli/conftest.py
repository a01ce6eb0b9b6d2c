"""What the tests of the command line share: a directory on the host, options, a journal."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.site import Host

_numbers = itertools.count(1)


@pytest.fixture
def own_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal of the test alone."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def there(sshd: Host) -> Iterator[str]:
    """A directory of the test's own on the host, relative to its home."""
    name = f"oj-cli-{next(_numbers)}"
    sshd.make_directory(name)
    yield name
    shutil.rmtree(sshd.home / name)


@pytest.fixture
def direct(sshd: Host) -> list[str]:
    """The options for jobs without a scheduler, and the host."""
    return ["-F", str(sshd.config), "--scheduler", "direct", sshd.alias]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small directory here."""
    top = tmp_path / "basis"
    (top / "inner").mkdir(parents=True)
    (top / "a.inp").write_text("a")
    (top / "b.log").write_text("bb")
    (top / "inner" / "c.inp").write_text("ccc")
    return top
