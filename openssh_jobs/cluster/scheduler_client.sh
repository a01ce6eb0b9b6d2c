# shellcheck shell=sh disable=SC2288 # a placeholder
# A scheduler's script, after the time by the host's clock.
printf '%s %s\n' @MARK@ "$(date +%s 2>/dev/null)"
@SCRIPT@
