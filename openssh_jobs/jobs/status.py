"""``JobStatus``: what is known of one job, and the status of an array from its members.  Pure.

Immutable; pickles and copies.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import (
    Any,
    Final,
    Generic,
    NoReturn,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from ..errors import InputError
from .job_id import JobId
from .state import FINAL, JobState

LEFT_QUEUE: Final = "left the queue"
NOT_LISTED: Final = "the queue does not list it"
NEVER_STARTS: Final = "it can never start"
"""Stands in the reason of a pending job whose dependency cannot come true any more."""


Facts = dict[str, Any]
Build = Callable[[Any], Facts]
T = TypeVar("T")


class _FactValues(TypedDict, total=False):
    """What ``JobStatus(...)`` takes beside id and state."""

    raw_state: str | None
    reason: str | None
    name: str | None
    user: str | None
    queue: str | None
    account: str | None
    nodes: tuple[str, ...] | None
    cpus: int | None
    exit_code: int | None
    signal: int | None
    submitted: datetime | None
    started: datetime | None
    ended: datetime | None
    elapsed: timedelta | None
    time_limit: timedelta | None
    source: str | None
    directory: str | None
    stdout_path: str | None
    stderr_path: str | None
    command: str | None
    raw_id: str | None
    restarts: int | None
    expected_start: datetime | None


class _Fact(Generic[T]):
    """A field of ``JobStatus``, read from the scheduler's line when it is first wanted."""

    name: str

    def __set_name__(self, owner: type[JobStatus], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type[JobStatus]) -> _Fact[T]: ...

    @overload
    def __get__(self, instance: JobStatus, owner: type[JobStatus]) -> T | None: ...

    def __get__(self, instance: JobStatus | None, owner: type[JobStatus]) -> _Fact[T] | T | None:
        if instance is None:
            return self
        value: T | None = instance._known().get(self.name)
        return value


class JobStatus:
    """What is known of one job.  Immutable; what the host did not say is ``None``.

    Times are aware datetimes, durations ``timedelta``.  ``nodes`` are names, ``cpus`` the cores of
    the whole job, ``raw_state`` and ``reason`` the scheduler's own words, ``raw_id`` the
    scheduler's other id of the same job (Slurm's array elements have one).  ``source`` is
    ``journal``, ``queue``, ``accounting`` or ``marker``.  ``expected_start`` is the scheduler's
    estimate for a pending job.

    A parser makes one of these a line: beyond id and state they are read from the line only when
    first looked at.
    """

    # The line stays a line: 100,000 of these are no feast for the garbage collector, which looks
    # at lists and tuples but not at text.
    __slots__ = ("_build", "_facts", "job_id", "state")

    job_id: str
    state: JobState
    _build: Build
    _facts: Any

    raw_state = _Fact[str]()
    reason = _Fact[str]()
    name = _Fact[str]()
    user = _Fact[str]()
    queue = _Fact[str]()
    account = _Fact[str]()
    nodes = _Fact[tuple[str, ...]]()
    cpus = _Fact[int]()
    exit_code = _Fact[int]()
    signal = _Fact[int]()
    submitted = _Fact[datetime]()
    started = _Fact[datetime]()
    ended = _Fact[datetime]()
    elapsed = _Fact[timedelta]()
    time_limit = _Fact[timedelta]()
    source = _Fact[str]()
    directory = _Fact[str]()
    stdout_path = _Fact[str]()
    stderr_path = _Fact[str]()
    command = _Fact[str]()
    raw_id = _Fact[str]()
    restarts = _Fact[int]()
    expected_start = _Fact[datetime]()

    FIELDS: Final[tuple[str, ...]] = ("job_id", "state", *_FactValues.__annotations__)

    def __init__(self, job_id: str, state: JobState | str, **facts: Unpack[_FactValues]) -> None:
        strange = facts.keys() - set(self.FIELDS)
        if strange:
            raise TypeError(f"a JobStatus has no {', '.join(sorted(strange))}")
        _set_id(self, job_id)
        _set_state(self, JobState(state))
        _set_build(self, dict)
        _set_facts(self, {key: value for key, value in facts.items() if value is not None})

    @classmethod
    def lazily(cls, job_id: str, state: JobState, build: Build, row: Any) -> JobStatus:
        """A status whose other fields are ``build(row)``, called when one is wanted.

        ``row`` is anything but a ``dict``.
        """
        self = _new(cls)
        _set_id(self, job_id)
        _set_state(self, state)
        _set_build(self, build)
        _set_facts(self, row)
        return self

    def after(self, before: JobStatus | None, lasting: Collection[str]) -> JobStatus:
        """This status, with what it lacks of the ``lasting`` facts from an earlier one.

        Both are read only when a fact is wanted.
        """
        return JobStatus.lazily(self.job_id, self.state, _joined, (self, before, lasting))

    def repeats(self, before: JobStatus) -> bool:
        """Whether it certainly says what an earlier status said, but for the time that passed."""
        if self.state is not before.state or self.job_id != before.job_id:
            return False
        mine, other = self._facts, before._facts
        if isinstance(mine, dict) and isinstance(other, dict):
            return all(
                mine.get(name) == other.get(name)
                for name in mine.keys() | other.keys()
                if name != "elapsed"
            )
        rows_repeat = getattr(self._build, "repeats", None)
        if rows_repeat is None or self._build is not before._build:
            return False
        if isinstance(mine, dict) or isinstance(other, dict):
            return False
        return bool(rows_repeat(mine, other))

    def _known(self) -> Facts:
        facts = self._read()
        # Two threads may both build: they build the same.
        _set_facts(self, facts)
        return facts

    def _read(self) -> Facts:
        row = self._facts
        if isinstance(row, dict):
            facts: Facts = row
            return facts
        return {key: value for key, value in self._build(row).items() if value is not None}

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a JobStatus does not change: {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a JobStatus does not change: {name}")

    @property
    def is_final(self) -> bool:
        return self.state.is_final

    def as_dict(self) -> dict[str, Any]:
        """All fields by name, in the order of ``FIELDS``."""
        facts = self._known()
        rest = {name: facts.get(name) for name in self.FIELDS[2:]}
        return {"job_id": self.job_id, "state": self.state, **rest}

    def replace(self, **changes: Any) -> JobStatus:
        """A copy with other values; unknown names are a ``TypeError``."""
        facts = {"job_id": self.job_id, "state": self.state, **self._known(), **changes}
        return JobStatus(facts.pop("job_id"), facts.pop("state"), **facts)

    def filled_from(self, other: JobStatus | None) -> JobStatus:
        """This status, with what it does not know taken from another one of the same job."""
        if other is None:
            return self
        return _restore(self.job_id, self.state, {**other._known(), **self._known()})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JobStatus):
            return NotImplemented
        return (
            self.job_id == other.job_id
            and self.state == other.state
            and self._known() == other._known()
        )

    def __hash__(self) -> int:
        return hash((self.job_id, self.state))

    def __repr__(self) -> str:
        facts = "".join(f", {name}={value!r}" for name, value in self._known().items())
        return f"JobStatus({self.job_id!r}, {self.state.value!r}{facts})"

    def __reduce__(self) -> tuple[Callable[..., JobStatus], tuple[str, JobState, Facts]]:
        return _restore, (self.job_id, self.state, self._known())


