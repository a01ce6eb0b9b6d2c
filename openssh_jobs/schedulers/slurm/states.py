"""Slurm's words for states and exit codes, and what was read so far.

State codes: JOB STATE CODES in squeue(1) and sacct(1).  Pure.
"""

from __future__ import annotations

import re
from typing import Final

from ...jobs import JobState
from ...jobs.job_id import MAX_ID
from ...jobs.status import NEVER_STARTS
from ..fields import signal_and_code, whole_number

_S = JobState
LONG_STATES: Final = {
    "PENDING": _S.PENDING,
    "CONFIGURING": _S.PENDING,
    "REQUEUED": _S.PENDING,
    "REQUEUE_FED": _S.PENDING,
    "POWER_UP_NODE": _S.PENDING,
    "REQUEUE_HOLD": _S.HELD,
    "RESV_DEL_HOLD": _S.HELD,
    "SPECIAL_EXIT": _S.HELD,
    "RUNNING": _S.RUNNING,
    "RESIZING": _S.RUNNING,
    "SIGNALING": _S.RUNNING,
    "SUSPENDED": _S.SUSPENDED,
    "STOPPED": _S.SUSPENDED,
    "COMPLETING": _S.COMPLETING,
    "STAGE_OUT": _S.COMPLETING,
    "COMPLETED": _S.COMPLETED,
    "CANCELLED": _S.CANCELLED,
    "PREEMPTED": _S.CANCELLED,
    "FAILED": _S.FAILED,
    "LAUNCH_FAILED": _S.FAILED,
    "RECONFIG_FAIL": _S.FAILED,
    "TIMEOUT": _S.TIMEOUT,
    "DEADLINE": _S.TIMEOUT,
    "OUT_OF_MEMORY": _S.OUT_OF_MEMORY,
    "NODE_FAIL": _S.NODE_FAIL,
    "BOOT_FAIL": _S.NODE_FAIL,
    # The job lives on under another cluster of the federation.
    "REVOKED": _S.UNKNOWN,
}
_SHORT: Final = {
    "PD": "PENDING", "CF": "CONFIGURING", "RQ": "REQUEUED", "RF": "REQUEUE_FED",
    "RH": "REQUEUE_HOLD", "RD": "RESV_DEL_HOLD", "SE": "SPECIAL_EXIT", "R": "RUNNING",
    "RS": "RESIZING", "SI": "SIGNALING", "S": "SUSPENDED", "ST": "STOPPED", "CG": "COMPLETING",
    "SO": "STAGE_OUT", "CD": "COMPLETED", "CA": "CANCELLED", "PR": "PREEMPTED", "F": "FAILED",
    "TO": "TIMEOUT", "DL": "DEADLINE", "OOM": "OUT_OF_MEMORY", "NF": "NODE_FAIL",
    "BF": "BOOT_FAIL", "RV": "REVOKED",
}  # fmt: skip
STATES: Final = {**LONG_STATES, **{short: LONG_STATES[full] for short, full in _SHORT.items()}}

# Of the several words that newer versions give (a base state and flags), the first of these that
# is there says what the job does now.
_TELLING_FIRST: Final = (
    "COMPLETING",
    "STAGE_OUT",
    "SPECIAL_EXIT",
    "REQUEUE_HOLD",
    "RESV_DEL_HOLD",
    "REQUEUED",
    "REQUEUE_FED",
    "CONFIGURING",
    "STOPPED",
    "REVOKED",
)
# Flags that are about the database or the record, not about the job.
_SAYS_NOTHING: Final = frozenset(("UPDATE_DB",))
# squeue writes "job requeued in held state", scontrol the same with underscores.
_HELD: Final = frozenset(
    (
        "jobhelduser",
        "jobheldadmin",
        "job_requeued_in_held_state",
        "launch_failed_requeued_held",
        "jobholdmaxrequeue",
        "held_for_admin",
    )
)


