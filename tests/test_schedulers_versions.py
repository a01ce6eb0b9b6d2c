"""What other versions print: facts of public reports and of other projects' tests, in own words.

``source`` in tests/data/versions.jsonl says where a shape (names of fields, types of values) was
seen; the texts themselves are made up.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import parser

DATA = Path(__file__).parent / "data"


def records(file: str = "versions") -> list[dict[str, Any]]:
    with (DATA / f"{file}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def plain(value: object) -> object:
    """A value as JSON has it."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime):
        return value.isoformat()
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("named", [True, False], ids=["named", "detected"])
@pytest.mark.parametrize("record", records(), ids=lambda one: one["id"])
def test_the_forms_of_other_versions(record: dict[str, Any], named: bool) -> None:
    assert record["source"]
    snapshot = parser.parse_status(
        record["stdout"],
        record["scheduler"] if named else None,
        stderr=record["stderr"],
        returncode=record["returncode"],
        command=record["command"],
        timezone=UTC,
    )
    states = {job_id: str(snapshot[job_id].state) for job_id in record["expected"]}
    assert states == record["expected"]
    assert len(snapshot.known) <= len(states)
    assert len(snapshot.unparsed) == record["unparsed"]
    for job_id, facts in record["facts"].items():
        told = snapshot[job_id].as_dict()
        assert {name: plain(told[name]) for name in facts} == facts


@pytest.mark.parametrize("record", records("opinions"), ids=lambda one: one["id"])
def test_the_forms_that_other_programs_ask_for(record: dict[str, Any]) -> None:
    """Recorded in the lab: squeue as aiida-core asks it, ``ps``, and the script of ``direct``."""
    snapshot = parser.parse_status(
        record["stdout"], record["scheduler"], command=record["command"], timezone=UTC
    )
    states = {job_id: str(snapshot[job_id].state) for job_id in record["expected"]}
    assert states == record["expected"]


def test_an_answer_without_jobs_is_an_empty_queue() -> None:
    """PBS of 2024 leaves the member out where there is no job."""
    (record,) = (one for one in records() if one["id"].endswith("no-jobs"))
    assert parser.parse_status(record["stdout"]).known == {}
