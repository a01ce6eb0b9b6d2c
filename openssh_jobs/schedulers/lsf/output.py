"""What LSF's bjobs and bhist print.  Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import SchedulerError
from ...jobs import JobId, JobState, JobStatus
from ..fields import is_number, whole_number
from ..rows import TWICE, Rows

_S = JobState
_STATES = {
    "PEND": _S.PENDING,
    "WAIT": _S.PENDING,
    "PROV": _S.PENDING,
    "FWD_PEND": _S.PENDING,
    "PSUSP": _S.HELD,
    "RUN": _S.RUNNING,
    "USUSP": _S.SUSPENDED,
    "SSUSP": _S.SUSPENDED,
    "DONE": _S.COMPLETED,
    "EXIT": _S.FAILED,
    "UNKWN": _S.UNKNOWN,
    "ZOMBI": _S.UNKNOWN,
}
_REASONS = (
    ("TERM_RUNLIMIT", _S.TIMEOUT),
    ("TERM_CPULIMIT", _S.TIMEOUT),
    ("TERM_DEADLINE", _S.TIMEOUT),
    ("TERM_WINDOW", _S.TIMEOUT),
    ("TERM_MEMLIMIT", _S.OUT_OF_MEMORY),
    ("TERM_SWAP", _S.OUT_OF_MEMORY),
    ("TERM_OWNER", _S.CANCELLED),
    ("TERM_FORCE_OWNER", _S.CANCELLED),
    ("TERM_ADMIN", _S.CANCELLED),
    ("TERM_FORCE_ADMIN", _S.CANCELLED),
    ("TERM_PREEMPT", _S.CANCELLED),
    ("TERM_ORPHAN_SYSTEM", _S.CANCELLED),
    ("TERM_REMOVE_HUNG_JOB", _S.NODE_FAIL),
    ("TERM_RC_RECLAIM", _S.NODE_FAIL),
)


_BEGINS = re.compile(
    r"^[ \t]*(?:(?P<json>\{\s*\"[A-Z]|\"RECORDS\")|(?P<long>Job <[0-9\[\]]+>[,;])"
    r"|(?P<table>JOBID\b.*STAT|[A-Z_]+[^A-Za-z0-9_\s].*STAT|STAT[^A-Za-z0-9_\s].*JOBID))",
    re.MULTILINE | re.ASCII,
)
_ID = re.compile(r"[0-9]{1,18}(?:\[[0-9]{1,18}\])?", re.ASCII)


GONE = re.compile(
    r"^Job <([0-9]{1,18}(?:\[[0-9,:\-]{1,200}\])?)>:? "
    r"(?:is not found|No matching job found)\.?\s*$",
    re.MULTILINE | re.ASCII,
)
"""What LSF says of a job that it does not have."""
NONE = re.compile(r"^No (?:unfinished |matching )?jobs? found", re.MULTILINE)
"""What it says where it has none at all."""


def read(text: str, rows: Rows, columns: tuple[list[str], str] | None = None) -> bool:
    """Parse any listing; false for other text.

    ``columns``: fields and delimiter of a listing without header, as its command names them.
    """
    # The form is that of the first line that has one: a name in a later line may look like any.
    begins = _BEGINS.search(text)
    form = begins.lastgroup if begins is not None else None
    if form == "json" and columns is None:
        answer = _json_answer(text)
        if answer is not None:
            _read_json(answer, text, rows)
            return True
    if form == "long" and columns is None:
        _read_long(text, rows)
        return True
    delimited = _delimited_header(text)
    if delimited is None and columns is not None and columns[1] in text:
        delimited = (*columns, text)
    if delimited is not None:
        names, delimiter, lines = delimited
        _read_delimited(lines, names, delimiter, rows)
        return True
    header: list[str] = []
    for line in text.split("\n"):
        words = line.split()
        if words[:1] == ["JOBID"] and "STAT" in words:
            header = words
        elif header and words:
            status = _row(line, words, header)
            # The hosts of a parallel job go on below it.
            if status is not None or not line.startswith((" ", "\t")):
                rows.add_once(status, line)
    return bool(header)


_TITLE = re.compile(r"[A-Z_]+([^A-Za-z0-9_\s]+)")


def _delimited_header(text: str) -> tuple[list[str], str, str] | None:
    """(titles, delimiter, what follows) of ``bjobs -o "jobid stat delimiter='|'"``.

    The delimiter is what stands behind the first title.
    """
    lines = text.split("\n")
    for place, line in enumerate(lines):
        found = _TITLE.match(line)
        if found is not None and "JOBID" in line and "STAT" in line:
            names = line.strip().split(found[1])
            if {"JOBID", "STAT"} <= set(names):
                return names, found[1], "\n".join(lines[place + 1 :])
    return None


# Names that the command takes for fields which have another title.
_FIELDS = {"ID": "JOBID", "NAME": "JOB_NAME", "PROJ": "PROJ_NAME", "PROJECT": "PROJ_NAME"}


def columns_of_command(words: Sequence[str]) -> tuple[list[str], str] | None:
    """(titles, delimiter) of the words of a ``bjobs -noheader -o "… delimiter='|'"``."""
    if "-noheader" not in words or "-o" not in words[:-1]:
        return None
    fields = words[words.index("-o") + 1]
    found = re.search(r"delimiter=[\"']?([^\"'\s]+)[\"']?", fields)
    if found is None:
        return None
    names = [word.partition(":")[0].upper() for word in fields.replace(found[0], " ").split()]
    return [_FIELDS.get(name, name) for name in names], found[1]


# Columns whose text a user chooses; it may hold the delimiter.
_FREE = frozenset(
    (
        "JOB_NAME", "JOB_DESCRIPTION", "COMMAND", "PROJ_NAME", "APP_NAME", "SUB_CWD", "EXEC_CWD",
        "EXEC_HOME", "INPUT_FILE", "OUTPUT_FILE", "ERROR_FILE", "PRE_EXEC_COMMAND",
        "POST_EXEC_COMMAND", "RESREQ", "EFFECTIVE_RESREQ", "DEPENDENCY", "KILL_REASON",
        "SUSPEND_REASON", "RESUME_REASON", "COMMENT", "JOB_GROUP",
    )
)  # fmt: skip


def _cells(line: str, names: list[str], delimiter: str) -> dict[str, str] | None:
    """The cells of a row by title: from the left up to the first free text, from the right up to
    the last; what stands between them has no certain place if there are more cells than titles."""
    cells = line.strip("\r").split(delimiter)
    extra = len(cells) - len(names)
    if extra < 0:
        return None
    if extra == 0:
        return {name: cell.strip() for name, cell in zip(names, cells, strict=True)}
    free = [at for at, name in enumerate(names) if name in _FREE]
    if not free:
        return None
    first, last = free[0], free[-1]
    record = dict(zip(names[:first], cells[:first], strict=True))
    if first == last:
        record[names[first]] = delimiter.join(cells[first : last + extra + 1])
    record.update(zip(names[last + 1 :], cells[last + extra + 1 :], strict=True))
    return {name: cell.strip() for name, cell in record.items()}


def _read_delimited(text: str, names: list[str], delimiter: str, rows: Rows) -> None:
    for line in text.split("\n"):
        cells = _cells(line, names, delimiter)
        rows.add_once(_record(cells) if cells is not None else None, line)


# The name is followed by the time of submission only: "arr[3]     Nov 22 06:48".
_INDEX = re.compile(
    r"\[([0-9]{1,18})\]\s+\w{3}\s+[0-9]{1,2}\s+[0-9:]{5,8}(?:\s+[0-9]{4})?\s*", re.ASCII
)


def _row(line: str, words: list[str], header: list[str]) -> JobStatus | None:
    at = header.index("STAT")
    if len(words) <= at or _ID.fullmatch(words[0]) is None:
        return None
    state = _STATES.get(words[at])
    if state is None:
        return None
    job_id = words[0]
    # An element of an array shows its index in its name only.
    tail = re.search(r"\[[0-9]+\]\s+\w{3}\s[^\[\]]*$", line)
    index = _INDEX.fullmatch(tail[0]) if tail is not None else None
    if index is not None and "[" not in job_id:
        job_id = f"{job_id}[{index[1]}]"
    record = dict(zip(header[: at + 2], words[: at + 2], strict=False))
    return JobStatus(
        job_id,
        state,
        raw_state=words[at],
        user=record.get("USER"),
        queue=record.get("QUEUE"),
        exit_code=0 if state is _S.COMPLETED else None,
        source="queue",
    )


def _exited(text: str) -> tuple[JobState, str | None]:
    for word, state in _REASONS:
        if re.search(rf"\b{word}\b", text):
            return state, text.strip()
    return _S.FAILED, text.strip() or None


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):  # a name that stands twice: neither value is believed
        return {}
    return made


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_pairs)


def _json_answer(text: str) -> dict[str, Any] | None:
    """The object that ``bjobs -json`` prints, whatever stands around it; ``None`` for no JSON."""
    why = "no records of bjobs"
    for tries, start in enumerate(re.finditer(r"^[ \t]*(?=\{)", text, re.MULTILINE)):
        if tries > 50:
            break
        try:
            answer, _ = _DECODER.raw_decode(text, start.end())
        except (ValueError, RecursionError) as error:
            why = str(error)
            continue
        if isinstance(answer, dict) and isinstance(answer.get("RECORDS"), list):
            return answer
    if text.lstrip().startswith("{") or re.search(r'^\s*"RECORDS"\s*:', text, re.MULTILINE):
        raise SchedulerError(f"no valid JSON: {why}", kind="parse_error", stdout=text)
    return None


def _read_json(answer: Mapping[str, Any], text: str, rows: Rows) -> None:
    records = answer["RECORDS"]
    announced = answer.get("JOBS")
    if isinstance(announced, int) and announced != len(records):
        # A text that was not escaped can end its record and begin another one.
        raise SchedulerError(
            f"bjobs announces {announced} jobs and lists {len(records)}",
            kind="parse_error",
            stdout=text,
        )
    for record in records:
        status = _record(record) if isinstance(record, dict) else None
        if status is not None or not (isinstance(record, dict) and "ERROR" in record):
            rows.add_once(status, json.dumps(record))


def add_details(text: str, known: dict[str, JobStatus]) -> None:
    """Names, paths and reasons of ``bjobs -json`` for jobs whose states are known.

    Nothing is taken from an answer that is not in order, nor for a job in another state.
    """
    found = Rows()
    try:
        answer = _json_answer(text)
        if answer is not None:
            _read_json(answer, text, found)
    except SchedulerError:
        return
    for job_id, detail in found.known.items():
        status = known.get(job_id)
        if status is not None and status.raw_state == detail.raw_state and detail.reason != TWICE:
            known[job_id] = status.replace(
                name=detail.name,
                account=detail.account,
                reason=status.reason or detail.reason,
                directory=detail.directory,
                stdout_path=detail.stdout_path,
                stderr_path=detail.stderr_path,
                command=detail.command,
            )


def _record(record: Mapping[str, Any]) -> JobStatus | None:
    fields = {key: value for key, value in record.items() if isinstance(value, str)}
    raw = fields.get("STAT", "")
    state = _STATES.get(raw)
    job_id = fields.get("JOBID", "")
    if state is None or _ID.fullmatch(job_id) is None:
        return None
    named = re.search(r"\[([0-9]+)\]$", fields.get("JOB_NAME", ""))
    # Without an index field an element shows its index in the name only.
    index = fields.get("JOBINDEX", named[1] if named is not None else "0")
    if is_number(index) and index != "0" and "[" not in job_id:
        job_id = f"{job_id}[{index}]"

    def get(name: str) -> str | None:
        return fields[name] if fields.get(name) not in (None, "", "-") else None

    reason = get("EXIT_REASON") or get("PEND_REASON")
    if raw == "EXIT":
        state, reason = _exited(reason or "")
    code = whole_number(get("EXIT_CODE"))
    hosts = re.split(r"[: ]", get("EXEC_HOST") or "")
    facts: dict[str, Any] = {
        "raw_state": raw,
        "reason": reason,
        "name": get("JOB_NAME"),
        "user": get("USER"),
        "queue": get("QUEUE"),
        "account": get("PROJ_NAME") or get("PROJECT"),
        "nodes": tuple(dict.fromkeys(re.sub(r"^[0-9]+\*", "", host) for host in hosts if host))
        or None,
        "cpus": whole_number(get("SLOTS")),
        "exit_code": 0 if raw == "DONE" else code if state is _S.FAILED else None,
        "source": "queue",
        "directory": get("SUB_CWD"),
        "stdout_path": get("OUTPUT_FILE"),
        "stderr_path": get("ERROR_FILE"),
        "command": get("COMMAND"),
    }
    return JobStatus(job_id, state, **facts)


# bjobs puts a line of dashes between two records, and so does bhist.
_RECORD = re.compile(rf"(?:^|(?<=\n))(?:-{{20,}}\s*\n)?\s*Job <({_ID.pattern})>,")


def _read_long(text: str, rows: Rows) -> None:
    """``bjobs -l``, ``bhist -l`` and ``-UF``: long lines go on behind 21 blanks, cut anywhere."""
    whole = re.sub(r"\n {21}(?=\S)", "", text)
    starts = [found.start() for found in _RECORD.finditer(whole)]
    for start, end in zip(starts, [*starts[1:], len(whole)], strict=True):
        record = whole[start:end]
        found = _RECORD.match(record)
        rows.add_once(_long_status(found[1], record) if found is not None else None, record)


def read_history(text: str, only: str, rows: Rows, gone: list[JobId]) -> bool:
    """``bhist -l`` of one job (``only``), or of several: then nothing against the former."""
    found = Rows(unparsed=rows.unparsed)
    is_answer = read(text, found)
    wanted = JobId.parse(only) if only else None
    if wanted is not None and not found.known and NONE.search(text):
        gone.append(wanted)
    for job_id, status in found.known.items():
        parsed = JobId.parse(job_id)
        # Whatever else is in the answer about one job is a user's text.
        if wanted is None:
            rows.known.setdefault(job_id, status)
        elif wanted.matches(parsed) or wanted.contains(parsed):
            rows.known[job_id] = status
    return is_answer


_EVENT = re.compile(
    r"^\w{3} \w{3} [ 0-9]?[0-9] [0-9:]{8}(?: [0-9]{4})?: (?:\[[0-9]+\] )?(.*)", re.M | re.A
)
_TURN = re.compile(r"Done suc|Completed <|Exited|Start|Dispatch|Requeue|Pending", re.IGNORECASE)


def _long_status(job_id: str, record: str) -> JobStatus | None:
    # Name, project and command are texts of the user's: only what LSF alone writes counts, and
    # where there are two different ones none does.
    events = _EVENT.findall(record)
    raw = set(re.findall(r"Status <([A-Z_]+)>", record))
    if len(raw) > 1:
        return JobStatus(job_id, _S.UNKNOWN, reason=TWICE, source="queue")
    stat = next(iter(raw), None)
    last = next((event for event in reversed(events) if _TURN.match(event)), "").lower()
    if stat is not None:
        state = _STATES.get(stat)
    elif last.startswith(("done suc", "completed <done>")):
        state = _S.COMPLETED
    elif last.startswith(("exited", "completed <exit>")):
        state = _S.FAILED
    elif last.startswith(("start", "dispatch")):
        state = _S.RUNNING
    else:
        state = _S.PENDING if events else None
    if state is None:
        return None
    reason: str | None = None
    code: int | None = None
    number: int | None = None
    if state is _S.FAILED:
        history = "\n".join(events)
        term = re.search(r"TERM_\w+[^\n]*", history)
        state, reason = _exited(term[0] if term else "")
        ended = re.search(r"Exited with exit code ([0-9]{1,3})\b", history)
        killed = re.search(r"Exited by signal ([0-9]{1,3})\b", history)
        if state is _S.FAILED:
            code = int(ended[1]) if ended is not None else None
            number = int(killed[1]) if killed is not None else None
    return JobStatus(
        job_id,
        state,
        raw_state=stat,
        reason=reason,
        name=_between(record, "Job Name"),
        user=_between(record, "User"),
        queue=_between(record, "Queue"),
        exit_code=0 if state is _S.COMPLETED else code,
        signal=number,
        source="queue" if stat is not None else "accounting",
    )


def _between(record: str, title: str) -> str | None:
    found = re.search(rf"{title} <([^>]*)>", record)
    return found[1] if found else None
