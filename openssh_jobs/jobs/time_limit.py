"""Time limits: texts and ``timedelta`` values that mean the same to every scheduler.  Pure."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, NoReturn

from ..errors import InputError

_BARE = re.compile(r"\s*[+-]?[0-9]+(?:\.[0-9]*)?\s*")
_CLOCK = re.compile(r"(?:([0-9]{1,5})-)?([0-9]{1,6}):([0-5][0-9]):([0-5][0-9])", re.ASCII)
_LONGEST = 400 * 365 * 86400


def time_limit_of(value: object, name: str = "time_limit") -> timedelta | None:
    """A time limit as a ``timedelta`` of whole seconds; raises ``InputError``.

    ``value``: a ``timedelta``, or text of the form ``HH:MM:SS`` or ``D-HH:MM:SS``.  A bare number
    is refused: ``3600`` is an hour to Grid Engine and PBS, and two and a half days to Slurm and
    LSF.  So is ``2:30``, which is minutes and seconds to Slurm, and hours and minutes to LSF.
    """
    if value is None:
        return None
    if isinstance(value, timedelta):
        seconds = -(-value // timedelta(seconds=1))
    elif isinstance(value, str) and (found := _CLOCK.fullmatch(value.strip())):
        days, hours, minutes, rest = (int(part or 0) for part in found.groups())
        seconds = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    else:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number or (isinstance(value, str) and _BARE.fullmatch(value)):
            _refuse_bare_number(name, value)
        raise InputError(
            f"{name} must be a timedelta, HH:MM:SS or D-HH:MM:SS, not {value!r}",
            advice="What only the scheduler understands goes into options.",
        )
    if not 0 < seconds < _LONGEST:
        raise InputError(f"{name} must be positive and less than 400 years, not {value}")
    return timedelta(seconds=seconds)


def _refuse_bare_number(name: str, value: Any) -> NoReturn:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        number = 0
    if not 0 < number * 60 < _LONGEST:
        raise InputError(
            f"{name} must be positive and say its unit, not {value!r}",
            advice="Write it as HOURS:MINUTES:SECONDS, or give a timedelta.",
        )
    seconds, minutes = _clock(number), _clock(number * 60)
    raise InputError(
        f"{name}={value!r} may be {value} seconds ({seconds}) or {value} minutes ({minutes}): "
        "schedulers differ",
        advice=f"Write {seconds!r} or {minutes!r}, or give a timedelta.",
    )


def _clock(seconds: float) -> str:
    whole = max(1, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
