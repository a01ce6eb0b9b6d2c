# shellcheck shell=sh disable=SC2086 # oj_where is the option for another cluster, or nothing
# Functions that ask Slurm why jobs wait and what they used; explain.py calls them between the
# marks of a frame.  None of these fields holds a text that users choose.
# The jobs $1 (numbers, with commas), what they wait for, and the scheduler's estimates.
oj_waiting() {
  oj_jobs=$1
  oj_said=$(squeue $oj_where -h -a -t all -j "$oj_jobs" -O @WAITING@ 2>/dev/null </dev/null)
  oj_rc=$?
  printf '%s\n' "$oj_said"
  return "$oj_rc"
}
# Those that they wait for, at most oj_most.
oj_awaited() {
  oj_ids=$(printf '%s\n' "$oj_said" | cut -c @BEHIND@- |
    sed 's/+[0-9]*//g; s/_[0-9*]*//g; s/[^0-9][^0-9]*/ /g' | tr ' ' '\n' | sed '/^$/d' |
    sort -u | head -n @MOST@ | tr '\n' ',')
  [ -n "$oj_ids" ] || return 0
  # A single id that is forgotten is an error, two are not.
  squeue $oj_where -h -a -t all -j "$oj_ids$oj_ids" -O @AWAITED@ 2>/dev/null </dev/null
}
# The states of the nodes that the reasons and the jobs in oj_said name.
oj_nodes() {
  oj_column=@BEFORE@
  oj_names=$(printf '%s\n' "$oj_said" | sed -n '
    s/.*UnavailableNodes:\([][A-Za-z0-9_.,-]*\).*/\1/p
    s/^.\{'"$oj_column"'\}\([][A-Za-z0-9_.,-]*[a-z0-9]\]*\).*/\1/p' |
    sort -u | head -n @MOST@ | tr '\n' ',')
  [ -n "$oj_names" ] || return 0
  sinfo $oj_where -h -a -N -n "${oj_names%,}" -o '%N %T' 2>/dev/null </dev/null | sort -u
}
# For each of the jobs in oj_said that wait in the queues $1: how many that could start come first.
oj_ahead() {
  { printf '%s\n' "$oj_said"; echo "="
    squeue $oj_where -h -a -t PD -p "$1" -O @AHEAD@ 2>/dev/null </dev/null; } |
    awk '
      $1 == "=" { others = 1; next }
      { number = $1; sub(/[^0-9].*/, "", number) }
      !others && NF > 2 { at[$1] = number; priority[$1] = $3; ahead[$1] = 0; next }
      others && ($3 == "Priority" || $3 == "Resources") && !seen[$1]++ {
        for (one in at)
          if ($2 + 0 > priority[one] + 0 || ($2 + 0 == priority[one] + 0 && number + 0 < at[one] + 0))
            ahead[one]++
      }
      END { for (one in ahead) print one, ahead[one] }'
}
# What the jobs $1 used, each step by itself; an old sacct does not know all of it.
oj_usage() {
  oj_said=$(sacct $oj_where -n -P -o @USAGE@,Reason -j "$1" 2>/dev/null </dev/null) ||
    oj_said=$(sacct $oj_where -n -P -o @USAGE@ -j "$1" 2>/dev/null </dev/null)
  oj_rc=$?
  printf '%s\n' "$oj_said"
  return "$oj_rc"
}
# The names of the users who cancelled any of them.
oj_cancellers() {
  printf '%s\n' "$oj_said" | sed -n 's/^[^|]*|CANCELLED by \([0-9][0-9]*\)|.*/\1/p' | sort -u |
    head -n @MOST@ | while read -r oj_uid; do
      printf '%s %s\n' "$oj_uid" "$(id -un "$oj_uid" 2>/dev/null)"
    done
}
