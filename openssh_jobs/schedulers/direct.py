"""No scheduler: a job is a detached process group with a directory of its own.

On the host, ``~/.openssh_jobs/direct/ID/`` holds what is known of job ID, a plain number:

======== =====================================================================================
job      name, script, paths of the output, time limit, time of submission (written first)
start    node, boot id, pid of the launcher, pid of the script, when each began (by rename)
exit     exit code and time of the end (by rename, last): the marker
cancel   somebody asked for an end; written before anybody is killed
timeout  the time limit was reached; written before anybody is killed
======== =====================================================================================

``launch`` runs the script with the interpreter of its first line (no executable bit is needed;
``/bin/sh`` without one) in the directory it was submitted from, standard output and error in
``job-ID.out`` and ``job-ID.err`` there, input empty, ``OPENSSH_JOBS_ID`` and
``OPENSSH_JOBS_DIRECTORY`` set.  It passes TERM on to the script's process group, ends the group at
the time limit, and writes the marker.  A process is taken for the recorded one only if node, boot
id and start time agree: a pid alone may be somebody else's by now.

The scripts run in dash, bash and BusyBox, with or without setsid(1).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta, tzinfo
from typing import Any, ClassVar
from urllib.parse import quote_from_bytes, unquote_to_bytes

from openssh_jobs.errors import InputError, SchedulerError
from openssh_jobs.jobs import CancelOutcome, JobId, JobState, JobStatus, Node, Snapshot
from openssh_jobs.schedulers.base import (
    Scheduler,
    Section,
    SubmitRequest,
    framed,
    outcomes_for,
    read_frame,
    rule,
    section,
)
from openssh_jobs.schedulers.text import (
    command_words,
    epoch,
    first_line,
    quote,
    shell_path,
    text_seconds,
    whole_number,
)

# Shared by the scripts.  oj_who says when a process began, in a form that is only compared; it
# fails for a process that is gone or a zombie.  oj_detach replaces a subshell by a command in a
# session of its own.
_FUNCTIONS = r"""
oj_base=${HOME:?}/.openssh_jobs/direct
oj_who() {
  oj_s=
  if [ -r /proc/self/stat ]; then
    IFS= read -r oj_s 2>/dev/null <"/proc/$1/stat" || return 1
    oj_s=${oj_s##*) }
    case $oj_s in Z*|X*|'') return 1;; esac
    set -- $oj_s
    shift 19
    oj_s=$1
  else
    oj_s=$(ps -o stat= -o lstart= -p "$1" 2>/dev/null) || return 1
    case $oj_s in *[!\ ]*) ;; *) return 1;; esac
    case $oj_s in Z*) return 1;; esac
    set -- $oj_s
    shift
    oj_s="$*"
  fi
}
oj_boot() {
  oj_b=
  if [ -r /proc/sys/kernel/random/boot_id ]; then
    IFS= read -r oj_b </proc/sys/kernel/random/boot_id
  else
    oj_b=$(sysctl -n kern.boottime 2>/dev/null | sed 's/.*sec = \([0-9]*\),.*/\1/')
  fi
  oj_b=${oj_b:-none}
}
oj_detach() {
  if command -v setsid >/dev/null 2>&1; then exec setsid "$@"; fi
  if command -v perl >/dev/null 2>&1; then
    exec perl -e 'use POSIX; POSIX::setsid(); exec {$ARGV[0]} @ARGV; exit 127' "$@"
  fi
  if command -v python3 >/dev/null 2>&1; then
    exec python3 -c 'import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])' "$@"
  fi
  exec nohup "$@"
}
oj_load() {
  oj_pid= oj_child= oj_pid_who= oj_child_who= oj_node= oj_bootid= oj_alone=
  [ -r "$1/start" ] || return 1
  while read -r oj_key oj_value; do
    case $oj_key in
      pid) oj_pid=$oj_value;; pid_who) oj_pid_who=$oj_value;;
      child) oj_child=$oj_value;; child_who) oj_child_who=$oj_value;;
      node) oj_node=$oj_value;; boot) oj_bootid=$oj_value;; alone) oj_alone=$oj_value;;
    esac
  done <"$1/start"
  [ -n "$oj_pid" ]
}
oj_alive() {
  [ -n "$1" ] && oj_who "$1" && [ "$oj_s" = "$2" ]
}
oj_signal() {
  if [ "$oj_alone" = yes ]; then kill -s "$1" -- "-$oj_child"; else kill -s "$1" "$oj_child"; fi
} 2>/dev/null
oj_verdict() {
  if [ ! -d "$1" ]; then oj_v=absent
  elif ! oj_load "$1"; then oj_v=waiting
  elif [ "$oj_node" != "$oj_here" ]; then oj_v=elsewhere
  elif [ "$oj_bootid" != "$oj_b" ]; then oj_v=restarted
  elif oj_alive "$oj_pid" "$oj_pid_who"; then oj_v=alive
  elif oj_alive "$oj_child" "$oj_child_who"; then oj_v=orphan
  else oj_v=gone
  fi
}
"""

# $1 directory of the job, $2 its id, $3 umask, $4 time limit or 0, $5 $6 where output and errors
# go, $7 the script.
_LAUNCH = (
    _FUNCTIONS
    + r"""
