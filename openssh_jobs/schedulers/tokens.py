"""What a scheduler says of jobs by the tokens of their submissions.  Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf

from ..jobs import JobId
from .request import SubmitRequest

__all__ = ["TokenAnswer", "are_plain", "jobs_by_script"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAnswer:
    """One complete answer about the jobs of this user.

    ``jobs``: the ids of those that carry a token, by token.  ``settling``: seconds between two
    answers after which a request that was under way at the first is seen in the second.
    ``remembers``: seconds for which a job is in such an answer after its end.  ``is_whole``: all
    jobs that carry the tokens are in it.  ``others``: ended jobs of which it does not say what they
    carry.
    """

    jobs: Mapping[str, frozenset[str]]
    settling: float = 10.0
    remembers: float = inf
    is_whole: bool = True
    others: frozenset[str] = frozenset()


def jobs_by_script(
    found: Iterable[tuple[str, str]], requests: Iterable[SubmitRequest]
) -> dict[str, frozenset[str]]:
    """The jobs, by token, whose command line ends with the script of a submission, its arguments
    behind it.

    ``found``: id and command line; the elements of an array count as the array.  The directory of
    the script must be there from the begin of a word on, and nothing below it.
    """
    listed = [(_whole(job_id), line) for job_id, line in found]
    jobs: dict[str, frozenset[str]] = {}
    for request in requests:
        ids = frozenset(job_id for job_id, line in listed if _runs(line, request))
        if ids and request.token is not None:
            jobs[request.token] = ids
    return jobs


def are_plain(requests: Iterable[SubmitRequest]) -> bool:
    """Whether no listing would write the paths of these scripts in any other way."""
    return all(_PLAIN.fullmatch(request.script) for request in requests)


_SPACE = re.compile(r"\s")
_BEFORE = " '\""
_PLAIN = re.compile(r"[A-Za-z0-9/._+@%=:-]+", re.ASCII)


def _runs(line: str, request: SubmitRequest) -> bool:
    place, name = posixpath.split(request.script)
    if request.arguments:
        # They may hold anything; that the directory begins a word is proof enough.
        at = line.find(f"{place}/")
        while at > 0 and line[at - 1] not in _BEFORE:
            at = line.find(f"{place}/", at + 1)
        return at >= 0
    before, found, last = line.rstrip().rpartition(f"{place}/")
    # Behind a space a word of its own begins: the directory was an argument of an option.
    is_name = last != "" and "/" not in last and (_SPACE.search(name) or not _SPACE.search(last))
    return bool(found and is_name) and (not before or before[-1] in _BEFORE)


def _whole(job_id: str) -> str:
    parsed = JobId.parse(job_id)
    if parsed.array is not None:
        return str(parsed.array)
    return parsed.number if parsed.component is not None else str(parsed)
