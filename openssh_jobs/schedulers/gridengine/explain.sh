# shellcheck shell=sh disable=SC2154 # oj is the mark of the frame
# Functions that ask Grid Engine why jobs wait and what they used; explain.py calls them between
# the marks of a frame.
TZ=UTC0
export TZ
# What qstat -j says of each of the jobs $@, which are this user's own.
oj_details() {
  oj_said=$(for oj_id; do
    printf '%s>%s\n' "$oj" "$oj_id"
    qstat -j "$oj_id" 2>/dev/null </dev/null
  done)
  printf '%s\n' "$oj_said"
}
# The queues in oj_said that were left out before their limits were looked at.
oj_queues() {
  SGE_SINGLE_LINE=1
  export SGE_SINGLE_LINE
  printf '%s\n' "$oj_said" |
    sed -n 's/.* queue instance "\([A-Za-z0-9_.-]*\)@[^"]*" dropped because .*/\1/p' |
    sort -u | head -n @MOST@ | while read -r oj_queue; do
      qconf -sq "$oj_queue" 2>/dev/null </dev/null
    done
  :
}
# The ids that are held by their user, by an operator or manager, by the system.
oj_holds() {
  for oj_kind in hu ho hs; do
    printf '%s>%s\n' "$oj" "$oj_kind"
    qstat -u "$(id -un)" -s "$oj_kind" 2>/dev/null </dev/null | awk '$1 ~ /^[0-9]+$/ { print $1 }'
  done
  :
}
# For each of the jobs $@: how many that wait stand before it in the scheduler's own order.
oj_ahead() {
  qstat -u '*' -s p 2>/dev/null </dev/null | awk -v wanted=" $* " '
    $1 ~ /^[0-9]+$/ {
      if (index(wanted, " " $1 " ") && !seen[$1]++) print $1, before + 0
      if ($5 == "qw") before++
    }'
}
# The accounting's record of each of the jobs $@.
oj_records() {
  for oj_id; do
    printf '%s>%s\n' "$oj" "$oj_id"
    qacct -j "$oj_id" 2>/dev/null </dev/null
  done
  :
}
