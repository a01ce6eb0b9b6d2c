"""The shell text of Grid Engine's queries; ``@NAMES@`` are filled in by scheduler.py."""

from . import limits

TIDY = "TZ=UTC0; export TZ\n"
FEW = 25
# Each answer behind a mark: an environment or a context can hold what looks like another job's.
EACH = """\
for oj_id in $oj_ids; do
  printf '%s>%s\\n' "$oj" "$oj_id"
  qstat -j "$oj_id" 2>/dev/null </dev/null
done
:"""
PRINT = "oj_code=$?; printf '%s\\n' \"$oj_jobs\"; (exit $oj_code)"
FAILED = rf"""
oj_ids=
if printf '%s\n' "$oj_jobs" | grep '<state>[A-Za-z]*E' >/dev/null; then
  oj_ids=$(printf '%s\n' "$oj_jobs" | awk -F'[<>]' '$2 == "JB_job_number" {{ n = $3 }}
    $2 == "state" && $3 ~ /E/ && n ~ /^(@WANTED@)$/ {{ print n }}' 2>/dev/null |
    sort -u | head -n {FEW})
fi
"""
# Held by its user, an operator or the system; in one query jobs that wait for others are listed,
# too (8.1.9).
HELD = """\
for oj_kind in hu ho hs; do
  qstat -u @WHO@ -s $oj_kind -xml 2>/dev/null </dev/null || break
done"""
OWNER = r"""
oj_who=$(printf '%s\n' "$oj_jobs" | sed -n 's/^owner: *//p' | sed 1q)
"""
# A link that leads nowhere is one to the master's own disk; no file at all is a new cluster.
ACCOUNTING = """
oj_file=${SGE_ROOT-}/${SGE_CELL:-default}/common/accounting
if [ -r "$oj_file" ]; then echo yes
elif [ -e "$oj_file" ] || [ -L "$oj_file" ]; then echo no; fi
"""
NOTE_QUEUES = rf"""
case $oj_jobs in
*'{limits.ALL_IN_ONE}'*)
  oj_queues="$oj_queues $(printf '%s\n' "$oj_jobs" | awk '$1 == "qname" {{ print $2 }}')";;
esac
"""
# The accounting has only tasks that are over: whether others are not, the queue says.
OF_ARRAY = """
if printf '%s\\n' "$oj_jobs" | grep '^taskid *[0-9]' >/dev/null; then
@LEFT@fi
"""
LIMITS = r"""
SGE_SINGLE_LINE=1; export SGE_SINGLE_LINE
set -f
for oj_queue in $(printf '%s\n' $oj_queues | sort -u); do
  qconf -sq "$oj_queue" 2>/dev/null </dev/null
done
:
"""
