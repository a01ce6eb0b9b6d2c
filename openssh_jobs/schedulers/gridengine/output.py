"""What Grid Engine's qstat and qacct print of jobs.  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Any

from ...errors import SchedulerError
from ...jobs import JobId, JobState, JobStatus
from ..fields import epoch, is_number, parse_time, whole_number
from ..markup import elements, fields
from ..rows import Rows
from .limits import Limits, limit_state
from .paths import output_paths

LOOKS_LIKE = re.compile(
    r"^job-ID +prior|^queuename +qtype|<job_info\b|<detailed_job_info\b|<unknown_jobs\b|^={20,}\n"
    r"(?:job_number:|qname )|^OJ:[0-9a-f]+ begin (?:qstat|qacct|qhost)\b",
    re.MULTILINE,
)


@dataclass(slots=True)
class JobRows(Rows):
    """Rows of qstat and qacct.

    ``gone`` are numbers that the answer says it does not know, ``tries`` ids whose last record is
    of no end: the job did not start, or went back to the queue.
    """

    gone: set[str] = field(default_factory=set)
    tries: set[str] = field(default_factory=set)


def state_of(letters: str, *, waits: bool = False) -> JobState | None:
    """The state that qstat's letters mean; ``waits``: it is known to wait for another job."""
    if not re.fullmatch(r"[drEhstTRSqwzxPNuoac]{1,8}", letters):
        return None
    if "E" in letters:
        return JobState.FAILED  # the queue does not start it unless a user clears the error
    if "d" in letters:
        return JobState.COMPLETING
    if "z" in letters:
        return JobState.UNKNOWN  # it has ended: how, only the accounting knows
    if "w" in letters or letters in ("Rq", "hRq", "q"):
        return JobState.HELD if "h" in letters and not waits else JobState.PENDING
    if set(letters) & set("sSTNP"):  # N and P are Univa's: suspended or preempted for another job
        return JobState.SUSPENDED
    if "r" in letters or "t" in letters:
        return JobState.RUNNING
    return None


def read(text: str, zone: tzinfo | None) -> JobRows | None:
    """Parse any listing; ``None`` for other text.  An empty text is an empty queue."""
    # What comes first is what it is: a name, or an environment, can hold the beginning of another.
    found = _BEGINS.search(text)
    kind = (found["block"] or found["element"]) if found is not None else ""
    if kind == "unknown_jobs":
        gone = {
            name for names in fields(text).values() for name in names if is_number(name.strip())
        }
        return JobRows(gone=gone)
    if kind == "detailed_job_info":
        return _read_details_xml(_element(text, kind))
    if kind == "job_info":
        return _read_xml(_element(text, kind), zone)
    if kind == "job_number:":
        return _read_details(text, zone)
    if kind == "qname":
        return read_accounting(text, zone)
    if not text.strip():
        return JobRows()
    return _read_table(text, zone)


_BEGINS = re.compile(
    r"^={20,}\s*\n(?P<block>job_number:|qname\b)"
    r"|<(?P<element>unknown_jobs|detailed_job_info|job_info)\b",
    re.MULTILINE,
)


def _element(text: str, name: str) -> str:
    """An answer in XML, without what was printed around it."""
    start, end = text.index(f"<{name}"), text.rfind(f"</{name}>")
    if end < start:
        raise SchedulerError("the answer is cut off", kind="transport", stdout=text)
    return text[start : end + len(name) + 3]


def _task_id(number: str, tasks: str | None) -> str:
    return f"{number}.{tasks}" if tasks and re.fullmatch(r"[0-9][0-9,:\-]*", tasks) else number


# --------------------------------------------------------------------------- the table

