# shellcheck shell=sh
# Functions that the functions of all other files may call: errors, names, renaming.

# Ends the script with status $1; $2 is the text of strerror(3) for the reason.
oj_fail() { echo "$2" >&2; exit "$1"; }

oj_exists() { [ -e "$1" ] || [ -L "$1" ]; }

# Prints the number of the current directory's inode.
oj_number() {
  # shellcheck disable=SC2046 # the number and the name
  set -- $(ls -di .) && echo "$1"
}

# Whether descriptor 9 has open what the name $1 stands for: a plain file of ours that has no other
# name, and no link.  Who can rename in its directory could have put something else there.
oj_is_open() {
  [ -e /proc/self/fd/9 ] || return 0
  # shellcheck disable=SC2046 # the number and the name
  [ -O /proc/self/fd/9 ] || [ "$(id -u)" = 0 ] && set -- "$1" $(ls -diL /proc/self/fd/9 9<&9) &&
    [ -n "$(find "$1" -prune -type f -links 1 -inum "$2" -print)" ] && return
  echo 'Operation not permitted' >&2
  return 1
}

# Runs chmod(1) or touch(1), $2..., on the file $1, which descriptor 9 has open.  By its name others
# could lead them to another file of ours.
oj_on_open() {
  oj_f=$1
  shift
  # No "--": BusyBox and the BSDs take it for a file here.
  if [ -e /proc/self/fd/9 ]; then "$@" /proc/self/fd/9 9<&9
  else
    oj_program=$1
    shift
    "$oj_program" -h "$@" "$oj_f" 2>/dev/null || "$oj_program" "$@" "$oj_f"
  fi
}

# Takes from others what umask does not, where the directory has a default ACL: the new file $1,
# which descriptor 9 has open.
oj_close_to_others() { oj_on_open "$1" chmod 600; }

# Renames $1 over $2.  mv moves into a directory, also one that has just appeared, or one behind a
# link; rename(2), which -T asks for, does not.  Without -T (the BSDs, which know -h) tests have to do.
oj_rename() {
  if mv -fT -- "$1" "$2" 2>/dev/null; then :
  elif [ -d "$2" ] && [ ! -L "$2" ]; then echo 'Is a directory' >&2; return 1
  elif [ -L "$2" ] && [ -d "$2" ]; then
    mv -fh -- "$1" "$2" 2>/dev/null || { rm -f -- "$2" && mv -f -- "$1" "$2"; }
  else mv -f -- "$1" "$2"
  fi
}
