# shellcheck shell=sh
# Functions that the functions of all other files may call: errors, names, renaming.

# Ends the script with status $1; $2 is the text of strerror(3) for the reason.
oj_fail() { echo "$2" >&2; exit "$1"; }

oj_exists() { [ -e "$1" ] || [ -L "$1" ]; }

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