_ROW = re.compile(
    r"\s*(?P<number>[0-9]{1,18})\s+(?P<prior>-?[0-9.]+(?:e[+-]?[0-9]+)?)\s+(?P<middle>.*?\S)\s+"
    r"(?P<date>[0-9]{2}/[0-9]{2}/[0-9]{4}) (?P<time>[0-9:]{8})(?:\.[0-9]+)?(?P<rest>.*)"
)
# No line of a table is longer; in one that is, the patterns below would look for ever.
_LONGEST = 2000
_REST = re.compile(
    r"(?:\s+(?P<queue>\S+@\S*))?(?:\s+(?P<jclass>[^\s0-9]\S*))?\s+(?P<slots>[0-9]{1,9})"
    r"(?:\s+(?P<tasks>[0-9][0-9,:\-]*))?\s*"
)


def _read_table(text: str, zone: tzinfo | None) -> JobRows | None:
    rows = JobRows()
    header: list[str] = []
    last: str | None = None
    for line in text.split("\n"):
        if len(line) > _LONGEST:
            rows.unparsed.append(line[:1000])
            continue
        if line.lstrip().startswith("job-ID") or line.startswith("queuename"):
            header = line.replace("submit/start at", "submit").split()
            continue
        if not header or not line.strip() or re.match(r"[-#\s]{8,}|.* - PENDING JOBS", line):
            continue
        status = _row(line, header, zone)
        if status is not None:
            last = status.job_id
            rows.known[last] = status
        elif last is not None and re.match(r"\s{7,}[A-Z][\w ()]*:", line):
            _add_request(rows, last, line)
        elif not re.match(r"\S+@\S+\s+[BICPTN]+\s", line) and not line.startswith("\t"):
            rows.unparsed.append(line[:1000])
    return rows if header else None


def _add_request(rows: JobRows, job_id: str, line: str) -> None:
    """A line of ``qstat -r`` below the job's own."""
    name, _, value = line.strip().partition(":")
    status = rows.known[job_id]
    if name == "Full jobname":
        rows.known[job_id] = status.replace(name=value.strip())
    elif name.startswith("Predecessor Jobs") and value.strip() and status.state == "held":
        rows.known[job_id] = status.replace(state=JobState.PENDING)


def _row(line: str, header: list[str], zone: tzinfo | None) -> JobStatus | None:
    found = _ROW.fullmatch(line)
    if found is None:
        return _row_without_date(line, header)
    # Name, user and state are the last three of what stands before the date; -pri and -urg put
    # numbers before the name.
    middle = found["middle"].split()
    rest = _REST.fullmatch(found["rest"])
    state = state_of(middle[-1]) if len(middle) >= 3 else None
    if state is None or rest is None:
        return None
    when = parse_time(f"{found['date']} {found['time']}", zone)
    has_begun = rest["queue"] is not None
    return JobStatus(
        _task_id(found["number"], rest["tasks"]),
        state,
        raw_state=middle[-1],
        name=middle[-3],
        user=middle[-2],
        queue=rest["queue"].partition("@")[0] if rest["queue"] else None,
        nodes=(rest["queue"].partition("@")[2],) if rest["queue"] else None,
        cpus=int(rest["slots"]),
        started=when if has_begun else None,
        submitted=None if has_begun else when,
        source="queue",
    )


def _row_without_date(line: str, header: list[str]) -> JobStatus | None:
    """``-ext``: the columns up to the state are always filled."""
    cells = line.split()
    cell = dict(zip(header, cells, strict=False))
    if "state" not in cell or "name" not in cell:
        return None
    state = state_of(cell["state"])
    if state is None or not is_number(cells[0]):
        return None
    place = next((text for text in cells if "@" in text), None)
    after = cells[cells.index(place) + 2 :] if place is not None else []
    return JobStatus(
        _task_id(cells[0], after[0] if after else None),
        state,
        raw_state=cell["state"],
        name=cell["name"],
        user=cell.get("user"),
        queue=place.partition("@")[0] if place else None,
        nodes=(place.partition("@")[2],) if place else None,
        source="queue",
    )


# --------------------------------------------------------------------------- XML


def _first(attributes: Mapping[str, list[str]], name: str) -> str | None:
    return attributes[name][0] if name in attributes else None


