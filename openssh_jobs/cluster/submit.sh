# shellcheck shell=sh
# Runs the attempts of several submissions, one after the other, each under a limit.  timeout(1) makes
# a process group and ends that, so that nothing of it submits later, also when the session is gone;
# where there is another one, the attempt sees it.  Around the output of each there are marks on both
# streams.  None begins when the limit of the first is over, or after one that was killed: then the
# scheduler does not answer, and whoever reads this decides.
oj_mark=@MARK@ oj_number=@NUMBER@ oj_limit=@LIMIT@ oj_functions=@FUNCTIONS@
@WHERE@
oj_begins=
if timeout -s KILL 9 true 2>/dev/null; then oj_begins="timeout -s KILL $oj_limit"; fi
oj_end=$(($(date +%s) + oj_limit)) oj_stopped=
# The next attempts are for jobs in the directory $2 with the mark $3, whose private directories are
# in $1.
oj_in() { oj_base=$1 oj_dir=$2 oj_made_mark=$3; }
# The attempt of the submission with the number $1 and the private directory $2, with the nonce $3;
# $4 the name of the file with the variables of env= or nothing, $5 the submit command or nothing,
# $6 the digest of the submission.
oj_next() {
  if [ -z "$oj_stopped" ]; then
    oj_now=$(date +%s)
    [ "$oj_now" -lt "$oj_end" ] || oj_stopped=yes
  fi
  [ -z "$oj_stopped" ] || return
  printf '%s begin %d\n' "$oj_mark" "$1"
  printf '%s begin %d\n' "$oj_mark" "$1" >&2
  oj_place=$oj_base/$2
  # shellcheck disable=SC2086 # three words, or none
  $oj_begins /bin/sh -c "$oj_functions" openssh-jobs "$oj_place" "$oj_number" "$3" "$oj_limit" \
    "$oj_dir" "${4:+"$oj_place/$4"}" "$5" "$oj_made_mark" "openssh_jobs: $3: not started" \
    "openssh_jobs: $3: taken" "$oj_now" "$oj_here" "$6" </dev/null
  oj_r=$?
  printf '\n%s end %d %d\n' "$oj_mark" "$1" "$oj_r"
  printf '\n%s end %d %d\n' "$oj_mark" "$1" "$oj_r" >&2
  case $oj_r in 12[467]|1[3-9]?|2??) oj_stopped=yes;; esac
}
# Uploaded directories in which several jobs begin stay: by the mark $2 no submission removes them.
oj_keep() {
  (cd -P "$1" || exit; [ ! -f "$2" ] || mv -f "$2" "$2.sent")
}
@ATTEMPTS@
printf '%s over\n' "$oj_mark"
