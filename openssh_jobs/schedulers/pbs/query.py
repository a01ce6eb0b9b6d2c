"""Asking PBS about jobs: the sh text of a query, and what its answer covers.  Pure.

A query checks off what it asked for.  An id that the answer neither holds nor names as unknown is
asked about again, in another form and alone, and only its own record counts in that answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, timedelta, tzinfo
from typing import TYPE_CHECKING

from ...errors import InputError, SchedulerError
from ...jobs import JobId
from ..answer import Answer
from ..fields import first_line, is_number, parse_duration
from ..framing import Section, read_frame
from .array import array_of_members
from .output import Reader, Rows
from .states import NO_HISTORY

if TYPE_CHECKING:
    from ..base import Scheduler

__all__ = [
    "OF_ALL", "OF_USER", "PBS", "TORQUE", "Listing", "is_id", "read_listing", "remembered",
]  # fmt: skip

_MOST_ALONE = 200  # asked one by one; the rest stays unknown

# set -f: an id of an array is a pattern to the shell.  oj_text: the lines of stderr, then the
# answer, which the inner substitution has taken whole by then.  oj_left: what of the ids is in
# neither.  oj_over: whole arrays that have ended.
_COMMON = rf"""set -f
TZ=UTC0; export TZ
oj_x=
oj_ask() {{
  printf 'OJ:%s begin qstat-%s\n' "$oj" $oj_kind
  oj_text=$({{ oj_said=$(qstat $oj_form "$@" </dev/null); oj_rc=$?
    printf '\n%s\n%s\n' "$oj_said" "$oj_rc"; }} 2>&1)
  oj_rc=${{oj_text##*
}}
  oj_text=${{oj_text%
*}}
  printf '%s\n\nOJ:%s end qstat-%s %d\n' "$oj_text" "$oj" $oj_kind "$oj_rc"
}}
oj_left() {{
  {{ printf 'ask %s\n' "$@"; printf '%s\n' "$oj_text" | oj_lines; }} | awk '
  /^ask / && !begun {{ asked[++n] = $2; next }}
  {{ begun = 1; id = "" }}
  /^Job Id:/ {{ id = $3 }}
  /^[0-9].*<\/Job_Id$/ {{ id = $1; sub(/<.*/, "", id) }}
  /^qstat: Unknown Job I/ {{ id = $NF }}
  /^qstat: [0-9].* Job has finished/ {{ id = $2 }}
  id != "" {{ sub(/[|.].*/, "", id); seen[id] = 1 }}
  END {{ for (i = 1; i <= n; i++) {{ id = asked[i]; sub(/[.].*/, "", id)
    if (!(id in seen) && left++ < {_MOST_ALONE}) print asked[i] }} }}'
}}
oj_alone() {{
  for oj_id in $(oj_left "$@"); do
    printf 'OJ:%s begin alone\n%s\n' "$oj" "$oj_id"
    qstat $oj_x -f "$oj_id" </dev/null
    printf '\nOJ:%s end alone %d\n' "$oj" "$?"
  done
}}
oj_listing() {{
  printf 'OJ:%s begin qselect-%s\n' "$oj" $oj_kind
  oj_ids=$(oj_select "$@")
  oj_rc=$?
  printf '%s\n\nOJ:%s end qselect-%s %d\n' "$oj_ids" "$oj" $oj_kind "$oj_rc"
  oj_x=
  [ $oj_rc = 0 ] && [ -n "$oj_ids" ]
}}
"""
PBS = (
    _COMMON
    + rf"""oj_kind=pbs
oj_lines() {{ cat; }}
oj_select() {{ qselect "$@" </dev/null; }}
oj_asking() {{
  oj_form="$oj_x -f -F dsv -D |$oj|"
  oj_ask "$@"
}}
oj_jobs() {{
  oj_x=-x
  [ $# -le 20 ] || case $(qstat -x -f "$1" 2>&1 </dev/null) in *'{NO_HISTORY}'*) oj_x= ;; esac
  oj_asking "$@"
  case $oj_x$oj_rc:$oj_text in
    *'{NO_HISTORY}'*) oj_x=; oj_asking "$@" ;;
    -x0:*'Job Id: '*|-x153:*|-x35:*|[0-9]*) ;;
    *) oj_x=; oj_asking "$@" ;;
  esac
  oj_alone "$@"
  oj_over=$(printf '%s\n' "$oj_text" | awk '
  /^Job Id: [0-9]+\[\][|.]/ && /[|]job_state=[FXC][|]/ {{ sub(/[|].*/, "", $3); print $3 }}')
  [ -z "$oj_over" ] || oj_asking -t $oj_over
}}
"""
)
# Slurm's commands, which play Torque's, have no qselect and no -x, and their qstat calls an empty
# list an error, silently.  The record of a whole array comes with those of
# all jobs of the server (6.1), and its members without it: it is asked for when they are over.
TORQUE = (
    _COMMON
    + r"""oj_kind=torque
