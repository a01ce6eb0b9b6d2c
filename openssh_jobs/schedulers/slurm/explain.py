"""Why Slurm's jobs wait, and what they used: squeue and sacct, all in one round trip.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, timedelta

from ...jobs import JobId, JobState, JobStatus
from ...jobs.cause import Cause
from ...jobs.explanation import Awaited, Explanation, Usage
from ..answer import Answer
from ..fields import (
    expand_hosts,
    is_number,
    parse_duration,
    parse_size,
    parse_time,
    quote,
    spent,
    whole_number,
)
from ..framing import Section, framed, read_frame, section, shell_text
from .causes import cause_of, cause_of_reason
from .sbatch import plain
from .states import STATES, exit_of, said_text, state_of

_MOST = 50
"""Jobs of one call, and jobs that any of these waits for."""
# Columns of squeue -O (15.08 and later), each cut and filled up to its width by squeue itself.
_WAITING = (("JobArrayID", 128), ("RestartCnt", 12), ("PriorityLong", 24), ("StartTime", 40),
            ("Reason", 200), ("ReqNodes", 200), ("Dependency", 600))  # fmt: skip
_AWAITED = (("JobArrayID", 128), ("State", 32), ("TimeLeft", 24))
_AHEAD = (("JobArrayID", 128), ("PriorityLong", 24), ("Reason", 40))
_USAGE = ("JobID", "State", "ExitCode", "UID", "ElapsedRaw", "Timelimit", "NCPUS", "NNodes",
          "ReqMem", "MaxRSS", "TotalCPU", "AllocTRES", "TRESUsageInTot", "Start")  # fmt: skip
_COULD_START = frozenset((Cause.PRIORITY, Cause.RESOURCES))
_WAITS = (JobState.PENDING, JobState.HELD)


@dataclass
class _SlurmFacts:
    """What one cluster's answer holds, by the ids in it."""

    waiting: dict[str, dict[str, str]] = field(default_factory=dict)
    awaited: dict[str, Awaited] = field(default_factory=dict)
    ahead: dict[str, int] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, dict[str, str]] = field(default_factory=dict)
    steps: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)


def explain_script(statuses: Sequence[JobStatus]) -> str | None:
    """A script about all of these jobs; ``None`` where there is nothing to ask."""
    parts = [shell_text("slurm/tidy"), "unset SLURM_CLUSTERS\n"]
    places: dict[str, list[JobStatus]] = {}
    for status in statuses[:_MOST]:
        places.setdefault(JobId.parse(status.job_id).cluster or "", []).append(status)
    for cluster, jobs in places.items():
        waiting = [job for job in jobs if job.state in _WAITS]
        ran = [job for job in jobs if job.state not in _WAITS]
        where = f"-M {quote(cluster)}" if cluster else ""
        behind = 1 + sum(width for _, width in _WAITING[:-1])
        parts.append(
            shell_text(
                "slurm/explain",
                waiting=_columns(_WAITING),
                awaited=_columns(_AWAITED),
                ahead=_columns(_AHEAD),
                usage=",".join(_USAGE),
                before=str(sum(width for _, width in _WAITING[:-2])),
                behind=str(behind),
                most=str(_MOST),
            )
        )
        parts.append(f"oj_where={quote(where)}\n")
        if waiting:
            numbers = ",".join(dict.fromkeys(JobId.parse(job.job_id).number for job in waiting))
            parts.append(section(f"waiting@{cluster}", f"oj_waiting {quote(numbers)}"))
            parts.append(section(f"awaited@{cluster}", "oj_awaited"))
            parts.append(section(f"nodes@{cluster}", "oj_nodes"))
            queues = dict.fromkeys(job.queue for job in waiting if job.queue)
            if queues:
                parts.append(section(f"ahead@{cluster}", f"oj_ahead {quote(','.join(queues))}"))
        if ran:
            ids = ",".join(dict.fromkeys(map(_asked_id, ran)))
            parts.append(section(f"usage@{cluster}", f"oj_usage {quote(ids)}"))
            parts.append(section(f"users@{cluster}", "oj_cancellers"))
    return framed(*parts) if places else None


