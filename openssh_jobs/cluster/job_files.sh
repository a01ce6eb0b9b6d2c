# shellcheck shell=sh
# Functions of job_files.py.  Those that go into a private directory need those of
# files/private_directory.sh before them.

# Enters the place for the private directories of the job's directory $1.  0: entered; 1: no place is
# safe (oj_why); 2: an error, written to stderr.  oj_private is where it lies; oj_reason says why not
# in $1.
oj_place() {
  oj_reason= oj_private=
  # Not what cd says, which may name no reason (dash).
  cd -P "$1" 2>/dev/null || { ls -d -- "$1/." >/dev/null; return 2; }
  oj_why="others can lead $1 to another directory"
  if [ "$PWD" = "$1" ] || { oj_straight "$1" && [ "${oj_path:-/}" = "$PWD" ]; }; then
    if [ ! -w . ] && ! oj_there .openssh_jobs; then oj_make .openssh_jobs || return 2; fi
    if oj_check 0 all; then
      oj_make .openssh_jobs || [ $? -ne 2 ] || return 2
      if oj_into .openssh_jobs && oj_check 1 all; then
        oj_private=${1%/}/.openssh_jobs
        return 0
      fi
    fi
  fi
  oj_reason=$oj_why
  if [ -n "${HOME-}" ] && cd -P "$HOME" && oj_check 0 home; then
    oj_make .openssh_jobs || [ $? -ne 2 ] || return 2
    if oj_into .openssh_jobs && oj_check 1 home; then
      oj_private=${HOME%/}/.openssh_jobs
      return 0
    fi
  fi
  return 1
}

# Whether the directory $1 was made by a call that was killed before it could mark it: private, with
# nothing in it but an empty directory, or a mark that is not whole, and not new (then it is being
# written).
oj_is_abandoned() {
  (
    oj_into "$1" && oj_check 1 self || exit
    [ ! -d .script ] || [ -L .script ] || rmdir ./.script || exit
    [ -z "$(find . ! -name . -prune ! -name .oj-mark -print)" ] || exit
    oj_there .oj-mark || exit 0
    ! oj_marked "" "" && [ -n "$(find .oj-mark -prune -type f -mmin +1)" ] && rm -f ./.oj-mark
  )
}

# Makes and enters the private directory of the submission $2 of the job's directory $1 in the place
# for it, by the call $3, and marks it.  0: made; 2: an error, written to stderr; 3: this token has
# one already.  $4 is not empty if the directory was made just now.
oj_own() {
  if [ -z "${4-}" ] && ! mkdir -m 700 "./$2" 2>/dev/null; then
    oj_make "$2"
    case $? in
      0) ;;
      1) oj_is_abandoned "$2" || return 3 ;;
      *) return 2 ;;
    esac
  fi
  oj_private=$oj_private/$2
  oj_into "$2" || return 2
  # Made together with others, it may look abandoned to another call until now.
  ! oj_there .oj-mark || return 3
  umask 077
  set -C
  printf 'openssh_jobs %s\n%s\n.' "$3" "$1" >.oj-mark && return 0
  # The disk is full, say.  Without its whole mark no later call would remove it.
  rm -f ./.oj-mark
  oj_leave "$2"
  return 2
}

# Makes the job's directory $1 if there is none, with an empty file $2 in it that says which call made
# it; then oj_place, and ends the script where that fails.
oj_directory() {
  if [ -e "$1" ] && [ ! -d "$1" ]; then echo 'Not a directory' >&2; exit 2; fi
  oj_made=
  if [ ! -d "$1" ]; then
    oj_up=${1%/*}
    mkdir -p -- "${oj_up:-/}" 2>/dev/null || mkdir -p -- "$1" || exit 2
    if mkdir -- "$1" 2>/dev/null; then
      oj_made=made
      # Not through a link that others have put there since.
      if ! (cd -P "${oj_up:-/}" && oj_into "${1##*/}" && set -C && : >"$2"); then
        [ ! -d "$1" ] || echo 'Permission denied' >&2
        rmdir -- "$1" 2>/dev/null
        exit 2
      fi
    else
      mkdir -p -- "$1" || exit 2
    fi
  fi
  oj_place "$1"
  oj_r=$?
  case $oj_r in 0) ;; 1) printf '%s\0' unsafe "$oj_reason" "$oj_why" ''; exit 5;; *) exit 2;; esac
}

