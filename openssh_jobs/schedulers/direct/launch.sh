# shellcheck shell=sh disable=SC2295 # the expansion is a set of blanks inside brackets
# Runs as a process of its own, behind processes.sh: starts the job's script, watches it and writes
# the exit record.
# $1 directory of the job, $2 its id, $3 umask, $4 time limit in seconds or 0, $5 and $6 where
# output and errors go, $7 the script, $8 the submission's private directory or nothing; arguments of
# the script behind them.
oj_dir=$1 oj_id=$2 oj_umask=$3 oj_limit=$4 oj_out=$5 oj_err=$6 oj_script=$7 oj_place=$8
shift 8
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
# Of the jobs that were started for one submission the first to link its id does the work.
oj_take() {
  printf '%s\n' "$oj_id" >"$oj_dir/owner" || return
  ln "$oj_dir/owner" "$oj_place/owner" || [ -e "$oj_place/owner" ] ||
    (set -C; printf '%s\n' "$oj_id" >"$oj_place/owner")
  IFS= read -r oj_has <"$oj_place/owner"
}
if [ -n "$oj_place" ]; then
  if ! oj_take 2>/dev/null && [ -d "$oj_place" ]; then
    oj_end 126 "cannot write the job's id to the directory of its submission"
  fi
  if [ "${oj_has-}" != "$oj_id" ]; then rm -rf "$oj_dir"; exit 0; fi
fi
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
set -- "$oj_script" "$@"
if [ -n "$oj_arg" ]; then set -- "$oj_arg" "$@"; fi
set -- "$oj_how" "$@"
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
# Wait until the child leads a new session (or has ended), because signals go to its group.
oj_group() {
  if [ -r /proc/self/stat ]; then
    IFS= read -r oj_g 2>/dev/null <"/proc/$1/stat" || return 1
    oj_g=${oj_g##*) }
    # shellcheck disable=SC2086 # fields of /proc
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