def _asked_id(status: JobStatus) -> str:
    """The id for sacct; for an element that ran into a limit its array, to compare with."""
    job_id = JobId.parse(status.job_id)
    is_compared = status.state in (JobState.OUT_OF_MEMORY, JobState.TIMEOUT)
    return job_id.number if is_compared and job_id.tasks else plain(job_id)


def _columns(columns: Iterable[tuple[str, int]]) -> str:
    return ",".join(f"{name}:{width}" for name, width in columns)


def parse_explanations(answer: Answer, statuses: Sequence[JobStatus]) -> dict[str, Explanation]:
    """What the answer adds to each status.  A part that failed adds nothing."""
    sections = read_frame(answer.stdout) or []
    clusters: dict[str, _SlurmFacts] = {}
    for part in sections:
        what, _, cluster = part.name.partition("@")
        if part.returncode == 0:
            _READERS[what](part, clusters.setdefault(cluster, _SlurmFacts()))
    found = {}
    for status in statuses:
        job_id = JobId.parse(status.job_id)
        facts = clusters.get(job_id.cluster or "", _SlurmFacts())
        found[status.job_id] = _explain(status, JobId.parse(plain(job_id)), facts)
    return found


def _cut(line: str, columns: Sequence[tuple[str, int]]) -> dict[str, str]:
    values, at = {}, 0
    for name, width in columns:
        values[name] = line[at : at + width].strip()
        at += width
    return values


def _read_waiting(part: Section, facts: _SlurmFacts) -> None:
    for line in part.text.splitlines():
        values = _cut(line, _WAITING)
        if values["JobArrayID"]:
            facts.waiting[values["JobArrayID"]] = values


def _read_awaited(part: Section, facts: _SlurmFacts) -> None:
    for line in part.text.splitlines():
        values = _cut(line, _AWAITED)
        number = re.match("[0-9]+", values["JobArrayID"])
        state = STATES.get(values["State"])
        if number is None or state is None:
            continue
        left = parse_duration(said_text(values["TimeLeft"]))
        left = left if state is JobState.RUNNING else None
        awaited = Awaited(job_id=number[0], state=state, left=left)
        before = facts.awaited.get(number[0])
        # Of an array whose elements are in several states: one that is not over.
        if before is None or before.state is None or before.state.is_final:
            facts.awaited[number[0]] = awaited


def _read_ahead(part: Section, facts: _SlurmFacts) -> None:
    for line in part.text.splitlines():
        job_id, _, number = line.partition(" ")
        if is_number(number):
            facts.ahead[job_id] = int(number)


def _read_nodes(part: Section, facts: _SlurmFacts) -> None:
    for line in part.text.splitlines():
        name, _, state = line.partition(" ")
        facts.nodes[name] = state.strip()


def _read_usage(part: Section, facts: _SlurmFacts) -> None:
    for line in part.text.splitlines():
        cells = line.split("|")
        if len(cells) not in (len(_USAGE), len(_USAGE) + 1):
            continue
        values = dict(zip((*_USAGE, "Reason"), cells, strict=False))
        job_id, dot, _ = values["JobID"].partition(".")
        if dot:
            facts.steps.setdefault(job_id, []).append(values)
        else:
            facts.jobs[job_id] = values  # of several runs the last one


def _read_users(part: Section, facts: _SlurmFacts) -> None:
    for line in part.text.splitlines():
        uid, _, name = line.partition(" ")
        if is_number(uid):
            facts.users[uid] = name.strip() or f"user {uid}"


_READERS = {
    "waiting": _read_waiting,
    "awaited": _read_awaited,
    "ahead": _read_ahead,
    "nodes": _read_nodes,
    "usage": _read_usage,
    "users": _read_users,
}


