"""HTCondor: condor_submit, condor_q, condor_history, condor_rm, condor_hold, condor_release.

Sources: the manual pages of condor_q, condor_history and condor_submit; job ClassAd attributes
(JobStatus, ExitBySignal, HoldReasonCode) in the manual's appendix.  Not run against a real pool.

A submission is a cluster of jobs (``2267``), its members ``2267.0`` and so on; a whole cluster is
what its members are.  Jobs leave the queue when they end: how, the history says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from typing import ClassVar

from openssh_jobs.errors import InputError
from openssh_jobs.jobs import CancelOutcome, JobId, JobStatus, Node, Snapshot
from openssh_jobs.schedulers.base import (
    Scheduler,
    Section,
    SubmitRequest,
    framed,
    read_frame,
    rule,
    section,
)
from openssh_jobs.schedulers.htcondor_output import json_list, number_of, read
from openssh_jobs.schedulers.outcomes import Sentences, outcomes_by_line, outcomes_for
from openssh_jobs.schedulers.text import (
    chunks,
    command_words,
    first_line,
    shell_path,
)

_ATTRIBUTES = (
    "ClusterId,ProcId,JobStatus,Owner,QDate,JobStartDate,JobCurrentStartDate,CompletionDate,"
    "EnteredCurrentStatus,ExitCode,ExitBySignal,ExitSignal,HoldReason,HoldReasonCode,RemoveReason,"
    "RemoteHost,LastRemoteHost,RequestCpus,Iwd,Out,Err,Cmd,JobBatchName,NumJobStarts,"
    "RemoteWallClockTime,AccountingGroup"
)


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
    uncertain: ClassVar[tuple[str, ...]] = (
        "Failed to (?:end classad|commit)|CEDAR:|SECMAN|communication error",
    )
    rules = (
        rule(
            "Failed to connect to local queue manager|Can't find address of (?:local )?schedd",
            "transient",
            unsent=True,
        ),
        rule("Failed to (?:fetch ads|connect|end classad)|CEDAR:|SECMAN|Can't (?:connect|contact)|"
             "Unable to locate|Failed to commit|communication error", "transient"),
        rule("MAX_JOBS_PER_OWNER|MAX_JOBS_SUBMITTED|would exceed|limit on number of", "limit",
             passes=True),
        rule("MAX_JOBS_PER_SUBMISSION", "limit"),
        rule("not authorized|DENIED|Permission denied", "permission"),
        rule("Can't find configuration|Neither the environment variable CONDOR_CONFIG",
             "not_submit_host"),
        rule("There are no jobs in the queue|not found", "not_found"),
        rule("Unknown option|unknown or ambiguous|Unrecognized", "invalid_request", final=True),
        rule("ERROR: (?!Failed)|Failed to parse|Can't open|does not exist|No 'executable'",
             "invalid_request"),
    )  # fmt: skip
    cancel_command, hold_command, release_command = "condor_rm", "condor_hold", "condor_release"

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
            if not read(one.text, source, known, unparsed) and not is_empty:
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
        said = outcomes_by_line(text, _OUTCOMES)
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
        text = self.one_text(stdout, stderr, returncode)
        slots = json_list(text)
        if slots is None:
            raise self.error(text, stderr, returncode, kind="parse_error")
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
        return _LOOKS_LIKE.search(stdout) is not None or bool(
            re.search(r"condor_|schedd", stderr, re.IGNORECASE)
        )


_LOOKS_LIKE = re.compile(
    r"^-- (?:Schedd|Submitter|Quill):|^ *ID +OWNER +SUBMITTED|^OWNER +BATCH_NAME|\"ClusterId\""
    r"|^ClusterId = |job\(s\) submitted to cluster|^OJ:[0-9a-f]+ begin condor_",
    re.MULTILINE,
)
_O = CancelOutcome
_OUTCOMES: Sentences = tuple(
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
