"""Fixtures that the tests of connections and transfers share."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection
from tests.lab import parts
from tests.lab.chain import Chain
from tests.lab.site import Host, Site

_numbers = itertools.count()


@pytest.fixture(params=["sftp", "tar"])
def method(request: pytest.FixtureRequest) -> str:
    """Both ways to move files."""
    return str(request.param)


@pytest.fixture
def there(host: Host) -> Iterator[Path]:
    """An empty directory of the user's on the host."""
    directory = host.make_directory(f"t {os.getpid()} {next(_numbers)}")
    yield directory
    for path in directory.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(os.fsencode(directory))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """An empty directory of ours."""
    directory = tmp_path / "here"
    directory.mkdir()
    return directory


@pytest.fixture
def connect(cold: Path) -> Iterator[Callable[..., Connection]]:
    """Connections of this test alone; their masters end with it."""
    opened: list[Connection] = []

    def connect(host: Host, **options: Any) -> Connection:
        connection = Connection(host.alias, **{"ssh_config": host.config, **options})
        opened.append(connection)
        return connection

    yield connect
    for connection in opened:
        connection.close(stop_master=True)


@pytest.fixture(scope="module")
def chain(site: Site, lab_directory: Path) -> Iterator[Chain]:
    """Three bastions before the login node.  Its servers count for the tests that use it only.

    For one file: PAM, which asks for the codes, is set up by other tests in their own way.
    """
    parts.require("second factor")
    parts.require_namespaces("a chain of bastions")
    assert site.network is not None
    chain = Chain(lab_directory / f"chain{next(_numbers)}", site.network)
    try:
        chain.start()
        yield chain
    finally:
        chain.stop()