# --------------------------------------------------------------------------- one job


def _explain(status: JobStatus, job_id: JobId, facts: _SlurmFacts) -> Explanation:
    cause = cause_of(status)
    plainly = Explanation(status=status, cause=cause, words=status.reason, scheduler="Slurm")
    if status.state in _WAITS:
        rows = [(row_id, row) for row_id, row in facts.waiting.items() if _is_of(row_id, job_id)]
        return _waiting(plainly, rows, facts) if rows else plainly
    records = {row_id: row for row_id, row in facts.jobs.items() if _is_of(row_id, job_id)}
    if not records:
        return plainly
    usage = {row_id: _usage(row, facts.steps.get(row_id, ())) for row_id, row in records.items()}
    found = replace(plainly, usage=Usage.of_elements(list(usage.values())))
    if len(records) > 1:
        return found
    ((row_id, record),) = records.items()
    others = [
        _usage(row, facts.steps.get(other, ()))
        for other, row in facts.jobs.items()
        if other != row_id and JobId.parse(job_id.number).contains(JobId.parse(other))
    ]
    found = replace(found, others=Usage.of_elements(others))
    return _ended(found, record, facts.steps.get(row_id, ()), facts)


def _is_of(row_id: str, job_id: JobId) -> bool:
    try:
        row = JobId.parse(row_id)
    except ValueError:
        return False
    return row.matches(job_id) or job_id.contains(row) or row.contains(job_id)


def _waiting(
    found: Explanation, rows: Sequence[tuple[str, dict[str, str]]], facts: _SlurmFacts
) -> Explanation:
    # Of an array the row of those that wait.
    row_id, row = next(((i, r) for i, r in rows if said_text(r["Dependency"])), rows[-1])
    status, restarts = found.status, whole_number(row["RestartCnt"])
    if restarts and not status.restarts:
        status = status.replace(restarts=restarts)
    if found.cause is Cause.UNKNOWN and not status.raw_state and said_text(row["Reason"]):
        # A whole array: its own status has counts for a reason.
        status = status.replace(reason=row["Reason"])
    cause = cause_of(status)
    if cause is Cause.NODES_UNAVAILABLE and _are_up(row, facts):
        # Slurm says so of nodes, too, that it keeps for jobs of higher priority.
        cause = Cause.PRIORITY
    when = parse_time(said_text(row["StartTime"]), UTC)
    is_begin = cause in (Cause.BEGIN_TIME, Cause.REQUEUED)
    awaited = tuple(
        facts.awaited.get(number, Awaited(job_id=number))
        for number in _numbers(said_text(row["Dependency"]) or "")
    )
    return replace(
        found,
        status=status,
        cause=cause,
        words=status.reason,
        restarts=restarts,
        awaited=awaited,
        begins=when if is_begin else None,
        expected_start=None if is_begin or cause not in _COULD_START else when,
        ahead=facts.ahead.get(row_id) if cause in _COULD_START else None,
    )


_UP = frozenset(("idle", "mixed", "mix", "allocated", "alloc", "completing", "comp"))


def _are_up(row: dict[str, str], facts: _SlurmFacts) -> bool:
    """Whether all nodes that the reason or the job names are in service, by their states."""
    named = re.search(r"UnavailableNodes:(\S+)", row["Reason"])
    nodes = expand_hosts(named[1] if named is not None else said_text(row["ReqNodes"]))
    states = [facts.nodes.get(node, "") for node in nodes or ()]
    return bool(states) and all(state in _UP for state in states)


def _numbers(dependency: str) -> list[str]:
    """The jobs in ``afterok:4(failed),afterany:5_*+30(unfulfilled)``."""
    return list(dict.fromkeys(re.findall(r":([0-9]+)", dependency)))[:_MOST]


