"""What LSF's bjobs and bhist print.  Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from openssh_jobs.errors import SchedulerError
from openssh_jobs.jobs import JobState, JobStatus
from openssh_jobs.schedulers.text import is_number, whole_number

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
    ("TERM_MEMLIMIT", _S.OUT_OF_MEMORY),
    ("TERM_SWAP", _S.OUT_OF_MEMORY),
    ("TERM_OWNER", _S.CANCELLED),
    ("TERM_FORCE_OWNER", _S.CANCELLED),
    ("TERM_ADMIN", _S.CANCELLED),
    ("TERM_FORCE_ADMIN", _S.CANCELLED),
    ("TERM_PREEMPT", _S.CANCELLED),
    ("TERM_REMOVE_HUNG_JOB", _S.NODE_FAIL),
)


def read(
    text: str,
    known: dict[str, JobStatus],
    unparsed: list[str],
    columns: tuple[list[str], str] | None = None,
) -> bool:
    """Reads any listing; false for text that is none.

    ``columns``: fields and delimiter of a listing without header, as its command names them.
    """
    head = text.lstrip()
    if head.startswith("{"):
        return _read_json(text, known, unparsed)
    if re.match(r"-*\s*Job <[0-9]", head):
        _read_long(text, known, unparsed)
        return True
    delimited = _delimited_header(text)
    if delimited is None and columns is not None and columns[1] in text:
        delimited = (*columns, text)
    if delimited is not None:
        names, delimiter, rows = delimited
        _read_delimited(rows, names, delimiter, known, unparsed)
        return True
    header: list[str] = []
    for line in text.split("\n"):
        words = line.split()
        if words[:1] == ["JOBID"] and "STAT" in words:
            header = words
        elif header and words:
            status = _row(words, header)
            if status is not None:
                known[status.job_id] = status
            elif not line.startswith((" ", "\t")):  # the hosts of a parallel job go on below
                unparsed.append(line[:1000])
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
    told = words[words.index("-o") + 1]
    found = re.search(r"delimiter=[\"']?([^\"'\s]+)[\"']?", told)
    if found is None:
        return None
    names = [word.partition(":")[0].upper() for word in told.replace(found[0], " ").split()]
    return [_FIELDS.get(name, name) for name in names], found[1]


def _read_delimited(
    text: str,
    names: list[str],
    delimiter: str,
    known: dict[str, JobStatus],
    unparsed: list[str],
) -> None:
    for line in text.split("\n"):
        cells = line.strip().split(delimiter)
        if len(cells) > len(names) and "JOB_NAME" in names:
            # The name holds the delimiter: what stands before and behind it is in place.
            at, extra = names.index("JOB_NAME"), len(cells) - len(names)
            cells[at : at + extra + 1] = [delimiter.join(cells[at : at + extra + 1])]
        status = _record(dict(zip(names, cells, strict=True))) if len(cells) == len(names) else None
        if status is not None:
            known[status.job_id] = status
        elif line.strip():
            unparsed.append(line[:1000])


def _row(words: list[str], header: list[str]) -> JobStatus | None:
    at = header.index("STAT")
    if len(words) <= at or re.fullmatch(r"[0-9]{1,18}(?:\[[0-9]{1,18}\])?", words[0]) is None:
        return None
    state = _STATES.get(words[at])
    if state is None:
        return None
    job_id = words[0]
    # An element of an array shows its index in its name only.
    index = next((m[1] for m in (re.search(r"\[([0-9]+)\]$", w) for w in words[at:]) if m), None)
    if index is not None and "[" not in job_id:
        job_id = f"{job_id}[{index}]"
    said = dict(zip(header[: at + 2], words[: at + 2], strict=False))
    is_final = state.is_final
    reason = None
    if words[at] == "EXIT":
        told = next((one for one in words if one.startswith("TERM_")), "")
        state, reason = _exited(told)
    return JobStatus(
        job_id,
        state,
        raw_state=words[at],
        reason=reason,
        user=said.get("USER"),
        queue=said.get("QUEUE"),
        exit_code=0 if is_final and state is _S.COMPLETED else None,
        source="queue",
    )


def _exited(told: str) -> tuple[JobState, str | None]:
    for word, state in _REASONS:
        if re.search(rf"\b{word}\b", told):
            return state, told.strip()
    return _S.FAILED, told.strip() or None


def _read_json(text: str, known: dict[str, JobStatus], unparsed: list[str]) -> bool:
    try:
        answer = json.loads(text, strict=False)
    except (ValueError, RecursionError) as error:
        raise SchedulerError(f"no valid JSON: {error}", kind="parse_error", stdout=text) from None
    records = answer.get("RECORDS") if isinstance(answer, dict) else None
    if not isinstance(records, list):
        raise SchedulerError("JSON without records of bjobs", kind="parse_error", stdout=text)
    for record in records:
        status = _record(record) if isinstance(record, dict) else None
        if status is not None:
            known[status.job_id] = status
        elif not (isinstance(record, dict) and "ERROR" in record):
            unparsed.append(json.dumps(record)[:1000])
    return True


def _record(record: Mapping[str, Any]) -> JobStatus | None:
    said = {key: value for key, value in record.items() if isinstance(value, str)}
    raw = said.get("STAT", "")
    state = _STATES.get(raw)
    job_id = said.get("JOBID", "")
    if state is None or re.fullmatch(r"[0-9]{1,18}(?:\[[0-9]{1,18}\])?", job_id) is None:
        return None
    named = re.search(r"\[([0-9]+)\]$", said.get("JOB_NAME", ""))
    # Without an index of its own an element shows it in its name only.
    index = said.get("JOBINDEX", named[1] if named is not None else "0")
    if is_number(index) and index != "0" and "[" not in job_id:
        job_id = f"{job_id}[{index}]"

    def get(name: str) -> str | None:
        return said[name] if said.get(name) not in (None, "", "-") else None

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
        "nodes": tuple(dict.fromkeys(re.sub(r"^[0-9]+\*", "", one) for one in hosts if one))
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


def _read_long(text: str, known: dict[str, JobStatus], unparsed: list[str]) -> None:
    """``bjobs -l`` and ``bhist -l``: long lines go on behind 21 blanks, cut anywhere."""
    whole = re.sub(r"\n {21}(?=\S)", "", text)
    for record in re.split(r"(?m)^(?= *Job <[0-9])", whole):
        found = re.match(r"\s*Job <([0-9]{1,18}(?:\[[0-9]{1,18}\])?)>", record)
        if found is None:
            continue
        status = _long_status(found[1], record)
        if status is None:
            unparsed.append(record[:1000])
        else:
            known[status.job_id] = status


def _long_status(job_id: str, record: str) -> JobStatus | None:
    stat = re.search(r"Status <([A-Z_]+)>", record)
    reason: str | None = None
    code: int | None = None
    number: int | None = None
    state: JobState | None
    ended = re.search(r"Exited with exit code ([0-9]{1,3})\b", record)
    killed = re.search(r"Exited by signal ([0-9]{1,3})\b", record)
    # Only what LSF writes behind a date counts: a name may hold the same words.
    events = re.findall(r"^\w{3} \w{3} [ 0-9]?[0-9] [0-9:]{8}(?: [0-9]{4})?: (.*)", record, re.M)
    last = next((one for one in reversed(events) if re.match(r"Done suc|Exited|Start", one)), "")
    if stat is not None:
        state = _STATES.get(stat[1])
        if stat[1] == "EXIT":
            told = re.search(r"TERM_\w+[^\n]*", "\n".join(events))
            state, reason = _exited(told[0] if told else "")
    elif last.startswith("Done suc"):
        state = _S.COMPLETED
    elif last.startswith("Exited"):
        told = re.search(r"TERM_\w+[^\n]*", "\n".join(events))
        state, reason = _exited(told[0] if told else "")
    elif last.startswith("Start"):
        state = _S.RUNNING
    else:
        state = _S.PENDING if events else None
    if state is None:
        return None
    if state is _S.FAILED:
        code = int(ended[1]) if ended is not None else None
        number = int(killed[1]) if killed is not None else None
    name = re.search(r"Job Name <([^>]*)>", record)
    user = re.search(r"User <([^>]*)>", record)
    queue = re.search(r"Queue <([^>]*)>", record)
    return JobStatus(
        job_id,
        state,
        raw_state=stat[1] if stat is not None else None,
        reason=reason,
        name=name[1] if name else None,
        user=user[1] if user else None,
        queue=queue[1] if queue else None,
        exit_code=0 if state is _S.COMPLETED else code,
        signal=number,
        source="queue" if stat is not None else "accounting",
    )