oj_lines() { tr '>' '\012'; }
oj_select() {
  if command -v qselect >/dev/null; then qselect "$@" </dev/null; return; fi
  oj_list=$(qstat "$@" 2>&1 </dev/null)
  oj_rc=$?
  if [ $oj_rc = 153 ] && [ -z "$oj_list" ]; then oj_rc=0; fi
  [ $oj_rc = 0 ] || printf '%s\n' "$oj_list" >&2
  printf '%s\n' "$oj_list" | sed -n 's/^\([0-9][^ ]*\) .*/\1/p'
  return $oj_rc
}
oj_asking() {
  oj_form=-x
  oj_ask "$@"
  case $oj_rc in 0|153|35) ;; *) oj_form=-f; oj_ask "$@" ;; esac
}
oj_jobs() {
  oj_asking "$@"
  oj_alone "$@"
}
oj_array() {
  printf 'OJ:%s begin alone\n%s\n' "$oj" "$1"
  oj_text=$(qstat -t -x "$1" </dev/null)
  oj_rc=$?
  printf '%s\n\nOJ:%s end alone %d\n' "$oj_text" "$oj" "$oj_rc"
  case $oj_text in *'<Job_Id>'*) ;; *) return ;; esac
  if printf '%s\n' "$oj_text" | oj_lines | grep '^[^C]</job_state$' >/dev/null; then return; fi
  printf 'OJ:%s begin alone\n%s\n' "$oj" "$1"
  qstat -f "$1" </dev/null | awk -v id="Job Id: $1" '
  BEGIN { RS = ""; ORS = "\n\n" } index($0, id) == 1'
  printf '\nOJ:%s end alone 0\n' "$oj"
}
"""
)
OF_USER = """if oj_listing -u "$(id -un)"; then
oj_asking $oj_ids
oj_alone $oj_ids
fi
"""
OF_ALL = """if oj_listing; then
oj_asking
oj_alone $oj_ids
fi
"""

_GONE = re.compile(
    r"(?:Unknown Job ?(?:Id|Identifier)(?: Error)?:?|nonexistent job id:) +(\S+)", re.IGNORECASE
)
_FINISHED = re.compile(r"^qstat: +(\S+) Job has finished", re.MULTILINE)
_BODY = re.compile(r"^(?:Job [iI]d\b|[ \t]*[{<])", re.MULTILINE)


def is_id(text: str) -> bool:
    """Whether a text is a job's id."""
    try:
        JobId.parse(text)
    except InputError:
        return False
    return True


@dataclass(slots=True)
class Listing:
    """What a query brought, read.

    ``gone``: ids that the server does not know.  ``finished``: ids of which it says that they have
    ended, and no more.  ``listed``: what qselect named.  ``failed``: why a part is no answer.
    ``silent``: of unknown ids nothing is said at all (Slurm's wrapper).
    """

    rows: Rows = field(default_factory=Rows)
    gone: list[JobId] = field(default_factory=list)
    finished: list[JobId] = field(default_factory=list)
    listed: list[JobId] = field(default_factory=list)
    errors: str = ""
    failed: SchedulerError | None = None
    framed: bool = False
    silent: bool = False

    def left_out(self) -> list[str]:
        """Of the ids that qselect named, those of which the answer says nothing."""
        told = {_key(one) for one in map(JobId.parse, self.rows.known)}
        told.update(map(_key, (*self.gone, *self.finished)))
        arrays = {number for number, tasks in told if tasks == ""}
        return [
            str(one)
            for one in self.listed
            if _key(one) not in told and not (one.tasks is not None and one.number in arrays)
        ]


def _key(one: JobId) -> tuple[str, str | None]:
    return one.number, one.tasks


