"""``Tidy``: what may go of that which submissions left on a host, and when it goes.

Decided from the journal, the queue and one listing of the host (``leftovers.py``).
"""

from __future__ import annotations

import posixpath
import secrets
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from .. import logs
from ..errors import ConfigurationError, OpenSSHJobsError, SchedulerError
from ..files.private_directory import PRIVATE
from ..jobs import JobState, JobStatus, Snapshot
from ..openssh import pid_file
from ..schedulers.fields import chunks
from .journal import POSTPONED, SENDING, TIDIED, Row
from .learned import is_current
from .leftovers import Found, HostLeftovers, Leaving, Leftover
from .shared_poll import withdraw

if TYPE_CHECKING:
    from ..schedulers.answer import Answer
    from .job_files import JobFiles
    from .scheduler_client import SchedulerClient

log = logs.logger("openssh_jobs.cluster")

AGE = 7 * 86400.0
"""Seconds from a known end to the removal without a call of ``tidy``."""
_MOST = 50  # submissions in one command
_TRIES = ("1", "2", "3")  # of the removal by itself, whose outcome is not awaited


@dataclass(frozen=True, slots=True, kw_only=True)
class Tidied:
    """What ``tidy`` removed (with ``dry_run``: would remove), and what it left, and why."""

    removed: tuple[Leftover, ...] = ()
    kept: tuple[Leftover, ...] = ()


