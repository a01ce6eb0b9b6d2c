"""The contract that one scheduler's file fulfils: the commands it builds, the output it reads.

Pure: a scheduler gets plain data and gives back the text of a POSIX ``sh`` script; somebody else
runs it on the host (any ``sh``: dash, bash, BusyBox) and hands the output back to the ``parse_``
method of the same name.  A script ends by itself and never waits for a job.

What one has to write: ``name``, ``probe``, ``rules``, ``submit_script``, ``submitted_ids``,
``status_script``, ``parse_status``, ``cancel_script`` and ``parse_cancel``.  All the rest has an
answer that says "unsupported".
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from typing import ClassVar, NoReturn

from ..errors import InputError, SchedulerError, SubmitLimit, SubmitRejected, SubmitUnknown
from ..jobs import CancelOutcome, JobId, JobStatus, Node, Queue, Snapshot
from .answer import Answer
from .fields import expand_array, first_line, joined_lines, quote
from .framing import Section, framed, read_frame, section
from .launcher.launcher import Convention
from .outcomes import outcome_of_kind
from .request import SubmitRequest
from .rules import FINAL_KINDS, Rule, ends, find_rule, is_uncertain, rule

# Who writes a scheduler finds all it needs here; in this package each name is taken from where
# it is defined.
__all__ = [
    "Answer",
    "Rule",
    "Scheduler",
    "Section",
    "SubmitRequest",
    "framed",
    "read_frame",
    "rule",
    "section",
]

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Scheduler(ABC):
    """One scheduler.  Instances hold nothing; any of them is as good as another."""

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    #: sh commands: status 0 and one line (its version) on stdout where this scheduler is there.
    probe: ClassVar[str]
    #: What a directive line of a script begins with (``#SBATCH``).
    directive: ClassVar[str | None] = None
    #: Least seconds between two queries of the queue that a good guest leaves.
    poll_floor: ClassVar[float] = 10.0
    #: What the texts of this scheduler mean, most telling first.
    rules: ClassVar[tuple[Rule, ...]] = ()
    #: Texts after which the job may exist although the submit command failed: the link broke, or
    #: the answer was lost, when the request had been sent.  Regular expressions, any case.  All
    #: else that a failed submit command says is a refusal.
    uncertain: ClassVar[tuple[str, ...]] = ()
    #: Exit statuses from 128 on that are the submit command's own, not those of a killed process.
    own_statuses: ClassVar[frozenset[int]] = frozenset()
    #: Lines of an error text that never are the one that matters.
    noise: ClassVar[re.Pattern[str] | None] = None
    #: Whether some time after a job's end nobody tells where its output lies: then that is asked
    #: for (``detail_script``) right after the submission.
    forgets_paths: ClassVar[bool] = True
    #: Why the output of a running job may not be there yet, where the scheduler keeps it elsewhere.
    late_output: ClassVar[str | None] = None
    #: What cancels, holds and releases the jobs whose ids follow; ``None`` where nothing does.
    cancel_command: ClassVar[str | None] = None
    hold_command: ClassVar[str | None] = None
    release_command: ClassVar[str | None] = None
    #: What a launcher around a script has to know; ``None`` where jobs cannot be given one.
    convention: ClassVar[Convention | None] = None

    # -- submitting ----------------------------------------------------------

    @abstractmethod
    def submit_script(self, request: SubmitRequest) -> str:
        """A script that submits; it prints what the scheduler prints and ends with its status.

        Raises ``SchedulerError`` of kind ``unsupported`` for a wish that cannot be fulfilled.
        """

    def check_script(self, request: SubmitRequest, script: bytes) -> None:  # noqa: B027
        """``InputError`` where the script's own directives contradict the request."""

    def needs_script(self, request: SubmitRequest) -> bool:
        """Whether ``check_script`` has anything to look at for this request."""
        return False

    @abstractmethod
    def submitted_ids(self, stdout: str) -> list[str]:
        """The ids that this output of the submit command names, in order."""

    def parse_submit(self, answer: Answer) -> str:
        """The id of the new job.

        Raises ``SubmitRejected`` (``SubmitLimit``) where there is certainly no job, and
        ``SubmitUnknown`` where there may be one.  An id counts whatever the status is.  A command
        that failed and said why has refused, unless its words are ``uncertain``.
        """
        said = dict.fromkeys(self.submitted_ids(_COLOUR.sub("", answer.stdout)))
        ids = [one for one in said if _is_id(one)]
        if len(ids) == 1:
            return ids[0]
        raise self._submit_error(answer, several=len(ids) > 1)

    def _submit_error(self, answer: Answer, *, several: bool) -> SchedulerError:
        found = None if several else self.find_rule(answer.stderr, answer.stdout)
        message = self.message(answer) or "the submit command said nothing"
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
        """True for the answer of a submit command that ended by itself and named a reason."""
        # 124 is that of timeout(1); a shell tells a signal as 128 and more.
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
        """One script that asks the queue once for all of these jobs (none given: for all jobs).

        Without ``all_users`` the ids are taken to be this user's own jobs.
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
        """What a queue (or accounting) listing says: that of ``status_script``, or a pasted one.

        ``command`` is what was typed, where known; ``timezone`` that of times without an offset.
        Raises ``SchedulerError`` for what is no complete answer.
        """

    def history_script(self, ids: Sequence[str], *, since: datetime | None = None) -> str | None:
        """A script that asks how these jobs ended, or ``None`` where there is nobody to ask."""
        return None

    def parse_history(
        self,
        answer: Answer,
        *,
        requested: Iterable[str] | None = None,
        since: datetime | None = None,
    ) -> Snapshot:
        """What the history says; jobs submitted well before ``since`` are older ones of that id."""
        self.unsupported("a history of ended jobs")

    def accounting_script(self) -> str | None:
        """A script that finds out whether ended jobs are remembered; ``None``: they surely are."""
        return None

    def parse_accounting(self, answer: Answer) -> bool | None:
        """Whether there is an accounting; ``None`` where the answer does not say."""
        return None

    def detail_script(self, job_id: str) -> str | None:
        """A script that asks for everything about one job (paths, exit code), or ``None``."""
        return None

    def parse_detail(self, answer: Answer) -> JobStatus:
        """The one job in the answer to ``detail_script``."""
        self.unsupported("details of a job")

    #: How an element of an array is written: with ``{number}`` and ``{index}``.
    element_form: ClassVar[str] = "{number}_{index}"

    def element_ids(self, job_id: str, array: str) -> list[str]:
        """The ids of all elements of an array that was submitted as ``array`` (``0-9%2``)."""
        one = JobId.parse(job_id)
        tail = f".{one.server}" if one.server else f";{one.cluster}" if one.cluster else ""
        return [
            self.element_form.format(number=one.number, index=index) + tail
            for index in expand_array(array)
        ]

    def usual_paths(self, job_id: str, name: str) -> tuple[str, str] | None:
        """Where stdout and stderr go if the script does not say, from the job's directory.

        For a job that the scheduler has forgotten; ``None`` where there is no such rule.
        """
        return None

    def names_in_directory(self, job_id: str, name: str | None) -> tuple[str, str] | None:
        """The names of both files in a directory that is given as the place of the output."""
        return self.usual_paths(job_id, name) if name is not None else None

    def actual_path(self, path: str, job_id: str, nodes: Sequence[str] | None) -> str | None:
        """The file that a path of ``parse_detail`` stands for, with what was known later put in.

        ``None`` where that cannot be said (yet): another node or array member, another file.
        """
        return path

    # -- acting --------------------------------------------------------------

    def cancel_script(self, ids: Sequence[str]) -> str:
        """A script that cancels these jobs with one command."""
        return self.act_script(self.cancel_command or self.unsupported("cancel"), ids)

    @abstractmethod
    def parse_cancel(
        self, answer: Answer, *, requested: Iterable[str] | None = None
    ) -> dict[str, CancelOutcome]:
        """What became of each id; also for ``hold_script`` and ``release_script``."""

    def hold_script(self, ids: Sequence[str]) -> str:
        """A script that holds these pending jobs."""
        return self.act_script(self.hold_command or self.unsupported("hold"), ids)

    def release_script(self, ids: Sequence[str]) -> str:
        """A script that releases these held jobs."""
        return self.act_script(self.release_command or self.unsupported("release"), ids)

    def act_script(self, command: str, ids: Sequence[str]) -> str:
        """A script that gives these ids to one of the three commands."""
        words = self.words(*self.checked_ids(ids))
        return framed(section("act", f"{command} {words} 2>&1 </dev/null"))

    def cleanup_script(self, ids: Sequence[str]) -> str | None:
        """A script that removes what this scheduler's file left on the host for ended jobs."""
        return None

    # -- the machine -----------------------------------------------------------

    def nodes_script(self) -> str:
        """A script that lists the nodes."""
        self.unsupported("a list of nodes")

    def parse_nodes(self, answer: Answer) -> list[Node]:
        """The nodes; an answer that is no complete one is a ``SchedulerError``, never ``[]``."""
        self.unsupported("a list of nodes")

    def queues_script(self) -> str:
        """A script that lists the queues."""
        self.unsupported("a list of queues")

    def parse_queues(self, answer: Answer) -> list[Queue]:
        """The queues, in the scheduler's order."""
        self.unsupported("a list of queues")

    # -- recognising -----------------------------------------------------------

    def recognises(self, stdout: str, stderr: str = "", command: str | None = None) -> bool:
        """True where this output could have come from this scheduler's commands."""
        return False

    # -- what the files share --------------------------------------------------

    def unsupported(self, what: str) -> NoReturn:
        """Raise the error that says so; nothing was sent."""
        raise SchedulerError(
            f"the scheduler {self.name} has no support here for {what}",
            kind="unsupported",
            sent="no",
        )

    def find_rule(self, *texts: str) -> Rule | None:
        """The first rule that fits any of these texts."""
        return find_rule(self.rules, *texts)

    def outcome_of(self, text: str) -> CancelOutcome:
        """What the words about one job mean for the wish to act on it."""
        found = self.find_rule(text)
        return outcome_of_kind(found.kind if found is not None else None)

    def one_section(self, answer: Answer) -> Section:
        """The answer of one section, or one without a frame (its mark is empty).

        Raises ``SchedulerError`` where the command failed or said nothing.
        """
        sections = read_frame(answer.stdout)
        one = sections[0] if sections else Section("", answer.stdout, answer.returncode, "")
        if one.returncode != 0 or not one.text.strip():
            raise self.error(one.answer(answer.stderr))
        return one

    def one_text(self, answer: Answer) -> str:
        """The text of ``one_section``."""
        return self.one_section(answer).text

    def message(self, answer: Answer) -> str:
        """What an error says, in one line: all its lines that say something, up to a bound."""
        return joined_lines(*ends(answer.stderr, answer.stdout), skip=self.noise)

    def error(
        self,
        answer: Answer,
        *,
        kind: str | None = None,
        message: str | None = None,
        asks: bool = True,
    ) -> SchedulerError:
        """The error that an answer is.

        Its kind by the rules.  For one that ``asks``, and may be asked again, it is ``transient``
        for want of a rule, or where none says that it is final; for one that acts ``parse_error``.
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
        """The ids without doubles; ``InputError`` for none at all or what is no id."""
        if isinstance(ids, str):
            ids = (ids,)
        found = list(dict.fromkeys(str(JobId.parse(one)) for one in ids))
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
