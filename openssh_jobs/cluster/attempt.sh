# shellcheck shell=sh
# Attempts of submissions, in their private directories; attempt.py says what the files are.

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
    trap '' TERM # what waits for $oj_child ends this shell as soon as that is gone
    kill -0 "$oj_child" && oj_end_tree "$oj_child"
  ) </dev/null >/dev/null 2>&1 &
  oj_watcher=$!
  wait "$oj_child"
  oj_code=$?
  kill "$oj_watcher" 2>/dev/null
  return "$oj_code"
}

# The time by this machine's clock in oj_now, without a process of its own after the first call.
oj_clock() {
  if [ -n "${oj_booted-}" ] && IFS=. read -r oj_up oj_has </proc/uptime; then
    oj_now=$((oj_up + oj_booted))
    return
  fi
  oj_now=$(date +%s)
  if IFS=. read -r oj_up oj_has </proc/uptime; then oj_booted=$((oj_now - oj_up)); fi 2>/dev/null
}

# What all attempts of this shell have in common: their time, process group and umask; $1 seconds
# until their deadline, $2 what oj_where has found.
oj_begin_attempts() {
  oj_clock
  oj_until=$((oj_now + $1)) oj_here=$2 oj_errors= oj_gone= oj_umask=$(umask) oj_limited=
  oj_own_process_group
  if [ "$oj_group" = "$PPID" ] && IFS= read -r oj_has <"/proc/$PPID/comm"; then
    [ "$oj_has" != timeout ] || oj_limited=yes
  fi 2>/dev/null
  umask 077
}

# Removes what no attempt needs any more, and $@.
oj_end_attempts() {
  # shellcheck disable=SC2086 # names below $oj_base, of letters that a token may have
  if [ -n "$oj_gone" ]; then (cd -P "$oj_base" && rm -f -- $oj_gone); fi
  oj_gone=
  [ $# -eq 0 ] || rm -f -- "$@"
}

# Prints $1: the submit command was not started by this attempt.
oj_leave_unstarted() {
  set +C
  [ ! -e "$oj_new" ] || rm -f -- "$oj_new"
  printf '%s\n' "$1"
  return 125
}

# One attempt.  $1 the private directory's name in oj_base, $2 the number, $3 a nonce, $4 the job's
# directory, $5 the name of a file with the variables of env= or nothing, $6 the submit command, or
# nothing where the file .oj-submit has it, $7 the mark in the job's directory or nothing, $8 what to
# print where it was not started, $9 where the attempt is another's, ${10} the digest of the
# submission.  Puts the answer of the submit command into oj_out.
oj_attempt() {
  oj_place=$oj_base/$1 oj_out= oj_command=$6
  oj_slot=$oj_place/attempt-$2 oj_result=$oj_place/result-$2 oj_new=$oj_place/claim.$3
  oj_env=${5:+"$oj_place/$5"}
  if ! cd -- "$4"; then oj_leave_unstarted "$8"; return; fi
  if [ -n "$oj_env" ] && [ ! -r "$oj_env" ]; then oj_leave_unstarted "$8"; return; fi
  if [ -z "$oj_command" ]; then
    if [ ! -r "$oj_place/.oj-submit" ]; then oj_leave_unstarted "$8"; return; fi
    # shellcheck disable=SC2016 # expanded where it is evaluated
    oj_command='. "$oj_place/.oj-submit"'
  fi
  # This text has been run before: the claim is not ours to remove.
  if [ -e "$oj_new" ]; then printf '%s\n' "$9"; return 125; fi
  set -C
  [ -n "$oj_errors" ] || ! printf '' >"$oj_new.err" || oj_errors=$oj_new.err
  if [ -z "$oj_errors" ] || ! printf '%s\n' "nonce $3" "where $oj_here" "group $oj_group" \
    "pid $$" "began $oj_now" "deadline $oj_until" "digest ${10}" . >"$oj_new"
  then oj_leave_unstarted "$8"; return; fi
  set +C
  oj_claim "$oj_new" "$oj_slot"
  case $? in
    0) ;;
    1) oj_leave_unstarted "$9"; return ;;
    *) oj_leave_unstarted "$8"; return ;;
  esac
  if [ -n "$oj_env" ]; then
    # shellcheck disable=SC2016 # expanded where it is evaluated
    oj_command='. "$oj_env"
