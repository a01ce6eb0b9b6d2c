# shellcheck shell=sh disable=SC2043 # @IDS@ becomes a list
# Removes the records of these jobs where they have ended.
if oj_try_records look; then (
  oj_records look || exit
  for oj_id in @IDS@; do
    (oj_into "$oj_id" && [ -e exit ] && [ -f job ] && [ -O job ] && oj_empty "$oj_id")
  done
  cd .. && rmdir ./direct 2>/dev/null && cd .. && rmdir ./.openssh_jobs 2>/dev/null
) fi
:
