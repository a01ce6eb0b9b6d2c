"""No scheduler: a job is a detached process group with its own directory.

On the host, ``~/.openssh_jobs/direct/ID/`` holds what is known of job ID, a plain number:

======== =====================================================================================
job      name, script, paths of the output, time limit, time of submission (written first)
start    node, boot id, pid of the launcher, pid of the script, when each began (by rename)
exit     exit code and time of the end (by rename, last): the exit record
cancel   the job was cancelled; written before its processes are killed
timeout  the time limit was reached; written before its processes are killed
======== =====================================================================================

``launch`` runs the script with the interpreter of its first line (no executable bit is needed;
``/bin/sh`` without one) in the directory it was submitted from, standard output and error in
``job-ID.out`` and ``job-ID.err`` there, input empty, ``OPENSSH_JOBS_ID`` and
``OPENSSH_JOBS_DIRECTORY`` set.  It passes TERM on to the script's process group, ends the group at
the time limit, and writes the exit record.  A process is taken for the recorded one only if node,
boot id and start time agree, because the system may have reused the pid.

The scripts run in dash, bash and BusyBox, with or without setsid(1).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any, ClassVar
from urllib.parse import quote_from_bytes, unquote_to_bytes

from ...commands.scripts import Shell
from ...errors import InputError, SchedulerError
from ...files.private_directory import functions
from ...jobs import CancelOutcome, JobState, JobStatus, Node, Snapshot
from ...jobs.cause import Cause
from ..answer import Answer
from ..base import AfterEnd, Scheduler
from ..fields import (
    command_words,
    epoch,
    first_line,
    is_number,
    quote,
    shell_path,
    spent,
    whole_number,
)
from ..framing import Section, as_is, framed, read_frame, section, shell_text
from ..outcomes import outcomes_for
from ..request import ALL_OPTIONS, SubmitRequest
from ..rules import rule
from ..tokens import TokenAnswer, jobs_by_script
from .causes import LOST_AT_RESTART, NEVER_STARTED, cause_of

_REASONS: Mapping[str, str] = {
    "waiting": "not started yet",
    "gone": "no exit record: killed, or the node lost it",
    "restarted": LOST_AT_RESTART,
    "orphan": "its launcher was killed: there will be no exit code",
}


class Direct(Scheduler):
    """Runs jobs as process groups on the host itself."""

    name: ClassVar[str] = "direct"
    title: ClassVar[str | None] = "the host"
    aliases: ClassVar[tuple[str, ...]] = ("local",)
    probe: ClassVar[str] = 'printf "%s\\n" "$(uname -s -r)"'
    # There is nobody to keep a job to its cores or memory, or to let it wait.
    lacks: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("array", "after_ok", "after_any", "after_failed", "hold", "queue", "account", "nodes",
         "cpus", "memory", "gpus", "qos", "reservation", "constraint", "mail", "options"), ""
    )  # fmt: skip
    capabilities: ClassVar[frozenset[str]] = ALL_OPTIONS - lacks.keys()
    forgets_paths: ClassVar[bool] = False
    after_end: ClassVar[AfterEnd] = "nothing"
    poll_floor: ClassVar[float] = 0.0
    starts_once: ClassVar[bool] = True
    rules = (
        rule("openssh_jobs: refused: no directory", "permission", unsent=True, final=True),
        rule("openssh_jobs: refused: the job cannot be", "transient", unsent=True),
        rule("openssh_jobs: refused:", "invalid_request", unsent=True),
        rule("HOME: parameter|No space left|Disk quota exceeded", "transient"),
    )

    # -- submitting ------------------------------------------------------------

    def submit_script(self, request: SubmitRequest) -> str:
        """Starts the job and ends; the launcher ends it at its time limit."""
        name = request.name or posixpath.basename(request.script)
        out = request.stdout_path or "job-%j.out"
        err = request.stderr_path or (out if request.stdout_path else "job-%j.err")
        facts = {
            "name": _encode(name),
            "script": _encode(request.script),
            "out": _encode(out),
            "err": _encode(err),
            "limit": str(request.seconds or 0),
            "token": _encode(request.token or ""),
        }
        return _records() + shell_text(
            "direct/submit",
            script=as_is(shell_path(request.script)),
            facts=[f"{key} {value}" for key, value in facts.items()],
            limit=request.seconds or 0,
            out=_with_id(out),
            err=_with_id(err),
            place=posixpath.dirname(request.script) if request.token else "",
            arguments=request.arguments,
            launch=as_is(_launcher().strip()),
        )

    def submitted_ids(self, stdout: str) -> list[str]:
        return re.findall(r"^openssh_jobs: started job ([0-9]+)$", stdout, re.MULTILINE)

    # -- asking ------------------------------------------------------------------

    def status_script(self, ids: Sequence[str] = (), *, all_users: bool = False) -> str:
        """One record a job.  The jobs of others are in their homes: ``all_users`` sees no more."""
        if ids:
            which = self._numbers(ids)
            loop = f'for oj_one in {" ".join(which)}; do oj_show "$oj_one"; done\n'
        else:
            loop = (
                'for oj_d in "$oj_base"/[0-9]*; do\n'
                "  oj_one=${oj_d##*/}\n"
                '  case $oj_one in *[!0-9]*) ;; *) oj_show "$oj_one";; esac\n'
                "done\n"
            )
        return _look() + framed(shell_text("direct/status"), section("direct", f"{loop}:"))

    def _numbers(self, ids: Iterable[str]) -> list[str]:
        found = self.checked_ids(ids)
        for job_id in found:
            if not is_number(job_id):
                raise InputError(f"the id of a job without a scheduler is a number: {job_id!r}")
        return [str(int(job_id)) for job_id in found]

    def parse_status(
        self,
        answer: Answer,
        *,
        requested: Iterable[str] | None = None,
        command: str | None = None,
        timezone: tzinfo | None = None,
    ) -> Snapshot:
        """The answer to ``status_script``; a pasted ``ps`` with a header gives processes."""
        sections = read_frame(answer.stdout)
        wanted = self.requested_ids(requested)
        if sections is None:
            return self._ps(answer, wanted)
        known: dict[str, JobStatus] = {}
        unparsed: list[str] = []
        seen: set[str] = set()
        for part in sections:
            for record in part.text.split(f"{part.mark}|")[1:]:
                status, job_id = _read_record(record, part)
                if job_id is None:
                    unparsed.append(record[:1000])
                    continue
                seen.add(job_id)
                if status is not None:
                    known[job_id] = status
        snapshot = Snapshot(known=known, unparsed=tuple(unparsed))
        if wanted is None:
            return snapshot
        return snapshot.select(wanted, covered=lambda job_id: job_id.text in seen)

    def _ps(self, answer: Answer, wanted: list[str] | None) -> Snapshot:
        lines = answer.stdout.splitlines()
        header = lines[0].split() if lines else []
        state_at = next(
            (header.index(name) for name in ("STAT", "S", "STATE") if name in header), None
        )
        if "PID" not in header or state_at is None:
            raise self.error(
                answer,
                kind="parse_error" if answer.returncode == 0 else None,
                message=None
                if answer.returncode
                else f"no answer of direct: {first_line(answer.stdout)!r}",
            )
        pid_at = header.index("PID")
        known: dict[str, JobStatus] = {}
        unparsed: list[str] = []
        for line in lines[1:]:
            cells = line.split(None, len(header) - 1)
            is_whole = len(cells) > max(state_at, pid_at)
            state = _PS_STATES.get(cells[state_at][:1]) if is_whole else None
            pid = cells[pid_at] if is_whole else ""
            if state is None or not is_number(pid):
                unparsed.append(line[:1000])
                continue
            known[pid] = JobStatus(
                pid,
                state,
                raw_state=cells[state_at],
                name=cells[-1] if len(cells) == len(header) else None,
                source="queue",
            )
        snapshot = Snapshot(known=known, unparsed=tuple(unparsed))
        # ps may have been asked for anything: it covers nothing.
        return snapshot if wanted is None else snapshot.select(wanted, covered=False)

    def token_script(self, requests: Sequence[SubmitRequest], *, since: datetime) -> str:
        """The records hold the path of the script, until they are cleaned away."""
        return self.status_script()

    def parse_tokens(self, answer: Answer, requests: Sequence[SubmitRequest]) -> TokenAnswer:
        snapshot = self.parse_status(answer)
        if snapshot.unparsed or read_frame(answer.stdout) is None:
            raise self.error(answer, kind="transport")
        found = [(status.job_id, status.command or "") for status in snapshot.known.values()]
        return TokenAnswer(jobs=jobs_by_script(found, requests), settling=2.0)

    def detail_script(self, job_id: str) -> str:
        return self.status_script([job_id])

    def parse_detail(self, answer: Answer) -> JobStatus:
        snapshot = self.parse_status(answer)
        if len(snapshot.known) != 1:
            raise SchedulerError("there is no such job", kind="not_found", stdout=answer.stdout)
        return next(iter(snapshot.known.values()))

    def cause_of(self, status: JobStatus) -> Cause:
        return cause_of(status)

    # -- acting ----------------------------------------------------------------------

    def cancel_script(self, ids: Sequence[str]) -> str:
        """TERM to the script's process group, KILL after five seconds."""
        body = shell_text("direct/cancel", ids=self._numbers(ids))
        return _look() + framed(section("direct", body))

    def cleanup_script(self, ids: Sequence[str]) -> str:
        """Removes what is kept of these jobs, where they have ended."""
        return _records() + shell_text("direct/clean", ids=self._numbers(ids))

    def parse_cancel(
        self, answer: Answer, *, requested: Iterable[str] | None = None
    ) -> dict[str, CancelOutcome]:
        sections = read_frame(answer.stdout)
        if not sections:
            raise self.error(answer, kind="transport")
        outcomes: dict[str, CancelOutcome] = {}
        for line in sections[0].text.splitlines():
            words = line.split()
            if len(words) == 3 and words[1] in CancelOutcome.__members__.values():
                outcomes[words[0]] = CancelOutcome(words[1])
        return outcomes_for(requested, outcomes, CancelOutcome.UNKNOWN)

    # -- the machine -------------------------------------------------------------------

    def nodes_script(self) -> str:
        return framed(section("nodes", shell_text("direct/nodes")))

    def parse_nodes(self, answer: Answer) -> list[Node]:
        """The host itself."""
        sections = read_frame(answer.stdout)
        if not sections:
            raise self.error(answer, kind="transport")
        values: dict[str, str] = {}
        for line in sections[0].text.splitlines():
            key, _, value = line.partition(" ")
            values[key] = value.strip()
        if not values.get("name"):
            raise self.error(answer, kind="parse_error")
        load = re.match(r"[0-9.]+", values.get("load", ""))
        return [
            Node(
                name=values["name"],
                state="idle",
                cpus=whole_number(values.get("cpus")),
                memory=_kib(values.get("memory")) or whole_number(values.get("bytes")),
                memory_free=_kib(values.get("free")),
                load=float(load[0]) if load is not None and load[0] != "." else None,
            )
        ]

    # -- recognising -------------------------------------------------------------------

    def recognises(self, stdout: str, stderr: str = "", command: str | None = None) -> bool:
        if command_words(command, ("ps",)):
            return True
        return _LOOKS_LIKE.search(stdout) is not None


