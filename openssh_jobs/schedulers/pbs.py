"""PBS: OpenPBS and PBS Professional; qsub, qstat, qdel, qhold, qrls, pbsnodes.

Measured: OpenPBS 23.06.  ``qstat -x`` lists ended jobs too where the server keeps a history.
With ids, each unknown one is named on stderr and the known ones are printed (status 153), so a
query by ids covers exactly these.  ``qdel`` gets one id a call: an own and an unknown id in one
call crashed the server that was measured.  A job starts in the home directory unless its script
changes to ``$PBS_O_WORKDIR``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, timedelta, tzinfo
from typing import ClassVar

from openssh_jobs.errors import InputError
from openssh_jobs.jobs import CancelOutcome, JobId, JobStatus, Node, Queue, Snapshot
from openssh_jobs.schedulers import pbs_output
from openssh_jobs.schedulers.base import (
    Rule,
    Scheduler,
    Section,
    SubmitRequest,
    framed,
    read_frame,
    rule,
    section,
)
from openssh_jobs.schedulers.launcher import PBS_JOBS, Convention
from openssh_jobs.schedulers.outcomes import outcome_of_kind, outcomes_for
from openssh_jobs.schedulers.text import (
    chunks,
    command_words,
    first_line,
    quote,
    shell_path,
    text_seconds,
)

RULES: tuple[Rule, ...] = (
    # Slurm's qstat wrapper, behind its complaint about an option.
    rule(r"^Problem loading (?:jobs|partitions)\.", "transient"),
    rule("Connection refused|cannot connect to server|No route to host", "transient",
         unsent=True),
    rule(
        r"could not connect to MOM|Server disconnected|timed? ?out|Premature end of message|"
        r"End of File|server is (?:busy|shutting down)|Server.*not.*(?:available|responding)",
        "transient",
    ),
    rule("Job has finished", "finished_see_history"),
    rule("Unknown Job ?Id|Unknown Job Identifier", "not_found"),
    rule("Unauthorized Request|Bad UID|not authorized|No permission|not allowed", "permission"),
    rule(
        r"would exceed .*limit|Maximum number of jobs already in queue|"
        r"exceeds? .*(?:max_queued|per-user limit|jobs? .*limit)|Job rejected.*limit",
        "limit",
        passes=True,
    ),
    rule("violates queue and/or server resource limits|exceeds server or queue size limit|"
         "exceeds queue resource limits", "limit"),
    rule("compute nodes?|not a submit host|submit.*from this host", "not_submit_host"),
    rule("illegal -|illegally formed|invalid option|unknown option|usage:", "invalid_request",
         final=True),
    rule(
        "Unknown queue|Queue is not enabled|"
        "Unknown resource|Illegal attribute|script file|script not a file|contains cr, lf|"
        "name is too long|Invalid credential|"
        "Invalid request|Job array.*(?:invalid|illegal)|Bad value|error running the Slurm sbatch",
        "invalid_request",
    ),
)  # fmt: skip


class PBS(Scheduler):
    """OpenPBS and PBS Professional, 14 to 23."""

    name: ClassVar[str] = "pbs"
    aliases: ClassVar[tuple[str, ...]] = ("openpbs", "pbspro")
    directive: ClassVar[str | None] = "#PBS"
    convention: ClassVar[Convention | None] = PBS_JOBS
    element_form: ClassVar[str] = "{number}[{index}]"
    probe: ClassVar[str] = (
        "command -v qsub >/dev/null 2>&1 || exit 1\n"
        "qstat --version 2>&1 </dev/null | grep -i '^pbs_version'"
    )
    rules = RULES
    # The low byte of an error number from 15001 on (pbs_error.h), as qsub ends with it.
    own_statuses: ClassVar[frozenset[int]] = frozenset(range(153, 256))
    uncertain: ClassVar[tuple[str, ...]] = (
        "Server disconnected|Premature end of message|End of File",
        "Protocol .*error|Error reading|cannot read (?:server )?reply",
    )
    is_torque: ClassVar[bool] = False
    cancel_command, hold_command, release_command = "qdel", "qhold", "qrls"

    # -- submitting ------------------------------------------------------------

    def submit_script(self, request: SubmitRequest) -> str:
        """qsub(1B)."""
        words: list[str] = []
        for option, value in (
            ("-N", request.name),
            (self._array_option(), request.array),
            ("-q", request.queue),
            ("-A", request.account),
            ("-o", request.stdout_path),
            ("-e", request.stderr_path),
            ("-W", self._dependency(request)),
        ):
            if value is not None:
                words += [option, str(value)]
        for wish in self._resources(request):
            words += ["-l", wish]
        if request.hold:
            words.append("-h")
        words.extend(request.options)
        return f"LC_ALL=C qsub {self.words(*words)} {shell_path(request.script)} </dev/null\n"

    def _array_option(self) -> str:
        return "-J"

    def _resources(self, request: SubmitRequest) -> list[str]:
        wishes: list[str] = []
        chunk = [str(request.nodes or 1)]
        if request.cpus:
            chunk.append(f"ncpus={request.cpus}")
        if request.memory:
            chunk.append(f"mem={memory_text(request.memory)}")
        if request.gpus:
            chunk.append(f"ngpus={request.gpus}")
        if len(chunk) > 1 or request.nodes:
            wishes.append(f"select={':'.join(chunk)}")
        limit = walltime(request.time_limit)
        if limit is not None:
            wishes.append(f"walltime={limit}")
        return wishes

    def _dependency(self, request: SubmitRequest) -> str | None:
        parts = [
            ":".join((word, *(str(JobId.parse(one)) for one in ids)))
            for word, ids in (
                ("afterok", request.after_ok),
                ("afterany", request.after_any),
                ("afternotok", request.after_failed),
            )
            if ids
        ]
        return f"depend={','.join(parts)}" if parts else None

    def submitted_ids(self, stdout: str) -> list[str]:
        """``1234.server`` or ``1234[].server`` on a line of its own, banners or not."""
        return _SUBMITTED.findall(stdout)[-1:]

    # -- asking ------------------------------------------------------------------

    #: The command that prints the ids of this user's jobs.
    _own_ids: ClassVar[str] = 'qselect -u "$(id -un)" </dev/null'

    def _says_nothing_of_unknown_ids(self, stderr: str) -> bool:
        """True where qstat leaves out, without a word, the ids that the server does not know."""
        return False

    def _query(self, words: str) -> str:
        """The command that prints whole records of these ids (of all jobs for no words)."""
        return f"qstat -x -f -F json {words}"

    def _query_now(self, words: str) -> str | None:
        """The same where the server keeps no history."""
        return f"qstat -f -F json {words}"

    def status_script(self, ids: Sequence[str] = (), *, all_users: bool = False) -> str:
        """Records of these ids; without ids, of this user's (or everybody's) jobs."""
        tag = f"qstat-{self.name}"
        parts = ["TZ=UTC0; export TZ\n"]
        if ids:
            batches = [self.words(*batch) for batch in chunks(self.checked_ids(ids))]
        elif all_users:
            batches = [""]
        else:
            parts.append(f"oj_ids=$({self._own_ids})\noj_rc=$?\n")
            parts.append(section(f"qselect-{self.name}", "(exit $oj_rc)"))
            batches = ["$oj_ids"]
        for batch in batches:
            query = f"{self._query(batch)} </dev/null\noj_rc=$?\n(exit $oj_rc)"
            body = section(tag, query)
            now = self._query_now(batch)
            if now is not None:
                # Neither done, nor "unknown id" (153): perhaps there is no history to ask.
                again = section(tag, f"{now} </dev/null")
                body += f"case $oj_rc in 0|153|35) ;; *)\n{again};;\nesac\n"
            if batch == "$oj_ids":
                body = f'if [ -n "$oj_ids" ]; then\n{body}fi\n'
            parts.append(body)
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
        """qstat in all its forms, pasted or asked for."""
        wanted = None if requested is None else [str(JobId.parse(one)) for one in requested]
        sections = read_frame(stdout)
        zone = UTC if sections is not None else timezone
        framed_answer = sections is not None
        if sections is None:
            sections = [Section("qstat", stdout, returncode, "")]
        known: dict[str, JobStatus] = {}
        unparsed: list[str] = []
        # Each id that the server does not know is named, once for each query.
        gone = [JobId.parse(one) for one in _GONE.findall(stderr) if _is_id(one)]
        failed, answered = None, False
        is_silent = framed_answer and self._says_nothing_of_unknown_ids(stderr)
        reader = pbs_output.Reader(torque=self.is_torque, zone=zone)
        for one in sections:
            if one.name.startswith("qselect"):
                if one.returncode != 0:
                    raise self.error("", stderr, one.returncode)
                answered = answered or len(sections) == 1
                continue
            is_empty = not one.text.strip()
            if is_silent and is_empty and one.returncode == 153:
                answered = True
                continue
            if one.returncode not in (0, 153, 35) or (one.returncode and is_empty and not gone):
                failed = self.error("", stderr, one.returncode)
                continue
            rows = reader.read(one.text) if not is_empty else pbs_output.Rows()
            asked = framed_answer or bool(command_words(command, ("qstat",)))
            if rows is None or (is_empty and not asked):
                raise self.error(
                    stdout,
                    stderr,
                    returncode,
                    kind="parse_error" if returncode == 0 else None,
                    message=f"this is no listing of {self.name}: {first_line(one.text)!r}",
                )
            answered = True
            known.update(rows.known)
            unparsed.extend(rows.unparsed)
        if not answered:
            raise failed or self.error(stdout, stderr, returncode)
        if wanted is None and gone and not known and not framed_answer:
            raise self.error("", stderr, returncode)
        snapshot = Snapshot(
            known=known,
            unparsed=tuple(unparsed),
            error=failed if not known and not is_silent else None,
        )
        if wanted is None:
            return snapshot
        is_whole = is_silent and not unparsed
        return snapshot.select(
            wanted, covered=lambda one: is_whole or any(one.matches(it) for it in gone)
        )

    def detail_script(self, job_id: str) -> str:
        return self.status_script([job_id])

    def parse_detail(self, stdout: str, *, stderr: str = "", returncode: int = 0) -> JobStatus:
        snapshot = self.parse_status(stdout, stderr=stderr, returncode=returncode)
        if not snapshot.known:
            raise self.error("", stderr, returncode, kind="not_found")
        return next(iter(snapshot.known.values()))

    # -- acting ----------------------------------------------------------------------

    def act_script(self, command: str, ids: Sequence[str]) -> str:
        return framed(
            *(
                section(f"act {one}", f"{command} {quote(one)} 2>&1 </dev/null")
                for one in self.checked_ids(ids)
            )
        )

    def parse_cancel(
        self,
        stdout: str,
        *,
        stderr: str = "",
        returncode: int = 0,
        requested: Iterable[str] | None = None,
    ) -> dict[str, CancelOutcome]:
        """Silence and status 0 is success; errors name the id."""
        sections = read_frame(stdout)
        said: dict[str, CancelOutcome] = {}
        if sections is not None:
            for one in sections:
                said[one.name.partition(" ")[2]] = self._outcome(one.text, one.returncode)
            return outcomes_for(requested, said, CancelOutcome.TRANSIENT)
        text = f"{stderr}\n{stdout}"
        for line in text.splitlines():
            last = line.split()[-1:] or [""]
            if last[0][:1].isdigit() and _is_id(last[0]) and self.find_rule(line) is not None:
                said[last[0]] = self._outcome(line, 1)
        if returncode != 0 and not said:
            raise self.error(stdout, stderr, returncode)
        return outcomes_for(requested, said, CancelOutcome.REQUESTED)

    def _outcome(self, text: str, returncode: int) -> CancelOutcome:
        if returncode == 0:
            return CancelOutcome.REQUESTED
        found = self.find_rule(text)
        if found is not None and found.kind == "finished_see_history":
            return CancelOutcome.ALREADY_FINISHED
        return outcome_of_kind(found.kind if found is not None else None)

    # -- the machine -------------------------------------------------------------------

    def nodes_script(self) -> str:
        return framed(section(f"pbsnodes-{self.name}", "pbsnodes -a </dev/null"))

    def parse_nodes(self, stdout: str, *, stderr: str = "", returncode: int = 0) -> list[Node]:
        nodes = pbs_output.read_nodes(self.one_text(stdout, stderr, returncode))
        if not nodes:
            raise self.error(stdout, stderr, returncode, kind="parse_error")
        return nodes

    def queues_script(self) -> str:
        return framed(section(f"qstat-{self.name}-Q", "qstat -Q -f </dev/null"))

    def parse_queues(self, stdout: str, *, stderr: str = "", returncode: int = 0) -> list[Queue]:
        queues = pbs_output.read_queues(self.one_text(stdout, stderr, returncode))
        if not queues:
            raise self.error(stdout, stderr, returncode, kind="parse_error")
        return queues

    def recognises(self, stdout: str, stderr: str = "", command: str | None = None) -> bool:
        return pbs_output.LOOKS_LIKE.search(stdout) is not None or bool(
            re.search(r"^q(?:stat|sub|del): (?:Unknown Job Id|cannot connect)|PBS", stderr)
        )


_SUBMITTED = re.compile(
    r"^[ \t]*([0-9]+(?:\[\])?(?:\.[A-Za-z][A-Za-z0-9_.\-]*)?)[ \t\r]*$", re.MULTILINE | re.ASCII
)
_GONE = re.compile(r"Unknown Job ?(?:Id|Identifier)(?: Error)?:? +(\S+)", re.IGNORECASE)


def _is_id(text: str) -> bool:
    try:
        JobId.parse(text)
    except InputError:
        return False
    return True


def memory_text(value: int | str) -> str:
    """Bytes in PBS' own unit, rounded up to KiB."""
    return f"{-(-value // 1024)}kb" if isinstance(value, int) else value


def walltime(value: timedelta | str | None) -> str | None:
    """``HH:MM:SS``."""
    if value is None:
        return None
    limit = text_seconds(value)
    if limit is None or limit <= timedelta(0):
        raise InputError(f"time_limit is no duration: {value!r}")
    total = pbs_output.seconds(limit)
    return f"{total // 3600:02}:{total // 60 % 60:02}:{total % 60:02}"
