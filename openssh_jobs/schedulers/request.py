"""What a job can ask of its scheduler: the one list of the options of ``submit``.  Pure.

An option stands here, in each scheduler that has it, in the signature of ``Cluster.submit`` and in
the table of the command line; a test compares the last two with ``JobOptions``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, NoReturn

from ..errors import InputError
from ..jobs import JobId
from .fields import MOST_ELEMENTS, check_array

__all__ = ["JobOptions", "SubmitRequest", "check_memory", "check_time_limit"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# --------------------------------------------------------------------------- checks of one option


def _check_text(name: str, value: object) -> None:
    if isinstance(value, str) and "\0" in value:
        raise InputError(f"{name} holds a zero byte: {value!r}")
    if isinstance(value, str) and not value:
        raise InputError(f"{name} is empty")


def _check_word(name: str, value: object) -> None:
    _check_text(name, value)
    if isinstance(value, str) and _CONTROL.search(value):
        raise InputError(f"{name} holds control characters: {value!r}")


def _check_count(name: str, value: object) -> None:
    _check_word(name, value)
    if isinstance(value, int) and (isinstance(value, bool) or value < 1):
        raise InputError(f"{name} must be a positive number, not {value!r}")


def _check_ids(name: str, value: tuple[str, ...]) -> None:
    for job_id in value:
        JobId.parse(job_id)


def _check_words(name: str, value: tuple[object, ...]) -> None:
    for word in value:
        if not isinstance(word, str) or "\0" in word:
            raise InputError(f"an option must be a text without zero bytes, not {word!r}")


_BARE = re.compile(r"\s*[+-]?[0-9]+(?:\.[0-9]*)?\s*")
# A number and a unit: K or kb or KiB, up to E; w is a word, in PBS.
_MEMORY = re.compile(r" *([0-9]+(?:\.[0-9]+)?)(?:[kmgtpe]i?[bwn]?|[bwc])? *", re.IGNORECASE)
_LONGEST = 400 * 365 * 86400


def check_time_limit(name: str, value: object) -> None:
    """Raise ``InputError`` for what is no time limit, and for a number without a unit.

    ``3600`` is an hour to Grid Engine and PBS, and two and a half days to Slurm and LSF.
    """
    _check_word(name, value)
    if value is None:
        return
    if isinstance(value, timedelta):
        if value <= timedelta(0):
            raise InputError(f"{name} must be positive, not {value}")
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number or (isinstance(value, str) and _BARE.fullmatch(value)):
        _refuse_bare_number(name, value)
    if not isinstance(value, str):
        raise InputError(f"{name} must be a timedelta or a text such as '2:30:00', not {value!r}")


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


def check_memory(name: str, value: object) -> None:
    """Raise ``InputError`` for what is no amount of memory, with what is allowed."""
    _check_word(name, value)
    if value is None:
        return
    if isinstance(value, str):
        found = _MEMORY.fullmatch(value)
        is_right = found is not None and float(found[1]) > 0
    else:
        is_right = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if not is_right:
        raise InputError(
            f"{name} must be a positive number of bytes or a text such as '8G', not {value!r}",
            advice="A text is a number with a unit (K, M, G or T), as the scheduler writes it.",
        )


# --------------------------------------------------------------------------- the options


Check = Callable[[str, Any], None]


def _checked(check: Check) -> dict[str, Check]:
    """The metadata of an option."""
    return {"check": check}


_TEXT, _WORD, _COUNT, _IDS = map(_checked, (_check_text, _check_word, _check_count, _check_ids))
_TIME_LIMIT, _MEMORY_SIZE = map(_checked, (check_time_limit, check_memory))
_WORDS = _checked(_check_words)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """What a caller of ``submit`` may ask of the scheduler.

    ``time_limit`` is a ``timedelta`` or a text with colons; a bare number is refused, for it is
    minutes to some schedulers and seconds to others.  ``cpus`` are cores on each node for one task
    (``options`` can say it otherwise), ``memory`` bytes or the scheduler's own text, on each node;
    ``gpus`` on each node.  ``options`` are put last, after all others, and win.
    """

    name: str | None = field(default=None, metadata=_TEXT)
    array: str | None = field(default=None, metadata=_WORD)
    after_ok: tuple[str, ...] = field(default=(), metadata=_IDS)
    after_any: tuple[str, ...] = field(default=(), metadata=_IDS)
    after_failed: tuple[str, ...] = field(default=(), metadata=_IDS)
    hold: bool = False
    queue: str | None = field(default=None, metadata=_WORD)
    account: str | None = field(default=None, metadata=_WORD)
    time_limit: timedelta | str | None = field(default=None, metadata=_TIME_LIMIT)
    nodes: int | str | None = field(default=None, metadata=_COUNT)
    cpus: int | None = field(default=None, metadata=_COUNT)
    memory: int | str | None = field(default=None, metadata=_MEMORY_SIZE)
    gpus: int | str | None = field(default=None, metadata=_COUNT)
    options: tuple[str, ...] = field(default=(), metadata=_WORDS)

    def job_options(self) -> dict[str, Any]:
        """The options alone, by name."""
        return {option.name: getattr(self, option.name) for option in fields(JobOptions)}


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitRequest(JobOptions):
    """One submission, as a scheduler's ``submit_script`` gets it; checked when it is made.

    ``script`` is its path as seen on the host, absolute or relative to ``directory``; the submit
    script is run in ``directory``.  ``max_array``: the most elements of an array.  Raises
    ``InputError``.
    """

    script: str
    directory: str | None = None
    stdout_path: str | None = None
    stderr_path: str | None = None
    token: str | None = None
    #: The variables that are set around the submit command for the job; never their values.
    env_names: tuple[str, ...] = ()
    max_array: int = field(default=MOST_ELEMENTS, compare=False)

    def __post_init__(self) -> None:
        if not self.script:
            raise InputError("the path of the script is empty")
        for name in ("script", "directory", "stdout_path", "stderr_path", "token"):
            _check_text(name, getattr(self, name))
        for option in fields(JobOptions):
            if "check" in option.metadata:
                option.metadata["check"](option.name, getattr(self, option.name))
        if self.array is not None:
            check_array(self.array, self.max_array)
