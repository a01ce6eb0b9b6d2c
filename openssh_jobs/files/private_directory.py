"""Private directories on the host: shell text that makes, enters, checks and removes them.  Pure.

A private directory holds what must not be read or changed by others: the script as it was
submitted, ``env``, exit records.  It is ours, no link, and nobody else can write in it; and none of
the directories above it lets others rename or replace what leads to it (theirs, or writable by
others without the sticky bit).  Whoever stands between two of our steps can then change nothing.

The shell functions go into the directory first and look around from there: ``.``, ``..``, ``../..``
are what they are, whatever names are swapped meanwhile.  Owner and mode are asked with find(1)
(``-user``, ``-perm``), which GNU, BusyBox and the BSDs have.  A POSIX ACL needs no look of its own:
its mask is the group's bits, so whoever may write by it shows there.  A home on NFS counts by the
numbers that the client sees: where root is squashed, root's directories are still root's.

For any POSIX sh (dash, bash, BusyBox, ksh).  ``oj_why`` says why a directory was not taken.
"""

from __future__ import annotations

from ..commands import scripts
from ..commands.quoting import quote, to_text

PRIVATE = ".openssh_jobs"
"""The private directory's name, in a job's directory and in the home directory."""
MARK = ".oj-mark"
"""In each submission's own directory: which call made it, and for which directory of a job."""
MADE = ".oj-made-"
"""Begins the name of an empty file in a job's directory that a call of ``submit`` has made."""


def functions() -> str:
    """The shell functions that enter, check and empty private directories."""
    return to_text(scripts.read("files/private_directory"))


# $1 $2 $3: directory of the job, token, call.  0: made, and we are in it; 1: it cannot be safe;
# 2: an error, told on stderr; 3: there is one of this token already.
_PLACE = r"""
oj_place() {
  oj_reason= oj_private=
  cd -P "$1" || return 2
  if [ ! -w . ] && ! oj_there .openssh_jobs; then oj_make .openssh_jobs || return 2; fi
  if oj_check 0 all; then
    oj_make .openssh_jobs || [ $? -ne 2 ] || return 2
    if oj_into .openssh_jobs && oj_check 1 all; then
      oj_private=${PWD%/.openssh_jobs}
      if [ "$oj_private" != "$1" ] && oj_straight "$1"; then oj_private=$1; fi
      oj_private=${oj_private%/}/.openssh_jobs
      oj_own "$@"
      return
    fi
  fi
  oj_reason=$oj_why
  if [ -n "${HOME-}" ] && cd -P "$HOME" && oj_check 0 home; then
    oj_make .openssh_jobs || [ $? -ne 2 ] || return 2
    if oj_into .openssh_jobs && oj_check 1 home; then
      oj_private=${HOME%/}/.openssh_jobs
      oj_own "$@"
      return
    fi
  fi
  return 1
}
oj_own() {
  oj_make "$2"
  case $? in 1) return 3;; 2) return 2;; esac
  oj_private=$oj_private/$2
  oj_into "$2" && (set -C; umask 077; printf 'openssh_jobs %s\n%s\n.' "$3" "$1" >.oj-mark) ||
    return 2
}
"""


def place_functions() -> str:
    """The shell functions with ``oj_place``, which makes a private directory."""
    return functions() + _PLACE


def remove_script(directory: str, token: str, call: str = "") -> bytes:
    """Remove the directory of a submission, where it is ours and carries our mark.

    ``call``: only if this call has made it.  Status 0 also where there is nothing; 1 with the
    reason on stderr where something is there that cannot be taken for ours; 4 where it stays.
    """
    script = (
        b"oj_find %b %b; oj_r=$?; if [ $oj_r -eq 2 ]; then exit 0; fi; "
        b'if [ $oj_r -eq 0 ] && oj_marked "" %b; then oj_empty %b || exit 4; '
        b"cd .. && rmdir ./.openssh_jobs 2>/dev/null; exit 0; fi; "
        b'printf "%%s\\n" "${oj_why:-$PWD carries no mark of this package}" >&2; exit 1'
    )
    return functions().encode() + script % tuple(map(quote, (directory, token, call, token)))


def remove_made_script(directory: str, call: str) -> bytes:
    """Remove a job's directory that a call of ``submit`` has made and nobody has replaced.

    What an upload put there goes with it, where nobody else could have moved the mark there; one
    that was only made goes if it is empty.
    """
    script = (
        b'oj_m=%b; cd -P %b 2>/dev/null && [ -f "$oj_m" ] && [ ! -L "$oj_m" ] && [ -O "$oj_m" ] || '
        b'exit 0; oj_d=${PWD##*/}; if [ ! -s "$oj_m" ]; then rm -f "$oj_m"; '
        b'oj_leave "$oj_d" 2>/dev/null; exit 0; fi; '
        b'if oj_check 1 self; then oj_empty "$oj_d"; exit; fi; '
        b'printf "%%s\\n" "$oj_why" >&2; exit 1'
    )
    return functions().encode() + script % (quote("./" + MADE + call), quote(directory))
