# shellcheck shell=sh disable=SC2157,SC2288 # placeholders
# A scheduler's script, after the time by the host's clock and, where it is wanted, the file with the
# site's policy in octal.
@OWN@
printf '%s %s\n' @MARK@ "$(date +%s 2>/dev/null)"
if [ -n @POLICY@ ]; then
  printf '%s' @MARK@
  if [ -s @POLICY@ ]; then
    printf ' there'
    head -c @MOST@ @POLICY@ | od -An -v -to1 | tr -d '\n'
  fi
  echo
fi
@SCRIPT@
