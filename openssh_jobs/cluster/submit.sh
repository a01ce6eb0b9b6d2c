# shellcheck shell=sh
# Runs the attempts of several submissions under a limit.  timeout(1) makes a process group and ends
# that, so that nothing of it submits later, also when the session is gone; where there is another
# timeout(1), or none, each attempt has its own.
@WHERE@
oj_begins=
if timeout -s KILL 9 true 2>/dev/null; then oj_begins="timeout -s KILL "@LIMIT@; fi
# Uploaded directories in which several jobs begin stay: by the mark $2 no submission removes them.
oj_keep() {
  (
    cd -P "$1" || exit
    if [ -d "$2.sent" ]; then rm -f "$2"; elif [ -f "$2" ]; then mv -f "$2" "$2.sent"; fi
  )
}
@KEPT@
# shellcheck disable=SC2086 # some words, or none
$oj_begins /bin/sh -c @ATTEMPTS@ openssh-jobs "$oj_here" </dev/null
# Whatever has not begun by now was not begun.
printf '\n%s over\n' @MARK@