oj_dir=$1 oj_id=$2 oj_umask=$3 oj_limit=$4 oj_out=$5 oj_err=$6 oj_script=$7
trap : HUP
# A shell that is only just forked loses a signal: again, until it is gone.
oj_stop() {
  oj_n=0
  while [ "$oj_n" -lt 50 ] && oj_who "$1"; do
    kill "$1" 2>/dev/null
    oj_n=$((oj_n + 1))
    sleep 0.02 2>/dev/null || sleep 1
  done
}
oj_end() {
  printf 'code %s\nended %s\nwhy %s\n' "$1" "$(date +%s)" "$2" >"$oj_dir/exit.new" &&
  mv "$oj_dir/exit.new" "$oj_dir/exit"
  if [ -n "${oj_timer-}" ]; then oj_stop "$oj_timer"; fi
  exit 0
}
oj_boot
oj_node=$(uname -n)
oj_who $$
oj_started=$oj_s
if [ -e "$oj_dir/cancel" ]; then oj_end 143 ''; fi
oj_first=
IFS= read -r oj_first <"$oj_script" || [ -n "$oj_first" ] || oj_end 126 'cannot read the script'
oj_tab=$(printf '\t')
oj_how= oj_arg=
case $oj_first in
  '#!'*)
    oj_how=${oj_first#'#!'}
    oj_how=${oj_how#"${oj_how%%[! $oj_tab]*}"}
    oj_arg=${oj_how#"${oj_how%%[ $oj_tab]*}"}
    oj_how=${oj_how%%[ $oj_tab]*}
    oj_arg=${oj_arg#"${oj_arg%%[! $oj_tab]*}"}
    oj_arg=${oj_arg%"${oj_arg##*[! $oj_tab]}"};;
esac
: "${oj_how:=/bin/sh}"
(umask "$oj_umask"; : >"$oj_out") || oj_end 126 'cannot write the file for the output'
(umask "$oj_umask"; : >>"$oj_err") || oj_end 126 'cannot write the file for the errors'
OPENSSH_JOBS_ID=$oj_id
OPENSSH_JOBS_DIRECTORY=$oj_dir
export OPENSSH_JOBS_ID OPENSSH_JOBS_DIRECTORY
set -- "$oj_how"
if [ -n "$oj_arg" ]; then set -- "$@" "$oj_arg"; fi
set -- "$@" "$oj_script"
oj_child=
trap 'oj_asked=1; [ -z "$oj_child" ] || oj_signal TERM' TERM
(
  trap - TERM HUP
  umask "$oj_umask"
  exec </dev/null >"$oj_out"
  if [ "$oj_err" = "$oj_out" ]; then exec 2>&1; else exec 2>"$oj_err"; fi
  unset oj_dir oj_id oj_limit oj_out oj_err oj_s oj_b oj_first
  oj_detach "$@"
) &
oj_child=$!
# A moment until the child is a session of its own (or has ended): its group is what is signalled.
oj_group() {
  if [ -r /proc/self/stat ]; then
    IFS= read -r oj_g 2>/dev/null <"/proc/$1/stat" || return 1
    oj_g=${oj_g##*) }
    set -- $oj_g
    oj_g=$3
  else
    oj_g=$(ps -o pgid= -p "$1" 2>/dev/null) || return 1
    oj_g=$(printf '%s' "$oj_g" | tr -d ' ')
  fi
}
oj_alone=no oj_try=0
while [ "$oj_try" -lt 100 ] && oj_group "$oj_child"; do
  if [ "$oj_g" = "$oj_child" ]; then oj_alone=yes; break; fi
  oj_try=$((oj_try + 1))
  sleep 0.01 2>/dev/null || sleep 1
done
oj_s=
oj_who "$oj_child"
oj_child_who=$oj_s
printf '%s\n' "pid $$" "pid_who $oj_started" "child $oj_child" "child_who $oj_child_who" \
  "alone $oj_alone" "node $oj_node" "boot $oj_b" "started $(date +%s)" >"$oj_dir/start.new" &&
mv "$oj_dir/start.new" "$oj_dir/start"
if [ -n "${oj_asked-}" ] || [ -e "$oj_dir/cancel" ]; then oj_signal TERM; fi
oj_timer=
if [ "$oj_limit" -gt 0 ]; then
  (
    trap '[ "$!" = "$oj_child" ] || oj_stop "$!"; exit 0' TERM
    sleep "$oj_limit" &
    wait "$!"
    oj_alive "$oj_child" "$oj_child_who" || exit 0
    printf 'timed_out %s\n' "$(date +%s)" >"$oj_dir/timeout"
    oj_signal TERM
    sleep 5 &
    wait "$!"
    if oj_alive "$oj_child" "$oj_child_who"; then oj_signal KILL; fi
  ) &
  oj_timer=$!
fi
while :; do
  wait "$oj_child"
  oj_code=$?
  # A signal for us ends the wait too: only when the child is gone was that its code.
  kill -0 "$oj_child" 2>/dev/null || break
done
oj_end "$oj_code" ''
"""
)

_CLAIM = r"""
oj_refuse() { printf 'openssh_jobs: refused: %s\n' "$1" >&2; exit 1; }
oj_script=@SCRIPT@
[ -e "$oj_script" ] || oj_refuse 'there is no such script'
[ -f "$oj_script" ] || oj_refuse 'the script is no regular file'
[ -r "$oj_script" ] || oj_refuse 'the script cannot be read'
[ -s "$oj_script" ] || oj_refuse 'the script is empty'
oj_umask=$(umask)
umask 077
mkdir -p "$oj_base" || oj_refuse 'no directory for the job can be made'
oj_last=0
[ ! -r "$oj_base/last" ] || read -r oj_last <"$oj_base/last"
case $oj_last in ''|*[!0-9]*) oj_last=0;; esac
for oj_d in "$oj_base"/[0-9]*; do
  oj_n=${oj_d##*/}
  case $oj_n in *[!0-9]*) continue;; esac
  if [ "$oj_n" -gt "$oj_last" ]; then oj_last=$oj_n; fi
done
oj_id=$((oj_last + 1))
until mkdir "$oj_base/$oj_id" 2>/dev/null; do
  [ -d "$oj_base/$oj_id" ] || oj_refuse 'no directory for the job can be made'
  oj_id=$((oj_id + 1))
done
oj_dir=$oj_base/$oj_id
oj_undo() { rm -rf "$oj_dir"; oj_refuse "$1"; }
printf '%s\n' "$oj_id" >"$oj_dir/last" && mv "$oj_dir/last" "$oj_base/last"
printf '%s' "$PWD" >"$oj_dir/directory" || oj_undo 'the job cannot be written down'
{
  printf '%s\n' @FACTS@
  printf 'submitted %s\n' "$(date +%s)"
} >"$oj_dir/job" || oj_undo 'the job cannot be written down'
cat >"$oj_dir/launch" <<'OJ_END_OF_LAUNCH' || oj_undo 'the job cannot be written down'
@LAUNCH@
OJ_END_OF_LAUNCH
[ -s "$oj_dir/launch" ] && [ -s "$oj_dir/job" ] || oj_undo 'the job cannot be written down'
(
  oj_detach /bin/sh "$oj_dir/launch" "$oj_dir" "$oj_id" "$oj_umask" @LIMIT@ @OUT@ @ERR@ "$oj_script"
) </dev/null >"$oj_dir/log" 2>&1 &
oj_try=0
while [ ! -e "$oj_dir/start" ] && [ ! -e "$oj_dir/exit" ] && [ "$oj_try" -lt 100 ]; do
  oj_try=$((oj_try + 1))
  sleep 0.03 2>/dev/null || sleep 1
done
printf 'openssh_jobs: started job %s\n' "$oj_id"
"""

_STATUS = r"""
oj_boot
oj_here=$(uname -n)
oj_now=$(date +%s)
oj_show() {
  oj_verdict "$oj_base/$1"
  printf '%s|%s|%s|%s\n' "$oj" "$1" "$oj_v" "$oj_now"
  if [ "$oj_v" != absent ]; then
    cd "$oj_base/$1" && cat job start exit cancel timeout 2>/dev/null
    printf '%s>' "$oj"
    cat "$oj_base/$1/directory" 2>/dev/null
  fi
  printf '\n'
}
"""

_CANCEL = r"""
oj_boot
oj_here=$(uname -n)
oj_rest=
for oj_id in @IDS@; do
  oj_dir=$oj_base/$oj_id
  oj_verdict "$oj_dir"
  oj_word=requested
  if [ "$oj_v" = absent ]; then oj_word=not_found
  elif [ -e "$oj_dir/exit" ]; then oj_word=already_finished
  else
    case $oj_v in
      alive|orphan)
        if printf 'cancelled %s\n' "$(date +%s)" >"$oj_dir/cancel"; then
          oj_signal TERM
          oj_rest="$oj_rest $oj_id"
        else
          oj_word=transient
        fi;;
      waiting) printf 'cancelled %s\n' "$(date +%s)" >"$oj_dir/cancel" || oj_word=transient;;
      gone|restarted) oj_word=already_finished;;
      *) oj_word=transient;;
    esac
  fi
  printf '%s %s %s\n' "$oj_id" "$oj_word" "$oj_v"
