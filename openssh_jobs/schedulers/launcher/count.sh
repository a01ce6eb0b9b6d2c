# shellcheck shell=sh
# These schedulers do not count the runs of a job, so the files do.  A file of an earlier run may
# not be seen yet where it was written on another node: a false end is removed.
if [ -z "$oj_restart" ] && [ -e "$oj_dir/start.$oj_key" ]; then oj_restart=1; fi
while [ -n "$oj_restart" ] && [ -e "$oj_dir/start.$oj_key.$oj_restart" ]; do
  oj_restart=$((oj_restart + 1))
done
rm -f "$oj_dir/exit.$oj_key${oj_restart:+.$oj_restart}"
