"""HTCondor: condor_submit, condor_q, condor_history, condor_rm, condor_hold, condor_release.

Sources: the manual pages of condor_q, condor_history and condor_submit; job ClassAd attributes
(JobStatus, ExitBySignal, HoldReasonCode) in the manual's appendix.  Not run against a real pool.

A submission is a cluster of jobs (``2267``), its members ``2267.0`` and so on; a whole cluster is
what its members are.  Jobs leave the queue when they end: how, the history says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from typing import Any, ClassVar

from openssh_jobs.errors import InputError, SchedulerError
from openssh_jobs.jobs import CancelOutcome, JobId, JobState, JobStatus, Node, Snapshot
from openssh_jobs.schedulers.base import (
    Scheduler,
    Section,
    SubmitRequest,
    framed,
    outcomes_for,
    read_frame,
    rule,
    section,
)
from openssh_jobs.schedulers.text import (
    chunks,
    command_words,
    epoch,
    first_line,
    shell_path,
    whole_number,
)

_ATTRIBUTES = (
    "ClusterId,ProcId,JobStatus,Owner,QDate,JobStartDate,JobCurrentStartDate,CompletionDate,"
    "EnteredCurrentStatus,ExitCode,ExitBySignal,ExitSignal,HoldReason,HoldReasonCode,RemoveReason,"
    "RemoteHost,LastRemoteHost,RequestCpus,Iwd,Out,Err,Cmd,JobBatchName,NumJobStarts,"
    "RemoteWallClockTime,AccountingGroup"
)
_S = JobState
_NUMBERS = {
    0: _S.PENDING,  # unexpanded
    1: _S.PENDING,
    2: _S.RUNNING,
    3: _S.COMPLETING,  # being removed
    5: _S.HELD,
    6: _S.COMPLETING,
    7: _S.SUSPENDED,
}
_LETTERS = {
    "I": 1, "P": 1, "R": 2, "X": 3, "C": 4, "H": 5, ">": 6, "<": 2, "S": 7, "U": 0,
}  # fmt: skip


class HTCondor(Scheduler):
    """HTCondor, 8.4 to 24."""

    name: ClassVar[str] = "htcondor"
    aliases: ClassVar[tuple[str, ...]] = ("condor",)
    element_form: ClassVar[str] = "{number}.{index}"
    probe: ClassVar[str] = (
        "command -v condor_submit >/dev/null 2>&1 || exit 1\n"
        "condor_version 2>/dev/null </dev/null | sed -n '1p'"
    )
    noise: ClassVar[re.Pattern[str] | None] = re.compile(
        r"^(?:Submitting job\(s\)|WARNING|-- Schedd|\.+$)"
    )
    rules = (
        rule(
            "Failed to connect to local queue manager|Can't find address of (?:local )?schedd",
            "transient",
            refused=True,
        ),
        rule("Failed to (?:fetch ads|connect|end classad)|CEDAR:|SECMAN|Can't (?:connect|contact)|"
             "Unable to locate|Failed to commit|communication error", "transient"),
        rule("MAX_JOBS_PER_OWNER|MAX_JOBS_SUBMITTED|would exceed|limit on number of", "limit",
             refused=True, passes=True),
        rule("MAX_JOBS_PER_SUBMISSION", "limit", refused=True),
        rule("not authorized|DENIED|Permission denied", "permission", refused=True),
        rule("Can't find configuration|Neither the environment variable CONDOR_CONFIG",
             "not_submit_host", refused=True),
        rule("There are no jobs in the queue|not found", "not_found"),
        rule("ERROR: (?!Failed)|Failed to parse|Can't open|does not exist|No 'executable'|"
             "Unknown option|unknown or ambiguous|Unrecognized", "invalid_request", refused=True),
    )  # fmt: skip

    # -- submitting ------------------------------------------------------------

    def submit_script(self, request: SubmitRequest) -> str:
        """condor_submit(1) of a submit description file."""
        for what, is_wanted in (
            ("array (the description's own queue statement makes several jobs)", request.array),
            ("after_ok, after_any, after_failed (that is DAGMan's work)",
             request.after_ok or request.after_any or request.after_failed),
            ("queue", request.queue),
            ("time_limit", request.time_limit),
            ("nodes", request.nodes not in (None, 1, "1")),
        ):  # fmt: skip
            if is_wanted:
                self.unsupported(what)
        words: list[str] = []
        if request.name is not None:
            words += ["-batch-name", request.name]
        memory = request.memory
        for key, value in (
            ("accounting_group", request.account),
            ("request_cpus", request.cpus),
            ("request_memory", f"{-(-memory // 2**20)}" if isinstance(memory, int) else memory),
            ("request_gpus", request.gpus),
            ("output", request.stdout_path),
            ("error", request.stderr_path),
            ("hold", "true" if request.hold else None),
        ):
            if value is not None:
                if "\n" in str(value):
                    raise InputError(f"{key} holds a newline: {value!r}")
                words += ["-append", f"{key} = {value}"]
        words.extend(request.options)
        line = f"condor_submit {self.words(*words)} {shell_path(request.script)}"
        return f"LC_ALL=C {line} </dev/null\n"

    def submitted_ids(self, stdout: str) -> list[str]:
        """``1 job(s) submitted to cluster 2267.``, or ``2267.0 - 2267.4`` (``-terse``)."""
        spoken = re.findall(r"^[ \t]*[0-9]+ job\(s\) submitted to cluster ([0-9]+)\.", stdout, re.M)
        return spoken or re.findall(r"^([0-9]+)\.[0-9]+ - [0-9]+\.[0-9]+[ \t\r]*$", stdout, re.M)

    # -- asking ------------------------------------------------------------------

    def status_script(self, ids: Sequence[str] = (), *, all_users: bool = False) -> str:
        """One condor_q; a job that it was asked for by number and does not list has left."""
        if ids:
            batches = [self.words(*batch) for batch in chunks(self.checked_ids(ids))]
        else:
            batches = ["-allusers" if all_users else '"$(id -un)"']
        return framed(
            *(
                section("condor_q", f"condor_q {one} -json -attributes {_ATTRIBUTES} </dev/null")
                for one in batches
            )
        )

    def parse_status(
        self,
        stdout: str,
        *,
        stderr: str = "",
        returncode: int = 0,
        requested: Iterable[str] | None = None,
        command: str | None = None,
        timezone: tzinfo | None = None,
    ) -> Snapshot:
        """condor_q and condor_history: ``-json``, ``-long``, tables, ``-af:j``."""
        wanted = None if requested is None else [str(JobId.parse(one)) for one in requested]
        sections = read_frame(stdout)
        words = command_words(command, ("condor_q", "condor_history"))
        is_history = bool(words) and words[0].endswith("condor_history")
        is_framed = sections is not None
        if sections is None:
            sections = [Section("condor_q", stdout, returncode, "")]
        known: dict[str, JobStatus] = {}
        unparsed: list[str] = []
        for one in sections:
            history = is_history or one.name == "condor_history"
            is_empty = not one.text.strip()
            if one.returncode != 0 or (is_empty and not is_framed and not words):
                raise self.error(one.text, stderr, one.returncode)
            # An error text with status 0 is an error all the same.
            if is_empty and re.search(r"^(?:-- )?(?:Error|Failed)", stderr, re.MULTILINE | re.I):
                raise self.error(one.text, stderr, one.returncode)
            source = "accounting" if history else "queue"
            if not _read(one.text, source, known, unparsed) and not is_empty:
                raise self.error(
                    stdout,
                    stderr,
                    returncode,
                    kind="parse_error",
                    message=f"this is no listing of HTCondor: {first_line(one.text)!r}",
                )
        snapshot = Snapshot(
            known=known,
            unparsed=tuple(unparsed),
            source="accounting" if any(s.name == "condor_history" for s in sections) else "queue",
            whole_arrays=any(s.name == "condor_history" for s in sections),
        )
        if wanted is None:
            return snapshot
        return snapshot.select(wanted, covered=is_framed and not unparsed)

    def history_script(self, ids: Sequence[str], *, since: datetime | None = None) -> str:
        return framed(
            *(
                section(
                    "condor_history",
                    f"condor_history {self.words(*batch)} -json -attributes {_ATTRIBUTES} "
                    "</dev/null",
                )
                for batch in chunks(self.checked_ids(ids))
            )
        )

    def parse_history(
        self,
        stdout: str,
        *,
        stderr: str = "",
        returncode: int = 0,
        requested: Iterable[str] | None = None,
        since: datetime | None = None,
    ) -> Snapshot:
        if read_frame(stdout) is None:
            raise self.error(stdout, stderr, returncode, kind="transport")
        whole = self.parse_status(stdout, stderr=stderr, returncode=returncode)
        early = since - timedelta(hours=1) if since is not None else None
        known = {
            job_id: one
            for job_id, one in whole.known.items()
            if early is None or one.submitted is None or one.submitted >= early
        }
        snapshot = replace(whole, known=known)
        if requested is None:
            return snapshot
        return snapshot.select(requested, covered=not whole.unparsed)

    # -- acting ----------------------------------------------------------------------

    def _act(self, command: str, ids: Sequence[str]) -> str:
        words = self.words(*self.checked_ids(ids))
        return framed(section("act", f"{command} {words} 2>&1 </dev/null"))

    def cancel_script(self, ids: Sequence[str]) -> str:
        return self._act("condor_rm", ids)

    def hold_script(self, ids: Sequence[str]) -> str:
        return self._act("condor_hold", ids)

    def release_script(self, ids: Sequence[str]) -> str:
        return self._act("condor_release", ids)

    def parse_cancel(
        self,
        stdout: str,
        *,
        stderr: str = "",
        returncode: int = 0,
        requested: Iterable[str] | None = None,
    ) -> dict[str, CancelOutcome]:
        """One sentence a job or cluster (the texts are those of dc_schedd.cpp)."""
        sections = read_frame(stdout)
        text = f"{stdout}\n{stderr}" if sections is None else "".join(s.text for s in sections)
        said: dict[str, CancelOutcome] = {}
        for line in text.splitlines():
            for pattern, outcome in _OUTCOMES:
                found = pattern.search(line)
                if found is not None:
                    said[found[1]] = outcome
                    break
        if not said:
            raise self.error(text, stderr, returncode)
        return outcomes_for(requested, said, CancelOutcome.TRANSIENT)

    # -- the machine -------------------------------------------------------------------

    def nodes_script(self) -> str:
        wanted = "Machine,State,Activity,Cpus,Memory,TotalLoadAvg,GPUs,SlotType"
        return framed(
            section("condor_status", f"condor_status -json -attributes {wanted} </dev/null")
        )

    def parse_nodes(self, stdout: str, *, stderr: str = "", returncode: int = 0) -> list[Node]:
        """Slots, added up to machines."""
        sections = read_frame(stdout)
        if sections:
            stdout, returncode = sections[0].text, sections[0].returncode
        if returncode != 0 or not stdout.strip():
            raise self.error(stdout, stderr, returncode)
        slots = _json_list(stdout)
        if slots is None:
            raise self.error(stdout, stderr, returncode, kind="parse_error")
        nodes: dict[str, Node] = {}
        for slot in slots:
            name = slot.get("Machine")
            if not isinstance(name, str):
                continue
            before = nodes.get(name, Node(name=name, state="idle", cpus=0, cpus_used=0, memory=0))
            cpus, memory = _number(slot.get("Cpus")) or 0, _number(slot.get("Memory")) or 0
            is_used = slot.get("State") in ("Claimed", "Preempting")
            used = (before.cpus_used or 0) + (cpus if is_used else 0)
            total = (before.cpus or 0) + cpus
            state = "idle" if not used else "allocated" if used >= total else "mixed"
            if slot.get("State") in ("Owner", "Drained", "Delete"):
                state = "drained" if not used else "draining"
            nodes[name] = replace(
                before,
                state=state,
                raw_state=str(slot.get("State")),
                cpus=total,
                cpus_used=used,
                memory=(before.memory or 0) + memory * 2**20,
            )
        return list(nodes.values())

    def recognises(self, stdout: str, stderr: str = "", command: str | None = None) -> bool:
        return _LOOKS_LIKE.search(stdout) is not None or bool(
            re.search(r"condor_|schedd", stderr, re.IGNORECASE)
        )


_LOOKS_LIKE = re.compile(
    r"^-- (?:Schedd|Submitter|Quill):|^ *ID +OWNER +SUBMITTED|^OWNER +BATCH_NAME|\"ClusterId\""
    r"|^ClusterId = |job\(s\) submitted to cluster|^OJ:[0-9a-f]+ begin condor_",
    re.MULTILINE,
)
_O = CancelOutcome
_OUTCOMES: tuple[tuple[re.Pattern[str], CancelOutcome], ...] = tuple(
    (re.compile(pattern), outcome)
    for pattern, outcome in (
        (r"[Jj]ob ([0-9.]+) not found", _O.NOT_FOUND),
        (r"Couldn't find/\w+ all jobs in cluster ([0-9]+)", _O.NOT_FOUND),
        (r"Permission denied to \w+ job ([0-9.]+)", _O.PERMISSION),
        (r"Job ([0-9.]+) already marked for removal", _O.REQUESTED),
        (r"Job ([0-9.]+) not held to be released", _O.INVALID_REQUEST),
        (r"Job ([0-9.]+) (?:marked for removal|removed|held|released|already held)", _O.REQUESTED),
        (r"All jobs in cluster ([0-9]+) have been \w+", _O.REQUESTED),
        (r"Cluster ([0-9]+) has been \w+", _O.REQUESTED),
        (r"Job ([0-9.]+) already completed", _O.ALREADY_FINISHED),
    )
)


def _number(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return int(value) if abs(value) < 1e15 else None
    return whole_number(value) if isinstance(value, str) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value not in ("", "undefined") else None


def _json_list(text: str) -> list[dict[str, Any]] | None:
    try:
        found = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list):
        return None
    return [one for one in found if isinstance(one, dict)]


def _read(text: str, source: str, known: dict[str, JobStatus], unparsed: list[str]) -> bool:
    """Reads any listing; false for text that is none."""
    head = text.lstrip()
    if head.startswith("["):
        ads = _json_list(text)
        if ads is None:
            raise SchedulerError("no valid JSON", kind="parse_error", stdout=text)
        for ad in ads:
            _keep(_status(ad, source), json.dumps(ad), known, unparsed)
        return True
    if re.search(r"^(?:ClusterId|JobStatus) = ", text, re.MULTILINE):
        for block in re.split(r"\n\s*\n", text):
            ad = _long_ad(block)
            if ad:
                _keep(_status(ad, source), block, known, unparsed)
        return True
    return _read_table(text, source, known, unparsed)


def _keep(
    status: JobStatus | None, text: str, known: dict[str, JobStatus], unparsed: list[str]
) -> None:
    if status is None:
        unparsed.append(text[:1000])
    else:
        known.setdefault(status.job_id, status)  # condor_history prints the newest first


def _long_ad(block: str) -> dict[str, Any]:
    ad: dict[str, Any] = {}
    for line in block.splitlines():
        name, equals, value = line.partition(" = ")
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name):
            continue
        value = value.strip()
        if value.startswith('"') and value.endswith('"') and len(value) > 1:
            ad[name] = value[1:-1].replace('\\"', '"')
        elif value.lower() in ("true", "false"):
            ad[name] = value.lower() == "true"
        else:
            ad[name] = _number(value.partition(".")[0])
    return ad


def _status(ad: Mapping[str, Any], source: str) -> JobStatus | None:
    cluster, proc = _number(ad.get("ClusterId")), _number(ad.get("ProcId"))
    number = _number(ad.get("JobStatus"))
    if cluster is None or proc is None or number is None or cluster < 0 or proc < 0:
        return None
    code = _number(ad.get("ExitCode"))
    by_signal = ad.get("ExitBySignal") is True
    signal = _number(ad.get("ExitSignal")) if by_signal else None
    reason = _text(ad.get("HoldReason")) if number == 5 else None
    if number == 4:
        state = _S.UNKNOWN
        if by_signal or (code is not None and code != 0):
            state = _S.FAILED
        elif code == 0:
            state = _S.COMPLETED
        else:
            reason = "ended, and nobody says how"
    elif number == 3 and source == "accounting":
        state, reason = _S.CANCELLED, _text(ad.get("RemoveReason"))
    elif number in _NUMBERS:
        state = _NUMBERS[number]
    else:
        return None
    host = _text(ad.get("RemoteHost")) or _text(ad.get("LastRemoteHost"))
    spent = _number(ad.get("RemoteWallClockTime"))
    directory = _text(ad.get("Iwd"))
    facts: dict[str, Any] = {
        "raw_state": str(number),
        "reason": reason,
        "name": _text(ad.get("JobBatchName")) or _text(ad.get("Cmd")),
        "user": _text(ad.get("Owner")),
        "account": _text(ad.get("AccountingGroup")),
        "nodes": (host.rpartition("@")[2],) if host else None,
        "cpus": _number(ad.get("RequestCpus")),
        "exit_code": code if state in (_S.COMPLETED, _S.FAILED) and not by_signal else None,
        "signal": signal if state is _S.FAILED else None,
        "submitted": epoch(_number(ad.get("QDate"))),
        "started": epoch(_number(ad.get("JobCurrentStartDate") or ad.get("JobStartDate"))),
        "ended": epoch(_number(ad.get("CompletionDate") or ad.get("EnteredCurrentStatus")))
        if state.is_final
        else None,
        "elapsed": timedelta(seconds=spent) if spent and 0 < spent < 10**10 else None,
        "source": source,
        "directory": directory,
        "stdout_path": _join(directory, _text(ad.get("Out"))),
        "stderr_path": _join(directory, _text(ad.get("Err"))),
        "command": _text(ad.get("Cmd")),
        "restarts": max(0, (_number(ad.get("NumJobStarts")) or 1) - 1),
    }
    return JobStatus(f"{cluster}.{proc}", state, **facts)


def _join(directory: str | None, path: str | None) -> str | None:
    if path is None or path.startswith("/") or directory is None:
        return path
    return f"{directory}/{path}"


# --------------------------------------------------------------------------- tables

_ROW = re.compile(
    r"\s*(?P<id>[0-9]+\.[0-9]+)\s+(?P<owner>\S+)\s+[0-9]+/[0-9]+\s+[0-9]+:[0-9]+\s+"
    r"(?P<days>[0-9]+)\+(?P<clock>[0-9:]{8})\s+(?P<st>[IRXCHSU<>])\s+(?P<rest>.*)"
)
# condor_q -af:j with a letter or number for the state, as ARC asks for it.
_SHORT_ROW = re.compile(r"(?P<id>[0-9]+\.[0-9]+) (?P<st>[PIRXCHSU<>0-7])(?: .*)?")
_BATCH_IDS = re.compile(r"(?P<first>[0-9]+\.[0-9]+)(?:-(?P<last>[0-9]+))?")


def _read_table(text: str, source: str, known: dict[str, JobStatus], unparsed: list[str]) -> bool:
    columns: list[str] = []
    is_table = False
    for line in text.splitlines():
        words = line.split()
        if words[:2] == ["OWNER", "BATCH_NAME"]:
            columns, is_table = words, True
            continue
        if words[:2] == ["ID", "OWNER"] or line.startswith("-- "):
            is_table = True
            continue
        if not words or re.match(r"(?:Total for|[0-9]+ jobs;|All Running)", line):
            continue
        found = _ROW.fullmatch(line) or _SHORT_ROW.fullmatch(line.strip())
        if found is not None:
            is_table = True
            letter = found["st"]
            number = int(letter) if letter.isdigit() else _LETTERS[letter]
            cluster, _, proc = found["id"].partition(".")
            ad: dict[str, Any] = {"ClusterId": cluster, "ProcId": proc, "JobStatus": number}
            if "owner" in found.groupdict():
                ad["Owner"] = found["owner"]
            _keep(_status(ad, source), line, known, unparsed)
        elif columns:
            _keep(_batch(words, columns, source), line, known, unparsed)
        else:
            unparsed.append(line[:1000])
    return is_table


def _batch(words: list[str], columns: list[str], source: str) -> JobStatus | None:
    """A line of the batch view: so many jobs of a cluster in this state, so many in that."""
    ids = _BATCH_IDS.fullmatch(words[-1])
    # The columns of counts stand right before the ids; a batch's name may hold blanks.
    names = columns[columns.index("SUBMITTED") + 1 : -1] if "SUBMITTED" in columns else []
    counts = words[-1 - len(names) : -1]
    if ids is None or not names or len(counts) != len(names):
        return None
    count = {
        name: int(value) if value.isdigit() else 0
        for name, value in zip(names, counts, strict=True)
    }
    if count.get("RUN"):
        state = _S.RUNNING
    elif count.get("IDLE"):
        state = _S.PENDING
    elif count.get("HOLD"):
        state = _S.HELD
    else:
        state = _S.UNKNOWN
    last = f"-{ids['last']}" if ids["last"] else ""
    told = ", ".join(f"{number} {name.lower()}" for name, number in count.items() if number)
    return JobStatus(
        f"{ids['first']}{last}", state, user=words[0], reason=told or None, source=source
    )