done
# Whoever does not listen within five seconds is killed; the launcher then still writes the marker.
oj_try=0
while [ -n "$oj_rest" ]; do
  oj_left=
  for oj_id in $oj_rest; do
    oj_load "$oj_base/$oj_id" || continue
    oj_alive "$oj_child" "$oj_child_who" || continue
    if [ "$oj_try" -ge 50 ]; then oj_signal KILL; fi
    oj_left="$oj_left $oj_id"
  done
  oj_rest=$oj_left
  if [ "$oj_try" -ge 55 ]; then break; fi
  oj_try=$((oj_try + 1))
  [ -z "$oj_rest" ] || sleep 0.1 2>/dev/null || sleep 1
done
:
"""

_CLEAN = r"""
for oj_id in @IDS@; do
  if [ -e "$oj_base/$oj_id/exit" ]; then rm -rf "$oj_base/$oj_id"; fi
done
rmdir "$oj_base" "${oj_base%/*}" 2>/dev/null
:
"""

_NODES = r"""
printf 'name %s\n' "$(uname -n)"
printf 'cpus %s\n' "$(getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null)"
if [ -r /proc/meminfo ]; then
  sed -n 's/^MemTotal: */memory /p; s/^MemAvailable: */free /p' /proc/meminfo
else
  printf 'bytes %s\n' "$(sysctl -n hw.memsize 2>/dev/null)"
