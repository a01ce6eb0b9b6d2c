"""IBM Spectrum LSF (and OpenLava): bsub, bjobs, bhist, bkill, bstop, bresume, bhosts, bqueues.

Sources: the manual pages of bsub(1), bjobs(1), bhist(1), bkill(1) of 10.1; the errors' texts, and
which of them come before a request is sent, from lsb.err.c, lsb.comm.c and cmd.sub.c of OpenLava
(the public descendant of LSF 4).  Not run against a real LSF.
``bjobs -a`` lists ended jobs for CLEAN_PERIOD (an hour by default); ``-o`` is there since 9.1,
``-json`` since 10.1.0.2, the wide table is what older versions (and OpenLava) answer with.

States come from fields that hold no user's text; names, paths and commands from a second listing,
in JSON, which counts only where it is in order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import ClassVar

from ...errors import InputError, SchedulerError
from ...jobs import CancelOutcome, JobId, JobStatus, Node, Queue, Snapshot
from ...jobs.cause import Cause
from ...jobs.job_id import JobIds
from ..answer import Answer
from ..base import Scheduler
from ..fields import (
    chunks,
    command_words,
    expand_array,
    first_line,
    quote,
    shell_path,
    whole_number,
)
from ..framing import Section, framed, parts_of, read_frame, section, shell_text
from ..launcher.launcher import LSF_JOBS, Convention
from ..outcomes import outcomes_for
from ..request import ALL_OPTIONS, SubmitRequest
from ..rows import Rows
from ..rules import rule
from ..submit_words import SubmitWords
from ..tokens import TokenAnswer
from . import causes, tokens
from .output import (
    GONE,
    NONE,
    add_details,
    columns_of_command,
    read,
    read_history,
)
from .words import BSUB

_FIELDS = "jobid jobindex stat user queue exec_host exit_code slots exit_reason"
_DETAILS = "jobid jobindex stat pend_reason project sub_cwd output_file error_file command job_name"
_HISTORIES = 64
"""The maximum number of jobs that are queried one by one."""
# Reasons of LSLIB that come before a connection (lib.err.c: LSE_LIM_DOWN, LSE_MASTR_UNKNW,
# LSE_EAUTH, LSE_BAD_ENV); all others may be those of a connection that broke.
_BEFORE = (
    "LIM is down|(?:Slave |Master )?LIM (?:configuration|is) (?:is )?not ready|"
    "Slave LIM configuration is not ready|Cannot locate master LIM|Master LIM is down|"
    "External authentication failed|Configuration file error|Host is not used by LSF"
)
# Set in a profile, the first two keep bsub from naming the job, the third from making one.
_LOUD = "unset BSUB_QUIET BSUB_QUIET2 BSUB_CHK_RESREQ\n"


class LSF(Scheduler):
    """Spectrum LSF, 9 and 10."""

    name: ClassVar[str] = "lsf"
    title: ClassVar[str | None] = "LSF"
    # bhist reads all logs that are kept.
    history_floor: ClassVar[float] = 60.0
    directive: ClassVar[str | None] = "#BSUB"
    element_form: ClassVar[str] = "{number}[{index}]"
    lacks: ClassVar[Mapping[str, str]] = {
        "qos": "",
        "constraint": "options=('-R', 'select[...]')",
        "arguments": "the script reads variables: env=",
    }
    capabilities: ClassVar[frozenset[str]] = ALL_OPTIONS - lacks.keys()
    submit_words: ClassVar[SubmitWords | None] = BSUB
    probe: ClassVar[str] = (
        "command -v bsub >/dev/null 2>&1 || exit 1\n"
        "command -v bjobs >/dev/null 2>&1 || exit 1\n"
        "lsid 2>/dev/null </dev/null | grep -v '^$' | sed -n '1p'"
    )
    convention: ClassVar[Convention | None] = LSF_JOBS
    # bsub ends with exit(-1).
    own_statuses: ClassVar[frozenset[int]] = frozenset((255,))
    # callmbd() in lsb.comm.c: what fails while connecting is tried again or given up before
    # anything is sent; from then on an error of the channel is LSBE_LSLIB, one of the answer
    # LSBE_XDR or LSBE_PROTOCOL.  bsub says "Job not submitted" in all cases: that proves nothing.
    uncertain: ClassVar[tuple[str, ...]] = (
        "Failed in (?:an LSF library call|sending)|System call failed|Batch library internal error",
        "XDR encode/decode error|Batch protocol error|Communication time ?out|End of file",
        "LSF is down|still trying|Operation is in progress|Cannot allocate memory",
        "Child process died|Unknown batch system error",
    )
    rules = (
        rule(rf"Failed in an LSF library call(?!:? *(?:{_BEFORE}))", "transient"),
        rule(rf"Failed in an LSF library call:? *(?:{_BEFORE})|Timeout on connect call to server|"
             "Connection refused by server|Fail to bind to an appropriate port|"
             "Batch service not registered", "transient", unsent=True),
        rule("(?:batch|LSF) (?:system )?daemon|LSF is down|LIM is down|LIM.*not responding|"
             "still trying|Failed in sending|System call failed|Batch library internal|XDR encode|"
             "Batch protocol|Communication time ?out|Server connection|Server is not connected|"
             "mbatchd .*(?:restart|busy)|Unable to contact|Operation is in progress", "transient"),
        rule("Pending (?:job|slot) threshold|job slot limit|job limit .*reached|"
             "reached .*job limit|exceeds .*MAX_(?:PEND_)?JOBS|Too many (?:jobs|pending)|"
             "reached .*max(?:imum)?\\b.*jobs|enough (?:per-\\w+ )?job slots|"
             "No job Id can be used now", "limit", passes=True),
        rule("exceeds? .*limit|above the hard limit|Requested.*exceed|Cannot exceed queue|"
             "Too (?:many|few) processors", "limit"),
        rule("Request from non-LSF host|not a? ?(?:submission|client) host|ls_initdebug|"
             "Cannot open lsf\\.conf|Bad host name", "not_submit_host"),
        rule("Permission denied|User cannot use|not (?:a )?authorized|Operation not permitted|"
             "does not have permission|Root job submission is disabled|Unknown user|"
             "User not in the specified|Invoker is not in", "permission", final=True),
        rule("is not found|No matching job", "not_found"),
        rule("Usage:|Bad argument|(?:Illegal|invalid|unrecognized) option|You cannot use the|"
             "^openssh_jobs: refused: ", "invalid_request", final=True),
        rule("Job not submitted|Request aborted by esub|Bad resource|"
             "No such (?:queue|file|project)|Illegal|Empty job|Invalid", "invalid_request"),
    )  # fmt: skip
    cancel_command, hold_command, release_command = "bkill", "bstop", "bresume"

    # -- submitting ------------------------------------------------------------

    def submit_script(self, request: SubmitRequest) -> str:
        """bsub(1), with the script as its input: only then are ``#BSUB`` lines read."""
        words: list[str] = []
        if request.name is not None and re.search(r"[\[\]\n]", request.name):
            raise InputError(
                f"name={request.name!r} holds a bracket or a newline: LSF takes [...] for an array",
                advice="Ask for an array by array=.",
            )
        if request.array is not None:
            indices, percent, slots = request.array.partition("%")
            if not expand_array(indices) or (
                percent and not re.fullmatch("[1-9][0-9]{0,8}", slots)
            ):
                raise InputError(f"array is not a list of indices: {request.array!r}")
            if 0 in expand_array(indices):
                raise InputError(f"array={request.array!r}: LSF counts from 1")
            limit = f"%{slots}" if percent else ""
            words += ["-J", f"{request.name or 'array'}[{indices}]{limit}"]
        elif request.name is not None:
            words += ["-J", request.name]
        slots_, span = self._slots(request)
        for option, value in (
            ("-q", request.queue),
            ("-P", request.account),
            ("-W", _minutes(request)),
            ("-n", slots_),
            ("-R", span),
            ("-M", _memory(request)),
            ("-gpu", f"num={request.gpus}" if request.gpus else None),
            ("-U", request.reservation),
            ("-u", request.mail),
            ("-o", request.stdout_path),
            ("-e", request.stderr_path),
            ("-w", _dependency(request)),
        ):
            if value is not None:
                words += [option, str(value)]
        if request.mail:
            words.append("-N")
        if request.hold:
            words.append("-H")
        words.extend(request.options)
        path = shell_path(request.script)
        line = f"LC_ALL=C bsub $oj_description {self.words(*words)} <{path}\n"
        checks = self._environment_check(request, path)
        if span is not None:
            # What stands on the command line wins, and the whole of the script's -R is lost.
            why = f"-R, which {span} for nodes= or cpus= would replace; write both in options="
            checks += _refuse_directive("R", path, why)
        return checks + _LOUD + tokens.describing(request, line)

    def _slots(self, request: SubmitRequest) -> tuple[int | None, str | None]:
        """(-n, -R): so many slots, on one host or on as many different hosts as asked for."""
        nodes = whole_number(str(request.nodes)) if request.nodes is not None else 1
        if nodes is None or nodes < 1:
            self.unsupported(f"nodes={request.nodes!r}, which is not a number")
        if nodes == 1:
            return request.cpus, "span[hosts=1]" if (request.cpus or 1) > 1 else None
        cpus = request.cpus or 1
        return nodes * cpus, f"span[ptile={cpus}]"

    def _environment_check(self, request: SubmitRequest, path: str) -> str:
        """bsub(1) hands the environment on, but for what -env and -L (and LSF itself) leave out."""
        if not request.env_names:
            return ""
        lost = [name for name in request.env_names if re.match(r"HOME\Z|LSB?_|LSF_", name)]
        if lost:
            self.unsupported(f"env with {', '.join(lost)}: LSF sets these itself")
        if any(re.match(r"-(?:env|L)\b", option) for option in request.options):
            self.unsupported("env beside the option -env or -L, which may leave it out")
        why = "-env or -L, which may leave out the variables of env="
        return _refuse_directive("env|L", path, why)

    def submitted_ids(self, stdout: str) -> list[str]:
        """``Job <930> is submitted to default queue <normal>.``"""
        return re.findall(r"^(?:.*?[^\w\n])??Job <([0-9]+)> is submitted to .*", stdout, re.M)

    # -- asking ------------------------------------------------------------------

    def checked_ids(self, ids: Iterable[str]) -> list[str]:
        found = super().checked_ids(ids)
        for job_id in found:
            if not re.fullmatch(r"[0-9]+(?:\[[0-9,:\-]+\])?", job_id):
                raise InputError(f"{job_id!r} is not a job id of LSF (123, 123[4] or 123[1-10])")
        return found

    def status_script(self, ids: Sequence[str] = (), *, all_users: bool = False) -> str:
        """bjobs by ids (anybody's), else of this user (or all)."""
        if ids:
            batches = [f"-u all {self.words(*batch)}" for batch in chunks(self.checked_ids(ids))]
        else:
            batches = ["-u all" if all_users else ""]
        parts = [
            shell_text("lsf/status", fields=f'{_FIELDS} delimiter="|"', details=_DETAILS),
        ]
        for jobs in batches:
            parts.append(section("bjobs", f"oj_bjobs {jobs}"))
            again = section("bjobs-w", f"bjobs -a -w {jobs} </dev/null")
            details = section("bjobs-json", f"oj_details {jobs}")
            parts.append(
                f"case $oj_text in *JOBID*)\n{details};;\n*) case $oj_rc in 0) ;; *)\n{again};;\n"
                "esac;;\nesac\n"
            )
        return framed(*parts)

    def parse_status(
        self,
        answer: Answer,
        *,
        requested: Iterable[str] | None = None,
        command: str | None = None,
        timezone: tzinfo | None = None,
    ) -> Snapshot:
        """bjobs: table, ``-w``, ``-l``, ``-UF``, ``-json``, ``-o`` with a header; bhist ``-l``.

        An id is absent only if LSF says so about this id, or lists its array without a member
        that is not over.
        """
        wanted = self.requested_ids(requested)
        sections = read_frame(answer.stdout)
        is_framed = sections is not None
        if sections is None:
            sections = [Section("bjobs", answer.stdout, answer.returncode, "")]
        # In an answer of ours the listings hold users' texts: what LSF says itself is on stderr.
        messages = answer.stderr if is_framed else f"{answer.stderr}\n{answer.stdout}"
        gone = [JobId.parse(text) for text in GONE.findall(messages)]
        none_at_all = NONE.search(messages)
        columns = columns_of_command(command_words(command, ("bjobs",)))
        rows = Rows()
        answered = _read_sections(sections, rows, gone, columns)
        if not answered and not gone and none_at_all is None:
            raise self._no_listing(answer, sections, is_framed=is_framed)
        if is_framed:
            for job_id in gone:  # a name in the wide table can look like the row of such a job
                rows.known.pop(str(job_id), None)
        if not rows.known and gone and wanted is None:
            raise self.error(answer, kind="not_found")
        is_history = any(part.name.startswith("bhist") for part in sections)
        snapshot = Snapshot(
            known=rows.known,
            unparsed=tuple(rows.unparsed),
            source="accounting" if is_history else "queue",
            whole_arrays=is_history and not rows.unparsed,
        )
        if wanted is None:
            return snapshot
        has_none = is_framed and not answered and none_at_all is not None
        members = JobIds(
            (JobId.parse(text), status) for text, status in rows.known.items() if is_framed
        )
        missing = JobIds((job_id, True) for job_id in gone)

        def covered(job_id: JobId) -> bool:
            if missing.matching(job_id) or missing.around(job_id):
                return True
            # An array of which the queue lists no member that is not over has left it.
            inside = members.within(job_id)
            if inside:
                return not rows.unparsed and all(status.is_final for status in inside)
            return has_none

        return snapshot.select(wanted, covered=covered)

    def _no_listing(
        self, answer: Answer, sections: Sequence[Section], *, is_framed: bool
    ) -> SchedulerError:
        """The error for an answer that lists nothing and names no job."""
        code = answer.returncode or max((part.returncode for part in sections), default=0)
        # In an answer of ours stdout holds the texts of users only.
        words_of_lsf = Answer("" if is_framed else answer.stdout, answer.stderr, code)
        if answer.returncode != 0 or answer.stderr.strip():
            return self.error(words_of_lsf)
        message = f"this is not a listing of LSF: {first_line(answer.stdout)!r}"
        return self.error(words_of_lsf, kind="parse_error", message=message)

    def token_script(self, requests: Sequence[SubmitRequest], *, since: datetime) -> str:
        return tokens.token_script(requests)

    def parse_tokens(self, answer: Answer, requests: Sequence[SubmitRequest]) -> TokenAnswer:
        return tokens.parse_tokens(self, answer, requests)

    def history_script(self, ids: Sequence[str], *, since: datetime | None = None) -> str:
        """bhist over all event logs that are kept (``-n 0``), for each job separately.

        Its long form is free text: the command of one job can look like the record of another.
        Of more than 64 ids the others are asked for together; each costs a look through the logs.
        """
        checked = self.checked_ids(ids)
        parts = [
            section(f"bhist {job_id}", f"bhist -n 0 -l {self.words(job_id)} 2>&1 </dev/null")
            for job_id in checked[:_HISTORIES]
        ]
        for batch in chunks(checked[_HISTORIES:]):
            ask = f"bhist -n 0 -l {self.words(*batch)} 2>&1 </dev/null"
            parts.append(section("bhist", ask))
        return framed(*parts)

    def parse_history(
        self,
        answer: Answer,
        *,
        requested: Iterable[str] | None = None,
        since: datetime | None = None,
    ) -> Snapshot:
        if read_frame(answer.stdout) is None:
            raise self.error(answer, kind="transport")
        return self.parse_status(answer, requested=requested)

    def cause_of(self, status: JobStatus) -> Cause:
        return causes.cause_of(status)

    # -- acting ----------------------------------------------------------------------

    def parse_cancel(
        self, answer: Answer, *, requested: Iterable[str] | None = None
    ) -> dict[str, CancelOutcome]:
        """``Job <N> is being terminated``, ``Job <N>: Job has already finished`` and so on."""
        text = "".join(part.text for part in parts_of(answer))
        outcomes: dict[str, CancelOutcome] = {}
        for job_id, message in re.findall(r"Job <([0-9]+(?:\[[0-9,:\-]+\])?)>:? (.*)", text):
            outcomes[job_id] = self._outcome(message)
        if not outcomes:
            raise self.error(Answer(text, answer.stderr, answer.returncode), asks=False)
        return outcomes_for(requested, outcomes, CancelOutcome.TRANSIENT)

    def _outcome(self, message: str) -> CancelOutcome:
        if re.match(r"is being (?:terminated|stopped|resumed|killed|signaled)", message):
            return CancelOutcome.REQUESTED
        if "already finished" in message:
            return CancelOutcome.ALREADY_FINISHED
        # Words that no rule knows are an answer, and the same words will come again.
        if self.find_rule(message) is None:
            return CancelOutcome.INVALID_REQUEST
        return self.outcome_of(message)

    # -- the machine -------------------------------------------------------------------

    def nodes_script(self) -> str:
        return framed(section("bhosts", "bhosts -w </dev/null"))

    def parse_nodes(self, answer: Answer) -> list[Node]:
        nodes: list[Node] = []
        for cells in self._rows(answer, "HOST_NAME"):
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

    def parse_queues(self, answer: Answer) -> list[Queue]:
        queues: list[Queue] = []
        for cells in self._rows(answer, "QUEUE_NAME"):
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

    def _rows(self, answer: Answer, first: str) -> list[Mapping[str, str]]:
        sections = read_frame(answer.stdout)
        if sections:
            answer = sections[0].answer(answer.stderr)
        rows: list[Mapping[str, str]] = []
        header: list[str] = []
        for line in answer.stdout.splitlines():
            words = line.split()
            if words[:1] == [first]:
                header = words
            elif header and len(words) == len(header):
                rows.append(dict(zip(header, words, strict=True)))
        if answer.returncode != 0 or not rows:
            raise self.error(answer, kind=None if answer.returncode else "parse_error")
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


