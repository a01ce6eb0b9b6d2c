"""The worked example of docs/schedulers.rst, run against the real task-spooler."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import JobState
from openssh_jobs.errors import SchedulerError
from openssh_jobs.jobs import CancelOutcome
from openssh_jobs.schedulers.answer import Answer
from tests.lab import parts
from tests.lab.room import Room, open_room
from tests.lab.site import Host
from tests.paths import CHECKOUT

DOCS = CHECKOUT / "docs" / "schedulers.rst"


def example() -> Any:
    """The class, as the page has it."""
    text = DOCS.read_text(encoding="utf-8").split("runs it::\n", 1)[1]
    code = textwrap.dedent(text.partition("\nThese lines")[0])
    names: dict[str, Any] = {}
    exec(compile(code, str(DOCS), "exec"), names)
    return names["TaskSpooler"]()


@pytest.fixture
def room(sshd: Host, tmp_path: Path) -> Iterator[Room]:
    parts.require("spooler")
    place = sshd.make_directory("spooler")
    shutil.copy(parts.UNPACKED / "spooler" / parts.APART["spooler"], place / "tsp")
    prologue = f"PATH={place}:$PATH; TS_SOCKET={place}/socket; TMPDIR={place}; "
    prologue += "export PATH TS_SOCKET TMPDIR"
    with open_room(sshd, example(), None, tmp_path, prologue=prologue) as room:
        yield room
        room.cluster.connection.run(f"{prologue}\ntsp -K", check=True)
    shutil.rmtree(place)


def test_the_example_works(room: Room) -> None:
    fine, failing = room.submit("true", name="a $(b)"), room.submit("exit 3")
    killed = room.submit("kill -9 $$")
    statuses = room.cluster.wait([fine, failing, killed], timeout=30)
    assert [one.state for one in statuses] == ["completed", "failed", "failed"]
    assert [one.exit_code for one in statuses] == [0, 3, None]
    assert statuses[2].reason == "ended by a signal"
    running, waiting = room.submit("sleep 300"), room.submit("sleep 300")
    room.until_state(running, JobState.RUNNING)
    assert waiting.status().state is JobState.PENDING
    outcomes = room.cluster.cancel([waiting, running, "77"])
    assert outcomes == {
        waiting.id: CancelOutcome.REQUESTED,
        running.id: CancelOutcome.REQUESTED,
        "77": CancelOutcome.NOT_FOUND,
    }
    assert running.wait(timeout=30).state is JobState.FAILED
    room.until_state(waiting, JobState.UNKNOWN)
    with pytest.raises(SchedulerError, match="does not support array"):
        room.submit(array="1-3")
    with pytest.raises(SchedulerError, match="list of nodes"):
        room.cluster.nodes()


def test_half_an_answer_is_none() -> None:
    scheduler = example()
    for text in ("", "ID   State      Output\n", "tsp: cannot connect\n"):
        with pytest.raises(SchedulerError):
            scheduler.parse_status(Answer(text), requested=["1"])
