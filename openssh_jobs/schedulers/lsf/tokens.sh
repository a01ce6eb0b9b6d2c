# shellcheck shell=sh
# Whether a job can carry a description of ours: an old bsub takes -Jd for a name and a command, and
# one in the script $1 would be lost.
oj_may_describe() {
  case $(lsid 2>/dev/null </dev/null) in *Spectrum*|*Platform*) ;; *) return 1;; esac
  [ -r "$1" ] && ! grep -Eq '^[[:space:]]*#[[:space:]]*BSUB.*[[:space:]]-Jd' <"$1"
}
# The jobs of this user with their descriptions, ended ones too.
oj_tokens() {
  oj_text=$(bjobs -a -noheader -o 'jobid job_description delimiter="|"' 2>&1 </dev/null)
  oj_rc=$?
  case $oj_text in 'No job found'|'No unfinished job found') oj_rc=0;; esac
  printf '%s\n' "$oj_text"
  return "$oj_rc"
}
