# shellcheck shell=sh
# Functions that ask LSF; scheduler.py calls them between the marks of a frame.
# $@: which jobs.
oj_bjobs() {
  oj_text=$(bjobs -a -o @FIELDS@ "$@" </dev/null)
  oj_rc=$?
  printf '%s\n' "$oj_text"
  return $oj_rc
}
oj_details() {
  bjobs -a -json -o @DETAILS@ "$@" </dev/null 2>/dev/null
}