# What follows is for the job's directory $1, its mark $2 and the call $3: new submissions, and
# directories in theirs, by the names $4...
oj_in() {
  oj_dir=$1 oj_made_mark=$2 oj_call=$3
  shift 3
  oj_names="$*"
}

# What the record of tokens says of the token $1, in oj_line; 1: nothing.  Its file is read once.
oj_used() {
  if [ -z "${oj_record-}" ]; then
    oj_record=none
    if [ -f "${HOME-}/.openssh_jobs/.tokens" ]; then
      oj_record=$oj_nl$(oj_home look && oj_is_record && cat .tokens)
    fi
  fi
  case $oj_record in *"$oj_nl$1 "*) oj_line=$(oj_token_line "$1");; *) return 1;; esac
}

# Prepares for the submission $1: the job's directory is made if there is none, and entered as far as
# its place for private directories, once for all that follow each other; all these are made by one
# process.  1: the job of this token is over; its line in the record of tokens is printed.  $2 is not
# empty if the caller chose the token.  Needs the functions of tokens.sh.
oj_begin() {
  if [ -n "$2" ] && oj_used "$1"; then
    printf '%s\0' used "$oj_line" '' ''
    return 1
  fi
  [ "$oj_dir" != "${oj_last-}" ] || return 0
  set +C
  if [ -z "${oj_umask-}" ]; then
    oj_umask=$(umask)
    trap oj_remove_new EXIT
    # Under a limit on the size of files it would end this shell before it cleans up.
    trap : XFSZ 2>/dev/null
  fi
  umask "$oj_umask"
  oj_directory "$oj_dir" "$oj_made_mark"
  oj_last=$oj_dir oj_above=$oj_private
  oj_make_new
}

# Makes those of oj_names that are new, if all can be made: oj_new, and in them oj_below.
oj_make_new() {
  oj_new=' ' oj_below=
  for oj_f in $oj_names; do
    case $oj_f in
      */*) case $oj_new in *" ${oj_f%/*} "*) oj_below="$oj_below $oj_f";; esac;;
      *) oj_there "$oj_f" || oj_used "$oj_f" || oj_new="$oj_new$oj_f ";;
    esac
  done
  # shellcheck disable=SC2086 # names of letters that a token may have
  if [ "$oj_new" != ' ' ] && mkdir -m 700 $oj_new 2>/dev/null; then
    [ -z "$oj_below" ] || mkdir -m 700 $oj_below 2>/dev/null || :
  else
    oj_new=' ' oj_below=
  fi
}

# At the end: removes those of oj_new into which nothing was put.
oj_remove_new() {
  case ${oj_new-} in *[!\ ]*) ;; *) return;; esac
  # shellcheck disable=SC2086
  cd -P "$oj_above" && rmdir $oj_below $oj_new 2>/dev/null
}

# In that place: oj_own for the submission $1.  Status 6: the token has a private directory already;
# 2: any other error.  1: it is not where it was expected, for which the files were made.
oj_create() {
  oj_private=$oj_above oj_is_new=
  case $oj_new in *" $1 "*) oj_is_new=yes;; esac
  oj_own "$oj_dir" "$1" "$oj_call" "$oj_is_new"
  case $? in
    0) ;;
    3) printf '%s\0' taken "$oj_above/$1" '' ''; exit 6 ;;
    *) exit 2 ;;
  esac
  [ "$oj_private" = "$oj_dir/.openssh_jobs/$1" ]
}

# Back from there, by the directory and not by its name.
oj_return() { cd -P .. || exit 2; }

# All were made.
oj_finish() { oj_new=; }

# Says where the private directory is: "made" or "moved" ($1), its path, why that is not in the job's
# directory, "made" if that was made.
oj_created() { printf '%s\0' "$1" "$oj_private" "$oj_reason" "$oj_made"; }

# Enters the private directory of the submission $2 of the job's directory $1, to put files there.
oj_reenter() {
  oj_find "$1" "$2" && return
  printf '%s\n' "${oj_why:-No such file or directory}" >&2
  exit 2
}

# Makes the directory $1 in the private directory, unless that was done.
oj_make_below() { [ -d "$1" ] || mkdir -m 700 "./$1" || exit 2; }

# Writes the new file $1 in the current directory, for its owner only: the text $2, or with more
# words each of them with a NUL behind it.
oj_put() {
  umask 077
  set -C
  if [ $# -eq 2 ]; then printf %s "$2" >"$1" || exit 2; return; fi
  oj_file=$1
  shift 2
  printf '%s\0' "$@" >"$oj_file" || exit 2
}

# Copies the job's script $1 into the current directory as $2.  Status 3: an error; 4: it is empty.
oj_copy_script() {
  if [ ! -f "$1" ]; then
    if [ -e "$1" ]; then echo 'Is a directory' >&2; else echo 'No such file or directory' >&2; fi
    exit 3
  fi
  if [ ! -s "$1" ]; then exit 4; fi
  cp -p -- "$1" "$2" || exit 3
}

# Removes the private directory of the submission $2 of the job's directory $1 if it carries our
# mark, and that of the call $3 if this is not empty.  Status 0: removed, or there is none; 4: some
# of it stays; 1: it may not be ours, and stderr says why.
oj_remove_private() {
  oj_find "$1" "$2"
  oj_r=$?
  if [ $oj_r -eq 2 ]; then exit 0; fi
  if [ $oj_r -eq 0 ] && oj_marked "" "$3"; then
    oj_empty "$2" || exit 4
    cd .. && rmdir ./.openssh_jobs 2>/dev/null
    exit 0
  fi
  printf '%s\n' "${oj_why:-$PWD carries no mark of this package}" >&2
  exit 1
}

# Removes the job's directory $1 if it carries the mark $2 of the call that made it.  What an upload
# put there (then the mark is not empty) goes with it, unless others could have moved the mark there;
# a directory that was only made goes if it is empty.
oj_remove_made() {
  oj_m=$2
  cd -P "$1" 2>/dev/null && [ -f "$oj_m" ] && [ ! -L "$oj_m" ] && [ -O "$oj_m" ] || exit 0
  oj_d=${PWD##*/}
  if [ ! -s "$oj_m" ]; then
    rm -f "$oj_m"
    oj_leave "$oj_d" 2>/dev/null
    exit 0
  fi
  # Others could have led us to make it here, by a link in the place of the directory it is for.
  if [ "$(head -c 64 "$oj_m")" != "put $(oj_number)" ]; then
    printf '%s\n' "$PWD carries the mark of another directory" >&2
    exit 1
  fi
  if oj_check 1 self; then oj_empty "$oj_d"; exit; fi
  printf '%s\n' "$oj_why" >&2
  exit 1
}

