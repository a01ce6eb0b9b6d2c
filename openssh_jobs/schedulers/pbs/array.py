"""The state of a whole array in the PBS family, from its own record and those of its members.

PBS: ``job_state`` B while it runs; the ``Exit_status`` of its record is that of the member that
ended last, and says nothing.  Torque: no exit status, Q while members are held, C when all are
over; its record and its members' have to be asked for separately.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from ...jobs import JobState, JobStatus
from ...jobs.job_id import JobId, JobIds
from ...jobs.status import array_status
from ..fields import expand_array, is_number

__all__ = ["Members", "array_of", "array_of_members", "is_array"]

_S = JobState
_OVER = frozenset("FXC")
_COUNTED = {"Queued": "pending", "Running": "running", "Exiting": "completing", "Expired": "ended"}
_ENDS = {"91": _S.CANCELLED, "92": _S.COMPLETED, "93": _S.FAILED}
_COMMENTS = (
    (re.compile(r"\bterminated\b"), _S.CANCELLED),
    (re.compile(r"\bfailed\b"), _S.FAILED),
    (re.compile(r"\bfinished\b"), _S.COMPLETED),
)
_BAD = (_S.NODE_FAIL, _S.OUT_OF_MEMORY, _S.TIMEOUT, _S.FAILED, _S.CANCELLED)


def is_array(job_id: str, attributes: Mapping[str, str]) -> bool:
    """Whether a record is that of a whole array."""
    return "[]" in job_id and "[]" in job_id.partition(".")[0] and "job_state" in attributes


def array_of(
    status: JobStatus, attributes: Mapping[str, str], members: Sequence[JobStatus]
) -> JobStatus:
    """The array's status; ``members``: those of its members that the answer holds.

    It has ended only if its own record says so and no member is active.
    """
    indices = attributes.get("array_indices_submitted") or attributes.get("job_array_request") or ""
    size = len(expand_array(indices))
    # A member without a record of its own is not known to have ended well or not, but is counted.
    is_partial = len(members) < size or any(one.state is _S.UNKNOWN for one in members)
    counts = _counts(attributes.get("array_state_count")) if is_partial or not size else None
    reason = counts or _count(members, size)
    active = [member for member in members if member.state.is_active]
    if attributes["job_state"] not in _OVER or active:
        own = status.state
        if attributes["job_state"] == "Q" and attributes.get("Hold_Types", "n") != "n":
            own = _S.HELD  # so Torque puts it
        state = _active(own, members, active, counts)
        return status.replace(
            state=state, reason=reason or status.reason, exit_code=None, signal=None, ended=None
        )
    state, why = _end(_own_end(attributes), members, size)
    comment = attributes.get("comment")
    codes = [member.exit_code for member in members if member.exit_code]
    code = 0 if state is _S.COMPLETED else max(codes, default=None) if codes else None
    return status.replace(
        state=state,
        reason="; ".join(filter(None, (reason, why, comment))) or None,
        exit_code=code if state in (_S.COMPLETED, _S.FAILED) else None,
        signal=None,
        source="accounting",
    )


def _own_end(attributes: Mapping[str, str]) -> JobState | None:
    """How the array ended by its own record; the worse of substate and comment."""
    comment = attributes.get("comment", "")
    found = [_ENDS.get(attributes.get("substate", ""))]
    found.append(next((state for word, state in _COMMENTS if word.search(comment)), None))
    ends = [end for end in found if end is not None]
    for end in (_S.CANCELLED, _S.FAILED, _S.COMPLETED):
        if end in ends:
            return end
    return None


def _end(
    own: JobState | None, members: Sequence[JobStatus], size: int
) -> tuple[JobState, str | None]:
    """How an array ended of which no member is active."""
    if own is _S.CANCELLED:
        return own, None
    bad = next((state for state in _BAD if any(member.state is state for member in members)), None)
    if bad is not None:
        return bad, None
    if own is _S.FAILED:
        return own, None
    # All that is listed ended well; an element that is not listed may have failed.
    lost = [member for member in members if member.state is not _S.COMPLETED]
    if own is _S.COMPLETED and not lost:
        return own, None
    if members and not lost and len(members) == size:
        return _S.COMPLETED, None
    if lost:
        return _S.UNKNOWN, lost[0].reason
    return _S.UNKNOWN, "it is over, and the scheduler does not say how its members ended"


def _active(
    own: JobState, members: Sequence[JobStatus], active: Sequence[JobStatus], counts: str | None
) -> JobState:
    if own is _S.HELD and all(member.state is _S.PENDING for member in active):
        return own  # PBS lists the members of an array that is held as queued
    if active and own is not _S.RUNNING:
        found = array_status("0", members, whole=False)
        if found is not None and found.state.is_active:
            return found.state
    if own.is_active:
        if own is _S.RUNNING and counts and "running" not in counts and "pending" not in counts:
            return _S.COMPLETING if "completing" in counts else own
        return own
    return _S.RUNNING


def _counts(text: str | None) -> str | None:
    """``Queued:1 Running:2 Exiting:0 Expired:1`` in our words."""
    numbers = {
        name: int(count) for name, count in re.findall(r"(\w+):([0-9]{1,9})\b", text or "")
        if name in _COUNTED
    }  # fmt: skip
    if not sum(numbers.values()):
        return None
    parts = [f"{count} {_COUNTED[name]}" for name, count in numbers.items() if count]
    return f"{sum(numbers.values())} members: {', '.join(parts)}"


def _count(members: Iterable[JobStatus], size: int) -> str | None:
    states = [member.state for member in members]
    if not states:
        return f"{size} members" if size else None
    parts = [f"{states.count(state)} {state.value}" for state in sorted(set(states))]
    if size > len(states):
        parts.append(f"{size - len(states)} not listed")
    return f"{max(size, len(states))} members: {', '.join(parts)}"


def array_of_members(job_id: str, members: Sequence[JobStatus]) -> JobStatus | None:
    """The status of an array without its own record; ``None`` if no member is active."""
    found = array_status(job_id, members)
    if found is None or not any(member.state.is_active for member in members):
        return None
    first = members[0]
    end = f"-{JobId.parse(first.job_id).tasks}"
    paths = {
        key: f"{path.removesuffix(end)}-^array_index^"
        for key in ("stdout_path", "stderr_path")
        if (path := getattr(first, key)) is not None and path.endswith(end)
    }
    state = found.state if found.state.is_active else JobState.RUNNING
    name = first.name.removesuffix(end) if first.name else None
    return found.replace(state=state, reason=_count(members, 0), name=name, **paths)


class Members:
    """The members of arrays among these jobs, found by the array's number."""

    def __init__(self, known: Mapping[str, JobStatus]) -> None:
        parsed = ((JobId.parse(text), status) for text, status in known.items())
        self._members = JobIds(
            (job_id, (job_id.tasks, status))
            for job_id, status in parsed
            if job_id.tasks is not None and is_number(job_id.tasks)
        )

    def of(self, job_id: str) -> list[JobStatus]:
        """The members of one array, one status each."""
        return list(dict(self._members.within(JobId.parse(job_id))).values())
