# shellcheck shell=sh disable=SC2015 # either one that fails removes the file
# Writes down what runs the submitted script: that process is the parent here, and becomes the launcher, so its
# number stays.
PATH=${PATH-}:/usr/bin:/bin
exec 2>/dev/null
umask 077
oj_seen=@PLACE@/seen.$PPID.$(uname -n).@MEMBER@
cat "/proc/$PPID/environ" >"$oj_seen.env" || rm -f "$oj_seen.env"
readlink "/proc/$PPID/exe" >"$oj_seen.exe" &&
tr '\000' '\012' <"/proc/$PPID/cmdline" >"$oj_seen.args" || rm -f "$oj_seen.args"
