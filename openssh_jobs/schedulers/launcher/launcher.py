"""The launcher: a script around a job's script that writes down how it ended.

For hosts that keep no accounting.  ``wrap`` makes the text that is submitted instead of the script;
``markers_script`` asks for what the launchers wrote, ``read_markers`` reads it.  Pure.

The launcher runs in dash, bash and BusyBox.  It exports nothing, and what it starts gets the stdin,
the output, the arguments and the directory that the script would have got.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ...commands import scripts
from ...files.private_directory import functions
from ...jobs import JobState, JobStatus
from ..fields import epoch, quote, shell_path
from ..framing import as_is

__all__ = [
    "GRID_ENGINE_JOBS", "LSF_JOBS", "PBS_JOBS", "SLURM_JOBS", "TORQUE_JOBS", "Convention",
    "Markers", "Run", "judge", "launch_text", "markers_script", "read_markers", "wrap",
]  # fmt: skip

BODY = ".script"
"""The directory beside the launcher in which the script itself lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """What one scheduler does with a script, as far as a launcher has to do it too.

    ``anywhere``: what a directive line begins with where they count on any line; ``None`` where
    the first line that is no comment ends them.  ``default``: what runs a script without ``#!``;
    ``None`` where there can be none.  ``spooled``: the file name that the script has when it runs,
    ``None`` for its own.  ``job``, ``member``, ``restart``, ``members``, ``node``: shell words for
    the job's number, the number in the array (empty outside one), the count of restarts (empty for
    none), the size of the array (empty where nobody says) and the node's name.  ``owner``: the
    job's id as the submit command printed it, ``None`` where that is ``job``.

    ``prefix``: what a directive begins with, for a scheduler of which nobody knows beforehand what
    it will run the script with; ``None`` where the first line says it.  See any_shell.py.
    ``brings_environment``: jobs do not get the environment of the submit command, so variables come
    by a file beside the launcher.  ``is_better``: what the job wrote of its end is believed where
    the scheduler says another exit code.
    """

    prefix: bytes | None = None
    anywhere: re.Pattern[bytes] | None = None
    default: bytes | None = None
    spooled: str | None = None
    job: str
    member: str = "''"
    restart: str = "''"
    members: str = "''"
    node: str = '"$(uname -n)"'
    owner: str | None = None
    brings_environment: bool = False
    is_better: bool = False


SLURM_JOBS = Convention(
    spooled="slurm_script",
    job='"${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}"',
    member='"${SLURM_ARRAY_TASK_ID-}"',
    restart='"${SLURM_RESTART_COUNT-}"',
    members='"${SLURM_ARRAY_TASK_COUNT-}"',
    node='"${SLURMD_NODENAME:-$(uname -n)}"',
)
LSF_JOBS = Convention(
    anywhere=re.compile(rb"\s*#\s*BSUB\b"),
    default=b"/bin/sh",
    job='"$LSB_JOBID"',
    member='"${LSB_JOBINDEX#0}"',
)
GRID_ENGINE_JOBS = Convention(
    prefix=b"#$",
    brings_environment=True,
    # Only ``#$`` counts, but qsub -C can name another: the rest are comments.
    anywhere=re.compile(rb"#"),
    default=b"/bin/sh",
    job='"$JOB_ID"',
    member='"${SGE_TASK_ID#undefined}"',
    restart='"${RESTARTED#0}"',
)
_PBS_ID = '"${PBS_JOBID-}"'
PBS_JOBS = Convention(
    prefix=b"#PBS",
    brings_environment=True,
    is_better=True,
    job=_PBS_ID,
    member='"${PBS_ARRAY_INDEX-}"',
    # One member is ``5[3].server``, the array ``5[].server``.
    owner='"$(printf %s "${PBS_JOBID-}" | sed \'s/[[][0-9]*[]]/[]/\')"',
)
# Slurm plays Torque, too, and its jobs know themselves by Slurm's names.
TORQUE_JOBS = Convention(
    prefix=b"#PBS",
    brings_environment=True,
    is_better=True,
    job='"${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-${PBS_JOBID-}}}"',
    member='"${SLURM_ARRAY_TASK_ID-${PBS_ARRAYID-}}"',
    restart='"${SLURM_RESTART_COUNT-}"',
    node='"${SLURMD_NODENAME:-$(uname -n)}"',
    owner='"${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-'
    '$(printf %s "${PBS_JOBID-}" | sed \'s/[[][0-9]*[]]/[]/\')}}"',
)

