# shellcheck shell=sh
# oj_show prints the record of one job.
oj_boot
oj_here=$(uname -n)
oj_now=$(date +%s)
oj_show() {
  oj_verdict "$oj_base/$1"
  printf '%s|%s|%s|%s\n' "$oj" "$1" "$oj_v" "$oj_now"
  if [ "$oj_v" != absent ]; then
    cd "$oj_base/$1" && cat job start exit cancel timeout 2>/dev/null
    printf '%s>' "$oj"
    cat "$oj_base/$1/directory" 2>/dev/null
  fi
  printf '\n'
}
