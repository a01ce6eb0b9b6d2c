"""Fixtures of tests whose subject is the same by every route and backend: one of each."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.site import Host

_numbers = itertools.count()


@pytest.fixture
def route() -> str:
    return "direct"


@pytest.fixture
def backend() -> str:
    return "mux"


@pytest.fixture
def there(host: Host) -> Iterator[Path]:
    """An empty directory of the user's on the host."""
    directory = host.make_directory(f"s{os.getpid()}-{next(_numbers)}")
    yield directory
    shutil.rmtree(directory)
