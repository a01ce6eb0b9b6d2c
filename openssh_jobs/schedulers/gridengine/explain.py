"""Why Grid Engine's jobs wait, and what they used: qstat and qacct in one round trip.  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, timedelta

from ...jobs import JobId, JobState, JobStatus
from ...jobs.cause import Cause
from ...jobs.explanation import Awaited, Explanation, Usage
from ..answer import Answer
from ..fields import is_number, parse_size, parse_time, spent, whole_number
from ..framing import Section, framed, read_frame, section, shell_text
from .causes import cause_of, cause_of_messages, messages
from .limits import read_limits

_MOST = 20
"""Jobs of one call: qstat and qacct take one id each, and qacct reads its whole file for it."""
_WAITS = (JobState.PENDING, JobState.HELD)
_HOLDS = {"hu": Cause.HELD_BY_USER, "ho": Cause.HELD_BY_ADMIN, "hs": Cause.HELD_BY_SYSTEM}


@dataclass
class _GridEngineFacts:
    details: dict[str, str] = field(default_factory=dict)
    holds: dict[str, list[Cause]] = field(default_factory=dict)
    limits: dict[str, dict[str, str]] = field(default_factory=dict)
    ahead: dict[str, int] = field(default_factory=dict)
    records: dict[str, list[Mapping[str, str]]] = field(default_factory=dict)


def explain_script(statuses: Sequence[JobStatus]) -> str | None:
    """A script about these jobs; ``None`` where there is nothing to ask."""
    waiting = _numbers(status for status in statuses if status.state in _WAITS)
    ended = _numbers(status for status in statuses if status.state.is_final)
    parts = [shell_text("gridengine/explain", most=_MOST)]
    if waiting:
        listed = " ".join(waiting)
        parts.append(section("details", f"oj_details {listed}"))
        parts.append(section("limits", "oj_queues"))
        parts.append(section("holds", "oj_holds"))
        parts.append(section("ahead", f"oj_ahead {listed}"))
    if ended:
        parts.append(section("records", f"oj_records {' '.join(ended)}"))
    return framed(*parts) if waiting or ended else None


def _numbers(statuses: object) -> list[str]:
    numbers = (JobId.parse(status.job_id).number for status in statuses)  # type: ignore[attr-defined]
    return [number for number in dict.fromkeys(numbers) if is_number(number)][:_MOST]


def parse_explanations(answer: Answer, statuses: Sequence[JobStatus]) -> dict[str, Explanation]:
    """What the answer adds to each status."""
    facts = _GridEngineFacts()
    for part in read_frame(answer.stdout) or []:
        if part.returncode == 0:
            _READERS[part.name](part, facts)
    return {status.job_id: _explain(status, facts) for status in statuses}


def _pieces(part: Section) -> list[tuple[str, str]]:
    pieces = [piece.partition("\n") for piece in part.text.split(f"{part.mark}>")[1:]]
    return [(name, text) for name, _, text in pieces]


def _read_details(part: Section, facts: _GridEngineFacts) -> None:
    for number, text in _pieces(part):
        if re.search(rf"^job_number:\s+{re.escape(number)}\s*$", text, re.MULTILINE):
            facts.details[number] = text


def _read_holds(part: Section, facts: _GridEngineFacts) -> None:
    for kind, text in _pieces(part):
        for number in text.split():
            if kind in _HOLDS:
                facts.holds.setdefault(number, []).append(_HOLDS[kind])


def _read_limits(part: Section, facts: _GridEngineFacts) -> None:
    facts.limits.update(read_limits(part.text))


def _read_ahead(part: Section, facts: _GridEngineFacts) -> None:
    for line in part.text.splitlines():
        number, _, before = line.partition(" ")
        if is_number(number) and is_number(before):
            facts.ahead[number] = int(before)


def _read_records(part: Section, facts: _GridEngineFacts) -> None:
    for number, text in _pieces(part):
        for block in re.split(r"^={20,}\s*\n", text, flags=re.MULTILINE):
            attributes: dict[str, str] = {}
            for line in block.splitlines():
                key, _, value = line.partition(" ")
                attributes.setdefault(key, value.strip())
            if attributes.get("jobnumber") == number:
                facts.records.setdefault(number, []).append(attributes)


_READERS = {
    "details": _read_details,
    "limits": _read_limits,
    "holds": _read_holds,
    "ahead": _read_ahead,
    "records": _read_records,
}


# --------------------------------------------------------------------------- one job


def _explain(status: JobStatus, facts: _GridEngineFacts) -> Explanation:
    job_id = JobId.parse(status.job_id)
    cause = cause_of(status)
    plainly = Explanation(status=status, cause=cause, words=status.reason, scheduler="Grid Engine")
    if status.state in _WAITS:
        text = facts.details.get(job_id.number)
        return _waiting(plainly, job_id.number, text, facts)
    records = [
        record
        for record in facts.records.get(job_id.number, ())
        if job_id.proc in (None, record.get("taskid"))
    ]
    if not records or not status.state.is_final:
        return plainly
    last = {record.get("taskid", ""): record for record in records}  # of several runs the last
    found = replace(plainly, usage=Usage.of_elements([_usage(one) for one in last.values()]))
    if cause is Cause.TIME_LIMIT and _was_cpu_time(records[-1]):
        found = replace(found, cause=Cause.CPU_TIME_LIMIT)
    deleted = records[-1].get("deleted_by", "NONE")
    if cause in (Cause.CANCELLED_BY_USER, Cause.CANCELLED_BY_ADMIN) and deleted != "NONE":
        found = replace(found, by=deleted.partition("@")[0])
    return found


def _waiting(
    found: Explanation, number: str, text: str | None, facts: _GridEngineFacts
) -> Explanation:
    holds = facts.holds.get(number, [])
    if found.status.state is JobState.HELD and holds:
        found = replace(found, cause=holds[0])
    if text is None:
        return found
    awaited = tuple(
        Awaited(job_id=job)
        for job in re.findall("[0-9]+", _attribute(text, "jid_predecessor_list") or "")[:_MOST]
    )
    begins = parse_time(_attribute(text, "execution_time"), UTC)
    found = replace(found, awaited=awaited, begins=begins)
    if found.status.state is JobState.HELD:
        return found
    lines = messages(text)
    if found.cause in (Cause.DEPENDENCY, Cause.REQUEUED, Cause.DEPENDENCY_NEVER_SATISFIED):
        return found
    if lines is None:
        note = "The scheduler's reasons are turned off here; `qalter -w p " + number + "` asks it"
        return replace(found, notes=(note,))
    queues = (_attribute(text, "hard_queue_list") or "").split(",")
    asked = _limit_asked(_attribute(text, "hard resource_list") or "")
    too_short = {queue for queue in facts.limits if _is_too_short(facts.limits[queue], asked)}
    cause, line = cause_of_messages(lines, [queue for queue in queues if queue], too_short)
    if cause is Cause.UNKNOWN and found.status.raw_state == "qw" and not lines:
        cause = Cause.NOT_CONSIDERED
    ahead = facts.ahead.get(number) if cause is Cause.RESOURCES else None
    return replace(found, cause=cause, words=line or found.words, ahead=ahead)


def _limit_asked(resources: str) -> timedelta | None:
    found = re.search(r"\bh_rt=([0-9:]+)", resources)
    return _limit(found[1]) if found is not None else None


def _is_too_short(queue: Mapping[str, str], asked: timedelta | None) -> bool:
    """Whether a queue's own limit is below what a job asks for."""
    limit = _limit(queue.get("h_rt", ""))
    return asked is not None and limit is not None and asked > limit


