"""Which limit of Grid Engine's ended a job.  Pure.

Its accounting has one number (``failed 37``) for the limits of wall-clock time, CPU time and
memory.  Measured with 8.1.9: one process that wants more than ``h_vmem`` is refused memory by the
system, several that take more of it together are killed by the host's daemon.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...jobs import JobState

ALL_IN_ONE = "enforced h_rt, h_cpu, or h_vmem"
"""What the accounting says where it does not say which."""

Limits = Mapping[str, Mapping[str, str]]
"""The limits of queues, by queue and name, as ``qconf -sq`` prints them."""

_NAMES = ("h_rt", "h_cpu", "h_vmem")
_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4,
          "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}  # fmt: skip


def read_limits(text: str) -> dict[str, dict[str, str]]:
    """``qconf -sq`` of several queues, one behind the other."""
    found: dict[str, dict[str, str]] = {}
    queue: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == "qname":
            queue = found.setdefault(value.strip(), {})
        elif key in _NAMES:
            queue[key] = value.strip()
    return found


def limit_state(attributes: Mapping[str, str], queues: Limits) -> tuple[JobState, str | None]:
    """What a job has run into whose ``failed`` is 37, by its record; and a reason where unclear.

    ``failed`` with that reason where the figures do not tell time from memory.
    """
    if ALL_IN_ONE not in attributes.get("failed", ""):
        return JobState.TIMEOUT, None  # before 8.1 this number meant h_rt alone
    own = dict(re.findall(r"\b(h_rt|h_cpu|h_vmem)=([^,\s]+)", attributes.get("category", "")))
    queue = queues.get(attributes.get("qname", ""), {})
    slots = _figure(attributes.get("slots"), {"": 1}) or 1
    spent = {
        "h_rt": _figure(attributes.get("ru_wallclock")),
        "h_cpu": _figure(attributes.get("cpu")),
        "h_vmem": _figure(attributes.get("maxvmem"), {f"{unit}B": _UNITS[unit] for unit in _UNITS}),
    }
    reached = {
        name
        for name in _NAMES
        for limit in (_limit(name, own.get(name)), _limit(name, queue.get(name)))
        # Memory is asked for by the slot.  Times are whole seconds.
        if limit is not None and (spent[name] or 0) >= limit * (slots if name == "h_vmem" else 1)
    }
    if reached == {"h_vmem"}:
        return JobState.OUT_OF_MEMORY, None
    if reached and "h_vmem" not in reached:
        return JobState.TIMEOUT, None
    return JobState.FAILED, "it ran into a limit: time, CPU time or memory"


def _figure(text: str | None, units: Mapping[str, int] | None = None) -> float | None:
    """``81s``, ``0.070s``, ``210.922MB``."""
    found = re.match(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([A-Za-z]{0,2})", text or "", re.ASCII)
    if found is None:
        return None
    if units is None:
        return float(found[1]) if found[2] in ("", "s") else None
    return float(found[1]) * units[found[2]] if found[2] in units else None


def _limit(name: str, text: str | None) -> float | None:
    """``2``, ``0:10:0``, ``100M``; ``None`` for INFINITY and what is another on some hosts."""
    if text is None or "[" in text:
        return None
    if name == "h_vmem":
        found = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([kKmMgGtT]?)", text, re.ASCII)
        return float(found[1]) * _UNITS[found[2]] if found is not None else None
    if re.fullmatch(r"[0-9]{0,9}(?::[0-9]{0,9}){0,2}", text, re.ASCII) is None:
        return None
    seconds = 0
    for part in text.split(":"):
        seconds = seconds * 60 + int(part or 0)
    return float(seconds)
