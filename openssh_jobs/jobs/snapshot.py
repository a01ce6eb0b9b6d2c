"""``Snapshot``: the statuses of many jobs from one answer, found by any form of an id.  Pure."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ..errors import InputError, SchedulerError
from .job_id import JobId, JobIds
from .state import JobState
from .status import LEFT_QUEUE, NOT_LISTED, JobStatus, array_status

_NUMBER = re.compile(r"[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One answer of a queue or an accounting: what it said, and what it did not say.

    ``known`` maps ids to statuses.  ``absent`` are ids that a complete answer which covered them
    does not list: the queue has them no more (or never had).  ``unknown`` are ids of which nothing
    can be said.  ``unparsed`` keeps the odd lines.  ``error`` is why there is no answer.
    ``taken_at`` is when the query began (set by who asked).  ``whole_arrays``: of an array that is
    listed, every element is.  ``submitted_per_run``: a job that is sent back to the queue has a
    later time of submission from then on; a record with an earlier one is not of its last run.
    ``tries``: ids whose last record is of a start that failed; the queue may try them again.
    ``unlisted``: those of ``absent`` that no answer so far has listed.

    ``snapshot[id]`` takes an id in any equivalent form (a PBS server left out), answers an absent
    or unknown one with the state ``unknown``, and raises ``KeyError`` for one not asked about.
    Iterating gives the ids, as with a ``dict``: known, absent and unknown ones.
    """

    known: Mapping[str, JobStatus] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    unparsed: tuple[str, ...] = ()
    error: SchedulerError | None = None
    taken_at: datetime | None = None
    source: str = "queue"
    whole_arrays: bool = False
    submitted_per_run: bool = False
    tries: frozenset[str] = frozenset()
    unlisted: frozenset[str] = frozenset()
    # Made when an id in another form is looked for; not copied by ``replace``.
    _indexes: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def __getitem__(self, job_id: object) -> JobStatus:
        text = str(job_id)
        exact = self.known.get(text)
        if exact is not None:
            return exact
        try:
            wanted = JobId.parse(text)
        except InputError:
            raise KeyError(text) from None
        known, absent, unknown = self._indexed()
        found = _find(wanted, known, whole=self.whole_arrays)
        if found is not None:
            return found
        gone = NOT_LISTED if text in self.unlisted else LEFT_QUEUE
        for ids, reason in ((absent, gone), (unknown, self._why())):
            if ids.matching(wanted):
                return JobStatus(text, JobState.UNKNOWN, reason=reason, source=self.source)
        raise KeyError(text)

    def _indexed(self) -> tuple[JobIds[JobStatus], JobIds[None], JobIds[None]]:
        """The ids in ``known``, ``absent`` and ``unknown``."""
        if not self._indexes:
            silent = [
                JobIds((JobId.parse(asked), None) for asked in ids)
                for ids in (self.absent, self.unknown)
            ]
            self._indexes.append((_index(self.known), *silent))
        found: tuple[JobIds[JobStatus], JobIds[None], JobIds[None]] = self._indexes[0]
        return found

    def __contains__(self, job_id: object) -> bool:
        try:
            self[job_id]
        except KeyError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter((*self.known, *self.absent, *self.unknown))

    def _why(self) -> str:
        return self.error.message if self.error is not None else "the answer does not say"

    def select(
        self, wanted: Iterable[object], *, covered: Callable[[JobId], bool] | bool = True
    ) -> Snapshot:
        """The same answer for these ids only, each under the text it was asked by.

        ``covered`` says of an id whether this answer would have listed it: then a missing one is
        absent, else unknown.  What a queue covers and does not list runs no more, so that the
        listed elements of an array without an active one may tell that it has failed.
        """
        known: dict[str, JobStatus] = {}
        absent: list[str] = []
        unknown: list[str] = []
        index: JobIds[JobStatus] | None = None
        for asked in wanted:
            text = str(asked)
            exact = self.known.get(text)
            if exact is None:
                job_id = JobId.parse(asked)
                text = str(job_id)
                index = index if index is not None else _index(self.known)
                exact = _find(job_id, index, whole=self.whole_arrays)
                if exact is None:
                    is_covered = covered if isinstance(covered, bool) else covered(job_id)
                    is_covered = is_covered and not index.is_cut(job_id)
                    if is_covered and self.source == "queue":
                        exact = _find(job_id, index, whole=self.whole_arrays, over=True)
                    if exact is None:
                        (absent if is_covered else unknown).append(text)
                        continue
            known[text] = exact
        return replace(self, known=known, absent=tuple(absent), unknown=tuple(unknown))


def _index(known: Mapping[str, JobStatus]) -> JobIds[JobStatus]:
    """Statuses by their ids, for other forms of these."""

    def parsed() -> Iterator[tuple[JobId, JobStatus]]:
        for text, status in known.items():
            if _NUMBER.match(text):
                with contextlib.suppress(InputError):
                    yield JobId.parse(text), status

    return JobIds(parsed())


def _find(
    wanted: JobId, listed: JobIds[JobStatus], *, whole: bool, over: bool = False
) -> JobStatus | None:
    """The status of an id; ``None`` if there is none, or more than one."""
    same = listed.matching(wanted)
    if same:
        return same[0] if len(same) == 1 else None
    # The pending rest of an array is one line for many; a line for the whole array says nothing
    # of an element.
    around = [status for job_id, status in listed.around(wanted) if job_id.tasks or job_id.proc]
    if len(around) == 1 and around[0].state.is_active:
        return around[0].replace(job_id=str(wanted))
    return array_status(str(wanted), listed.within(wanted), whole=whole, over=over)
