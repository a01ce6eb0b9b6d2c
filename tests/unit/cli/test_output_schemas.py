"""The schemas themselves: of the standard, one for each command, with the library's words."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from openssh_jobs import errors
from openssh_jobs.cli.exit_codes import UsageError
from openssh_jobs.cli.listed_job import JOBS, ListedJob
from openssh_jobs.cli.output import error_data, plain
from openssh_jobs.jobs import JobState, JobStatus
from tests.schemas import PRINT_JSON, SCHEMAS, problems


def test_every_command_has_a_schema() -> None:
    assert set(SCHEMAS) == {*PRINT_JSON, "error", "job"}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_of_the_standard(name: str) -> None:
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"].endswith(f"/{name}.json")


@pytest.mark.parametrize("name", PRINT_JSON)
def test_a_command_may_fail(name: str) -> None:
    for error in (UsageError("no"), errors.HostUnreachable("no", host="h"), OSError(28, "full")):
        assert problems(name, plain(error_data(error))) == []
    assert problems(name, {"error": {"type": "X"}}) != []


def test_a_job_has_the_states_of_the_library() -> None:
    properties: Any = SCHEMAS["job"]["properties"]
    assert properties["state"]["enum"] == [str(state) for state in JobState]
    row = plain(JOBS.record(ListedJob.of_status("h", JobStatus("7", "failed"))))
    assert problems("job", row) == []
    assert problems("job", row | {"state": "done"}) != []
    assert problems("job", row | {"submitted": "2026-03-10T12:00:00"}) != [], "no offset"
