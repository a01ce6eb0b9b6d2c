# shellcheck shell=sh disable=SC2154 # oj_text and oj_nl: files/private_directory.sh
# Functions of tidy.py, which need those of files/private_directory.sh before them.

# Prints what lies on the host of submissions.  Four arguments each: a number, the job's directory,
# the token, and the id of a job of ``direct`` or nothing.  Prints the time, then records of seven
# fields with a NUL behind each: the number, a word, a path or a reason, kilobytes, the call of the
# mark, "launcher" where there is one, the claims.
oj_look() {
  date +%s | tr '\n' '\0'
  while [ $# -ge 4 ]; do
    (oj_look_at "$1" "$2" "$3")
    if [ -n "$4" ]; then (oj_look_at_record "$1" "$3" "$4"); fi
    shift 4
  done
  printf 'done\0'
}

oj_look_at() {
  oj_find "$2" "$3"
  case $? in
    0)
      if oj_marked ""; then
        oj_call=${oj_text%%"$oj_nl"*}
        oj_tell "$1" found "$PWD" "${oj_call#openssh_jobs }"
      else
        oj_tell "$1" refused "$PWD carries no mark of this package"
      fi;;
    1) oj_tell "$1" refused "$oj_why";;
    *)
      if [ -n "$oj_why" ]; then oj_tell "$1" refused "$oj_why"
      elif ! cd -P "$2" 2>/dev/null; then
        # Where its parent is gone, too, a file system may only be away for now.
        if [ ! -e "$2" ] && [ -d "${2%/*}" ]; then oj_tell "$1" none "$2"
        else oj_tell "$1" away "$2"
        fi
      elif [ -d .openssh_jobs ] && [ ! -L .openssh_jobs ] && [ -O .openssh_jobs ] &&
        oj_all=$(ls -A .openssh_jobs) && [ -z "$oj_all" ]
      then oj_tell "$1" empty "${PWD%/}/.openssh_jobs"
      else oj_tell "$1" none "$2"
      fi;;
  esac
}

# A record of ``direct``, if it is that of the token $2: ids could have begun again.
oj_look_at_record() {
  oj_why=
  cd -P "${HOME:?}" && oj_there ".openssh_jobs/direct/$3" || exit 0
  if oj_into .openssh_jobs && oj_into direct && oj_into "$3" && oj_check 3 home; then
    grep -qx "token $2" job 2>/dev/null || exit 0
    if [ -e exit ]; then oj_tell "$1" record "$PWD"; else oj_tell "$1" refused "$PWD has no end"; fi
  else
    oj_tell "$1" refused "$oj_why"
  fi
}

# One record about the current directory, with what lies in it.
oj_tell() {
  case $2 in
    found|record)
      oj_size=$(du -sk . 2>/dev/null)
      oj_size=${oj_size%%[!0-9]*};;
    *) oj_size=;;
  esac
  printf '%s\0' "$1" "$2" "$3" "$oj_size" "${4-}"
  if [ "$2" != found ]; then printf '\0\0'; return; fi
  [ ! -d .script ] || printf launcher
  printf '\0'
  oj_claims | tr -d '\000' | head -c 8000
  printf '\0'
}

# The claims of attempts: a line "= open|settled new|old", then the claim's text.
oj_claims() {
  for oj_f in attempt-* claim.*; do
    oj_end=open oj_age=new oj_n=${oj_f#attempt-}
    case $oj_f in
      claim.*.*|*'*') continue;;
      attempt-*) [ ! -s "result-${oj_n%.d}" ] || oj_end=settled;;
    esac
    [ -z "$(find "./$oj_f" -prune -mtime +0)" ] || oj_age=old
    printf '= %s %s\n' "$oj_end" "$oj_age"
    [ ! -d "$oj_f" ] || oj_f=$oj_f/claim
    [ ! -f "$oj_f" ] || [ -L "$oj_f" ] || head -c 1000 "./$oj_f"
    echo
  done
}

# Removes what oj_look has found.  Four arguments each, as there, but the call of the mark in the
# place of the id; if that is empty, claims were not looked for, and one of the last day counts.
# Prints the number and the status of each, a NUL behind it.
oj_remove_all() {
  while [ $# -ge 4 ]; do
    if [ -z "$4" ] && (oj_find "$2" "$3" && oj_is_claimed); then
      printf '%s 1 it is claimed\0' "$1"
    else
      oj_out=$( (oj_remove_private "$2" "$3" "$4") 2>&1)
      printf '%s %s %s\0' "$1" $? "$oj_out"
    fi
    shift 4
  done
}

oj_is_claimed() {
  for oj_f in attempt-* claim.*; do
    oj_n=${oj_f#attempt-}
    case $oj_f in
      claim.*.*|*'*') continue;;
      attempt-*) [ ! -s "result-${oj_n%.d}" ] || continue;;
      # The other name of an attempt.
      *) for oj_n in attempt-*; do ! cmp -s "./$oj_f" "./$oj_n" || continue 2; done;;
    esac
    [ -n "$(find "./$oj_f" -prune -mtime +0)" ] || return 0
  done
  return 1
}

# Prints what the call $3 has left of the submission $2 of the job's directory $1 that it never sent:
# the private directory, and the job's directory if the call made it (with the mark $4), a NUL
# behind each.  Status 1: not all of that is of the call, and stderr says why.
oj_look_unsent() {
  oj_find "$1" "$2"
  oj_r=$?
  if [ $oj_r -eq 1 ]; then printf '%s\n' "$oj_why" >&2; exit 1; fi
  [ $oj_r -ne 0 ] || ! oj_marked "" "$3" || printf '%s\0' "$PWD"
  cd -P "$1" 2>/dev/null && [ -f "$4" ] && [ ! -L "$4" ] && [ -O "$4" ] || exit 0
  if [ -s "$4" ]; then
    # The mark is written after the last file of an upload.
    oj_mark=$4
    if [ -d .openssh_jobs ]; then oj_mark=.openssh_jobs; fi
    oj_new=$(find . ! -name . ! -path ./.openssh_jobs ! -path './.openssh_jobs/*' -newer "$4" \
      -print | head -n 1)
    if [ -n "$oj_new" ] || [ -n "$(find . -prune -newer "$oj_mark")" ]; then
      printf '%s was never submitted, but was changed after its upload\n' "$PWD" >&2
      exit 1
    fi
  fi
  printf '%s\0' "$PWD"
}

# Removes the private directory of these jobs' directories where it is empty.
oj_remove_empty() {
  for oj_d; do
    (cd -P "$oj_d" && [ ! -L .openssh_jobs ] && [ -O .openssh_jobs ] && rmdir ./.openssh_jobs)
  done 2>/dev/null
  :
}

# Prints the names in ~/.openssh_jobs that are those of submissions, a NUL behind each.
oj_look_around() {
  oj_home look || exit 0
  for oj_d in *; do
    [ "$oj_d" = direct ] || [ ! -d "$oj_d" ] || [ -L "$oj_d" ] || printf '%s\0' "$PWD/$oj_d"
  done | head -c 60000
}

# Prints our parts in these directories: "i" and the directory, then the answer of oj_list_parts.
oj_look_for_parts() {
  oj_mine=$1 oj_days=$2
  shift 2
  for oj_d; do
    printf 'i%s\0' "$oj_d"
    (oj_list_parts "$oj_d" "$oj_mine" "$oj_days")
  done
}