def _attribute(text: str, name: str) -> str | None:
    found = re.search(rf"^{name}(?: [0-9]+| \(req\))?:\s+(\S.*)$", text, re.MULTILINE)
    return found[1].strip() if found is not None else None


# --------------------------------------------------------------------------- usage


def _was_cpu_time(record: Mapping[str, str]) -> bool:
    """Whether it was the CPU time that reached what the job asked for, not the time."""
    asked = {
        name: _limit(value)
        for name, value in re.findall(r"\b(h_rt|h_cpu)=([0-9:]+)", record.get("category", ""))
    }
    used = {"h_rt": _number(record.get("ru_wallclock")), "h_cpu": _number(record.get("cpu"))}

    def reached(name: str) -> bool:
        limit, spent_seconds = asked.get(name), used[name]
        return bool(limit and spent_seconds and spent_seconds >= limit.total_seconds())

    return reached("h_cpu") and not reached("h_rt")


def _usage(record: Mapping[str, str]) -> Usage:
    slots = whole_number(record.get("slots"))
    asked = re.search(r"\bh_vmem=([0-9.]+[kKmMgGtT]?)", record.get("category", ""))
    limit = re.search(r"\bh_rt=([0-9:]+)", record.get("category", ""))
    each = parse_size(asked[1]) if asked is not None else None
    seconds = _number(record.get("ru_wallclock"))
    cpu = _number(record.get("cpu"))
    return Usage(
        cpus=slots,
        cpu_time=timedelta(seconds=cpu) if cpu is not None else None,
        elapsed=spent(int(seconds)) if seconds is not None else None,
        time_limit=_limit(limit[1]) if limit is not None else None,
        memory=_bytes(record.get("maxvmem")),
        memory_asked=each * (slots or 1) if each else None,
    )


def _number(text: str | None) -> float | None:
    found = re.match(r"[0-9]{1,10}(?:\.[0-9]{1,9})?", text or "", re.ASCII)
    return float(found[0]) if found is not None else None


def _limit(text: str) -> timedelta | None:
    seconds = 0
    if not text:
        return None
    for part in text.split(":"):
        if not is_number(part or "0"):
            return None
        seconds = seconds * 60 + int(part or 0)
    return spent(seconds)


def _bytes(text: str | None) -> int | None:
    """``210.922MB``, ``1.789G``; 0 is what was never measured."""
    found = re.match(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)([KMGT]?)B?\s*$", text or "", re.ASCII)
    if found is None:
        return None
    power = "_KMGT".index(found[2] or "_")
    return int(float(found[1]) * 1024**power) or None
