# shellcheck shell=sh disable=SC2086 # oj_over is a list of ids
# How PBS is asked, behind query.sh.
oj_kind=pbs
oj_lines() { cat; }
oj_select() { qselect "$@" </dev/null; }
oj_asking() {
  oj_form="$oj_x -f -F dsv -D |$oj|"
  oj_ask "$@"
}
oj_jobs() {
  oj_x=-x
  [ $# -le 20 ] || case $(qstat -x -f "$1" 2>&1 </dev/null) in *@NO_HISTORY@*) oj_x= ;; esac
  oj_asking "$@"
  case $oj_x$oj_rc:$oj_text in
    *@NO_HISTORY@*) oj_x=; oj_asking "$@" ;;
    -x0:*'Job Id: '*|-x153:*|-x35:*|[0-9]*) ;;
    *) oj_x=; oj_asking "$@" ;;
  esac
  oj_alone "$@"
  oj_over=$(printf '%s\n' "$oj_text" | awk '
  /^Job Id: [0-9]+\[\][|.]/ && /[|]job_state=[FXC][|]/ { sub(/[|].*/, "", $3); print $3 }')
  [ -z "$oj_over" ] || oj_asking -t $oj_over
}
