# shellcheck shell=sh
# Attempts of a submission, in its private directory; attempt.py says what the files are.

# Where this is: node, boot and pid namespace.  A pid means the same only there.
oj_where() {
  oj_boot=
  if [ -r /proc/sys/kernel/random/boot_id ]; then
    IFS= read -r oj_boot </proc/sys/kernel/random/boot_id
  else
    oj_boot=$(sysctl -n kern.boottime 2>/dev/null | sed 's/.*sec = \([0-9]*\),.*/\1/')
  fi
  oj_here=$(uname -n)/${oj_boot:-none}/$(readlink /proc/self/ns/pid 2>/dev/null)
}

# The process group of this shell.
oj_own_process_group() {
  if IFS= read -r oj_group 2>/dev/null <"/proc/$$/stat"; then
    oj_group=${oj_group##*) }
    # shellcheck disable=SC2086 # fields of /proc
    set -- $oj_group
    oj_group=$3
  else
    oj_group=$(ps -o pgid= -p $$ | tr -d ' ')
  fi
}

# Makes the file $1 the claim $2 (attempt-N) if there is none.  Whose that is, its first line says,
# and no exit status: NFS may answer that a link exists to the one who has just made it.  Where no
# links can be made it is a directory of another name, because ln(1) would put its link into one.
# Status 1: it is another's; 2: none can be made.
oj_claim() {
  if ln "$1" "$2" 2>/dev/null || [ -e "$2" ]; then
    IFS= read -r oj_has <"$2"
    IFS= read -r oj_ours <"$1"
    [ "$oj_has" = "$oj_ours" ] && [ ! -e "$2.d" ]
  elif mkdir -m 700 "$2.d" 2>/dev/null; then
    [ ! -e "$2" ] && cat "$1" >"$2.d/new" && mv "$2.d/new" "$2.d/claim"
  else
    [ -e "$2" ] || [ -e "$2.d" ] || return 2
    return 1
  fi
}

# Ends the process $1 and all below it.  First these are stopped, until a look finds no new ones: one
# that was just started when its parent is killed would not be found any more.  $1 itself is not
# stopped, because some shells end their wait(1) for it then; it is killed before the others.
oj_end_tree() {
  oj_pids=none oj_tries=0
  while oj_seen=$oj_pids oj_tries=$((oj_tries + 1)) && [ "$oj_tries" -le 20 ]; do
    oj_pids=$(ps -A -o pid= -o ppid= | awk -v top="$1" '
      { parent[$1] = $2 }
      END { doomed[top] = 1
        do { more = 0
          for (pid in parent) if (!(pid in doomed) && parent[pid] in doomed) {
            doomed[pid] = more = 1; print pid
          }
        } while (more) }' | sort -n)
    [ "$oj_pids" != "$oj_seen" ] || break
    # shellcheck disable=SC2086 # a list of numbers
    [ -z "$oj_pids" ] || kill -STOP $oj_pids 2>/dev/null || :
  done
  # shellcheck disable=SC2086 # a list of numbers
  kill -9 "$1" $oj_pids 2>/dev/null
}

# Runs the shell text $1 until the time $2 at most.  Where timeout(1) leads our process group ($3 is
# not empty) it ends all of that.
oj_run_until() {
  if [ -n "$3" ]; then eval "$1"; return; fi
  (eval "$1") &
  oj_child=$!
  (
    while kill -0 "$oj_child" && [ "$(date +%s)" -lt "$2" ]; do sleep 1; done
    kill -0 "$oj_child" && oj_end_tree "$oj_child"
  ) </dev/null >/dev/null 2>&1 &
  oj_watcher=$!
  wait "$oj_child"
  oj_code=$?
  kill "$oj_watcher" 2>/dev/null
  return "$oj_code"
}

# Prints $1 and leaves: the submit command was not started by this attempt.
oj_leave_unstarted() {
  rm -f -- "$oj_new" "$oj_errors"
  printf '%s\n' "$1"
  exit 125
}

# One attempt.  $1 the private directory, $2 the number, $3 a nonce, $4 seconds until the deadline,
# $5 the job's directory, $6 a file with the variables of env= or nothing, $7 the submit command, or
# nothing where the file .oj-submit has it, $8 the mark in the job's directory or nothing, $9 what to
# print where it was not started, ${10} where the attempt is another's; ${11} the time, ${12} what
# oj_where has found, ${13} the digest of the submission.
oj_attempt() {
  oj_slot=$1/attempt-$2 oj_result=$1/result-$2
  oj_new=$1/claim.$3 oj_errors=$1/claim.$3.err oj_env=$6 oj_command=$7 oj_stored=
  cd -- "$5" || oj_leave_unstarted "$9"
  [ -z "$oj_env" ] || [ -r "$oj_env" ] || oj_leave_unstarted "$9"
  if [ -z "$oj_command" ]; then
    oj_stored=$1/.oj-submit
    [ -r "$oj_stored" ] || oj_leave_unstarted "$9"
    # shellcheck disable=SC2016 # expanded where it is evaluated
    oj_command='. "$oj_stored"'
  fi
  if [ -e "$oj_new" ]; then printf '%s\n' "${10}"; exit 125; fi # this text has been run before
  oj_here=${12}
  oj_own_process_group
  oj_limited=
  if [ "$oj_group" = "$PPID" ] && IFS= read -r oj_has <"/proc/$PPID/comm"; then
    [ "$oj_has" != timeout ] || oj_limited=yes
  fi 2>/dev/null
  oj_now=${11}
  oj_until=$((oj_now + $4))
  (
    umask 077
    set -C
    : >"$oj_errors" &&
    printf '%s\n' "nonce $3" "where $oj_here" "group $oj_group" "pid $$" "began $oj_now" \
      "deadline $oj_until" "digest ${13}" . >"$oj_new"
  ) || oj_leave_unstarted "$9"
  oj_claim "$oj_new" "$oj_slot"
  case $? in
    0) ;;
    1) oj_leave_unstarted "${10}" ;;
    *) oj_leave_unstarted "$9" ;;
  esac
  if [ -n "$oj_env" ]; then
    # shellcheck disable=SC2016 # expanded where it is evaluated
    oj_command='. "$oj_env"
