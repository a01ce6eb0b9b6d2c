"""Slurm's records: ``scontrol show job``, ``squeue --json``, ``sacct --json``.  Pure."""

from __future__ import annotations

import json
import re
from datetime import timedelta, tzinfo
from itertools import pairwise
from typing import Any, Final

from ...errors import SchedulerError
from ...jobs import JobId, JobState, JobStatus
from ..fields import epoch, expand_hosts, signal_and_code, spent
from ..rows import Rows
from .sbatch import EACH, NO_VALUE
from .states import (
    has_begun,
    is_job_id,
    may_be_state,
    said_number,
    state_of,
    told_exit,
    told_reason,
)
from .tables import Table

# --------------------------------------------------------------------------- scontrol

_KEY = re.compile(r"(?:^|\s)([A-Z][A-Za-z/:]*)=", re.MULTILINE)
RECORD = re.compile(r"^ *JobId=[0-9]", re.MULTILINE)
# Keys whose values end at the next blank.  The rest (paths, names) run to the next key.
_SCONTROL_FIELDS: Final = {
    "JobId": "raw_id", "ArrayJobId": "array_id", "ArrayTaskId": "task", "JobState": "state",
    "Reason": "reason", "Account": "account", "RunTime": "elapsed", "TimeLimit": "time_limit",
    "SubmitTime": "submitted", "StartTime": "started", "EndTime": "ended", "Partition": "queue",
    "NodeList": "nodelist", "NumCPUs": "cpus", "ExitCode": "exit", "Restarts": "restarts",
    "UserId": "user", "JobName": "name", "Command": "command", "WorkDir": "directory",
    "StdOut": "stdout_path", "StdErr": "stderr_path", "HetJobId": "het_id",
    "HetJobOffset": "het_offset", "PackJobId": "het_id", "PackJobOffset": "het_offset",
}  # fmt: skip
_FREE_TEXT: Final = frozenset(("JobName", "Command", "WorkDir", "StdOut", "StdErr"))
# What a name or a comment must not be able to forge.
_ONCE: Final = ("JobId", "JobState", "UserId")


def read_scontrol(text: str, zone: tzinfo | None, *, requested: JobId | None = None) -> Rows:
    """``scontrol show job``, with and without ``-o``.

    ``requested``: the one job (or array) that the command was about; other records are the work of
    a user's comment.  A job that has two records has none: either may be the real one.
    """
    rows = Rows()
    starts = [found.start() for found in RECORD.finditer(text)]
    twice: set[str] = set()
    for start, end in pairwise([*starts, len(text)]):
        record = text[start:end]
        status = _scontrol_status(record, zone)
        if status is not None and requested is not None and not _is_of(status, requested):
            continue
        if status is not None and status.job_id in rows.known:
            twice.add(status.job_id)
        rows.add(status, record)
    for job_id in twice:
        del rows.known[job_id]
        rows.unparsed.append(f"two records of job {job_id}")
    return rows


def _is_of(status: JobStatus, requested: JobId) -> bool:
    job_id = JobId.parse(status.job_id)
    wanted = JobId.parse(requested.text.partition(";")[0])
    return job_id.matches(wanted) or wanted.contains(job_id) or status.raw_id == wanted.number


def _scontrol_status(record: str, zone: tzinfo | None) -> JobStatus | None:
    places = list(_KEY.finditer(record))
    names = [place[1] for place in places]
    if any(names.count(key) > 1 for key in _ONCE):
        return None  # a name or comment looks like a record, and either may be the real one
    values: dict[str, str] = {}
    for place, following in zip(places, [*places[1:], None], strict=True):
        name = place[1]
        # Of a field that is there twice, one was written by a user.
        if name not in _SCONTROL_FIELDS or names.count(name) > 1:
            continue
        value = record[place.end() : following.start() if following else len(record)]
        value = value.rstrip("\n") if name in _FREE_TEXT else value.strip().partition(" ")[0]
        values[_SCONTROL_FIELDS[name]] = value.strip(" ") if value != " " else value
    if "UserId" in names:
        # A blank is legal in a name, and so is "A=b": it runs up to the line of the user.
        begin = record.index("JobName=") + len("JobName=") if "JobName" in names else 0
        until = places[names.index("UserId")].start()
        values["name"] = record[begin:until].rstrip(" \n")
        values["user"] = values["user"].partition("(")[0]
    if "het_id" in values and "het_offset" in values:
        values["id"] = f"{values['het_id']}+{values['het_offset']}"
    for path in ("stdout_path", "stderr_path"):
        if path in values:
            values[path] = values[path].replace(NO_VALUE, EACH)
    table = Table(tuple(values), source="queue", zone=zone)
    if not table.is_usable:
        return None
    return table.status(tuple(values.values()))


