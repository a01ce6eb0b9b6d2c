"""Slurm's words: what its error texts mean, and how a wish is said to sbatch.  Pure."""

from __future__ import annotations

import re
from datetime import timedelta

from ...jobs import JobId
from ..fields import is_number
from ..request import SubmitRequest
from ..rules import Rule, rule

# slurmctld answers a submission with an id or with a code, and every code means that there is no
# job (proc_req.c; slurm_submit_batch_job in api/submit.c).  What remains are the errors of the
# communication itself, by their texts in common/slurm_errno.c: a request may have been carried out
# whose answer was not had.  "connect failure" is none of them: only who has answered that it is a
# standby controller is followed by another one (slurm_send_recv_controller_msg).
UNCERTAIN = (
    "Unexpected message received",
    "Communication (?:connection|shutdown) failure|Message (?:send|receive) failure",
    r"Unable to contact slurm controller \((?:send|receive|shutdown) failure\)",
    "Protocol authentication error|authentication credential|Authentication credential",
    "Cannot unpack credential|Rejecting authentication|Authentication (?:failure|does not apply)",
    "kernel for socket peer credential|I/O stream version",
    "Insane message length|Header lengths are longer|Unexpected missing socket",
    "Unable to process (?:incoming|outgoing) |(?:Read|Write) would block",
    "Connection (?:rejected by handler|forced closed|timed out)|delayed socket error",
    "shutting down and closing all communications",
    "Socket timed out|Zero Bytes were transmitted",
    "submission failed: (?:No error|Success|Unknown error)",
    "(?:Munge|munge|auth_munge).* decode|slurm_receive_msg|slurm_unpack_received_msg",
)

_USAGE = (
    "unrecognized option|invalid option|requires an argument|option '.*' is ambiguous"
    "|Invalid field requested|Invalid job state specified|Invalid user: |No cluster '"
    "|is not a valid "
)
# Newer versions say the same things with other words around them; these are the constant parts.
_INVALID = (
    "invalid partition|partition name|Required partition not available"
    "|Requested partition configuration|Invalid account|Invalid qos|Invalid wckey"
    "|Memory specification|Requested node configuration is not available"
    "|Invalid (?:--\\S+|generic resource|feature|job array|dependency|reservation|node name)"
    "|Job dependency problem|Requested reservation is invalid|reservation .*(?:not usable|denied)"
    "|Batch script is empty|does not look like a batch script|DOS line breaks|Unable to open file"
    "|Requested time limit is invalid|time limit exceeds|Node count specification invalid"
    "|More processors requested than permitted|CPU count .* (?:can not|cannot) be satisfied"
    "|Invalid job credential|Invalid number|Invalid numeric value|Unable to parse|Bad constraint"
    "|Pathname of a file, directory or other parameter too long|Script must be specified"
    "|Size of batch script|job script exceeds|Invalid (?:burst buffer|license|directive|mail)"
    "|Invalid (?:user|job state|cluster|account|node)|No cluster"
)

RULES: tuple[Rule, ...] = (
    rule("Invalid job id specified|Invalid job id$", "not_found"),
    rule("Invalid job id|Bad job/step specified", "invalid_request", final=True),
    rule(
        "accounting storage is disabled|supported accounting_storage plugin|"
        "Slurm accounting storage is not configured",
        "unsupported",
        final=True,
    ),
    rule("Munge encode failed", "transient", unsent=True),
    rule("(?:Assoc|QOS)[a-z]{0,40}Submit[a-z]{0,40}Limit", "limit", passes=True),
    # sbatch itself tries these again for two minutes (sbatch.c), or some times.
    rule(
        "MaxJobCount limit reached|job queue full|temporarily unable to accept job"
        "|Rate limit exceeded|Too many (?:simultaneous )?jobs",
        "limit",
        passes=True,
    ),
    rule("(?:Assoc|QOS)(?:Max|Grp|Min)[A-Za-z]+|violates accounting/QOS", "limit"),
    rule(
        "Socket timed out|authentication|Zero Bytes were transmitted|Unexpected message received|"
        "Communication connection|slurm_persist_conn|Problem talking to the database|slurmdbd|"
        "Transport endpoint|in standby mode|not running$|Job/step already completing|"
        r"Unable to contact slurm controller \((?!connect)|nodes are busy|ports are in use|"
        "submissions disabled|presently disabled",
        "transient",
    ),
    rule("Unable to contact slurm controller", "transient", unsent=True),
    rule(
        "Unable to process configuration file|cannot stat file .*slurm|ClusterName needs|"
        "establish a? ?config(?:uration)? source|Unable to (?:load|read) slurm",
        "not_submit_host",
        unsent=True,
    ),
    rule(
        "Access/permission denied|Invalid user id|not permitted to use|"
        "User not (?:authorized|found)|denied by|not allowed",
        "permission",
    ),
    # How the programs were called: asking again in the same way ends in the same way.
    rule(_USAGE, "invalid_request", final=True),
    rule(_INVALID, "invalid_request"),
)

