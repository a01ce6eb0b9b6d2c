"""``list``: list jobs, as the journal knows them; hosts that are named are asked first."""

from __future__ import annotations

import argparse
import math
import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from . import exit_codes, options, pager
from .exit_codes import ExitCode
from .listed_job import JOBS, SORTS, WEEK, ListedJob, Selection, ages, counts
from .output import error_data, error_sentence, printable, terminal_width, wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..cluster.journal import Journal, Row
    from .output import Output


_NOTHING = "Nothing was submitted from this machine; `openssh-jobs list HOST` asks a host."


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``list`` to the command line."""
    parser = options.add_command(
        subparsers,
        "list",
        summary,
        run,
        usage="[options] [HOST...]",
        examples="""\
  openssh-jobs list
      what was submitted from this machine or followed, as last known here; the
      line below says how old that is; asks no host
  openssh-jobs list hpc
      all your jobs there, as the scheduler knows them now
  openssh-jobs list --state failed,timeout --since 7d
  openssh-jobs list --name 'relax*' --sort elapsed --limit 10
  openssh-jobs list --json

Jobs that are over are shown for a day, those that failed for a week.
--since, --state and --all show more. Trouble comes first, then the newest.

Of a host that does not answer, the jobs are shown as last known, and the
reason below; the exit code is that of the reason.""",
    )
    parser.add_argument("hosts", metavar="HOST", nargs="*", help="ask these hosts, show their jobs")
    add_selection_options(parser)
    options.add_scheduler_options(parser)


def add_selection_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``list`` and ``watch`` that say which jobs are shown, in which order."""
    group = parser.add_argument_group("jobs")
    group.add_argument(
        "--state",
        type=_states,
        metavar="STATE[,...]",
        default=frozenset(),
        help="only in these states: " + ", ".join(_known_states()),
    )
    group.add_argument(
        "--name", metavar="PATTERN", help="only with names like this, such as 'relax*'"
    )
    group.add_argument(
        "--since",
        type=_since,
        metavar="TIME",
        help="also those that ended since then: 7d, 12h, 30m, today, 2026-11-20",
    )
    group.add_argument("--all", action="store_true", help="all that the journal has")
    group.add_argument(
        "--sort", choices=SORTS, metavar="KEY", default="trouble", help=", ".join(SORTS)
    )
    group.add_argument(
        "--limit", type=options.whole_number, metavar="N", help="only the first N of these"
    )


def run(args: argparse.Namespace, output: Output) -> int:
    """List the jobs of these hosts, or of all."""
    return show(args.hosts, args, output)


def show(hosts: Sequence[str], args: argparse.Namespace, output: Output) -> int:
    """Ask these hosts, and list their jobs; without any, those of all hosts in the journal.

    ``args`` may lack the options of ``list``.
    """
    from ..cluster.journal import Journal

    names: list[str] = []
    errors: dict[str, Exception] = {}
    if hosts:
        from . import asked_hosts

        with options.without_cluster_warnings():
            names, errors = asked_hosts.ask(hosts, args)
    journal = Journal()
    try:
        found = FoundJobs(journal, names, args)
    finally:
        journal.close()
    if output.json:
        output.data(found.data(errors))
    else:
        lines = JOBS.lines_for(found.shown, output)
        if output.on_terminal and not output.quiet:
            lines += found.summary(names, bool(errors))
        pager.show(lines, output)
    for reason in errors.values():
        output.note(error_sentence(reason))
    return max(map(exit_codes.of_error, errors.values()), default=ExitCode.OK)