def _read_xml(text: str, zone: tzinfo | None) -> JobRows:
    if text.count("</job_info>") != 2:
        raise SchedulerError("the answer is cut off", kind="transport", stdout=text)
    rows = JobRows()
    records = elements(text, "job_list")
    if len(records) != len(re.findall(r"<job_list(?=[\s>])", text)):
        raise SchedulerError("the answer is cut off", kind="transport", stdout=text)
    for record in records:
        attributes = fields(record)
        number = attributes.get("JB_job_number", [""])
        letters = attributes.get("state", [""])
        waits = any(name.startswith("predecessor_jobs") for name in attributes)
        state = state_of(letters[0], waits=waits) if len(letters) == 1 else None
        if state is None and re.fullmatch("[A-Za-z]{1,8}", letters[0]):
            state = JobState.UNKNOWN  # that of a newer version
        if state is None or len(number) != 1 or not is_number(number[0]):
            rows.unparsed.append(record[:1000])
            continue
        tasks = _first(attributes, "tasks")
        place = attributes.get("queue_name", [""])[0]
        slots = whole_number(_first(attributes, "slots"))
        status = JobStatus(
            _task_id(number[0], tasks),
            state,
            raw_state=letters[0],
            name=_first(attributes, "full_job_name") or _first(attributes, "JB_name"),
            user=_first(attributes, "JB_owner"),
            queue=place.partition("@")[0] or None,
            nodes=(place.partition("@")[2],) if "@" in place else None,
            cpus=slots,
            started=parse_time(_first(attributes, "JAT_start_time"), zone),
            submitted=parse_time(_first(attributes, "JB_submission_time"), zone),
            source="queue",
        )
        rows.known[status.job_id] = status
    return rows


def _read_details_xml(text: str) -> JobRows:
    rows = JobRows()
    held = {
        number
        for message in elements(text, "SME_message_list")
        if "is in hold state" in message
        for number in fields(message).get("ULNG_value", ())
    }
    for record in re.split(r"(?=<JB_job_number>)", text.partition("<messages>")[0])[1:]:
        attributes = fields(record)
        waits = bool(elements(record, "JB_jid_predecessor_list"))
        bits = whole_number(_first(attributes, "JAT_status"))
        hold = whole_number(_first(attributes, "JAT_hold"))
        is_error = bool(elements(record, "JAT_message_list")) and "QIM_message" in attributes
        state = JobState.PENDING
        # The bits of JAT_status (sge_job.h): 0x80 running, 0x100 suspended, 0x40 transferring.
        if is_error:
            state = JobState.FAILED
        elif bits is not None and bits & 0x100:
            state = JobState.SUSPENDED
        elif bits is not None and bits & 0xC0:
            state = JobState.RUNNING
        number = _first(attributes, "JB_job_number") or ""
        if state is JobState.PENDING and (number in held or (hold and not waits)):
            state = JobState.HELD
        if not is_number(number):
            rows.unparsed.append(record[:1000])
            continue
        rows.known[number] = JobStatus(
            number,
            state,
            reason=_first(attributes, "QIM_message"),
            name=_first(attributes, "JB_job_name"),
            user=_first(attributes, "JB_owner"),
            submitted=epoch(_first(attributes, "JB_submission_time")),
            started=epoch(_first(attributes, "JAT_start_time")),
            directory=_first(attributes, "JB_cwd"),
            command=_first(attributes, "JB_script_file"),
            source="queue",
        )
    return rows


# --------------------------------------------------------------------------- qstat -j


def _blocks(text: str) -> list[str]:
    return [block for block in re.split(r"^={20,}\s*\n", text, flags=re.MULTILINE) if block.strip()]


_IS_HELD = re.compile(r"^(?:scheduling info:)?\s+[Jj]ob is in hold state\b", re.MULTILINE)


def _read_details(text: str, zone: tzinfo | None) -> JobRows:
    """``qstat -j``.  Of two blocks of one job it is unknown which is real."""
    rows = JobRows()
    twice: set[str] = set()
    for block in _blocks(text):
        status = _detail(block, zone)
        if status is None:
            rows.unparsed.append(block[:1000])
        else:
            if status.job_id in rows.known:
                twice.add(status.job_id)
            rows.known[status.job_id] = status
    for number in twice:
        del rows.known[number]
        rows.unparsed.append(f"two blocks of job {number}")
    return rows