class Tidy:
    """Removes what is left on the host of a ``SchedulerClient``."""

    def __init__(self, client: SchedulerClient, files: JobFiles) -> None:
        self._client = client
        self._journal = client.journal
        self._files = files
        self._host = client.host
        self.leftovers = HostLeftovers(client.connection, client.host)

    # ------------------------------------------------------------------ the call

    def tidy(
        self,
        rows: Sequence[Row],
        *,
        older_than: float = 0.0,
        dry_run: bool = False,
        known: JobStatus | None = None,
    ) -> Tidied:
        """Remove what is left of those of these submissions that are over.

        ``older_than``: seconds since their end was known.  ``known``: what a young answer of the
        queue says about the only one of them.  Raises ``SchedulerError`` where the
        queue does not say whether they are over, and the errors of a connection.
        """
        kept: list[Leftover] = []
        removed: list[Leftover] = []
        ended: list[Row] = []
        for row in rows:
            if row.tidied == TIDIED:
                continue
            why = _why_it_stays(row, older_than)
            if why is not None:
                kept.append(_leftover(row, Found(word="kept"), why))
            elif row.job_id is None:
                gone, stays = self._unsent(row, dry_run)
                removed += gone
                kept += stays
            else:
                ended.append(row)
        listed = self._listed(ended) if known is None else Snapshot(known={known.job_id: known})
        for at in range(0, len(ended), _MOST):
            batch = ended[at : at + _MOST]
            gone, stays = self._ended(batch, listed, dry_run=dry_run)
            removed += gone
            kept += stays
        return Tidied(removed=tuple(removed), kept=tuple(kept))

    def _listed(self, rows: Sequence[Row]) -> Snapshot:
        """What the queue says about these jobs now: any of them may have been requeued."""
        scheduler = self._client.scheduler()
        ids = [row.job_id for row in rows if row.job_id and row.scheduler == scheduler.name]
        if not ids or scheduler.name == "direct":
            return Snapshot()
        known: dict[str, JobStatus] = {}
        absent: list[str] = []
        unknown: list[str] = []
        for batch in chunks(ids):
            try:
                answer = self._client.ask(scheduler.status_script(batch))
                found = scheduler.parse_status(answer, requested=batch)
                if found.error is not None:
                    raise found.error
            except SchedulerError as error:
                raise self._client.placed(error) from None
            known.update(found.known)
            absent += found.absent
            unknown += found.unknown
        return Snapshot(known=known, absent=tuple(absent), unknown=tuple(unknown))

    def _ended(
        self, rows: Sequence[Row], listed: Snapshot, *, dry_run: bool
    ) -> tuple[list[Leftover], list[Leftover]]:
        """Remove what is left of these ended jobs; what went, and what stays."""
        gone: list[Leftover] = []
        kept: list[Leftover] = []
        leaving: list[Leaving] = []
        looked = self.leftovers.look(rows)
        for number, row in enumerate(rows):
            if number not in looked:
                continue
            found = [one for one in looked[number] if one.word != "none"]
            why = self._may_run_again(row, listed, found)
            reasons = [why or one.reason_to_keep() for one in found]
            why = why or next(filter(None, reasons), None)
            if why is None:
                leaving.append(Leaving(row, found))
            for one, reason in zip(found, reasons, strict=True):
                if why is not None:
                    kept.append(_leftover(row, one, reason or why))
        if not dry_run:
            leaving = self._remove(leaving, kept)
        for row, kinds in leaving:
            gone += [_leftover(row, one, _how_ended(row)) for one in kinds]
        return gone, kept

    def _may_run_again(self, row: Row, listed: Snapshot, found: Sequence[Found]) -> str | None:
        """Why the job may need its files again; corrects the journal where it runs again."""
        scheduler = self._client.scheduler()
        if row.scheduler != scheduler.name:
            return f"it is a job of {row.scheduler}, and {scheduler.name} is asked"
        if row.scheduler == "direct" or row.job_id is None:
            return None
        is_new = row.changed > time.time() - AGE
        has_launcher = any(one.has_launcher for one in found)
        if has_launcher and is_new and row.state == JobState.FAILED and row.exit_code is None:
            return "its exit code is not in the journal"
        status = listed.known.get(row.job_id)
        if status is None:
            if row.job_id in listed.absent:
                return None
            return "the queue does not say whether it runs again"
        if status.state.is_active:
            if not is_current(row):
                return "the queue lists another job of its id"
            facts: dict[str, Any] = {"reason": status.reason, "exit_code": None}
            self._journal.change(
                self._host, row.token, source="queue", state=str(status.state), **facts
            )
            withdraw(self._journal, self._host)
            return f"it is {status.state} again"
        if not status.state.is_final:
            return "the queue does not say that it is over"
        if scheduler.after_end == "run":
            still = status.source == "queue"
            return f"{scheduler.name} still lists it: it can be let run" if still else None
        if scheduler.after_end == "nothing" or status.state is JobState.COMPLETED:
            return None
        if has_launcher:
            return f"{scheduler.name} still lists it: run again, it would need its script"
        return None

    def _remove(self, leaving: Sequence[Leaving], kept: list[Leftover]) -> list[Leaving]:
        """Remove what was found; returns what is gone.  The tokens' lines are written before."""
        if not leaving:
            return []
        records = [one.row for one in leaving if any(it.word == "record" for it in one.found)]
        why = self.leftovers.keep_tokens([row for row, _ in leaving])
        failed = dict.fromkeys(range(len(leaving)), why) if why else {}
        if not failed:
            failed |= self.leftovers.remove(leaving)
            ids = [row.job_id for row in records if row.job_id]
            script = self._client.scheduler().cleanup_script(ids) if ids else None
            if script is not None:
                self._client.ask(script)
        gone = []
        for number, one in enumerate(leaving):
            why = failed.get(number)
            if why is None:
                self._journal.mark_tidied(self._host, one.row.token, TIDIED)
                gone.append(one)
                continue
            kept += [_leftover(one.row, found, why) for found in one.found]
            log.warning("%s: the files of %s were not removed: %s", self._host, one.row.token, why)
        return gone

    def _unsent(self, row: Row, dry_run: bool) -> tuple[list[Leftover], list[Leftover]]:
        """Remove what a submission left that was never sent; its caller is dead."""
        places, why = self.leftovers.look_unsent(row)
        if why is not None:
            return [], [_leftover(row, Found(word="kept", place=row.directory), why)]
        said = [
            _leftover(row, Found(word="found", place=place), "it was never submitted")
            for place in places
        ]
        if dry_run:
            return said, []
        mine = replace(row, call=secrets.token_hex(8), caller=pid_file.call())
        if not self._journal.take_over(row, mine):
            why = "another call with this token is at work"
            return [], [replace(left, reason=why) for left in said]
        done = False
        try:
            (done,) = self._files.undo((row.directory, row.token, row.call or ""))
        finally:
            if not done:
                self._journal.change(self._host, row.token, call=row.call, caller="")
        if done:
            self._journal.forget(self._host, row.token, mine.call)
            return said, []
        return [], [replace(left, reason="some of it could not be removed") for left in said]

    # ------------------------------------------------------------------ by itself

    def due(self) -> list[Row]:
        """The ended jobs whose leftovers go by themselves now: at most once a day, and a few."""
        try:
            if self._journal.fact(self._host, "tidied", max_age=86400.0) is not None:
                return []
            rows = self._journal.to_tidy(
                self._host,
                before=time.time() - AGE,
                later=POSTPONED,
                tried=_TRIES[-1],
                most=_MOST,
            )
            if not rows:
                self._journal.remember_fact(self._host, "tidied", "nothing was due")
        except (sqlite3.Error, ConfigurationError) as error:
            log.info("%s: nothing is tidied up: %s", self._host, error)
            return []
        return rows

    def begin(self, rows: Sequence[Row], answer: Answer) -> None:
        """Begin to remove these, after an answer of the queue; raises nothing, awaits nothing.

        A private directory with a claim of the last day stays.
        """
        try:
            scheduler = self._client.scheduler()
            ids = [row.job_id for row in rows if row.job_id]
            listed = scheduler.parse_status(answer, requested=ids)
            # Not looked at yet: each may have a launcher.
            unseen = [Found(word="found", has_launcher=True)]
            leaving = [
                Leaving(row, unseen)
                for row in rows
                if self._may_run_again(row, listed, unseen) is None
            ]
            if leaving and self.leftovers.keep_tokens([row for row, _ in leaving]) is None:
                ids = [row.job_id for row, _ in leaving if row.job_id]
                self.leftovers.begin_removal(leaving, scheduler.cleanup_script(ids))
                for row, _ in leaving:
                    tries = row.tidied if row.tidied in _TRIES else "0"
                    self._journal.mark_tidied(self._host, row.token, str(int(tries) + 1))
            self._journal.remember_fact(self._host, "tidied", f"{len(leaving)} of {len(rows)}")
        except (OpenSSHJobsError, OSError, sqlite3.Error) as error:
            log.info("%s: nothing is tidied up: %s", self._host, error)


