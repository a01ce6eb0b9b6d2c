"""What the error texts of the PBS family mean.  Pure.

From OpenPBS' ``pbs_messages.c``, ``qsub.c`` and ``prt_job_err.c``, Torque's ``pbs_error_db.h`` and
``qsub_functions.c``.
"""

from __future__ import annotations

from ..rules import Rule, rule

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
    r"Error reading(?! script file)|cannot read (?:server )?reply",
    # PBSE_PROTOCOL, PBSE_DISPROTO, or no number at all.
    r"\bError \(?(?:15031|15034|15056|15058|0|-1)\b",
)