# A longer first line is cut by some kernels and refused by others.
LONGEST = 126
SHEBANG = re.compile(rb"#![ \t]*([^ \t\n]+)(?:[ \t]+([^\n]*?))?[ \t]*(?:\n|\Z)")
# What these drop of the environment, the script of the same shell drops as well.
_PLAIN_SHELLS = frozenset((b"/bin/sh", b"/usr/bin/sh", b"/bin/dash", b"/usr/bin/dash"))
_BASHES = frozenset((b"/bin/bash", b"/usr/bin/bash"))


def wrap(
    script: bytes, how: Convention, *, directory: str, body: str, members: int = 0, bash: bool
) -> bytes | None:
    """The launcher for a script; ``None`` where it has to be submitted as it is.

    ``directory``: where the marker goes, absolute.  ``body``: the script's path.  ``members``: the
    size of the array as it was asked for.  ``bash``: whether there is a /bin/bash, which hands on
    exported shell functions that dash would lose.  ``None``: the scheduler would refuse the script,
    or nobody knows what would run it.
    """
    if b"\r\n" in script or "\0" in directory + body:
        return None
    first, _, rest = script.partition(b"\n")
    found = SHEBANG.match(script)
    if found is None:
        if how.default is None or first.startswith(b"#!"):
            return None
        interpreter, argument, rest = how.default, b"", script
    else:
        interpreter, argument = found[1], found[2] or b""
    if found is not None and (len(first) > LONGEST or b"=" in interpreter):
        return None  # env(1) would take the second for a variable
    if how.anywhere is None:
        header = header_of(rest)
    else:
        header = [line for line in rest.split(b"\n") if how.anywhere.match(line)]
        if "\n" in directory + body:
            return None  # its second line could be read as a directive
    words = [interpreter if b"/" in interpreter else b"./" + interpreter]
    if argument:
        words.append(argument)
    command = " ".join(quote(_text(word)) for word in words)
    start = f'set -- {command} "$oj_body" "$@"\n$oj_reset "$@" <&8 2>&9 8<&- 9>&- &'
    text = launch_text(how, directory=directory, body=body, members=members, start=start)
    head = [_ownas_is(interpreter, bash), *header]
    return b"\n".join(head) + b"\n" + text


def launch_text(
    how: Convention, *, directory: str, body: str, members: int, start: str, count: str = ""
) -> bytes:
    """What a launcher does.  ``start``: shell text that starts the script, in the background.

    ``count``: shell text that finds the number of a run that was started again.
    """
    return scripts.script(
        "schedulers/launcher/launch",
        directory=directory,
        body=body,
        job=as_is(how.job),
        member=as_is(how.member),
        restart=as_is(how.restart),
        members=as_is(how.members),
        asked=members,
        node=as_is(how.node),
        owner=as_is(how.owner or '"$oj_job"'),
        count=as_is(count),
        start=as_is(start),
    )


def header_of(rest: bytes) -> list[bytes]:
    """The lines in which directives are looked for: all up to the first that is no comment.

    They are carried as they are: to the launcher's shell they are comments.
    """
    lines: list[bytes] = []
    for line in rest.split(b"\n"):
        bare = line.strip(b" \t\r\v\f")
        if bare and not bare.startswith(b"#"):
            break
        if bare:
            # No shell takes other blanks than these two before a comment.
            lines.append(line if line.strip(b" \t").startswith(b"#") else b"")
    return lines


def _ownas_is(interpreter: bytes, bash: bool) -> bytes:
    if interpreter in _PLAIN_SHELLS or not (bash or interpreter in _BASHES):
        return b"#!" + (interpreter if interpreter in _PLAIN_SHELLS else b"/bin/sh")
    # -p: functions in the environment are handed on untouched, BASH_ENV is not read.
    return b"#!" + (interpreter if interpreter in _BASHES else b"/bin/bash") + b" -p"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