# --------------------------------------------------------------------------- JSON


# What is looked at of a job; the rest (a hundred fields, and in sacct the steps) is not even kept
# while the text is read: 10,000 jobs are 40 MB of text, and would be 130 MB of objects.
_WANTED: Final = (
    "job_id", "job_state", "state", "state_reason", "array", "array_job_id", "array_task_id",
    "array_task_string", "het", "het_job_id", "het_job_offset", "exit_code", "name", "partition",
    "account", "nodes", "standard_output", "standard_error", "stdout_expanded", "stderr_expanded",
    "restart_cnt", "user_name", "user", "association", "cpus", "required", "submit_time",
    "start_time", "end_time", "time", "time_limit", "current_working_directory",
    "working_directory", "command", "submit_line",
)  # fmt: skip


def _kept(value: dict[str, Any]) -> Any:
    """What is kept of an object of the answer, inner ones first."""
    if "set" in value and "number" in value:
        return number_of(value)
    if "job_id" in value and ("job_state" in value or "state" in value):
        return {name: value[name] for name in _WANTED if name in value}
    # A step of a job, and a node of its resources.
    return None if "step" in value or "nodename" in value else value


def read_json(text: str) -> Rows:
    """``squeue --json`` and ``sacct --json``, of 22.05 to 24.11.

    Raises ``SchedulerError``: with a dead controller squeue 22.05 answers with status 0, no jobs,
    and the failure in "errors" only.
    """
    try:
        # What a site prints behind it does not count.
        answer, _ = json.JSONDecoder(object_hook=_kept).raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise SchedulerError(f"no valid JSON: {error}", kind="parse_error", stdout=text) from None
    if not isinstance(answer, dict) or not isinstance(answer.get("jobs"), list):
        raise SchedulerError("JSON without a list of jobs", kind="parse_error", stdout=text)
    errors = answer.get("errors")
    if errors:
        raise SchedulerError(_json_error(errors), kind="transient", stdout=text)
    rows = Rows()
    for job in answer["jobs"]:
        try:
            status = _json_status(job)
        except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError):
            status = None
        rows.add(status, "" if status else json.dumps(job)[:1000])
        if status is not None and isinstance(job.get("state"), dict):
            rows.source = "accounting"
    return rows


def _json_error(errors: Any) -> str:
    first = errors[0] if isinstance(errors, list) else errors
    if isinstance(first, dict):
        parts = [first.get(key) for key in ("description", "error", "source")]
        return ": ".join(str(part) for part in parts if part) or "an error without a text"
    return str(first)[:300]


def number_of(value: Any) -> int | None:
    """A number, plain (22.05) or as ``{"set": true, "infinite": false, "number": 5}`` (23.02)."""
    if isinstance(value, dict):
        if not value.get("set", True) or value.get("infinite"):
            return None
        value = value.get("number")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # JSON as Python reads it knows Infinity and NaN.
    return said_number(int(value)) if abs(value) < 10**18 else None


def _words(value: Any) -> str:
    """A state: a word (22.05), a list of words (23.02 on: base state and flags)."""
    return ",".join(str(item) for item in value) if isinstance(value, list) else str(value)


