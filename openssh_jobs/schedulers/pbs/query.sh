# shellcheck shell=sh disable=SC2086 # oj_kind, oj_form, oj_x and oj_ids are (lists of) words without blanks
# How PBS and Torque are asked; pbs.sh and torque.sh, put behind this, have oj_kind, oj_lines,
# oj_select, oj_asking and oj_jobs.
# set -f: an id of an array is a pattern to the shell.  oj_text: the lines of stderr, then the
# answer, which the inner substitution has taken whole by then.  oj_left: what of the ids is in
# neither.  oj_over: whole arrays that have ended.
set -f
TZ=UTC0; export TZ
oj_x=
oj_ask() {
  printf 'OJ:%s begin qstat-%s\n' "$oj" $oj_kind
  oj_text=$({ oj_said=$(qstat $oj_form "$@" </dev/null); oj_rc=$?
    printf '\n%s\n%s\n' "$oj_said" "$oj_rc"; } 2>&1)
  oj_rc=${oj_text##*
}
  oj_text=${oj_text%
*}
  printf '%s\n\nOJ:%s end qstat-%s %d\n' "$oj_text" "$oj" $oj_kind "$oj_rc"
}
oj_left() {
  { printf 'ask %s\n' "$@"; printf '%s\n' "$oj_text" | oj_lines; } | awk -v most=@MOST@ '
  /^ask / && !begun { asked[++n] = $2; next }
  { begun = 1; id = "" }
  /^Job Id:/ { id = $3 }
  /^[0-9].*<\/Job_Id$/ { id = $1; sub(/<.*/, "", id) }
  /^qstat: Unknown Job I/ { id = $NF }
  /^qstat: [0-9].* Job has finished/ { id = $2 }
  id != "" { sub(/[|.].*/, "", id); seen[id] = 1 }
  END { for (i = 1; i <= n; i++) { id = asked[i]; sub(/[.].*/, "", id)
    if (!(id in seen) && left++ < most) print asked[i] } }'
}
oj_alone() {
  for oj_id in $(oj_left "$@"); do
    printf 'OJ:%s begin alone\n%s\n' "$oj" "$oj_id"
    qstat $oj_x -f "$oj_id" </dev/null
    printf '\nOJ:%s end alone %d\n' "$oj" "$?"
  done
}
oj_listing() {
  printf 'OJ:%s begin qselect-%s\n' "$oj" $oj_kind
  oj_ids=$(oj_select "$@")
  oj_rc=$?
  printf '%s\n\nOJ:%s end qselect-%s %d\n' "$oj_ids" "$oj" $oj_kind "$oj_rc"
  oj_x=
  [ $oj_rc = 0 ] && [ -n "$oj_ids" ]
}
# The queue of this user.
oj_user() {
  if oj_listing -u "$(id -un)"; then
    oj_asking $oj_ids
    oj_alone $oj_ids
  fi
}
# The queue of everybody.
oj_all() {
  if oj_listing; then
    oj_asking
    oj_alone $oj_ids
  fi
}