fi
if [ -r /proc/loadavg ]; then sed 's/^/load /' /proc/loadavg; else uptime; fi
:
"""

_REASONS: Mapping[str, str] = {
    "waiting": "not started yet",
    "gone": "no exit marker: killed, or the node lost it",
    "restarted": "no exit marker: the node was restarted",
    "orphan": "its launcher was killed: there will be no exit code",
}


class Direct(Scheduler):
    """A process group of its own on the host itself."""

    name: ClassVar[str] = "direct"
    aliases: ClassVar[tuple[str, ...]] = ("local",)
    probe: ClassVar[str] = 'printf "%s\\n" "$(uname -s -r)"'
    poll_floor: ClassVar[float] = 0.0
    rules = (
        rule("openssh_jobs: refused: no directory", "permission", refused=True),
        rule("openssh_jobs: refused: the job cannot be", "transient", refused=True),
        rule("openssh_jobs: refused:", "invalid_request", refused=True),
        rule("HOME: parameter|No space left|Disk quota exceeded", "transient"),
    )

    # -- submitting ------------------------------------------------------------

    def submit_script(self, request: SubmitRequest) -> str:
        """Starts the job and ends; what needs a scheduler is refused by name.

        ``cpus``, ``memory`` and ``gpus`` are wishes that nobody here enforces.
        """
        for what, is_wanted in (
            ("array", request.array is not None),
            ("hold", request.hold),
            ("after_ok", bool(request.after_ok)),
            ("after_any", bool(request.after_any)),
            ("after_failed", bool(request.after_failed)),
            ("queue", request.queue is not None),
            ("account", request.account is not None),
            ("options", bool(request.options)),
            ("nodes", request.nodes not in (None, 1, "1")),
        ):
            if is_wanted:
                self.unsupported(what)
        seconds = 0
        if request.time_limit is not None:
            limit = text_seconds(request.time_limit)
            if limit is None or limit <= timedelta(0):
                raise InputError(f"time_limit is no duration: {request.time_limit!r}")
            seconds = -(-limit // timedelta(seconds=1))
        name = request.name or posixpath.basename(request.script)
        out = request.stdout_path or "job-%j.out"
        err = request.stderr_path or (out if request.stdout_path else "job-%j.err")
        facts = {
            "name": _encode(name),
            "script": _encode(request.script),
            "out": _encode(out),
            "err": _encode(err),
            "limit": str(seconds),
            "token": _encode(request.token or ""),
        }
        parts = {
            "@SCRIPT@": shell_path(request.script),
            "@FACTS@": self.words(*(f"{key} {value}" for key, value in facts.items())),
            "@LIMIT@": str(seconds),
            "@OUT@": _with_id(out),
            "@ERR@": _with_id(err),
            "@LAUNCH@": _LAUNCH.strip(),
        }
        # In one pass: what a name holds is not looked into again.
        body = re.sub(r"@[A-Z]+@", lambda found: parts[found[0]], _CLAIM)
        return f"{_FUNCTIONS}{body}"

    def submitted_ids(self, stdout: str) -> list[str]:
        return re.findall(r"^openssh_jobs: started job ([0-9]+)$", stdout, re.MULTILINE)

    # -- asking ------------------------------------------------------------------

    def status_script(self, ids: Sequence[str] = (), *, all_users: bool = False) -> str:
        """One record a job.  The jobs of others are in their homes: ``all_users`` sees no more."""
        if ids:
            which = self._numbers(ids)
            loop = f'for oj_one in {" ".join(which)}; do oj_show "$oj_one"; done\n'
        else:
            loop = (
                'for oj_d in "$oj_base"/[0-9]*; do\n'
                "  oj_one=${oj_d##*/}\n"
                '  case $oj_one in *[!0-9]*) ;; *) oj_show "$oj_one";; esac\n'
                "done\n"
            )
        return framed(_FUNCTIONS, _STATUS, section("direct", f"{loop}:"))

    def _numbers(self, ids: Iterable[str]) -> list[str]:
        found = self.checked_ids(ids)
        for one in found:
            if not one.isdigit():
                raise InputError(f"the id of a job without a scheduler is a number: {one!r}")
        return [str(int(one)) for one in found]

    def parse_status(
        self,
        stdout: str,
        *,
        stderr: str = "",
        returncode: int = 0,
        requested: Iterable[str] | None = None,
        command: str | None = None,
        timezone: tzinfo | None = None,
    ) -> Snapshot:
        """The answer to ``status_script``; a pasted ``ps`` with a header gives processes."""
        sections = read_frame(stdout)
        wanted = None if requested is None else [str(JobId.parse(one)) for one in requested]
        if sections is None:
            return self._ps(stdout, stderr, returncode, wanted)
        known: dict[str, JobStatus] = {}
        unparsed: list[str] = []
        seen: set[str] = set()
        for one in sections:
            for record in one.text.split(f"{one.mark}|")[1:]:
                status, job_id = _read_record(record, one)
                if job_id is None:
                    unparsed.append(record[:1000])
                    continue
                seen.add(job_id)
                if status is not None:
                    known[job_id] = status
        snapshot = Snapshot(known=known, unparsed=tuple(unparsed))
        if wanted is None:
            return snapshot
        return snapshot.select(wanted, covered=lambda one: one.text in seen)

    def _ps(self, stdout: str, stderr: str, returncode: int, wanted: list[str] | None) -> Snapshot:
        lines = stdout.splitlines()
        header = lines[0].split() if lines else []
        state_at = next(
            (header.index(one) for one in ("STAT", "S", "STATE") if one in header), None
        )
        if "PID" not in header or state_at is None:
            raise self.error(
                stdout,
                stderr,
                returncode,
                kind="parse_error" if returncode == 0 else None,
                message=None if returncode else f"no answer of direct: {first_line(stdout)!r}",
            )
        known: dict[str, JobStatus] = {}
        unparsed: list[str] = []
        for line in lines[1:]:
            cells = line.split(None, len(header) - 1)
            state = _PS_STATES.get(cells[state_at][:1]) if len(cells) > state_at else None
            pid = cells[header.index("PID")] if state is not None else ""
            if state is None or whole_number(pid) is None:
                unparsed.append(line[:1000])
                continue
            known[pid] = JobStatus(
                pid,
                state,
                raw_state=cells[state_at],
                name=cells[-1] if len(cells) == len(header) else None,
                source="queue",
            )
        snapshot = Snapshot(known=known, unparsed=tuple(unparsed))
        # ps may have been asked for anything: it covers nothing.
        return snapshot if wanted is None else snapshot.select(wanted, covered=False)

    def detail_script(self, job_id: str) -> str:
        return self.status_script([job_id])

    def parse_detail(self, stdout: str, *, stderr: str = "", returncode: int = 0) -> JobStatus:
        snapshot = self.parse_status(stdout, stderr=stderr, returncode=returncode)
        if len(snapshot.known) != 1:
            raise SchedulerError("there is no such job", kind="not_found", stdout=stdout)
        return next(iter(snapshot.known.values()))

    # -- acting ----------------------------------------------------------------------

    def cancel_script(self, ids: Sequence[str]) -> str:
        """TERM to the script's process group, KILL after five seconds."""
        body = _CANCEL.replace("@IDS@", " ".join(self._numbers(ids)))
        return framed(_FUNCTIONS, section("direct", body))

    def cleanup_script(self, ids: Sequence[str]) -> str:
        """Removes what is kept of these jobs, where they have ended."""
        body = _CLEAN.replace("@IDS@", " ".join(self._numbers(ids)))
        return f"{_FUNCTIONS}{body}"

    def parse_cancel(
        self,
        stdout: str,
        *,
        stderr: str = "",
        returncode: int = 0,
        requested: Iterable[str] | None = None,
    ) -> dict[str, CancelOutcome]:
        sections = read_frame(stdout)
        if not sections:
            raise self.error(stdout, stderr, returncode, kind="transport")
        said: dict[str, CancelOutcome] = {}
        for line in sections[0].text.splitlines():
            words = line.split()
            if len(words) == 3 and words[1] in CancelOutcome.__members__.values():
                said[words[0]] = CancelOutcome(words[1])
        return outcomes_for(requested, said, CancelOutcome.TRANSIENT)

    # -- the machine -------------------------------------------------------------------

    def nodes_script(self) -> str:
        return framed(section("nodes", _NODES))

    def parse_nodes(self, stdout: str, *, stderr: str = "", returncode: int = 0) -> list[Node]:
        """The host itself."""
        sections = read_frame(stdout)
        if not sections:
            raise self.error(stdout, stderr, returncode, kind="transport")
        said: dict[str, str] = {}
        for line in sections[0].text.splitlines():
            key, _, value = line.partition(" ")
            said[key] = value.strip()
        if not said.get("name"):
            raise self.error(stdout, stderr, returncode, kind="parse_error")
        load = re.match(r"[0-9.]+", said.get("load", ""))
        return [
            Node(
                name=said["name"],
                state="idle",
                cpus=whole_number(said.get("cpus")),
                memory=_kib(said.get("memory")) or whole_number(said.get("bytes")),
                memory_free=_kib(said.get("free")),
                load=float(load[0]) if load is not None and load[0] != "." else None,
            )
        ]

    # -- recognising -------------------------------------------------------------------

    def recognises(self, stdout: str, stderr: str = "", command: str | None = None) -> bool:
        if command_words(command, ("ps",)):
            return True
        return _LOOKS_LIKE.search(stdout) is not None


