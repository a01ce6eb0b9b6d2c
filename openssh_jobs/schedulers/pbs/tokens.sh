# shellcheck shell=sh disable=SC2086 # oj_ids is a list of ids
# Prints the records of all jobs of this user, behind the ids that qselect names; of PBS first -x or
# a dash: with ended jobs, or without.
oj_tokens_pbs() {
  oj_x=-x
  oj_ids=$(qselect -x -u "$(id -un)" 2>/dev/null </dev/null) || {
    oj_x=
    oj_ids=$(qselect -u "$(id -un)" </dev/null) || return
  }
  printf '%s\n' "${oj_x:--}" $oj_ids
  [ -z "$oj_ids" ] || qstat $oj_x -f -F dsv -D "|$oj|" $oj_ids </dev/null
}
oj_tokens_torque() {
  oj_ids=$(qselect -u "$(id -un)" </dev/null) || return
  printf '%s\n' $oj_ids
  [ -z "$oj_ids" ] || qstat -x $oj_ids </dev/null
}
# Whether qsub is that of Slurm, which plays Torque.
oj_is_slurm() {
  command -v squeue >/dev/null 2>&1 && oj_qsub=$(command -v qsub) &&
    head -c 65536 "$oj_qsub" | grep -i 'slurm' >/dev/null 2>&1
}
