"""``queues`` without a scheduler."""

from __future__ import annotations

import pytest

from tests.cli import program

pytestmark = pytest.mark.usefixtures("own_journal")


def test_a_scheduler_that_cannot_is_4(direct: list[str]) -> None:
    done = program("queues", *direct)
    assert done.code == 4
    assert "does not support a list of queues" in done.sentence()
    assert program("queues", *direct, "--json").data["error"]["kind"] == "unsupported"


def test_the_one_node_of_no_scheduler(direct: list[str]) -> None:
    done = program("queues", "--nodes", *direct, "--json")
    assert done.code == 0
    (node,) = done.data["nodes"]
    assert node["cpus"] >= 1
    assert program("queues", "--nodes", *direct).out.split()[:2] == ["NODE", "STATE"]
