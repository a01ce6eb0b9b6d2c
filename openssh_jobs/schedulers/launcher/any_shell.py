"""A launcher where nobody knows beforehand what will run the script: Grid Engine, PBS, Torque.

They may run it with the shell of the queue, the login shell of the user, the one that ``-S`` names
(here, in the script, or in a file of the site's), or the one of its first line; as a file or on
stdin; as a login shell or not (queue_conf(5) ``shell_start_mode``, qsub(1) ``-S``).  So what is
submitted is a stub of two lines that mean the same to every shell (sh, bash, zsh, ksh, csh, tcsh,
fish): the first writes down what runs it, the second makes a launcher of it.  That one then runs
the script in the same way: same program, same ``argv[0]``, same environment, as a file or on stdin.

What stands in /proc counts (Linux).  Where it is not to be had, or nothing can be written down, it
is Grid Engine's own description of the job (``$SGE_JOB_SPOOL_DIR/config``), or else the script's
first line.  Pure.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ..fields import quote
from .launcher import BODY, LONGEST, SHEBANG, Convention, header_of, launch_text

__all__ = ["ENVIRONMENT", "Files", "stub_files"]

SCRIPT, LOOK, LAUNCH = (f"{BODY}/{name}" for name in ("body", "look", "launch"))
"""Where, beside the stub, lie the script, the first of the two lines and the second."""
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
class Files:
    """What is written: the stub in the script's place, and two files beside the script."""

    stub: bytes
    look: bytes
    launch: bytes


def stub_files(
    script: bytes,
    how: Convention,
    *,
    directory: str,
    members: int = 0,
    options: Sequence[str] = (),
) -> Files | str:
    """The files of a launcher around this script, or why there can be none.

    ``directory``: the submission's own, absolute.  ``options``: of the submit command, which may
    name the shell.  ``members``: the size of the array as it was asked for.
    """
    if not _PLAIN.match(directory) or re.search(r"[\udc80-\udcff]", directory):
        return f"the path {directory!r} means different things to different shells"
    found = SHEBANG.match(script)
    first, _, rest = script.partition(b"\n")
    if first.startswith(b"#!") and (found is None or len(first) > LONGEST):
        return "its first line is too long, or names no program"
    if how.default is not None and re.search(r"(?:^|\0)-b\0y", "\0".join(options)):
        return "with -b y it is a program and no script"
    if how.anywhere is None:
        if b"\r\n" in script:
            return "PBS takes no script with DOS line ends"
        header = header_of(rest if first.startswith((b"#!", b":")) else script)
    else:
        lines = rest.split(b"\n") if found is not None else script.split(b"\n")
        header = [line for line in lines if how.anywhere.match(line)]
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
    stub = b"\n".join(head) + b"\n" + code.format(**paths).encode("utf-8", "surrogateescape")
    words = None if found is None else (found[1], *((found[2],) if found[2] else ()))
    start = _start_text(script, how, words, own)
    return Files(
        stub,
        _filled(_LOOK, directory, how).encode("utf-8", "surrogateescape"),
        _PATH.encode()
        + launch_text(
            how,
            directory=directory,
            body=f"{directory}/{SCRIPT}",
            members=members,
            start=_filled(start, directory, how),
            count=_COUNT,
        ),
    )


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
    return [one.partition("@")[0].rpartition(":")[2] for one in named if one]


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def _filled(text: str, directory: str, how: Convention) -> str:
    values = {"@PLACE@": quote(f"{directory}/{BODY}"), "@MEMBER@": how.member}
    return re.sub("@(?:PLACE|MEMBER)@", lambda mark: values[mark[0]], text)


def _start_text(
    script: bytes, how: Convention, words: Sequence[bytes] | None, own: Sequence[str]
) -> str:
    """The shell text that runs the script as the stub was run."""
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
    return _START.replace("@SEEN@", f"[ {given} = {quote(seen)} ]").replace("@ITSELF@", itself)


