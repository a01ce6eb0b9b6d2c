# shellcheck shell=sh disable=SC2086 # fields of /proc and ps(1) are split into words
# Functions that look at processes, start and signal them; shared by the scripts beside this one.
# oj_who says when a process began, in a form that is only compared; it fails for a process that is
# gone or a zombie.  oj_detach replaces a subshell by a command in a new session.
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
    # A Python ignores these signals, and the job would inherit that.
    exec python3 -c 'import os, signal as s, sys; os.setsid(); s.signal(s.SIGPIPE, s.SIG_DFL); \
s.signal(s.SIGXFSZ, s.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])' "$@"
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
