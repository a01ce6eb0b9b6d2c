"""The launcher: a script around a job's script that writes down how it ended.

For hosts that keep no accounting.  ``wrap`` makes the text that is submitted instead of the script;
what it writes, and who reads it, is in exit_record.py.  Pure.

The launcher runs in dash, bash and BusyBox.  It exports nothing, and what it starts gets the stdin,
the output, the arguments and the directory that the script would have got.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...commands import scripts
from ..fields import quote
from ..framing import as_is

__all__ = [
    "GRID_ENGINE_JOBS", "LSF_JOBS", "PBS_JOBS", "SLURM_JOBS", "TORQUE_JOBS", "Convention",
    "launch_text", "wrap",
]  # fmt: skip

BODY = ".script"
"""The directory beside the launcher in which the script itself lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """What one scheduler does with a script, as far as a launcher has to do it too.

    ``anywhere``: what a directive line begins with where they count on any line; ``None`` where
    the first line that is not a comment ends them.  ``default``: what runs a script without ``#!``;
    ``None`` where there can be none.  ``spooled``: the file name that the script has when it runs,
    ``None`` for its own.  ``job``, ``member``, ``restart``, ``members``, ``node``: shell words for
    the job's number, the number in the array (empty outside one), the count of restarts (empty for
    none), the size of the array (empty where it is unknown) and the node's name.  ``owner``: the
    job's id as the submit command printed it, ``None`` where that is ``job``.

    ``prefix``: what a directive begins with, for a scheduler that may run the script with any
    shell; ``None`` where the first line names it.  See any_shell.py.
    ``brings_environment``: jobs do not get the environment of the submit command, so variables come
    by a file beside the launcher.  ``is_better``: what the job wrote of its end is believed where
    the scheduler says another exit code.  ``array``: the option of a directive that makes an array,
    for a scheduler whose jobs are not told how many elements there are.
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
    array: str | None = None


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
    array="-t",
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
    array="-J",
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
    array="-t",
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

    ``directory``: for the exit record, absolute.  ``body``: the script's path.  ``members``: the
    size of the array as it was asked for.  ``bash``: whether there is a /bin/bash, which hands on
    exported shell functions that dash would lose.  ``None``: the scheduler would refuse the script,
    or it is not known what would run it.
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
    """The lines in which directives are looked for: all up to the first non-comment.

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
