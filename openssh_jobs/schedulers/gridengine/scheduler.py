"""Grid Engine: Sun's, Son of, Univa's, Altair's; qsub, qstat, qacct, qdel, qhold, qrls, qhost.

Measured: SGE 8.1.9.  Manual pages: qsub(1), qstat(1), accounting(5).

* ``qstat -r -xml``: the plain table cuts names at ten letters, and ``-r`` names the jobs that a
  job waits for, which tells a dependency from a hold (both are ``hqw``).
* Times are printed in the client's zone without saying so: asked for with ``TZ=UTC``.
* ``qacct`` takes one id a call.  The accounting is written late (15 s by default).
* A job that was deleted while it ran leaves the same record as one that killed itself with 9
  (``failed 100``, exit 137), except in versions that write ``deleted_by``; one that was deleted
  while it waited leaves none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import ClassVar

from ...errors import InputError
from ...jobs import CancelOutcome, JobId, JobStatus, Node, Queue, Snapshot
from ...jobs.cause import Cause
from ...jobs.explanation import Explanation
from ..answer import Answer
from ..base import AfterEnd, Scheduler
from ..fields import command_words, first_line, is_number, quote
from ..framing import Section, framed, parts_of, read_frame, section
from ..launcher.launcher import GRID_ENGINE_JOBS, Convention
from ..outcomes import Sentences, outcomes_by_line, outcomes_for
from ..request import ALL_OPTIONS, SubmitRequest
from ..rules import rule
from ..submit_words import SubmitWords
from ..tokens import TokenAnswer
from . import causes, explain, history, machine, output, paths, tokens
from .array import array_words, whole_jobs
from .history import FEW, GONE, functions
from .words import QSUB


class GridEngine(Scheduler):
    """Grid Engine, 6.2 to 8.x."""

    name: ClassVar[str] = "sge"
    title: ClassVar[str | None] = "Grid Engine"
    aliases: ClassVar[tuple[str, ...]] = ("oge", "uge", "gridengine")
    # qacct reads the whole file of the accounting for each job.
    history_floor: ClassVar[float] = 60.0
    directive: ClassVar[str | None] = "#$"
    convention: ClassVar[Convention | None] = GRID_ENGINE_JOBS
    element_form: ClassVar[str] = "{number}.{index}"
    lacks: ClassVar[Mapping[str, str]] = {
        "after_ok": "-hold_jid, that is after_any, waits for any end",
        "after_failed": "-hold_jid, that is after_any, waits for any end",
        "gpus": "a resource of the site: options=('-l', 'gpu=1')",
        "qos": "",
        "constraint": "resources of the site: options=('-l', 'NAME=VALUE')",
    }
    capabilities: ClassVar[frozenset[str]] = ALL_OPTIONS - lacks.keys()
    after_end: ClassVar[AfterEnd] = "run"  # an error state can be cleared
    submit_words: ClassVar[SubmitWords | None] = QSUB
    probe: ClassVar[str] = (
        "command -v qconf >/dev/null 2>&1 || exit 1\n"
        "command -v qsub >/dev/null 2>&1 || exit 1\n"
        "qstat -help 2>/dev/null | sed -n '1p' | grep -i -E 'GE|Grid Engine'"
    )
    noise: ClassVar[re.Pattern[str] | None] = re.compile(r"^Exiting\.$")
    # Texts of sge_gdi_packet_internal.c and commlib (msg_gdilib.h, msg_commlistslib.h): when a
    # request could not be sent or its answer not be read, the client looks whether the master
    # lives and says "unable to contact" in both cases.  "got read error" is that of a connection
    # that was there; a connection that was refused from the start says so and nothing else.
    uncertain: ClassVar[tuple[str, ...]] = (
        r"\bgot (?:\w+ ){1,3}(?:error|timeout)|couldn't (?:read|write) all data|closing \"",
        "unable to (?:send message to|contact) qmaster|failed (?:sending|receiving) gdi",
        "error unpacking gdi|GDI mismatch|format error while unpacking|is not acknowledged",
        "connection is going down|general connection state error|handle shutdown in progress",
        "can't (?:receive message from|send .*message to) commproc|Error reading answer list",
        "Unable to wait for job|Interrupted!|Your immediate job",
    )
    rules = (
        rule(
            'got read error|closing "|receive timeout|failed receiving gdi|got timeout|'
            "Error reading answer list",
            "transient",
        ),
        rule(
            r"Connection refused\)|commlib error: can't connect|"
            "Unable to initialize environment because of error: .*qmaster",
            "transient",
            unsent=True,
        ),
        rule(
            "commlib error|unable to (?:send message to|contact) qmaster|got send error|"
            "got select error|qmaster .*not alive|failed sending gdi",
            "transient",
        ),
        rule(
            'jobs do not exist|[Jj]ob "?[^"]{1,40}"? (?:of user.* )?does not exist|'
            "job id .* not found",
            "not_found",
        ),
        rule(
            "only [0-9]+ jobs are allowed per user|maximum.*jobs.*(?:exceeded|reached)|"
            "exceed.*quota|max_u_jobs|max_jobs",
            "limit",
            passes=True,
        ),
        rule("more than [0-9]+ tasks|max_aj", "limit"),
        rule(
            "no submit host|neither submit nor admin host|SGE_ROOT|SGE_CELL|"
            "can't determine path to qmaster|unable to read .*act_qmaster",
            "not_submit_host",
        ),
        rule(
            "no permission|necessary privileges|must be at least owner|lower than minimum|"
            "access denied|not allowed to|no access to",
            "permission",
        ),
        rule("no jobs running since startup", "not_found"),
        rule(
            "Unable to run job: (?:job rejected|denied|unknown resource|attribute|error: no suit|"
            "Job was rejected|can't resolve|Script length|.*not allowed in objectname|"
            "warning|job .*cannot run)|Unable to read script|no suitable queues|"
            "invalid task",
            "invalid_request",
        ),
        rule(
            "invalid option argument|argument to -|ERROR! |Unknown option",
            "invalid_request",
            final=True,
        ),
    )
    cancel_command, hold_command, release_command = "qdel", "qhold", "qrls"

    # -- submitting ------------------------------------------------------------

    def submit_script(self, request: SubmitRequest) -> str:
        """qsub(1).  ``after_any`` is ``-hold_jid``; Grid Engine knows no other dependency.

        Several cores need a parallel environment, whose name only the site knows: ``options``.
        """
        words = ["-terse", "-cwd", *array_words(request.array)]
        has_pe = "-pe" in request.options
        if (request.cpus or 1) > 1 and not has_pe:
            self.unsupported("cpus without options=('-pe', NAME, N)")
        if request.nodes not in (None, 1, "1") and not has_pe:
            self.unsupported("nodes without options=('-pe', NAME, N)")
        limit, size = request.seconds, request.memory_in(1)
        for option, value in (
            ("-N", request.name),
            ("-q", request.queue),
            ("-P", request.account),
            ("-l", f"h_rt={limit}" if limit else None),
            ("-l", f"h_vmem={size}" if size else None),
            ("-ar", request.reservation),
            ("-M", request.mail),
            ("-m", "ea" if request.mail else None),
            ("-o", _path(request.stdout_path)),
            ("-e", _path(request.stderr_path)),
            ("-hold_jid", ",".join(whole_jobs(request.after_any)) or None),
        ):
            if value is not None:
                words += [option, str(value)]
        if request.hold:
            words.append("-h")
        words.extend(request.options)
        if any("\n" in word for word in request.arguments):
            raise InputError("Grid Engine takes no argument of a script with a newline in it")
        return f"LC_ALL=C qsub {self.words(*words)} {request.script_words} </dev/null\n"

    def submitted_ids(self, stdout: str) -> list[str]:
        """``Your job 5 ("x") has been submitted``, ``Your job-array 16.2-8:3 …``, or ``-terse``."""
        spoken = _SUBMITTED.findall(stdout)
        return spoken or _TERSE.findall(stdout)[-1:]

    # -- asking ------------------------------------------------------------------

    def status_script(self, ids: Sequence[str] = (), *, all_users: bool = False) -> str:
        """One qstat for all jobs of this user (or of everybody).

        Where any of them runs, another one for the queues whose hosts are silent: the first goes
        on calling their jobs running.  Where any waits for another one, one for those that are
        also held.  Where any did not start, some for the reasons.
        """
        mine = {JobId.parse(job_id).number for job_id in self.checked_ids(ids)} if ids else ()
        who = "'*'" if all_users else '"$(id -un)"'
        # An error stays until it is cleared: with few ids only their reasons are asked for.
        wanted = "|".join(sorted(mine)) if 0 < len(mine) <= FEW else "[0-9]+"
        silent = section("silent", f"qstat -f -qs u -u {who} -xml 2>/dev/null </dev/null")
        held = section("held", f"oj_held {who}")
        reasons = section("reasons", "oj_each")
        return framed(
            functions(),
            section("qstat", f"oj_jobs=$(qstat -u {who} -r -xml </dev/null)\noj_print"),
            f"case $oj_jobs in *'<job_list state=\"running\">'*)\n{silent};; esac\n",
            f"case $oj_jobs in *'<predecessor_jobs'*)\n{held};; esac\n",
            f"oj_failed {quote(wanted)}\n",
            f'if [ -n "$oj_ids" ]; then\n{reasons}fi\n',
        )

    def parse_status(
        self,
        answer: Answer,
        *,
        requested: Iterable[str] | None = None,
        command: str | None = None,
        timezone: tzinfo | None = None,
    ) -> Snapshot:
        """qstat (plain, -ext, -f, -r, -xml, -j) and qacct -j, pasted or asked for."""
        wanted = self.requested_ids(requested)
        sections = read_frame(answer.stdout)
        if sections is not None:
            if not sections or sections[0].returncode != 0:
                raise self.error(
                    Answer("", answer.stderr, sections[0].returncode if sections else 1)
                )
            rows = output.read(sections[0].text, UTC)
            if rows is None or not sections[0].text.strip():
                raise self.error(
                    Answer(sections[0].text, answer.stderr, 0),
                    kind="parse_error",
                    message="no listing of qstat",
                )
            is_whole = not rows.unparsed
            self._add_more(rows, sections[1:])
        else:
            rows = output.read(answer.stdout, timezone)
            words = command_words(command, ("qstat", "qacct"))
            if answer.returncode != 0 and GONE.search(answer.stderr) and wanted is not None:
                gone = set(re.findall(r"[0-9]+", answer.stderr.partition("exist")[2]))
                known = rows.known if rows is not None else {}
                return Snapshot(known=known).select(
                    wanted, covered=lambda job_id: job_id.number in gone
                )
            if answer.returncode != 0 and (rows is None or not rows.known):
                raise self.error(answer)
            # An empty queue prints nothing at all; that counts only if qstat was really asked.
            if rows is None or (not answer.stdout.strip() and not words):
                raise self.error(
                    answer,
                    kind="parse_error",
                    message=f"this is not a listing of Grid Engine: {first_line(answer.stdout)!r}",
                )
            is_whole = False
        snapshot = Snapshot(known=rows.known, unparsed=tuple(rows.unparsed), source=rows.source)
        gone = rows.gone
        if wanted is None:
            return snapshot
        return snapshot.select(wanted, covered=lambda job_id: is_whole or job_id.number in gone)

    def _add_more(self, rows: output.JobRows, more: Sequence[Section]) -> None:
        for part in more:
            if part.name == "reasons":
                for piece in part.text.split(f"{part.mark}>")[1:]:
                    number, _, details = piece.partition("\n")
                    output.add_reasons(rows, details, number)
            if part.name == "held" and part.returncode == 0:
                output.hold(rows, part.text)
            if part.name == "silent" and part.returncode == 0:
                silent = machine.read_unheard(part.text)
                for job_id, status in rows.known.items():
                    rows.known[job_id] = machine.unheard(status, silent)

    def token_script(self, requests: Sequence[SubmitRequest], *, since: datetime) -> str:
        """``qstat -j`` shows the path of the script, which holds the token."""
        return tokens.token_script(since)

    def parse_tokens(self, answer: Answer, requests: Sequence[SubmitRequest]) -> TokenAnswer:
        return tokens.parse_tokens(self, answer, requests)

    def accounting_script(self) -> str:
        """Whether the file that qacct reads is there and may be read (accounting(5))."""
        return framed(functions(), section("accounting", "oj_accounting"))

    def parse_accounting(self, answer: Answer) -> bool | None:
        """No where many sites keep it: with the master alone, or not for all to read."""
        sections = read_frame(answer.stdout)
        word = sections[0].text.strip() if sections else ""
        return {"yes": True, "no": False}.get(word)

    def history_script(self, ids: Sequence[str], *, since: datetime | None = None) -> str:
        """qacct, see history.py."""
        return history.history_script(self.checked_ids(ids))

    def parse_history(
        self,
        answer: Answer,
        *,
        requested: Iterable[str] | None = None,
        since: datetime | None = None,
    ) -> Snapshot:
        """The answer to ``history_script``: the last run of each job that the accounting has."""
        return history.parse_history(self, answer, requested, since)

    def detail_script(self, job_id: str) -> str:
        """``qstat -j``, which does not tell that a job is held; and which of its owner's are."""
        number = JobId.parse(job_id).number
        script = f"oj_jobs=$(qstat -j {number} </dev/null)\noj_print"
        held = section("held", 'oj_held "${oj_who:-$(id -un)}"')
        return framed(functions(), section(f"qstat-j {number}", script), "oj_owner\n", held)

    def parse_detail(self, answer: Answer) -> JobStatus:
        sections = read_frame(answer.stdout)
        if not sections:
            raise self.error(answer, kind="transport")
        first, *more = sections
        found = re.search("[0-9]+", first.name)
        number = found[0] if found is not None else ""
        status = output.read_detail(first.text, number, UTC)
        if first.returncode != 0 or status is None:
            raise self.error(first.answer(answer.stderr))
        rows = output.JobRows({status.job_id: status})
        self._add_more(rows, more)
        return rows.known[status.job_id]

    def usual_paths(self, job_id: str, name: str) -> tuple[str, str]:
        parsed = JobId.parse(job_id)
        stdout, stderr = (
            paths.usual_path(parsed.number, parsed.proc, name, letter) for letter in "oe"
        )
        return stdout, stderr

    def actual_path(self, path: str, job_id: str, nodes: Sequence[str] | None) -> str | None:
        """Grid Engine's variables that only the node knows: $HOSTNAME, and $TASK_ID."""
        task = JobId.parse(job_id).proc
        is_one = task is not None and is_number(task)
        return paths.actual_path(path, task if is_one else None, nodes[0] if nodes else None)

    # -- explaining ------------------------------------------------------------------

    def cause_of(self, status: JobStatus) -> Cause:
        return causes.cause_of(status)

    def explain_script(self, statuses: Sequence[JobStatus]) -> str | None:
        """``qstat -j`` for those that wait, qacct for those that are over."""
        return explain.explain_script(statuses)

    def parse_explanations(
        self, answer: Answer, statuses: Sequence[JobStatus]
    ) -> dict[str, Explanation]:
        return explain.parse_explanations(answer, statuses)

    # -- acting ----------------------------------------------------------------------

    # It starts tasks of jobs whose parallel environment has control_slaves; measured with 8.1.9.
    why_not_on_node = (
        "Grid Engine ends the whole job with a task of qrsh -inherit that is broken off"
    )

    def act_script(self, command: str, ids: Sequence[str]) -> str:
        words: list[str] = []
        for text in self.checked_ids(ids):
            job_id = JobId.parse(text)
            words.append(f"{job_id.number}.{job_id.proc}" if job_id.proc else job_id.number)
        return framed(section("act", f"{command} {self.words(*words)} 2>&1 </dev/null"))

    def parse_cancel(
        self, answer: Answer, *, requested: Iterable[str] | None = None
    ) -> dict[str, CancelOutcome]:
        """qdel says it all on stdout, errors too."""
        sections = parts_of(answer)
        text = "\n".join(part.text for part in sections)
        outcomes = outcomes_by_line(text, _OUTCOMES)
        if not outcomes:
            code = max((part.returncode for part in sections), default=1)
            error = self.error(Answer(text, "", code), asks=False)
            if error.kind == "transient" and requested is not None:
                return outcomes_for(requested, {}, CancelOutcome.TRANSIENT)
            raise error
        whole = {JobId.parse(key).number: value for key, value in outcomes.items()}
        if requested is None:
            return outcomes
        found_all = outcomes_for(requested, outcomes, CancelOutcome.UNKNOWN)
        for job_id, outcome in found_all.items():
            if outcome is CancelOutcome.UNKNOWN:
                found_all[job_id] = whole.get(JobId.parse(job_id).number, outcome)
        return found_all

    # -- the machine -------------------------------------------------------------------

    def nodes_script(self) -> str:
        return framed(section("qhost", "qhost -q </dev/null"))

    def parse_nodes(self, answer: Answer) -> list[Node]:
        nodes = machine.read_nodes(self.one_text(answer))
        if not nodes:
            raise self.error(answer, kind="parse_error")
        return nodes

    def queues_script(self) -> str:
        return framed(section("qstat-g", "qstat -g c </dev/null"))

    def parse_queues(self, answer: Answer) -> list[Queue]:
        queues = machine.read_queues(self.one_text(answer))
        if not queues:
            raise self.error(answer, kind="parse_error")
        return queues

    def recognises(self, stdout: str, stderr: str = "", command: str | None = None) -> bool:
        return output.LOOKS_LIKE.search(stdout) is not None or bool(
            re.search("qmaster|SGE_ROOT|Following jobs do not exist", stderr)
        )