# Both.  The private directory of another call (status 1) stays; that is no failure.
oj_undo() {
  (oj_remove_private "$1" "$2" "$3") 2>/dev/null
  oj_r=$?
  (oj_remove_made "$1" "$4") && [ $oj_r -le 1 ]
}

# Removes the file $1 with the variables of env= from a private directory: the scheduler has them.
oj_forget_environment() { rm -f -- "$1"; }

# Prints for each of the files $2... its size and its bytes up to $1 with a NUL and a line end behind
# them; a dash in the place of the size where it cannot be read.  Begins with "yes" if there is a
# /bin/bash.
oj_scripts() {
  oj_most=$1
  shift
  [ ! -x /bin/bash ] || printf yes
  echo
  for oj_f; do
    if [ -f "$oj_f" ] && [ -r "$oj_f" ]; then
      wc -c <"$oj_f" && head -c "$oj_most" "$oj_f"
    else
      echo -
    fi
    printf '\0\n'
  done
}

# Prints the size of the file $1 and its bytes from the $2nd on, $3 at most.  If $1 is a directory,
# the first of the names $4... in it that is a file.  Status 21: it is no regular file, and its name
# is printed; 1: an error.
oj_print_from() {
  oj_f=$1 oj_from=$2 oj_most=$3
  shift 3
  if [ $# -gt 0 ] && [ -d "$oj_f" ]; then
    oj_d=$oj_f
    for oj_n; do
      oj_f=$oj_d/$oj_n
      [ ! -f "$oj_f" ] || break
    done
  fi
  if [ ! -f "$oj_f" ]; then
    # -L: what a link leads to may come later.
    if ! ls -dL -- "$oj_f" >/dev/null; then printf %s "$oj_f"; return 1; fi
    # It may have come since the first look.
    if [ ! -f "$oj_f" ]; then printf %s "$oj_f"; exit 21; fi
  fi
  wc -c <"$oj_f" && tail -c +"$oj_from" -- "$oj_f" | head -c "$oj_most"
}
