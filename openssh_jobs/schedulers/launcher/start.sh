# shellcheck shell=sh disable=SC2086 # oj_bare, oj_flag and oj_reset are lists of words
# Starts the script as the submitted one was started.  What the shell of that got from its start files is
# theirs: the script's shell reads them itself, and begins with the environment that it began
# with.
oj_seen=@PLACE@/seen.$$.$(uname -n).@MEMBER@
oj_exe= oj_run= oj_way=
set -- @ARGUMENTS@
if [ -s "$oj_seen.args" ]; then
  oj_way=known oj_words=$(wc -l <"$oj_seen.args")
  # The arguments of the script, which come last, are none that names it.
  [ "$(tail -n "$#" "$oj_seen.args")" != "$(printf '%s\n' "$@")" ] || oj_words=$((oj_words - $#))
  set --
  while [ "$oj_words" -gt 0 ] && IFS= read -r oj_word; do
    oj_words=$((oj_words - 1))
    if [ -z "$oj_run" ] && [ $# -gt 0 ] && [ -f "$oj_word" ]; then
      oj_run=@PLACE@/${oj_word##*/}
      ln -s body "$oj_run"
      [ "$(readlink "$oj_run")" = body ] || oj_run=$oj_body
      oj_word=$oj_run
    fi
    set -- "$@" "$oj_word"
  done <"$oj_seen.args"
  IFS= read -r oj_exe <"$oj_seen.exe"
elif set -- && [ -r "${SGE_JOB_SPOOL_DIR-}/config" ]; then
  oj_login=
  while IFS= read -r oj_word; do
    case $oj_word in
      shell_path=*) oj_exe=${oj_word#*=} ;;
      shell_start_mode=*) oj_way=${oj_word#*=} ;;
      use_login_shell=1) oj_login=- ;;
    esac
  done <"$SGE_JOB_SPOOL_DIR/config"
  case $oj_way in
    posix_compliant) oj_run=$oj_body; set -- "$oj_login${oj_exe##*/}" "$oj_body" ;;
    script_from_stdin) set -- "$oj_login${oj_exe##*/}" -s ;;
    *) oj_way= ;;
  esac
fi
if [ -z "$oj_way" ] || @SEEN@; then
  oj_run=${oj_run:-$oj_body}
  @ITSELF@
else
  [ -n "$oj_run" ] || exec 8<"$oj_body"
  [ -x "$oj_exe" ] || oj_exe=${SHELL:-/bin/sh}
fi
set -- "$@" @ARGUMENTS@
# shellcheck disable=SC2016 # perl's variables
oj_hand='my$m=shift;local$/;for my$n("<&=7",$m?"<$m":()){open F,$n or exit 127;$_=<F>;close F;
  for(split/\0/){my($k,$v)=split/=/,$_,2;$ENV{$k}=$v if defined$v}}
  $SIG{INT}=$SIG{QUIT}="DEFAULT";my$p=shift;exec{$p}@ARGV;exit 127'
# shellcheck disable=SC2016 # expanded by the bash that gets it
oj_shell='m=$1 b=$2 f=$3 e=() p=$4; shift 4
  while IFS= read -r -d "" w <&7; do case $w in -*) ;; *=*) e+=("$w") ;; esac; done
  exec 7<&- env $b $f "${e[@]}" "$BASH" -p -c '\''if [ -n "$1" ]; then
    while IFS= read -r -d "" w; do export "$w"; done <"$1"; fi
    exec -a "$2" "$0" "${@:3}"'\'' "$p" "$m" "$@"'
oj_flag=
case $oj_reset in 'env '*) oj_flag=${oj_reset#env } ;; esac
oj_bare= oj_more=
[ ! -s @PLACE@/env ] || oj_more=@PLACE@/env
if [ -s "$oj_seen.env" ]; then oj_bare='env -i'; exec 7<"$oj_seen.env"; else exec 7</dev/null; fi
if $oj_bare /usr/bin/perl -e 1; then
  set -- $oj_bare /usr/bin/perl -e "$oj_hand" "$oj_more" "$oj_exe" "$@"
elif [ -n "$oj_bare$oj_more" ] && [ -x /bin/bash ]; then
  set -- "$oj_flag" "$oj_exe" "$@"
  set -- ${oj_bare:-env} /bin/bash -p -c "$oj_shell" sh "$oj_more" "${oj_bare#env}" "$@"
elif [ -n "$oj_more" ]; then
  echo 'openssh_jobs: this node has neither perl nor bash to set the variables of env=' >&9
  oj_write exit "127 $(date +%s)"
  kill -9 "$oj_still"
  exit 127
else
  oj_word=$1
  shift
  case ${oj_exe##*/}$oj_word in *csh-*) ;; *sh-*) set -- -l "$@" ;; esac
  set -- $oj_reset "$oj_exe" "$@"
fi
rm -f "$oj_seen.env" "$oj_seen.exe" "$oj_seen.args"
"$@" <&8 2>&9 8<&- 9>&- &
exec 7<&-
