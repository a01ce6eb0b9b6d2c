# shellcheck shell=sh
# What is read or written of jobs lies in a private directory (files/private_directory.sh, put
# before this).  oj_records changes into it; 2: there is none yet.
oj_refuse() { printf 'openssh_jobs: refused: %s\n' "$1" >&2; exit 1; }
oj_records() {
  cd -P "${HOME:?}" || return 1
  for oj_word in .openssh_jobs direct; do
    if [ "$1" = make ]; then oj_make "$oj_word" || [ $? -ne 2 ] || return 1
    elif ! oj_there "$oj_word"; then return 2
    fi
    oj_into "$oj_word" || return 1
  done
  oj_check 2 home
}
oj_try_records() {
  oj_said=$( (oj_records "$1" || { oj_r=$?; printf '%s\n' "$oj_why"; exit "$oj_r"; }) 2>&1)
  oj_r=$?
  [ "$oj_r" -ne 1 ] || oj_refuse "no directory for jobs: $oj_said"
  return "$oj_r"
}
