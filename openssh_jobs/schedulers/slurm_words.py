"""Slurm's words: what its error texts mean, and how a wish is said to sbatch.  Pure."""

from __future__ import annotations

import re
from datetime import timedelta

from openssh_jobs.jobs import JobId
from openssh_jobs.schedulers.base import Rule, SubmitRequest, rule
from openssh_jobs.schedulers.text import is_number

# Newer versions say the same things with other words around them; these are the constant parts.
_REFUSALS = (
    "invalid partition|partition name|Required partition not available"
    "|Requested partition configuration|Invalid account|Invalid qos|Invalid wckey"
    "|Memory specification|Requested node configuration is not available"
    "|Invalid (?:--\\S+|generic resource|feature|job array|dependency|reservation|node name)"
    "|Job dependency problem|Requested reservation is invalid|reservation .*(?:not usable|denied)"
    "|Batch script is empty|does not look like a batch script|DOS line breaks|Unable to open file"
    "|is not a valid |unrecognized option|invalid option|requires an argument"
    "|option '.*' is ambiguous|Requested time limit is invalid|time limit exceeds"
    "|Node count specification invalid"
    "|More processors requested than permitted|CPU count .* (?:can not|cannot) be satisfied"
    "|Invalid job credential|Invalid number|Invalid numeric value|Unable to parse|Bad constraint"
    "|Pathname of a file, directory or other parameter too long|Script must be specified"
    "|Size of batch script|job script exceeds|Invalid (?:burst buffer|license|directive|mail)"
)

RULES: tuple[Rule, ...] = (
    rule("Invalid job id specified|Invalid job id$", "not_found"),
    rule("Invalid job id|Bad job/step specified", "invalid_request"),
    rule(
        "accounting storage is disabled|supported accounting_storage plugin|"
        "Slurm accounting storage is not configured",
        "unsupported",
    ),
    rule("(?:Assoc|QOS)[a-z]{0,40}Submit[a-z]{0,40}Limit", "limit", refused=True, passes=True),
    rule("(?:Assoc|QOS)(?:Max|Grp|Min)[A-Za-z]+|violates accounting/QOS", "limit", refused=True),
    rule("temporarily unable to accept job", "transient"),
    rule(r"Unable to contact slurm controller \(connect failure\)", "transient", refused=True),
    rule("Munge encode failed", "transient", refused=True),
    rule(
        "Socket timed out|Unable to contact slurm controller|authentication|"
        "Zero Bytes were transmitted|Unexpected message received|Communication connection|"
        "slurm_persist_conn|Problem talking to the database|slurmdbd|"
        "Transport endpoint|in standby mode|not running$|Job/step already completing",
        "transient",
    ),
    rule(
        "Unable to process configuration file|cannot stat file .*slurm|ClusterName needs|"
        "establish a? ?config(?:uration)? source|Unable to (?:load|read) slurm",
        "not_submit_host",
        refused=True,
    ),
    rule(
        "Access/permission denied|Invalid user id|not permitted to use|"
        "User not (?:authorized|found)|denied by|not allowed",
        "permission",
        refused=True,
    ),
    rule(_REFUSALS, "invalid_request", refused=True),
    rule(
        "Invalid (?:user|job state|field requested|cluster|account|node)|No cluster",
        "invalid_request",
    ),
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


EACH = "4294967294"
"""What scontrol puts for %a in the path of elements that wait together: NO_VAL of slurm.h."""


def path_of_element(path: str, task: str | None) -> str | None:
    """An element's own path; ``None`` for the whole array."""
    if EACH not in path:
        return path
    return path.replace(EACH, task) if task is not None and is_number(task) else None
