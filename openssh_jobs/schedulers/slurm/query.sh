# shellcheck shell=sh
# Functions that ask Slurm how jobs ended; query.py calls them between the marks of a frame.
oj_sacct() {
  oj_said=$(sacct -n -X -p --delimiter="|$oj|" -o @FIELDS@ "$@" </dev/null)
  oj_rc=$?
  printf '%s\n' "$oj_said"
  return $oj_rc
}
# Puts into oj_left the jobs of which sacct does not know the end: all where it failed, else those
# of which its record is missing, or that of a job that goes on, among the first oj_most of $@.
# (Text of other jobs may make it one more than that.)
oj_without_end() {
  oj_left= oj_n=0 oj_most=@MOST@
  if [ "$oj_rc" -ne 0 ]; then oj_left="$*"; return; fi
  for oj_id; do
    oj_n=$((oj_n + 1))
    [ "$oj_n" -le "$oj_most" ] || break
    case "
$oj_said" in
      *"
$oj_id|$oj|"*"|$oj|PENDING|$oj|"* | *"
$oj_id|$oj|"*"|$oj|RUNNING|$oj|"* | *"
$oj_id|$oj|"*"|$oj|REQUEUED|$oj|"*) ;;
      *"
$oj_id|$oj|"* | *"
${oj_id}_"*) continue ;;
    esac
    oj_left="$oj_left $oj_id"
  done
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
