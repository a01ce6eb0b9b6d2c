# shellcheck shell=sh
# How Torque is asked, behind query.sh.
# Slurm's commands, which play Torque's, have no qselect and no -x, and their qstat calls an empty
# list an error, silently.  The record of a whole array comes with those of all jobs of the server
# (6.1), and its members without it: it is asked for when they are over.
oj_kind=torque
oj_lines() { tr '>' '\012'; }
oj_select() {
  if command -v qselect >/dev/null; then qselect "$@" </dev/null; return; fi
  oj_list=$(qstat "$@" 2>&1 </dev/null)
  oj_rc=$?
  if [ $oj_rc = 153 ] && [ -z "$oj_list" ]; then oj_rc=0; fi
  [ $oj_rc = 0 ] || printf '%s\n' "$oj_list" >&2
  printf '%s\n' "$oj_list" | sed -n 's/^\([0-9][^ ]*\) .*/\1/p'
  return $oj_rc
}
oj_asking() {
  oj_form=-x
  oj_ask "$@"
  case $oj_rc in 0|153|35) ;; *) oj_form=-f; oj_ask "$@" ;; esac
}
oj_jobs() {
  oj_asking "$@"
  oj_alone "$@"
}
oj_array() {
  printf 'OJ:%s begin alone\n%s\n' "$oj" "$1"
  oj_text=$(qstat -t -x "$1" </dev/null)
  oj_rc=$?
  printf '%s\n\nOJ:%s end alone %d\n' "$oj_text" "$oj" "$oj_rc"
  case $oj_text in *'<Job_Id>'*) ;; *) return ;; esac
  if printf '%s\n' "$oj_text" | oj_lines | grep '^[^C]</job_state$' >/dev/null; then return; fi
  printf 'OJ:%s begin alone\n%s\n' "$oj" "$1"
  qstat -f "$1" </dev/null | awk -v id="Job Id: $1" '
  BEGIN { RS = ""; ORS = "\n\n" } index($0, id) == 1'
  printf '\nOJ:%s end alone 0\n' "$oj"
}
