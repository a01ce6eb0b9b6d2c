"""What the PBS family's qstat and pbsnodes print.  Pure.

Read: ``qstat`` (plain, ``-w``, ``-a``, ``-s``, ``-n1``), ``-f``, ``-F json``, ``-F dsv``, Torque's
``-x``.  Measured: OpenPBS 23.06, Torque 6 (its last master).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta, tzinfo
from typing import Any

from ...errors import SchedulerError
from ...jobs import JobState, JobStatus
from ...jobs.job_id import MAX_ID
from ..fields import json_text, parse_duration, parse_time, whole_number
from ..markup import elements, fields
from ..rows import Rows
from .array import Members, array_of, is_array
from .json_output import load
from .paths import told_paths, variable

_S = JobState
NO_LETTER = "qstat says U, which may be any state"
_LETTERS = {
    "Q": _S.PENDING,
    "W": _S.PENDING,
    "T": _S.PENDING,
    "H": _S.HELD,
    "R": _S.RUNNING,
    "B": _S.RUNNING,
    "E": _S.COMPLETING,
    "S": _S.SUSPENDED,
    "M": _S.UNKNOWN,
}
_ENDED = frozenset("FXC")
_ID = re.compile(
    r"[0-9]{1,18}(?:\[[0-9,:\-]*\])?(?:\.[0-9]*[A-Za-z][A-Za-z0-9_.\-]*(?:@[A-Za-z0-9_.\-]+)?)?",
    re.ASCII,
)

# A member that the server keeps no record of is shown with that of its array, another state and
# one of these comments (status_subjob in stat_job.c): exit status and substate are not its own.
# "finished" is said of members that failed, too (measured).
_LENT: dict[str, tuple[JobState, str]] = {
    "Subjob finished": (_S.UNKNOWN, "it has ended; how is lost: PBS keeps no record of it"),
    "Subjob failed": (_S.FAILED, "Subjob failed"),
    "Subjob terminated": (_S.CANCELLED, "Subjob terminated"),
}
_OF_THE_ARRAY = frozenset(("Exit_status", "substate", "stime", "obittime", "comment"))

_OVER = re.compile(
    r"exceeded resource (\w+)|\b(walltime|cput|mem|vmem|pmem|pvmem) \S+ exceeded limit"
)
# Exit_status below 0: the server or MOM ended the job (JOB_EXEC_... in OpenPBS' job.h and Torque's
# pbs_job.h).
_PBS_CODES: dict[int, tuple[JobState, str]] = {
    -1: (_S.FAILED, "it could not be started: before its files were there"),
    -2: (_S.FAILED, "it could not be started: after its files were there"),
    -3: (_S.FAILED, "it could not be started, to be tried again"),
    -4: (_S.NODE_FAIL, "aborted when MOM was restarted"),
    -5: (_S.NODE_FAIL, "aborted when MOM was restarted, with a checkpoint that cannot move"),
    -6: (_S.NODE_FAIL, "aborted when MOM was restarted, with a checkpoint"),
    -7: (_S.FAILED, "its restart from a checkpoint failed"),
    -10: (_S.FAILED, "no such user or group on the node"),
    -11: (_S.FAILED, "it was to be run again"),
    -12: (_S.FAILED, "it was checkpointed and killed"),
    -13: (_S.FAILED, "a wrong password"),
    -14: (_S.NODE_FAIL, "another node of the job failed"),
    -15: (_S.FAILED, "it was to be restarted from a checkpoint"),
    -16: (_S.FAILED, "a hook rejected the start, to be tried again"),
    -17: (_S.FAILED, "a hook rejected the start"),
    -18: (_S.FAILED, "a hook sent it back to the queue"),
    -19: (_S.FAILED, "a hook deleted it"),
    -20: (_S.NODE_FAIL, "the connection to its first node was lost"),
    -21: (_S.FAILED, "the directory of PBS on the node is not secure"),
    -22: (_S.FAILED, "a hook failed"),
    -23: (_S.FAILED, "no Kerberos credentials"),
    -24: (_S.FAILED, "over its ncpus (burst)"),
    -25: (_S.FAILED, "over its ncpus (sum)"),
    -26: (_S.OUT_OF_MEMORY, "over its vmem"),
    -27: (_S.OUT_OF_MEMORY, "over its mem"),
    -28: (_S.TIMEOUT, "over its cput"),
    -29: (_S.TIMEOUT, "over its walltime"),
    -30: (_S.NODE_FAIL, "its nodes could not be joined"),
}
_TORQUE_CODES: dict[int, tuple[JobState, str]] = {
    **{code: _PBS_CODES[code] for code in (-1, -2, -3, -4, -5, -6, -7)},
    -8: (_S.FAILED, "its command could not be run"),
    -9: (_S.FAILED, "its output files could not be made"),
    -10: (_S.OUT_OF_MEMORY, "over its memory"),
    -11: (_S.TIMEOUT, "over its walltime"),
    -12: (_S.TIMEOUT, "over its cput"),
    -13: (_S.FAILED, "no cgroup could be made for it"),
}


@dataclass(slots=True)
class QstatRows(Rows):
    """Rows of qstat, with the attributes of whole arrays: their states take those of their members
    to tell."""

    arrays: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def add_job(self, status: JobStatus | None, text: str, attributes: Mapping[str, str]) -> None:
        """Add a job with its attributes, or text that is not a job."""
        self.add(status, text)
        if status is not None and is_array(status.job_id, attributes):
            self.arrays[status.job_id] = attributes

    def update(self, others: QstatRows) -> None:
        """Take in what another part of the answer says."""
        self.known.update(others.known)
        self.unparsed.extend(others.unparsed)
        self.arrays.update(others.arrays)

    def settled(self) -> dict[str, JobStatus]:
        """All jobs; of an array, what its own record and those of its members say together."""
        known, members = dict(self.known), Members(self.known)
        for array, attributes in self.arrays.items():
            known[array] = array_of(known[array], attributes, members.of(array))
        return known


class QstatReader:
    """One dialect: ``pbs`` or ``torque``."""

    def __init__(self, *, torque: bool, zone: tzinfo | None) -> None:
        self.torque = torque
        self.zone = zone

    # -- one job's attributes ----------------------------------------------------

    def status(self, job_id: str, attributes: Mapping[str, str]) -> JobStatus | None:
        """A job from its attributes, as ``-f`` names them."""
        letter = attributes.get("job_state", "")
        if len(job_id) > MAX_ID or _ID.fullmatch(job_id) is None or len(letter) != 1:
            return None
        lent = None if self.torque else _lent(attributes)
        if lent is not None:
            attributes = {key: attributes[key] for key in attributes.keys() - _OF_THE_ARRAY}
        code = whole_number(attributes.get("Exit_status", attributes.get("exit_status")))
        state, reason = lent or (None, None)
        if lent is None or letter not in _ENDED:
            state, reason = self._judge(letter, code, attributes)
        if state is None:
            return None
        nodes = tuple(
            dict.fromkeys(
                part.partition("/")[0] for part in attributes.get("exec_host", "").split("+")
            )
        )
        is_final = state.is_final
        exit_code, number = _exit(code) if is_final and state is not _S.CANCELLED else (None, None)
        if state is _S.UNKNOWN and code == 256 + 15:
            number = 15
        elapsed = parse_duration(attributes.get("resources_used.walltime"), bare="seconds")
        stdout_path, stderr_path = told_paths(job_id, attributes, torque=self.torque)
        facts: dict[str, Any] = {
            "raw_state": letter,
            "reason": reason or attributes.get("comment"),
            "name": attributes.get("Job_Name"),
            "user": attributes.get("Job_Owner", "").rpartition("@")[0]
            or attributes.get("Job_Owner"),
            "queue": attributes.get("queue"),
            "account": attributes.get("Account_Name") or attributes.get("account"),
            "nodes": nodes if nodes != ("",) else None,
            "cpus": _cpus(attributes),
            "exit_code": exit_code,
            "signal": number,
            "submitted": parse_time(attributes.get("qtime") or attributes.get("ctime"), self.zone),
            "started": parse_time(
                attributes.get("stime") or attributes.get("start_time"), self.zone
            ),
            "ended": parse_time(
                attributes.get("obittime") or attributes.get("comp_time"), self.zone
            )
            if is_final
            else None,
            "elapsed": elapsed,
            "time_limit": parse_duration(attributes.get("Resource_List.walltime"), bare="seconds"),
            "source": "accounting" if letter in _ENDED else "queue",
            "directory": variable(attributes.get("Variable_List"), "PBS_O_WORKDIR"),
            "stdout_path": stdout_path,
            "stderr_path": stderr_path,
            "restarts": _restarts(attributes.get("run_count") or attributes.get("start_count")),
        }
        return JobStatus(job_id, state, **facts)

    def _judge(
        self, letter: str, code: int | None, attributes: Mapping[str, str]
    ) -> tuple[JobState | None, str | None]:
        if letter not in _ENDED:
            return self._active(letter, attributes)
        comment = attributes.get("comment", "")
        has_run = bool(attributes.get("exec_host"))
        if attributes.get("substate") == "91":
            number = f"Exit_status {code}" if code is not None and code < 0 else ""
            return _S.CANCELLED, "; ".join(filter(None, (comment, number))) or None
        if code is None:
            # Torque shows substate to managers only; Slurm's qstat, which knows of no end how it
            # was, shows none of its other attributes.
            if not has_run and (
                "substate" in attributes or {"Checkpoint", "server"} <= attributes.keys()
            ):
                why = "it never started: it was deleted while it waited"
                return _S.CANCELLED, why if comment.startswith("Not Running") else comment or why
            return _S.UNKNOWN, "ended, and the scheduler does not say how"
        return self._ended(code, comment, attributes)

    def _active(
        self, letter: str, attributes: Mapping[str, str]
    ) -> tuple[JobState | None, str | None]:
        if letter == "U":
            # PBS: suspended for the owner of the machine.  Slurm's qstat: anything it lacks a
            # letter for, ended (out of memory, DEADLINE) or not.
            return (_S.UNKNOWN, NO_LETTER) if self.torque else (_S.SUSPENDED, None)
        # A capital that is not known is the state of a newer version.
        state = _LETTERS.get(letter, _S.UNKNOWN if "A" <= letter <= "Z" else None)
        waits = ",".join(
            part for part in attributes.get("depend", "").split(",") if part.startswith("after")
        )
        if state is _S.HELD and attributes.get("Hold_Types", "") == "s" and waits:
            return _S.PENDING, attributes.get("comment") or f"it waits for {waits}"
        return state, None

    def _ended(
        self, code: int, comment: str, attributes: Mapping[str, str]
    ) -> tuple[JobState, str | None]:
        over = _OVER.search(comment) if code else None
        if over is not None:
            what = over[1] or over[2]
            kind = _S.OUT_OF_MEMORY if what in ("mem", "vmem", "pmem", "pvmem") else _S.TIMEOUT
            return kind, comment if code > 0 else f"Exit_status {code}: {comment}"
        if code - 256 in (9, 15) and _is_used_up(attributes):
            # Older servers end an overdue job by a plain signal, as qdel does.
            return _S.TIMEOUT, comment or "the walltime was used up"
        if code < 0:
            state, what = _below_zero(code, torque=self.torque)
            return state, f"{what}; {comment}" if comment else what
        was_deleted = not attributes.get("exec_host") or "deleted because" in comment
        if self.torque and code == 271 and was_deleted:
            return _S.CANCELLED, comment or "it never started: it was deleted while it waited"
        if self.torque and code == 271:
            # qdel sends TERM, but other programs can send it, too; the record is the same.
            return _S.UNKNOWN, "ended by TERM (exit_status 271): deleted, or killed by its own user"
        return (_S.COMPLETED if code == 0 else _S.FAILED), comment or None

    # -- answers --------------------------------------------------------------------

    def read(self, text: str) -> QstatRows | None:
        """Parse any listing; ``None`` for other text."""
        # What comes first is what it is: the text of a job can look like the beginning of another.
        found = _BEGINS.search(text)
        answer = json_text(text if found is None else text[: found.start()], '"pbs_server"')
        if answer:
            return self._json(json_text(text[text.index(answer) :], '"pbs_server"'))
        if found is not None and found["xml"]:
            return self._xml(text[found.start() :])
        if found is not None and found["full"]:
            return self._full(text[found.start() :])
        return self._table(text)

    def _json(self, text: str) -> QstatRows:
        try:
            answer = load(text)
        except ValueError as error:
            raise SchedulerError(
                f"no valid JSON: {error}", kind="parse_error", stdout=text
            ) from None
        jobs = answer.get("Jobs", {}) if isinstance(answer, dict) else None
        if not isinstance(jobs, dict) or not isinstance(answer, dict) or "pbs_server" not in answer:
            raise SchedulerError("JSON without jobs of PBS", kind="parse_error", stdout=text)
        rows = QstatRows()
        for job_id, job in jobs.items():
            attributes = _flat(job) if isinstance(job, dict) else {}
            rows.add_job(self.status(job_id, attributes), f"{job_id}: {job!r}", attributes)
        return rows

    def _xml(self, text: str) -> QstatRows:
        text, closed, _ = text.rpartition("</Data>")
        jobs = elements(text, "Job")
        if not closed or len(jobs) != text.count("<Job>"):
            raise SchedulerError("the answer is cut off", kind="transport", stdout=text)
        rows = QstatRows()
        for record in jobs:
            attributes: dict[str, str] = {}
            for group in ("Resource_List", "resources_used"):
                for inner in elements(record, group):
                    attributes.update(
                        {f"{group}.{key}": values[0] for key, values in fields(inner).items()}
                    )
            attributes.update(
                {key: values[0] for key, values in fields(record).items() if len(values) == 1}
            )
            rows.add_job(self.status(attributes.get("Job_Id", ""), attributes), record, attributes)
        return rows

    def _full(self, text: str) -> QstatRows:
        rows = QstatRows()
        twice: set[str] = set()
        for record in re.split(r"^(?=Job Id:)", text, flags=re.MULTILINE):
            if not record.strip():
                continue
            job_id, attributes = _record(record)
            status = self.status(job_id, attributes)
            if status is not None and job_id in rows.known:
                # Text of one job that looks like the record of another.
                twice.add(job_id)
            rows.add_job(status, record, attributes)
        for doubled in twice:
            rows.add(None, f"more than one record of {doubled}")
            del rows.known[doubled]
            rows.arrays.pop(doubled, None)
        return rows

    def _table(self, text: str) -> QstatRows | None:
        rows = QstatRows()
        at: int | None = None
        names: dict[str, int] = {}
        spans: list[tuple[int, int]] = []
        for line in text.split("\n"):
            lower = line.lower()
            if lower.startswith("job id") and "name" in lower:
                # Plain: id name user time S queue.  -a: id user queue name session nodes …
                is_all = "username" in lower and "queue" in lower and "sessid" in lower
                at, names = (9, {"user": 1, "queue": 2, "name": 3}) if is_all else (4, _PLAIN)
                continue
            if line.startswith("---"):
                spans = [match.span() for match in re.finditer("-+", line)]
                continue
            if at is None or not line.strip() or line[0] in " \t" or line.rstrip().endswith(":"):
                continue
            cells = line.split()
            if len(cells) > len(spans) > 0:
                # A name with blanks: what stands in each column decides.
                cells = [line[start:end].strip() for start, end in spans]
            attributes = {"job_state": cells[at] if len(cells) > at else ""}
            for name, place in names.items():
                if len(cells) > place:
                    attributes[_ATTRIBUTES[name]] = cells[place]
            job_id = cells[0]
            if job_id.endswith("*") or (spans and len(job_id) >= spans[0][1]):
                # The column is full: the server's name behind the number may be cut.
                job_id = job_id.partition(".")[0]
            rows.add(self.status(job_id, attributes), line)
        return rows if at is not None else None


_BEGINS = re.compile(
    r"^(?:(?P<full>Job Id:)|(?P<table>Job [iI][dD] +(?:Name|Username) )"
    r"|(?P<xml>.*<Data>))",
    re.MULTILINE,
)
_DSV = re.compile(r"Job Id: ([0-9\[\]]+[^\s|;,]*?)([^\w.\[\]\-@\s][^=\n]{0,80}?)?Job_Name=")
_FED = {"n": "\n", "t": "\t", "r": "\r", "v": "\v", "f": "\f", "b": "\b", "a": "\a"}


def _record(record: str) -> tuple[str, dict[str, str]]:
    """The id and the attributes of a record of ``-f``; empty where a text looks like attributes."""
    dsv = _DSV.match(record[:400])  # an id and its delimiter
    pairs: list[tuple[str, str]] = []
    if dsv is not None and dsv[2]:
        job_id = dsv[1]
        for part in _split(record.rstrip("\n")[len(f"Job Id: {job_id}{dsv[2]}") :], dsv[2]):
            key, equals, value = part.partition("=")
            if equals:
                value = re.sub(r"\\(.)", lambda match: _FED.get(match[1], match[1]), value)
                pairs.append((key, value))
    else:
        lines = record.split("\n")
        job_id = lines[0].partition(":")[2].strip()
        first = next((line for line in lines[1:] if line.strip()), "")
        # PBS: attributes behind four blanks, the rest of a long one behind a tab.
        indent = "\t" if first.startswith("\t") else "    "
        for line in lines[1:]:
            key, equals, value = line.partition(" = ")
            if line.startswith(indent) and equals and " " not in key.strip():
                pairs.append((key.strip(), value))
            elif line.startswith("\t") and pairs:
                pairs[-1] = (pairs[-1][0], pairs[-1][1] + line[1:])
    names = [key for key, _ in pairs]
    if any(names.count(name) > 1 for name in ("job_state", "Exit_status", "exit_status")):
        return job_id, {}
    return job_id, dict(pairs)


def _split(text: str, delimiter: str) -> list[str]:
    """The parts between delimiters; one behind an odd number of backslashes is a part's own."""
    parts: list[str] = []
    kept = ""
    for piece in text.split(delimiter):
        kept += piece
        if (len(piece) - len(piece.rstrip("\\"))) % 2:
            kept += delimiter
        else:
            parts.append(kept)
            kept = ""
    return [*parts, kept] if kept else parts


