"""What the texts and numbers of the PBS family mean.  Pure.

Texts: OpenPBS ``pbs_messages.c``, ``qsub.c``, ``prt_job_err.c``; Torque ``pbs_error_db.h``,
``qsub_functions.c``.  Numbers below 0: ``JOB_EXEC_…`` in OpenPBS' ``job.h`` and Torque's
``pbs_job.h``.
"""

from __future__ import annotations

from ...jobs import JobState
from ..rules import Rule, rule

_S = JobState

NO_HISTORY = "not configured to maintain job history"
"""What qstat says, with status 0, where an ended job is forgotten at once (OpenPBS' default)."""

RULES: tuple[Rule, ...] = (
    # Slurm's qstat wrapper, behind its complaint about an option.
    rule(r"^Problem loading (?:jobs|partitions)\.", "transient"),
    rule(r"Connection refused|cannot connect to (?:specified )?server|Unable to communicate with|"
         r"No route to host|could not connect to (?:trqauthd|batch server)|"
         r"Could not connect to batch server|Can not establish connection|trqauthd unable to|"
         r"Could not resolve host name|cannot resolve server|No server specified|"
         r"No free connections|Server connection table full|munge executable not found",
         "transient", unsent=True),
    rule(
        r"could not connect to MOM|Server disconnected|timed? ?out|End of File|"
        r"Premature end of (?:message|file)|server is (?:busy|shutting down)|"
        r"Server.*not.*(?:available|responding)|Server shutting down|too busy|"
        r"Checkpoint busy|Batch protocol error|Delete already in progress|"
        # munge under load; the same request goes through a moment later.
        r"Invalid credential",
        "transient",
    ),
    rule("Job has finished|Job already in exit state|state for job - (?:COMPLETE|EXITING)|"
         "Request invalid for finished array subjob", "finished_see_history"),
    rule("Unknown Job ?Id|Unknown Job Identifier|nonexistent job id|Unknown Array ID|"
         "Job not found|unknown job id after clean init", "not_found"),
    rule("Unauthorized Request|Bad [UG]ID|not authorized|No permission|not allowed|"
         "Access to queue is denied|Access from host not allowed|client is not allowed|"
         "insufficient permission", "permission"),
    rule(
        r"would exceed .*limit|Maximum number of jobs(?:| .*) already in (?:queue|complex)|"
        r"exceeds? .*(?:max_queued|per-user limit|jobs? .*limit)|Job rejected.*limit",
        "limit",
        passes=True,
    ),
    rule("violates queue and/or server resource limits|exceeds server or queue size limit|"
         "exceeds queue resource limits|Resource limit exceeds allowable|size exceeded the",
         "limit"),
    rule("compute nodes?|not a submit host|submit.*from this host", "not_submit_host"),
    rule("illegal -|illegally formed|invalid option|unknown option|usage:", "invalid_request",
         final=True),
    rule(
        "Unknown queue|Queue is not enabled|No default queue|Request invalid for state|"
        "can't be set from the job's current state|sub state does not allow|"
        "Unknown resource|Illegal attribute|Undefined attribute|Cannot set attribute|script|"
        "name is too long|Invalid (?:request|Account|Job Dependency)|syntax invalid|"
        "Job array.*(?:invalid|illegal)|Bad (?:value|Job Array)|error running the Slurm sbatch",
        "invalid_request",
    ),
)  # fmt: skip

# The request was on its way or had arrived, and the answer was lost.  Whatever a server of theirs
# itself rejects, up to a record that cannot be saved, it purges (req_quejob.c): that is a refusal.
UNCERTAIN = (
    r"Batch protocol error|Bad DIS based|Protocol .*error",
    r"Server disconnected|Premature end of (?:message|file)|End of File",
    r"Time out\b|Error in socket select|(?:reading|writing) data (?:from|to) socket"
    r"|Socket close detected|data on socket does not process",
    r"Error reading|cannot read (?:server )?reply",
    # PBSE_PROTOCOL, PBSE_DISPROTO, or no number at all.
    r"\bError \(?(?:15031|15034|15056|15058|0|-1)\b",
)

# Exit_status below 0: the server or MOM ended the job.
PBS_CODES: dict[int, tuple[JobState, str]] = {
    -1: (_S.FAILED, "it could not be started: before its files were there"),
    -2: (_S.FAILED, "it could not be started: after its files were there"),
    -3: (_S.FAILED, "it could not be started, to be tried again"),
    -4: (_S.NODE_FAIL, "aborted when MOM was restarted"),
    -5: (_S.NODE_FAIL, "aborted when MOM was restarted, with a checkpoint that cannot move"),
    -6: (_S.NODE_FAIL, "aborted when MOM was restarted, with a checkpoint"),
    -7: (_S.FAILED, "its restart from a checkpoint failed"),
    -10: (_S.FAILED, "no such user or group on the node"),
    -11: (_S.FAILED, "it was to be run again"),
    -12: (_S.FAILED, "it was checkpointed and killed"),
    -13: (_S.FAILED, "a wrong password"),
    -14: (_S.NODE_FAIL, "another node of the job failed"),
    -15: (_S.FAILED, "it was to be restarted from a checkpoint"),
    -16: (_S.FAILED, "a hook rejected the start, to be tried again"),
    -17: (_S.FAILED, "a hook rejected the start"),
    -18: (_S.FAILED, "a hook sent it back to the queue"),
    -19: (_S.FAILED, "a hook deleted it"),
    -20: (_S.NODE_FAIL, "the connection to its first node was lost"),
    -21: (_S.FAILED, "the directory of PBS on the node is not secure"),
    -22: (_S.FAILED, "a hook failed"),
    -23: (_S.FAILED, "no Kerberos credentials"),
    -24: (_S.FAILED, "over its ncpus (burst)"),
    -25: (_S.FAILED, "over its ncpus (sum)"),
    -26: (_S.OUT_OF_MEMORY, "over its vmem"),
    -27: (_S.OUT_OF_MEMORY, "over its mem"),
    -28: (_S.TIMEOUT, "over its cput"),
    -29: (_S.TIMEOUT, "over its walltime"),
    -30: (_S.NODE_FAIL, "its nodes could not be joined"),
}
TORQUE_CODES: dict[int, tuple[JobState, str]] = {
    **{code: PBS_CODES[code] for code in (-1, -2, -3, -4, -5, -6, -7)},
    -8: (_S.FAILED, "its command could not be run"),
    -9: (_S.FAILED, "its output files could not be made"),
    -10: (_S.OUT_OF_MEMORY, "over its memory"),
    -11: (_S.TIMEOUT, "over its walltime"),
    -12: (_S.TIMEOUT, "over its cput"),
    -13: (_S.FAILED, "no cgroup could be made for it"),
}


def below_zero(code: int, *, torque: bool) -> tuple[JobState, str]:
    """The state that an ``Exit_status`` below 0 stands for, and what to say, with the number."""
    state, what = (TORQUE_CODES if torque else PBS_CODES).get(code, (_S.FAILED, ""))
    return state, f"Exit_status {code}: {what}" if what else f"Exit_status {code}"


__all__ = ["NO_HISTORY", "RULES", "UNCERTAIN", "below_zero"]
