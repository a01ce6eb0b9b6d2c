"""Submissions: checked, written to the journal, then carried to the host, many as one.

One submission is a batch of one.  All files of a batch go to the host in one round trip (what is
uploaded, in one transfer for each directory), all submit commands in another; the journal is
written in one transaction for each stage of all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .. import settings
from ..commands.scripts import words
from ..errors import InputError, SchedulerError, SubmitUnknown
from ..files.private_directory import MADE
from ..jobs import JobId, JobState
from ..openssh import pid_file
from .attempt import MOST_COMMAND, NO_ANSWER, SENT, Attempts, Order, unknown
from .job_files import MOST_JOBS, HostScript, NewFiles, UsedToken
from .journal import ASKED, FILES, TIDIED, Row
from .leftovers import is_random
from .recovery import Outcome
from .submission import Submission
from .submitted import MOST_SCRIPT, Keeper
from .unanswered import at_work

if TYPE_CHECKING:
    from ..schedulers.answer import Answer
    from .exit_record import ExitRecords
    from .job_files import JobFiles
    from .recovery import Recovery
    from .scheduler_client import SchedulerClient

_BASH, _REMEMBERED = "bash", 7 * 86400.0


class Submitter:
    """Carries submissions to one host and brings back their jobs."""

    def __init__(
        self,
        client: SchedulerClient,
        files: JobFiles,
        records: ExitRecords,
        recovery: Recovery,
    ) -> None:
        self._client = client
        self._files = files
        self._records = records
        self._recovery = recovery
        self._connection = client.connection
        self._journal = client.journal
        self._host = client.host

    def check(self, wanted: Sequence[Submission]) -> None:
        """All that can be refused before anything is sent; see ``Submission.check``."""
        uploads: dict[str, str] = {}
        with settings.held():
            for one in wanted:
                one.check(self._records)
        for one in wanted:
            local = one.specification.upload
            if local is not None and uploads.setdefault(one.directory, local) != local:
                raise InputError(
                    f"{uploads[one.directory]} and {local} cannot both become {one.directory}",
                    host=self._host,
                )

    def submit(
        self, wanted: Sequence[Submission], details: list[Answer] | None = None
    ) -> list[Outcome]:
        """Submit, or find that this was done before: what became of each, in order.

        ``details`` gets what the scheduler said of the new jobs by its ``details_text``.

        That is the row of the journal with the job's id; ``SubmitRejected``, ``SubmitLimit`` or the
        error of a connection where there is certainly no job; ``SubmitUnknown`` where there may be
        one (a later call goes on from there).

        Raises ``InputError`` for a token with another specification, ``PermissionError`` where no
        directory on the host is private, and whatever an upload raises; then nothing was submitted
        by this call.
        """
        self.check(wanted)
        batch = {one.token: one for one in wanted}
        outcomes: dict[str, Outcome] = {}
        mine: list[Submission] = []
        try:
            mine = self._opened(batch, outcomes)
            orders = self._prepared(mine, batch, outcomes)
        except BaseException:
            self._recovery.withdraw(*(one.row for one in mine if one.token not in outcomes))
            raise
        mine = [one for one in mine if one.token not in outcomes]
        outcomes |= self._send(mine, orders, details)
        return [outcomes[one.token] for one in wanted]

    # ------------------------------------------------------------------ the journal

    def _opened(
        self, batch: dict[str, Submission], outcomes: dict[str, Outcome]
    ) -> list[Submission]:
        """Write a row for each; those that have no job and are ours now.  The others are settled.

        Raises ``InputError`` for a token with another specification; then none was written.
        """
        pending, before = self._open_rows(list(batch.values()))
        try:
            if before:
                settled = self._recovery.finish(before)
                again = [
                    batch[token]
                    for token, outcome in settled.items()
                    if isinstance(outcome, InputError)
                ]
                outcomes |= settled
                # They have no job, and their files are not whole any more: from the beginning.
                anew, others = self._open_rows(again)
                for one in again:
                    del outcomes[one.token]
                outcomes |= {row.token: at_work(row) for row in others}
                pending += anew
            mine = []
            for one, row in pending:
                error = self._taken_over(row, one.row)
                if error is not None:
                    outcomes[one.token] = error
                else:
                    mine.append(one)
        except BaseException:
            # Of what another call left, only that call's mark is known.
            self._recovery.withdraw(*(one.row for one, row in pending if not row.opened))
            raise
        with self._journal.file.transaction():
            for one in mine:
                self._journal.change(self._host, one.token, stage=FILES)
        return mine

    def _open_rows(
        self, wanted: Sequence[Submission]
    ) -> tuple[list[tuple[Submission, Row]], list[Row]]:
        """Those without a job, each with the row that was found or written, and all other rows."""
        pending, before = [], []
        with self._journal.file.transaction():
            for one in wanted:
                row = self._journal.open_row(one.row)
                if not row.opened or (row.stage in (ASKED, FILES) and row.job_id is None):
                    pending.append((one, row))
                elif row.digest not in (one.row.digest, ""):  # another machine's is not known
                    raise self._other(one.token, row.name, row.directory)
                else:
                    before.append(row)
        return pending, before

    def _other(self, token: str, name: str | None, directory: str) -> InputError:
        return InputError(
            f"the token {token!r} belongs to another submission (of {name!r} in {directory})",
            host=self._host,
            advice="Take another token.",
        )

    def _taken_over(self, row: Row, new: Row) -> SubmitUnknown | None:
        """Take over from a call that ended before its submit command; why that cannot be."""
        if not row.opened:
            return None
        if row.caller and not pid_file.ended(row.caller):
            return at_work(row)
        if not self._journal.take_over(row, new):
            return at_work(self._journal.by_token(self._host, row.token) or row)
        try:
            if row.call and row.stage == FILES:
                self._files.undo((row.directory, row.token, row.call))
        except BaseException:
            self._journal.change(self._host, row.token, stage=FILES, call=row.call, caller="")
            raise
        return None

    # ------------------------------------------------------------------ files

    def _prepared(
        self,
        mine: Sequence[Submission],
        batch: dict[str, Submission],
        outcomes: dict[str, Outcome],
    ) -> dict[str, Order]:
        """Put all files on the host, and write down what is about to be sent.

        A submission whose job is over, as the host says, gets that as its outcome.
        """
        if not mine:
            return {}
        there = {one.directory for token, one in batch.items() if token in outcomes}
        self._upload(mine, there, outcomes)
        mine = [one for one in mine if one.token not in outcomes]
        scripts, bash = self._read(mine)
        self._create(mine, scripts, bash, outcomes)
        mine = [one for one in mine if one.token not in outcomes]
        orders = {one.token: one.order() for one in mine}
        keeper = Keeper()
        kept = {
            one.token: keeper.kept_of(
                one.specification,
                scripts.get(one.host_script or ""),
                digest=one.row.digest,
                command=one.command,
            )
            for one in mine
        }
        # On disk before the command is sent: from now on there may be jobs.
        with self._journal.file.transaction():
            for one in mine:
                self._journal.keep(self._host, one.token, kept[one.token])
                row = one.sending(orders[one.token])
                self._journal.change(
                    self._host, one.token, stage=row.stage, place=row.place, request=row.request
                )
        return orders

    def _upload(
        self, mine: Sequence[Submission], there: set[str], outcomes: dict[str, Outcome]
    ) -> None:
        """One transfer for each directory, but for those in which an earlier call has submitted."""
        uploaded = [one for one in mine if one.specification.upload is not None]
        chosen = [one.token for one in uploaded if not is_random(one.token)]
        if chosen:
            used = self._files.used_tokens(chosen)
            over = [one for one in uploaded if one.token in used]
            outcomes |= {one.token: self._over(one, used[one.token]) for one in over}
        for one in uploaded:
            local = one.specification.upload
            if one.token in outcomes or one.directory in there or local is None:
                continue
            there.add(one.directory)
            # The mark comes with the directory, so that no other directory is taken for it.
            mark = os.fsencode(f"{MADE}{one.row.call}")
            self._connection.put(local, one.directory, mark=mark)

    def _read(self, mine: Sequence[Submission]) -> tuple[dict[str, HostScript], bool]:
        """The scripts that lie on the host, and whether there is a /bin/bash."""
        names = list(dict.fromkeys(one.host_script for one in mine if one.host_script))
        asks = any(one.launcher for one in mine) and self._records.asks_for_bash
        known = self._journal.fact(self._host, _BASH, max_age=_REMEMBERED) if asks else "no"
        if not names and known is not None:
            return {}, known == "yes"
        bash, scripts = self._files.scripts(names, MOST_SCRIPT)
        if asks:
            self._journal.remember_fact(self._host, _BASH, "yes" if bash else "no")
        return scripts, bash

    def _create(
        self,
        mine: Sequence[Submission],
        scripts: dict[str, HostScript],
        bash: bool,
        outcomes: dict[str, Outcome],
    ) -> None:
        def new(some: Sequence[Submission]) -> list[NewFiles]:
            found = []
            for one in some:
                read = scripts.get(one.host_script or "")
                content = None if read is None else read.content
                stored = len(mine) > 1
                found.append(one.files(self._records, content, bash=bash, stored=stored))
            return found

        moved = []
        for one, made in zip(mine, self._files.create(new(mine)), strict=True):
            if isinstance(made, UsedToken):
                outcomes[one.token] = self._over(one, made)
                continue
            one.placed(made.path, made=made.made)
            if not made.is_complete:
                moved.append(one)
        self._files.put_files(new(moved))

    def _over(self, one: Submission, used: UsedToken) -> Row:
        """The row of a token whose job is over, as the host's record of tokens says.

        Raises ``InputError`` for another submission, and where the record makes no sense.
        """
        if used.digest not in (one.row.digest, "-"):
            raise self._other(one.token, "another name", "a directory on the host")
        over = replace(
            one.row,
            job_id=str(JobId.parse(used.job_id)),
            state=str(JobState(used.state)),
            exit_code=used.exit_code,
            reason="it ended before, by the host's record of tokens",
            tidied=TIDIED,
        )
        names = ("job_id", "state", "exit_code", "reason", "tidied")
        self._journal.change(self._host, one.token, **{name: getattr(over, name) for name in names})
        return over

    # ------------------------------------------------------------------ the submit commands

    def _send(
        self,
        mine: Sequence[Submission],
        orders: dict[str, Order],
        details: list[Answer] | None,
    ) -> dict[str, Outcome]:
        """The first attempts, as many in one command as it takes."""
        outcomes: dict[str, Outcome] = {}
        kept = _shared(mine)
        left = list(mine)
        while left:
            some = _portion(left)
            done = self._attempt(some, orders, kept, details, stored=len(mine) > 1)
            outcomes |= {token: outcome for token, outcome in done.items() if outcome is not None}
            left = [one for one in left if one.token not in outcomes]
            if left and not any(isinstance(outcome, Row) for outcome in done.values()):
                failed = next((error for error in done.values() if error is not None), None)
                outcomes |= {one.token: self._not_sent(failed) for one in left}
                break
        return self._concluded(mine, outcomes, kept)

    def _attempt(
        self,
        some: Sequence[Submission],
        orders: dict[str, Order],
        kept: Sequence[tuple[str, str]],
        details: list[Answer] | None,
        *,
        stored: bool,
    ) -> dict[str, Outcome | None]:
        """The first attempts of some; ``None`` for those that were certainly not begun."""
        sent = [(one.row, orders[one.token]) for one in some]
        scheduler = self._client.scheduler()
        asks = details is not None and getattr(scheduler, "base", scheduler).forgets_paths
        attempts = Attempts(self._client, sent, stored=stored, kept=kept, asks=asks)
        try:
            found = attempts.run()
        except NO_ANSWER as error:
            return {one.token: error for one in some}  # nothing was sent
        except BaseException:
            self._settled(some, attempts.outcomes("the call was interrupted"))
            raise
        if details is not None and attempts.details is not None:
            details.append(attempts.details)
        return self._settled(some, found)

    def _settled(
        self, some: Sequence[Submission], found: Sequence[str | Exception | None]
    ) -> dict[str, Outcome | None]:
        """Write the answers to the journal."""
        outcomes: dict[str, Outcome | None] = {}
        jobs: list[tuple[Row, str]] = []
        for one, outcome in zip(some, found, strict=True):
            if isinstance(outcome, str):
                jobs.append((one.row, outcome))
            elif outcome is None or isinstance(outcome, SchedulerError):
                outcomes[one.token] = outcome
            else:
                outcomes[one.token] = unknown(one.row, "another process has gone on with it")
        accepted = self._recovery.accept_all(jobs) if jobs else []
        outcomes |= {row.token: now for (row, _), now in zip(jobs, accepted, strict=True)}
        open_tokens = [
            token
            for token, outcome in outcomes.items()
            if outcome is None or isinstance(outcome, SubmitUnknown)
        ]
        if open_tokens:
            self._recovery.give_back(*open_tokens)
        return outcomes

    def _not_sent(self, failed: Outcome | None) -> SchedulerError:
        why = getattr(failed, "message", None) or "the host did not start it"
        return SchedulerError(
            f"it was not sent, after another one of the same call failed: {why}",
            kind="transient",
            sent="no",
            host=self._host,
            advice="Submit it again.",
        )

    def _concluded(
        self,
        mine: Sequence[Submission],
        outcomes: dict[str, Outcome],
        kept: Sequence[tuple[str, str]],
    ) -> dict[str, Outcome]:
        """Remove from the host what belongs to no job."""
        stay = [one for one in mine if isinstance(outcomes[one.token], Row | SubmitUnknown)]
        self._recovery.withdraw(*(one.row for one in mine if one not in stay))
        for directory, call in kept:
            if not any(_is_in(one.directory, directory) for one in stay):
                self._files.remove_made(directory, call + SENT)
        return outcomes


def _portion(left: Sequence[Submission]) -> list[Submission]:
    """As many as one command submits."""
    size, some = 0, list[Submission]()
    for one in left[:MOST_JOBS]:
        size += 100 + len(words(one.private)) + len(words(one.directory))
        if some and size > MOST_COMMAND:
            break
        some.append(one)
    return some


def _shared(mine: Sequence[Submission]) -> list[tuple[str, str]]:
    """The uploaded directories in which several jobs begin, with the call that made them."""
    uploaded = {one.directory: one for one in mine if one.specification.upload is not None}
    return [
        (directory, one.row.call or "")
        for directory, one in uploaded.items()
        if sum(_is_in(other.directory, directory) for other in mine) > 1
    ]


def _is_in(directory: str, above: str) -> bool:
    return directory == above or directory.startswith(f"{above}/")
