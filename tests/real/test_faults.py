"""A short form of ``scripts/faults``: each kind of fault once, under a call that it hits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.table import FAULTS
from tests.faults.trial import run_trial
from tests.lab import namespaces, parts
from tests.lab.site import Site

BY_NAME = {fault.name: fault for fault in FAULTS}
SHORT = (
    ("the master is killed", "command", "direct", "mux"),
    ("the master is killed", "shell", "jump", "process"),
    ("the master is stopped", "command", "direct", "process"),
    ("the server's session is killed", "put", "direct", "mux"),
    ("the server's session is killed", "sftp-put", "direct", "mux"),
    ("the server's session is killed", "tree", "direct", "mux"),
    ("sshd is restarted", "get", "direct", "process"),
    ("the cable is out for 1 s", "command", "direct", "mux"),
    ("the cable is out for 8 s", "command", "jump", "mux"),
    ("the socket file is deleted", "command", "direct", "process"),
    ("the socket file is a stale one", "nothing", "direct", "mux"),
    ("a regular file lies there", "shell", "direct", "mux"),
    ("the socket directory is cleaned", "nothing", "direct", "process"),
    ("the bastion's session is killed", "command", "jump", "mux"),
)


@pytest.mark.parametrize(("name", "flight", "route", "backend"), SHORT)
def test_a_fault_under_a_call(
    name: str,
    flight: str,
    route: str,
    backend: str,
    site: Site,
    cold: Path,
    expect_logins: Callable[..., None],
) -> None:
    fault = BY_NAME[name]
    if not namespaces.inside():
        parts.require_namespaces("a cable that can be cut")
    expect_logins(1 + fault.logins)
    outcome = run_trial(site, fault, flight, route, backend, cold.parent / "f")
    assert outcome.trouble == "", outcome.line()


def test_every_fault_of_the_short_form_is_in_the_table() -> None:
    assert {name for name, *_ in SHORT} <= BY_NAME.keys()
    for name, _, route, _ in SHORT:
        assert route in BY_NAME[name].routes
