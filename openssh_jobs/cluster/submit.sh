# shellcheck shell=sh
# Runs the attempts of several submissions, one after the other, each under a limit.  timeout(1) makes
# a process group and ends that, so that nothing of it submits later, also when the session is gone;
# where there is another one, the attempt sees it.  Around the output of each there are marks on both
# streams.  None begins when the limit of the first is over, or after one that was killed: then the
# scheduler does not answer, and whoever reads this decides.
oj_mark=@MARK@ oj_limit=@LIMIT@ oj_functions=@FUNCTIONS@
oj_begins=
if timeout -s KILL 9 true 2>/dev/null; then oj_begins="timeout -s KILL $oj_limit"; fi
oj_end=$(($(date +%s) + oj_limit)) oj_stopped=
# The attempt of the submission with the number $1; the rest are the arguments of oj_attempt.
oj_next() {
  oj_i=$1
  shift
  [ -z "$oj_stopped" ] && [ "$(date +%s)" -lt "$oj_end" ] || { oj_stopped=yes; return; }
  printf '%s begin %d\n' "$oj_mark" "$oj_i"
  printf '%s begin %d\n' "$oj_mark" "$oj_i" >&2
  # shellcheck disable=SC2086 # two words, or none
  $oj_begins /bin/sh -c "$oj_functions" openssh-jobs "$@" </dev/null
  oj_r=$?
  printf '\n%s end %d %d\n' "$oj_mark" "$oj_i" "$oj_r"
  printf '\n%s end %d %d\n' "$oj_mark" "$oj_i" "$oj_r" >&2
  case $oj_r in 12[467]|1[3-9]?|2??) oj_stopped=yes;; esac
}
# Uploaded directories in which several jobs begin stay: by the mark $2 no submission removes them.
oj_keep() {
  (cd -P "$1" || exit; [ ! -f "$2" ] || mv -f "$2" "$2.sent")
}
@ATTEMPTS@
printf '%s over\n' "$oj_mark"
