"""PBS: OpenPBS and PBS Professional; qsub, qstat, qdel, qhold, qrls, pbsnodes.

Measured: OpenPBS 23.06, with and without a job history (the default is without).  ``qstat`` is
asked in its ``dsv`` form with a random delimiter: JSON of some builds holds the first
of several jobs only.  Whatever id the answer leaves out, without naming it as unknown, is asked
about again, plainly and alone.  ``qdel`` gets one id a call: an own and an unknown id in one call
crashed the server that was measured.  A job starts in the home directory unless its script changes
to ``$PBS_O_WORKDIR``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from typing import ClassVar

from ...errors import InputError, SchedulerError
from ...jobs import CancelOutcome, JobId, JobStatus, Node, Queue, Snapshot
from ...jobs.cause import Cause
from ...jobs.job_id import JobIds
from ..answer import Answer
from ..base import AfterEnd, Scheduler
from ..fields import chunks, command_words, quote, shell_path
from ..framing import framed, read_frame, section
from ..launcher.launcher import PBS_JOBS, Convention
from ..outcomes import outcome_of_kind, outcomes_for
from ..request import ALL_OPTIONS, SubmitRequest
from ..rules import Rule
from ..submit_words import SubmitWords
from ..tokens import TokenAnswer
from . import output, tokens
from .causes import cause_of
from .directives import check_resources, named_resources
from .errors import RULES, UNCERTAIN
from .machine import default_queue, read_nodes, read_queues
from .paths import actual_path, in_directory, usual_path
from .query import is_id, query_text, read_listing, remembered
from .words import PBS_QSUB


class PBS(Scheduler):
    """OpenPBS and PBS Professional, 14 to 23."""

    name: ClassVar[str] = "pbs"
    title: ClassVar[str | None] = "PBS"
    aliases: ClassVar[tuple[str, ...]] = ("openpbs", "pbspro")
    directive: ClassVar[str | None] = "#PBS"
    convention: ClassVar[Convention | None] = PBS_JOBS
    element_form: ClassVar[str] = "{number}[{index}]"
    lacks: ClassVar[Mapping[str, str]] = {
        "qos": "",
        "reservation": "a reservation is a queue: queue=",
        "constraint": "resources of the site: options=('-l', 'select=1:NAME=VALUE')",
        "arguments": "the script reads variables: env=",
    }
    capabilities: ClassVar[frozenset[str]] = ALL_OPTIONS - lacks.keys()
    submit_words: ClassVar[SubmitWords | None] = PBS_QSUB
    probe: ClassVar[str] = (
        "command -v qsub >/dev/null 2>&1 || exit 1\n"
        "qstat --version 2>&1 </dev/null | grep -i '^pbs_version'"
    )
    rules = RULES
    uncertain: ClassVar[tuple[str, ...]] = UNCERTAIN
    # The low byte of an error number from 15001 on (pbs_error.h), as qsub ends with it.
    own_statuses: ClassVar[frozenset[int]] = frozenset(range(153, 256))
    late_output: ClassVar[str | None] = (
        "Where the job runs it is spooled, and it is delivered when the job ends; -k oed writes it "
        "in place at once. With -R it is removed when the job has ended well."
    )
    is_torque: ClassVar[bool] = False
    after_end: ClassVar[AfterEnd] = "nothing"
    cancel_command, hold_command, release_command = "qdel", "qhold", "qrls"

    # -- submitting ------------------------------------------------------------

    def submit_script(self, request: SubmitRequest) -> str:
        """qsub(1B)."""
        self._check_array(request)
        words: list[str] = []
        for option, value in (
            ("-N", request.name),
            (self._array_option(), request.array),
            ("-q", request.queue),
            ("-A", request.account),
            ("-M", request.mail),
            ("-m", "ae" if request.mail else None),
            ("-o", request.stdout_path),
            ("-e", request.stderr_path),
            ("-W", self._dependency(request)),
        ):
            if value is not None:
                words += [option, str(value)]
        for resource in self._resources(request):
            words += ["-l", resource]
        if request.hold:
            words.append("-h")
        words.extend(request.options)
        return f"LC_ALL=C qsub {self.words(*words)} {shell_path(request.script)} </dev/null\n"

    def _check_array(self, request: SubmitRequest) -> None:
        """``X-Y[:Z][%N]`` with X < Y is all that ``-J`` takes."""
        text = request.array
        if text is None:
            return
        found = re.fullmatch(r"([0-9]+)-([0-9]+)(?::[0-9]+)?(?:%[0-9]+)?", text, re.ASCII)
        if found is None or int(found[1]) >= int(found[2]):
            raise InputError(
                f"PBS takes no array {text!r}",
                advice="One range of at least two, with a step or not: 0-9, 1-99:2, 1-100%5.",
            )

    def check_script(self, request: SubmitRequest, script: bytes) -> None:
        """``InputError`` where directives of the script contradict what was asked for."""
        check_resources(script, request, torque=self.is_torque)

    def needs_script(self, request: SubmitRequest) -> bool:
        """Whether what was asked for may contradict the script's own directives."""
        return bool(request.nodes or request.cpus or request.memory or request.gpus)

    def _array_option(self) -> str:
        return "-J"

    def _resources(self, request: SubmitRequest) -> list[str]:
        resources: list[str] = []
        chunk = [str(request.nodes or 1)]
        if request.cpus:
            chunk.append(f"ncpus={request.cpus}")
        if request.memory:
            chunk.append(f"mem={request.memory_in(1024)}kb")
        if request.gpus:
            chunk.append(f"ngpus={request.gpus}")
        if len(chunk) > 1 or request.nodes:
            resources.append(f"select={':'.join(chunk)}")
            # Without it several chunks may lie on one node.
            several = request.nodes is not None and str(request.nodes) != "1"
            if several and "place" not in named_resources(b"", request.options):
                resources.append("place=scatter")
        limit = walltime(request.seconds)
        if limit is not None:
            resources.append(f"walltime={limit}")
        return resources

    def _dependency(self, request: SubmitRequest) -> str | None:
        parts = []
        for word, ids in (
            ("afterok", request.after_ok),
            ("afterany", request.after_any),
            ("afternotok", request.after_failed),
        ):
            jobs = [JobId.parse(job_id) for job_id in ids]
            for job in jobs if not self.is_torque else ():
                if job.tasks:
                    raise InputError(
                        f"PBS cannot wait for one element of an array: {job}",
                        advice="Give the whole array.",
                    )
            arrays = [job for job in jobs if job.tasks == ""] if self.is_torque else []
            others = [str(job) for job in jobs if job not in arrays]
            if others:
                parts.append(":".join((word, *others)))
            if arrays:
                # After an array by the plain word a job waits for ever.
                parts.append(":".join((f"{word}array", *map(str, arrays))))
        return f"depend={','.join(parts)}" if parts else None

    def _has_refused(self, answer: Answer, found: Rule | None) -> bool:
        # 15136: a hook of the site's said no, in whatever words it likes.
        if answer.returncode == 32 and not self.is_torque and answer.stderr.strip():
            return True
        return super()._has_refused(answer, found)

    def submitted_ids(self, stdout: str) -> list[str]:
        """``1234.server`` or ``1234[].server`` on a separate line, with or without banners."""
        return _SUBMITTED.findall(stdout)[-1:]

    # -- asking ------------------------------------------------------------------

    def status_script(self, ids: Sequence[str] = (), *, all_users: bool = False) -> str:
        """Records of these ids, ended ones too; without ids, the queue of this user (or all)."""
        if not ids:
            return framed(
                query_text(torque=self.is_torque), "oj_all\n" if all_users else "oj_user\n"
            )
        return framed(query_text(torque=self.is_torque), *self._asking(self.checked_ids(ids)))

    def _asking(self, ids: Sequence[str]) -> list[str]:
        """The lines of sh that ask about these jobs."""
        return [f"oj_jobs {self.words(*batch)}\n" for batch in chunks(ids)]

    def token_script(self, requests: Sequence[SubmitRequest], *, since: datetime) -> str:
        """A job shows the arguments of its qsub, where the path of the script holds the token."""
        return tokens.token_script(since, torque=self.is_torque)

    def parse_tokens(self, answer: Answer, requests: Sequence[SubmitRequest]) -> TokenAnswer:
        return tokens.parse_tokens(self, answer, requests, torque=self.is_torque)

    def accounting_script(self) -> str | None:
        """The server's own attributes: whether, and for how long, it remembers ended jobs."""
        return framed(section(f"server-{self.name}", "qstat -B -f </dev/null"))

    def parse_accounting(self, answer: Answer) -> bool | None:
        """A history counts that outlives a day: who asks later than that finds nothing."""
        try:
            text = self.one_text(answer)
        except SchedulerError:
            return None
        kept = remembered(text, torque=self.is_torque)
        return None if kept is None else kept >= timedelta(days=1)

    def parse_status(
        self,
        answer: Answer,
        *,
        requested: Iterable[str] | None = None,
        command: str | None = None,
        timezone: tzinfo | None = None,
    ) -> Snapshot:
        """qstat in all its forms, pasted or asked for."""
        wanted = self.requested_ids(requested)
        listing = read_listing(
            self,
            answer,
            torque=self.is_torque,
            zone=timezone,
            is_qstat=bool(command_words(command, ("qstat",))),
        )
        known = listing.rows.settled()
        if wanted is None and listing.gone and not known and not listing.framed:
            raise self.error(Answer("", listing.errors, answer.returncode))
        left_out = listing.left_out() if wanted is None else []
        error = listing.failed if not known and not listing.silent else None
        if left_out:
            error = SchedulerError(
                f"the answer leaves out {len(left_out)} jobs that qselect names: "
                f"{', '.join(left_out[:5])}",
                kind="transient", stdout=answer.stdout, stderr=answer.stderr,
            )  # fmt: skip
        snapshot = Snapshot(known=known, unparsed=tuple(listing.rows.unparsed), error=error)
        if wanted is None:
            return snapshot
        # The states of some members of an array do not determine those of the others.
        listed = JobIds((JobId.parse(text), True) for text in known)
        lost = {job_id: None for job_id in wanted if _is_left_out(job_id, listed)}
        is_whole = listing.silent and not listing.rows.unparsed
        named = JobIds((job_id, True) for job_id in listing.gone)

        def is_gone(job_id: JobId) -> bool:
            return is_whole or bool(named.matching(job_id))

        found = snapshot.select(
            [job_id for job_id in wanted if job_id not in lost], covered=is_gone
        )
        gone = {job_id: None for job_id in lost if is_gone(JobId.parse(job_id))}
        return replace(
            found,
            absent=(*found.absent, *gone),
            unknown=(*found.unknown, *(job_id for job_id in lost if job_id not in gone)),
        )

    def detail_script(self, job_id: str) -> str:
        (checked,) = self.checked_ids([job_id])
        id_section = section("asked", f"printf '%s\\n' {quote(checked)}")
        return framed(id_section, query_text(torque=self.is_torque), *self._asking([checked]))

    def parse_detail(self, answer: Answer) -> JobStatus:
        parts = {part.name: part.text for part in read_frame(answer.stdout) or []}
        id_text = parts.get("asked")
        snapshot = self.parse_status(answer)
        for text, status in snapshot.known.items():
            if id_text is None or JobId.parse(text).matches(JobId.parse(id_text.strip())):
                return status
        raise self.error(Answer("", answer.stderr, answer.returncode), kind="not_found")

    def usual_paths(self, job_id: str, name: str) -> tuple[str, str]:
        out, err = (usual_path(job_id, name, letter, torque=self.is_torque) for letter in "oe")
        return out, err

    def names_in_directory(self, job_id: str, name: str | None) -> tuple[str, str] | None:
        return in_directory(job_id, "o"), in_directory(job_id, "e")

    def actual_path(self, path: str, job_id: str, nodes: Sequence[str] | None) -> str | None:
        return actual_path(path, job_id)

    def cause_of(self, status: JobStatus) -> Cause:
        return cause_of(status)

    # -- acting ----------------------------------------------------------------------

    def act_script(self, command: str, ids: Sequence[str]) -> str:
        return framed(
            *(
                section(f"act {job_id}", f"{command} {quote(job_id)} 2>&1 </dev/null")
                for job_id in self.checked_ids(ids)
            )
        )

    def parse_cancel(
        self, answer: Answer, *, requested: Iterable[str] | None = None
    ) -> dict[str, CancelOutcome]:
        """Silence and status 0 is success; errors name the id."""
        sections = read_frame(answer.stdout)
        outcomes: dict[str, CancelOutcome] = {}
        if sections is not None:
            for part in sections:
                outcomes[part.name.partition(" ")[2]] = self._outcome(part.text, part.returncode)
            return outcomes_for(requested, outcomes, CancelOutcome.TRANSIENT)
        text = f"{answer.stderr}\n{answer.stdout}"
        for line in text.splitlines():
            last = line.split()[-1:] or [""]
            if not (last[0][:1].isdigit() and is_id(last[0])):
                continue
            if self.find_rule(line) is not None or re.match(r"q\w+: ", line):
                outcomes[last[0]] = self._outcome(line, 1)
        if answer.returncode != 0 and not outcomes:
            raise self.error(answer, asks=False)
        return outcomes_for(requested, outcomes, CancelOutcome.REQUESTED)

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

    def parse_nodes(self, answer: Answer) -> list[Node]:
        nodes = read_nodes(self.one_text(answer))
        if not nodes:
            raise self.error(answer, kind="parse_error")
        return nodes

    def queues_script(self) -> str:
        return framed(
            section(f"qstat-{self.name}-Q", "qstat -Q -f </dev/null"),
            section(f"server-{self.name}", "qstat -B -f </dev/null"),
        )

    def parse_queues(self, answer: Answer) -> list[Queue]:
        text = self.one_text(answer)
        parts = read_frame(answer.stdout) or []
        server = next((part.text for part in parts if part.name.startswith("server-")), "")
        queues = read_queues(text, default_queue(server))
        if not queues:
            raise self.error(answer, kind="parse_error")
        return queues

    def recognises(self, stdout: str, stderr: str = "", command: str | None = None) -> bool:
        return output.LOOKS_LIKE.search(stdout) is not None or bool(
            re.search(r"^q(?:stat|sub|del): (?:Unknown Job Id|cannot connect)|PBS", stderr)
        )


_SUBMITTED = re.compile(
    # Behind a word of a wrapper only with a server: "[1] 4711" is a shell's.
    r"^[ \t]*(?:(?:qsub:|\[[^\]\n]{1,40}\]) (?=[^. \n]+\.))?"
    r"([0-9]+(?:\[\])?(?:\.[0-9]*[A-Za-z][A-Za-z0-9_.\-]*)?)[ \t\r]*$",
    re.MULTILINE | re.ASCII,
)


def _is_left_out(job_id: str, listed: JobIds[bool]) -> bool:
    """Whether this is a whole array without its own record."""
    parsed = JobId.parse(job_id)
    return parsed.tasks == "" and not listed.matching(parsed)


def walltime(total: int | None) -> str | None:
    """Seconds as ``HH:MM:SS``."""
    if total is None:
        return None
    return f"{total // 3600:02}:{total // 60 % 60:02}:{total % 60:02}"
