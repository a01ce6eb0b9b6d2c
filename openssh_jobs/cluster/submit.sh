# shellcheck shell=sh
# Runs an attempt under a limit.  timeout(1) makes a process group and ends that, so that nothing of
# it submits later, also when the session is gone; where there is another one, the attempt sees it.
oj_attempt=@ATTEMPT@
if timeout -s KILL 9 true 2>/dev/null; then exec timeout -s KILL @LIMIT@ /bin/sh -c "$oj_attempt"; fi
exec /bin/sh -c "$oj_attempt"
