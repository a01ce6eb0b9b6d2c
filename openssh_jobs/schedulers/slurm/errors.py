"""What the error texts of Slurm's commands mean, and what its output looks like.  Pure."""

from __future__ import annotations

import re

from ..rules import Rule, rule

# slurmctld answers a submission with an id or with a code, and every code means that there is no
# job (proc_req.c; slurm_submit_batch_job in api/submit.c).  What remains are the errors of the
# communication itself, by their texts in common/slurm_errno.c: a request may have been carried out
# whose answer was lost.  "connect failure" is not one of them: only who has answered that it is a
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

CANCEL_ID = re.compile(r"[0-9]+(?:_(?:[0-9]+|\[[0-9,:%\-]+\]))?(?:\+[0-9]+)?", re.ASCII)


def about_job(line: str) -> tuple[str, str]:
    """(id, what is said of it) in a line of scancel or scontrol; no id where it is about none."""
    _, found, rest = line.partition("error on job id ")
    if found:
        job_id, _, text = rest.partition(": ")
        return job_id, text
    text, found, job_id = line.rpartition(" for job ")
    return (job_id.strip().rstrip("."), text) if found else ("", "")