class FoundJobs:
    """The jobs in the journal that were asked for."""

    def __init__(self, journal: Journal, hosts: Sequence[str], args: argparse.Namespace) -> None:
        options_given = vars(args)
        self._selection = Selection(
            states=options_given.get("state", frozenset()),
            name=options_given.get("name"),
            since=options_given.get("since"),
            all=options_given.get("all", False),
        )
        self._since = None
        if not self._selection.all:
            self._since = min(self._selection.since or time.time(), time.time() - WEEK)
        where: list[str | None] = [*dict.fromkeys(hosts)] if hosts else [None]
        self._is_narrowed = bool(self._selection.states or self._selection.name)
        jobs = [job for host in where for job in _jobs(journal, host, self._since)]
        self.shown, self.others = self._selection.split(jobs)
        self.shown.sort(key=SORTS[options_given.get("sort", "trouble")])
        limit = options_given.get("limit")
        self.over_limit = 0 if limit is None else max(0, len(self.shown) - limit)
        self._all_shown = self.shown
        self.shown = self.shown[:limit]

    def data(self, errors: dict[str, Exception]) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "jobs": JOBS.records(self.shown),
            "not_shown": len(self.others) + self.over_limit,
            "errors": [error_data(error)["error"] for error in errors.values()],
        }

    def summary(self, hosts: Sequence[str], is_incomplete: bool) -> list[str]:
        """The lines below the table.  ``is_incomplete``: a host did not answer."""
        said = []
        if self._all_shown:
            said.append(counts(self._all_shown))
        if self.over_limit:
            said.append(f"{self.over_limit} more match (`--limit`).")
        if self.others:
            said.append(f"{len(self.others)} more ended lately (`--all`).")
        if not said and not is_incomplete:
            where = f" on {', '.join(hosts)}" if hosts else ""
            is_empty = not (hosts or self._is_narrowed)
            said.append(_NOTHING if is_empty else f"No such jobs{where}.")
        if any(job.job_id is None and job.is_stuck for job in self._all_shown):
            said.append("`openssh-jobs recover` finishes what got no answer.")
        line = " ".join(filter(None, (*said, ages(self._all_shown, time.time()))))
        return wrapped(printable(line), terminal_width()) if line else []


def _jobs(journal: Journal, host: str | None, since: float | None) -> list[ListedJob]:
    rows = journal.rows(host, over_since=since)
    listed_at: dict[str, float | None] = {}
    answers: dict[str, dict[str, float]] = {}
    homes: dict[str, str | None] = {}
    found = []
    for row in rows:
        if row.host not in listed_at:
            from ..cluster.journal_view import HOME, last_answers

            listed_at[row.host] = journal.listed_at(row.host)
            answers[row.host] = last_answers(journal, row.host)
            homes[row.host] = journal.fact(row.host, HOME, max_age=math.inf)
        as_of = None
        if row.job_id is not None and not row.known_state.is_final:
            times = (listed_at[row.host], answers[row.host].get(row.job_id))
            as_of = max((when for when in times if when and when > row.opened), default=None)
        job = ListedJob.of_row(row, as_of, is_stuck=_is_stuck(row))
        found.append(replace(job, after=_awaited(journal, row), home=homes[row.host]))
    return found


def _awaited(journal: Journal, row: Row) -> tuple[str, ...]:
    """The jobs that one which waits for others was submitted to wait for."""
    if row.known_state != "pending" or (row.reason or "").strip("()") != "Dependency":
        return ()
    kept = None if row.is_followed else journal.kept(row)
    if kept is None:
        return ()
    import json

    before = json.loads(kept.specification)
    names = ("after_ok", "after_any", "after_failed")
    return tuple(str(job_id) for name in names for job_id in before.get(name) or ())


def _is_stuck(row: Row) -> bool:
    """Whether a submission has no answer, and no process that waits for one."""
    if row.job_id is not None:
        return False
    from ..openssh import pid_file

    return row.caller is None or pid_file.ended(row.caller) is not False


# --------------------------------------------------------------------------- values


def _known_states() -> list[str]:
    from ..jobs import JobState

    return [str(state) for state in JobState]


def _states(text: str) -> frozenset[str]:
    """States by name, separated by commas."""
    found = frozenset(part.strip().lower() for part in text.split(","))
    wrong = sorted(found - set(_known_states()))
    if wrong:
        meant = options.did_you_mean(wrong[0], _known_states())
        raise argparse.ArgumentTypeError(
            f"must be of {', '.join(_known_states())}; {wrong[0]!r}{meant} was given"
        )
    return found


def _since(text: str) -> float:
    """A time as seconds since 1970."""
    try:
        if re.fullmatch("[0-9]+[dhm]", text, re.ASCII):
            return time.time() - options.age(text).total_seconds()
        when = _midnight() if text == "today" else datetime.fromisoformat(text)
        return when.astimezone().timestamp()
    except (ValueError, OverflowError, OSError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(
            "must be a time such as 7d, 12h, 30m, today, 2026-11-20 or 2026-11-20T09:00; "
            f"{text!r} was given"
        ) from None


def _midnight() -> datetime:
    return datetime.now(UTC).astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
