"""The unit half needs no server: a test in here that asks for one fails, with the right place.

``scripts/test --unit`` runs it without root, without the lab's namespaces and without a network.
"""

from __future__ import annotations

from typing import NoReturn

import pytest


def _refuse(name: str) -> NoReturn:
    pytest.fail(
        f"the fixture {name!r} starts servers, and tests/unit runs without any: "
        "this test belongs into tests/real",
        pytrace=False,
    )


@pytest.fixture(scope="session")
def site() -> None:
    """No login node here."""
    _refuse("site")


@pytest.fixture
def make_sshd() -> None:
    """No server of a test's own."""
    _refuse("make_sshd")


@pytest.fixture
def asking() -> None:
    """No server that asks for secrets."""
    _refuse("asking")