def read_detail(text: str, number: str, zone: tzinfo | None) -> JobStatus | None:
    """The one job that ``qstat -j`` was asked for: its own block is the first."""
    status = _detail(next(iter(_blocks(text)), ""), zone)
    return status if status is not None and number in ("", status.job_id) else None


def _detail(block: str, zone: tzinfo | None) -> JobStatus | None:
    """The state, which only Univa's prints, follows from the other fields."""
    attributes: dict[str, str] = {}
    for line in block.split("\n"):
        found = re.match(r"([a-zA-Z_][\w ()-]{0,60}?)\s{0,60}[0-9]{0,18}:\s+(.*)", line)
        if found is not None:
            attributes.setdefault(found[1].strip(), found[2])
    number = attributes.get("job_number", "").strip()
    if not is_number(number):
        return None
    state: JobState | None
    if "job_state" in attributes:
        state = state_of(attributes["job_state"].strip())
    elif "error reason" in attributes:
        state = JobState.FAILED
    elif "usage" in attributes:
        state = JobState.RUNNING
    elif _IS_HELD.search(block) is not None:
        state = JobState.HELD
    else:
        state = JobState.PENDING
    paths = output_paths(number, attributes)
    return JobStatus(
        number,
        state or JobState.UNKNOWN,
        reason=attributes.get("error reason"),
        name=attributes.get("job_name"),
        user=attributes.get("owner"),
        submitted=parse_time(attributes.get("submission_time"), zone),
        directory=attributes.get("cwd"),
        stdout_path=paths[0],
        stderr_path=paths[1],
        command=attributes.get("script_file"),
        source="queue",
    )


def hold(rows: JobRows, text: str) -> None:
    """Call those jobs held that ``qstat -s hu -xml`` lists: they wait for a person, too."""
    held = {
        number
        for record in elements(text, "job_list")
        for number in fields(record).get("JB_job_number", ())
    }
    for job_id, status in rows.known.items():
        if status.state is JobState.PENDING and JobId.parse(job_id).number in held:
            rows.known[job_id] = status.replace(state=JobState.HELD)


_REASON = re.compile(
    r"^error reason\s+(?P<task>[0-9]+):\s+"
    r"(?:[0-9/]{8,10} [0-9:]{8}(?:\.[0-9]+)? \[[0-9]+:[0-9]+\]: )?(?:error: )?(?P<text>\S.*)",
    re.MULTILINE,
)


def add_reasons(rows: JobRows, details: str, number: str) -> None:
    """Say of a job in the error state what ``qstat -j`` says of it, in its own (first) block."""
    reasons: dict[str, str] = {}
    block = next(iter(_blocks(details)), "")
    if re.match(rf"job_number:\s+{number}\s", block):
        for found in _REASON.finditer(block):
            reasons.setdefault(found["task"], found["text"].strip())
    for job_id, status in rows.known.items():
        its, _, tasks = job_id.partition(".")
        if status.state is JobState.FAILED and its == number:
            why = reasons.get(re.split("[-,:]", tasks)[0] or "1")
            rows.known[job_id] = status.replace(reason=why) if why else status


# --------------------------------------------------------------------------- qacct


def read_accounting(
    text: str, zone: tzinfo | None, limits: Limits | None = None, *, requested: str | None = None
) -> JobRows:
    """``qacct -j``: one record a run, the last one of a job counts.

    ``limits``: of its queues.  ``requested``: the number of the only job that this can be about.
    """
    rows = JobRows(source="accounting")
    for block in _blocks(text):
        attributes: dict[str, str] = {}
        for line in block.split("\n"):
            key, _, value = line.partition(" ")
            attributes.setdefault(key, value.strip())
        number = attributes.get("jobnumber", "")
        if requested is not None and is_number(number) and number != requested:
            continue
        status = _ended(number, attributes, zone, limits or {}) if is_number(number) else None
        if status is None:
            if "jobnumber" in attributes or "qname" in attributes:
                rows.unparsed.append(block[:1000])
            continue
        rows.known[status.job_id] = status
        is_try = whole_number(attributes.get("failed", "").partition(":")[0].strip()) in _NO_ENDS
        (rows.tries.add if is_try else rows.tries.discard)(status.job_id)
    return rows


