"""The exit codes of every command, and the documents that say the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from openssh_jobs.cli import main
from tests.lab.interactive import MakeServer, config_of, password
from tests.schemas import PRINT_JSON, check

pytestmark = pytest.mark.usefixtures("own_journal")

# A command line of each command that has to reach the host; what needs none is above all.
REACHING = {
    "doctor": ["asks"],
    "exec": ["asks", "true"],
    "put": ["/etc/hostname", "asks:x"],
    "get": ["asks:x", "here"],
    "forward": ["asks", "18889"],
    "submit": ["asks", "d", "--script", "/etc/hostname"],
    "list": ["asks"],
    "status": ["asks", "1"],
    "wait": ["asks", "1"],
    "tail": ["asks", "1"],
    "fetch": ["asks", "1", "here"],
    "cancel": ["asks", "1"],
    "hold": ["asks", "1"],
    "release": ["asks", "1"],
    "queues": ["asks"],
    "recover": ["asks", "directory"],
    "tidy": ["asks"],
}
NOTHING_TO_REACH = {"login", "logout", "config", "demo", "watch"}


def test_every_command_is_here() -> None:
    assert {*REACHING, *NOTHING_TO_REACH} == set(PRINT_JSON)


@pytest.mark.parametrize("command", PRINT_JSON)
def test_used_wrongly_is_2(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--json", "--no-such-option"]) == 2
    assert check(command, capsys.readouterr().out)["error"]["exit_code"] == 2


def test_a_host_to_which_there_is_no_way_is_3(
    cold: Path, asking: MakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """It asks for a password, and nobody is here: one dial, then the record says the same."""
    server = asking(steps=[password("x")])
    config = config_of(cold, server)
    for command, words in REACHING.items():
        code = main([command, "--json", "-F", config, *words])
        said = capsys.readouterr()
        assert code == 3, (command, said.err)
        document = check(command, said.out)
        if command not in ("doctor", "list"):
            assert document["error"]["exit_code"] == 3
            assert document["error"]["host"] == "asks"
    assert main(["logout", "--json", "-F", config, "asks"]) == 0
    assert server.counts["connections"] == 1
