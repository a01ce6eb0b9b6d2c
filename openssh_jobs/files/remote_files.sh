# shellcheck shell=sh disable=SC2016,SC2086,SC2094
# SC2016: text for another sh.  SC2086: wc(1) of the BSDs prints blanks before the number.
# SC2094: a descriptor of a file beside its name.
# The scripts of the file methods, one function each; status 2 is about the second path.
# Short names of variables: bash reads a script byte by byte.

# Whoever opens a fifo waits for a program at its other end.
oj_no_fifo() { [ ! -p "$1" ] || oj_fail 1 'Is a fifo'; }

# $1: path, $2: most bytes, $3 $4: option and format of stat(1) for the size.
oj_read() {
  [ ! -d "$1" ] || oj_fail 1 'Is a directory'
  oj_no_fifo "$1"
  stat -L "$3" "$4" -- "$1" 2>/dev/null || { ls -d "$1" >/dev/null && echo 0; } || exit
  # dash says "No such file" also of a path through a file; ls names the right reason.
  head -c "$2" <"$1" || { s=$?; ls -d "$1" >/dev/null; exit "$s"; }
}

# $1: part, $2: target, $3: size, $4: the directory of both.  oj_source prints the bytes.
oj_write() {
  set -C
  [ ! -d "$2" ] || oj_fail 1 'Is a directory'
  m=
  if [ -f "$2" ]; then
    m=$(stat -c %a -- "$2" 2>/dev/null || stat -f %Lp -- "$2" 2>/dev/null)
    # Whoever may not read the old file may not read the part either.
    [ -z "$m" ] || umask 077
  fi
  { { [ -z "$m" ] || oj_close_to_others "$1"; } && oj_source >&9 &&
    f=/proc/self/fd/9 && { [ -e $f ] || f=$1; } && n=$(wc -c <"$f") &&
    [ $n -eq "$3" ] && { [ -z "$m" ] || oj_on_open "$1" chmod "$m"; } &&
    oj_rename "$1" "$2" && echo "done"; } 9>"$1" ||
    { s=$?; rm -f -- "$1"; ls -d "$4" >/dev/null; exit "$s"; }
}

# Writes $2 bytes more to the file $1, or to a new one in the directory $1, and removes it.  Needs the
# functions of private_directory.sh.
oj_probe() {
  p=$1
  [ ! -d "$1" ] || p=$1/.oj-probe
  (
    oj_exists "$p" || (set -C; umask 077; : >"$p") || exit
    oj_open "$p" append && head -c "$2" /dev/zero >&9
  )
  s=$?
  rm -f -- "$p"
  exit "$s"
}

# $1 $2: option and format of stat(1), then paths.  Prints a status and a line or an error for each.
oj_stat_many() {
  o=$1 f=$2
  shift 2
  for p; do
    if e=$(stat -L "$o" "$f" -- "$p" 2>&1)
    then printf '0 %s\0' "$e"
    else printf '%s %s\0' "$?" "$e"
    fi
  done
}

# $1: directory, $2 $3: option and format of stat(1).
oj_scandir() {
  find "$1/." -mindepth 1 -maxdepth 1 -exec /bin/sh -c 'o=$1 f=$2; shift 2
for p; do printf "%s\0%s\0" "$p" "$(stat "$o" "$f" -- "$p")"; done' sh "$2" "$3" {} +
}

# The pattern has become the arguments: itself, where nothing matches it.
oj_glob() { for p; do if oj_exists "$p"; then printf '%s\0' "$p"; fi; done; }

oj_readlink() {
  if [ -L "$1" ]; then readlink -- "$1"; return; fi
  [ ! -e "$1" ] || oj_fail 1 'Invalid argument'
  oj_fail 1 'No such file or directory'
}

# No "--": BusyBox takes it for a name, and the path never begins with a dash.
oj_realpath() {
  if command -v realpath >/dev/null; then realpath "$1"; else readlink -f -- "$1"; fi
}

oj_makedirs() {
  ! oj_exists "$1" || oj_fail 1 'File exists'
  mkdir -p -- "$1"
}

oj_remove() {
  if [ -d "$1" ] && [ ! -L "$1" ]; then oj_fail 1 'Is a directory'; fi
  rm -- "$1"
}

oj_rmtree() {
  oj_exists "$1" || oj_fail 1 'No such file or directory'
  if [ -L "$1" ] || [ ! -d "$1" ]; then oj_fail 1 'Not a directory'; fi
  rm -rf -- "$1"
}

oj_replace() {
  oj_exists "$1" || oj_fail 1 'No such file or directory'
  if [ -d "$2" ] && [ ! -L "$2" ]; then
    if [ ! -d "$1" ] || [ -L "$1" ]; then oj_fail 2 'Is a directory'; fi
    rmdir -- "$2" || exit 2
  fi
  oj_rename "$1" "$2"
}

# $3: the name of the part, which is made in the directory of $2.
oj_copy() {
  [ ! -d "$1" ] || oj_fail 1 'Is a directory'
  oj_no_fifo "$1"
  [ ! -d "$2" ] || oj_fail 2 'Is a directory'
  p=$(dirname -- "$2"; echo x)
  p=${p%?x}/$3
  cp -- "$1" "$p" || { rm -f -- "$p"; exit 1; }
  mv -f -- "$p" "$2" || { rm -f -- "$p"; exit 2; }
}

# $2 is the target of the link, taken literally.
oj_symlink() {
  ! oj_exists "$1" || oj_fail 1 'File exists'
  ln -s -- "$2" "$1"
}