def _read_sections(
    sections: Sequence[Section],
    rows: Rows,
    gone: list[JobId],
    columns: tuple[list[str], str] | None,
) -> bool:
    """Read all listings; whether any of them is one."""
    answered = False
    for part in sections:
        if part.name == "bjobs-json":
            add_details(part.text, rows.known)
        elif part.name.startswith("bhist"):
            job_id = part.name.partition(" ")[2]
            answered = read_history(part.text, job_id, rows, gone) or answered
        else:
            answered = read(part.text, rows, columns) or answered
    return answered


def _refuse_directive(option: str, path: str, why: str) -> str:
    """sh that ends without bsub where a ``#BSUB`` line of the script has this option."""
    pattern = f"^[[:space:]]*#[[:space:]]*BSUB.*[[:space:]]-({option})([^[:alnum:]]|$)"
    message = f"openssh_jobs: refused: the script has #BSUB {why}"
    return f"if grep -Eq {quote(pattern)} <{path}; then echo {quote(message)} >&2; exit 1; fi\n"


def _minutes(request: SubmitRequest) -> int | None:
    return None if request.seconds is None else -(-request.seconds // 60)


def _memory(request: SubmitRequest) -> str | None:
    """With its unit: a bare number means what the site has configured (LSF_UNIT_FOR_LIMITS)."""
    size = request.memory_in(2**20)
    return None if size is None else f"{size}MB"


def _dependency(request: SubmitRequest) -> str | None:
    parts = [
        f"{word}({JobId.parse(job_id).text})"
        for word, ids in (
            ("done", request.after_ok),
            ("ended", request.after_any),
            ("exit", request.after_failed),
        )
        for job_id in ids
    ]
    return " && ".join(parts) or None