COMPLAINT = re.compile(
    r"^(?:squeue|sacct|scontrol|sinfo): (?:error|fatal)|^slurm_load_\w+ error|^slurm_\w+ error"
    r"|^Slurm accounting storage|^scontrol_\w+ error",
    re.MULTILINE,
)
LOOKS_LIKE = re.compile(
    r"^OJ:[0-9a-f]+ begin (?:squeue|sacct|scontrol|sinfo)\b"
    r"|^ *JOBID\s.*\bST(?:ATE)?\b|^ *JobID\s.*State|^JobID\||^JobId=[0-9]+ |^JOBID\|(?!.*\bSTAT\b)"
    r"|^CLUSTER: |\"jobs\" *:|\"job_state\"|OpenAPI|\"slurm\"|\bJOBID\b.*\bNODELIST\(REASON\)"
    r"|^[0-9_\[\]%,+\-]+[|\x1f ](?:.*[|\x1f ])?(?:PENDING|RUNNING|COMPLETED|CANCELLED|FAILED"
    r"|TIMEOUT|COMPLETING|SUSPENDED|NODE_FAIL|OUT_OF_MEMORY|CONFIGURING)\b",
    re.MULTILINE | re.ASCII,
)
SPEAKS = re.compile(r"slurm|squeue:|sacct:|sbatch:|scontrol:", re.IGNORECASE)


def sbatch_words(request: SubmitRequest) -> list[str]:
    """The options of sbatch(1) for a wish; those of the caller come last and win."""
    words = ["--parsable"]
    for option, value in (
        ("job-name", request.name),
        ("array", request.array),
        ("partition", request.queue),
        ("account", request.account),
        ("time", _limit(request.time_limit)),
        ("nodes", request.nodes),
        ("cpus-per-task", request.cpus),
        ("mem", _memory(request.memory)),
        ("gres", _gpus(request.gpus)),
        ("output", request.stdout_path),
        ("error", request.stderr_path),
        ("dependency", _dependency(request)),
    ):
        if value is not None:
            words.append(f"--{option}={value}")
    if request.hold:
        words.append("--hold")
    words.extend(request.options)
    return words


def plain(job_id: JobId, *, array_only: bool = False) -> str:
    """An id as Slurm's commands take it: no cluster, no ``%2`` behind an array's elements."""
    if job_id.component is not None:
        return f"{job_id.number}+{job_id.component}"
    if job_id.tasks is None:
        return job_id.number
    tasks = job_id.tasks.partition("%")[0]
    if tasks.isdigit():
        return f"{job_id.number}_{tasks}"
    return job_id.number if array_only or not tasks else f"{job_id.number}_[{tasks}]"


def _limit(value: timedelta | str | None) -> str | None:
    if not isinstance(value, timedelta):
        return value
    seconds = -(-value // timedelta(seconds=1))
    days, seconds = divmod(seconds, 86400)
    return f"{days}-{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _memory(value: int | str | None) -> str | None:
    return f"{-(-value // 1024)}K" if isinstance(value, int) else value


def _gpus(value: int | str | None) -> str | None:
    if value is None:
        return None
    text = str(value)
    return text if text.startswith("gpu") else f"gpu:{text}"


def _dependency(request: SubmitRequest) -> str | None:
    parts = [
        ":".join((word, *(plain(JobId.parse(one)) for one in ids)))
        for word, ids in (
            ("afterok", request.after_ok),
            ("afterany", request.after_any),
            ("afternotok", request.after_failed),
        )
        if ids
    ]
    return ",".join(parts) or None


EACH = "%a"
"""What stands in the path of elements that wait together, as in sbatch(1)."""
NO_VALUE = "4294967294"
"""What scontrol puts for it: NO_VAL of slurm.h."""


def path_of_element(path: str, task: str | None) -> str | None:
    """An element's own path; ``None`` for the whole array."""
    if EACH not in path:
        return path
    return path.replace(EACH, task) if task is not None and is_number(task) else None
