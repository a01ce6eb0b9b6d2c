"""The base class of the schedulers: the commands that each builds, the output that it reads.

Pure: a scheduler gets plain data and returns the text of a POSIX ``sh`` script.  The caller runs
it on the host (any ``sh``: dash, bash, BusyBox) and gives the ``Answer`` to the ``parse_`` method
of the same name.  A script must end without input and must not wait for a job.

A subclass must define ``name``, ``probe``, ``rules``, ``submit_script``, ``submitted_ids``,
``status_script``, ``parse_status``, ``cancel_script`` and ``parse_cancel``.  All other methods
raise ``SchedulerError`` of kind ``unsupported``, or say that there is nothing to ask.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import ClassVar, Literal, NoReturn

from ..errors import InputError, SchedulerError, SubmitLimit, SubmitRejected, SubmitUnknown
from ..jobs import CancelOutcome, JobId, JobStatus, Node, Queue, Snapshot
from ..jobs.cause import Cause
from ..jobs.explanation import Explanation
from .answer import Answer
from .causes import cause_by_state
from .fields import expand_array, first_line, joined_lines, quote
from .framing import Section, framed, read_frame, section
from .launcher.launcher import Convention
from .outcomes import outcome_of_kind
from .request import SubmitRequest
from .rules import FINAL_KINDS, Rule, ends, find_rule, is_uncertain, rule
from .submit_words import SubmitWords
from .tokens import TokenAnswer

# Who writes a scheduler finds all it needs here; in this package each name is taken from where
# it is defined.
__all__ = [
    "Answer",
    "Rule",
    "Scheduler",
    "Section",
    "SubmitRequest",
    "TokenAnswer",
    "framed",
    "read_frame",
    "rule",
    "section",
]

AfterEnd = Literal["nothing", "requeue", "run"]
"""Of a job that is listed as ended: nothing follows; the user can send it back to the queue; it can
be let run, for the queue lists no jobs that are over."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Scheduler(ABC):
    """One scheduler.  Instances have no state."""

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    #: sh commands that print one line (a version) and end with 0 where this scheduler is installed.
    probe: ClassVar[str]
    #: What a directive line of a script begins with (``#SBATCH``).
    directive: ClassVar[str | None] = None
    #: Least seconds between two queries of the queue.
    poll_floor: ClassVar[float] = 10.0
    #: Options of ``submit`` that this scheduler does not have, and what there is instead.
    lacks: ClassVar[Mapping[str, str]] = {}
    #: Options of ``submit`` that ``submit_script`` passes on; what is not among them is refused.
    capabilities: ClassVar[frozenset[str]] = frozenset()
    #: Least seconds between two queries of the history.
    history_floor: ClassVar[float] = 30.0
    #: What the texts of this scheduler mean; the first rule that fits counts.
    rules: ClassVar[tuple[Rule, ...]] = ()
    #: The words of the submit command, where they are known: those after which a submission could
    #: not be followed are refused, and what the others mean is shown.
    submit_words: ClassVar[SubmitWords | None] = None
    #: Regular expressions (any case) for texts after which the job may exist although the submit
    #: command failed: the link broke, or the answer was lost, after the request was sent.  Any
    #: other text of a failed submit command is a refusal.
    uncertain: ClassVar[tuple[str, ...]] = ()
    #: Exit statuses from 128 on that are the submit command's own, not those of a killed process.
    own_statuses: ClassVar[frozenset[int]] = frozenset()
    #: Lines to leave out of error messages.
    noise: ClassVar[re.Pattern[str] | None] = None
    #: Whether the scheduler forgets where a job's output lies some time after its end: then that
    #: is asked for (``detail_script``) right after the submission.
    forgets_paths: ClassVar[bool] = True
    #: What can still happen to a job that the queue lists as ended.
    after_end: ClassVar[AfterEnd] = "requeue"
    #: Why the output of a running job may not exist yet, for a scheduler that spools it elsewhere.
    late_output: ClassVar[str | None] = None
    #: Commands that take job ids as their arguments; ``None`` where there is none.
    cancel_command: ClassVar[str | None] = None
    hold_command: ClassVar[str | None] = None
    release_command: ClassVar[str | None] = None
    #: Its name as people write it, where that is not ``name``.
    title: ClassVar[str | None] = None
    #: How the scheduler runs scripts; ``None`` where a launcher cannot take their place.
    convention: ClassVar[Convention | None] = None
    #: Whether of several jobs of one submission only the first that starts does the work, for each
    #: looks at the submission's ``owner`` first.
    starts_once: ClassVar[bool] = False
    #: Why its own means to run a command on the node of a job is not used, if it has one.
    why_not_on_node: ClassVar[str | None] = None

    # -- submitting ----------------------------------------------------------

    @abstractmethod
    def submit_script(self, request: SubmitRequest) -> str:
        """A script that submits; it prints what the submit command prints, and has its status.

        Raises ``SchedulerError`` of kind ``unsupported`` for an option that it does not have.
        """

    def check_script(self, request: SubmitRequest, script: bytes) -> None:  # noqa: B027
        """Raise ``InputError`` where the script's own directives contradict the request."""

    def needs_script(self, request: SubmitRequest) -> bool:
        """Whether ``check_script`` needs the text of the script for this request."""
        return False

    @abstractmethod
    def submitted_ids(self, stdout: str) -> list[str]:
        """The job ids in the output of the submit command, in order."""

    def parse_submit(self, answer: Answer) -> str:
        """The id of the new job.

        Raises ``SubmitRejected`` (``SubmitLimit``) if there is no job, ``SubmitUnknown`` if there
        may be one.  An id counts whatever the status is.  A command that failed with a text has
        refused, unless the text is ``uncertain``.
        """
        found = dict.fromkeys(self.submitted_ids(_COLOUR.sub("", answer.stdout)))
        ids = [job_id for job_id in found if _is_id(job_id)]
        if len(ids) == 1:
            return ids[0]
        raise self._submit_error(answer, several=len(ids) > 1)

    def _submit_error(self, answer: Answer, *, several: bool) -> SchedulerError:
        found = None if several else self.find_rule(answer.stderr, answer.stdout)
        message = self.message(answer) or "the submit command printed nothing"
        kind = found.kind if found is not None else "no_job_id"
        cls: type[SchedulerError] = SubmitUnknown
        if several:
            message = f"more than one job id in the answer: {first_line(answer.stdout)}"
        elif self._has_refused(answer, found):
            cls = SubmitLimit if found is not None and found.passes else SubmitRejected
            kind = found.kind if found is not None else "invalid_request"
        return cls(
            message,
            kind=kind,
            stdout=answer.stdout,
            stderr=answer.stderr,
            returncode=answer.returncode,
        )

    def _has_refused(self, answer: Answer, found: Rule | None) -> bool:
        """True if the submit command exited, not by a signal, and printed a reason."""
        # 124 is the status of timeout(1); a shell reports signal N as 128+N.
        by_itself = 0 < answer.returncode < 128 and answer.returncode != 124
        if not by_itself and answer.returncode not in self.own_statuses:
            return False
        if found is not None and found.unsent:
            return True
        if not joined_lines(answer.stderr, answer.stdout, skip=self.noise):
            return False
        return not is_uncertain(self.uncertain, answer.stderr, answer.stdout)

    # -- asking --------------------------------------------------------------

    @abstractmethod
    def status_script(self, ids: Sequence[str] = (), *, all_users: bool = False) -> str:
        """A script that queries the queue once for these jobs, or without ids for all jobs.

        Without ``all_users`` the ids must be jobs of this user.
        """

    @abstractmethod
    def parse_status(
        self,
        answer: Answer,
        *,
        requested: Iterable[str] | None = None,
        command: str | None = None,
        timezone: tzinfo | None = None,
    ) -> Snapshot:
        """The jobs of a queue or accounting listing: of ``status_script``, or a pasted one.

        ``command`` is the command line, where known; ``timezone`` that of times without an offset.
        Raises ``SchedulerError`` for an answer that is not complete.
        """

    def history_script(self, ids: Sequence[str], *, since: datetime | None = None) -> str | None:
        """A script that asks how these jobs ended; ``None`` if the scheduler keeps no history."""
        return None

    def parse_history(
        self,
        answer: Answer,
        *,
        requested: Iterable[str] | None = None,
        since: datetime | None = None,
    ) -> Snapshot:
        """How jobs ended; a job submitted well before ``since`` is an older one of the same id."""
        self.unsupported("a history of ended jobs")

    def token_script(self, requests: Sequence[SubmitRequest], *, since: datetime) -> str | None:
        """A script that asks which jobs of this user carry the tokens of these submissions.

        Ended jobs are included; none is older than ``since``.  ``None`` if the scheduler shows
        nothing by which a job could be recognised.
        """
        return None

    def parse_tokens(self, answer: Answer, requests: Sequence[SubmitRequest]) -> TokenAnswer:
        """The answer to ``token_script``.

        Raises ``SchedulerError`` where it is not complete: then it proves no job's absence.
        """
        self.unsupported("a search for the job of a submission")

    def accounting_script(self) -> str | None:
        """A script that asks whether ended jobs are remembered; ``None`` if they always are."""
        return None

    def parse_accounting(self, answer: Answer) -> bool | None:
        """Whether ended jobs are remembered; ``None`` if the answer does not say."""
        return None

    def detail_script(self, job_id: str) -> str | None:
        """A script that asks for all facts about one job (paths, exit code), or ``None``."""
        return None

    def parse_detail(self, answer: Answer) -> JobStatus:
        """The one job in the answer to ``detail_script``."""
        self.unsupported("details of a job")

    def details_text(self) -> str | None:
        """Shell text that asks for all facts about the jobs in its arguments, by one command.

        The ids are those of this host's own cluster, or numbers that are none.  ``None`` where one
        command takes one job: then ``detail_script`` is run for each.
        """
        return None

    def parse_details(self, answer: Answer, requested: Iterable[str]) -> dict[str, JobStatus]:
        """What ``parse_detail`` would say of each of these jobs; some may be missing."""
        self.unsupported("details of several jobs")

    #: How an element of an array is written: with ``{number}`` and ``{index}``.
    element_form: ClassVar[str] = "{number}_{index}"

    def element_ids(self, job_id: str, array: str) -> list[str]:
        """The ids of all elements of an array that was submitted as ``array`` (``0-9%2``)."""
        parsed = JobId.parse(job_id)
        tail = (
            f".{parsed.server}" if parsed.server else f";{parsed.cluster}" if parsed.cluster else ""
        )
        return [
            self.element_form.format(number=parsed.number, index=index) + tail
            for index in expand_array(array)
        ]

    def usual_paths(self, job_id: str, name: str) -> tuple[str, str] | None:
        """The default paths of stdout and stderr, relative to the job's directory.

        For a job that the scheduler has forgotten; ``None`` if it has no such rule.
        """
        return None

    def names_in_directory(self, job_id: str, name: str | None) -> tuple[str, str] | None:
        """The names of both files where the output path is a directory."""
        return self.usual_paths(job_id, name) if name is not None else None

    def actual_path(self, path: str, job_id: str, nodes: Sequence[str] | None) -> str | None:
        """A path of ``parse_detail`` with its placeholders (node, array member) filled in.

        ``None`` while their values are not known.
        """
        return path

    # -- explaining ----------------------------------------------------------

    def cause_of(self, status: JobStatus) -> Cause:
        """Why the job waits or what ended it, as far as its status shows; else ``UNKNOWN``."""
        return cause_by_state(status)

    def explain_script(self, statuses: Sequence[JobStatus]) -> str | None:
        """A script that asks why these jobs wait, what ended them and what they used.

        ``None`` where a status says all that the scheduler knows.
        """
        return None

    def parse_explanations(
        self, answer: Answer, statuses: Sequence[JobStatus]
    ) -> dict[str, Explanation]:
        """What the answer to ``explain_script`` says of each job; what failed is left out."""
        return {}

    def explained(self, status: JobStatus) -> Explanation:
        """What the status alone explains."""
        return Explanation(
            status=status,
            cause=self.cause_of(status),
            words=status.reason,
            scheduler=self.title or self.name,
        )

    # -- acting --------------------------------------------------------------

    def cancel_script(self, ids: Sequence[str]) -> str:
        """A script that cancels these jobs with one command."""
        return self.act_script(self.cancel_command or self.unsupported("cancel"), ids)

    @abstractmethod
    def parse_cancel(
        self, answer: Answer, *, requested: Iterable[str] | None = None
    ) -> dict[str, CancelOutcome]:
        """The outcome for each id; also for ``hold_script`` and ``release_script``."""

    def hold_script(self, ids: Sequence[str]) -> str:
        """A script that holds these pending jobs."""
        return self.act_script(self.hold_command or self.unsupported("hold"), ids)

    def release_script(self, ids: Sequence[str]) -> str:
        """A script that releases these held jobs."""
        return self.act_script(self.release_command or self.unsupported("release"), ids)

    def act_script(self, command: str, ids: Sequence[str]) -> str:
        """A script that runs one of the three commands with these ids."""
        words = self.words(*self.checked_ids(ids))
        return framed(section("act", f"{command} {words} 2>&1 </dev/null"))

    def cleanup_script(self, ids: Sequence[str]) -> str | None:
        """A script that removes what is kept on the host for ended jobs, or ``None``."""
        return None

    def node_script(self, job_id: str, script: str, *, tty: bool) -> str:
        """A script that runs another one on the first node of a running job, inside the job.

        It has the streams of this one; with ``tty`` its terminal, too.
        """
        why = f": {self.why_not_on_node}" if self.why_not_on_node else ""
        self.unsupported(
            f"a command on the node of a job{why} (node_ssh = true in the host's table of "
            "servers.toml lets the host's own ssh go there)"
        )

    # -- the machine -----------------------------------------------------------

    def nodes_script(self) -> str:
        """A script that lists the nodes."""
        self.unsupported("a list of nodes")

    def parse_nodes(self, answer: Answer) -> list[Node]:
        """The nodes.  Raises ``SchedulerError`` for an answer that is not complete."""
        self.unsupported("a list of nodes")

    def queues_script(self) -> str:
        """A script that lists the queues."""
        self.unsupported("a list of queues")

    def parse_queues(self, answer: Answer) -> list[Queue]:
        """The queues, in the scheduler's order.  Raises as ``parse_nodes`` does."""
        self.unsupported("a list of queues")

    # -- recognising -----------------------------------------------------------

    def recognises(self, stdout: str, stderr: str = "", command: str | None = None) -> bool:
        """Whether this output may come from this scheduler's commands."""
        return False

    # -- what the files share --------------------------------------------------

    def check_options(self, request: SubmitRequest) -> None:
        """Raise ``SchedulerError`` of kind ``unsupported`` for an option that would be lost.

        Raises ``InputError`` for words after which the job could not be followed.
        """
        for name in request.given():
            if name not in self.capabilities:
                instead = self.lacks.get(name)
                self.unsupported(f"{name} ({instead})" if instead else name)
        if self.submit_words is not None:
            self.submit_words.check(request.options)

    def understood(self, options: Sequence[str]) -> dict[str, str]:
        """What words for the submit command set, by parameter of ``submit``, as they are typed."""
        return {} if self.submit_words is None else self.submit_words.understood(options)

    def said_in_script(self, script: bytes) -> dict[str, str]:
        """What the directives of a script set, as ``understood`` gives it."""
        if self.submit_words is None:
            return {}
        return self.submit_words.of_script(script, self.directive)

    def unsupported(self, what: str) -> NoReturn:
        """Raise ``SchedulerError`` of kind ``unsupported``; nothing was sent."""
        raise SchedulerError(
            f"the scheduler {self.name} does not support {what}",
            kind="unsupported",
            sent="no",
        )

    def find_rule(self, *texts: str) -> Rule | None:
        """The first rule that fits any of these texts."""
        return find_rule(self.rules, *texts)

    def outcome_of(self, text: str) -> CancelOutcome:
        """The outcome that a text about one job stands for."""
        found = self.find_rule(text)
        return outcome_of_kind(found.kind if found is not None else None)

    def one_section(self, answer: Answer) -> Section:
        """The first section, or the whole of an answer without a frame (the mark is then empty).

        Raises ``SchedulerError`` if the command failed or printed nothing.
        """
        sections = read_frame(answer.stdout)
        part = sections[0] if sections else Section("", answer.stdout, answer.returncode, "")
        if part.returncode != 0 or not part.text.strip():
            raise self.error(part.answer(answer.stderr))
        return part

    def one_text(self, answer: Answer) -> str:
        """The text of ``one_section``."""
        return self.one_section(answer).text

    def message(self, answer: Answer) -> str:
        """The error text in one line: all its lines with letters or digits, up to a limit."""
        return joined_lines(*ends(answer.stderr, answer.stdout), skip=self.noise)

    def error(
        self,
        answer: Answer,
        *,
        kind: str | None = None,
        message: str | None = None,
        asks: bool = True,
    ) -> SchedulerError:
        """The ``SchedulerError`` for an answer.

        The rules tell its kind.  Where none fits, it is ``transient`` for a query (``asks``), which
        may be repeated, and ``parse_error`` for a command that acts; a query's error stays
        ``transient`` unless its rule is ``final``.
        """
        found = self.find_rule(answer.stderr, answer.stdout)
        if kind is None:
            kind = found.kind if found is not None else "transient" if asks else "parse_error"
            if asks and found is not None and kind in FINAL_KINDS and not found.final:
                kind = "transient"
        text = message or self.message(answer)
        if not text:
            text = f"no answer (exit status {answer.returncode})"
        return SchedulerError(
            text,
            kind=kind,
            stdout=answer.stdout,
            stderr=answer.stderr,
            returncode=answer.returncode,
        )

    def requested_ids(self, requested: Iterable[str] | None) -> list[str] | None:
        """The ids of interest, as ``Snapshot.select`` takes them.  Raises ``InputError``."""
        return None if requested is None else [str(JobId.parse(job_id)) for job_id in requested]

    def checked_ids(self, ids: Iterable[str]) -> list[str]:
        """The ids without doubles.  Raises ``InputError`` for no ids, and for what is not an id."""
        if isinstance(ids, str):
            ids = (ids,)
        found = list(dict.fromkeys(str(JobId.parse(job_id)) for job_id in ids))
        if not found:
            raise InputError("no job ids given")
        return found

    def words(self, *words: str) -> str:
        """An argument vector as one line of sh."""
        return " ".join(quote(word) for word in words)


def _is_id(text: str) -> bool:
    try:
        JobId.parse(text)
    except InputError:
        return False
    return True