'$oj_command
  fi
  if [ "$(date +%s)" -ge "$oj_until" ]; then
    echo 'the time for the submit command was over before it began' >&2
    oj_leave_unstarted "$9"
  fi
  oj_out=$(oj_run_until "$oj_command" "$oj_until" "$oj_limited" 2>"$oj_errors")
  oj_r=$?
  # First of all: who reads this may be gone, and then writing to it ends this shell.
  if (
    umask 077
    { printf '%s\0%s\0' "$oj_r" "$oj_out" &&
      if [ -s "$oj_errors" ]; then tail -c 32768 "$oj_errors" | tr -d '\0'; fi &&
      printf .; } >"$oj_new.result"
  ) 2>/dev/null; then
    mv -f -- "$oj_new.result" "$oj_result"
  fi
  [ -z "$oj_out" ] || printf '%s\n' "$oj_out"
  [ ! -s "$oj_errors" ] || cat "$oj_errors" >&2
  # The scheduler has the variables; of a directory that has a job no later call removes anything.
  if [ "$oj_r" -eq 0 ]; then set -- "$oj_stored" "$oj_env" "$8" "${8:+"$8.sent"}"; else set --; fi
  rm -f -- "$oj_new.result" "$oj_errors" "$@"
  exit "$oj_r"
}

# The number of the last attempt in the current directory, 0 without any.
oj_last_attempt() {
  oj_n=0
  for oj_file in attempt-*; do
    oj_file=${oj_file#attempt-}
    oj_file=${oj_file%.d}
    case $oj_file in ''|*[!0-9]*|?????*) continue;; esac
    [ "$oj_file" -le "$oj_n" ] || oj_n=$oj_file
  done
}

# Prints what the private directory of the submission $2 of the job's directory $1 holds, in
# fields that end with NUL: found, absent or refused; where, or why not; the time; owner; yes if a
# launcher writes that; the number of the last attempt; its claim; whether it may go on: gone or
# alive where this is asked on its machine (oj_here), else elsewhere, and young for a claim without content
# that is less than $5 minutes old; of its result status, stdout and stderr; complete if the files
# for another attempt are there, the script $3 and those in the list $4.
oj_look() {
  oj_find "$1" "$2"
  case $? in
    1) printf 'refused\0%s\0' "$oj_why"; return ;;
    2) printf 'absent\0\0'; return ;;
  esac
  if ! oj_marked "" ""; then
    printf 'refused\0%s\0' "$PWD carries no mark of this package"
    return
  fi
  printf 'found\0%s\0%s\0' "$PWD" "$(date +%s)"
  [ ! -f owner ] || [ -L owner ] || head -c 256 owner | tr -d '\0'
  printf '\0%s\0' "$([ ! -d .script ] || echo yes)"
  oj_last_attempt
  printf '%d\0' "$oj_n"
  oj_slot=attempt-$oj_n oj_text=
  [ ! -d "$oj_slot.d" ] || oj_slot=$oj_slot.d/claim
  [ ! -f "$oj_slot" ] || oj_text=$(head -c 4096 "$oj_slot" | tr -d '\0')
  case $oj_text in
    *"
where $oj_here
group "[1-9]*)
      oj_group=${oj_text#*"
group "}
      # Not "--" before the number: some shells do not take it here.
      if oj_said=$(LC_ALL=C; export LC_ALL; kill -0 "-${oj_group%%[!0-9]*}" 2>&1); then
        oj_state=alive
      else
        case $oj_said in *[Nn]'o such process'*) oj_state=gone;; *) oj_state=elsewhere;; esac
      fi ;;
    '')
      oj_state=
      [ "$oj_n" -eq 0 ] || [ -z "$(find "attempt-$oj_n.d" -prune -mmin "-$5")" ] || oj_state=young ;;
    *) oj_state=elsewhere ;;
  esac
  printf '%s\0%s\0' "$oj_text" "$oj_state"
  if [ -f "result-$oj_n" ]; then head -c 262144 "result-$oj_n"; else printf '\0\0'; fi
  oj_state=complete
  # shellcheck disable=SC2086 # names of ours without blanks
  for oj_file in "$3" $4; do [ -s "$oj_file" ] || oj_state=; done
  printf '\0%s\0' "$oj_state"
}

# The same of the submission $3 of the directory $2, and $1 behind it.
oj_looks() {
  [ -n "${oj_here-}" ] || oj_where
  (oj_look "$2" "$3" "$4" "$5" "$6")
  printf '%s\0' "$1"
}
