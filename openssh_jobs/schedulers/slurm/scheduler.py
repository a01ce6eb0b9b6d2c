"""Slurm: sbatch, squeue, sacct, scontrol, scancel, sinfo.

What is asked for, and why (slurm-wlm 22.05.8 measured, manual pages of 14.03 to 24.11 read):

* ``squeue -u UID -t all`` for own jobs: one query serves all handles and processes, and ended jobs
  stay in it for MinJobAge.  ``-j`` with one unknown id is an error, with two it is silence.
* ``-o``, not ``--json``: 200 bytes a job instead of 6,000, and it is there in every version.
* A random separator: names may hold ``|``, newlines and all.
* ``TZ=UTC0`` and ``SLURM_TIME_FORMAT`` with the offset: Slurm's own times do not say their zone,
  and sacct ignores the format.
* ``sacct -j``, no ``-S``: a window leaves out what never became eligible.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import ClassVar

from ...errors import SchedulerError
from ...jobs import CancelOutcome, JobId, JobStatus, Node, Queue, Snapshot
from ...jobs.cause import Cause
from ...jobs.explanation import Explanation
from ..answer import Answer
from ..base import Scheduler
from ..fields import chunks, command_words, first_line, quote
from ..framing import Section, framed, parts_of, read_frame, section, shell_text
from ..launcher.launcher import SLURM_JOBS, Convention
from ..outcomes import outcomes_for
from ..request import ALL_OPTIONS, SubmitRequest
from ..rows import Rows
from ..rules import Rule
from ..submit_words import SubmitWords
from ..tokens import TokenAnswer
from . import causes, explain, machine, tokens
from .errors import CANCEL_ID, COMPLAINT, LOOKS_LIKE, RULES, SPEAKS, UNCERTAIN, about_job
from .pasted import ids_of_command, read_pasted
from .query import (
    QUEUE_FORMAT,
    history_parts,
    read_accounting,
    read_codes,
    read_queue,
    read_records,
    select_by_cluster,
)
from .records import read_scontrol
from .sbatch import EACH, path_of_element, plain, sbatch_words, submitted_ids
from .words import SBATCH

_PROMPT = re.compile(r"^(?:scontrol: )+(?:show job [0-9]+$)?", re.MULTILINE)


def _whole(records: Sequence[JobStatus]) -> JobStatus:
    """The first record of a job; where elements wait together, they by the id of the array."""
    for status in records:
        if EACH in (status.stdout_path or ""):
            parsed = JobId.parse(status.job_id)
            tail = f";{parsed.cluster}" if parsed.cluster else ""
            return status.replace(job_id=parsed.number + tail)
    return records[0]


class Slurm(Scheduler):
    """Slurm, 14 to 25."""

    name: ClassVar[str] = "slurm"
    title: ClassVar[str | None] = "Slurm"
    directive: ClassVar[str | None] = "#SBATCH"
    submit_words: ClassVar[SubmitWords | None] = SBATCH
    probe: ClassVar[str] = (
        "command -v sbatch >/dev/null 2>&1 || exit 1\n"
        "command -v squeue >/dev/null 2>&1 || exit 1\n"
        "sbatch --version 2>/dev/null"
    )
    noise: ClassVar[re.Pattern[str] | None] = re.compile(r"If munged is up, restart with")
    rules: ClassVar[tuple[Rule, ...]] = RULES
    capabilities: ClassVar[frozenset[str]] = ALL_OPTIONS
    # sbatch ends with exit(-1) for an option that it does not take.
    own_statuses: ClassVar[frozenset[int]] = frozenset((255,))
    uncertain: ClassVar[tuple[str, ...]] = UNCERTAIN
    convention: ClassVar[Convention | None] = SLURM_JOBS

    # -- submitting ------------------------------------------------------------

    def submit_script(self, request: SubmitRequest) -> str:
        """sbatch(1).  ``SBATCH_WAIT`` would make it wait for the job, so it is taken away."""
        words = sbatch_words(request)
        return (
            "unset SBATCH_WAIT SBATCH_DEBUG\n"
            f"sbatch {self.words(*words)} {request.script_words} </dev/null\n"
        )

    def submitted_ids(self, stdout: str) -> list[str]:
        """``Submitted batch job N on cluster C``, ``N``, ``N;C``; banners may stand before it."""
        return submitted_ids(stdout)

    # -- asking ------------------------------------------------------------------

    def status_script(self, ids: Sequence[str] = (), *, all_users: bool = False) -> str:
        """One squeue a cluster.  Own jobs: all of them, whichever ids are asked for.

        With ``all_users`` and ids: ``-j``, each id twice, since a single unknown one is an error.
        """
        parts = [shell_text("slurm/tidy")]
        places: dict[str, list[str]] = {}
        if ids and all_users:
            places = self._places(ids, array_only=True)
        elif ids:
            places = {JobId.parse(job_id).cluster or "": [] for job_id in self.checked_ids(ids)}
        if ids:
            parts.append("unset SLURM_CLUSTERS\n")
        for cluster, numbers in (places or {"": []}).items():
            where = f" -M {quote(cluster)}" if cluster else ""
            name = f"squeue@{cluster}"
            base = f'squeue{where} -h -a -t all -o "{QUEUE_FORMAT}"'
            if not all_users:
                parts.append(section(name, f'{base} -u "$(id -u)" </dev/null'))
            elif not numbers:
                parts.append(section(name, f"{base} </dev/null"))
            else:
                unique = list(dict.fromkeys(numbers))
                for batch in chunks(unique):
                    listed = ",".join((*batch, batch[0]) if len(batch) == 1 else batch)
                    parts.append(section(name, f"{base} -j {listed} </dev/null"))
        return framed(*parts)

    def parse_status(
        self,
        answer: Answer,
        *,
        requested: Iterable[str] | None = None,
        command: str | None = None,
        timezone: tzinfo | None = None,
    ) -> Snapshot:
        """squeue, sacct and scontrol in all their forms, and the answer to ``status_script``."""
        wanted = self.requested_ids(requested)
        sections = read_frame(answer.stdout)
        if sections is not None:
            return self._framed_status(sections, answer, wanted)
        return self._pasted_status(answer, wanted, command, timezone)

    def _framed_status(
        self, sections: list[Section], answer: Answer, wanted: list[str] | None
    ) -> Snapshot:
        rows = Rows()
        failed: SchedulerError | None = None
        covered: set[str] = set()
        clusters = {part.name.partition("@")[2] for part in sections}
        for part in sections:
            cluster = part.name.partition("@")[2]
            text = COMPLAINT.search(answer.stderr)
            if part.returncode != 0 or (text is not None and f"{part.mark}|" not in part.text):
                failed = self.error(Answer("", answer.stderr, part.returncode))
                continue
            covered.add(cluster)
            read_queue(part, cluster if len(clusters) > 1 else "", rows)
        if failed is not None and not covered:
            raise failed
        snapshot = Snapshot(
            known=rows.known, unparsed=tuple(rows.unparsed), error=failed, source="queue"
        )
        if wanted is None:
            return snapshot
        # An odd line could be any of them.
        return select_by_cluster(
            snapshot, wanted, clusters, covered if not rows.unparsed else set()
        )

    def _pasted_status(
        self, answer: Answer, wanted: list[str] | None, command: str | None, timezone: tzinfo | None
    ) -> Snapshot:
        words = command_words(command, ("squeue", "sacct", "scontrol"))
        program = words[0].rsplit("/", 1)[-1] if words else ""
        complaint = answer.returncode != 0 or COMPLAINT.search(answer.stderr) is not None
        rows = read_pasted(answer.stdout, words, program, timezone)
        if rows is None or (complaint and not rows.known):
            single = (
                wanted is not None and len(wanted) == 1 and "Invalid job id spec" in answer.stderr
            )
            if single and program != "sacct" and wanted is not None:
                return Snapshot(absent=tuple(wanted))
            if complaint or not answer.stdout.strip():
                raise self.error(answer)
            raise self.error(
                answer,
                kind="parse_error",
                message=f"this is not a listing of Slurm: {first_line(answer.stdout)!r}",
            )
        snapshot = Snapshot(
            known=rows.known,
            unparsed=tuple(rows.unparsed),
            error=self.error(Answer("", answer.stderr, answer.returncode)) if complaint else None,
            source=rows.source,
        )
        if wanted is None:
            return snapshot
        # A pasted listing covers an id only if it was asked for by that id.
        named = set(ids_of_command(words))
        is_whole = not complaint and not rows.unparsed
        is_whole = is_whole and (program != "squeue" or "all" in words)
        listed = [JobId.parse(job_id) for job_id in rows.known]

        def covered(job_id: JobId) -> bool:
            # Some elements of an array that are listed do not tell how the array ended.
            is_asked = is_whole and {job_id.text, job_id.number} & named != set()
            return is_asked and not any(job_id.contains(other) for other in listed)

        if is_whole and program == "sacct" and named:
            snapshot = replace(snapshot, whole_arrays=True)
        return snapshot.select(wanted, covered=covered)

    # -- the history ---------------------------------------------------------------

    def history_script(self, ids: Sequence[str], *, since: datetime | None = None) -> str:
        """sacct; squeue, then scontrol for what it does not know.  ``since``: for the parser."""
        parts = [shell_text("slurm/tidy"), "unset SLURM_CLUSTERS\n"]
        for cluster, numbers in self._places(ids).items():
            parts.extend(history_parts(cluster, numbers))
        return framed(*parts)

    def _places(self, ids: Sequence[str], *, array_only: bool = False) -> dict[str, list[str]]:
        """The ids as Slurm's commands take them, by cluster."""
        places: dict[str, list[str]] = {}
        for text in self.checked_ids(ids):
            job_id = JobId.parse(text)
            places.setdefault(job_id.cluster or "", []).append(plain(job_id, array_only=array_only))
        return places

    def parse_history(
        self,
        answer: Answer,
        *,
        requested: Iterable[str] | None = None,
        since: datetime | None = None,
    ) -> Snapshot:
        """The answer to ``history_script``; without accounting, others than listed are unknown."""
        sections = read_frame(answer.stdout)
        if sections is None:
            raise self.error(answer, kind="transport")
        rows = Rows(source="accounting")
        failed: SchedulerError | None = None
        covered: set[str] = set()
        clusters = {part.name.partition("@")[2] for part in sections}
        several = len(clusters) > 1
        for part in sections:
            program, _, cluster = part.name.partition("@")
            if program == "scontrol":
                read_records(part, cluster if several else "", rows)
            elif program == "squeue":
                if part.returncode == 0:
                    read_codes(part, cluster if several else "", rows)
            elif part.returncode != 0:
                failed = self.error(Answer("", answer.stderr, part.returncode))
            else:
                covered.add(cluster)
                read_accounting(part, cluster if several else "", rows)
        if failed is not None and not rows.known:
            raise failed
        known = rows.known
        if since is not None:
            # A reinstalled cluster counts from 1 again: this is an older job of that number.
            early = since - timedelta(hours=1)
            known = {
                job_id: status
                for job_id, status in known.items()
                if status.submitted is None or status.submitted >= early
            }
        # sacct -j lists every element of an array; what scontrol remembers is another matter.
        snapshot = Snapshot(
            known=known,
            unparsed=tuple(rows.unparsed),
            error=failed,
            source="accounting",
            whole_arrays=failed is None and not rows.unparsed,
            submitted_per_run=True,
        )
        if requested is None:
            return snapshot
        return select_by_cluster(
            snapshot, requested, clusters, covered if not rows.unparsed else set()
        )

    def token_script(self, requests: Sequence[SubmitRequest], *, since: datetime) -> str:
        """squeue and sacct show the path of the script, which holds the token."""
        return tokens.token_script(since)

    def parse_tokens(self, answer: Answer, requests: Sequence[SubmitRequest]) -> TokenAnswer:
        return tokens.parse_tokens(self, answer, requests)

    def accounting_script(self) -> str:
        """sacct for a job that hardly exists: it fails at once without accounting."""
        return framed(
            shell_text("slurm/tidy"), section("sacct", "sacct -n -X -P -o JobIDRaw -j 1 </dev/null")
        )

    def parse_accounting(self, answer: Answer) -> bool | None:
        """False for ``Slurm accounting storage is disabled``, and if sacct is missing."""
        sections = read_frame(answer.stdout)
        if not sections:
            return None
        if sections[0].returncode == 0:
            return True
        if sections[0].returncode == 127:
            return False
        found = self.find_rule(answer.stderr)
        return False if found is not None and found.kind == "unsupported" else None

    def detail_script(self, job_id: str) -> str:
        """``scontrol -o show job``: paths, exit code and command of a job that Slurm remembers."""
        parsed = JobId.parse(job_id)
        where = f" -M {quote(parsed.cluster)}" if parsed.cluster else ""
        shown_id = plain(parsed)
        command = f"scontrol{where} -a -o show job {quote(shown_id)} </dev/null"
        return framed(shell_text("slurm/tidy"), section(f"scontrol {shown_id}", command))

    def parse_detail(self, answer: Answer) -> JobStatus:
        """The first job of the answer (an array has one record an element).

        Where elements still wait together, it is they, by the id of the array.
        """
        sections = read_frame(answer.stdout)
        if sections is None or len(sections) != 1:
            raise self.error(answer, kind="transport")
        if sections[0].returncode != 0:
            raise self.error(sections[0].answer(answer.stderr))
        requested = JobId.parse(sections[0].name.partition(" ")[2])
        rows = read_scontrol(sections[0].text, UTC, requested=requested)
        if not rows.known:
            raise self.error(
                answer,
                kind="parse_error",
                message=f"the record of job {requested} cannot be separated from the text in it",
            )
        return _whole(list(rows.known.values()))

    def details_text(self) -> str:
        """One ``scontrol`` that reads ``show job`` for each of them, as if it was typed."""
        asked = "printf 'show job %s\\n' \"$@\" | scontrol -a -o 2>/dev/null"
        return framed(shell_text("slurm/tidy"), section("scontrol", asked))

    def parse_details(self, answer: Answer, requested: Iterable[str]) -> dict[str, JobStatus]:
        sections = read_frame(answer.stdout) or []
        if len(sections) != 1:
            raise self.error(answer, kind="transport")
        # Its prompt, and with readline(3) the line that was read.
        text = _PROMPT.sub("", sections[0].text)
        by_number: dict[str, list[JobStatus]] = {}
        for status in read_scontrol(text, UTC).known.values():
            by_number.setdefault(JobId.parse(status.job_id).number, []).append(status)
        found = {job_id: by_number.get(job_id, []) for job_id in requested}
        return {job_id: _whole(records) for job_id, records in found.items() if records}

    def actual_path(self, path: str, job_id: str, nodes: Sequence[str] | None) -> str | None:
        """The path of an element, from the one that scontrol prints for a whole array."""
        return path_of_element(path, JobId.parse(job_id).tasks)

    # -- explaining ------------------------------------------------------------------

    def cause_of(self, status: JobStatus) -> Cause:
        return causes.cause_of(status)

    def explain_script(self, statuses: Sequence[JobStatus]) -> str | None:
        """squeue for those that wait, sacct for the others."""
        return explain.explain_script(statuses)

    def parse_explanations(
        self, answer: Answer, statuses: Sequence[JobStatus]
    ) -> dict[str, Explanation]:
        return explain.parse_explanations(answer, statuses)

    # -- acting ----------------------------------------------------------------------

    def node_script(self, job_id: str, script: str, *, tty: bool) -> str:
        """srun(1) of one task that takes nothing from the steps of the job."""
        parsed = JobId.parse(job_id)
        if parsed.cluster:
            self.unsupported("a command on the node of a job of another cluster")
        number = quote(str(parsed))
        if parsed.tasks:  # srun reads only the number before the _
            number = f'"$(squeue -h -j {number} -o %A)"'
        pty = " --pty" if tty else ""
        return (
            f"exec srun --jobid={number} --overlap --quiet -N1 -n1{pty} /bin/sh -c {quote(script)}"
        )

    # Without -v scancel is silent about ids that it does not know.
    cancel_command = "scancel -v"
    hold_command, release_command = "scontrol hold", "scontrol release"

    def act_script(self, command: str, ids: Sequence[str]) -> str:
        """One call a cluster; scontrol takes its ids in one word."""
        parts = [shell_text("slurm/tidy"), "unset SLURM_CLUSTERS\n"]
        program, rest = command.split(" ")
        glue = "," if program == "scontrol" else " "
        for cluster, numbers in self._places(ids).items():
            where = f" -M {quote(cluster)}" if cluster else ""
            for batch in chunks(dict.fromkeys(numbers)):
                listed = quote(glue.join(batch)) if glue == "," else self.words(*batch)
                parts.append(section("act", f"{program}{where} {rest} {listed} 2>&1 </dev/null"))
        return framed(*parts)

    def parse_cancel(
        self, answer: Answer, *, requested: Iterable[str] | None = None
    ) -> dict[str, CancelOutcome]:
        """scancel, scontrol hold and release: silence with status 0 is success.

        Raises ``SchedulerError`` where the whole command failed and names no job.
        """
        sections = parts_of(answer)
        outcomes: dict[str, CancelOutcome] = {}
        failed: list[SchedulerError] = []
        for part in sections:
            about = (about_job(line) for line in part.text.splitlines())
            named = {
                job_id: self._outcome(text)
                for job_id, text in about
                if CANCEL_ID.fullmatch(job_id) is not None
            }
            outcomes |= named
            if part.returncode != 0 and not named:
                failed.append(self.error(part.answer(answer.stderr), asks=False))
        if not failed:
            return outcomes_for(requested, outcomes, CancelOutcome.REQUESTED)
        others = [error for error in failed if requested is None or error.kind != "not_found"]
        if len(failed) < len(sections):
            # Which jobs the commands that failed were about is not known.
            is_transient = all(error.kind == "transient" for error in failed)
            otherwise = CancelOutcome.TRANSIENT if is_transient else CancelOutcome.UNKNOWN
        elif others:
            raise others[0]
        else:
            otherwise = CancelOutcome.NOT_FOUND
        return outcomes_for(requested, outcomes, otherwise)

    def _outcome(self, text: str) -> CancelOutcome:
        if "already complet" in text or "completing or completed" in text:
            return CancelOutcome.ALREADY_FINISHED
        return self.outcome_of(text)

    # -- the machine -------------------------------------------------------------------

    def nodes_script(self) -> str:
        command = f'sinfo -a -h -N -o "{machine.NODE_FORMAT}" </dev/null'
        return framed(shell_text("slurm/tidy"), section("sinfo", command))

    def parse_nodes(self, answer: Answer) -> list[Node]:
        """The answer to ``nodes_script``, or a pasted sinfo or ``scontrol show node``."""
        part = self.one_section(answer)
        nodes = machine.read_nodes(part.text, part.mark)
        if not nodes:
            raise self.error(answer, kind="parse_error")
        return nodes

    def queues_script(self) -> str:
        command = f'sinfo -a -h -o "{machine.QUEUE_FORMAT}" </dev/null'
        return framed(shell_text("slurm/tidy"), section("sinfo", command))

    def parse_queues(self, answer: Answer) -> list[Queue]:
        """The answer to ``queues_script``, or a pasted sinfo or ``scontrol show partition``."""
        part = self.one_section(answer)
        queues = machine.read_queues(part.text, part.mark)
        if not queues:
            raise self.error(answer, kind="parse_error")
        return queues

    # -- recognising ---------------------------------------------------------------------

    def recognises(self, stdout: str, stderr: str = "", command: str | None = None) -> bool:
        if command_words(command, ("squeue", "sacct", "scontrol")):
            return True
        if '"pbs_version"' in stdout:
            return False
        return LOOKS_LIKE.search(stdout) is not None or SPEAKS.search(stderr) is not None
