# shellcheck shell=sh disable=SC2016 # expanded by the shell that gets it
# Runs a script that is too long for one argument: it comes on stdin, and is run if it is whole, that
# is, if its last line is the mark.  The prologue must not read it.
exec 9<&0 </dev/null
@PROLOGUE@
/bin/sh -c 'oj_text=$(cat); case $oj_text in *"$1") eval "$oj_text";; *) exit 125;; esac' \
  openssh-jobs @MARK@ <&9 9<&-
