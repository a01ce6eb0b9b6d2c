"""What a job can ask of its scheduler: the one list of the options of ``submit``.  Pure.

An option stands here, in each scheduler that has it, in the signature of ``Cluster.submit`` and in
the table of the command line; a test compares the last two with ``JobOptions``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any

from ..errors import InputError
from ..jobs import JobId
from ..jobs.time_limit import time_limit_of
from .fields import MOST_ELEMENTS, check_array, quote, shell_path

__all__ = ["ALL_OPTIONS", "JobOptions", "SubmitRequest", "memory_of", "time_limit_of"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# They are sent, quoted, inside of one argument of a command, of which Linux takes 128 KiB.
_MOST_ARGUMENTS = 16 * 1024

# --------------------------------------------------------------------------- checks of one option


def _check_text(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise InputError(f"{name} must be a text, not {value!r}")
    if "\0" in value:
        raise InputError(f"{name} holds a zero byte: {value!r}")
    if not value:
        raise InputError(f"{name} is empty")


def _check_word(name: str, value: object) -> None:
    _check_text(name, value)
    if isinstance(value, str) and _CONTROL.search(value):
        raise InputError(f"{name} holds control characters: {value!r}")


def _check_count(name: str, value: object) -> None:
    number = value
    if isinstance(value, str):
        _check_word(name, value)
        if not re.fullmatch("[+-]?[0-9]{1,18}", value):
            return  # a scheduler's own, such as 2-4
        number = int(value)
    is_whole = isinstance(number, int) and not isinstance(number, bool)
    if value is not None and (not is_whole or number < 1):  # type: ignore[operator]
        raise InputError(f"{name} must be a positive number, not {value!r}")


def _check_cores(name: str, value: object) -> None:
    _check_count(name, value)
    if isinstance(value, str) and not value.isdigit():
        raise InputError(f"{name} must be a positive number, not {value!r}")


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise InputError(f"{name} must be True or False, not {value!r}")


def _check_ids(name: str, value: tuple[str, ...]) -> None:
    for job_id in value:
        JobId.parse(job_id)


def _check_words(name: str, value: tuple[object, ...]) -> None:
    for word in value:
        if not isinstance(word, str) or "\0" in word:
            raise InputError(f"an option must be a text without zero bytes, not {word!r}")


def _check_arguments(name: str, value: tuple[object, ...]) -> None:
    for word in value:
        if not isinstance(word, str) or "\0" in word:
            raise InputError(f"an argument must be a text without zero bytes, not {word!r}")
    size = sum(len(str(word).encode("utf-8", "surrogateescape")) + 1 for word in value)
    if size > _MOST_ARGUMENTS:
        raise InputError(
            f"the arguments of the script have {size} bytes, more than {_MOST_ARGUMENTS}",
            advice="Put them into a file beside the script.",
        )


def _check_time_limit(name: str, value: object) -> None:
    if isinstance(value, str):
        _check_word(name, value)
    time_limit_of(value, name)


# With a unit: 8G, 8GB and 8GiB are all 8 * 2**30 bytes.
_MEMORY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([kmgtpe])(?:i?b)?", re.I | re.A)
_POWERS = "kmgtpe"
_LEAST_MEMORY = 2**20
_MOST_MEMORY = 2**63 - 1


def memory_of(value: object, name: str = "memory") -> int | None:
    """An amount of memory in bytes; raises ``InputError``.

    ``value``: a number of bytes, or text with a unit (K, M, G, T, P or E), which is a power of
    1024 also with ``B`` or ``iB`` behind it.
    """
    if isinstance(value, str):
        _check_word(name, value)
    if value is None:
        return None
    size: float = 0
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (found := _MEMORY.fullmatch(value.strip())):
        unit: int = 1024 ** (_POWERS.index(found[2].lower()) + 1)
        size = int(found[1]) * unit if found[1].isdigit() else math.ceil(float(found[1]) * unit)
    if not _LEAST_MEMORY <= size <= _MOST_MEMORY:
        raise InputError(
            f"{name} must be a number of bytes from {_LEAST_MEMORY} on, or a text with a unit such "
            f"as '8G', not {value!r}",
            advice="The units are K, M, G, T, P and E, with or without B or iB behind them.",
        )
    return int(size)


# --------------------------------------------------------------------------- the options


Check = Callable[[str, Any], object]


def _checked(check: Check) -> dict[str, Check]:
    """The metadata of an option."""
    return {"check": check}


_TEXT, _WORD, _COUNT, _IDS = map(_checked, (_check_text, _check_word, _check_count, _check_ids))
_CORES, _FLAG, _TIME_LIMIT = map(_checked, (_check_cores, _check_flag, _check_time_limit))
_MEMORY_SIZE = _checked(lambda name, value: memory_of(value, name))
_WORDS, _ARGUMENTS = map(_checked, (_check_words, _check_arguments))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """What a caller of ``submit`` may ask of the scheduler.

    ``time_limit``: a ``timedelta``, ``HH:MM:SS`` or ``D-HH:MM:SS``.  ``memory``: bytes, or text
    with a unit (``8G``); on each node, as ``gpus`` and ``cpus`` (cores for one task).  ``qos``,
    ``reservation`` and ``constraint``: names and expressions of the scheduler.  ``mail``: an
    address for a message when the job ends or fails.  ``stdout_path`` and ``stderr_path``: as the
    scheduler writes them (Slurm: ``%j`` for the id).  ``arguments``: of the
    script, each as it is.  ``options`` are put last, after all others, and win.
    """

    name: str | None = field(default=None, metadata=_TEXT)
    array: str | None = field(default=None, metadata=_WORD)
    after_ok: tuple[str, ...] = field(default=(), metadata=_IDS)
    after_any: tuple[str, ...] = field(default=(), metadata=_IDS)
    after_failed: tuple[str, ...] = field(default=(), metadata=_IDS)
    hold: bool = field(default=False, metadata=_FLAG)
    queue: str | None = field(default=None, metadata=_WORD)
    account: str | None = field(default=None, metadata=_WORD)
    time_limit: timedelta | str | None = field(default=None, metadata=_TIME_LIMIT)
    nodes: int | str | None = field(default=None, metadata=_COUNT)
    cpus: int | None = field(default=None, metadata=_CORES)
    memory: int | str | None = field(default=None, metadata=_MEMORY_SIZE)
    gpus: int | str | None = field(default=None, metadata=_COUNT)
    qos: str | None = field(default=None, metadata=_WORD)
    reservation: str | None = field(default=None, metadata=_WORD)
    constraint: str | None = field(default=None, metadata=_WORD)
    stdout_path: str | None = field(default=None, metadata=_TEXT)
    stderr_path: str | None = field(default=None, metadata=_TEXT)
    mail: str | None = field(default=None, metadata=_WORD)
    arguments: tuple[str, ...] = field(default=(), metadata=_ARGUMENTS)
    options: tuple[str, ...] = field(default=(), metadata=_WORDS)

    def job_options(self) -> dict[str, Any]:
        """The options alone, by name."""
        return {option.name: getattr(self, option.name) for option in fields(JobOptions)}


_ONE_NODE = {"nodes": (1, "1")}


ALL_OPTIONS = frozenset(option.name for option in fields(JobOptions))


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitRequest(JobOptions):
    """One submission, as a scheduler's ``submit_script`` gets it; checked when it is made.

    ``script`` is its path as seen on the host, absolute or relative to ``directory``; the submit
    script is run in ``directory``.  ``max_array``: the most elements of an array.  A
    scheduler reads ``seconds`` and ``memory_in``, not the texts.  Raises ``InputError``.
    """

    script: str
    directory: str | None = None
    token: str | None = None
    #: The variables that are set around the submit command for the job; never their values.
    env_names: tuple[str, ...] = ()
    max_array: int = field(default=MOST_ELEMENTS, compare=False)

    def __post_init__(self) -> None:
        if not self.script:
            raise InputError("the path of the script is empty")
        for name in ("script", "directory", "token"):
            _check_text(name, getattr(self, name))
        for option in fields(JobOptions):
            if "check" in option.metadata:
                option.metadata["check"](option.name, getattr(self, option.name))
        if self.array is not None:
            check_array(self.array, self.max_array)

    def given(self) -> list[str]:
        """The names of the options that ask for something."""
        return [
            option.name
            for option in fields(JobOptions)
            # Every job has a node.
            if getattr(self, option.name) not in (option.default, *_ONE_NODE.get(option.name, ()))
        ]

    @property
    def script_words(self) -> str:
        """The script and its arguments, as words of a shell command line."""
        return " ".join((shell_path(self.script), *map(quote, self.arguments)))

    @property
    def seconds(self) -> int | None:
        """The time limit in seconds, rounded up."""
        limit = time_limit_of(self.time_limit)
        return None if limit is None else limit // timedelta(seconds=1)

    def memory_in(self, unit: int) -> int | None:
        """The memory in units of so many bytes, rounded up."""
        size = memory_of(self.memory)
        return None if size is None else -(-size // unit)