_LOOKS_LIKE = re.compile(
    r"^OJ:[0-9a-f]+ begin direct$|^ *PID .*\b(?:STAT|S|CMD)\b|^\S+ +PID .*STAT", re.MULTILINE
)
_PS_STATES = {
    **dict.fromkeys("RSDIWKLUP", JobState.RUNNING),
    **dict.fromkeys("Tt", JobState.SUSPENDED),
    **dict.fromkeys("ZX", JobState.COMPLETING),
}


def _kib(text: str | None) -> int | None:
    number = whole_number((text or "").partition(" ")[0])
    return number * 1024 if number is not None else None


def _encode(text: str) -> str:
    """Any text as one word of ASCII without blanks."""
    return quote_from_bytes(text.encode("utf-8", "surrogateescape"), safe="/.,:=+@_-")


def _decode(text: str) -> str:
    data = text.encode("utf-8", "surrogateescape")
    return unquote_to_bytes(data).decode("utf-8", "surrogateescape")


def _with_id(path: str) -> Shell:
    """A path as a shell word in which ``%j`` is the id of the job."""
    path = f"./{path}" if path.startswith("-") else path
    word = '"$oj_id"'.join(quote(part) if part else "" for part in path.split("%j")) or "''"
    return as_is(word)


def _records() -> str:
    """The shell functions that start jobs and look at their records, which lie privately."""
    return shell_text("direct/processes") + functions() + shell_text("direct/records")


