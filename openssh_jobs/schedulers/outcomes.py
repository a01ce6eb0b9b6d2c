"""What became of each job that was to be cancelled, held or released, by what was printed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from ..jobs import CancelOutcome, JobId
from ..jobs.job_id import JobIds

Sentences = Sequence[tuple[re.Pattern[str], CancelOutcome]]
"""Patterns whose first group is a job's id, and what a line that fits means."""


_BY_KIND = {
    "transport": CancelOutcome.TRANSIENT,
    "limit": CancelOutcome.TRANSIENT,
    "finished_see_history": CancelOutcome.ALREADY_FINISHED,
    "not_submit_host": CancelOutcome.INVALID_REQUEST,
    "scheduler_missing": CancelOutcome.INVALID_REQUEST,
    "unsupported": CancelOutcome.INVALID_REQUEST,
}


def outcome_of_kind(kind: str | None) -> CancelOutcome:
    """The outcome for the kind of an error; ``UNKNOWN`` for any other kind."""
    if kind in _BY_KIND:
        return _BY_KIND[kind]
    try:
        return CancelOutcome(kind or "unknown")
    except ValueError:
        return CancelOutcome.UNKNOWN


def outcomes_by_line(text: str, sentences: Sentences) -> dict[str, CancelOutcome]:
    """What each line says of a job, by the first sentence that fits."""
    outcomes: dict[str, CancelOutcome] = {}
    for line in text.splitlines():
        for pattern, outcome in sentences:
            found = pattern.search(line)
            if found is not None:
                outcomes[found[1]] = outcome
                break
    return outcomes


def outcomes_for(
    requested: Iterable[str] | None,
    outcomes: Mapping[str, CancelOutcome],
    otherwise: CancelOutcome,
) -> dict[str, CancelOutcome]:
    """The outcome for each id asked about; ``otherwise`` for those that were not mentioned."""
    if requested is None:
        return dict(outcomes)
    parsed = JobIds((JobId.parse(key), outcome) for key, outcome in outcomes.items())
    found: dict[str, CancelOutcome] = {}
    for text in requested:
        job_id = JobId.parse(text)
        said = parsed.matching(job_id)
        if not said:
            # What was said of its members, the worst first, or of the set that it belongs to.
            said = sorted(parsed.within(job_id), key=CancelOutcome.REQUESTED.__eq__)
            said += [outcome for _, outcome in parsed.around(job_id)]
        found[str(job_id)] = said[0] if said else otherwise
    return found
