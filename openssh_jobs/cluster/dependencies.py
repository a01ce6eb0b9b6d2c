"""What a submission may wait for, checked by what the journal knows, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..jobs import JobId
from ..schedulers.fields import expand_array
from .specification import job_ids

if TYPE_CHECKING:
    from .journal import Journal

_NAMES = ("after_ok", "after_any", "after_failed")


def check_dependencies(
    journal: Journal, host: str, asked: Mapping[str, Any]
) -> dict[str, tuple[str, ...]]:
    """The ids in those of ``after_ok``, ``after_any`` and ``after_failed`` that are given.

    Raises ``InputError`` for a job of another host, an element that its array does not have, and
    a job that would have to complete and to fail.
    """
    ids = {name: job_ids(asked[name], host) for name in _NAMES if asked[name] is not None}
    for job_id in ids.get("after_failed", ()):
        if job_id in ids.get("after_ok", ()):
            raise InputError(
                f"after_ok and after_failed both name the job {job_id}: that can never come true",
                host=host, advice="after_any waits for any end.",
            )  # fmt: skip
    for job_id in dict.fromkeys(one for found in ids.values() for one in found):
        parsed = JobId.parse(job_id)
        indices = expand_array(parsed.tasks or parsed.proc or "")
        row = journal.by_member(host, job_id) if indices else None
        if row is not None and row.array is not None:
            check_elements(row.job_id or parsed.number, row.array, indices, host)
    return ids


def check_elements(job_id: str, array: str, indices: Iterable[int], host: str) -> None:
    """Raise ``InputError`` for an index that the array does not have."""
    for index in indices:
        if index not in _indices(array):
            raise InputError(
                f"the array {job_id} has no element {index}",
                host=host, advice=f"It was submitted as {array}.",
            )  # fmt: skip


@lru_cache(maxsize=16)
def _indices(array: str) -> frozenset[int]:
    return frozenset(expand_array(array))