def _ended(
    found: Explanation,
    record: dict[str, str],
    steps: Sequence[dict[str, str]],
    facts: _SlurmFacts,
) -> Explanation:
    status, cause = found.status, found.cause
    reason = said_text(record.get("Reason"))
    if cause is Cause.CANCELLED:
        by = re.fullmatch("CANCELLED by ([0-9]+)", record["State"])
        if reason and cause_of_reason(reason) is Cause.DEPENDENCY_NEVER_SATISFIED:
            return replace(found, cause=Cause.DEPENDENCY_NEVER_SATISFIED, words=reason)
        if by is None:
            return found
        is_owner = by[1] == record["UID"]
        # Slurm itself ends jobs as its own user or as root, too, and gives a reason then.
        if not is_owner and reason and cause_of_reason(reason) is not Cause.UNKNOWN:
            return found
        cause = Cause.CANCELLED_BY_USER if is_owner else Cause.CANCELLED_BY_ADMIN
        return replace(found, cause=cause, by=facts.users.get(by[1], f"user {by[1]}"))
    usage = found.usage
    # Without cgroups a step over its memory is cancelled by root, and the job is FAILED.
    is_ended = any(step["State"] == "CANCELLED by 0" for step in steps) and status.signal == 9
    if is_ended and usage is not None and _was_too_big(usage):
        return replace(found, cause=Cause.OUT_OF_MEMORY)
    if cause is Cause.UNKNOWN and state_of(record["State"]) is status.state:
        code, number = exit_of(record["ExitCode"], status.state)
        again = status.replace(exit_code=code, signal=number, reason=reason or status.reason)
        return replace(found, status=again, cause=cause_of(again))
    return found


def _was_too_big(usage: Usage) -> bool:
    return bool(usage.memory and usage.memory_asked and usage.memory > usage.memory_asked)


# --------------------------------------------------------------------------- usage


def _tres(text: str) -> dict[str, str]:
    """``cpu=4,mem=32G,gres/gpu=1`` by name."""
    return dict(pair.split("=", 1) for pair in text.split(",") if "=" in pair)


def _usage(record: dict[str, str], steps: Sequence[dict[str, str]]) -> Usage:
    given = _tres(record["AllocTRES"])
    cpus = whole_number(record["NCPUS"])
    totals = [parse_size(_tres(step["TRESUsageInTot"]).get("mem"), unit="K") for step in steps]
    peaks = [parse_size(said_text(step["MaxRSS"]), unit="K") for step in steps]
    memory = max(filter(None, (*totals, *peaks)), default=None)
    asked = parse_size(given.get("mem"), unit="M") or _memory_asked(record, cpus)
    return Usage(
        cpus=cpus or None,
        gpus=whole_number(given.get("gres/gpu")),
        cpu_time=_cpu_time(record["TotalCPU"]),
        elapsed=spent(whole_number(record["ElapsedRaw"])),
        time_limit=parse_duration(said_text(record["Timelimit"])),
        memory=memory,
        memory_asked=asked or None,
    )


def _memory_asked(record: dict[str, str], cpus: int | None) -> int | None:
    """ReqMem: of the whole job; before 21.08 of a node (``4Gn``) or of a core (``4Gc``)."""
    text = record["ReqMem"]
    each = {"n": whole_number(record["NNodes"]), "c": cpus}.get(text[-1:], 1)
    size = parse_size(text.rstrip("nc"), unit="M")
    return size * each if size is not None and each else None


def _cpu_time(text: str) -> timedelta | None:
    """``1-02:03:04``, ``03:04.123``."""
    found = re.fullmatch(
        r"(?:([0-9]{1,6})-)?(?:([0-9]{1,9}):)?([0-9]{1,9}):([0-9]{1,9}(?:\.[0-9]{1,9})?)",
        text,
        re.ASCII,
    )
    if found is None:
        return None
    days, hours, minutes, seconds = found.groups()
    return timedelta(
        days=int(days or 0), hours=int(hours or 0), minutes=int(minutes), seconds=float(seconds)
    )