_SUBMITTED = re.compile(
    r'(?:^|[^\w\n])Your job(?:-array)? ([0-9]+)(?:\.[0-9,:\-]+)? \(".*"\)', re.MULTILINE | re.ASCII
)
_TERSE = re.compile(r"^([0-9]+)(?:\.[0-9]+-[0-9]+:[0-9]+)?[ \t\r]*$", re.MULTILINE | re.ASCII)
_O = CancelOutcome
_OUTCOMES: Sentences = tuple(
    (re.compile(pattern), outcome)
    for pattern, outcome in (
        (r'denied: job "([0-9.]+)" does not exist', _O.NOT_FOUND),
        (r"[Tt]he job ([0-9.]+) of user.* does not exist", _O.NOT_FOUND),
        (r'(?:privileges|permission) to (?:delete|modify) the job "([0-9.]+)"', _O.PERMISSION),
        (r'no permission to \w+ job "([0-9.]+)"', _O.PERMISSION),
        (r"must be at least \w+ (?:of|for) job ([0-9.]+)", _O.PERMISSION),
        (r"has registered the job(?:-array task)? ([0-9.]+) for deletion", _O.REQUESTED),
        (r"has deleted job(?:-array task)? ([0-9.]+)", _O.REQUESTED),
        (r"has deleted job-array tasks .* of job ([0-9]+)", _O.REQUESTED),
        (r"forced the deletion of job ([0-9.]+)", _O.REQUESTED),
        (r"job ([0-9.]+) is already in deletion", _O.REQUESTED),
        (r"modified hold of job(?:-array task)? ([0-9.]+)", _O.REQUESTED),
    )
)


def _path(path: str | None) -> str | None:
    """Grid Engine takes what is before a colon for a host's name."""
    return f":{path}" if path is not None and ":" in path else path
