# shellcheck shell=sh
# Claims an id, writes down what is known of the job, and starts its launcher.
oj_script=@SCRIPT@
[ -e "$oj_script" ] || oj_refuse 'there is no such script'
[ -f "$oj_script" ] || oj_refuse 'the script is not a regular file'
[ -r "$oj_script" ] || oj_refuse 'the script cannot be read'
[ -s "$oj_script" ] || oj_refuse 'the script is empty'
oj_umask=$(umask)
umask 077
oj_try_records make || oj_refuse 'no directory for the job can be made'
oj_last=0
[ ! -f "$oj_base/last" ] || read -r oj_last <"$oj_base/last"
case $oj_last in ''|*[!0-9]*) oj_last=0;; esac
for oj_d in "$oj_base"/[0-9]*; do
  oj_n=${oj_d##*/}
  case $oj_n in *[!0-9]*) continue;; esac
  if [ "$oj_n" -gt "$oj_last" ]; then oj_last=$oj_n; fi
done
oj_id=$((oj_last + 1))
until mkdir "$oj_base/$oj_id" 2>/dev/null; do
  [ -d "$oj_base/$oj_id" ] || oj_refuse 'no directory for the job can be made'
  oj_id=$((oj_id + 1))
done
oj_dir=$oj_base/$oj_id
oj_undo() { rm -rf "$oj_dir"; oj_refuse "$1"; }
printf '%s\n' "$oj_id" >"$oj_dir/last" && [ ! -d "$oj_base/last" ] &&
  mv -f "$oj_dir/last" "$oj_base/last"
printf '%s' "$PWD" >"$oj_dir/directory" || oj_undo 'the job cannot be written down'
{
  printf '%s\n' @FACTS@
  printf 'submitted %s\n' "$(date +%s)"
} >"$oj_dir/job" || oj_undo 'the job cannot be written down'
cat >"$oj_dir/launch" <<'OJ_END_OF_LAUNCH' || oj_undo 'the job cannot be written down'
@LAUNCH@
OJ_END_OF_LAUNCH
# shellcheck disable=SC2015 # either one that is empty undoes it
[ -s "$oj_dir/launch" ] && [ -s "$oj_dir/job" ] || oj_undo 'the job cannot be written down'
(
  oj_detach /bin/sh "$oj_dir/launch" "$oj_dir" "$oj_id" "$oj_umask" @LIMIT@ @OUT@ @ERR@ \
    "$oj_script" @PLACE@ @ARGUMENTS@
) </dev/null >"$oj_dir/log" 2>&1 &
oj_try=0
while [ ! -e "$oj_dir/start" ] && [ ! -e "$oj_dir/exit" ] && [ -d "$oj_dir" ] &&
  [ "$oj_try" -lt 100 ]; do
  oj_try=$((oj_try + 1))
  sleep 0.03 2>/dev/null || sleep 1
done
if [ ! -d "$oj_dir" ]; then
  # It has found that another job does this work.
  IFS= read -r oj_id 2>/dev/null <@PLACE@/owner || oj_refuse 'the submission was taken back'
fi
printf 'openssh_jobs: started job %s\n' "$oj_id"