_PATH = "PATH=${PATH-}:/usr/bin:/bin\n"
# The process that runs the stub is the parent here, and becomes the launcher: its number stays.
_LOOK = r"""
PATH=${PATH-}:/usr/bin:/bin
exec 2>/dev/null
umask 077
oj_seen=@PLACE@/seen.$PPID.$(uname -n).@MEMBER@
cat "/proc/$PPID/environ" >"$oj_seen.env" || rm -f "$oj_seen.env"
readlink "/proc/$PPID/exe" >"$oj_seen.exe" &&
tr '\000' '\012' <"/proc/$PPID/cmdline" >"$oj_seen.args" || rm -f "$oj_seen.args"
"""
# These schedulers do not count the runs of a job, so the files do.  A file of an earlier run may
# not be seen yet where it was written on another node: an end that is none is taken away.
_COUNT = r"""if [ -z "$oj_restart" ] && [ -e "$oj_dir/start.$oj_key" ]; then oj_restart=1; fi
while [ -n "$oj_restart" ] && [ -e "$oj_dir/start.$oj_key.$oj_restart" ]; do
  oj_restart=$((oj_restart + 1))
done
rm -f "$oj_dir/exit.$oj_key${oj_restart:+.$oj_restart}"
"""
# What the stub's shell got from its start files is theirs: the script's shell reads them itself,
# and begins with the environment that the stub began with.
_START = r"""oj_seen=@PLACE@/seen.$$.$(uname -n).@MEMBER@
oj_exe= oj_run= oj_way=
set --
if [ -s "$oj_seen.args" ]; then
  oj_way=known
  while IFS= read -r oj_word; do
    if [ -z "$oj_run" ] && [ $# -gt 0 ] && [ -f "$oj_word" ]; then
      oj_run=@PLACE@/${oj_word##*/}
      ln -s body "$oj_run"
      [ "$(readlink "$oj_run")" = body ] || oj_run=$oj_body
      oj_word=$oj_run
    fi
    set -- "$@" "$oj_word"
  done <"$oj_seen.args"
  IFS= read -r oj_exe <"$oj_seen.exe"
elif [ -r "${SGE_JOB_SPOOL_DIR-}/config" ]; then
  oj_login=
  while IFS= read -r oj_word; do
    case $oj_word in
      shell_path=*) oj_exe=${oj_word#*=} ;;
      shell_start_mode=*) oj_way=${oj_word#*=} ;;
      use_login_shell=1) oj_login=- ;;
    esac
  done <"$SGE_JOB_SPOOL_DIR/config"
  case $oj_way in
    posix_compliant) oj_run=$oj_body; set -- "$oj_login${oj_exe##*/}" "$oj_body" ;;
    script_from_stdin) set -- "$oj_login${oj_exe##*/}" -s ;;
    *) oj_way= ;;
  esac
fi
if [ -z "$oj_way" ] || @SEEN@; then
  oj_run=${oj_run:-$oj_body}
  @ITSELF@
else
  [ -n "$oj_run" ] || exec 8<"$oj_body"
  [ -x "$oj_exe" ] || oj_exe=${SHELL:-/bin/sh}
fi
oj_hand='my$m=shift;local$/;for my$n("<&=7",$m?"<$m":()){open F,$n or exit 127;$_=<F>;close F;
  for(split/\0/){my($k,$v)=split/=/,$_,2;$ENV{$k}=$v if defined$v}}
  $SIG{INT}=$SIG{QUIT}="DEFAULT";my$p=shift;exec{$p}@ARGV;exit 127'
oj_shell='m=$1 b=$2 f=$3 e=() p=$4; shift 4
  while IFS= read -r -d "" w <&7; do case $w in -*) ;; *=*) e+=("$w") ;; esac; done
  exec 7<&- env $b $f "${e[@]}" "$BASH" -p -c '\''if [ -n "$1" ]; then
    while IFS= read -r -d "" w; do export "$w"; done <"$1"; fi
    exec -a "$2" "$0" "${@:3}"'\'' "$p" "$m" "$@"'
oj_flag=
case $oj_reset in 'env '*) oj_flag=${oj_reset#env } ;; esac
oj_bare= oj_more=
[ ! -s @PLACE@/env ] || oj_more=@PLACE@/env
if [ -s "$oj_seen.env" ]; then oj_bare='env -i'; exec 7<"$oj_seen.env"; else exec 7</dev/null; fi
if $oj_bare /usr/bin/perl -e 1; then
  set -- $oj_bare /usr/bin/perl -e "$oj_hand" "$oj_more" "$oj_exe" "$@"
elif [ -n "$oj_bare$oj_more" ] && [ -x /bin/bash ]; then
  set -- "$oj_flag" "$oj_exe" "$@"
  set -- ${oj_bare:-env} /bin/bash -p -c "$oj_shell" sh "$oj_more" "${oj_bare#env}" "$@"
elif [ -n "$oj_more" ]; then
  echo 'openssh_jobs: this node has neither perl nor bash to set the variables of env=' >&9
  oj_write exit "127 $(date +%s)"
  kill -9 "$oj_still"
  exit 127
else
  oj_word=$1
  shift
  case ${oj_exe##*/}$oj_word in *csh-*) ;; *sh-*) set -- -l "$@" ;; esac
  set -- $oj_reset "$oj_exe" "$@"
fi
rm -f "$oj_seen.env" "$oj_seen.exe" "$oj_seen.args"
"$@" <&8 2>&9 8<&- 9>&- &
exec 7<&-"""
