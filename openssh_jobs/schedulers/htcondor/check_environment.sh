# shellcheck shell=sh
# condor_submit takes the last word on getenv, and environment wins over it: one of the two would
# be lost silently.
if grep -Eiq '^[[:space:]]*([+]|MY[.])?(getenv|get_env|get_environment|env|environment2?)[[:space:]]*=' @SCRIPT@; then
  echo 'openssh_jobs: refused: the submit description has a line getenv or environment: put the variables of env= there, or take that line out' >&2
  exit 1
fi