'$oj_command
  fi
  oj_clock
  if [ "$oj_now" -ge "$oj_until" ]; then
    echo 'the time for the submit command was over before it began' >&2
    oj_leave_unstarted "$8"
    return
  fi
  oj_out=$(umask "$oj_umask"; oj_run_until "$oj_command" "$oj_until" "$oj_limited" 2>"$oj_errors")
  oj_r=$?
  # First of all: who reads this may be gone, and then writing to it ends this shell.
  if [ ! -s "$oj_errors" ]; then
    # The point is its end: whoever reads it while it is written sees that it is not whole.
    printf '%s\0%s\0.' "$oj_r" "$oj_out" >"$oj_result" || rm -f -- "$oj_result"
  elif { printf '%s\0%s\0' "$oj_r" "$oj_out" && tail -c 32768 "$oj_errors" | tr -d '\0' &&
    printf .; } >"$oj_new.result"
  then mv -f -- "$oj_new.result" "$oj_result"
  else rm -f -- "$oj_new.result"
  fi 2>/dev/null
  if [ "$oj_r" -eq 0 ]; then
    # The scheduler has the variables.
    [ -z "$oj_env" ] || printf '' >"$oj_env"
    oj_gone="$oj_gone${5:+ $1/$5}"
    [ -n "$6" ] || oj_gone="$oj_gone $1/.oj-submit"
    # Of a directory that has a job no later call removes anything.
    if [ -n "$7" ] && { [ -e "$7" ] || [ -e "$7.sent" ]; }; then rm -f -- "$7" "$7.sent"; fi
  fi
  [ -z "$oj_out" ] || printf '%s\n' "$oj_out"
  [ ! -s "$oj_errors" ] || cat "$oj_errors" >&2
  return "$oj_r"
}

# The attempts of several submissions, one after the other, each with marks around what it says on
# both streams.  $1 what the marks begin with, $2 the number of the attempts, $3 seconds until none
# begins any more.
oj_begin_many() {
  oj_mark=$1 oj_number=$2 oj_latest=$((oj_now + $3)) oj_stopped= oj_ids=
}

# What follows is for the private directories in $1, for jobs in the directory $2 with the mark $3.
oj_in() {
  oj_end_attempts
  oj_base=$1 oj_dir=$2 oj_made_mark=$3
}

# The attempt of the submission with the number $1 and the private directory $2, with the nonce $3;
# $4 the name of the file with the variables of env= or nothing, $5 the submit command or nothing,
# $6 the digest of the submission.  None begins after one that was killed: then the scheduler does
# not answer, and whoever reads this decides.  oj_ids gets the numbers in what it printed.
oj_next() {
  oj_clock
  if [ "$1" -gt 0 ] && [ "$oj_now" -ge "$oj_latest" ]; then oj_stopped=yes; fi
  [ -z "$oj_stopped" ] || return 0
  printf '%s begin %d\n' "$oj_mark" "$1"
  printf '%s begin %d\n' "$oj_mark" "$1" >&2
  oj_attempt "$2" "$oj_number" "$3" "$oj_dir" "$4" "$5" "$oj_made_mark" \
    "openssh_jobs: $3: not started" "openssh_jobs: $3: taken" "$6"
  oj_r=$?
  printf '\n%s end %d %d\n' "$oj_mark" "$1" "$oj_r"
  printf '\n%s end %d %d\n' "$oj_mark" "$1" "$oj_r" >&2
  case $oj_r in 12[467]|1[3-9]?|2??) oj_stopped=yes;; esac
  oj_n=0
  set -f
  # shellcheck disable=SC2086 # its words
  for oj_has in $oj_out; do
    case $oj_has in *[!0-9]*|????????????*) continue;; esac
    oj_n=$((oj_n + 1))
    [ "$oj_n" -gt 3 ] || oj_ids="$oj_ids $oj_has"
  done
  set +f
}

# Ends them, and runs the shell text $2, if there is one, with the numbers that their submit commands
# have printed as its arguments: what it says is that of the attempt number $1.
oj_end_many() {
  oj_end_attempts ${oj_errors:+"$oj_errors"}
  [ -n "$2" ] && [ -n "$oj_ids" ] && [ -z "$oj_stopped" ] && [ -n "$oj_limited" ] || return 0
  umask "$oj_umask"
  printf '%s begin %d\n' "$oj_mark" "$1"
  # shellcheck disable=SC2086 # numbers
  timeout -s KILL 20 /bin/sh -c "$2" openssh-jobs $oj_ids </dev/null 2>/dev/null
  printf '\n%s end %d %d\n' "$oj_mark" "$1" $?
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
  if [ -s "result-$oj_n" ]; then head -c 262144 "result-$oj_n"; else printf '\0\0'; fi
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