_PLAIN = {"name": 1, "user": 2, "queue": 5}
_ATTRIBUTES = {"name": "Job_Name", "user": "Job_Owner", "queue": "queue"}


def _lent(attributes: Mapping[str, str]) -> tuple[JobState, str] | None:
    """What is known of a member whose record is that of its array; ``None`` for all others."""
    said = _LENT.get(attributes.get("comment", ""))
    if said is not None and said[0] is _S.UNKNOWN and "Exit_status" not in attributes:
        # The array has one since the first of its members ended that had run.
        return _S.CANCELLED, "it never started: it was deleted while it waited"
    return said


def _is_used_up(attributes: Mapping[str, str]) -> bool:
    used = parse_duration(attributes.get("resources_used.walltime"), bare="seconds")
    limit = parse_duration(attributes.get("Resource_List.walltime"), bare="seconds")
    return used is not None and bool(limit) and limit is not None and used >= limit


def _flat(job: Mapping[str, Any]) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for key, value in job.items():
        if value is None:
            continue
        if isinstance(value, dict):
            if key == "Variable_List":
                attributes[key] = ",".join(
                    f"{name}={value[name]}"
                    for name in ("PBS_O_WORKDIR", "PBS_O_HOME")
                    if isinstance(value.get(name), str)
                )
            else:
                attributes.update({f"{key}.{name}": str(item) for name, item in value.items()})
        else:
            attributes[key] = str(value)
    return attributes