def _look() -> str:
    return _records() + "oj_try_records look\n"


def _launcher() -> str:
    """What runs beside a job's script and writes how it ended."""
    return shell_text("direct/processes") + shell_text("direct/launch")


def _read_record(record: str, part: Section) -> tuple[JobStatus | None, str | None]:
    """(status, id) of a record; no status for a job that is not there, no id for nonsense."""
    text, _, directory = record.partition(f"{part.mark}>")
    head, _, body = text.partition("\n")
    cells = head.split("|")
    if len(cells) != 3 or not is_number(cells[0]):
        return None, None
    job_id, verdict, now = cells
    if verdict == "absent":
        return None, job_id
    values: dict[str, str] = {}
    for line in body.split("\n"):
        key, _, value = line.partition(" ")
        values[key] = value
    state, reason = _judge(verdict, values, whole_number(now))
    if state is None:
        return None, None
    code = whole_number(values.get("code"))
    started, ended = (
        whole_number(values.get("started")),
        whole_number(values.get("ended")),
    )
    until = ended if ended is not None else whole_number(now)
    elapsed = None
    if started is not None and until is not None and (state.is_final or state.is_active):
        elapsed = spent(max(0, until - started))
    folder = directory.removesuffix("\n") or None
    limit = whole_number(values.get("limit"))
    facts: dict[str, Any] = {
        "raw_state": verdict if code is None else "ended",
        "reason": reason,
        "name": _decode(values["name"]) if "name" in values else None,
        "nodes": (values["node"],) if values.get("node") else None,
        "exit_code": code if state.is_final else None,
        "submitted": epoch(whole_number(values.get("submitted"))),
        "started": epoch(started),
        "ended": epoch(ended),
        "elapsed": elapsed,
        "time_limit": spent(limit) if limit else None,
        "source": "marker" if code is not None else "queue",
        "directory": folder,
        "stdout_path": _path(folder, values.get("out"), job_id),
        "stderr_path": _path(folder, values.get("err"), job_id),
        "command": _decode(values["script"]) if "script" in values else None,
    }
    return JobStatus(job_id, state, **facts), job_id


