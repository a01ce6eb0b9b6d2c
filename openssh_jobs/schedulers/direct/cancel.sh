# shellcheck shell=sh disable=SC2043 # @IDS@ becomes a list
# TERM to the process groups of these jobs, KILL to what is left after five seconds.
oj_boot
oj_here=$(uname -n)
oj_rest=
for oj_id in @IDS@; do
  oj_dir=$oj_base/$oj_id
  oj_verdict "$oj_dir"
  oj_word=requested
  if [ "$oj_v" = absent ]; then oj_word=not_found
  elif [ -e "$oj_dir/exit" ]; then oj_word=already_finished
  else
    case $oj_v in
      alive|orphan)
        if printf 'cancelled %s\n' "$(date +%s)" >"$oj_dir/cancel"; then
          oj_signal TERM
          oj_rest="$oj_rest $oj_id"
        else
          oj_word=transient
        fi;;
      waiting) printf 'cancelled %s\n' "$(date +%s)" >"$oj_dir/cancel" || oj_word=transient;;
      gone|restarted) oj_word=already_finished;;
      *) oj_word=transient;;
    esac
  fi
  printf '%s %s %s\n' "$oj_id" "$oj_word" "$oj_v"
done
# Whoever does not listen within five seconds is killed; the launcher then still writes the exit record.
oj_try=0
while [ -n "$oj_rest" ]; do
  oj_left=
  for oj_id in $oj_rest; do
    oj_load "$oj_base/$oj_id" || continue
    oj_alive "$oj_child" "$oj_child_who" || continue
    if [ "$oj_try" -ge 50 ]; then oj_signal KILL; fi
    oj_left="$oj_left $oj_id"
  done
  oj_rest=$oj_left
  if [ "$oj_try" -ge 55 ]; then break; fi
  oj_try=$((oj_try + 1))
  [ -z "$oj_rest" ] || sleep 0.1 2>/dev/null || sleep 1
done
:
