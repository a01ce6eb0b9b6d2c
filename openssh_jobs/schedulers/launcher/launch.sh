# shellcheck shell=sh disable=SC2089,SC2090 # oj_reset is a list of words without blanks
# The launcher, behind the directive lines of the job's script; launcher.py says what it does.
#
# How signals are passed on.  Some are sent to every process of a job, some to the script alone,
# and then only the launcher gets them.  A process that does nothing tells which it was: what also
# ended that one reached the script directly.  The next such process is there before the wait, for
# the next signal: Grid Engine is quick to send the same one again.
# "owner" is made by a link: of two jobs that were submitted for one token, one does the work.
# wait(1) ends for a signal too: only while the child is there is its status no word on the child.
oj_dir=@DIRECTORY@ oj_body=@BODY@ oj_size=@ASKED@
if [ ! -r "$oj_body" ]; then
  printf 'openssh_jobs: the script of this job cannot be read: %s\n' "$oj_body" >&2
  exit 127
fi
exec 8<&0 9>&2 2>/dev/null
oj_job=@JOB@ oj_member=@MEMBER@ oj_restart=@RESTART@ oj_members=@MEMBERS@
oj_job=${oj_job%%[!0-9]*} oj_member=${oj_member%%[!0-9]*} oj_restart=${oj_restart%%[!0-9]*}
oj_key=${oj_job:-0}${oj_member:+_$oj_member}
@COUNT@
oj_key=$oj_key${oj_restart:+.$oj_restart}
oj_head="${oj_job:-0} ${oj_member:--} ${oj_restart:-0}"
oj_write() {
  (umask 077; printf '%s %s %s .\n' "$1" "$oj_head" "$2" >"$oj_dir/new.$1.$oj_key") &&
  mv -f "$oj_dir/new.$1.$oj_key" "$oj_dir/$1.$oj_key"
}
if [ -n "$oj_job" ] &&
  (umask 077; printf '%s\n' @OWNER@ >"$oj_dir/new.owner.$oj_key"); then
  ln "$oj_dir/new.owner.$oj_key" "$oj_dir/owner"
  rm -f "$oj_dir/new.owner.$oj_key"
  oj_has=
  IFS= read -r oj_has <"$oj_dir/owner"
  if [ -n "${oj_has%%[!0-9]*}" ] && [ "${oj_has%%[!0-9]*}" != "$oj_job" ]; then
    printf 'openssh_jobs: job %s does this work; job %s ends at once\n' "$oj_has" "$oj_job" >&9
    exit 125
  fi
fi
oj_reset=
# shellcheck disable=SC2016 # perl's variables
if env --default-signal=INT,QUIT true; then oj_reset='env --default-signal=INT,QUIT'
elif perl -e 1; then oj_reset='perl -e $SIG{INT}=$SIG{QUIT}="DEFAULT";exec{$ARGV[0]}@ARGV;exit(127)'
fi
oj_watch() {
  $oj_reset sleep 2147483647 </dev/null >/dev/null 8<&- 9>&- &
  oj_still=$!
}
# shellcheck disable=SC2317 # called by the traps
oj_pass() {
  oj_asked=1 oj_before=$oj_still
  oj_watch
  sleep 0.1 || sleep 0.1 || sleep 1
  kill -0 "$oj_before" || return
  kill -9 "$oj_before"
  if [ -n "$oj_child" ]; then kill -s "$1" "$oj_child"
  else oj_early="$oj_early $1"
  fi
}
oj_child= oj_asked= oj_early=
for oj_name in HUP INT QUIT USR1 USR2 ALRM TERM XCPU; do
  # shellcheck disable=SC2064 # the name of this turn
  trap "oj_pass $oj_name" "$oj_name"
done
oj_watch
oj_node=@NODE@
oj_write start "$oj_node $$ $(date +%s) ${oj_members:-$oj_size}"
@START@
oj_child=$!
exec 8<&- 9>&-
for oj_name in $oj_early; do kill -s "$oj_name" "$oj_child"; done
while :; do
  oj_asked=
  wait "$oj_child"
  oj_code=$?
  [ -n "$oj_asked" ] || break
  kill -0 "$oj_child" && continue
  wait "$oj_child"
  oj_again=$?
  [ "$oj_again" -eq 127 ] || oj_code=$oj_again
  break
done
oj_write exit "$oj_code $(date +%s)"
trap '' HUP INT QUIT USR1 USR2 ALRM TERM XCPU
kill -9 "$oj_still"
exit "$oj_code"
