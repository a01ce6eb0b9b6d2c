# shellcheck shell=sh disable=SC2086 # oj_ids is a list of numbers
# Prints the details of all jobs of this user in the queue, behind their numbers.
oj_tokens() {
  oj_text=$(qstat -u "$(id -un)" </dev/null) || return
  oj_ids=$(printf '%s\n' "$oj_text" | awk '$1 ~ /^[0-9]+$/ && !seen[$1]++ { print $1 }')
  printf '%s\n' $oj_ids
  for oj_id in $oj_ids; do
    printf '%s>%s\n' "$oj" "$oj_id"
    qstat -j "$oj_id" 2>/dev/null </dev/null
  done
  :
}
# The jobs of this user that ended since $1, with when they were submitted.
oj_ended() {
  oj_text=$(qacct -o "$(id -un)" -b "$1" -j 2>&1 </dev/null)
  oj_rc=$?
  # A shell without qacct says "not found" too.
  [ "$oj_rc" -eq 127 ] || case $oj_text in *'no jobs running since startup'*|*'not found'*) oj_text= oj_rc=0;; esac
  printf '%s\n' "$oj_text"
  return "$oj_rc"
}
