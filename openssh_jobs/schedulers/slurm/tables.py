"""The tables that squeue and sacct print, in every form that people have.  Pure.

Field names: squeue(1) ``--format`` and ``--Format``, sacct(1) ``--helpformat``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Any, Final

from ...jobs import JobState, JobStatus
from ..fields import expand_hosts, is_number, parse_duration, parse_time, spent, whole_number
from ..rows import Rows
from .states import (
    LONG_STATES,
    STATES,
    exit_of,
    has_begun,
    is_held,
    is_job_id,
    may_be_state,
    said_number,
    said_text,
    state_of,
    told_exit,
    told_reason,
)

# --------------------------------------------------------------------------- columns

_BY_LETTER: Final = {
    "i": "id", "A": "raw_id", "F": "array_id", "K": "task", "t": "state", "T": "state",
    "r": "reason", "R": "nodelist_reason", "j": "name", "u": "user", "P": "queue",
    "a": "account", "M": "elapsed", "l": "time_limit", "N": "nodelist", "C": "cpus",
    "V": "submitted", "S": "started", "e": "ended", "Z": "directory", "o": "command",
}  # fmt: skip
_BY_NAME: Final = {
    "jobid": "id", "jobarrayid": "id", "jobidraw": "raw_id", "arrayjobid": "array_id",
    "arraytaskid": "task", "state": "state", "st": "state", "statecompact": "state",
    "reason": "reason", "reasonlist": "nodelist_reason", "nodelist(reason)": "nodelist_reason",
    "name": "name", "jobname": "name", "user": "user", "username": "user",
    "partition": "queue", "account": "account", "time": "elapsed", "timeused": "elapsed",
    "elapsed": "elapsed", "elapsedraw": "elapsed_seconds", "timelimit": "time_limit",
    "timelimi": "time_limit", "nodelist": "nodelist", "cpus": "cpus", "numcpus": "cpus",
    "ncpus": "cpus", "alloccpus": "cpus", "submittime": "submitted", "submit": "submitted",
    "starttime": "started", "start": "started", "endtime": "ended", "end": "ended",
    "workdir": "directory", "stdout": "stdout_path", "stderr": "stderr_path",
    "command": "command", "submitline": "command", "exitcode": "exit", "exit_code": "exit",
    "restartcnt": "restarts", "restarts": "restarts", "cluster": "cluster",
}  # fmt: skip


def column_named(word: str) -> str:
    """The field that a column header (or a name given to ``-O`` or sacct's ``-o``) stands for."""
    word = word.strip().lower()
    return _BY_NAME.get(word) or _BY_NAME.get(word.replace("_", "")) or "?"


class Table:
    """Rows of one table: where each field stands, and how a row becomes a status."""

    def __init__(
        self,
        columns: Sequence[str],
        *,
        source: str,
        zone: tzinfo | None,
        cluster: str = "",
        separator: str | None = None,
    ) -> None:
        self.columns = tuple(columns)
        self.separator = separator
        self.source = source
        self.zone = zone
        self.cluster = cluster
        self.at: dict[str, int] = {}
        for place, name in enumerate(self.columns):
            self.at.setdefault(name, place)
        self.ids = [place for place, name in enumerate(self.columns) if name == "id"]
        # Of all columns that a job's id is made of.
        self.places = [
            self.at[column] for column in ("raw_id", "array_id", "task") if column in self.at
        ]
        self.places += self.ids
        self.reason = self.at.get("reason", self.at.get("nodelist_reason"))

    @property
    def is_usable(self) -> bool:
        return "state" in self.at and any(name in self.at for name in ("id", "raw_id", "array_id"))

    def job_id(self, cells: Sequence[str]) -> str:
        """The id of a row.  Of two JOBID columns the one with the array's form counts: ``-O
        JobID`` and ``-O JobArrayID`` have the same header."""
        if self.ids:
            found = [cells[place].strip() for place in self.ids]
            return next((text for text in found if "_" in text or "+" in text), found[0])
        task = cells[self.at["task"]].strip() if "task" in self.at else "N/A"
        if "array_id" in self.at and task not in ("N/A", "", "(null)"):
            array = cells[self.at["array_id"]].strip()
            return f"{array}_{task}" if is_number(task) else f"{array}_[{task}]"
        return cells[self.at.get("raw_id", self.at.get("array_id", 0))].strip()

    def status(self, cells: Sequence[str], *, strange: bool = True) -> JobStatus | None:
        """A row as a status; ``None`` for a row that makes no sense.

        ``strange``: what may be the state of a newer version makes the job unknown.
        """
        if len(cells) != len(self.columns):
            return None
        raw = cells[self.at["state"]].strip()
        state = state_of(raw, cells[self.reason] if self.reason is not None else None)
        if state is None and strange and may_be_state(raw):
            state = JobState.UNKNOWN
        job_id = self.job_id(cells)
        if state is None or not is_job_id(job_id):
            return None
        if self.cluster:
            job_id = f"{job_id};{self.cluster}"
        return JobStatus.lazily(job_id, state, self, cells)

    def __call__(self, cells: Sequence[str]) -> dict[str, Any]:
        """All that a row says beside id and state, for ``JobStatus.lazily``."""
        return self.facts(cells)

    def repeats(self, cells: Sequence[str], before: Sequence[str]) -> bool:
        """Whether two rows differ by nothing but the time that passed."""
        if cells == before:
            return True
        place = self.at.get("elapsed")
        return (
            place is not None
            and cells[:place] == before[:place]
            and cells[place + 1 :] == before[place + 1 :]
        )

    def facts_of_line(self, line: str) -> dict[str, Any]:
        """All that a line says whose cells are in place."""
        return self.facts(line.split(self.separator))

    def facts(self, cells: Sequence[str]) -> dict[str, Any]:
        """All that a row says beside id and state."""
        values = {name: cells[place].strip() for name, place in self.at.items()}
        get = {name: said_text(text) for name, text in values.items()}.get
        raw = values["state"]
        reason = values.get("reason")
        nodes = get("nodelist")
        both = values.get("nodelist_reason", "")
        if both.startswith("("):
            reason = reason or both.strip("()")
        elif both:
            nodes = nodes or both
        state = state_of(raw, reason) or JobState.UNKNOWN
        code, number = (
            exit_of(values["exit"], state) if "exit" in values else told_exit(state, None, 0)
        )
        seconds = whole_number(get("elapsed_seconds"))
        started = parse_time(get("started"), self.zone)
        ended = parse_time(get("ended"), self.zone)
        return {
            "raw_state": raw,
            "reason": told_reason(reason, state),
            "name": values.get("name"),
            "user": get("user"),
            "queue": get("queue"),
            "account": get("account"),
            "nodes": expand_hosts(nodes),
            "cpus": said_number(whole_number(get("cpus"))),
            "exit_code": code,
            "signal": number,
            "submitted": parse_time(get("submitted"), self.zone),
            # Of what has not begun or ended, these are the scheduler's guesses.
            "started": started if has_begun(state) else None,
            "expected_start": started if state is JobState.PENDING else None,
            "ended": ended if state.is_final else None,
            "elapsed": parse_duration(get("elapsed")) if seconds is None else spent(seconds),
            "time_limit": parse_duration(get("time_limit")),
            "source": self.source,
            "directory": get("directory"),
            "stdout_path": get("stdout_path"),
            "stderr_path": get("stderr_path"),
            "command": get("command"),
            "raw_id": self._raw_id(cells, get("raw_id")),
            "restarts": said_number(whole_number(get("restarts"))),
        }

    def _raw_id(self, cells: Sequence[str], raw: str | None) -> str | None:
        if raw is None and len(self.ids) > 1:
            raw = next(
                (cells[name].strip() for name in self.ids if is_number(cells[name].strip())), None
            )
        return raw if raw != self.job_id(cells) else None


# --------------------------------------------------------------------------- answers


_CLUSTER = re.compile(r"CLUSTER: (\S+)")
# `squeue -l` begins with the date.
_DATE = re.compile(r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9]?[0-9] [0-9:]{8} [0-9]{4}")
_DASHES = re.compile(r"-{2,}[ -]*")
# What stands between the title of the ids and the next one, or before it.
_AFTER_TITLE = re.compile(r"(?i:job_?id(?:raw)?|jobarrayid)([^A-Za-z0-9_(\r\n]+)[A-Za-z]")
_BEFORE_TITLE = re.compile(r"[A-Za-z)]([^A-Za-z0-9_()\r\n]+)(?i:array_?job_?id|job_?id(?:raw)?)\b")
_AFTER_ID = re.compile(
    r" *[0-9]+(?:_(?:[0-9]+|\[[0-9,:%.\-]+\]))?(?:\+[0-9]+)?([^A-Za-z0-9_\[+.\-\r\n]+)[A-Z]"
)
_STEP = re.compile(r"[0-9]+(?:_[0-9]+|\+[0-9]+)?\.\w+")


def read_table(
    text: str, *, columns: Sequence[str] | None, separator: str | None, zone: tzinfo | None
) -> Rows | None:
    """A listing of squeue or sacct.  ``columns``: those of the command, where it is known.

    ``None`` for other text.
    """
    rows = Rows()
    table: Table | None = None
    spans: Spans | None = None
    cluster = ""
    lines = text.split("\n")
    is_several = text.count("CLUSTER: ") > 1
    place = 0
    while place < len(lines):
        line = lines[place]
        place += 1
        if not line.strip() or _DATE.fullmatch(line.strip()):
            continue
        if (found := _CLUSTER.match(line)) is not None:
            # One cluster is the one that was meant; the id needs its name where there are more.
            cluster = found[1] if is_several else ""
            table = None
            continue
        header = header_columns(line)
        if header is not None:
            separator, names = header
            table = Table(names, source="queue", zone=zone, cluster=cluster, separator=separator)
            spans = Spans.of_header(line) if separator is None else None
            if place < len(lines) and _DASHES.fullmatch(lines[place].rstrip() or "x"):
                spans = Spans.of_dashes(lines[place])
                place += 1
                table.source = rows.source = "accounting"
            elif "JobID" in line:
                table.source = rows.source = "accounting"
            continue
        if table is None:
            names = tuple(columns or ())
            if not names:
                guess = _guess_columns(line)
                if guess is None:
                    rows.unparsed.append(line[:1000])
                    continue
                separator, names = guess
            table = Table(names, source="queue", zone=zone, cluster=cluster, separator=separator)
            if not table.is_usable:
                return None
        place = _read_lines(lines, place - 1, table, separator, spans, rows)
    return rows if table is not None else None


def _read_lines(
    lines: list[str],
    place: int,
    table: Table,
    separator: str | None,
    spans: Spans | None,
    rows: Rows,
) -> int:
    """Read lines until one that may be a header; the hot loop of this module.

    Returns the place of the first line that it did not read.
    """
    width = len(table.columns)
    state_at = table.at["state"] if table.is_usable else -1
    if state_at < 0:
        return len(lines)
    id_at = table.ids[0] if len(table.ids) == 1 else -1
    reason_at = table.reason
    known = rows.known
    lazily, facts, states = JobStatus.lazily, table.facts_of_line, STATES
    pending = JobState.PENDING
    held: dict[str, bool] = {}
    for number in range(place, len(lines)):
        line = lines[number]
        cells = line.split(separator)
        if len(cells) == width and id_at >= 0 and not table.cluster:
            state = states.get(cells[state_at])
            job_id = cells[id_at]
            if state is not None and (is_number(job_id) or is_job_id(job_id)):
                if state is pending and reason_at is not None:
                    reason = cells[reason_at]
                    if reason not in held:
                        held[reason] = is_held(reason)
                    if held[reason]:
                        state = JobState.HELD
                known[job_id] = lazily(job_id, state, facts, line)
                continue
        if not line:
            continue
        if _CLUSTER.match(line) is not None or header_columns(line) is not None:
            return number
        _read_odd_line(line, cells, table, separator, spans, rows)
    return len(lines)


def _read_odd_line(
    line: str,
    cells: list[str],
    table: Table,
    separator: str | None,
    spans: Spans | None,
    rows: Rows,
) -> None:
    """Split a line whose columns are ambiguous: a name with blanks or separators."""
    width = len(table.columns)
    if rows.source == "accounting" and _STEP.match(line.lstrip()):
        return
    if separator is None and spans is not None:
        cuts = list(spans.cuts(line, table.places))
        status = next(
            (
                row
                for strange in (False, True)
                for cut in cuts
                if (row := table.status(cut, strange=strange)) is not None
            ),
            None,
        )
    elif separator is None:
        # Without a header only a last column of free text can hold blanks.
        free = table.columns[-1] in ("nodelist_reason", "reason", "name", "directory", "command")
        cut = line.split(None, width - 1)
        status = table.status(cut) if free and len(cut) == width else None
    else:
        # A trailing separator makes one cell more (sacct -p, -O "Name:|").
        if len(cells) == width + 1 and not cells[-1]:
            cells = cells[:width]
        if len(cells) > width and "name" in table.at:
            # The name holds the separator: what stands before and after it is still in place.
            extra = len(cells) - width
            start = table.at["name"]
            name = separator.join(cells[start : start + extra + 1])
            cells = [*cells[:start], name, *cells[start + extra + 1 :]]
        elif (
            len(cells) < width
            and table.at.get("name", 0) == len(cells) - 1
            and {"id", "state"} <= set(table.columns[: len(cells) - 1])
        ):
            # The name holds a newline; id and state stand before it and are whole.
            cells = [*cells, *[""] * (width - len(cells))]
        status = table.status(cells) if len(cells) == width else None
        if status is None and _STEP.match(line) and "|" in line:
            return
    rows.add(status, line)


# The last byte before an edge and the first behind it, in one word.
_INSIDE = re.compile(rb"\S\S", re.DOTALL)


class Spans:
    """Where the columns of a fixed-width table stand, from its header or a line of dashes."""

    def __init__(self, layouts: Iterable[tuple[tuple[int, int | None], ...]]) -> None:
        self.layouts = tuple(layouts)

    @classmethod
    def of_dashes(cls, line: str) -> Spans:
        found = [(word.start(), word.end()) for word in re.finditer(r"-+", line)]
        return cls([tuple(found)])

    @classmethod
    def of_header(cls, line: str) -> Spans:
        """Right-justified columns end where their title ends, the others begin where it begins."""
        words = [(word.start(), word.end()) for word in re.finditer(r"\S+", line)]
        ends = [end for _, end in words]
        starts = [start for start, _ in words]
        right: list[tuple[int, int | None]] = [
            (0 if place == 0 else ends[place - 1], end) for place, end in enumerate(ends)
        ]
        # The last column of squeue's own formats is left-justified and has no end.
        right[-1] = (right[-1][0], None)
        left: list[tuple[int, int | None]] = [
            (start, starts[place + 1] if place + 1 < len(starts) else None)
            for place, start in enumerate(starts)
        ]
        layouts = [tuple(right), tuple(left)]
        return cls(layouts if line[:1] == " " else layouts[::-1])

    def cuts(self, line: str, ids: Sequence[int] = ()) -> Iterable[list[str]]:
        """The cells by each layout that cuts none of the ids in two.

        Slurm counts bytes, not letters.
        """
        raw = line.encode("utf-8", "surrogateescape")
        for layout in self.layouts:
            edges = {
                edge for job_id in ids if job_id < len(layout) for edge in layout[job_id] if edge
            }
            if any(_INSIDE.fullmatch(raw[edge - 1 : edge + 1]) for edge in edges):
                continue
            yield [
                raw[start:end].decode("utf-8", "surrogateescape").strip() for start, end in layout
            ]


def header_columns(line: str) -> tuple[str | None, tuple[str, ...]] | None:
    """(separator, fields) of a header line, else ``None``."""
    if "JOB" not in line and "Job" not in line:
        return None
    found = _AFTER_TITLE.search(line) or _BEFORE_TITLE.search(line)
    separator = (found[1].strip(" ") or None) if found is not None else None
    words = line.rstrip(separator).split(separator) if separator else line.split()
    names = tuple(column_named(word) for word in words)
    is_header = (
        "id" in names or "array_id" in names or "raw_id" in names
    ) and any(word.strip() in ("ST", "STATE", "State") for word in words)  # fmt: skip
    # A job can be named like a header, but the row begins with its number.
    is_header = is_header and not any(word.strip()[:1].isdigit() for word in words)
    return (separator, names) if is_header else None


def _guess_columns(line: str) -> tuple[str | None, tuple[str, ...]] | None:
    """Columns of a line without a header: an id first, a state spelled out somewhere.

    Short codes do not count: other texts often have an ``F`` or an ``R``, too.
    """
    found = _AFTER_ID.match(line)
    between = found[1].strip(" ") if found is not None else ""
    likely = between if between != between[:1] * len(between) else between[:1] or None
    for separator in dict.fromkeys((likely, "|", None)):
        cells = line.split(separator)
        if len(cells) < 2 or not is_job_id(cells[0].strip()):
            continue
        for place, cell in enumerate(cells[1:], 1):
            if cell.strip().partition(" ")[0] in LONG_STATES:
                return separator, (
                    "id",
                    *("?" * (place - 1)),
                    "state",
                    *("?" * (len(cells) - place - 1)),
                )
    return None


# --------------------------------------------------------------------------- commands


_FORMAT_LETTER = re.compile(r"%\.?(?:-?[0-9]+)?([A-Za-z])")
_FORMAT_PIECE = re.compile(r"%\.?-?[0-9]*[A-Za-z](.*?)(?=%|$)", re.DOTALL)


def columns_of_command(words: Sequence[str]) -> tuple[tuple[str, ...], str | None] | None:
    """(fields, separator) of the words of a squeue or sacct command without header."""
    program = words[0].rsplit("/", 1)[-1] if words else ""
    value = _option_value(words, {"squeue": "oO", "sacct": "o"}.get(program, ""), "format")
    if value is None:
        return None
    option, text = value
    if program == "sacct":
        delimiter = _option_value(words, "", "delimiter")
        names = tuple(column_named(word.partition("%")[0]) for word in text.split(","))
        return names, delimiter[1] if delimiter else "|"
    if option in ("-O", "--Format"):
        pieces = [word.strip() for word in text.split(",")]
        names = tuple(column_named(re.split(r"[:.]", word, maxsplit=1)[0]) for word in pieces)
        if len(names) > 1 and names.count("id") == 1:
            names = tuple(
                "raw_id" if word.lower().startswith("jobid") else name
                for word, name in zip(pieces, names, strict=True)
            )
        suffix = re.search(r":[.0-9]*([^.0-9:]+)$", pieces[0])
        return names, suffix[1] if suffix else None
    letters = _FORMAT_LETTER.findall(text)
    between = {piece.strip() for piece in _FORMAT_PIECE.findall(text)[:-1]}
    separator = between.pop() if len(between) == 1 else ""
    return tuple(_BY_LETTER.get(letter, "?") for letter in letters), separator or None


def _option_value(words: Sequence[str], letters: str, long: str) -> tuple[str, str] | None:
    for place, word in enumerate(words):
        following = words[place + 1] if place + 1 < len(words) else ""
        name, equals, value = word.partition("=")
        if name.startswith("--") and name[2:].lower() == long:
            return name, value if equals else following
        if word.startswith("-") and not word.startswith("--"):
            for at, letter in enumerate(word[1:], 1):
                if letter in letters:
                    return f"-{letter}", word[at + 1 :] or following
    return None
