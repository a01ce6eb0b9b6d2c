# shellcheck shell=sh disable=SC2015 # A && B || C
# The record of tokens, ~/.openssh_jobs/.tokens: one line for each token that a caller chose and
# whose files are gone, so that it does not run again.  A line is TOKEN ID DIGEST END STATE CODE
# and a dot; END is in seconds since 1970, CODE a dash where there is none.  Needs the functions of
# files/private_directory.sh.

# Into ~/.openssh_jobs, which is made if $1 is "make".  1: it cannot be trusted (oj_why); 2: there
# is none.
oj_home() {
  [ -n "${HOME-}" ] && cd -P "$HOME" 2>/dev/null || { oj_why="there is no home directory"; return 1; }
  if [ "$1" = make ]; then oj_make .openssh_jobs || [ $? -ne 2 ] || return 1
  elif ! oj_there .openssh_jobs; then return 2
  fi
  oj_into .openssh_jobs && oj_check 1 home
}

# Whether the record of tokens in the current directory is a file of ours.
oj_is_record() { [ -f .tokens ] && [ ! -L .tokens ] && [ -O .tokens ]; }

# Makes the file .tokens.new; one may be left of a call that was killed, or put there by others.
oj_new_tokens() {
  rm -f ./.tokens.new && (umask 077; set -C; oj_merge_tokens "$@" >.tokens.new)
}

# Prints the line of the token $1.  1: there is none.
oj_token_line() {
  [ -f "${HOME-}/.openssh_jobs/.tokens" ] && oj_home look && oj_is_record || return 1
  oj_has=
  while IFS= read -r oj_line; do
    case $oj_line in "$1 "*' .') oj_has=$oj_line;; esac
  done <.tokens
  [ -n "$oj_has" ] && printf '%s\n' "$oj_has"
}

# Adds the lines $2... to the record, and leaves out those that ended before $1.
oj_keep_tokens() {
  if ! oj_home make; then printf '%s\n' "$oj_why" >&2; return 1; fi
  oj_n=0
  until mkdir -m 700 ./.tokens.lock 2>/dev/null; do
    # Its holder needs less than a second.
    [ -z "$(find ./.tokens.lock -prune -mmin +10 2>/dev/null)" ] || rmdir ./.tokens.lock
    oj_n=$((oj_n + 1))
    if [ "$oj_n" -gt 50 ]; then echo 'the record of tokens is in use' >&2; return 1; fi
    sleep 0.1 2>/dev/null || sleep 1
  done
  oj_new_tokens "$@" && oj_rename .tokens.new .tokens
  oj_r=$?
  rmdir ./.tokens.lock
  return $oj_r
}

oj_merge_tokens() {
  oj_since=$1
  shift
  if oj_is_record; then
    while IFS= read -r oj_line; do
      oj_end=${oj_line#* * * } oj_end=${oj_end%% *}
      case $oj_end in ''|*[!0-9]*) continue;; esac
      [ "$oj_end" -lt "$oj_since" ] || printf '%s\n' "$oj_line" || return
    done <.tokens
  fi
  printf '%s\n' "$@"
}
