"""A known scheduler reached by a site's own commands (shell text from its settings).  Pure.

The commands list, submit and cancel as the site wants it; what they print is read by the
scheduler's own parser, in a frame that proves the answer complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo

from ..errors import SchedulerError
from ..jobs import CancelOutcome, JobId, JobStatus, Node, Queue, Snapshot
from .answer import Answer
from .base import Scheduler
from .fields import quote, shell_path
from .framing import framed, read_frame, section
from .request import ALL_OPTIONS, SubmitRequest
from .tokens import TokenAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCommands:
    """Shell text of a site: each may hold ``export X=…; …``, variables and pipes.

    ``status`` lists all jobs of this user, ``submit`` gets the script's name behind it,
    ``cancel`` the ids.
    """

    status: str | None = None
    submit: str | None = None
    cancel: str | None = None
    nodes: str | None = None


class Custom(Scheduler):
    """``base`` with some of its commands replaced."""

    def __init__(self, base: Scheduler, commands: SiteCommands) -> None:
        self.base = base
        self._commands = commands
        # What the class says elsewhere is here that of the scheduler behind it.
        self.name = base.name  # type: ignore[misc]
        self.aliases = base.aliases  # type: ignore[misc]
        self.probe = base.probe  # type: ignore[misc]
        self.directive = base.directive  # type: ignore[misc]
        self.poll_floor = base.poll_floor  # type: ignore[misc]
        self.history_floor = base.history_floor  # type: ignore[misc]
        self.rules = base.rules  # type: ignore[misc]
        self.uncertain = base.uncertain  # type: ignore[misc]
        self.own_statuses = base.own_statuses  # type: ignore[misc]
        self.noise = base.noise  # type: ignore[misc]
        self.convention = base.convention  # type: ignore[misc]
        self.starts_once = base.starts_once  # type: ignore[misc]
        self.late_output = base.late_output  # type: ignore[misc]
        self.lacks = base.lacks  # type: ignore[misc]
        self.capabilities = base.capabilities  # type: ignore[misc]
        if commands.submit is not None:
            self.capabilities = frozenset(("options",))  # type: ignore[misc]
            self.lacks = dict.fromkeys(ALL_OPTIONS, "put it into the script")  # type: ignore[misc]
        else:
            self.submit_words = base.submit_words  # type: ignore[misc]
        self.after_end = base.after_end  # type: ignore[misc]

    # -- submitting ----------------------------------------------------------

    def submit_script(self, request: SubmitRequest) -> str:
        """The site's command with the script behind it; options of the scheduler are refused."""
        if self._commands.submit is None:
            return self.base.submit_script(request)
        words = "".join(f" {quote(word)}" for word in request.options)
        return f"{self._commands.submit}{words} {shell_path(request.script)} </dev/null\n"

    def check_script(self, request: SubmitRequest, script: bytes) -> None:
        """As the scheduler behind it."""
        self.base.check_script(request, script)

    def needs_script(self, request: SubmitRequest) -> bool:
        """As the scheduler behind it."""
        return self.base.needs_script(request)

    def parse_submit(self, answer: Answer) -> str:
        """As the scheduler behind it."""
        return self.base.parse_submit(answer)

    def submitted_ids(self, stdout: str) -> list[str]:
        """As the scheduler prints them."""
        return self.base.submitted_ids(stdout)

    # -- asking --------------------------------------------------------------

    def status_script(self, ids: Sequence[str] = (), *, all_users: bool = False) -> str:
        """The site's listing, framed."""
        if self._commands.status is None or all_users:
            return self.base.status_script(ids, all_users=all_users)
        return framed(section("listing", f"( {self._commands.status}\n) </dev/null"))

    def parse_status(
        self,
        answer: Answer,
        *,
        requested: Iterable[str] | None = None,
        command: str | None = None,
        timezone: tzinfo | None = None,
    ) -> Snapshot:
        """The scheduler's own reading; what a complete listing does not show is absent."""
        sections = read_frame(answer.stdout)
        if not sections or sections[0].name != "listing":
            return self.base.parse_status(
                answer, requested=requested, command=command, timezone=timezone
            )
        (part,) = sections
        snapshot = self.base.parse_status(
            part.answer(answer.stderr),
            command=self._last_command(),
            timezone=timezone,
        )
        if requested is None:
            return snapshot
        whole = snapshot.error is None and not snapshot.unparsed
        found = snapshot.select([str(JobId.parse(job_id)) for job_id in requested], covered=whole)
        return replace(found, unparsed=snapshot.unparsed)

    def _last_command(self) -> str:
        """The listing itself, behind what the site sets up before it."""
        return (self._commands.status or "").rpartition(";")[2].strip()

    def history_script(self, ids: Sequence[str], *, since: datetime | None = None) -> str | None:
        """The scheduler's own look at the queue, for a site's listing may leave jobs out (those
        that are held, say), and then its history."""
        history = self.base.history_script(ids, since=since)
        if self._commands.status is None:
            return history
        parts = [section("queue", f"(\n{self.base.status_script(ids)}\n) </dev/null")]
        if history is not None:
            parts.append(section("history", f"(\n{history}\n) </dev/null"))
        return framed(*parts)

    def parse_history(
        self,
        answer: Answer,
        *,
        requested: Iterable[str] | None = None,
        since: datetime | None = None,
    ) -> Snapshot:
        """What the queue itself still runs; of what is over, what the history says."""
        wanted = None if requested is None else list(requested)
        if self._commands.status is None:
            return self.base.parse_history(answer, requested=wanted, since=since)
        sections = read_frame(answer.stdout)
        if not sections:
            raise self.error(answer, kind="transport")
        known: dict[str, JobStatus] = {}
        failed: SchedulerError | None = None
        for part in reversed(sections):
            own = part.answer(answer.stderr)
            try:
                if part.name == "history":
                    found = self.base.parse_history(own, requested=wanted, since=since)
                else:
                    found = self.base.parse_status(own, requested=wanted)
            except SchedulerError as error:
                failed = failed or error
                continue
            failed = failed or found.error
            for job_id, status in found.known.items():
                # The history has more about ended jobs (exit codes), nothing about active ones.
                if job_id not in known or status.state.is_active:
                    known[job_id] = status
        if failed is not None and not known:
            raise failed
        return Snapshot(known=known, error=failed, source="accounting")

    def token_script(self, requests: Sequence[SubmitRequest], *, since: datetime) -> str | None:
        """As the scheduler behind it."""
        return self.base.token_script(requests, since=since)

    def parse_tokens(self, answer: Answer, requests: Sequence[SubmitRequest]) -> TokenAnswer:
        """As the scheduler behind it."""
        found = self.base.parse_tokens(answer, requests)
        # What a command of the site's submits in the end is its own affair.
        return found if self._commands.submit is None else replace(found, is_whole=False)

    def accounting_script(self) -> str | None:
        """As the scheduler behind it."""
        return self.base.accounting_script()

    def parse_accounting(self, answer: Answer) -> bool | None:
        """As the scheduler behind it."""
        return self.base.parse_accounting(answer)

    def usual_paths(self, job_id: str, name: str) -> tuple[str, str] | None:
        """As the scheduler behind it."""
        return self.base.usual_paths(job_id, name)

    def names_in_directory(self, job_id: str, name: str | None) -> tuple[str, str] | None:
        """As the scheduler behind it."""
        return self.base.names_in_directory(job_id, name)

    def actual_path(self, path: str, job_id: str, nodes: Sequence[str] | None) -> str | None:
        """As the scheduler behind it."""
        return self.base.actual_path(path, job_id, nodes)

    def detail_script(self, job_id: str) -> str | None:
        """As the scheduler behind it."""
        return self.base.detail_script(job_id)

    def parse_detail(self, answer: Answer) -> JobStatus:
        """As the scheduler behind it."""
        return self.base.parse_detail(answer)

    def details_text(self) -> str | None:
        """As the scheduler behind it."""
        return self.base.details_text()

    def parse_details(self, answer: Answer, requested: Iterable[str]) -> dict[str, JobStatus]:
        """As the scheduler behind it."""
        return self.base.parse_details(answer, requested)

    # -- acting --------------------------------------------------------------

    def cancel_script(self, ids: Sequence[str]) -> str:
        """The site's command with the ids behind it."""
        if self._commands.cancel is None:
            return self.base.cancel_script(ids)
        words = " ".join(quote(job_id) for job_id in self.checked_ids(ids))
        return f"{self._commands.cancel} {words} </dev/null\n"

    def parse_cancel(
        self, answer: Answer, *, requested: Iterable[str] | None = None
    ) -> dict[str, CancelOutcome]:
        """As the scheduler behind it."""
        return self.base.parse_cancel(answer, requested=requested)

    def cleanup_script(self, ids: Sequence[str]) -> str | None:
        """As the scheduler behind it."""
        return self.base.cleanup_script(ids)

    def hold_script(self, ids: Sequence[str]) -> str:
        """As the scheduler behind it."""
        return self.base.hold_script(ids)

    def release_script(self, ids: Sequence[str]) -> str:
        """As the scheduler behind it."""
        return self.base.release_script(ids)

    # -- the machine -----------------------------------------------------------

    def nodes_script(self) -> str:
        """The site's listing of nodes, or the scheduler's own."""
        if self._commands.nodes is None:
            return self.base.nodes_script()
        return f"{self._commands.nodes}\n"

    def parse_nodes(self, answer: Answer) -> list[Node]:
        """As the scheduler behind it."""
        return self.base.parse_nodes(answer)

    def queues_script(self) -> str:
        """As the scheduler behind it."""
        return self.base.queues_script()

    def parse_queues(self, answer: Answer) -> list[Queue]:
        """As the scheduler behind it."""
        return self.base.parse_queues(answer)