# The numbers of "failed", sge_status(5): migrated or rescheduled; and not started, which puts the
# job into the error state, from which it can be released to start again.
_SENT_BACK = frozenset((24, 25))
_NO_ENDS = _SENT_BACK | {*range(1, 12), *range(26, 32)}


def _ended(
    number: str, attributes: dict[str, str], zone: tzinfo | None, limits: Limits
) -> JobStatus | None:
    failed = whole_number(attributes.get("failed", "").partition(":")[0].strip())
    code = whole_number(attributes.get("exit_status", "").partition("(")[0].strip())
    if failed is None or code is None:
        return None
    why = attributes["failed"].partition(":")[2].strip() or None
    deleted = attributes.get("deleted_by", "NONE")
    state, exit_code, number_of_signal = JobState.FAILED, code, None
    if deleted not in ("NONE", "undefined", ""):
        state, why = JobState.CANCELLED, f"deleted by {deleted}"
    elif failed in _SENT_BACK:
        state, exit_code = JobState.PENDING, 0  # this run ended, the job went back to the queue
    elif failed == 37:
        state, unclear = limit_state(attributes, limits)
        why = unclear or why
    elif failed == 0 and code == 0 and not _has_run(attributes):
        # ``qdel -f`` by a manager: written at once, without a report of the job's host.
        state, exit_code = JobState.CANCELLED, 0
        why = "deleted by force: whether and how its processes ended is not known"
    elif failed == 0 and code == 0:
        state = JobState.COMPLETED
    if failed in (37, 100) and code > 128:
        number_of_signal, exit_code = code - 128, 0
    slots = whole_number(attributes.get("slots"))
    task = attributes.get("taskid", "undefined")
    spent = re.match(r"[0-9]+(?:\.[0-9]+)?", attributes.get("ru_wallclock", ""))
    facts: dict[str, Any] = {
        "raw_state": f"failed {failed}, exit_status {code}",
        "reason": why,
        "name": attributes.get("jobname"),
        "user": attributes.get("owner"),
        "queue": attributes.get("qname"),
        "account": attributes.get("project")
        if attributes.get("project") not in ("NONE", None)
        else None,
        "nodes": (attributes["hostname"],)
        if attributes.get("hostname") not in (None, "", "NONE")
        else None,
        "cpus": slots,
        "exit_code": exit_code if state is JobState.COMPLETED or exit_code else None,
        "signal": number_of_signal,
        "submitted": _when(attributes.get("qsub_time"), zone),
        "started": _when(attributes.get("start_time"), zone),
        "ended": _when(attributes.get("end_time"), zone),
        "elapsed": timedelta(seconds=float(spent[0])) if spent and len(spent[0]) < 12 else None,
        "source": "accounting",
    }
    if state is JobState.PENDING:
        facts.update(exit_code=None, signal=None, ended=None)
    return JobStatus(_task_id(number, task if is_number(task) else None), state, **facts)


_MEASURED = ("ru_wallclock", "ru_utime", "ru_stime", "ru_maxrss", "ru_minflt", "ru_nvcsw")


def _has_run(attributes: Mapping[str, str]) -> bool:
    """Whether its host measured anything: no process begins without a page fault."""
    measured = [
        re.match(r"[0-9]+(?:\.[0-9]+)?", attributes[name])
        for name in _MEASURED
        if name in attributes
    ]
    return len(measured) < len(_MEASURED) or any(
        text is None or float(text[0]) for text in measured
    )


def _when(text: str | None, zone: tzinfo | None) -> datetime | None:
    if not text or text.startswith(("-", "undefined")):
        return None
    found = parse_time(text, zone)
    # The record of a rescheduled run has a submission time of 0.
    return None if found is None or found.year < 1971 else found
