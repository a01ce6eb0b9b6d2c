"""HTCondor: condor_submit, condor_q, condor_history, condor_rm, condor_hold, condor_release.

Sources: the manual pages of condor_q, condor_history and condor_submit; job ClassAd attributes
(JobStatus, ExitBySignal, HoldReasonCode) in the manual's appendix.  Not run against a real pool.

A submission is a cluster of jobs (``2267``), its members ``2267.0`` and so on; a whole cluster is
what its members are.  Jobs leave the queue when they end: how, the history says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from math import inf
from typing import ClassVar

from ...errors import InputError
from ...jobs import CancelOutcome, JobId, JobState, JobStatus, Node, Snapshot
from ..answer import Answer
from ..base import Scheduler
from ..fields import chunks, command_words, first_line, is_number, quote, shell_path
from ..framing import Section, as_is, framed, parts_of, read_frame, section, shell_text
from ..outcomes import Sentences, outcome_of_kind, outcomes_by_line, outcomes_for
from ..request import ALL_OPTIONS, SubmitRequest
from ..rows import Rows
from ..rules import rule
from ..submit_words import SubmitWords
from ..tokens import TokenAnswer
from .classads import SPOILT, json_list, members, number_of, only_lists
from .output import read
from .words import CONDOR_SUBMIT

_CARRIER = "OpenSSHJobsToken"
# -name, -remote, -pool, -addr and what condor_submit takes for them.
_ELSEWHERE = re.compile("--?(?:n|r|po|addr)")
_ATTRIBUTES = (
    "ClusterId,ProcId,JobStatus,Owner,QDate,JobStartDate,JobCurrentStartDate,CompletionDate,"
    "EnteredCurrentStatus,ExitCode,ExitBySignal,ExitSignal,HoldReason,HoldReasonCode,RemoveReason,"
    "RemoteHost,LastRemoteHost,RequestCpus,Iwd,Out,Err,Cmd,JobBatchName,NumJobStarts,"
    "RemoteWallClockTime,AccountingGroup,TotalSubmitProcs"
)

# The schedd deletes the oldest of its history files (MAX_HISTORY_ROTATIONS): when the first job of
# what is left ended, and now.
_OLDEST = (
    "condor_history -forwards -limit 1 -af EnteredCurrentStatus </dev/null 2>/dev/null\ndate +%s"
)


def _remembers(text: str) -> float:
    """Seconds that the history goes back; without an end where it says nothing of a job."""
    *ended, now = text.split() or [""]
    if len(ended) != 1 or not is_number(ended[0]) or not is_number(now):
        return inf
    return max(0.0, float(now) - float(ended[0]))


class HTCondor(Scheduler):
    """HTCondor, 8.4 to 24."""

    name: ClassVar[str] = "htcondor"
    title: ClassVar[str | None] = "HTCondor"
    aliases: ClassVar[tuple[str, ...]] = ("condor",)
    element_form: ClassVar[str] = "{number}.{index}"
    lacks: ClassVar[Mapping[str, str]] = {
        "array": "the description's own queue statement makes several jobs",
        "after_ok": "that is DAGMan's work",
        "after_any": "that is DAGMan's work",
        "after_failed": "that is DAGMan's work",
        "queue": "",
        "time_limit": "the description's own allowed_execute_duration",
        "nodes": "",
        "qos": "",
        "reservation": "",
        "arguments": "the description's own arguments statement",
    }
    capabilities: ClassVar[frozenset[str]] = ALL_OPTIONS - lacks.keys()
    submit_words: ClassVar[SubmitWords | None] = CONDOR_SUBMIT
    probe: ClassVar[str] = (
        "command -v condor_submit >/dev/null 2>&1 || exit 1\n"
        "condor_version 2>/dev/null </dev/null | sed -n '1p'"
    )
    noise: ClassVar[re.Pattern[str] | None] = re.compile(
        r"^(?:Submitting job\(s\)|WARNING|-- Schedd|\.+$)"
    )
    # submit.cpp and qmgmt_send_stubs.cpp of HTCondor 25: all is one transaction of the schedd, and
    # all errors but one come before its end was asked for.  The commit itself names a reason
    # (ErrorReason) where the schedd has answered; without one the answer was lost.
    uncertain: ClassVar[tuple[str, ...]] = (
        r"Failed to commit job submission into the queue\.\s*(?:\Z|(?!\s*ERROR: ))",
        "Failed to spool job files",  # the job is there, held until they come
    )
    own_statuses: ClassVar[frozenset[int]] = frozenset((255,))  # exit(-1)
    rules = (
        # The connection comes first; what it fails by (SECMAN, AUTHENTICATE, CEDAR) follows it.
        rule(r"Failed to connect to (?:local )?queue manager.*(?:\n.*)*?(?:AUTHENTICATE|"
             "SECMAN:2010)|Failed to connect to .*not authorized|DENIED authorization",
             "permission", unsent=True, final=True),
        rule("Failed to connect to (?:local )?queue manager|Can't find address of |"
             "Could not connect to schedd|Unable to locate", "transient", unsent=True),
        rule("MAX_JOBS_PER_SUBMISSION|SUBMIT_MAX_PROCS_IN_CLUSTER|-maxjobs|-single-cluster",
             "limit"),
        rule("MAX_JOBS_PER_OWNER|MAX_JOBS_SUBMITTED|MAX_RUNNING_SCHEDULER_JOBS_PER_OWNER|"
             "Number of submitted jobs would exceed|limit on number of", "limit", passes=True),
        rule('SECMAN:2010|Received "DENIED" from server', "permission", final=True),
        rule("Failed to (?:fetch ads|end classad)|CEDAR:|SECMAN|Can't (?:connect|contact)|"
             "communication error|Failed to commit [^\\n]*\\s*\\Z|Failed to receive remote ad|"
             "Client and server do not agree", "transient"),
        rule("not authorized|DENIED|Permission denied|User is disabled|not allowed to own jobs|"
             "Unknown User|User \\S+ is disabled|No credential stored", "permission", final=True),
        rule("Can't find configuration|Neither the environment variable CONDOR_CONFIG",
             "not_submit_host", unsent=True, final=True),
        rule("There are no jobs in the queue|not found", "not_found"),
        rule("^openssh_jobs: refused: |Unknown option|unknown or ambiguous|Unrecognized|"
             "requires another argument|can not be used|Cannot (?:print as|use more than)|"
             "-- Parse error in constraint|Unsupported query option", "invalid_request",
             unsent=True, final=True),
        rule("ERROR: (?!Failed)|Failed to parse|Can't open|does not exist|No 'executable'|"
             "on Line [0-9]+ of ", "invalid_request"),
    )  # fmt: skip
    cancel_command, hold_command, release_command = "condor_rm", "condor_hold", "condor_release"

    # -- submitting ------------------------------------------------------------

    def submit_script(self, request: SubmitRequest) -> str:
        """condor_submit(1) of a submit description file."""
        if request.env_names and any(map(_ENVIRONMENT.match, request.options)):
            self.unsupported("env beside an option that sets getenv or environment")
        words: list[str] = []
        if request.name is not None:
            words += ["-batch-name", request.name]
        for key, value in (
            ("accounting_group", request.account),
            ("request_cpus", request.cpus),
            ("request_memory", _memory(request)),
            ("request_gpus", request.gpus),
            ("requirements", request.constraint),
            ("notify_user", request.mail),
            ("notification", "Complete" if request.mail else None),
            ("output", request.stdout_path),
            ("error", request.stderr_path),
            ("hold", "true" if request.hold else None),
            ("getenv", ", ".join(request.env_names) or None),
        ):
            if value is not None:
                if re.search(r"[\n\r]", str(value)):
                    raise InputError(f"{key} holds a newline: {value!r}")
                words += ["-append", f"{key} = {value}"]
        if request.token is not None:
            words += ["-append", f'+{_CARRIER} = "{request.token}"']
        words.extend(request.options)
        path = shell_path(request.script)
        line = f"LC_ALL=C condor_submit {self.words(*words)} {path} </dev/null\n"
        if not request.env_names:
            return line
        return shell_text("htcondor/check_environment", script=as_is(path)) + line

    def submitted_ids(self, stdout: str) -> list[str]:
        """``1 job(s) submitted to cluster 2267.``, or ``2267.0 - 2267.4`` (``-terse``)."""
        said = r"^(?:.*?[^\w\n])??[0-9]+ job\(s\) submitted to cluster ([0-9]+)\."
        spoken = re.findall(said, stdout, re.M)
        return spoken or re.findall(r"^([0-9]+)\.[0-9]+ - [0-9]+\.[0-9]+[ \t\r]*$", stdout, re.M)

    # -- asking ------------------------------------------------------------------

    def checked_ids(self, ids: Iterable[str]) -> list[str]:
        found = super().checked_ids(ids)
        for job_id in found:
            if not re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", job_id):
                raise InputError(f"{job_id!r} is not a job id of HTCondor (88 or 88.0)")
        return found

    def status_script(self, ids: Sequence[str] = (), *, all_users: bool = False) -> str:
        """One condor_q; a job that it was asked for by number and does not list has left."""
        if ids:
            batches = [self.words(*batch) for batch in chunks(self.checked_ids(ids))]
        else:
            batches = ["-allusers" if all_users else '"$(id -un)"']
        parts: list[str] = []
        for jobs in batches:
            ask = f"condor_q {jobs} -json -attributes {_ATTRIBUTES} </dev/null"
            parts.append(section("condor_q", ask))
            # Without jobs the answer is empty, with status 0: the totals prove it complete.
            parts.append(section("condor_q-totals", f"condor_q {jobs} -totals </dev/null"))
        return framed(*parts)

    def parse_status(
        self,
        answer: Answer,
        *,
        requested: Iterable[str] | None = None,
        command: str | None = None,
        timezone: tzinfo | None = None,
    ) -> Snapshot:
        """condor_q, condor_history: ``-json``, ``-jsonl``, ``-xml``, ``-long``, ``-af``, tables.

        An id that the answer leaves out is absent only where the totals say that nothing is left
        out.
        """
        wanted = self.requested_ids(requested)
        sections = read_frame(answer.stdout)
        words = command_words(command, ("condor_q", "condor_history"))
        is_framed = sections is not None
        if sections is None:
            asks_history = bool(words) and words[0].endswith("condor_history")
            name = "condor_history" if asks_history else "condor_q"
            sections = [Section(name, answer.stdout, answer.returncode, "")]
        is_history = any(part.name == "condor_history" for part in sections)
        rows = Rows(source="accounting" if is_history else "queue")
        is_complete = self._read_sections(sections, answer, rows, words, is_framed=is_framed)
        if is_history:
            is_complete = is_framed and _COMPLAINT.search(answer.stderr) is None
        snapshot = Snapshot(
            known=rows.known,
            unparsed=tuple(rows.unparsed),
            source=rows.source,
            whole_arrays=is_history and is_complete and not rows.unparsed,
        )
        if wanted is None:
            return snapshot
        # Ended members prove nothing about members that the schedd has not created yet.
        begun = set() if is_history else {JobId.parse(job_id).number for job_id in rows.known}

        def covered(job_id: JobId) -> bool:
            is_begun = job_id.proc is None and job_id.number in begun
            return is_complete and not rows.unparsed and not is_begun

        return snapshot.select(wanted, covered=covered)

    def _read_sections(
        self,
        sections: Sequence[Section],
        answer: Answer,
        rows: Rows,
        words: list[str],
        *,
        is_framed: bool,
    ) -> bool:
        """Read all listings; whether their totals say that none leaves a job out."""
        has_totals = False
        is_complete = is_framed
        counted = 0
        for part in sections:
            if part.name == "condor_q-totals":
                has_totals = True
                total = _total(part)
                is_complete = is_complete and total is not None and counted >= total
                if total is None and not counted:
                    why = "condor_q listed no job and no total of jobs"
                    raise self.error(part.answer(answer.stderr), kind="transient", message=why)
                continue
            found = Rows(unparsed=rows.unparsed, source=rows.source)
            self._read_section(part, answer.stderr, found, words, is_framed=is_framed)
            counted = len(found.known)
            for job_id, status in found.known.items():
                rows.known.setdefault(job_id, status)
        return is_complete and has_totals

    def _read_section(
        self, part: Section, stderr: str, rows: Rows, words: list[str], *, is_framed: bool
    ) -> None:
        is_empty = not part.text.strip()
        if part.returncode != 0 or (is_empty and not is_framed and not words):
            raise self.error(part.answer(stderr))
        # An error text with status 0 is an error all the same.
        if is_empty and _COMPLAINT.search(stderr):
            raise self.error(part.answer(stderr))
        if not read(part.text, rows, words) and not is_empty:
            raise self.error(
                part.answer(stderr),
                kind="parse_error",
                message=f"this is not a listing of HTCondor: {first_line(part.text)!r}",
            )

    def token_script(self, requests: Sequence[SubmitRequest], *, since: datetime) -> str:
        """An attribute of the job is its token, in the queue and in the history."""
        tokens = [f'{_CARRIER} == "{request.token}"' for request in requests if request.token]
        wanted = f"-constraint {quote(' || '.join(tokens) or 'false')} -json -attributes "
        wanted += f"ClusterId,{_CARRIER} </dev/null"
        who = '"$(id -un)"'
        return framed(
            section("condor_q", f"condor_q {who} {wanted}"),
            section("condor_q-totals", f"condor_q {who} -totals </dev/null"),
            section("condor_history", f"condor_history {who} {wanted}"),
            section("oldest", _OLDEST),
        )

    def parse_tokens(self, answer: Answer, requests: Sequence[SubmitRequest]) -> TokenAnswer:
        sections = read_frame(answer.stdout) or []
        names = ["condor_q", "condor_q-totals", "condor_history", "oldest"]
        if [part.name for part in sections] != names:
            raise self.error(answer, kind="transport")
        if _COMPLAINT.search(answer.stderr) or _total(sections[1]) is None:
            raise self.error(answer, kind="transient")
        wanted = {request.token for request in requests}
        jobs: dict[str, set[str]] = {}
        for part in (sections[0], sections[2]):
            ads = only_lists(part.text)
            if part.returncode != 0 or ads is None:
                raise self.error(part.answer(answer.stderr))
            for ad in ads:
                token, cluster = ad.get(_CARRIER), number_of(ad.get("ClusterId"))
                if not isinstance(token, str) or cluster is None or SPOILT in ad:
                    raise self.error(part.answer(answer.stderr), kind="parse_error")
                if token in wanted:
                    jobs.setdefault(token, set()).add(str(cluster))
        return TokenAnswer(
            jobs={token: frozenset(ids) for token, ids in jobs.items()},
            remembers=_remembers(sections[3].text),
            # Another schedd or pool is not asked.
            is_whole=not any(_ELSEWHERE.match(word) for one in requests for word in one.options),
        )

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
        answer: Answer,
        *,
        requested: Iterable[str] | None = None,
        since: datetime | None = None,
    ) -> Snapshot:
        """How jobs ended.  A cluster of which members are missing has not ended in any way."""
        sections = read_frame(answer.stdout)
        if sections is None:
            raise self.error(answer, kind="transport")
        whole = self.parse_status(answer)
        early = since - timedelta(hours=1) if since is not None else None
        known = {
            job_id: status
            for job_id, status in whole.known.items()
            if early is None or status.submitted is None or status.submitted >= early
        }
        wanted = None if requested is None else list(requested)
        clusters = {JobId.parse(text).number for text in wanted or ()}
        for cluster, (listed, total) in members("\n".join(part.text for part in sections)).items():
            if cluster in clusters and listed < total:
                reason = f"the history has {listed} of {total} jobs of the cluster"
                known[cluster] = JobStatus(
                    cluster, JobState.UNKNOWN, reason=reason, source="accounting"
                )
        snapshot = replace(whole, known=known)
        if wanted is None:
            return snapshot
        covered = not whole.unparsed and _COMPLAINT.search(answer.stderr) is None
        return snapshot.select(wanted, covered=covered)

    # -- acting ----------------------------------------------------------------------

    def parse_cancel(
        self, answer: Answer, *, requested: Iterable[str] | None = None
    ) -> dict[str, CancelOutcome]:
        """One sentence a job or cluster (the texts are those of dc_schedd.cpp)."""
        text = "".join(part.text for part in parts_of(answer))
        outcomes = outcomes_by_line(text, _OUTCOMES)
        # Why it could not, other lines say; without any the cluster has no such jobs.
        rest = "\n".join(line for line in text.split("\n") if not _WHOLE_CLUSTER.search(line))
        found = self.find_rule(rest)
        for cluster in _WHOLE_CLUSTER.findall(text):
            why = _O.INVALID_REQUEST if rest.strip() else _O.NOT_FOUND
            outcomes[cluster] = outcome_of_kind(found.kind) if found is not None else why
        if not outcomes:
            raise self.error(Answer(text, answer.stderr, answer.returncode), asks=False)
        return outcomes_for(requested, outcomes, CancelOutcome.TRANSIENT)

    # -- the machine -------------------------------------------------------------------

    def nodes_script(self) -> str:
        wanted = "Machine,State,Activity,Cpus,Memory,TotalLoadAvg,GPUs,SlotType"
        return framed(
            section("condor_status", f"condor_status -json -attributes {wanted} </dev/null")
        )

    def parse_nodes(self, answer: Answer) -> list[Node]:
        """Slots, added up to machines."""
        text = self.one_text(answer)
        slots = json_list(text)
        if slots is None:
            raise self.error(Answer(text, answer.stderr, answer.returncode), kind="parse_error")
        nodes: dict[str, Node] = {}
        for slot in slots:
            name = slot.get("Machine")
            if not isinstance(name, str):
                continue
            before = nodes.get(name, Node(name=name, state="idle", cpus=0, cpus_used=0, memory=0))
            cpus, memory = number_of(slot.get("Cpus")) or 0, number_of(slot.get("Memory")) or 0
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
        if command_words(command, ("condor_q", "condor_history")):
            return True
        return _LOOKS_LIKE.search(stdout) is not None or bool(
            re.search(r"condor_|schedd", stderr, re.IGNORECASE)
        )


_LOOKS_LIKE = re.compile(
    r"^-- (?:Schedd|Submitter|Quill):|^ *ID +OWNER +SUBMITTED|^OWNER +BATCH_NAME|\"ClusterId\""
    r"|^ClusterId = |<classads>|job\(s\) submitted to cluster|^OJ:[0-9a-f]+ begin condor_",
    re.MULTILINE,
)
_O = CancelOutcome
_OUTCOMES: Sentences = tuple(
    (re.compile(pattern), outcome)
    for pattern, outcome in (
        (r"[Jj]ob ([0-9.]+) not found", _O.NOT_FOUND),
        (r"Permission denied to [\w -]+ job ([0-9.]+)", _O.PERMISSION),
        (r"Job ([0-9.]+) already marked for (?:forced )?removal", _O.REQUESTED),
        (r"Job ([0-9.]+) (?:marked for removal|removed|held|released|already held)", _O.REQUESTED),
        (r"No result found for job ([0-9.]+[0-9])", _O.TRANSIENT),
        (r"All jobs in cluster ([0-9]+) have been \w+", _O.REQUESTED),
        (r"Cluster ([0-9]+) has been \w+", _O.REQUESTED),
        (r"Job ([0-9.]+) already completed", _O.ALREADY_FINISHED),
        # "not held to be released", "cannot be released again", "Invalid result": all else.
        (r"\b[Jj]ob ([0-9]+\.[0-9]+)\b", _O.INVALID_REQUEST),
    )
)
_WHOLE_CLUSTER = re.compile(r"Couldn't find/[\w-]+ all (?:held )?jobs in cluster ([0-9]{1,18})")
# What condor_q and condor_history begin an error with (queue.cpp, history.cpp).
_COMPLAINT = re.compile(
    r"^(?:-- )?(?:Error|Failed|Unable to|Parse error|Unsupported query|Remote side had|"
    r"Client and server do not agree)",
    re.MULTILINE | re.IGNORECASE,
)
_TOTAL = re.compile(r"^(?:Total for query: )?([0-9]{1,18}) jobs;", re.MULTILINE | re.ASCII)
_ENVIRONMENT = re.compile(r"\s*(?:[+]|MY[.])?(?:get_?)?env(?:ironment)?2?\s*=", re.IGNORECASE)


def _total(part: Section) -> int | None:
    found = _TOTAL.findall(part.text) if part.returncode == 0 else []
    return int(found[-1]) if found else None


def _memory(request: SubmitRequest) -> str | None:
    """With its unit: some pools refuse a bare number."""
    size = request.memory_in(2**20)
    return None if size is None else f"{size}MB"