# The descriptors behind the slots: the only way in, and the fastest (a parser makes 100,000).
_new = object.__new__
_set_id = JobStatus.__dict__["job_id"].__set__
_set_state = JobStatus.__dict__["state"].__set__
_set_build = JobStatus.__dict__["_build"].__set__
_set_facts = JobStatus.__dict__["_facts"].__set__


def _restore(job_id: str, state: JobState, facts: Facts) -> JobStatus:
    self = _new(JobStatus)
    _set_id(self, job_id)
    _set_state(self, state)
    _set_build(self, dict)
    _set_facts(self, facts)
    return self


def _joined(row: tuple[JobStatus, JobStatus | None, Collection[str]]) -> Facts:
    status, before, lasting = row
    # Its own row stays as it is, for ``repeats``.
    facts = dict(status._read())
    if before is not None:
        for name, value in before._known().items():
            if name in lasting:
                facts.setdefault(name, value)
    if status.state is JobState.COMPLETED:
        facts.setdefault("exit_code", 0)  # that is what every scheduler calls completed
    return facts


# --------------------------------------------------------------------------- many jobs at once

# The first of these that an ended element has is the state of its ended array.
_WORST_FIRST = (
    JobState.NODE_FAIL,
    JobState.OUT_OF_MEMORY,
    JobState.TIMEOUT,
    JobState.FAILED,
    JobState.CANCELLED,
)
_MOST_NAMED = 5
"""Failed elements that the reason of an array names."""


def array_status(
    job_id: str, elements: Iterable[JobStatus], *, whole: bool = False, over: bool = False
) -> JobStatus | None:
    """The status of a whole array (or cluster of jobs) from those of its elements.

    ``whole`` says that these are all its elements, ``over`` that all others have ended.  ``None``
    where they do not settle it: all that are listed have ended, but another one may run, or (of an
    array that is over) all that are listed have completed, but another one may have failed.
    """
    found = tuple(elements)
    if not found:
        return None
    states = {element.state for element in found}
    if JobState.UNKNOWN in states:
        state = JobState.UNKNOWN
    elif states <= FINAL:
        state = next((worst for worst in _WORST_FIRST if worst in states), JobState.COMPLETED)
        if not whole and (state is JobState.COMPLETED or not over):
            return None
    elif JobState.RUNNING in states or states & FINAL:
        state = JobState.RUNNING
    elif len(states) == 1:
        state = next(iter(states))
    else:
        order = (JobState.COMPLETING, JobState.SUSPENDED, JobState.PENDING)
        state = next((worst for worst in order if worst in states), JobState.PENDING)
    first = found[0]
    return JobStatus(
        job_id,
        state,
        reason=_counted(found),
        name=first.name,
        user=first.user,
        queue=first.queue,
        submitted=first.submitted,
        source=first.source,
        directory=first.directory,
        command=first.command,
    )


def _counted(elements: Iterable[JobStatus]) -> str:
    """How many elements are in which state, those that failed first and by name.

    A row for a range of them counts as all of them.
    """
    counts: dict[JobState, int] = {}
    failed: dict[JobState, list[str]] = {}
    more = ""
    for element in elements:
        try:
            members = JobId.parse(element.job_id).members
        except InputError:
            members = 1
        if members is None:  # a list that the scheduler cut short
            members, more = 1, " or more"
        counts[element.state] = counts.get(element.state, 0) + members
        if element.state in _WORST_FIRST and element.state is not JobState.CANCELLED:
            failed.setdefault(element.state, []).append(element.job_id)
    states = ", ".join(
        f"{counts[state]} {state.value}{_named(failed.get(state, ()))}"
        for state in sorted(counts, key=lambda state: (state not in failed, state))
    )
    return f"{sum(counts.values())}{more} elements: {states}"


def _named(ids: Sequence[str]) -> str:
    some = ", ".join(ids[:_MOST_NAMED])
    return f" ({some}{', …' if len(ids) > _MOST_NAMED else ''})" if ids else ""
