"""``Snapshot``: the statuses of many jobs from one answer, found by any form of an id.  Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from ..errors import InputError, SchedulerError
from .job_id import JobId
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

    def __getitem__(self, job_id: object) -> JobStatus:
        text = str(job_id)
        exact = self.known.get(text)
        if exact is not None:
            return exact
        try:
            wanted = JobId.parse(text)
        except InputError:
            raise KeyError(text) from None
        found = _find(wanted, _index(self.known).get(wanted.number, ()), whole=self.whole_arrays)
        if found is not None:
            return found
        gone = NOT_LISTED if text in self.unlisted else LEFT_QUEUE
        for ids, reason in ((self.absent, gone), (self.unknown, self._why())):
            if any(wanted.matches(JobId.parse(asked)) for asked in ids):
                return JobStatus(text, JobState.UNKNOWN, reason=reason, source=self.source)
        raise KeyError(text)

    def __contains__(self, job_id: object) -> bool:
        try:
            self[job_id]
        except KeyError:
            return False
        return True

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
        index: dict[str, list[tuple[JobId, JobStatus]]] | None = None
        for asked in wanted:
            text = str(asked)
            exact = self.known.get(text)
            if exact is None:
                job_id = JobId.parse(asked)
                text = str(job_id)
                index = index if index is not None else _index(self.known)
                candidates = index.get(job_id.number, ())
                exact = _find(job_id, candidates, whole=self.whole_arrays)
                if exact is None:
                    is_covered = covered if isinstance(covered, bool) else covered(job_id)
                    if is_covered and self.source == "queue":
                        exact = _find(job_id, candidates, whole=self.whole_arrays, over=True)
                    if exact is None:
                        (absent if is_covered else unknown).append(text)
                        continue
            known[text] = exact
        return replace(self, known=known, absent=tuple(absent), unknown=tuple(unknown))


def _index(known: Mapping[str, JobStatus]) -> dict[str, list[tuple[JobId, JobStatus]]]:
    """Statuses by the number of the job, which equivalent ids have in common."""
    index: dict[str, list[tuple[JobId, JobStatus]]] = {}
    for text, status in known.items():
        if _NUMBER.match(text):
            try:
                job_id = JobId.parse(text)
            except InputError:
                continue
            index.setdefault(job_id.number, []).append((job_id, status))
    return index


def _find(
    wanted: JobId,
    candidates: Iterable[tuple[JobId, JobStatus]],
    *,
    whole: bool,
    over: bool = False,
) -> JobStatus | None:
    """The status of an id; ``None`` if there is none, or more than one."""
    listed = list(candidates)
    same = [status for job_id, status in listed if job_id.matches(wanted)]
    if same:
        return same[0] if len(same) == 1 else None
    # The pending rest of an array is one line for many; a line for the whole array says nothing
    # of an element.
    around = [
        status
        for job_id, status in listed
        if (job_id.tasks or job_id.proc) and job_id.contains(wanted)
    ]
    if len(around) == 1 and around[0].state.is_active:
        return around[0].replace(job_id=str(wanted))
    elements = [status for job_id, status in listed if wanted.contains(job_id)]
    return array_status(str(wanted), elements, whole=whole, over=over)
