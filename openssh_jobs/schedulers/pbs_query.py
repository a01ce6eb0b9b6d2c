"""Asking PBS about jobs: the sh text of a query, and what its answer covers.  Pure.

A query checks off what it asked for.  An id that the answer neither holds nor names as unknown is
asked about again, in another form and alone, and only its own record counts in that answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, timedelta, tzinfo
from typing import TYPE_CHECKING

from openssh_jobs.errors import InputError, SchedulerError
from openssh_jobs.jobs import JobId
from openssh_jobs.schedulers.framing import Section, read_frame
from openssh_jobs.schedulers.pbs_output import Reader, Rows
from openssh_jobs.schedulers.pbs_words import NO_HISTORY
from openssh_jobs.schedulers.text import first_line, is_number, parse_duration

if TYPE_CHECKING:
    from openssh_jobs.schedulers.base import Scheduler

__all__ = ["OF_ALL", "OF_USER", "PREPARE", "Answer", "is_id", "read_answer", "remembered"]

_MOST_ALONE = 200  # asked one by one; the rest stays unknown

# set -f: an id of an array is a pattern to the shell.  oj_text: the lines of stderr, then the
# answer, which the inner substitution has taken whole by then.  oj_left: what of the ids is in
# neither.  oj_over: whole arrays that have ended.
PREPARE = rf"""set -f
TZ=UTC0; export TZ
oj_ask() {{
  printf 'OJ:%s begin qstat-pbs\n' "$oj"
  oj_text=$({{ oj_said=$(qstat $oj_x -f -F dsv -D "|$oj|" "$@" </dev/null); oj_rc=$?
    printf '\n%s\n%s\n' "$oj_said" "$oj_rc"; }} 2>&1)
  oj_rc=${{oj_text##*
}}
  oj_text=${{oj_text%
*}}
  printf '%s\n\nOJ:%s end qstat-pbs %d\n' "$oj_text" "$oj" "$oj_rc"
}}
oj_left() {{
  {{ printf 'ask %s\n' "$@"; printf '%s\n' "$oj_text"; }} | awk '
  /^ask / && !begun {{ asked[++n] = $2; next }}
  {{ begun = 1; id = "" }}
  /^Job Id: / {{ id = $3 }}
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
oj_jobs() {{
  oj_x=-x
  [ $# -le 20 ] || case $(qstat -x -f "$1" 2>&1 </dev/null) in *'{NO_HISTORY}'*) oj_x= ;; esac
  oj_ask "$@"
  case $oj_x$oj_rc:$oj_text in
    *'{NO_HISTORY}'*) oj_x=; oj_ask "$@" ;;
    -x0:*'Job Id: '*|-x153:*|-x35:*|[0-9]*) ;;
    *) oj_x=; oj_ask "$@" ;;
  esac
  oj_alone "$@"
  oj_over=$(printf '%s\n' "$oj_text" | awk '
  /^Job Id: [0-9]+\[\][|.]/ && /[|]job_state=[FXC][|]/ {{ sub(/[|].*/, "", $3); print $3 }}')
  [ -z "$oj_over" ] || oj_ask -t $oj_over
}}
oj_listing() {{
  printf 'OJ:%s begin qselect-pbs\n' "$oj"
  oj_ids=$(qselect "$@" </dev/null)
  oj_rc=$?
  printf '%s\n\nOJ:%s end qselect-pbs %d\n' "$oj_ids" "$oj" "$oj_rc"
  oj_x=
  [ $oj_rc = 0 ] && [ -n "$oj_ids" ]
}}
"""
OF_USER = """if oj_listing -u "$(id -un)"; then
set -- $oj_ids
oj_ask "$@"
oj_alone "$@"
fi
"""
OF_ALL = """if oj_listing; then
oj_ask
oj_alone $oj_ids
fi
"""

_GONE = re.compile(
    r"(?:Unknown Job ?(?:Id|Identifier)(?: Error)?:?|nonexistent job id:) +(\S+)", re.IGNORECASE
)
_FINISHED = re.compile(r"^qstat: +(\S+) Job has finished", re.MULTILINE)
_BODY = re.compile(r"^(?:Job Id:|Job [iI]d |\s*[{<]|[^:\n]*:\s*$)", re.MULTILINE)


def is_id(text: str) -> bool:
    """Whether a text is a job's id."""
    try:
        JobId.parse(text)
    except InputError:
        return False
    return True


@dataclass(slots=True)
class Answer:
    """What a query brought, read.

    ``gone``: ids that the server does not know.  ``finished``: ids of which it says that they have
    ended, and no more.  ``listed``: what qselect named.  ``failed``: why a part is no answer.
    """

    rows: Rows = field(default_factory=Rows)
    gone: list[JobId] = field(default_factory=list)
    finished: list[JobId] = field(default_factory=list)
    listed: list[JobId] = field(default_factory=list)
    errors: str = ""
    failed: SchedulerError | None = None
    framed: bool = False

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


def read_answer(
    scheduler: Scheduler,
    stdout: str,
    stderr: str,
    returncode: int,
    *,
    torque: bool,
    zone: tzinfo | None,
    asked: bool,
) -> Answer:
    """All parts of an answer, or one that was pasted (``asked``: as that of a qstat).

    Raises ``SchedulerError`` where nothing in it is an answer.
    """
    sections = read_frame(stdout)
    answer = Answer(framed=sections is not None, errors=stderr)
    reader = Reader(torque=torque, zone=UTC if answer.framed else zone)
    if sections is None:
        sections = [Section("qstat", stdout, returncode, "")]
    parts = [_parted(one, framed=answer.framed) for one in sections]
    answer.errors = "\n".join(filter(None, (stderr, *(errors for errors, _ in parts))))
    answer.gone = [JobId.parse(one) for one in _GONE.findall(answer.errors) if is_id(one)]
    answer.finished = [JobId.parse(one) for one in _FINISHED.findall(answer.errors) if is_id(one)]
    has_answered = False
    for one, (errors, body) in zip(sections, parts, strict=True):
        said = errors or stderr
        if one.name == "asked" or one.name.startswith("server"):
            continue
        if one.name.startswith("qselect"):
            if one.returncode != 0:
                raise scheduler.error("", said, one.returncode)
            answer.listed = [JobId.parse(it) for it in body.split() if is_id(it)]
            has_answered = has_answered or not body.strip()
            continue
        is_empty = not body.strip()
        if is_empty and not one.returncode and NO_HISTORY in said:
            answer.failed = scheduler.error("", said, one.returncode, kind="transient")
            continue
        if one.returncode not in (0, 153, 35) or (
            one.returncode
            and is_empty
            and not answer.gone
            and not (answer.framed and answer.finished)
        ):
            answer.failed = scheduler.error("", said, one.returncode)
            continue
        rows = _rows(reader, one, body)
        if rows is None or (is_empty and not (answer.framed or asked)):
            raise scheduler.error(
                stdout, stderr, returncode,
                kind="parse_error" if returncode == 0 else None,
                message=f"this is no listing of {scheduler.name}: {first_line(body)!r}",
            )  # fmt: skip
        has_answered = True
        answer.rows.update(rows)
    if not has_answered:
        raise answer.failed or scheduler.error(stdout, answer.errors, returncode)
    return answer


def _parted(one: Section, *, framed: bool) -> tuple[str, str]:
    """The lines of stderr in a part, and what follows."""
    if not framed or not one.name.startswith("qstat") or "qstat: " not in one.text[:4096]:
        return "", one.text
    found = _BODY.search(one.text)
    at = found.start() if found is not None else len(one.text)
    return one.text[:at], one.text[at:]


def _rows(reader: Reader, one: Section, body: str) -> Rows | None:
    if one.name != "alone":
        return reader.read(body) if body.strip() else Rows()
    text, _, rest = body.partition("\n")
    rows = (reader.read(rest) if rest.strip() else Rows()) or Rows()
    wanted = JobId.parse(text.strip())
    for it in list(rows.known):
        # A text that one job's owner chose may look like the record of another job.
        job_id = JobId.parse(it)
        if not (wanted.matches(job_id) or wanted.contains(job_id)):
            del rows.known[it]
            rows.arrays.pop(it, None)
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