_LOOKS_LIKE = re.compile(
    r"^OJ:[0-9a-f]+ begin direct$|^ *PID .*\b(?:STAT|S|CMD)\b|^\S+ +PID .*STAT", re.MULTILINE
)
_PS_STATES = {
    **dict.fromkeys("RSDIWKLUP", JobState.RUNNING),
    **dict.fromkeys("Tt", JobState.SUSPENDED),
    **dict.fromkeys("ZX", JobState.COMPLETING),
}


def _kib(text: str | None) -> int | None:
    number = whole_number((text or "").partition(" ")[0])
    return number * 1024 if number is not None else None


def _encode(text: str) -> str:
    """Any text as one word of ASCII without blanks."""
    return quote_from_bytes(text.encode("utf-8", "surrogateescape"), safe="/.,:=+@_-")


def _decode(text: str) -> str:
    return unquote_to_bytes(text).decode("utf-8", "surrogateescape")


def _with_id(path: str) -> str:
    """A path as a shell word in which ``%j`` is the id of the job."""
    path = f"./{path}" if path.startswith("-") else path
    return '"$oj_id"'.join(quote(part) if part else "" for part in path.split("%j")) or "''"


def _read_record(record: str, one: Section) -> tuple[JobStatus | None, str | None]:
    """(status, id) of a record; no status for a job that is not there, no id for nonsense."""
    text, _, directory = record.partition(f"{one.mark}>")
    head, _, body = text.partition("\n")
    cells = head.split("|")
    if len(cells) != 3 or not cells[0].isdigit():
        return None, None
    job_id, verdict, now = cells
    if verdict == "absent":
        return None, job_id
    said: dict[str, str] = {}
    for line in body.splitlines():
        key, _, value = line.partition(" ")
        said[key] = value
    state, reason = _judge(verdict, said, whole_number(now))
    if state is None:
        return None, None
    code = whole_number(said.get("code"))
    started, ended = whole_number(said.get("started")), whole_number(said.get("ended"))
    until = ended if ended is not None else whole_number(now)
    spent = None
    if started is not None and until is not None and (state.is_final or state.is_active):
        spent = timedelta(seconds=max(0, until - started))
    folder = directory.removesuffix("\n") or None
    limit = whole_number(said.get("limit"))
    facts: dict[str, Any] = {
        "raw_state": verdict if code is None else "ended",
        "reason": reason,
        "name": _decode(said["name"]) if "name" in said else None,
        "nodes": (said["node"],) if said.get("node") else None,
        "exit_code": code if state.is_final else None,
        "submitted": epoch(whole_number(said.get("submitted"))),
        "started": epoch(started),
        "ended": epoch(ended),
        "elapsed": spent,
        "time_limit": timedelta(seconds=limit) if limit else None,
        "source": "marker" if code is not None else "queue",
        "directory": folder,
        "stdout_path": _path(folder, said.get("out"), job_id),
        "stderr_path": _path(folder, said.get("err"), job_id),
        "command": _decode(said["script"]) if "script" in said else None,
    }
    return JobStatus(job_id, state, **facts), job_id


