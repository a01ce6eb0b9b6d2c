"""Grid Engine's jobs by their script: ``qstat -j`` shows its path; the accounting does not.  Pure.

Of a job that has left the queue the accounting has its number and when it was submitted: a job
without a known submission may be the one that is looked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import inf

from ..answer import Answer
from ..base import Scheduler
from ..fields import is_number, whole_number
from ..framing import framed, read_frame, section, shell_text
from ..request import SubmitRequest
from ..tokens import TokenAnswer, are_plain, jobs_by_script

# The accounting is written 15 s late by default.
_SETTLING = 25.0
_EARLY = timedelta(hours=1)
_SCRIPT = re.compile(r"^script_file: +(.*?) *$", re.MULTILINE)
_NUMBER = re.compile(r"^jobnumber +([0-9]{1,18}) *$", re.MULTILINE | re.ASCII)
_SUBMITTED = re.compile(r"^qsub_time +(.*?) *$", re.MULTILINE)


def token_script(since: datetime) -> str:
    """The details of the jobs in the queue, and the records of those that have ended."""
    begin = (since.astimezone(UTC) - _EARLY).strftime("%Y%m%d%H%M")
    return framed(
        "TZ=UTC; export TZ\n",
        shell_text("gridengine/tokens"),
        section("tokens", "oj_tokens"),
        section(f"ended {int(since.timestamp())}", f"oj_ended {begin}"),
    )


def parse_tokens(
    scheduler: Scheduler, answer: Answer, requests: Sequence[SubmitRequest]
) -> TokenAnswer:
    """The answer to ``token_script``."""
    parts = {part.name.partition(" ")[0]: part for part in read_frame(answer.stdout) or ()}
    if parts.keys() != {"tokens", "ended"}:
        raise scheduler.error(answer, kind="transport")
    if parts["tokens"].returncode != 0:
        raise scheduler.error(parts["tokens"].answer(answer.stderr))
    head, *details = parts["tokens"].text.split(f"{parts['tokens'].mark}>")
    found: dict[str, str] = {}
    for text in details:
        number, _, rest = text.partition("\n")
        script = _SCRIPT.search(rest)
        if script is not None:
            found[number] = script[1]
    # One that has left the queue between the two questions is in the accounting, in the end.
    others = {number for number in head.split() if is_number(number) and number not in found}
    ended = parts["ended"]
    since = whole_number(ended.name.partition(" ")[2]) or 0
    if ended.returncode == 0:
        others |= _submitted_since(ended.text, since)
    return TokenAnswer(
        jobs=jobs_by_script(found.items(), requests),
        settling=_SETTLING,
        remembers=inf if ended.returncode == 0 else 0.0,
        is_whole=are_plain(requests),
        others=frozenset(others - found.keys()),
    )


def _submitted_since(text: str, since: float) -> set[str]:
    """The numbers of the jobs in the accounting that may have been submitted since then."""
    numbers = set()
    for record in re.split(r"^=+$", text, flags=re.MULTILINE):
        number, submitted = _NUMBER.search(record), _SUBMITTED.search(record)
        if number is None:
            continue
        try:
            printed = datetime.strptime(submitted[1] if submitted else "", "%a %b %d %H:%M:%S %Y")
        except ValueError:
            numbers.add(number[1])
            continue
        if printed.replace(tzinfo=UTC).timestamp() >= since - 60:
            numbers.add(number[1])
    return numbers
