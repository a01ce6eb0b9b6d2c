# shellcheck shell=sh disable=SC2015,SC2031,SC2154 # A && B || C; oj_text, oj_nl: private_directory.sh
# Functions of takeover.py, which need those of files/private_directory.sh before them.

# Prints the directories below $1 that hold a directory .openssh_jobs, after $1 itself, with links
# resolved and a NUL behind each; not deeper than $2, and $3 bytes at most.  "missed": some
# directories were not looked at; "end": that is all.  Status 1: $1 cannot be entered.
oj_find_places() {
  cd -P "$1" || exit 1
  printf '%s\0' "$PWD"
  {
    find "$PWD" -maxdepth "$2" -name .openssh_jobs -type d -prune -exec printf '%s\0' '{}' + \
      2>/dev/null || printf 'missed\0'
    printf 'end\0'
  } | head -c "$3"
}

# Prints what lies in the private directories of the jobs' directories $2..., and of those below $1
# what lies in ~/.openssh_jobs.  Records of ten fields, a NUL behind each: "found" or "refused";
# where; the token; the job's directory; whether a launcher writes how it ends; when its attempt
# began; the digest of the submission; the job's id by its launcher; the answer of the submit command
# (status, output); the name of the script.  Of what was refused the fourth field says why.  Then "user" and the user's name.
oj_survey() {
  oj_below=$1
  shift
  for oj_d; do
    (
      if ! cd -P "$oj_d" 2>/dev/null || [ "$PWD" != "$oj_d" ]; then oj_refuse_all "$oj_d was moved"; fi
      if ! { oj_into .openssh_jobs && oj_check 1 all; }; then oj_refuse_all "$oj_why"; fi
      for oj_t in *; do oj_survey_in 'all' "$oj_t" "$oj_d"; done
    )
  done
  (
    cd -P "${HOME:?}" && oj_check 0 home && oj_into .openssh_jobs && oj_check 1 home || exit 0
    for oj_t in *; do oj_survey_in home "$oj_t" ''; done
  ) 2>/dev/null
  printf 'user\0%s\0' "$(id -un)"
}

oj_refuse_all() {
  oj_record refused "$oj_d/.openssh_jobs" '' "$1"
  exit 0
}

# $1 "all" or "home", $2 the token, $3 the job's directory, which in the home directory only the
# mark tells.
oj_survey_in() {
  [ -d "$2" ] || [ -L "$2" ] || return 0
  case $1$2 in homedirect) return 0;; esac
  (
    if ! { oj_into "$2" && oj_check 2 "$1"; }; then
      oj_record refused "$PWD" "$2" "$oj_why"
      exit
    fi
    if ! oj_marked ""; then
      oj_record refused "$PWD" "$2" "$PWD carries no mark of this package"
      exit
    fi
    oj_named=${oj_text#*"$oj_nl"}
    oj_named=${oj_named%"$oj_nl".}
    oj_real=$(cd -P "$oj_named" 2>/dev/null && printf '%s.' "$PWD")
    oj_real=${oj_real%.}
    if [ "$1" = all ] && [ "$oj_real" != "$3" ]; then
      oj_record refused "$PWD" "$2" "its mark names another directory: $oj_named"
      exit
    fi
    case ${oj_real%/}/ in
      "${oj_below%/}"/*) oj_record found "$PWD" "$2" "$oj_named";;
    esac
  )
}

# One record about the current directory.
oj_record() {
  printf '%s\0' "$1" "$2" "$3" "$4"
  if [ "$1" = refused ]; then printf '\0\0\0\0\0\0'; return; fi
  oj_name=
  for oj_f in * ; do
    case $oj_f in owner|env|launch|look|attempt-*|result-*|claim.*|start.*|exit.*|new.*|seen.*) continue;; esac
    [ ! -f "$oj_f" ] || [ -L "$oj_f" ] || oj_name=$oj_f
  done
  oj_began='' oj_digest='' oj_last=''
  for oj_f in attempt-[0-9] attempt-[0-9][0-9] attempt-[0-9].d/claim attempt-[0-9][0-9].d/claim; do
    [ -f "$oj_f" ] && [ ! -L "$oj_f" ] || continue
    oj_claim=$(head -c 4096 "$oj_f" | tr -d '\0')
    oj_began=$(printf '%s\n' "$oj_claim" | sed -n 's/^began \([0-9]\{1,12\}\)$/\1/p')
    oj_digest=$(printf '%s\n' "$oj_claim" | sed -n 's/^digest \([0-9a-f]\{64\}\)$/\1/p')
  done
  for oj_f in result-[0-9] result-[0-9][0-9]; do
    [ -f "$oj_f" ] && [ ! -L "$oj_f" ] && oj_last=$oj_f
  done
  printf '%s\0' "$([ ! -d .script ] || echo launcher)" "$oj_began" "$oj_digest"
  [ ! -f owner ] || [ -L owner ] || head -c 256 owner | tr -d '\0'
  printf '\0'
  [ -z "$oj_last" ] || head -c 4096 "$oj_last" | tr '\0' '\001'
  printf '\0%s\0' "$oj_name"
}

# Prints id and token of the jobs of ``direct``, a line each.
oj_survey_direct() {
  cd -P "${HOME:?}" && oj_into .openssh_jobs && oj_into direct && oj_check 2 home || exit 0
  for oj_d in [0-9]*; do
    case $oj_d in *[!0-9]*) continue;; esac
    [ -f "$oj_d/job" ] && [ ! -L "$oj_d" ] || continue
    oj_t=$(head -c 20000 "$oj_d/job" | sed -n 's/^token //p' | head -n 1)
    [ -z "$oj_t" ] || printf '%s %s\n' "$oj_d" "$oj_t"
  done | head -c 262144
}
