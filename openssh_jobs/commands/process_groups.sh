# shellcheck shell=sh
# Functions of process_groups.py.

# Whether process $1 began after the shell $2 of a session and before its process $3, so that it is
# of rc files.  At the system's largest number they begin anew.
oj_is_between() {
  if [ "$2" -lt "$3" ]; then [ "$1" -gt "$2" ] && [ "$1" -lt "$3" ]
  else [ "$1" -gt "$2" ] || [ "$1" -lt "$3" ]
  fi
}

# Sets oj_parent, oj_session and oj_began (clock ticks after the system's start) to what the process
# $1 has.
oj_origin() {
  oj_line=
  { IFS= read -r oj_line <"/proc/$1/stat"; } 2>/dev/null
  # shellcheck disable=SC2086 # words; a name of a program may hold any
  set -- ${oj_line##*') '}
  oj_parent=${2-} oj_session=${4-} oj_began=${20-}
  [ -n "$oj_began" ]
}

# Whether rc files started the process $1, or one that it descends from; $2 and $3 as above.
oj_is_of_rc() {
  oj_at=$1
  while [ "${oj_at:-0}" -gt 1 ]; do
    ! oj_is_between "$oj_at" "$2" "$3" || return 0
    oj_origin "$oj_at" || return 1
    oj_at=$oj_parent
  done
  return 1
}

# Whether descriptor $1 is a pipe or a socket.
oj_is_stream() { [ -p "$1" ] || [ -S "$1" ]; }

# Whether the process $1 holds a pipe or a socket as its stdout or stderr.
oj_has_stream() { oj_is_stream "/proc/$1/fd/1" || oj_is_stream "/proc/$1/fd/2"; }

# Whether the process $1 may write to one of the pipes $2...
oj_has_open() {
  [ -r "/proc/$1/fd" ] || return 0
  oj_dir=/proc/$1/fd
  shift
  for oj_fd in "$oj_dir"/*; do
    for oj_pipe do
      # shellcheck disable=SC3013 # where there is a /proc there is -ef
      [ ! "$oj_fd" -ef "$oj_pipe" ] || return 0
    done
  done
  return 1
}

# Whether the process $1, which leads a session, is a daemon of the command and not what another rc
# file left: started over our connection, after the process $2 and the time $3 (numbers begin anew),
# and another program than the processes $4..., which are of rc files.
oj_is_daemon() {
  if ! oj_origin "$1" || [ "$oj_session" != "$1" ] || [ -z "${SSH_CONNECTION-}" ]; then return 1; fi
  [ "$oj_began" -gt "${3:-$oj_began}" ] ||
    { [ "$oj_began" -eq "${3:-$oj_began}" ] && [ "$1" -gt "$2" ]; } || return 1
  # While it executes its program, arguments and environment are empty.
  grep -qsaF "SSH_CONNECTION=$SSH_CONNECTION" "/proc/$1/environ" ||
    ! grep -qsa . "/proc/$1/cmdline" || return 1
  oj_at=$1
  shift 3
  for oj_leader do
    ! cmp -s "/proc/$oj_leader/cmdline" "/proc/$oj_at/cmdline" || return 1
  done
}

# Sets oj_files to those of all processes that may matter, found by one program: there may be
# thousands.  By parent, process group and session; $1: see oj_is_left.
oj_find_files() {
  oj_n='[0-9]+'
  oj_files=$(grep -lsE "^$$ |\\) [A-Za-z] ($oj_n $oj_n $1|(1|$$) $oj_n $oj_n) " /proc/[0-9]*/stat)
  # Without this shell itself it did not work: nothing is known then.
  case $oj_files in *"/proc/$$/stat"*) ;; *) return 1 ;; esac
}

# Whether processes of rc files, and none of the command, hold the streams of a session.  $1: the
# session's shell, $2: a process that began after its rc files.  Only where there is a /proc.
oj_is_left() {
  oj_rc=no oj_pipes= oj_own= oj_orphans= oj_since= oj_leaders=
  # It has given up the streams: what keeps it is an EXIT trap.
  if oj_origin "$1"; then oj_rc=yes oj_since=$oj_began; fi
  oj_find_files "$1" || return 1
  for oj_p in $oj_files; do
    oj_p=${oj_p#/proc/} oj_p=${oj_p%/stat}
    if [ "$oj_p" = "$1" ] || ! oj_origin "$oj_p"; then continue; fi
    case $oj_session,$oj_parent in
      "$oj_p,$$")
        # What the rc files of this session put into one of its own, those of the other did, too.
        if oj_has_stream "$oj_p"; then oj_rc=yes oj_leaders="$oj_leaders $oj_p"; fi
        ;;
      "$1",*)
        oj_time=$oj_began
        if ! oj_is_of_rc "$oj_p" "$1" "$2"; then
          oj_own="$oj_own $oj_p"
          continue
        fi
        [ "${oj_since:-$oj_time}" -lt "$oj_time" ] || oj_since=$oj_time
        [ -r "/proc/$oj_p/fd" ] || oj_rc=yes
        for oj_fd in "/proc/$oj_p/fd/"[1-9]*; do
          if oj_is_stream "$oj_fd"; then oj_rc=yes oj_pipes="$oj_pipes $oj_fd"; fi
        done
        ;;
      *,1)
        if [ -r "/proc/$oj_p/fd" ] && ! oj_is_between "$oj_p" "$1" "$2"; then
          oj_orphans="$oj_orphans $oj_p"
        fi
        ;;
    esac
  done
  [ $oj_rc = yes ] || return 1
  # shellcheck disable=SC2086 # numbers, and paths without blanks
  for oj_p in $oj_own $oj_orphans; do
    ! oj_has_open "$oj_p" $oj_pipes || return 1
    oj_has_stream "$oj_p" || continue
    case " $oj_own " in *" $oj_p "*) return 1 ;; esac
    # It left the session, as a daemon does.
    ! oj_is_daemon "$oj_p" "$2" "$oj_since" $oj_leaders || return 1
  done
}