def _exit(code: int | None) -> tuple[int | None, int | None]:
    """(exit code, signal): 256 + N is what the server writes for signal N."""
    if code is None or code < 0:
        return None, None
    return (None, code - 256) if 256 < code < 384 else (code, None)


_PLACES = re.compile(r"(?:([0-9]{1,6})|[^:+]+)((?::[^+]*)?)")


def _cpus(attributes: Mapping[str, str]) -> int | None:
    """The cores of a job: PBS counts them, Torque says ``nodes=2:ppn=4`` (and ``ncpus`` of one)."""
    spec = attributes.get("Resource_List.nodes")
    if spec is None or "Resource_List.select" in attributes:
        return whole_number(attributes.get("Resource_List.ncpus"))
    total = 0
    for part in spec.split("+"):
        found = _PLACES.match(part)
        if found is None:
            return None
        each = re.search(r":ppn=([0-9]{1,6})(?![0-9])", found[2])
        total += int(found[1] or 1) * (int(each[1]) if each is not None else 1)
    return total


def _restarts(text: str | None) -> int | None:
    count = whole_number(text)
    return max(0, count - 1) if count is not None else None


LOOKS_LIKE = re.compile(
    r"^Job Id:|^Job [iI][dD] +(?:Name|Username) |\"pbs_version\"|<Data><Job>|<Job_Id>"
    r"|^OJ:[0-9a-f]+ begin (?:qstat|pbsnodes)-(?:pbs|torque)",
    re.MULTILINE,
)


def seconds(delta: timedelta) -> int:
    """Whole seconds, rounded up."""
    return -(-delta // timedelta(seconds=1))


__all__ = ["LOOKS_LIKE", "QstatReader", "QstatRows", "seconds"]


def _below_zero(code: int, *, torque: bool) -> tuple[JobState, str]:
    """The state that an ``Exit_status`` below 0 stands for, and what to say, with the number."""
    state, what = (_TORQUE_CODES if torque else _PBS_CODES).get(code, (_S.FAILED, ""))
    return state, f"Exit_status {code}: {what}" if what else f"Exit_status {code}"
