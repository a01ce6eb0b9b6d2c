"""Cards of ``status``: one job each, what it is, why it is so, what it used, what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..jobs import JobId
from ..phrases import memory
from .listed_job import ListedJob, short_path
from .output import Output, attributes, duration, moment, printable, span, terminal_width, wrapped
from .table import coloured, cut

if TYPE_CHECKING:
    from ..jobs.explanation import Explanation, Usage

_INDENT = "  "


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One job of a card: its row of the list, and what is explained of it.

    ``home``: the home directory on the host, where it is known.
    """

    job: ListedJob
    explanation: Explanation
    home: str | None = None

    def lines(self, width: int | None) -> list[str]:
        """The text, at most ``width`` columns wide but for a directory and a command."""
        lines = self.title_lines(width)
        lines += _fitted(self.explanation.sentence, width)
        usage = self.explanation.usage
        if usage is not None:
            lines += _fitted(" · ".join(_usage(usage)), width)
            lines += [line for part in _spreads(usage) for line in _fitted(part, width)]
        hint = self._wasted()
        if hint:
            lines += _fitted(hint, width)
        return lines + self._again(width)

    def title_lines(self, width: int | None) -> list[str]:
        """The first of these lines: what job it is."""
        return _fitted(self._title(width), width)

    def _title(self, width: int | None) -> str:
        """The name, the id, the directory and when it was submitted."""
        status = self.job.status
        job_id = self.job.job_id or "(none)"
        name, directory = status.name or "", short_path(self.job.directory, self.home) or ""
        if width is not None:
            name = cut(printable(name), max(8, width - len(job_id) - 5), keeps_end=False)
            directory = cut(printable(directory), width, keeps_end=True)
        parts = [f"{name} ({job_id})" if name else job_id]
        if directory:
            parts.append(directory)
        submitted = status.submitted or self.job.opened
        if submitted is not None:
            parts.append(f"submitted {moment(submitted)}")
        return " · ".join(parts)

    def _wasted(self) -> str | None:
        """The memory that would have done."""
        from ..jobs.cause import Cause

        enough = self.explanation.next_time.get("memory")
        if self.explanation.cause is not Cause.COMPLETED or enough is None:
            return None
        return f"asked for too much: memory (`--memory {enough}` would have done)"

    def _again(self, width: int | None) -> list[str]:
        """What to type next: to release it, or to submit it again with more of what it lacked."""
        from ..jobs.cause import Cause

        asked = self.explanation.next_time
        if self.explanation.cause is Cause.HELD_BY_USER and self.job.job_id is not None:
            release = shlex.join(["openssh-jobs", "release", self.job.host, self.job.job_id])
            return _fitted(f"`{release}` lets it start.", width)
        if self.explanation.cause is Cause.COMPLETED or not asked:
            return []
        options = [f"--{name.replace('_', '-')} {value}" for name, value in asked.items()]
        if self.job.token is None:
            return _fitted(f"Next time ask for more: `{' '.join(options)}`.", width)
        job_id = JobId.parse(self.job.status.job_id)
        element = next((part for part in (job_id.tasks, job_id.proc) if part), None)
        if element is not None and element.isdigit():
            options.insert(0, f"--array {element}")
            job_id = job_id.array or JobId.parse(job_id.number)
        words = shlex.join(["openssh-jobs", "submit", self.job.host, "--again", str(job_id)])
        command = f"{words} {' '.join(options)}"
        return ["Again with more:", _INDENT + printable(command)]

    def data(self) -> dict[str, Any]:
        """The same facts for ``--json``, beside those of the list."""
        found = self.explanation
        usage = found.usage
        return {
            "cause": found.cause,
            "sentence": found.sentence,
            "words": found.words,
            "by": found.by,
            "ahead": found.ahead,
            "awaited": [attributes(job) for job in found.awaited],
            "expected_start": found.expected_start,
            "begins": found.begins,
            "next_time": found.next_time,
            "usage": None
            if usage is None
            else {**attributes(usage), "cpu_efficiency": usage.cpu_efficiency},
        }


def show(cards: list[Card], output: Output) -> None:
    """Print cards, with an empty line between two of them."""
    width = terminal_width() if output.on_terminal else None
    for number, card in enumerate(cards):
        if number:
            print()
        sentence_at = len(card.title_lines(width))
        for at, line in enumerate(card.lines(width)):
            state = str(card.job.status.state)
            print(coloured(line, state, output) if at == sentence_at else line)


def _fitted(text: str, width: int | None) -> list[str]:
    line = printable(text)
    return [line] if width is None else wrapped(line, width)


def _usage(usage: Usage) -> Iterator[str]:
    """Each figure with what was asked for."""
    if usage.cpu_efficiency is not None and usage.cpus:
        cores = "1 core" if usage.cpus == 1 else f"{usage.cpus} cores"
        yield f"cpu {usage.cpu_efficiency:.0%} of {cores}"
    elif usage.cpus:
        yield f"cpu – of {usage.cpus} core{'s' if usage.cpus > 1 else ''}"
    if usage.memory_asked or usage.memory:
        used = memory(usage.memory) if usage.memory else "–"
        asked = f" of {memory(usage.memory_asked)}" if usage.memory_asked else ""
        yield f"memory {used}{asked}"
    if usage.gpus:
        yield f"gpu – of {usage.gpus}"
    if usage.elapsed is not None:
        limit = f" of {duration(usage.time_limit)}" if usage.time_limit else ""
        yield f"time {duration(usage.elapsed)}{limit}"


def _spreads(usage: Usage) -> Iterator[str]:
    if usage.elements < 2:
        return
    figures = (
        ("cpu", usage.cpu_spread, "{:.0%}".format),
        ("memory", usage.memory_spread, memory),
        ("time", usage.elapsed_spread, span),
    )
    said = [
        f"{name} {text(spread.least)} to {text(spread.most)}, in the middle {text(spread.middle)}"
        for name, spread, text in figures
        if spread is not None and spread.most > 0
    ]
    if said:
        yield f"{usage.elements} elements: {'; '.join(said)}"
