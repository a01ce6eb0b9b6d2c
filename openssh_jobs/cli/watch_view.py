"""``View``: what ``watch`` shows, which job is chosen, and which are hidden by the filter."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from ..jobs import JobState
from .listed_job import JOBS, ListedJob, ages, counts
from .output import printable, wrapped
from .table import OutputTable, cut, has_colour
from .watched_hosts import Trouble

_BAR = 8
"""Characters of the bar for elapsed of limit."""
_KEYS = "q quit · Enter card · t output · f fetch · c cancel · / filter"
_STEPS = {"up": -1, "k": -1, "down": 1, "j": 1, "home": -(10**9), "end": 10**9}
_LONGEST_GUESS = 600
"""Seconds after an answer for which a job is taken to run on."""
GOES_ON = (JobState.RUNNING, JobState.COMPLETING)


class View:
    """The state of the screen; it draws lines and takes keys, and does nothing to jobs."""

    def __init__(self) -> None:
        self.jobs: Sequence[ListedJob] = ()
        self._others = 0
        self._at = 0
        self._key: tuple[str, str] | None = None
        self._first = 0
        self._room = 1
        self._filter = ""
        self._is_typing = False
        self.question: ListedJob | None = None
        """The job that is cancelled if the next key is y."""

    # ------------------------------------------------------------------ jobs

    def take(self, jobs: Sequence[ListedJob], others: int) -> None:
        """Show these; the chosen job stays chosen wherever it is now."""
        self.jobs, self._others = jobs, others
        self._choose_again()

    @property
    def shown(self) -> list[ListedJob]:
        """The jobs that the filter leaves."""
        if not self._filter:
            return list(self.jobs)
        return [job for job in self.jobs if self._filter.lower() in _text(job).lower()]

    @property
    def chosen(self) -> ListedJob | None:
        """The job under the mark."""
        shown = self.shown
        return shown[self._at] if shown else None

    def _choose_again(self) -> None:
        keys = [_key(job) for job in self.shown]
        if self._key in keys:
            self._at = keys.index(self._key)
        self._at = max(0, min(self._at, len(keys) - 1))
        self._key = keys[self._at] if keys else None

    # ------------------------------------------------------------------ keys

    def takes_text(self, key: str) -> bool:
        """Whether the key was for the filter or for moving, and is done with."""
        if self.question is not None:
            return False
        if self._is_typing:
            self._type(key)
        elif key == "/":
            self._is_typing, self._filter = True, ""
        elif key == "escape":
            self._filter = ""
        elif key in _STEPS:
            self._move(_STEPS[key])
        elif key in ("page up", "page down"):
            self._move(self._room if key == "page down" else -self._room)
        else:
            return False
        self._choose_again()
        return True

    def _type(self, key: str) -> None:
        if key in ("enter", "escape"):
            self._is_typing = False
            self._filter = "" if key == "escape" else self._filter
        elif key == "backspace":
            self._filter = self._filter[:-1]
        elif len(key) == 1 and key.isprintable():
            self._filter += key

    def _move(self, step: int) -> None:
        shown = self.shown
        self._at = max(0, min(self._at + step, len(shown) - 1))
        self._key = _key(shown[self._at]) if shown else None

    # ------------------------------------------------------------------ the picture

    def lines(
        self,
        columns: int,
        rows: int,
        troubles: Mapping[str, Trouble],
        last_line: str = "",
        message: str = "",
    ) -> list[str]:
        """The whole screen.

        ``troubles``: why jobs of a host are shown as last known.  ``last_line``: of the chosen
        job's output.
        """
        now = time.time()
        below = self._below(columns, troubles, last_line, message)[-max(1, rows - 2) :]
        self._room = max(1, rows - 1 - len(below))
        shown = [_as_of_now(job, job.host in troubles, now) for job in self.shown]
        self._first = max(self._at - self._room + 1, min(self._first, self._at))
        self._first = max(0, min(self._first, len(shown) - self._room))
        table = _table(troubles).lines(shown, columns - 2, colour=has_colour())
        if not table:
            table = ["No jobs." if not self.jobs else f"No job has {printable(self._filter)!r}."]
        head, body = table[0], table[1:]
        window = body[self._first : self._first + self._room]
        lines = [f"  {head}"]
        for at, line in enumerate(window, self._first):
            lines.append(f"{'> ' if at == self._at else '  '}{line}")
        lines += [""] * (self._room + 1 - len(lines))
        return lines + below

    def _below(
        self, columns: int, troubles: Mapping[str, Trouble], last_line: str, message: str
    ) -> list[str]:
        """What stands below the table, the most telling last."""
        shown = self.shown
        said = counts(shown) if shown else ""
        if self._others:
            said += f" {self._others} more ended lately."
        found = wrapped(f"{said} {ages(self.jobs, time.time())}".strip(), columns)
        found += [trouble.sentence for trouble in troubles.values()]
        if last_line:
            found.append(last_line)
        if self.question is not None:
            job = self.question
            name = f" ({job.status.name})" if job.status.name else ""
            last = f"Cancel {job.status.job_id}{name} on {job.host}? y/n"
        elif self._is_typing:
            last = f"/{self._filter}_"
        else:
            last = message or (f"/{self._filter}  (Esc shows all)" if self._filter else _KEYS)
        return [cut(printable(line), columns) for line in [*found, last]]


def _key(job: ListedJob) -> tuple[str, str]:
    return job.host, job.status.job_id or job.token or ""


def _text(job: ListedJob) -> str:
    status = job.status
    parts = (job.host, status.job_id, status.name, str(status.state), job.directory)
    return " ".join(filter(None, parts))


def _as_of_now(job: ListedJob, is_old: bool, now: float) -> ListedJob:
    """The job with the time that went by since its host was asked, while that answers.

    Not after a sleep of this machine: the job may have ended long ago.
    """
    elapsed = job.status.elapsed
    if is_old or elapsed is None or job.as_of is None or job.status.state not in GOES_ON:
        return job
    more = max(0, round(now - job.as_of))
    if more > _LONGEST_GUESS:
        return job
    return replace(job, status=job.status.replace(elapsed=elapsed + timedelta(seconds=more)))


def _table(troubles: Mapping[str, Trouble]) -> OutputTable[ListedJob]:
    """The columns of ``list``, with a bar, and with why a host's jobs may be old."""
    whole = {column.key: column for column in JOBS.columns}
    usual_why, usual_spent = whole["why"], whole["spent"]

    def why(job: ListedJob) -> str:
        if job.host in troubles and job.is_open and job.job_id is not None:
            return troubles[job.host].words
        return str(usual_why.value(job))

    def spent(job: ListedJob) -> str:
        text = str(usual_spent.value(job))
        elapsed, limit = job.status.elapsed, job.status.time_limit
        if not elapsed or not limit or job.status.state not in GOES_ON:
            return text
        return f"{bar(elapsed / limit)} {text}"

    whole["why"] = replace(usual_why, get=why, least=24 if troubles else usual_why.least)
    whole["spent"] = replace(usual_spent, get=spent)
    return OutputTable(*whole.values())


def bar(share: float) -> str:
    """``[####----]`` for a half."""
    full = max(0, min(_BAR, round(share * _BAR)))
    return f"[{'#' * full}{'-' * (_BAR - full)}]"
