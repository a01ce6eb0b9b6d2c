# shellcheck shell=sh disable=SC1090,SC1091,SC2157,SC2288 # placeholders
# The submit command, in the job's directory.  Where it is certain that it was not started, that is
# said with a text of its own and status 125.
oj_not_started() {
  printf '%s\n' @NOT_STARTED@
  exit 125
}
cd -- @DIRECTORY@ || oj_not_started
if [ -n @ENVIRONMENT@ ]; then
  { . @ENVIRONMENT@ && rm -f -- @ENVIRONMENT@; } || oj_not_started
fi
(
@COMMAND@
)
oj_r=$?
# Of a directory that has a job no later call removes anything.
[ "$oj_r" -ne 0 ] || [ -z @MARK@ ] || rm -f -- @MARK@
exit "$oj_r"
