"""``squeue --json`` and ``sacct --json`` of newer versions, put together from their fields."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from openssh_jobs import parser
from openssh_jobs.jobs import JobState

# Facts of the data parser of Slurm 23.02 to 24.11: states are lists, numbers are objects.
NEW_JSON = {
    "meta": {"plugin": {"type": "openapi/slurmctld"}, "slurm": {"release": "24.11.0"}},
    "errors": [],
    "warnings": [],
    "jobs": [
        {
            "job_id": 4008,
            "array_job_id": {"set": True, "infinite": False, "number": 4000},
            "array_task_id": {"set": True, "infinite": False, "number": 8},
            "array_task_string": "",
            "job_state": ["FAILED"],
            "state_reason": "NonZeroExitCode",
            "exit_code": {
                "status": ["ERROR"],
                "return_code": {"set": True, "infinite": False, "number": 3},
                "signal": {"id": {"set": False, "infinite": False, "number": 0}, "name": ""},
            },
            "name": "x",
            "nodes": "n[08-10]",
            "time_limit": {"set": True, "infinite": False, "number": 60},
            "submit_time": {"set": True, "infinite": False, "number": 1795330124},
            "end_time": {"set": True, "infinite": False, "number": 1795330125},
            "user_name": "alice",
            "standard_output": "/home/alice/x.out",
        },
        {"job_id": 4009, "job_state": ["RUNNING"], "time_limit": {"set": False, "infinite": True}},
        {"job_id": 4010, "job_state": ["COMPLETED", "COMPLETING"]},
        {"job_id": 4011, "job_state": ["PENDING", "REQUEUED"], "state_reason": "BeginTime"},
        {"job_id": 4012, "job_state": ["PENDING"], "state_reason": "JobHeldUser"},
        {"job_id": 4013, "job_state": ["PENDING", "SPECIAL_EXIT"], "state_reason": "x"},
        {"job_id": 4014, "job_state": ["CANCELLED", "COMPLETING"]},
        {"job_id": 4015, "job_state": ["SOMETHING_NEW"]},
        {"job_id": {"set": True, "number": 4016}, "job_state": ["TIMEOUT"]},
        {
            "job_id": 4017,
            "job_state": ["PENDING"],
            "het_job_id": {"set": True, "infinite": False, "number": 4017},
            "het_job_offset": {"set": True, "infinite": False, "number": 0},
        },
        "nonsense",
        {"job_id": None, "job_state": ["COMPLETED"]},
    ],
}


def test_the_json_of_newer_versions() -> None:
    snapshot = parser.parse_status(json.dumps(NEW_JSON))
    states = {key: str(status.state) for key, status in snapshot.known.items()}
    assert states == {
        "4000_8": "failed",
        "4009": "running",
        "4010": "completing",
        "4011": "pending",
        "4012": "held",
        "4013": "held",
        "4014": "completing",
        "4015": "unknown",
        "4016": "timeout",
        "4017+0": "pending",
    }
    assert len(snapshot.unparsed) == 2
    status = snapshot["4000_8"]
    assert (status.exit_code, status.signal, status.raw_id) == (3, None, "4008")
    assert status.nodes == ("n08", "n09", "n10")
    assert status.time_limit == timedelta(hours=1)
    assert status.submitted == datetime.fromtimestamp(1795330124, UTC)
    assert status.stdout_path == "/home/alice/x.out"
    assert snapshot["4009"].time_limit is None


NEW_SACCT = {
    "jobs": [
        {
            "job_id": 7,
            "array": {"job_id": 0, "task_id": {"set": False, "number": 0}, "task": ""},
            "state": {"current": ["CANCELLED"], "reason": "None"},
            "exit_code": {
                "return_code": {"set": True, "number": 0},
                "signal": {"id": {"set": True, "number": 15}, "name": "Terminated"},
            },
            "time": {"elapsed": 61, "submission": 1795330124, "limit": {"set": True, "number": 5}},
            "association": {"user": "alice"},
        }
    ],
    "errors": [],
}


def test_the_sacct_json_of_newer_versions() -> None:
    status = parser.parse_status(json.dumps(NEW_SACCT))["7"]
    assert (status.state, status.signal, status.source) == (JobState.CANCELLED, 15, "accounting")
    assert (status.elapsed, status.user) == (timedelta(seconds=61), "alice")
