"""The words of condor_submit(1), and the lines of a submit description.  Pure."""

from __future__ import annotations

from ..submit_words import ANOTHER, ELEMENTS, NOTHING, WAITS, SubmitWords, meaning, words

CONDOR_SUBMIT = SubmitWords(
    program="condor_submit",
    style="plain",
    values=words(
        "-a -append -addr -batch-name -batch-id -maxjobs -name -password -pool -remote -schedd "
        "-dump -dry-run -dry-run-full -file -queue"
    ),
    flags=words(
        "-terse -verbose -v -spool -s -disable -d -debug -unused -u -interactive -i -factory "
        "-capabilities -allow-crlf-script -single-cluster -help -h -version -stm"
    ),
    means=meaning(
        name="-batch-name batch_name",
        account="accounting_group",
        cpus="request_cpus",
        memory="request_memory",
        gpus="request_gpus",
        constraint="requirements",
        stdout_path="output",
        stderr_path="error",
        mail="notify_user",
    ),
    resources=words("-a -append"),
    refused={
        **dict.fromkeys(("-interactive", "-i"), WAITS),
        **dict.fromkeys(("-dump", "-dry-run", "-dry-run-full"), NOTHING),
        **dict.fromkeys(("-capabilities", "-help", "-h", "-version"), NOTHING),
        "-file": ANOTHER,
        "-queue": ELEMENTS,
        "-factory": ELEMENTS,
    },
    refused_values={
        **dict.fromkeys(("-a", "-append"), (r"\s*(?:queue\b|executable\s*=)", ANOTHER)),
    },
    bare=r"(?!\s*executable\s*=)\s*[+A-Za-z_][\w.+]*\s*=",
)
