# shellcheck shell=sh disable=SC2015,SC2016,SC2046,SC2086,SC2094
# SC2015: A && B || C.  SC2016: text for another sh.  SC2046, SC2086: words, and numbers with blanks.
# SC2094: a descriptor of a file beside its name.
# The scripts of transfers, one function each.  Paths are absolute.
# Short names of variables: bash reads a script byte by byte.

# -- parts and stages ---------------------------------------------------------------------------

# Prints our parts in the directory $1, each behind `o` (old) or `n` and ended by NUL.  The parts of
# the caller, whose names hold $2, are never old, others after more than $3 days without a change.
oj_list_parts() {
  for p in "${1%/}"/.oj-*.part "${1%/}"/.oj-*.partd; do
    [ -O "$p" ] && [ ! -L "$p" ] || continue
    a=n
    case $p in
      *-"$2".part*) ;;
      *) f=$(find "$p" ! -mtime "+$3" 2>/dev/null) && [ -z "$f" ] && a=o ;;
    esac
    printf '%s\0' "$a${p##*/}"
  done
  :
}

# Removes the named parts in the directory $1; trees only if no other user could have made them.
# Needs the functions of private_directory.sh.
oj_sweep_parts() {
  cd -P "$1" || return
  shift
  for p; do
    [ -O "$p" ] && [ ! -L "$p" ] || continue
    if [ ! -d "$p" ]; then rm -f -- "$p"
    elif (oj_check 0 all); then chmod -R u+rwx "$p"; rm -rf -- "$p"
    fi
  done
}

# False where the file system of the current directory keeps no modes: FAT, exFAT.
oj_keeps_modes() {
  mkdir -m 700 .oj-mode || return 0
  oj_mode=$(find .oj-mode -prune '(' -perm -0020 -o -perm -0002 ')' -print)
  rmdir .oj-mode
  [ -z "$oj_mode" ]
}

# Makes the directory $1 and prints its number.  Others who can rename there could put a link, or a
# directory of ours, in its place before it is entered: what is entered lies there, is empty, and
# others cannot write to it.
oj_make_stage() {
  oj_in=${1%/*} oj_name=${1##*/}
  cd -P "${oj_in:-/}" && oj_in=$(pwd -P && echo .) && oj_in=${oj_in%??} || return
  mkdir -m 700 -- "$oj_name" && cd -P "./$oj_name" || return
  # Its members at the top, and itself if others can write to it.
  oj_odd=$(find . ! -name . -prune -print -o -perm -0020 -print -o -perm -0002 -print) || return
  if [ "$oj_odd" = . ] && ! oj_keeps_modes; then oj_odd=; fi
  if [ "$(pwd -P)" = "${oj_in%/}/$oj_name" ] && [ -O . ] && [ -z "$oj_odd" ]; then oj_number
  else oj_fail 1 'Operation not permitted'
  fi
}

# Removes the tree $1 if its number is still $2.  In a directory where others may rename, they could
# have put another directory of ours in its place: what is entered stays the same.
oj_remove_stage() {
  cd -P "$1" || { [ ! -L "$1" ] && chmod u+rwx "$1" && cd -P "$1"; } || return
  [ "$(oj_number)" = "$2" ] || return
  chmod -R u+rwx .
  find . ! -name . -prune -exec rm -rf -- {} +
  cd / && rmdir -- "$1"
}

