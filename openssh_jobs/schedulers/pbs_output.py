"""What the PBS family's qstat and pbsnodes print.  Pure.

Read: ``qstat`` (plain, ``-w``, ``-a``, ``-s``, ``-n1``), ``-f``, ``-F json``, ``-F dsv``, Torque's
``-x``.  Facts: OpenPBS 23.06 measured; exit codes below 0 from PBS' and Torque's job.h.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta, tzinfo
from typing import Any

from openssh_jobs.errors import SchedulerError
from openssh_jobs.jobid import MAX_ID
from openssh_jobs.jobs import JobState, JobStatus, Node, Queue
from openssh_jobs.schedulers.markup import elements, fields
from openssh_jobs.schedulers.pbs_json import load
from openssh_jobs.schedulers.text import (
    parse_duration,
    parse_size,
    parse_time,
    whole_number,
)

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
# Exit_status below 0: the server or MOM ended the job.
_PBS_CODES = {-26: _S.OUT_OF_MEMORY, -27: _S.OUT_OF_MEMORY, -28: _S.TIMEOUT, -29: _S.TIMEOUT}
_TORQUE_CODES = {-10: _S.OUT_OF_MEMORY, -11: _S.TIMEOUT, -12: _S.TIMEOUT}

_ID = re.compile(
    r"[0-9]{1,18}(?:\[[0-9,:\-]*\])?(?:\.[0-9]*[A-Za-z][A-Za-z0-9_.\-]*(?:@[A-Za-z0-9_.\-]+)?)?",
    re.ASCII,
)

_OVER = re.compile(
    r"exceeded resource (\w+)|\b(walltime|cput|mem|vmem|pmem|pvmem) \S+ exceeded limit"
)


@dataclass(slots=True)
class Rows:
    """What was read so far."""

    known: dict[str, JobStatus] = field(default_factory=dict)
    unparsed: list[str] = field(default_factory=list)

    def add(self, status: JobStatus | None, text: str) -> None:
        if status is not None:
            self.known[status.job_id] = status
        elif text.strip():
            self.unparsed.append(text[:1000])


class Reader:
    """One dialect: ``pbs`` or ``torque``."""

    def __init__(self, *, torque: bool, zone: tzinfo | None) -> None:
        self.torque = torque
        self.zone = zone

    # -- one job's attributes ----------------------------------------------------

    def status(self, job_id: str, said: Mapping[str, str]) -> JobStatus | None:
        """A job from its attributes, as ``-f`` names them."""
        letter = said.get("job_state", "")
        if len(job_id) > MAX_ID or _ID.fullmatch(job_id) is None or len(letter) != 1:
            return None
        code = whole_number(said.get("Exit_status", said.get("exit_status")))
        state, reason = self._judge(letter, code, said)
        if state is None:
            return None
        nodes = tuple(
            dict.fromkeys(part.partition("/")[0] for part in said.get("exec_host", "").split("+"))
        )
        is_final = state.is_final
        told, number = _exit(code) if is_final and state is not _S.CANCELLED else (None, None)
        elapsed = parse_duration(said.get("resources_used.walltime"), bare="seconds")
        facts: dict[str, Any] = {
            "raw_state": letter,
            "reason": reason or said.get("comment"),
            "name": said.get("Job_Name"),
            "user": said.get("Job_Owner", "").rpartition("@")[0] or said.get("Job_Owner"),
            "queue": said.get("queue"),
            "account": said.get("Account_Name") or said.get("account"),
            "nodes": nodes if nodes != ("",) else None,
            "cpus": whole_number(said.get("Resource_List.ncpus")),
            "exit_code": told,
            "signal": number,
            "submitted": parse_time(said.get("qtime") or said.get("ctime"), self.zone),
            "started": parse_time(said.get("stime") or said.get("start_time"), self.zone),
            "ended": parse_time(said.get("obittime") or said.get("comp_time"), self.zone)
            if is_final
            else None,
            "elapsed": elapsed,
            "time_limit": parse_duration(said.get("Resource_List.walltime"), bare="seconds"),
            "source": "accounting" if letter in _ENDED else "queue",
            "directory": _variable(said.get("Variable_List"), "PBS_O_WORKDIR"),
            "stdout_path": _path(said.get("Output_Path")),
            "stderr_path": _path(said.get("Error_Path")),
            "restarts": _restarts(said.get("run_count")),
        }
        return JobStatus(job_id, state, **facts)

    def _judge(
        self, letter: str, code: int | None, said: Mapping[str, str]
    ) -> tuple[JobState | None, str | None]:
        if letter not in _ENDED:
            if letter == "U":
                # PBS: suspended for the owner of the machine.  Slurm's qstat: anything it lacks a
                # letter for, ended (out of memory, DEADLINE) or not.
                return (_S.UNKNOWN, NO_LETTER) if self.torque else (_S.SUSPENDED, None)
            state = _LETTERS.get(letter)
            if state is _S.HELD and said.get("Hold_Types", "") == "s" and "depend" in said:
                return _S.PENDING, None
            return state, None
        comment = said.get("comment", "")
        if comment == "Subjob finished" and said.get("substate") == "91":
            # Deleting an array rewrites the records of elements that had ended before.
            return _S.UNKNOWN, "the array was deleted: how this element ended is lost"
        if said.get("substate") == "91":
            return _S.CANCELLED, comment or None
        if code is None:
            if "substate" in said and not said.get("exec_host"):
                return _S.CANCELLED, comment or "deleted before it started"
            return _S.UNKNOWN, "ended, and nobody says how"
        over = _OVER.search(comment) if code else None
        if over is not None:
            what = over[1] or over[2]
            kind = _S.OUT_OF_MEMORY if what in ("mem", "vmem", "pmem", "pvmem") else _S.TIMEOUT
            return kind, comment
        if code - 256 in (9, 15) and _is_used_up(said):
            # Older servers end an overdue job by a plain signal, as qdel does.
            return _S.TIMEOUT, comment or "the walltime was used up"
        if self.torque and code == 271:
            return _S.CANCELLED, comment or None
        if code < 0:
            codes = _TORQUE_CODES if self.torque else _PBS_CODES
            return codes.get(code, _S.FAILED), comment or f"Exit_status {code}"
        return (_S.COMPLETED if code == 0 else _S.FAILED), comment or None

    # -- answers --------------------------------------------------------------------

    def read(self, text: str) -> Rows | None:
        """Any listing; ``None`` for text that is none."""
        head = text.lstrip()
        if head.startswith("{"):
            return self._json(text)
        if head.startswith("<") and ("<Data>" in text or "<Job>" in text):
            return self._xml(text)
        if head.startswith("Job Id:"):
            return self._full(text)
        return self._table(text)

    def _json(self, text: str) -> Rows:
        try:
            answer = load(text)
        except ValueError as error:
            raise SchedulerError(
                f"no valid JSON: {error}", kind="parse_error", stdout=text
            ) from None
        jobs = answer.get("Jobs", {}) if isinstance(answer, dict) else None
        if not isinstance(jobs, dict) or not isinstance(answer, dict) or "pbs_server" not in answer:
            raise SchedulerError("JSON without jobs of PBS", kind="parse_error", stdout=text)
        rows = Rows()
        for job_id, job in jobs.items():
            said = _flat(job) if isinstance(job, dict) else {}
            rows.add(self.status(job_id, said), f"{job_id}: {job!r}")
        return rows

    def _xml(self, text: str) -> Rows:
        jobs = elements(text, "Job")
        if not text.rstrip().endswith("</Data>") or len(jobs) != text.count("<Job>"):
            raise SchedulerError("the answer is cut off", kind="transport", stdout=text)
        rows = Rows()
        for record in jobs:
            said: dict[str, str] = {}
            for group in ("Resource_List", "resources_used"):
                for inner in elements(record, group):
                    said.update({f"{group}.{key}": one[0] for key, one in fields(inner).items()})
            said.update({key: one[0] for key, one in fields(record).items() if len(one) == 1})
            rows.add(self.status(said.get("Job_Id", ""), said), record)
        return rows

    def _full(self, text: str) -> Rows:
        rows = Rows()
        for record in re.split(r"^(?=Job Id:)", text, flags=re.MULTILINE):
            if record.strip():
                rows.add(self._record(record), record)
        return rows

    def _record(self, record: str) -> JobStatus | None:
        head = record[:400]  # an id and its delimiter
        dsv = re.match(r"Job Id: ([0-9\[\]]+[^\s|;,]*?)([^\w.\[\]\-])Job_Name=", head)
        pairs: list[tuple[str, str]] = []
        if dsv is not None:
            job_id = dsv[1]
            for part in re.split(rf"(?<!\\){re.escape(dsv[2])}", record.rstrip("\n"))[1:]:
                key, equals, value = part.partition("=")
                if equals:
                    pairs.append((key, value.replace(f"\\{dsv[2]}", dsv[2])))
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
        if any(names.count(one) > 1 for one in ("job_state", "Exit_status", "exit_status")):
            return None  # an attribute's text that looks like attributes
        return self.status(job_id, dict(pairs))

    def _table(self, text: str) -> Rows | None:
        rows = Rows()
        at: int | None = None
        names: dict[str, int] = {}
        width = 0
        for line in text.split("\n"):
            lower = line.lower()
            if lower.startswith("job id") and "name" in lower:
                # Plain: id name user time S queue.  -a: id user queue name session nodes …
                is_all = "username" in lower and "queue" in lower and "sessid" in lower
                at, names = (9, {"user": 1, "queue": 2, "name": 3}) if is_all else (4, _PLAIN)
                continue
            if line.startswith("---"):
                width = len(line.split(" ", 1)[0])
                continue
            if at is None or not line.strip() or line[0] in " \t" or line.rstrip().endswith(":"):
                continue
            cells = line.split()
            said = {"job_state": cells[at] if len(cells) > at else ""}
            for name, place in names.items():
                if len(cells) > place:
                    said[_ATTRIBUTES[name]] = cells[place]
            job_id = cells[0]
            if job_id.endswith("*") or (width and len(job_id) >= width):
                # The column is full: the server's name behind the number may be cut.
                job_id = job_id.partition(".")[0]
            rows.add(self.status(job_id, said), line)
        return rows if at is not None else None


_PLAIN = {"name": 1, "user": 2, "queue": 5}
_ATTRIBUTES = {"name": "Job_Name", "user": "Job_Owner", "queue": "queue"}


def _is_used_up(said: Mapping[str, str]) -> bool:
    used = parse_duration(said.get("resources_used.walltime"), bare="seconds")
    limit = parse_duration(said.get("Resource_List.walltime"), bare="seconds")
    return used is not None and bool(limit) and limit is not None and used >= limit


def _flat(job: Mapping[str, Any]) -> dict[str, str]:
    said: dict[str, str] = {}
    for key, value in job.items():
        if value is None:
            continue
        if isinstance(value, dict):
            if key == "Variable_List":
                work = value.get("PBS_O_WORKDIR")
                said[key] = f"PBS_O_WORKDIR={work}" if isinstance(work, str) else ""
            else:
                said.update({f"{key}.{name}": str(one) for name, one in value.items()})
        else:
            said[key] = str(value)
    return said


def _exit(code: int | None) -> tuple[int | None, int | None]:
    """(exit code, signal): 256 + N is what the server writes for signal N."""
    if code is None or code < 0:
        return None, None
    return (None, code - 256) if 256 < code < 384 else (code, None)


def _variable(text: str | None, name: str) -> str | None:
    found = re.search(rf"(?:^|,){name}=([^,]*)", text) if text else None
    return found[1] if found is not None else None


def _path(text: str | None) -> str | None:
    """``host:/path`` without the host."""
    if not text:
        return None
    host, colon, path = text.partition(":")
    return path if colon and "/" not in host else text


def _restarts(text: str | None) -> int | None:
    count = whole_number(text)
    return max(0, count - 1) if count is not None else None


# --------------------------------------------------------------------------- the machine

_NODE_STATES = {
    "free": "idle",
    "job-busy": "allocated",
    "job-exclusive": "allocated",
    "busy": "allocated",
    "resv-exclusive": "reserved",
    "reserve": "reserved",
    "provisioning": "reserved",
    "wait-provisioning": "reserved",
    "sleep": "idle",
    "offline": "drained",
    "offline_by_mom": "drained",
    "down": "down",
    "stale": "down",
    "state-unknown": "down",
    "unknown": "unknown",
}
_WORST = ("down", "drained", "reserved", "allocated", "idle", "unknown")


def _node_records(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    name: str | None = None
    said: dict[str, str] = {}
    for line in text.splitlines():
        if line and not line[0].isspace():
            if name is not None and said:
                yield name, said
            name, said = line.strip(), {}
        elif " = " in line:
            key, _, value = line.strip().partition(" = ")
            said.setdefault(key, value)
    if name is not None and said:
        yield name, said


def read_nodes(text: str) -> list[Node]:
    """``pbsnodes -a`` of PBS and Torque."""
    nodes: list[Node] = []
    for name, said in _node_records(text):
        if "state" not in said:
            continue
        words = [word.strip() for word in said["state"].split(",")]
        states = {_NODE_STATES.get(word, "unknown") for word in words}
        state = next(one for one in _WORST if one in states)
        cpus = whole_number(
            said.get("resources_available.ncpus") or said.get("pcpus") or said.get("np")
        )
        used = whole_number(said.get("resources_assigned.ncpus"))
        if state == "idle" and used:
            state = "mixed"
        nodes.append(
            Node(
                name=name,
                state=state,
                raw_state=said["state"],
                cpus=cpus,
                cpus_used=used,
                memory=parse_size(said.get("resources_available.mem")),
                gpus=whole_number(said.get("resources_available.ngpus") or said.get("gpus")),
                queues=(said["queue"],) if "queue" in said else (),
                reason=said.get("comment") or said.get("note"),
            )
        )
    return nodes


def read_queues(text: str) -> list[Queue]:
    """``qstat -Q``; and ``qstat -Q -f``, which also knows the limits."""
    queues: list[Queue] = []
    if text.lstrip().startswith("Queue:"):
        for record in re.split(r"^Queue:", text, flags=re.MULTILINE)[1:]:
            lines = record.split("\n")
            if not lines[0].strip():
                continue
            said = {
                key.strip(): value
                for key, equals, value in (line.partition(" = ") for line in lines[1:])
                if equals
            }
            is_up = said.get("enabled") == "True" and said.get("started") == "True"
            queues.append(
                Queue(
                    name=lines[0].strip(),
                    state="up" if is_up else _queue_state(said),
                    time_limit=parse_duration(said.get("resources_max.walltime"), bare="seconds"),
                    nodes=None,
                    running=_count(said.get("state_count"), "Running"),
                    pending=_count(said.get("state_count"), "Queued"),
                )
            )
        return queues
    header: list[str] = []
    for line in text.splitlines():
        cells = line.split()
        if cells[:2] == ["Queue", "Max"] and {"Ena", "Str"} <= set(cells):
            header = cells
        elif header and len(cells) == len(header) and not line.startswith("-"):
            said = dict(zip(header, cells, strict=True))
            flags = {"enabled": said["Ena"] == "yes", "started": said["Str"] == "yes"}
            queues.append(
                Queue(
                    name=cells[0],
                    state="up"
                    if all(flags.values())
                    else _queue_state({key: str(value) for key, value in flags.items()}),
                    running=whole_number(said.get("Run")),
                    pending=whole_number(said.get("Que")),
                )
            )
    return queues


def _queue_state(said: Mapping[str, str]) -> str:
    """Enabled takes jobs, started runs them."""
    if said.get("enabled") == "False" and said.get("started") == "False":
        return "inactive"
    return "drained" if said.get("enabled") == "False" else "down"


def _count(text: str | None, name: str) -> int | None:
    found = re.search(rf"\b{name}:\s*([0-9]{{1,18}})", text) if text else None
    return int(found[1]) if found is not None else None


LOOKS_LIKE = re.compile(
    r"^Job Id:|^Job [iI][dD] +(?:Name|Username) |\"pbs_version\"|<Data><Job>|<Job_Id>"
    r"|^OJ:[0-9a-f]+ begin (?:qstat|pbsnodes)-(?:pbs|torque)",
    re.MULTILINE,
)


def seconds(delta: timedelta) -> int:
    """Whole seconds, rounded up."""
    return -(-delta // timedelta(seconds=1))


__all__ = ["LOOKS_LIKE", "Reader", "Rows", "read_nodes", "read_queues", "seconds"]
