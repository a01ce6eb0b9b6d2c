"""A host whose sessions (MaxSessions) are all taken: who holds them is said, within seconds."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection, errors
from tests.cli import program
from tests.real.openssh.lies import (
    Make,
)


@pytest.fixture
def full(
    make_sshd: Make, cold: Path, expect_logins: Callable[..., None]
) -> Iterator[tuple[Any, int]]:
    """A host whose two sessions are taken by an ``ssh``; its pid."""
    expect_logins(1)
    host = make_sshd(max_sessions=1)
    connection = Connection(host.alias, ssh_config=host.config).open()
    (path,) = (one for one in cold.iterdir() if "." not in one.name)
    child = subprocess.Popen(
        ["ssh", "-F", "none", "-o", "ProxyCommand=false", "-S", path, "none", "echo up; cat"],
        stdin=subprocess.PIPE,  # and what runs there ends with its ssh: else the close waits
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    yield host, child.pid
    child.kill()
    child.communicate(timeout=10)
    connection.close(stop_master=True)


def test_sessions_that_are_all_taken_are_said_to_be_that(full: tuple[Any, int]) -> None:
    host, pid = full
    begun = time.monotonic()
    done = program("doctor", "-F", str(host.config), host.alias, "--json")
    assert time.monotonic() - begun < 15
    last = done.data["findings"][-1]
    assert (last["check"], last["level"], done.code) == ("sessions", "FAIL", 3)
    assert "MaxSessions" in last["text"]
    assert f"held by ssh ({pid}): 1" in last["text"]
    assert "shell" not in [one["check"] for one in done.data["findings"]]


def test_the_error_says_the_same(
    full: tuple[Any, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    host, pid = full
    monkeypatch.setattr("openssh_jobs.transport.session_limit.SLOT_TIMEOUT", 5.0)
    caplog.set_level("INFO", "openssh_jobs.sessions")
    with Connection(host.alias, ssh_config=host.config) as connection:
        with pytest.raises(errors.SessionLimit, match="MaxSessions") as caught:
            connection.run("true")
        assert f"held by ssh ({pid}): 1" in str(caught.value)
        assert caught.value.sent == "no"
    # Within seconds, though the wait goes on.
    assert "MaxSessions" in caplog.text