def read_listing(
    scheduler: Scheduler, answer: Answer, *, torque: bool, zone: tzinfo | None, asked: bool
) -> Listing:
    """All parts of an answer, or one that was pasted (``asked``: as that of a qstat).

    Raises ``SchedulerError`` where nothing in it is an answer.
    """
    sections = read_frame(answer.stdout)
    listing = Listing(framed=sections is not None, errors=answer.stderr)
    reader = Reader(torque=torque, zone=UTC if listing.framed else zone)
    if sections is None:
        sections = [Section("qstat", answer.stdout, answer.returncode, "")]
    parts = [_parted(one, framed=listing.framed) for one in sections]
    _read_errors(listing, (answer.stderr, *(errors for errors, _ in parts)), torque=torque)
    has_answered = False
    for one, (errors, body) in zip(sections, parts, strict=True):
        if one.name == "asked" or one.name.startswith("server"):
            continue
        if one.name.startswith("qselect"):
            if one.returncode != 0:
                raise scheduler.error(Answer("", errors or answer.stderr, one.returncode))
            listing.listed = [JobId.parse(it) for it in body.split() if is_id(it)]
            has_answered = has_answered or not body.strip()
            continue
        name = ""
        if one.name == "alone":
            name, _, body = body.partition("\n")
        is_empty = not body.strip()
        if listing.silent and is_empty and one.returncode == 153:
            has_answered = True
            listing.gone += [JobId.parse(name)] if name else []
            continue
        if _is_refusal(one.returncode, listing, is_empty=is_empty):
            listing.failed = scheduler.error(Answer("", errors or answer.stderr, one.returncode))
            continue
        rows = _rows(reader, name, body)
        if rows is None or (is_empty and not (listing.framed or asked)):
            raise scheduler.error(
                answer,
                kind="parse_error" if answer.returncode == 0 else None,
                message=f"this is no listing of {scheduler.name}: {first_line(body)!r}",
            )
        is_told = one.returncode or rows.known or rows.unparsed
        if not is_told and NO_HISTORY in (errors or answer.stderr):
            listing.failed = scheduler.error(
                Answer("", errors or answer.stderr, one.returncode), kind="transient"
            )
            continue
        has_answered = True
        listing.rows.update(rows)
    if not has_answered:
        raise listing.failed or scheduler.error(
            Answer(answer.stdout, listing.errors, answer.returncode)
        )
    return listing


def _read_errors(listing: Listing, errors: Iterable[str], *, torque: bool) -> None:
    """What the lines of stderr say of ids."""
    listing.errors = "\n".join(filter(None, errors))
    listing.gone = [JobId.parse(one) for one in _GONE.findall(listing.errors) if is_id(one)]
    listing.finished = [JobId.parse(one) for one in _FINISHED.findall(listing.errors) if is_id(one)]
    listing.silent = (
        torque
        and listing.framed
        and "Unknown option: x" in listing.errors
        and "Problem loading" not in listing.errors
    )


def _is_refusal(returncode: int, listing: Listing, *, is_empty: bool) -> bool:
    """Whether qstat failed with more than ids that it does not know or that have finished."""
    if returncode not in (0, 153, 35):
        return True
    has_named = listing.gone or (listing.framed and listing.finished)
    return bool(returncode and is_empty and not has_named)


def _parted(one: Section, *, framed: bool) -> tuple[str, str]:
    """The lines of stderr in a part, and what follows."""
    if not framed or not one.name.startswith("qstat"):
        return "", one.text
    found = _BODY.search(one.text)
    at = found.start() if found is not None else len(one.text)
    return one.text[:at], one.text[at:]


def _rows(reader: Reader, name: str, body: str) -> Rows | None:
    rows = reader.read(body) if body.strip() else Rows()
    if not name or rows is None:
        return rows
    wanted = JobId.parse(name)
    for it in list(rows.known):
        # A text that one job's owner chose may look like the record of another job.
        job_id = JobId.parse(it)
        if not (wanted.matches(job_id) or wanted.contains(job_id)):
            del rows.known[it]
            rows.arrays.pop(it, None)
    if wanted.tasks == "" and not any(wanted.matches(JobId.parse(it)) for it in rows.known):
        active = array_of_members(name, list(rows.known.values()))
        if active is not None:
            rows.known[name] = active
    return rows


def remembered(text: str, *, torque: bool) -> timedelta | None:
    """How long the server remembers ended jobs, by ``qstat -B -f``; ``None`` if it is no answer."""
    if not re.search(r"^Server: \S", text, re.MULTILINE):
        return None
    said = dict(re.findall(r"^\s+(\w+) = (.*?)\s*$", text, re.MULTILINE))
    if torque:
        kept = said.get("keep_completed", "")
        return timedelta(seconds=int(kept)) if is_number(kept) and len(kept) < 12 else timedelta(0)
    if said.get("job_history_enable") != "True":
        return timedelta(0)
    kept = said.get("job_history_duration")
    return parse_duration(kept, bare="seconds") if kept is not None else timedelta(days=14)
