"""The shell text of ``direct``: what starts, watches and ends a job on the host.

For any POSIX sh (dash, bash, BusyBox); ``@NAMES@`` are filled in by direct.py, quoted.
"""

from ...files import private_directory

# Shared by the scripts.  oj_who says when a process began, in a form that is only compared; it
# fails for a process that is gone or a zombie.  oj_detach replaces a subshell by a command in a
# session of its own.
FUNCTIONS = r"""
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

# What is read or written of jobs lies in a private directory; oj_records fails with 2 where there
# is none yet, and changes into it.
RECORDS = (
    FUNCTIONS
    + private_directory.functions()
    + r"""
oj_refuse() { printf 'openssh_jobs: refused: %s\n' "$1" >&2; exit 1; }
oj_records() {
  cd -P "${HOME:?}" || return 1
  for oj_word in .openssh_jobs direct; do
    if [ "$1" = make ]; then oj_make "$oj_word" || [ $? -ne 2 ] || return 1
    elif ! oj_there "$oj_word"; then return 2
    fi
    oj_into "$oj_word" || return 1
  done
  oj_check 2 home
}
oj_try_records() {
  oj_said=$( (oj_records "$1" || { oj_r=$?; printf '%s\n' "$oj_why"; exit "$oj_r"; }) 2>&1)
  oj_r=$?
  [ "$oj_r" -ne 1 ] || oj_refuse "no directory for jobs: $oj_said"
  return "$oj_r"
}
"""
)

LOOK = RECORDS + "oj_try_records look\n"

# $1 directory of the job, $2 its id, $3 umask, $4 time limit or 0, $5 $6 where output and errors
# go, $7 the script.
LAUNCH = (
    FUNCTIONS
    + r"""
oj_dir=$1 oj_id=$2 oj_umask=$3 oj_limit=$4 oj_out=$5 oj_err=$6 oj_script=$7
trap 'oj_heard=1' HUP
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
trap 'oj_asked=1 oj_heard=1; [ -z "$oj_child" ] || oj_signal TERM' TERM
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
  oj_heard=
  wait "$oj_child"
  oj_code=$?
  # A signal for us ends the wait, too, and its number is not the child's code.
  [ -n "$oj_heard" ] || break
  if kill -0 "$oj_child" 2>/dev/null; then continue; fi
  # The child may have ended in the same moment: the shell still knows how, or (127) said it above.
  wait "$oj_child" 2>/dev/null
  oj_again=$?
  [ "$oj_again" -eq 127 ] || oj_code=$oj_again
  break
done
oj_end "$oj_code" ''
"""
)

CLAIM = r"""
oj_refuse() { printf 'openssh_jobs: refused: %s\n' "$1" >&2; exit 1; }
oj_script=@SCRIPT@
[ -e "$oj_script" ] || oj_refuse 'there is no such script'
[ -f "$oj_script" ] || oj_refuse 'the script is no regular file'
[ -r "$oj_script" ] || oj_refuse 'the script cannot be read'
[ -s "$oj_script" ] || oj_refuse 'the script is empty'
oj_umask=$(umask)
umask 077
oj_try_records make || oj_refuse 'no directory for the job can be made'
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

STATUS = r"""
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

CANCEL = r"""
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

CLEAN = r"""
if oj_try_records look; then (
  oj_records look || exit
  for oj_id in @IDS@; do
    (oj_into "$oj_id" && [ -e exit ] && [ -f job ] && [ -O job ] && oj_empty "$oj_id")
  done
  cd .. && rmdir ./direct 2>/dev/null && cd .. && rmdir ./.openssh_jobs 2>/dev/null
) fi
:
"""

NODES = r"""
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
