"""What other versions print: facts of public reports and of other projects' tests, in own words.

``source`` in tests/data/versions.jsonl says where a shape (names of fields, types of values) was
seen; the texts themselves are made up.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from openssh_jobs import parser
from openssh_jobs.errors import SchedulerError
from tests.paths import DATA


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
        reported = snapshot[job_id].as_dict()
        assert {name: plain(reported[name]) for name in facts} == facts


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


def test_what_stands_twice_in_pbs_json_is_not_believed() -> None:
    """Of two states (or two jobs of one id) one may come from a variable's text."""
    head = '{"pbs_server":"s","pbs_version":"19.1","Jobs":{'
    job = '"4.s":{"job_state":"R","Job_Name":"x"}'
    twice = '"4.s":{"job_state":"R","Exit_status":3,"job_state":"F","Exit_status":0}'
    for jobs in (twice, f"{job},{job}"):
        snapshot = parser.parse_status(f"{head}{jobs}}}}}", "pbs")
        assert snapshot.known == {}
        assert len(snapshot.unparsed) == 1


def test_long_lines_of_broken_pbs_json_are_mended_in_linear_time() -> None:
    for piece in ("\\", '"', " ", '\\"', "a\\,", "{", "0"):
        text = f'{{"pbs_server":"s","Jobs":{{\n"4.s":{{\n"a":"{piece * 60_000}\n}}}}}}\n'
        kind = ""
        try:
            assert parser.parse_status(text, "pbs").known == {}
        except SchedulerError as error:
            kind = error.kind
        assert kind in ("", "parse_error")
