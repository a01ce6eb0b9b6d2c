"""Slurm's jobs by the script in their command: squeue's ``%o``, sacct's SubmitLine.  Pure.

squeue has ended jobs for MinJobAge.  A time window of sacct that names states has what ended in it,
also what was cancelled before it could start; without states it leaves that out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from math import inf

from ..answer import Answer
from ..base import Scheduler
from ..framing import Section, framed, read_frame, section, shell_text
from ..request import SubmitRequest
from ..tokens import TokenAnswer, jobs_by_script

_QUEUE = '"$oj|%i|$oj|%o|$oj|"'
_SETTINGS = re.compile(r"^(\w+) *= (.*?) *$", re.MULTILINE)
_SECONDS = re.compile(r"([0-9]{1,9}) sec")
# All states in which a job is over (sacct(1)); those that a version does not know are an error.
_ENDED = "CA,CD,DL,F,NF,OOM,PR,TO"
_OTHER_CLUSTER = re.compile("-M|--cluster")
_WITHOUT = re.compile("Invalid field|accounting storage is disabled|not configured", re.IGNORECASE)


def token_script(since: datetime) -> str:
    """The settings that matter, the queue of this user, and what has ended since."""
    # A clock that is a little behind must not leave a job out.
    begin = (since.astimezone(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S")
    sacct = (
        'sacct -n -X -D -p --delimiter="|$oj|" -o JobIDRaw,SubmitLine -u "$(id -u)" '
        f"-S {begin} -E now -s {_ENDED} </dev/null 2>&1"
    )
    return framed(
        shell_text("slurm/tidy"),
        "unset SLURM_CLUSTERS\n",
        section("config", "scontrol show config </dev/null"),
        section("queue", f'squeue -h -a -t all -u "$(id -u)" -o {_QUEUE} </dev/null'),
        section("sacct", sacct),
    )


def parse_tokens(
    scheduler: Scheduler, answer: Answer, requests: Sequence[SubmitRequest]
) -> TokenAnswer:
    """The answer to ``token_script``; ``SchedulerError`` where a source did not answer."""
    parts = {part.name: part for part in read_frame(answer.stdout) or ()}
    if parts.keys() != {"config", "queue", "sacct"}:
        raise scheduler.error(answer, kind="transport")
    for name in ("config", "queue"):
        if parts[name].returncode != 0:
            raise scheduler.error(parts[name].answer(answer.stderr))
    settings = dict(_SETTINGS.findall(parts["config"].text))
    timeout, kept = (_seconds(settings.get(name, "")) for name in ("MessageTimeout", "MinJobAge"))
    if timeout is None or kept is None:
        raise scheduler.error(
            answer, kind="parse_error", message="scontrol did not say MinJobAge and MessageTimeout"
        )
    found = list(_rows(parts["queue"], scheduler, before="|"))
    remembers = kept or inf
    if parts["sacct"].returncode == 0:
        found += _rows(parts["sacct"], scheduler)
        remembers = inf
    elif not _WITHOUT.search(parts["sacct"].text) and parts["sacct"].returncode != 127:
        raise scheduler.error(Answer("", parts["sacct"].text, parts["sacct"].returncode))
    return TokenAnswer(
        jobs=jobs_by_script(found, requests),
        settling=2 * timeout,
        remembers=remembers,
        # Another cluster was not asked.
        is_whole=not any(map(_OTHER_CLUSTER.match, (w for r in requests for w in r.options))),
    )


def _rows(part: Section, scheduler: Scheduler, before: str = "") -> Iterator[tuple[str, str]]:
    """(id, command line) of a listing whose cells end with the mark."""
    *cells, rest = part.text.split(f"|{part.mark}|")
    if len(cells) % 2 or rest.strip():
        message = f"a line of {part.name} is not a job: {rest.strip()[:80]!r}"
        raise scheduler.error(part.answer(), kind="parse_error", message=message)
    for job_id, line in zip(cells[::2], cells[1::2], strict=True):
        yield job_id.strip().removeprefix(f"{part.mark}{before}"), line


def _seconds(text: str) -> float | None:
    found = _SECONDS.match(text)
    return float(found[1]) if found is not None else None
