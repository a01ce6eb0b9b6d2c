# shellcheck shell=sh disable=SC2086 # oj_ids and oj_queues are lists of words without blanks
# Functions that ask Grid Engine; scheduler.py calls them between the marks of a frame.
TZ=UTC0
export TZ
# Prints the answer oj_jobs of the command before; with the status of that.
oj_print() {
  oj_code=$?
  printf '%s\n' "$oj_jobs"
  return "$oj_code"
}
# Each answer behind a mark: an environment or a context can hold what looks like another job's.
oj_each() {
  for oj_id in $oj_ids; do
    printf '%s>%s\n' "$oj" "$oj_id"
    qstat -j "$oj_id" 2>/dev/null </dev/null
  done
  :
}
# Puts into oj_ids the jobs in a state of error, some of those that the pattern $1 names.
oj_failed() {
  oj_ids=
  if printf '%s\n' "$oj_jobs" | grep '<state>[A-Za-z]*E' >/dev/null; then
    oj_ids=$(printf '%s\n' "$oj_jobs" | awk -F'[<>]' -v wanted="^($1)\$" '
      $2 == "JB_job_number" { n = $3 }
      $2 == "state" && $3 ~ /E/ && n ~ wanted { print n }' 2>/dev/null |
      sort -u | head -n @FEW@)
  fi
}
# Held by its user, an operator or the system; in one query jobs that wait for others are listed,
# too (8.1.9).
oj_held() {
  for oj_kind in hu ho hs; do
    qstat -u "$1" -s $oj_kind -xml 2>/dev/null </dev/null || break
  done
}
# Puts into oj_who the owner of the job in oj_jobs.
oj_owner() {
  oj_who=$(printf '%s\n' "$oj_jobs" | sed -n 's/^owner: *//p' | sed 1q)
}
# A link that leads nowhere is one to the master's own disk; no file at all is a new cluster.
oj_accounting() {
  oj_file=${SGE_ROOT-}/${SGE_CELL:-default}/common/accounting
  if [ -r "$oj_file" ]; then
    echo yes
  elif [ -e "$oj_file" ] || [ -L "$oj_file" ]; then
    echo no
  fi
}
# Adds the queues of the jobs in oj_jobs that hit some limit to oj_queues.
oj_note_queues() {
  case $oj_jobs in
    *@ALL_IN_ONE@*)
      oj_queues="$oj_queues $(printf '%s\n' "$oj_jobs" | awk '$1 == "qname" { print $2 }')";;
  esac
}
# Puts into oj_jobs the records of the jobs $@ from one look for all jobs of this user, or what
# qacct said instead; the status is that of qacct.
oj_scan() {
  oj_jobs=$({
    printf '%s\n' "$@" .
    qacct -o "$(id -un)" -j 2>&1 </dev/null
    printf '\n. %d\n' $?
  } | awk '
    !is_asked { if ($0 == ".") is_asked = 1; else wanted[$1]; next }
    /^=====+[ \t]*$/ || $1 == "." { if (number in wanted) printf "%s", block; block = number = "" }
    $1 == "." { code = $2; next }
    $1 == "jobnumber" { number = $2 }
    { block = block $0 "\n"; if (lines++ < 20) said = said $0 "\n" }
    END { if (code) print said; exit code }')
}
# Of the jobs $@ those in oj_jobs that are tasks of an array: whether the queue has any of them,
# each answer behind a mark.
oj_lefts() {
  for oj_id in $({ printf '%s\n' "$@" . "$oj_jobs"; } | awk '
    !is_asked { if ($0 == ".") is_asked = 1; else wanted[$1]; next }
    $1 == "jobnumber" { number = $2 }
    $1 == "taskid" && $2 ~ /^[0-9]+$/ && number in wanted && !seen[number]++ { print number }')
  do
    printf '%s>%s\n' "$oj" "$oj_id"
    qstat -j "$oj_id" 2>&1 >/dev/null </dev/null
  done
  :
}
# Whether oj_jobs are tasks of an array.  The accounting has only tasks that are over: whether
# others are not, the queue says.
oj_is_array() {
  printf '%s\n' "$oj_jobs" | grep '^taskid *[0-9]' >/dev/null
}
oj_limits() {
  SGE_SINGLE_LINE=1
  export SGE_SINGLE_LINE
  set -f
  for oj_queue in $(printf '%s\n' $oj_queues | sort -u); do
    qconf -sq "$oj_queue" 2>/dev/null </dev/null
  done
  :
}
