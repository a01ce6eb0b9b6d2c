"""What a time limit and an amount of memory have to look like, on every scheduler.  Pure."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, NoReturn

from ..errors import InputError

__all__ = ["check_memory", "check_time_limit"]

_BARE = re.compile(r"\s*[+-]?[0-9]+(?:\.[0-9]*)?\s*")
# A number and a unit: K or kb or KiB, up to E; w is a word, in PBS.
_MEMORY = re.compile(r" *([0-9]+(?:\.[0-9]+)?)(?:[kmgtpe]i?[bwn]?|[bwc])? *", re.IGNORECASE)
_LONGEST = 400 * 365 * 86400


def check_time_limit(value: object) -> None:
    """``InputError`` for a time limit that is none, and for a number without a unit.

    ``3600`` is an hour to Grid Engine and PBS, and two and a half days to Slurm and LSF.
    """
    if value is None:
        return
    if isinstance(value, timedelta):
        if value <= timedelta(0):
            raise InputError(f"time_limit must be positive, not {value}")
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number or (isinstance(value, str) and _BARE.fullmatch(value)):
        _refuse_bare_number(value)
    if not isinstance(value, str):
        raise InputError(
            f"time_limit must be a timedelta or a text such as '2:30:00', not {value!r}"
        )


def _refuse_bare_number(value: Any) -> NoReturn:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        number = 0
    if not 0 < number * 60 < _LONGEST:
        raise InputError(
            f"time_limit must be positive and say its unit, not {value!r}",
            advice="Write it as HOURS:MINUTES:SECONDS, or give a timedelta.",
        )
    seconds, minutes = _clock(number), _clock(number * 60)
    raise InputError(
        f"time_limit={value!r} may be {value} seconds ({seconds}) or {value} minutes ({minutes}): "
        "schedulers differ",
        advice=f"Write {seconds!r} or {minutes!r}, or give a timedelta.",
    )


def _clock(seconds: float) -> str:
    whole = max(1, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def check_memory(value: object) -> None:
    """``InputError`` for what is no amount of memory: says what was typed and what is allowed."""
    if value is None:
        return
    if isinstance(value, str):
        found = _MEMORY.fullmatch(value)
        is_right = found is not None and float(found[1]) > 0
    else:
        is_right = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if not is_right:
        raise InputError(
            f"memory must be a positive number of bytes or a text such as '8G', not {value!r}",
            advice="A text is a number with a unit (K, M, G or T), as the scheduler writes it.",
        )
