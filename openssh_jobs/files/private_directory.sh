# shellcheck shell=sh disable=SC2086 # oj_all and oj_strict are lists of words without blanks
# Functions around private directories; private_directory.py says what these are.

oj_me=$(id -u) oj_why= oj_nl='
'
# Whether no other user can change the current directory ($PWD is physical) or replace its parents.
# $1: in so many directories, from this one up, others must not even be able to add names; $2: "all"
# checks all parents up to the root, "home" only one (who can replace a home has the account
# already), "self" none.
oj_check() {
  oj_up=. oj_all= oj_strict= oj_n=0 oj_rest=$PWD
  while :; do
    if [ "$oj_n" -lt "$1" ]; then oj_strict="$oj_strict -o -path $oj_up"
    elif [ "$2" = self ]; then break
    fi
    oj_all="$oj_all $oj_up"
    if [ "$oj_n" -ge "$1" ] && [ "$2" = home ]; then break; fi
    [ -n "$oj_rest" ] || break
    oj_rest=${oj_rest%/*} oj_up=$oj_up/.. oj_n=$((oj_n + 1))
  done
  if [ "$1" -gt 0 ] && [ ! -O . ]; then oj_why="$PWD belongs to another user"; return 1; fi
  oj_bad=$(find $oj_all -prune '(' ! -user "$oj_me" ! -user 0 -o \
    '(' -perm -0020 -o -perm -0002 ')' '(' ! -perm -1000 $oj_strict ')' ')' -print) || {
    oj_why="$PWD cannot be looked at"; return 1
  }
  [ -n "$oj_bad" ] || return 0
  if oj_own_group; then
    oj_bad=$(find $oj_all -prune '(' ! -user "$oj_me" ! -user 0 -o \
      '(' -perm -0020 ! -group "$oj_gid" -o -perm -0002 ')' '(' ! -perm -1000 $oj_strict ')' ')' \
      -print) && [ -z "$oj_bad" ] && case $(ls -ldn $oj_all) in *+\ *) false;; esac && return 0
  fi
  oj_bad=${oj_bad%%"$oj_nl"*}
  oj_why="others can change $(cd -P "${oj_bad:-.}" && pwd)"
  return 1
}
# Whether our group is ours alone, as where umask 002 is usual: our name, and no other member.
oj_own_group() {
  oj_gid=$(id -g) && oj_name=$(id -un) && [ "$(id -gn)" = "$oj_name" ] || return 1
  case $(getent group "$oj_gid" 2>/dev/null) in
    "$oj_name":*:"$oj_gid":|"$oj_name":*:"$oj_gid":"$oj_name") return 0;;
  esac
  return 1
}
# Into the directory $1 of the current one, through no link.
oj_into() {
  oj_from=${PWD%/}
  if [ -L "$1" ]; then oj_why="$oj_from/$1 is a link"; return 1; fi
  if [ ! -d "$1" ]; then oj_why="$oj_from/$1 is not a directory"; return 1; fi
  if cd -P "./$1" 2>/dev/null && [ "$PWD" = "$oj_from/$1" ]; then return 0; fi
  oj_why="$oj_from/$1 cannot be entered"
  return 1
}
# Makes the directory $1; what is there already is the caller's to look at.  Else 2, and why.
oj_make() {
  oj_out=$(umask 077; mkdir -m 700 "./$1" 2>&1) && return 0
  if [ -e "$1" ] || [ -L "$1" ]; then return 1; fi
  printf '%s\n' "$oj_out" >&2
  return 2
}
# Whether the absolute path $1 leads through links, and their directories, of ours and root's only.
oj_straight() {
  oj_todo=$1 oj_path= oj_hops=0
  while [ -n "$oj_todo" ]; do
    oj_part=${oj_todo%%/*}
    case $oj_todo in */*) oj_todo=${oj_todo#*/};; *) oj_todo=;; esac
    case $oj_part in
      ''|.) continue;;
      ..) oj_path=${oj_path%/*}; continue;;
    esac
    if [ ! -L "$oj_path/$oj_part" ]; then oj_path=$oj_path/$oj_part; continue; fi
    oj_hops=$((oj_hops + 1))
    [ "$oj_hops" -le 40 ] && (cd -P "${oj_path:-/}" && oj_check 0 all) &&
      [ -n "$(find "$oj_path/$oj_part" -prune '(' -user "$oj_me" -o -user 0 ')' -print)" ] &&
      oj_link=$(readlink "$oj_path/$oj_part") || return 1
    case $oj_link in /*) oj_path=;; esac
    oj_todo=$oj_link/$oj_todo
  done
}
# Whether the current directory carries our mark, for the job's directory $1 and the call $2, where
# they are given.
oj_marked() {
  [ -f .oj-mark ] && [ ! -L .oj-mark ] && [ -O .oj-mark ] && oj_text=$(cat .oj-mark) || return 1
  case $oj_text in 'openssh_jobs '*"$oj_nl"*"$oj_nl".) ;; *) return 1;; esac
  [ -z "$1" ] || [ "${oj_text#*"$oj_nl"}" = "$1$oj_nl." ] || return 1
  [ -z "${2-}" ] || [ "${oj_text%%"$oj_nl"*}" = "openssh_jobs $2" ]
}
# Into the directory of the submission $2 of the directory $1; 1 where it cannot be trusted (with
# oj_why), 2 where there is none.
oj_find() {
  oj_why= oj_found=2
  if cd -P "$1" 2>/dev/null && oj_there .openssh_jobs && oj_there ".openssh_jobs/$2"; then
    if oj_into .openssh_jobs && oj_into "$2" && oj_check 2 all; then oj_top=all; return 0; fi
    oj_found=1
  fi
  if [ -n "${HOME-}" ] && cd -P "$HOME" 2>/dev/null && oj_there ".openssh_jobs/$2" &&
    oj_into .openssh_jobs && oj_into "$2" && oj_check 2 home && oj_marked "$1"
  then oj_top=home; return 0; fi
  return $oj_found
}
oj_there() { [ -e "$1" ] || [ -L "$1" ]; }
# Empties the current directory and removes it; its name is $1.  What calls this has just looked at
# the mark in it, and stays in it: names that are swapped meanwhile lead nowhere.  What is mounted
# below (bind mounts are of the same device) is not ours.
oj_empty() {
  oj_path=$(printf %s "$PWD" | sed 's/\\/\\134/g; s/ /\\040/g')
  case $(cat /proc/self/mountinfo 2>/dev/null) in
    *" $oj_path/"*) printf '%s\n' "a file system is mounted below $PWD" >&2; return 1;;
  esac
  find . ! -name . -prune ! -name '.oj-*' -exec rm -rf -- {} + &&
  find . ! -name . -prune -exec rm -rf -- {} + && oj_leave "$1"
}
# Out of the current directory, whose name is $1, and away with it if it is empty.
oj_leave() {
  # shellcheck disable=SC2046 # the number and the name
  set -- "$1" $(ls -di .)
  oj_number=$2
  # shellcheck disable=SC2046
  cd .. && set -- "$1" $(ls -di "./$1") && [ "$2" = "$oj_number" ] && rmdir "./$1"
}
# Opens the plain file $1 of ours, which exists, as descriptor 9: $2 is `read`, `write` or `append`.
# Who can rename in its directory could put there a fifo, whose opening waits, or a link to a file
# that the opening makes.  There the file gets a second name for that time, in a directory that only
# we can enter.  Changes the current directory.
oj_open() {
  oj_file=${1##*/} oj_own= oj_done=
  cd -P "${1%/*}/" || return
  if ! oj_check 0 all; then
    oj_own=$oj_file-$$.partd
    oj_make "$oj_own" && oj_into "$oj_own" && oj_check 1 self || return
    if ln -- "../$oj_file" open 2>/dev/null; then oj_file=open
    # Where nothing can have two names (exFAT) no modes keep users apart either.
    elif : >new && ln new old 2>/dev/null; then oj_file=
    else oj_file=../$oj_file
    fi
  fi
  if [ -f "$oj_file" ] && [ ! -L "$oj_file" ]; then
    # With "command" a failure does not end the shell.
    case $2 in
      read) command exec 9<"$oj_file" ;;
      write) command exec 9<>"$oj_file" ;;
      append) command exec 9>>"$oj_file" ;;
    esac && oj_done=yes
  fi
  if [ -n "$oj_own" ]; then rm -f open new old; oj_leave "$oj_own"; fi
  [ -n "$oj_done" ] && oj_is_open "$1"
}
