"""A launcher for schedulers that may run a script with any shell: Grid Engine, PBS, Torque.

They may run it with the shell of the queue, the login shell of the user, the one that ``-S`` names
(here, in the script, or in a file of the site's), or the one of its first line; as a file or on
stdin; as a login shell or not (queue_conf(5) ``shell_start_mode``, qsub(1) ``-S``).  So what is
submitted are two lines that mean the same to every shell (sh, bash, zsh, ksh, csh, tcsh,
fish): the first writes down what runs it, the second makes a launcher of it.  That one then runs
the script in the same way: same program, same ``argv[0]``, same environment, as a file or on stdin.

The interpreter is read from /proc (Linux).  If that is not possible, or the result cannot be
written, Grid Engine's own description of the job (``$SGE_JOB_SPOOL_DIR/config``) is used, or else
the script's first line.  Pure.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ...commands import scripts
from ...commands.quoting import to_text
from ...commands.scripts import Shell, Value
from ..fields import expand_array, quote
from ..framing import as_is
from .launcher import BODY, LONGEST, SHEBANG, Convention, header_of, launch_text

__all__ = ["ENVIRONMENT", "LauncherFiles", "launcher_files"]

SCRIPT, LOOK, LAUNCH = (f"{BODY}/{name}" for name in ("body", "look", "launch"))
"""Where, beside the submitted script, lie the script, the first of the two lines and the second."""
ENVIRONMENT = f"{BODY}/env"
"""Where variables for the job lie, ``NAME=value`` with a zero byte behind each."""

# Within single quotes these are nothing special to any shell, nor to Python and Perl.
_PLAIN = re.compile(r"[^\x00-\x1f'\\!\x7f]{1,900}\Z")
_SHELLS = re.compile(r"(?:r?bash|d?ash|r?zsh|[a-z]*ksh|r?sh|t?csh|bsd-csh|fish)(?:-?[0-9.]+)?\Z")
_OTHERS = (
    (re.compile(r"python[0-9.]*\Z"), "import os, signal\n"
     "for one in (signal.SIGPIPE, signal.SIGXFSZ): signal.signal(one, signal.SIG_DFL)\n"
     "os.spawnv(os.P_WAIT, '/bin/sh', ['sh', '{look}'])\n"
     "os.execv('/bin/sh', ['sh', '{launch}'])\n"),
    (re.compile(r"perl[0-9.]*\Z"), "system {{'/bin/sh'}} 'sh', '{look}';\n"
     "exec {{'/bin/sh'}} 'sh', '{launch}';\n"),
)  # fmt: skip
_OF_SHELLS = "/bin/sh '{look}'\nexec /bin/sh '{launch}'\n"


@dataclass(frozen=True, slots=True)
class LauncherFiles:
    """What is written: ``submitted`` in the script's place, and two files beside the script."""

    submitted: bytes
    look: bytes
    launch: bytes


def launcher_files(
    script: bytes,
    how: Convention,
    *,
    directory: str,
    members: int = 0,
    options: Sequence[str] = (),
    arguments: Sequence[str] = (),
) -> LauncherFiles | str:
    """The files of a launcher around this script, or why there can be none.

    ``directory``: the submission's own, absolute.  ``options``: of the submit command, which may
    name the shell.  ``members``: the size of the array as it was asked for.
    ``arguments``: of the script, without newlines.
    """
    if not _PLAIN.match(directory) or re.search(r"[\udc80-\udcff]", directory):
        return f"the path {directory!r} means different things to different shells"
    found = SHEBANG.match(script)
    first = script.partition(b"\n")[0]
    if first.startswith(b"#!") and (found is None or len(first) > LONGEST):
        return "its first line is too long, or names no program"
    if how.default is not None and re.search(r"(?:^|\0)-b\0y", "\0".join(options)):
        return "with -b y it is a program and no script"
    if how.anywhere is None and b"\r\n" in script:
        return "PBS takes no script with DOS line ends"
    header = _directives(script, how)
    shells = _named_shells(script, how, options)
    names = {path.rpartition("/")[2] for path in shells}
    code, own = _OF_SHELLS, ["/bin/sh", "-"]
    if not all(_SHELLS.match(name) for name in names):
        path = shells[-1]
        codes = [text for pattern, text in _OTHERS if all(pattern.match(name) for name in names)]
        if not codes or how.default is None or len(set(shells)) != 1 or not _PLAIN.match(path):
            return f"-S {','.join(shells)} names no shell that can run a launcher"
        code, own = codes[0], [path]
        header = [line for line in header if line.startswith(how.prefix or b"#")]
        header.insert(0, b"#")  # in the first two lines Python looks for an encoding
        if not all(line.isascii() for line in header):
            return f"{path} could refuse a directive that is not ASCII"
    paths = {"look": f"{directory}/{LOOK}", "launch": f"{directory}/{LAUNCH}"}
    # Behind a comment that ends in a backslash csh takes the next line for a part of it.
    head = [b"#!" + " ".join(own).encode(), *header, b"#"]
    submitted = b"\n".join(head) + b"\n" + code.format(**paths).encode("utf-8", "surrogateescape")
    places: dict[str, Value] = {"place": f"{directory}/{BODY}", "member": as_is(how.member)}
    words = None if found is None else (found[1], *((found[2],) if found[2] else ()))
    seen, itself = _start_text(script, how, words, own)
    launch = launch_text(
        how,
        directory=directory,
        body=f"{directory}/{SCRIPT}",
        members=members or _members(header, how),
        start=_text("start", seen=seen, itself=itself, arguments=arguments, **places),
        count=_text("count"),
    )
    return LauncherFiles(
        submitted,
        scripts.script("schedulers/launcher/look", **places),
        b"PATH=${PATH-}:/usr/bin:/bin\n" + launch,
    )