# ---------------------------------------------------------------------- why


def _leftover(row: Row, found: Found, reason: str) -> Leftover:
    # What was refused has a reason in the place of a path.
    place = found.place if found.place.startswith("/") and found.word != "refused" else ""
    place = place or row.place or posixpath.join(row.directory, PRIVATE, row.token)
    return Leftover(path=place, reason=reason, size=found.size, token=row.token, job_id=row.job_id)


def _how_ended(row: Row) -> str:
    code = f", exit code {row.exit_code}" if row.exit_code is not None else ""
    return f"job {row.job_id} is over: {row.state}{code}"


def _why_it_stays(row: Row, older_than: float) -> str | None:
    """Why the files of a submission stay by what the journal says; ``None`` if they may go."""
    if row.is_followed:
        return "it was not submitted from here"
    if row.job_id is None:
        if row.stage in (SENDING, None) or row.call is None:
            return "its submission got no answer: there may be a job (openssh-jobs recover)"
        if row.caller and not pid_file.ended(row.caller):
            return "its submission is under way"
    else:
        state = row.known_state
        if state is JobState.UNKNOWN:
            return "it is not known how it ended"
        if not state.is_final:
            return f"it is {state}"
        if row.scheduler == "direct" and row.stdout_path is None:
            return "where its output lies is not in the journal"
    if older_than and row.changed > time.time() - older_than:
        return "it is not old enough"
    return None


def may_forget(row: Row, older_than: timedelta | None) -> bool:
    """Whether the journal may forget a submission: it is over, and nothing is left on the host."""
    age = older_than.total_seconds() if older_than is not None else 0.0
    return (
        (row.tidied == TIDIED or row.is_followed)
        and row.job_id is not None
        and row.known_state.is_final
        and row.changed <= time.time() - age
    )
