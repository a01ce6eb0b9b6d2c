"""IBM Spectrum LSF (and OpenLava): bsub, bjobs, bhist, bkill, bstop, bresume, bhosts, bqueues.

Sources: the manual pages of bsub(1), bjobs(1), bhist(1), bkill(1).  Not run against a real LSF.
``bjobs -a`` lists ended jobs for CLEAN_PERIOD (an hour by default); ``-json`` is there since 10.1,
the wide table is what older versions answer with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import ClassVar

from openssh_jobs.errors import InputError
from openssh_jobs.jobs import CancelOutcome, JobId, JobStatus, Node, Queue, Snapshot
from openssh_jobs.schedulers.base import (
    Scheduler,
    Section,
    SubmitRequest,
    framed,
    read_frame,
    rule,
    section,
)
from openssh_jobs.schedulers.launcher import LSF_JOBS, Convention
from openssh_jobs.schedulers.lsf_output import columns_of_command, read
from openssh_jobs.schedulers.outcomes import outcomes_for
from openssh_jobs.schedulers.text import (
    chunks,
    command_words,
    expand_array,
    first_line,
    shell_path,
    text_seconds,
    whole_number,
)

_FIELDS = (
    "jobid jobindex stat user queue exec_host exit_code exit_reason pend_reason slots project "
    "sub_cwd output_file error_file command job_name"
)


class LSF(Scheduler):
    """Spectrum LSF, 9 and 10."""

    name: ClassVar[str] = "lsf"
    directive: ClassVar[str | None] = "#BSUB"
    element_form: ClassVar[str] = "{number}[{index}]"
    probe: ClassVar[str] = (
        "command -v bsub >/dev/null 2>&1 || exit 1\n"
        "command -v bjobs >/dev/null 2>&1 || exit 1\n"
        "lsid 2>/dev/null </dev/null | grep -v '^$' | sed -n '1p'"
    )
    convention: ClassVar[Convention | None] = LSF_JOBS
    # bsub ends with exit(-1).
    own_statuses: ClassVar[frozenset[int]] = frozenset((255,))
    uncertain: ClassVar[tuple[str, ...]] = (
        "batch daemon not responding|still trying|Failed in (?:an LSF library call|sending)",
        "Communication time ?out|Server connection",
    )
    rules = (
        rule("batch daemon not responding|LIM is down|LIM.*not responding|still trying|"
             "Failed in (?:an LSF library call|sending)|Communication time ?out|"
             "Server connection|mbatchd .*(?:restart|busy)|Unable to contact", "transient"),
        rule("[Pp]ending job threshold|User'?s? job slot limit|job limit .*reached|"
             "exceeds .*MAX_JOBS|Too many (?:jobs|pending)", "limit", passes=True),
        rule("exceeds .*(?:limit|LIMIT)|above the hard limit|Requested.*exceed", "limit"),
        rule("[Pp]ermission denied|User cannot use|not (?:a )?authorized|Operation not permitted|"
             "does not have permission", "permission"),
        rule("not a? ?(?:submission|client) host|ls_initdebug|Cannot open lsf\\.conf|"
             "Bad host name", "not_submit_host"),
        rule("is not found|No matching job", "not_found"),
        rule("Usage:|Bad argument|Illegal option|[Yy]ou cannot use", "invalid_request",
             final=True),
        rule("Job not submitted|Request aborted by esub|Bad resource|"
             "No such (?:queue|file|project)|Illegal|Empty job|Invalid", "invalid_request"),
    )  # fmt: skip
    cancel_command, hold_command, release_command = "bkill", "bstop", "bresume"

    # -- submitting ------------------------------------------------------------

    def submit_script(self, request: SubmitRequest) -> str:
        """bsub(1), with the script as its input: only then are ``#BSUB`` lines read."""
        words: list[str] = []
        if request.array is not None:
            wish, percent, slots = request.array.partition("%")
            if not expand_array(wish):
                raise InputError(f"array is no list of indices: {request.array!r}")
            limit = f"%{slots}" if percent else ""
            words += ["-J", f"{request.name or 'array'}[{wish}]{limit}"]
        elif request.name is not None:
            words += ["-J", request.name]
        if request.nodes not in (None, 1, "1"):
            self.unsupported("nodes (options=('-R', 'span[ptile=N]') says it)")
        for option, value in (
            ("-q", request.queue),
            ("-P", request.account),
            ("-W", _minutes(request.time_limit)),
            ("-n", request.cpus),
            ("-R", "span[hosts=1]" if (request.cpus or 1) > 1 else None),
            ("-M", _memory(request.memory)),
            ("-gpu", f"num={request.gpus}" if request.gpus else None),
            ("-o", request.stdout_path),
            ("-e", request.stderr_path),
            ("-w", _dependency(request)),
        ):
            if value is not None:
                words += [option, str(value)]
        if request.hold:
            words.append("-H")
        words.extend(request.options)
        return f"LC_ALL=C bsub {self.words(*words)} <{shell_path(request.script)}\n"

    def submitted_ids(self, stdout: str) -> list[str]:
        """``Job <930> is submitted to default queue <normal>.``"""
        return re.findall(r"^[ \t]*Job <([0-9]+)> is submitted to .*", stdout, re.MULTILINE)

    # -- asking ------------------------------------------------------------------

    def status_script(self, ids: Sequence[str] = (), *, all_users: bool = False) -> str:
        """bjobs by ids (anybody's), else of this user (or all)."""
        if ids:
            batches = [f"-u all {self.words(*batch)}" for batch in chunks(self.checked_ids(ids))]
        else:
            batches = ["-u all" if all_users else ""]
        parts: list[str] = []
        for one in batches:
            first = f"bjobs -a -json -o '{_FIELDS}' {one} </dev/null\noj_rc=$?\n(exit $oj_rc)"
            parts.append(section("bjobs", first))
            again = section("bjobs-w", f"bjobs -a -w {one} </dev/null")
            parts.append(f"case $oj_rc in 0) ;; *)\n{again};;\nesac\n")
        return framed(*parts)

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
        """bjobs: table (``-w``), ``-l``, ``-json``, ``-o`` with a header; bhist ``-l``."""
        wanted = None if requested is None else [str(JobId.parse(one)) for one in requested]
        sections = read_frame(stdout)
        is_framed = sections is not None
        if sections is None:
            sections = [Section("bjobs", stdout, returncode, "")]
        gone = {JobId.parse(one).number for one in _GONE.findall(f"{stderr}\n{stdout}")}
        none_at_all = re.search(r"No (?:unfinished |matching )?jobs? found", f"{stderr}\n{stdout}")
        columns = columns_of_command(command_words(command, ("bjobs",)))
        known: dict[str, JobStatus] = {}
        unparsed: list[str] = []
        answered = False
        for one in sections:
            is_answer = read(one.text, known, unparsed, columns)
            answered = answered or is_answer
        if not answered and not gone and none_at_all is None:
            raise self.error(
                "" if is_framed else stdout,
                stderr,
                returncode or max((one.returncode for one in sections), default=0),
                kind="parse_error" if returncode == 0 and not stderr.strip() else None,
                message=f"this is no listing of LSF: {first_line(stdout)!r}"
                if returncode == 0 and not stderr.strip()
                else None,
            )
        if not known and gone and wanted is None:
            raise self.error(stdout, stderr, returncode, kind="not_found")
        is_history = any(one.name == "bhist" for one in sections)
        snapshot = Snapshot(
            known=known,
            unparsed=tuple(unparsed),
            source="accounting" if is_history else "queue",
            whole_arrays=is_history,
        )
        if wanted is None:
            return snapshot
        return snapshot.select(
            wanted,
            covered=lambda one: one.number in gone or (is_framed and none_at_all is not None),
        )

    def history_script(self, ids: Sequence[str], *, since: datetime | None = None) -> str:
        """bhist over all event logs that are kept (``-n 0``)."""
        return framed(
            *(
                section("bhist", f"bhist -n 0 -l {self.words(*batch)} </dev/null")
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
        return self.parse_status(stdout, stderr=stderr, returncode=returncode, requested=requested)

    # -- acting ----------------------------------------------------------------------

    def parse_cancel(
        self,
        stdout: str,
        *,
        stderr: str = "",
        returncode: int = 0,
        requested: Iterable[str] | None = None,
    ) -> dict[str, CancelOutcome]:
        """``Job <N> is being terminated``, ``Job <N>: Job has already finished`` and so on."""
        sections = read_frame(stdout)
        text = f"{stdout}\n{stderr}" if sections is None else "".join(s.text for s in sections)
        said: dict[str, CancelOutcome] = {}
        for job_id, told in re.findall(r"Job <([0-9]+(?:\[[0-9,\-]+\])?)>:? (.*)", text):
            said[job_id] = self._outcome(told)
        if not said:
            raise self.error(text, stderr, returncode)
        return outcomes_for(requested, said, CancelOutcome.TRANSIENT)

    def _outcome(self, told: str) -> CancelOutcome:
        if re.match(r"is being (?:terminated|stopped|resumed|killed|signaled)", told):
            return CancelOutcome.REQUESTED
        if "already finished" in told:
            return CancelOutcome.ALREADY_FINISHED
        return self.outcome_of(told)

    # -- the machine -------------------------------------------------------------------

    def nodes_script(self) -> str:
        return framed(section("bhosts", "bhosts -w </dev/null"))

    def parse_nodes(self, stdout: str, *, stderr: str = "", returncode: int = 0) -> list[Node]:
        nodes: list[Node] = []
        for cells in self._rows(stdout, stderr, returncode, "HOST_NAME"):
            slots, jobs = whole_number(cells.get("MAX")), whole_number(cells.get("NJOBS"))
            raw = cells.get("STATUS", "")
            state = "unknown"
            if raw == "ok":
                state = "mixed" if jobs else "idle"
            elif raw.startswith("closed"):
                is_busy = raw in ("closed_Full", "closed_Excl", "closed_Busy", "closed")
                state = "allocated" if is_busy and jobs else "drained"
            elif raw.startswith(("unavail", "unreach", "unlicensed")):
                state = "down"
            nodes.append(
                Node(
                    name=cells["HOST_NAME"],
                    state=state,
                    raw_state=raw or None,
                    cpus=slots,
                    cpus_used=jobs,
                )
            )
        return nodes

    def queues_script(self) -> str:
        return framed(section("bqueues", "bqueues -w </dev/null"))

    def parse_queues(self, stdout: str, *, stderr: str = "", returncode: int = 0) -> list[Queue]:
        queues: list[Queue] = []
        for cells in self._rows(stdout, stderr, returncode, "QUEUE_NAME"):
            opened, _, active = cells.get("STATUS", "").partition(":")
            state = "up"
            if opened == "Closed":
                state = "inactive" if active == "Inact" else "drained"
            elif active == "Inact":
                state = "down"
            queues.append(
                Queue(
                    name=cells["QUEUE_NAME"],
                    state=state if opened else "unknown",
                    raw_state=cells.get("STATUS"),
                    running=whole_number(cells.get("RUN")),
                    pending=whole_number(cells.get("PEND")),
                )
            )
        return queues

    def _rows(
        self, stdout: str, stderr: str, returncode: int, first: str
    ) -> list[Mapping[str, str]]:
        sections = read_frame(stdout)
        if sections:
            stdout, returncode = sections[0].text, sections[0].returncode
        rows: list[Mapping[str, str]] = []
        header: list[str] = []
        for line in stdout.splitlines():
            words = line.split()
            if words[:1] == [first]:
                header = words
            elif header and len(words) == len(header):
                rows.append(dict(zip(header, words, strict=True)))
        if returncode != 0 or not rows:
            raise self.error(stdout, stderr, returncode, kind=None if returncode else "parse_error")
        return rows

    def recognises(self, stdout: str, stderr: str = "", command: str | None = None) -> bool:
        if command_words(command, ("bjobs", "bhist")):
            return True
        return _LOOKS_LIKE.search(stdout) is not None or bool(
            re.search(r"^Job <[0-9]+> is not found|No (?:unfinished )?job found|LSF", stderr, re.M)
        )


_LOOKS_LIKE = re.compile(
    r"^JOBID +USER +STAT|^ *Job <[0-9]+(?:\[[0-9]+\])?>, |\"COMMAND\" *: *\"bjobs\""
    r"|^(?:JOBID[^A-Za-z0-9_\s]\S*STAT|STAT[^A-Za-z0-9_\s]\S*JOBID)\b"
    r"|^OJ:[0-9a-f]+ begin b(?:jobs|hist)",
    re.MULTILINE,
)
_GONE = re.compile(r"Job <([0-9]+(?:\[[0-9]+\])?)> is not found")


def _minutes(value: timedelta | str | None) -> int | None:
    if value is None:
        return None
    limit = text_seconds(value)
    if limit is None or limit <= timedelta(0):
        raise InputError(f"time_limit is no duration: {value!r}")
    return -(-limit // timedelta(minutes=1))


def _memory(value: int | str | None) -> str | None:
    """With its unit: a bare number means what the site configured."""
    return f"{-(-value // 2**20)}MB" if isinstance(value, int) else value


def _dependency(request: SubmitRequest) -> str | None:
    parts = [
        f"{word}({JobId.parse(one).text})"
        for word, ids in (
            ("done", request.after_ok),
            ("ended", request.after_any),
            ("exit", request.after_failed),
        )
        for one in ids
    ]
    return " && ".join(parts) or None