# Ends where the name $1 is longer than the system takes; of one in a directory that is missing only
# the length of the whole path is known.  143: the shortest limit of a file system.
oj_check_length() {
  [ ${#1} -ge 143 ] || return 0
  case $(ls -d -- "$1" 2>&1 >/dev/null) in *' too long') oj_fail 2 'File name too long' ;; esac
}

# -- single files -------------------------------------------------------------------------------

# $1: target, $2: its directory, then as for oj_list_parts.
oj_prepare_file() {
  oj_check_length "$1"
  [ ! -d "$1" ] || oj_fail 2 'Is a directory'
  mkdir -p -- "$2" || return
  oj_check_length "$1"
  oj_list_parts "$2" "$3" "$4" && echo "done"
}

# $1: part, $2: target, $3: size, $4: mode, $5: `exact`, or `umask` to apply that, $6: time or empty.
# Status 3 where the part has another size.  Needs the functions of private_directory.sh.
oj_finish_file() {
  m=$4
  [ "$5" = exact ] || m=$(printf %o $((0$4 & ~0$(umask))))
  oj_open "$1" read || { ls -d -- "$1" >/dev/null && oj_fail 1 'Operation not permitted'; }
  n=$(wc -c <&9) || exit
  if [ $n -ne "$3" ]; then echo $n bytes arrived >&2; exit 3; fi
  oj_on_open "$1" chmod "$m" && { [ -z "$6" ] || (TZ=UTC0 oj_on_open "$1" touch -t "$6"); } &&
    oj_rename "$1" "$2" && echo "done"
}

# Prints the size of the part $1 to be resumed, and removes others whose names begin with $2.
# Status 3 where it is not a plain file that only we can write to.
oj_find_part() {
  for p in "$2"*.part; do
    [ "$p" = "$1" ] || [ -L "$p" ] || [ ! -O "$p" ] || rm -f -- "$p"
  done
  if ! oj_exists "$1"; then echo 0; return; fi
  [ -n "$(find "$1" -prune -type f -links 1 -user "$(id -u)" ! -perm -0020 ! -perm -0002 -print)" ] ||
    exit 3
  wc -c <"$1"
}

# With noclobber the part is created here, so it is not a file that another user put there.
oj_make_part() {
  [ ! -O "$1" ] || [ -L "$1" ] || rm -f -- "$1" || return
  # dash and bash open what is there and no plain file: a fifo would be waited for.
  ! oj_exists "$1" || oj_fail 1 'File exists'
  (umask 077; set -C; { oj_close_to_others "$1"; } 9>"$1")
}

# -- trees --------------------------------------------------------------------------------------

# $1: `merge` or `new`, $2: target, $3: its directory, $4: stage, then as for oj_list_parts.
oj_prepare_tree() {
  if [ "$1" = merge ]; then
    if [ -e "$2" ] && [ ! -d "$2" ]; then oj_fail 2 'Not a directory'; fi
  elif oj_exists "$2"; then oj_fail 2 'File exists'
  fi
  oj_check_length "$2"
  mkdir -p -- "$3" || return
  oj_check_length "$2"
  oj_list_parts "$3" "$5" "$6" && (oj_make_stage "$4") && echo "done"
}

# Gives the stage $1 the name $2, unless something has that name.  $3: a file to make in it first,
# with its number $4, so that it marks no other directory.
oj_place() {
  if [ -n "$3" ]; then
    (
      cd -P "$1" || exit
      [ "$(oj_number)" = "$4" ] || oj_fail 1 'Operation not permitted'
      set -C
      umask 077
      echo "put $4" >"$3"
    ) || exit 1
  fi
  ! oj_exists "$2" || oj_fail 1 'File exists'
  mv -nT -- "$1" "$2" 2>/dev/null || oj_exists "$2" || mv -n -- "$1" "$2" || exit
  n=${1##*/}
  # Without -T it may have been moved into a directory that appeared meanwhile.
  if [ -d "$2/$n" ]; then mv -- "$2/$n" "$1"; fi
  [ ! -e "$1" ] || oj_fail 1 'File exists'
  echo "done"
}

# Moves the members of the stage $1 with the number $3 into the directory $2; prints the directories
# that it makes there, each ended by NUL.  $4: the text of oj_rename.  Links of other users in the
# place of directories are refused; $2 is held open, because they could put one there later.
oj_merge() {
  if [ ! -d "$2" ]; then mv -- "$1" "$2" && echo "done"; return; fi
  cd -P -- "$1" 2>/dev/null || { [ ! -L "$1" ] && chmod u+rwx "$1" && cd -P -- "$1"; } || return
  if [ "$(oj_number)" != "$3" ]; then oj_fail 1 'Operation not permitted'; fi
  u=$(id -u) t=$2
  {
    if [ -e /proc/self/fd/9 ]; then
      t=/proc/self/fd/9/.
      set -- "$1" "$2" "$4" $(ls -diL /proc/self/fd/9 9<&9)
      [ -n "$(find "$2" -prune '(' -type d -inum "$4" -o -type l '(' -user "$u" -o -user 0 ')' ')' \
        -print)" ] || oj_fail 1 'Operation not permitted'
    else set -- "$1" "$2" "$4"
    fi
    # A directory has to be writable for its members to be moved out.
    find . -type d -exec chmod u+rwx {} + &&
      find . -type d -exec /bin/sh -c 't=$1 u=$2; shift 2; for d; do
if [ -L "$t/$d" ] && [ -d "$t/$d" ] &&
[ -z "$(find "$t/$d" -prune "(" -user "$u" -o -user 0 ")" -print)" ]
then echo "$d: Operation not permitted" >&2; exit 1; fi
[ -d "$t/$d" ] || { mkdir -- "$t/$d" && printf "%s\0" "$d"; } || exit 1
done' sh "$t" "$u" {} + 9<&9 &&
      find . ! -type d -exec /bin/sh -c 'eval "$1"; t=$2; shift 2; for f; do
if [ -d "$t/$f" ] && [ ! -L "$t/$f" ]; then echo "$f: Is a directory" >&2; exit 1; fi
oj_rename "$f" "$t/$f" || exit 1
done' sh "$3" "$t" {} + 9<&9
  } 9<"$2" && find . ! -name . -prune -exec rm -rf -- {} + && cd / && rmdir -- "$1" && echo "done"
}

# Removes names in the directory $2 (below $1, empty for $1 itself), which is entered without passing
# through a link.  $3: `d` for empty directories, else `f`.  Prints the directories that stay, because
# they are not empty any more, each ended by NUL.
oj_delete() {
  cd -P -- "$1" || exit
  t=$(pwd -P; echo x) t=${t%?x}
  h=$(cd && pwd -P; echo x) h=${h%?x}
  case ${h%/}/ in "${t%/}"/*) oj_fail 1 'Operation not permitted' ;; esac
  if [ -n "$2" ]; then
    cd -P -- "./$2" || exit
    w=$(pwd -P; echo x)
    [ "${w%?x}" = "${t%/}/$2" ] || oj_fail 1 'Not a directory'
  fi
  k=$3
  shift 3
  if [ "$k" = f ]; then
    for p; do shift; set -- "$@" "./$p"; done
    rm -f -- "$@" || exit
  else
    for p; do rmdir -- "./$p" 2>/dev/null || ! oj_exists "./$p" || printf '%s\0' "$p"; done
  fi
  :
}

# Gives files the time $2 in the directory $1; those that cannot get it keep theirs.
oj_set_times() {
  cd -- "$1" || exit
  t=$2
  shift 2
  TZ=UTC0 touch -c -t "$t" "$@" 2>/dev/null || :
}

# Prints where links point to, each ended by NUL.
oj_read_links() { for p; do t=$(readlink -- "$p"; echo x); printf '%s\0' "${t%?x}"; done; }

# -- listings -----------------------------------------------------------------------------------

# Runs a program that works long, after all others where the host has nice(1).
oj_gently() { if command -v nice >/dev/null; then nice "$@"; else "$@"; fi; }

# Prints KIND SIZE -1 NAME, ended by NUL, for all of the current directory, where find(1) has no
# -printf.  $1: -L to follow links, or empty.
oj_list() {
  oj_gently find $1 . -exec /bin/sh -c 'l=$1; shift; for p; do s=0
if [ -z "$l" ] && [ -L "$p" ]; then k=l; elif [ -d "$p" ]; then k=d
elif [ -f "$p" ]; then k=f; s=$(wc -c <"$p"); else k=o; fi
printf "%s %d -1 %s\0" $k $s "$p"
done' sh "$1" {} +
}

# The same with the time, and where a link points to.  $2 $3: option and format of stat(1).
oj_list_times() {
  oj_gently find $1 . -exec /bin/sh -c 'f=$1 o=$2 m=$3; shift 3; for p; do s=0 l=
if [ -z "$f" ] && [ -L "$p" ]; then k=l; l=$(readlink "$p"; echo x); l=${l%?x}
elif [ -d "$p" ]; then k=d; elif [ -f "$p" ]; then k=f; s=$(wc -c <"$p"); else k=o; fi
t=$(stat $f "$o" "$m" "$p") || exit 1
printf "%s %d -1 %s %s\0%s\0" $k $s $t "$p" "$l"
done' sh "$1" "$2" "$3" {} +
}

# Prints checksum and name, ended by NUL, of the files whose names come on stdin, below the
# directory $1.  The rest: a command for the checksum of its stdin.  GNU's -z writes names as they
# are; without it sha256sum would escape some.
oj_checksums() {
  cd -- "$1" || exit 1
  shift
  oj_z=
  ! sha256sum -z </dev/null >/dev/null 2>&1 || oj_z=yes
  oj_gently xargs -0 /bin/sh -c 'z=$1 c=$2; shift 2
for f; do
  # The open of a fifo, which took the place of a file meanwhile, would wait.
  [ -f "$f" ] || { ls -d "$f" >/dev/null && echo "$f: not a regular file" >&2; exit 1; }
  [ -z "$z" ] || continue
  h=$($c <"$f") || exit 1
  printf "%s  %s\0" "${h%%[!0-9a-f]*}" "$f"
done
[ -z "$z" ] || exec sha256sum -z "$@"' sh "$oj_z" "$*"
}

# Prints the checksum of the file $1, or of its first $2 bytes; the rest: the command for it.
oj_checksum() {
  oj_f=$1 oj_most=$2
  shift 2
  if [ ! -f "$oj_f" ]; then
    ls -d "$oj_f" >/dev/null && echo "$oj_f: not a regular file" >&2
    exit 1
  fi
  if [ -z "$oj_most" ]; then oj_gently "$@" <"$oj_f"; exit; fi
  head -c "$oj_most" <"$oj_f" | oj_gently "$@"
}