def _json_status(job: dict[str, Any]) -> JobStatus | None:
    is_accounting = isinstance(job.get("state"), dict)
    if is_accounting:
        raw = _words(job["state"].get("current"))
        reason = job["state"].get("reason")
        array = job.get("array") or {}
        array_id, task = number_of(array.get("job_id")), number_of(array.get("task_id"))
        tasks = array.get("task")
        het = job.get("het") or {}
        het_id, het_offset = number_of(het.get("job_id")), number_of(het.get("job_offset"))
    else:
        raw = _words(job["job_state"])
        reason = job.get("state_reason")
        array_id, task = number_of(job.get("array_job_id")), number_of(job.get("array_task_id"))
        tasks = job.get("array_task_string")
        het_id, het_offset = number_of(job.get("het_job_id")), number_of(job.get("het_job_offset"))
    raw_id = number_of(job["job_id"])
    state = state_of(raw, reason)
    if state is None and may_be_state(raw):
        state = JobState.UNKNOWN
    if raw_id is None or raw_id < 1 or state is None:
        return None
    job_id = str(raw_id)
    if array_id and task is not None:
        job_id = f"{array_id}_{task}"
    elif array_id and tasks:
        job_id = f"{array_id}_[{tasks}]"
    elif het_id:
        job_id = f"{het_id}+{het_offset or 0}"
    if not is_job_id(job_id):
        return None
    build = _accounting_facts if is_accounting else _queue_facts
    return JobStatus.lazily(job_id, state, build, (job, raw, reason, str(raw_id), job_id))


JsonRow = tuple[dict[str, Any], str, Any, str, str]


def _json_exit(value: Any, state: JobState) -> tuple[int | None, int | None]:
    if isinstance(value, dict) and ("return_code" in value or "signal" in value):
        raw = value.get("signal") or {}
        return told_exit(
            state,
            number_of(value.get("return_code")),
            number_of(raw.get("signal_id", raw.get("id"))),
        )
    status = number_of(value)
    return told_exit(state, *signal_and_code(status)) if status is not None else (None, None)


def _shared_facts(row: JsonRow) -> dict[str, Any]:
    job, raw, reason, raw_id, job_id = row
    state = state_of(raw, reason) or JobState.UNKNOWN
    code, number = _json_exit(job.get("exit_code"), state)
    return {
        "raw_state": raw,
        "reason": told_reason(str(reason), state) if reason else None,
        "name": job.get("name"),
        "queue": job.get("partition") or None,
        "account": job.get("account") or None,
        "nodes": expand_hosts(job.get("nodes")) if isinstance(job.get("nodes"), str) else None,
        "exit_code": code,
        "signal": number,
        "raw_id": raw_id if raw_id != job_id else None,
        "stdout_path": job.get("standard_output") or job.get("stdout_expanded") or None,
        "stderr_path": job.get("standard_error") or job.get("stderr_expanded") or None,
        "restarts": number_of(job.get("restart_cnt")),
    }


def _limit(minutes: Any) -> timedelta | None:
    number = number_of(minutes)
    return timedelta(minutes=number) if number is not None and 0 < number < 10**9 else None


def _queue_facts(row: JsonRow) -> dict[str, Any]:
    job, raw, reason = row[:3]
    state = state_of(raw, reason) or JobState.UNKNOWN
    return {
        **_shared_facts(row),
        "user": job.get("user_name") or None,
        "cpus": number_of(job.get("cpus")),
        "submitted": epoch(number_of(job.get("submit_time"))),
        "started": epoch(number_of(job.get("start_time"))) if has_begun(state) else None,
        "expected_start": (
            epoch(number_of(job.get("start_time"))) if state is JobState.PENDING else None
        ),
        "ended": epoch(number_of(job.get("end_time"))) if state.is_final else None,
        "time_limit": _limit(job.get("time_limit")),
        "source": "queue",
        "directory": job.get("current_working_directory") or None,
        "command": job.get("command") or None,
    }


def _accounting_facts(row: JsonRow) -> dict[str, Any]:
    job, raw, reason = row[:3]
    state = state_of(raw, reason) or JobState.UNKNOWN
    times = job.get("time") or {}
    seconds = number_of(times.get("elapsed"))
    return {
        **_shared_facts(row),
        "user": job.get("user") or (job.get("association") or {}).get("user") or None,
        "cpus": number_of((job.get("required") or {}).get("CPUs")),
        "submitted": epoch(number_of(times.get("submission"))),
        "started": epoch(number_of(times.get("start"))) if has_begun(state) else None,
        "ended": epoch(number_of(times.get("end"))) if state.is_final else None,
        "elapsed": spent(seconds),
        "time_limit": _limit(times.get("limit")),
        "source": "accounting",
        "directory": job.get("working_directory") or None,
        "command": job.get("submit_line") or None,
    }