def state_of(raw: str, reason: str | None = None) -> JobState | None:
    """The state that Slurm's words mean; ``None`` for words that are none of Slurm's.

    Takes ``CANCELLED by 7001`` (sacct), ``COMPLETED+`` and ``OUT_OF_ME+`` (cut columns of sacct)
    and ``RUNNING,COMPLETING`` (state and flags).
    """
    state = STATES.get(raw)
    if state is None:
        pieces = re.split(r"[,+]", raw.partition(" ")[0])
        words = [_full_word(word) for word in pieces if word and word not in _SAYS_NOTHING]
        if raw.endswith("+"):
            words = [_full_word(raw[:-1], cut=True)]
        base = words[0] if words else None
        if base is None:
            return None
        telling = next((word for word in _TELLING_FIRST if word in words), base)
        state = LONG_STATES[telling]
        if None in words and state.is_final:
            return JobState.UNKNOWN  # a flag of a newer version: it may say that it runs again
    if state is JobState.PENDING and reason is not None and is_held(reason):
        return JobState.HELD
    return state


_MAY_BE = re.compile(r"[A-Z][A-Z_]{1,40}(?:[,+][A-Z_]{2,40}){0,8}", re.ASCII)


def may_be_state(raw: str) -> bool:
    """True for what is written as Slurm writes states: that of a newer version, perhaps."""
    return _MAY_BE.fullmatch(raw) is not None


# `squeue -l` leaves eight columns for a state and cuts it without a sign: COMPLETI, CANCELLE.
_LEAST_CUT = 7


def _full_word(word: str, *, cut: bool = False) -> str | None:
    word = _SHORT.get(word, word)
    if word in LONG_STATES:
        return word
    is_long = len(word) > 3 if cut else len(word) >= _LEAST_CUT
    fits = [state for state in LONG_STATES if state.startswith(word)] if is_long else []
    return fits[0] if len(fits) == 1 else None


def told_reason(reason: str | None, state: JobState) -> str | None:
    """The reason of a status: Slurm's word, with a sentence where waiting does not help."""
    said = said_text(reason)
    never = said is not None and said.strip("()") == "DependencyNeverSatisfied"
    if never and state is JobState.PENDING:  # a cancelled job keeps the word
        return f"{said}: a job that it depends on did not end as required, so {NEVER_STARTS}"
    return said


def is_held(reason: str) -> bool:
    """Whether a pending job's reason is a hold, which a person has to release."""
    return reason.strip("() ").lower().replace(" ", "_") in _HELD


# NO_VAL and INFINITE of slurm.h, and what stands for them in 64 bits.
_NO_VALUES: Final = frozenset((0xFFFFFFFE, 0xFFFFFFFF, 2**64 - 2, 2**64 - 1))
_NO_TEXTS: Final = frozenset(
    ("", "N/A", "n/a", "(null)", "Unknown", "None", "NONE", *map(str, _NO_VALUES))
)


def said_number(value: int | None) -> int | None:
    """A number, or ``None`` for one that Slurm writes for "none" or "without end"."""
    return None if value in _NO_VALUES else value


def said_text(text: str | None) -> str | None:
    """A field's text, or ``None`` for one that stands for nothing."""
    return None if text is None or text in _NO_TEXTS else text


def exit_of(text: str, state: JobState) -> tuple[int | None, int | None]:
    """(exit code, signal) of ``3:0`` or of a raw wait status (``squeue -O exit_code``)."""
    code, colon, number = text.partition(":")
    if colon:
        return told_exit(state, said_number(whole_number(code)), said_number(whole_number(number)))
    status = said_number(whole_number(text))
    return told_exit(state, *signal_and_code(status)) if status is not None else (None, None)


def told_exit(
    state: JobState, code: int | None, number: int | None
) -> tuple[int | None, int | None]:
    """What an exit code and a signal say of a job in this state.

    ``0:0`` stands for "none yet" and for jobs that never ran; signal 125 is what Slurm writes for
    out of memory, and no signal.
    """
    if not state.is_final:
        return None, None
    if number and number < 125:
        return (code or None), number
    if state is JobState.COMPLETED:
        return code or 0, None
    return (code or None), None


def has_begun(state: JobState) -> bool:
    return state not in (JobState.PENDING, JobState.HELD)


_JOB_ID = re.compile(
    r"[0-9]{1,18}(?:_(?:[0-9]{1,18}|\[[0-9,:%.\-]+\]))?(?:\+[0-9]{1,18})?", re.ASCII
)


def is_job_id(text: str) -> bool:
    """True for a Slurm job's id in one of squeue's forms; not for a step (``12.batch``)."""
    return len(text) <= MAX_ID and _JOB_ID.fullmatch(text) is not None
