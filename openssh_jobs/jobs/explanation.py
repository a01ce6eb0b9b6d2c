"""``Explanation``: why a job waits, or what ended it, and what it used.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from ..phrases import duration, memory, moment, span
from .cause import Cause, cause_sentence
from .state import JobState
from .status import JobStatus

_S = JobState
_LEAST_MEMORY = 64 * 1024**2
_WASTED = 0.5
"""Of the memory that was asked for, the share below which less would have done."""
_STEPS = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Spread:
    """The least, the middle and the greatest of one figure over the elements of an array."""

    least: float
    middle: float
    most: float

    @classmethod
    def of(cls, figures: Iterable[float | None]) -> Spread | None:
        """That of what is known; ``None`` where nothing is."""
        known = [figure for figure in figures if figure is not None]
        return cls(min(known), median(known), max(known)) if known else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a job used of what it asked for.  ``None``: not known.

    ``cpus`` and ``gpus`` are numbers, ``cpu_time``, ``elapsed`` and ``time_limit`` durations,
    ``memory`` (the most at a time) and ``memory_asked`` bytes of the whole job.  Of an array all
    of these are those of its greediest element, and ``cpu_spread`` (0 to 1), ``memory_spread``
    (bytes) and ``elapsed_spread`` (seconds) tell of all ``elements``.
    """

    cpus: int | None = None
    gpus: int | None = None
    cpu_time: timedelta | None = None
    elapsed: timedelta | None = None
    time_limit: timedelta | None = None
    memory: int | None = None
    memory_asked: int | None = None
    elements: int = 1
    cpu_spread: Spread | None = None
    memory_spread: Spread | None = None
    elapsed_spread: Spread | None = None

    @property
    def cpu_efficiency(self) -> float | None:
        """CPU time as a share of the time of all cores, 0 to 1."""
        if self.cpu_time is None or not self.cpus or not self.elapsed:
            return None
        return min(1.0, self.cpu_time / (self.elapsed * self.cpus))

    @classmethod
    def of_elements(cls, elements: Sequence[Usage]) -> Usage | None:
        """That of an array; ``None`` without elements."""
        if not elements:
            return None
        if len(elements) == 1:
            return elements[0]
        greediest = max(elements, key=lambda one: one.memory or 0)
        seconds = [one.elapsed.total_seconds() if one.elapsed else None for one in elements]
        return cls(
            cpus=greediest.cpus,
            gpus=greediest.gpus,
            cpu_time=greediest.cpu_time,
            elapsed=greediest.elapsed,
            time_limit=greediest.time_limit,
            memory=greediest.memory,
            memory_asked=greediest.memory_asked,
            elements=len(elements),
            cpu_spread=Spread.of(one.cpu_efficiency for one in elements),
            memory_spread=Spread.of(one.memory for one in elements),
            elapsed_spread=Spread.of(seconds),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """A job that another one waits for: what the queue says of it, and its time left."""

    job_id: str
    state: JobState | None = None
    left: timedelta | None = None

    def __str__(self) -> str:
        if self.state is None:
            return self.job_id
        left = f", at most {span(self.left.total_seconds())} more" if self.left else ""
        return f"{self.job_id} ({self.state}{left})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a job waits, or what ended it.

    ``status``: the job as it was asked about.  ``words``: what the scheduler says itself.  ``by``:
    the user who cancelled it.  ``ahead``: how many jobs of its queue come first, ``awaited``: those
    that it waits for.  ``expected_start`` is the scheduler's own estimate, ``begins`` the time
    before which it was asked not to begin.  ``others``: the usage of the other elements of its
    array.  ``asked_at``: when the host was asked.
    """

    status: JobStatus
    cause: Cause
    words: str | None = None
    by: str | None = None
    ahead: int | None = None
    awaited: tuple[Awaited, ...] = ()
    expected_start: datetime | None = None
    begins: datetime | None = None
    restarts: int | None = None
    usage: Usage | None = None
    others: Usage | None = None
    scheduler: str = "the scheduler"
    notes: tuple[str, ...] = ()
    asked_at: datetime | None = None

    @property
    def next_time(self) -> dict[str, str]:
        """What to ask for next time: options of ``submit`` and their values."""
        usage, status = self.usage, self.status
        if self.cause is Cause.OUT_OF_MEMORY:
            asked = usage.memory_asked if usage is not None else None
            return {"memory": _more_memory(asked)} if asked else {}
        if self.cause in (Cause.TIME_LIMIT, Cause.CPU_TIME_LIMIT):
            limit = status.time_limit or (usage.time_limit if usage is not None else None)
            return {"time_limit": duration(limit * 2)} if limit else {}
        if self.cause is Cause.COMPLETED and usage is not None:
            enough = _enough_memory(usage)
            return {"memory": enough} if enough else {}
        return {}

    @property
    def sentence(self) -> str:
        """The state, and what it has come from, in one or two sentences of plain text."""
        status = self.status
        if status.state in (_S.PENDING, _S.HELD):
            return self._waiting()
        if status.state.is_final:
            return self._ended()
        return self._other()

    def _waiting(self) -> str:
        said = self._cause_text()
        word = str(self.status.state)
        if said is None:
            words = self.words or self.status.reason
            why = f"{self.scheduler} says {words!r}" if words else "why is not known"
            said = f"{why}; what that means is not known here" if words else why
        parts = [said if said.startswith(word) else f"{word}: {said}"]
        more = []
        if self.ahead is not None and self.cause is not Cause.PRIORITY:
            where = f" in `{self.status.queue}`" if self.status.queue else ""
            are = "1 job is" if self.ahead == 1 else f"{self.ahead or 'no'} jobs are"
            more.append(f"{are} ahead{where}")
        if self.expected_start is not None:
            more.append(f"{self.scheduler} expects it {self._at(self.expected_start)}")
        if more:
            parts.append("; ".join(more))
        parts += self.notes
        return ". ".join(part.rstrip(".") for part in parts) + "."

    def _moment(self, when: datetime) -> str:
        return moment(when, self.asked_at.astimezone().date() if self.asked_at else None)

    def _at(self, when: datetime) -> str:
        text = self._moment(when)
        return f"at {text.removeprefix('today ')}" if text.startswith("today ") else text

    def _cause_text(self) -> str | None:
        cause = self.cause
        if cause is Cause.DEPENDENCY and self.awaited:
            named = [str(job) for job in self.awaited[:_MOST_NAMED]]
            rest = len(self.awaited) - len(named)
            return f"waits for {', '.join(named)}" + (f" and {rest} more" if rest else "")
        if cause is Cause.DEPENDENCY_NEVER_SATISFIED and self.awaited:
            named = [str(job) for job in self.awaited[:_MOST_NAMED]]
            return f"{', '.join(named)} did not end as it requires, so it can never start"
        if cause is Cause.PRIORITY and self.ahead:
            are = (
                "1 job of higher priority is"
                if self.ahead == 1
                else (f"{self.ahead} jobs of higher priority are")
            )
            return f"{are} ahead" + (f" in `{self.status.queue}`" if self.status.queue else "")
        if cause is Cause.BEGIN_TIME and self.begins is not None:
            return f"it was asked to begin not before {self._moment(self.begins)}"
        if cause is Cause.REQUEUED:
            again = (
                f", and begins again not before {self._moment(self.begins)}" if self.begins else ""
            )
            times = f" ({self.restarts} times by now)" if (self.restarts or 0) > 1 else ""
            return f"{cause_sentence(cause)}{times}{again}"
        if cause is Cause.UNKNOWN:
            return None
        text = cause_sentence(cause)
        words = self.words or self.status.reason
        if words and (cause in _WITH_WORDS or cause.value.startswith(("qos_", "account_"))):
            text += f" ({words})"
        return text

    def _ended(self) -> str:
        status, cause, usage = self.status, self.cause, self.usage
        where = f" on {', '.join(status.nodes[:3])}" if status.nodes else ""
        after = f" after {duration(status.elapsed)}" if status.elapsed else ""
        word = str(status.state).replace("_", " ")
        if cause is Cause.COMPLETED:
            return f"completed, exit code 0{where}{after}."
        if cause is Cause.EXIT_CODE:
            hint = _EXIT_HINTS.get(status.exit_code or 0, "")
            return (
                f"{word}: its script ended with exit code {status.exit_code}{hint}{where}{after}."
            )
        if cause is Cause.SIGNAL:
            number = status.signal or (status.exit_code or 128) - 128
            code = f" (exit code {status.exit_code})" if (status.exit_code or 0) > 128 else ""
            return f"{word}: killed by signal {number}{code}{where}{after}."
        if cause is Cause.OUT_OF_MEMORY and usage is not None and usage.memory_asked:
            used = f", used {memory(usage.memory)}" if usage.memory else ""
            return (
                f"out of memory: asked {memory(usage.memory_asked)}{used} when it was "
                f"killed{where}{after}.{self._of_others()}"
            )
        if cause is Cause.TIME_LIMIT and status.time_limit:
            return f"{word}: its time limit of {duration(status.time_limit)} was over{where}."
        if cause in (Cause.CANCELLED_BY_USER, Cause.CANCELLED_BY_ADMIN) and self.by:
            ran = f"{where}{after}" if status.started else " before it ran"
            return f"{word}: by {self.by}{ran}."
        said = self._cause_text()
        if said is None:
            words = self.words or status.reason or status.raw_state
            said = f"{words}; what ended it is not known" if words else "what ended it is not known"
        ended = said if said.startswith(word) else f"{word}: {said}"
        return f"{ended}{where}{after}."

    def _of_others(self) -> str:
        spread = self.others.memory_spread if self.others is not None else None
        if self.others is None or spread is None:
            return ""
        return f" The other {self.others.elements} used at most {memory(spread.most)}."

    def _other(self) -> str:
        status = self.status
        if status.state is _S.UNKNOWN:
            said = cause_sentence(self.cause)
            why = status.reason or "nothing is known of it"
            return f"unknown: {said} ({why})." if said else f"unknown: {why}."
        where = f" on {', '.join(status.nodes[:3])}" if status.nodes else ""
        since = f" for {duration(status.elapsed)}" if status.elapsed else ""
        of = f" of {duration(status.time_limit)}" if since and status.time_limit else ""
        # An array says how many of its elements are in which state.
        counts = f" ({status.reason})" if " elements: " in (status.reason or "") else ""
        return f"{status.state}{where}{since}{of}{counts}."


_EXIT_HINTS = {
    126: " (a shell's code for a command that cannot be run)",
    127: " (a shell's code for a command that was not found)",
}
_WITH_WORDS = frozenset((
    Cause.NODES_UNAVAILABLE, Cause.REQUEST_UNSATISFIABLE, Cause.QUEUE_LIMIT, Cause.QUOTA,
    Cause.QUEUE_TIME_LIMIT, Cause.ERROR_STATE, Cause.LAUNCH_FAILED, Cause.HELD_AFTER_LAUNCH_FAILURE,
    Cause.NODE_FAIL, Cause.SYSTEM_FAILURE, Cause.QUEUE_NOT_ALLOWED, Cause.USER_LIMIT,
    Cause.NEVER_STARTED, Cause.QUEUE_DOWN, Cause.CONSTRAINT, Cause.MAINTENANCE,
))  # fmt: skip


def _rounded(wanted: float) -> str:
    """Bytes as ``48G`` or ``512M``, rounded up to a size that people ask for."""
    for unit, letter in ((1024**2, "M"), (1024**3, "G"), (1024**4, "T")):
        for step in _STEPS:
            if step * unit >= wanted:
                return f"{step}{letter}"
    return f"{-(-int(wanted) // 1024**4)}T"


def _more_memory(asked: int) -> str:
    """Half as much again."""
    return _rounded(asked * 1.5)


def _enough_memory(usage: Usage) -> str | None:
    """What would have done with room to spare; ``None`` where little was wasted."""
    if not usage.memory or not usage.memory_asked:
        return None
    if usage.memory > usage.memory_asked * _WASTED or usage.memory_asked <= _LEAST_MEMORY:
        return None
    enough = _rounded(max(usage.memory * 1.25, _LEAST_MEMORY))
    return enough if _bytes(enough) < usage.memory_asked else None


def _bytes(text: str) -> int:
    return int(text[:-1]) * {"M": 1024**2, "G": 1024**3, "T": 1024**4}[text[-1]]