def _text(name: str, **values: Value) -> str:
    """A part of launch.sh, without its last newline."""
    return to_text(scripts.script(f"schedulers/launcher/{name}", **values)).rstrip("\n")


def _directives(script: bytes, how: Convention) -> list[bytes]:
    """The lines in which the scheduler may look for directives."""
    first, _, rest = script.partition(b"\n")
    if how.anywhere is None:
        return header_of(rest if first.startswith((b"#!", b":")) else script)
    lines = rest if SHEBANG.match(script) is not None else script
    return [line for line in lines.split(b"\n") if how.anywhere.match(line)]


def _members(header: Sequence[bytes], how: Convention) -> int:
    """The size of the array that directives of the script ask for; 0 where there is none."""
    array, prefix = how.array, how.prefix
    size = 0
    for line in header if array and prefix else ():
        if line.startswith(prefix or b"#"):
            words = _split(line[len(prefix or b"") :].decode("utf-8", "surrogateescape"))
            for word, value in pairwise((*words, "")):
                if array is not None and word.startswith(array):
                    size = len(expand_array(word.removeprefix(array) or value))
    return size


def _named_shells(script: bytes, how: Convention, options: Sequence[str]) -> list[str]:
    """The programs that ``-S`` names: those of the options, else those of the script itself.

    ``[host:]path,...`` for Grid Engine, ``path[@host],...`` for PBS.
    """
    words = list(options)
    if "-S" not in words:
        prefix = how.prefix or b"#"
        if "-C" in words[:-1]:
            prefix = words[words.index("-C") + 1].encode("utf-8", "surrogateescape")
        for line in script.split(b"\n"):
            if prefix and line.startswith(prefix) and b"-S" in line:
                words += _split(line[len(prefix) :].decode("utf-8", "surrogateescape"))
    places = [number for number, word in enumerate(words[:-1]) if word == "-S"]
    if not places:
        return []
    named = words[places[-1] + 1].split(",")
    return [path.partition("@")[0].rpartition(":")[2] for path in named if path]


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def _start_text(
    script: bytes, how: Convention, words: Sequence[bytes] | None, own: Sequence[str]
) -> tuple[Shell, Shell]:
    """Shell text for ``start.sh``: whether what runs it is what its own first line names, and
    what then makes ``oj_exe`` and the arguments.
    """
    first = how.default.decode() if how.default is not None else None
    if words is not None:
        itself = " ".join(quote(word.decode("utf-8", "surrogateescape")) for word in words)
        itself = f'oj_exe={itself.split(" ", 1)[0]}\n  set -- {itself} "$oj_run"'
    elif first is not None:
        # execvp(3) runs a file without a first line that way.
        itself = f'oj_exe={first}; set -- {first} "$oj_run"'
    else:
        csh = "csh|*-csh|tcsh" if script.startswith(b"#") else "no"
        itself = (
            'oj_exe=$(readlink "/proc/$PPID/exe")\n'
            f"  case ${{oj_exe##*/}} in bash|dash|*ksh|ksh93|{csh}) ;; *) oj_exe=/bin/sh ;; esac\n"
            '  set -- "$oj_exe" "$oj_run"'
        )
    seen = " ".join(own)
    given = '"${1-} ${2-}"' if len(own) > 1 else '"${1-}"'
    test = f"[ {given} = {quote(seen)} ]"
    return as_is(test), as_is(itself)
