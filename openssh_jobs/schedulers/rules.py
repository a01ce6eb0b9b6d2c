"""What the texts of a scheduler's answers mean.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Rule", "find_rule", "is_uncertain", "rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a text in a scheduler's answer means.

    ``unsent``: the request never left, so there is certainly no job whatever else was printed.
    ``passes``: a limit that will be gone later.  ``final``: it holds for a query, too, and will
    still hold when the same is asked again.
    """

    pattern: re.Pattern[str]
    kind: str
    unsent: bool = False
    passes: bool = False
    final: bool = False


def rule(
    pattern: str, kind: str, *, unsent: bool = False, passes: bool = False, final: bool = False
) -> Rule:
    """A ``Rule`` whose pattern ignores case and takes ``^`` at the start of any line."""
    return Rule(re.compile(pattern, re.IGNORECASE | re.MULTILINE), kind, unsent, passes, final)


# What any program may say, after the scheduler's own rules had their turn.
COMMON_RULES = (
    rule(
        r"(?:command not found|: not found$|No such file or directory.*\b(?:exec|bin)\b)",
        "scheduler_missing",
        unsent=True,
        final=True,
    ),
    rule("error while loading shared libraries", "scheduler_missing", unsent=True, final=True),
    rule(r"\bfork: |Cannot fork", "transient", unsent=True),
    rule("Permission denied|not authorized|Unauthorized", "permission", final=True),
    rule(
        "Connection (?:reset|timed out)|timed out|Temporarily unavailable|try again"
        "|No route to host|Broken pipe|Resource temporarily unavailable|Cannot allocate memory",
        "transient",
    ),
    rule("Connection refused", "transient", unsent=True),
)

# Texts of strerror(3) (glibc, musl, macOS) that a client may give for a link that broke after the
# request was sent; a submit command of any scheduler may pass them on.
UNCERTAIN = (
    "timed out|not responding",
    "(?:connect(?:ion)?|communication|operation|read|receive|reply|request|send|write) time-?out",
    "Connection (?:reset|aborted|lost|closed)",
    "Broken pipe",
    "(?:Transport endpoint|Socket) is not connected",
    "(?:Host|Network) (?:is )?(?:down|unreachable)|No route to host|dropped connection on reset",
    "Interrupted system call|Operation now in progress|Resource temporarily unavailable",
    "Protocol error|Bad file descriptor|Input/output error",
)
# What a submit command prints of a job that it has made.
MADE = (
    r"^(?:\w+: )?Submitted batch job|^Your job(?:-array)? *(?:[0-9(]|$)|^Job <[0-9]"
    r"|\bjob\(s\) submitted to cluster"
)

# Kinds of errors that stay what they are however often one asks; for a query only where the rule
# says that it is known to be so.
FINAL_KINDS = frozenset(("permission", "scheduler_missing", "invalid_request", "unsupported"))

_ENDS = 4096


def ends(*texts: str) -> list[str]:
    """The texts that are not empty, long ones without their middle: error texts are short."""
    return [
        text if len(text) <= 2 * _ENDS else f"{text[:_ENDS]}\n{text[-_ENDS:]}"
        for text in texts
        if text
    ]


def find_rule(rules: Iterable[Rule], *texts: str) -> Rule | None:
    """The first rule, the common ones last, that fits any of these texts."""
    parts = ends(*texts)
    for rule in (*rules, *COMMON_RULES):
        if any(rule.pattern.search(text) for text in parts):
            return rule
    return None


def is_uncertain(patterns: Iterable[str], *texts: str) -> bool:
    """True where a failed submit command may have made a job all the same, by what it says."""
    parts = ends(*texts)
    return any(
        re.search(pattern, text, re.IGNORECASE | re.MULTILINE)
        for pattern in (*patterns, *UNCERTAIN, MADE)
        for text in parts
    )