def _path(folder: str | None, text: str | None, job_id: str) -> str | None:
    if not text:
        return None
    path = _decode(text).replace("%j", job_id)
    return posixpath.join(folder, path) if folder else path


# Nobody needs that long from the claim of an id to the start of the launcher.
_START_WITHIN = 60


def _judge(
    verdict: str, record: Mapping[str, str], now: int | None
) -> tuple[JobState | None, str | None]:
    """What the files and a look at the processes say together.

    The processes were looked at before the exit record was read, so a job that ended in between is
    seen as ended.
    """
    if "code" in record:
        code = whole_number(record["code"])
        if code is None:
            return None, None
        if record.get("why"):
            return JobState.FAILED, record["why"]
        if "cancelled" in record:
            return JobState.CANCELLED, "cancelled"
        if "timed_out" in record:
            return JobState.TIMEOUT, "time limit"
        if code == 0:
            return JobState.COMPLETED, None
        signal = f" (128 + signal {code - 128})" if 128 < code < 193 else ""
        return JobState.FAILED, f"exit status {code}{signal}"
    if verdict == "waiting":
        since = whole_number(record.get("submitted"))
        if now is not None and since is not None and now - since > _START_WITHIN:
            return JobState.UNKNOWN, NEVER_STARTED
        return JobState.PENDING, _REASONS[verdict]
    if verdict == "elsewhere":
        return JobState.UNKNOWN, f"runs on the node {record.get('node')}: only that one can tell"
    if verdict in ("gone", "restarted"):
        if "cancelled" in record:
            return JobState.CANCELLED, "cancelled"
        return JobState.UNKNOWN, _REASONS[verdict]
    if verdict in ("alive", "orphan"):
        if "cancelled" in record:
            return JobState.COMPLETING, "being cancelled"
        return JobState.RUNNING, _REASONS.get(verdict)
    return None, None