# --------------------------------------------------------------------------- what was written


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One start of a job: what its launcher wrote.  ``code`` is ``None`` without an exit."""

    restart: int
    node: str | None = None
    started: datetime | None = None
    code: int | None = None
    ended: datetime | None = None


@dataclass(slots=True)
class Markers:
    """What lies beside one submission: the last run of each (job, member), and the array's size.

    ``member`` is ``None`` outside an array.  ``wrapped``: whether there was a launcher at all;
    ``None`` where the directory is gone.  ``refused``: others could have written there.
    """

    wrapped: bool | None = None
    refused: bool = False
    members: int = 0
    runs: dict[tuple[str, str | None], Run] = field(default_factory=dict)


def markers_script(places: Mapping[str, str | tuple[str, str]]) -> str:
    """A script that prints what the launchers wrote, by mark (letters and digits) and place.

    A place is the directory of a job and a token; what the check for private directories does not
    pass is not read.  One that is a directory itself is entered as it is.
    """
    lines = [functions()]
    for mark, place in places.items():
        if isinstance(place, str):
            enter = f"cd -- {shell_path(place)} 2>/dev/null"
        else:
            enter = " ".join(("oj_find", *map(quote, place)))
        lines.append(
            f"printf '%s\\n' 'at {mark}'\n"
            f"if {enter}; then\n"
            f"  if [ -d {BODY} ]; then echo wrapped; else echo plain; fi\n"
            "  find . -type f '(' -name 'start.*' -o -name 'exit.*' ')' -exec cat '{}' +"
            " 2>/dev/null\n"
            "  echo\n"
            'elif [ $? -eq 1 ] && [ -n "$oj_why" ]; then echo refused\n'
            "fi"
        )
    return "\n".join((*lines, "printf '%s\\n' done"))


_LINE = re.compile(
    r"(?P<what>start|exit) (?P<job>[0-9]+) (?P<member>[0-9]+|-) (?P<restart>[0-9]{1,9})"
    r" (?:(?P<node>\S+) [0-9]+ (?P<started>[0-9]{1,12}) (?P<members>[0-9]{1,9})"
    r"|(?P<code>[0-9]{1,3}) (?P<ended>[0-9]{1,12})) \.",
    re.ASCII,
)


def read_markers(answer: str) -> dict[str, Markers] | None:
    """What each place holds; ``None`` for an answer that is cut off.

    Only whole lines count: a file that is being copied or was cut by a full disk says nothing.
    """
    if not answer.endswith("done\n"):
        return None
    found: dict[str, Markers] = {}
    at = Markers()
    for line in answer.splitlines():
        if line.startswith("at "):
            at = found.setdefault(line[3:], Markers())
        elif line in ("wrapped", "plain"):
            at.wrapped = line == "wrapped"
        elif line == "refused":
            at.refused = True
        else:
            one = _LINE.fullmatch(line)
            if one is not None and (one["code"] is not None) == (one["what"] == "exit"):
                _note(at, one)
    return found


def _note(at: Markers, one: re.Match[str]) -> None:
    key = one["job"], None if one["member"] == "-" else one["member"]
    restart = int(one["restart"])
    before = at.runs.get(key)
    if before is not None and before.restart > restart:
        return  # of an earlier run
    kept = before if before is not None and before.restart == restart else Run(restart=restart)
    if one["what"] == "start":
        at.members = max(at.members, int(one["members"]))
        at.runs[key] = Run(
            restart=restart, node=one["node"], started=epoch(int(one["started"])),
            code=kept.code, ended=kept.ended,
        )  # fmt: skip
    else:
        at.runs[key] = Run(
            restart=restart, node=kept.node, started=kept.started,
            code=int(one["code"]), ended=epoch(int(one["ended"])),
        )  # fmt: skip


def judge(markers: Markers, job_id: str, number: str, member: str | None) -> JobStatus | str:
    """How a job ended by its marker, or why the marker does not say.

    ``member``: its number in an array; ``None`` for a whole job or array.
    """
    if markers.refused:
        return "others can write where its marker lies, so it is not believed"
    if markers.wrapped is None:
        return "the directory of the submission is gone"
    if not markers.wrapped:
        return "it was submitted without a launcher, so there is no marker"
    run = markers.runs.get((number, member))
    if run is not None:
        return _status(job_id, [run])
    runs = [one for (job, index), one in markers.runs.items() if job == number and index]
    if member is not None or not runs:
        return "no marker was written: it never started"
    ended = [one for one in runs if one.code is not None]
    if not markers.members or len(ended) != markers.members:
        size = markers.members or "nobody knows how many"
        return f"{len(ended)} of {size} members of the array wrote how they ended"
    return _status(job_id, runs)


def _status(job_id: str, runs: Sequence[Run]) -> JobStatus | str:
    worst = max(runs, key=lambda one: one.code or 0)
    if any(one.code is None for one in runs):
        open_run = next(one for one in runs if one.code is None)
        return f"started on {open_run.node}, no exit was written: killed, or the node died"
    code = worst.code or 0
    started, ended = _all(one.started for one in runs), _all(one.ended for one in runs)
    first, last = min(started, default=None), max(ended, default=None)
    nodes = tuple(dict.fromkeys(one.node for one in runs if one.node))
    return JobStatus(
        job_id,
        JobState.FAILED if code else JobState.COMPLETED,
        reason=f"exit status {code}" if code else None,
        exit_code=code,
        signal=code - 128 if 128 < code < 193 else None,
        nodes=nodes or None,
        started=first,
        ended=last,
        elapsed=last - first if first and last and last >= first else None,
        restarts=max(one.restart for one in runs) or None,
        source="marker",
    )


def _all(times: Iterable[datetime | None]) -> list[datetime]:
    return [one for one in times if one is not None]
