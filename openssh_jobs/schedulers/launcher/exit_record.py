"""Exit records: what launchers wrote beside their scripts, and what it says of the jobs.  Pure.

A record is one line, in a separate file: ``start`` or ``exit``, job, member and restart, and then
node, process, time and size of the array, or exit code and time; it ends in a dot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ...files.private_directory import functions
from ...jobs import JobState, JobStatus
from ..fields import epoch, quote, shell_path
from .launcher import BODY

__all__ = [
    "NEVER_STARTED",
    "Run",
    "SubmissionRecords",
    "read_records",
    "records_script",
    "status_from_records",
]

NEVER_STARTED = "no exit record was written: it never started"
"""Of a job that has a launcher."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One start of a job: what its launcher wrote.  ``code`` is ``None`` without an exit."""

    restart: int
    node: str | None = None
    started: datetime | None = None
    code: int | None = None
    ended: datetime | None = None


@dataclass(slots=True)
class SubmissionRecords:
    """What lies beside one submission: the last run of each (job, member), and the array's size.

    ``member`` is ``None`` outside an array.  ``wrapped``: whether there was a launcher at all;
    ``None`` where the directory is gone.  ``refused``: others could have written there.
    """

    wrapped: bool | None = None
    refused: bool = False
    members: int = 0
    runs: dict[tuple[str, str | None], Run] = field(default_factory=dict)


def records_script(places: Mapping[str, str | tuple[str, str]]) -> str:
    """A script that prints what the launchers wrote, by mark (letters and digits) and place.

    A place is the directory of a job and a token; what the check for private directories does not
    pass is not read.  One that is a directory itself is entered as it is.
    """
    lines = [functions()]
    for mark, place in places.items():
        if isinstance(place, str):
            enter = f"cd -- {shell_path(place)} 2>/dev/null"
        else:
            enter = " ".join(("oj_find", *map(quote, place)))
        lines.append(
            f"printf '%s\\n' 'at {mark}'\n"
            f"if {enter}; then\n"
            f"  if [ -d {BODY} ]; then echo wrapped; else echo plain; fi\n"
            "  find . -type f '(' -name 'start.*' -o -name 'exit.*' ')' -exec cat '{}' +"
            " 2>/dev/null\n"
            "  echo\n"
            'elif [ $? -eq 1 ] && [ -n "$oj_why" ]; then echo refused\n'
            "fi"
        )
    return "\n".join((*lines, "printf '%s\\n' done"))


_LINE = re.compile(
    r"(?P<what>start|exit) (?P<job>[0-9]+) (?P<member>[0-9]+|-) (?P<restart>[0-9]{1,9})"
    r" (?:(?P<node>\S+) [0-9]+ (?P<started>[0-9]{1,12}) (?P<members>[0-9]{1,9})"
    r"|(?P<code>[0-9]{1,3}) (?P<ended>[0-9]{1,12})) \.",
    re.ASCII,
)


def read_records(answer: str) -> dict[str, SubmissionRecords] | None:
    """What each place holds; ``None`` for an answer that is cut off.

    Only whole lines count: a file that is being copied or was cut by a full disk says nothing.
    """
    if not answer.endswith("done\n"):
        return None
    found: dict[str, SubmissionRecords] = {}
    at = SubmissionRecords()
    for line in answer.splitlines():
        if line.startswith("at "):
            at = found.setdefault(line[3:], SubmissionRecords())
        elif line in ("wrapped", "plain"):
            at.wrapped = line == "wrapped"
        elif line == "refused":
            at.refused = True
        else:
            match = _LINE.fullmatch(line)
            if match is not None and (match["code"] is not None) == (match["what"] == "exit"):
                _note(at, match)
    return found


def _note(at: SubmissionRecords, match: re.Match[str]) -> None:
    key = match["job"], None if match["member"] == "-" else match["member"]
    restart = int(match["restart"])
    before = at.runs.get(key)
    if before is not None and before.restart > restart:
        return  # of an earlier run
    kept = before if before is not None and before.restart == restart else Run(restart=restart)
    if match["what"] == "start":
        at.members = max(at.members, int(match["members"]))
        at.runs[key] = Run(
            restart=restart, node=match["node"], started=epoch(int(match["started"])),
            code=kept.code, ended=kept.ended,
        )  # fmt: skip
    else:
        at.runs[key] = Run(
            restart=restart, node=kept.node, started=kept.started,
            code=int(match["code"]), ended=epoch(int(match["ended"])),
        )  # fmt: skip


def status_from_records(
    records: SubmissionRecords, job_id: str, number: str, member: str | None
) -> JobStatus | str:
    """How a job ended by its exit record, or why that does not say.

    ``member``: its number in an array; ``None`` for a whole job or array.
    """
    if records.refused:
        return "others can write where its exit record lies, so it is not believed"
    if records.wrapped is None:
        return "the directory of the submission is gone"
    if not records.wrapped:
        return "it was submitted without a launcher, so there is no exit record"
    run = records.runs.get((number, member))
    if run is not None:
        return _status(job_id, [run])
    if member is not None:
        return NEVER_STARTED
    runs = [
        member_run for (job, index), member_run in records.runs.items() if job == number and index
    ]
    if not runs:
        return NEVER_STARTED
    ended = [member_run for member_run in runs if member_run.code is not None]
    if not records.members or len(ended) != records.members:
        size = records.members or "an unknown number of"
        return f"{len(ended)} of {size} members of the array wrote how they ended"
    return _status(job_id, runs)


def _status(job_id: str, runs: Sequence[Run]) -> JobStatus | str:
    worst = max(runs, key=lambda run: run.code or 0)
    if any(run.code is None for run in runs):
        open_run = next(run for run in runs if run.code is None)
        return f"started on {open_run.node}, no exit was written: killed, or the node died"
    code = worst.code or 0
    started, ended = _all(run.started for run in runs), _all(run.ended for run in runs)
    first, last = min(started, default=None), max(ended, default=None)
    nodes = tuple(dict.fromkeys(run.node for run in runs if run.node))
    return JobStatus(
        job_id,
        JobState.FAILED if code else JobState.COMPLETED,
        reason=f"exit status {code}" if code else None,
        exit_code=code,
        signal=code - 128 if 128 < code < 193 else None,
        nodes=nodes or None,
        started=first,
        ended=last,
        elapsed=last - first if first and last and last >= first else None,
        restarts=max(run.restart for run in runs) or None,
        source="marker",
    )


def _all(times: Iterable[datetime | None]) -> list[datetime]:
    return [time for time in times if time is not None]
