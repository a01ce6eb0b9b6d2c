# shellcheck shell=sh
# Functions that ask Slurm how jobs ended; query.py calls them between the marks of a frame.
oj_most=@MOST@
oj_sacct() {
  oj_said=$(sacct -n -X -p --delimiter="|$oj|" -o @FIELDS@ "$@" </dev/null)
  oj_rc=$?
  printf '%s\n' "$oj_said"
  return $oj_rc
}
# Puts into oj_left the jobs of which sacct does not know the end: all where it failed, else those
# of which its record is missing, or that of a job that goes on, among the first oj_most of $@.
oj_without_end() {
  oj_left= oj_n=0
  if [ "$oj_rc" -ne 0 ]; then oj_left="$*"; return; fi
  for oj_id; do
    oj_n=$((oj_n + 1))
    [ "$oj_n" -le "$oj_most" ] || break
    oj_left="$oj_left $oj_id"
  done
  # If awk fails, all of them are asked about.
  oj_kept=$(printf '%s\n' "$oj_said" | awk -F "[|]${oj}[|]" -v ids="$oj_left" '
    NF > 3 { there[$1]; if (n = index($1, "_")) there[substr($1, 1, n - 1)] }  # not in a text
    $3 ~ /^(PENDING|RUNNING|REQUEUED)$/ { goes_on[$1] }
    END {
      n = split(ids, id, " ")
      for (i = 1; i <= n; i++) if (!(id[i] in there) || id[i] in goes_on) print id[i]
    }') && oj_left=$oj_kept
}
# The exit codes of the jobs in oj_left that squeue lists, in one query of this user's jobs.  One
# job alone is left to scontrol: that query is cheaper.
oj_codes() {
  oj_list= oj_said= oj_rc=1
  for oj_id in $oj_left; do
    case $oj_id in *[!0-9_]*) ;; *) oj_list="$oj_list,$oj_id" ;; esac
  done
  case $oj_list in ,*,*) ;; *) return "$oj_rc" ;; esac
  oj_said=$(squeue "$@" -h -a -t all -u "$(id -u)" -j "${oj_list#,}" -O @CODES@ 2>/dev/null </dev/null)
  oj_rc=$?
  printf '%s\n' "$oj_said"
  return "$oj_rc"
}
# Leaves in oj_left the jobs of which squeue did not say all just now, at most oj_most of them: of
# one that waits it does not say here whether it is held.
oj_without_code() {
  oj_over=
  [ "$oj_rc" -ne 0 ] || oj_over=$(printf '%s\n' "$oj_said" |
    while read -r oj_id _ oj_state oj_code _ _ oj_end oj_more; do
      case $oj_state in PENDING | REQUEUE* | RESV_DEL_HOLD | SPECIAL_EXIT) continue ;; esac
      case $oj_code in '' | *[!0-9]*) continue ;; esac
      [ -z "$oj_end" ] || [ -n "$oj_more" ] || printf '%s\n' "$oj_id"
    done)
  # shellcheck disable=SC2086 # a list of ids
  oj_kept=$({ printf '%s\n' "$oj_over" . && printf '%s\n' $oj_left; } | awk -v most="$oj_most" '
    $0 == "." { is_asked = 1; next }
    !is_asked { listed[$0]; if (n = index($0, "_")) listed[substr($0, 1, n - 1)]; next }
    !($0 in listed) && rest++ < most') && oj_left=$oj_kept
}
oj_scontrol() {
  for oj_id in $oj_left; do
    oj_out=$(scontrol "$@" -a -o show job "$oj_id" 2>&1 </dev/null) &&
      printf '%s>%s\n%s\n' "$oj" "$oj_id" "$oj_out" && continue
    case $oj_out in
      *'Invalid job id'*) ;;
      *) printf '%s\n' "$oj_out" >&2; break ;;
    esac
  done
}