def _path(folder: str | None, text: str | None, job_id: str) -> str | None:
    if not text:
        return None
    path = _decode(text).replace("%j", job_id)
    return posixpath.join(folder, path) if folder else path


# Nobody needs that long from the claim of an id to the start of the launcher.
_START_WITHIN = 60


def _judge(
    verdict: str, said: Mapping[str, str], now: int | None
) -> tuple[JobState | None, str | None]:
    """What the files and a look at the processes say together.

    The processes were looked at before the marker was read, so a job that ended in between is
    seen as ended.
    """
    if "code" in said:
        code = whole_number(said["code"])
        if code is None:
            return None, None
        if said.get("why"):
            return JobState.FAILED, said["why"]
        if "cancelled" in said:
            return JobState.CANCELLED, "cancelled"
        if "timed_out" in said:
            return JobState.TIMEOUT, "time limit"
        if code == 0:
            return JobState.COMPLETED, None
        told = f"exit status {code}"
        return JobState.FAILED, f"{told} (128 + signal {code - 128})" if 128 < code < 193 else told
    if verdict == "waiting":
        since = whole_number(said.get("submitted"))
        if now is not None and since is not None and now - since > _START_WITHIN:
            return JobState.UNKNOWN, "never started: its launcher left no trace"
        return JobState.PENDING, _REASONS[verdict]
    if verdict == "elsewhere":
        return JobState.UNKNOWN, f"runs on the node {said.get('node')}: only that one can tell"
    if verdict in ("gone", "restarted"):
        if "cancelled" in said:
            return JobState.CANCELLED, "cancelled"
        return JobState.UNKNOWN, _REASONS[verdict]
    if verdict in ("alive", "orphan"):
        if "cancelled" in said:
            return JobState.COMPLETING, "being cancelled"
        return JobState.RUNNING, _REASONS.get(verdict)
    return None, None
