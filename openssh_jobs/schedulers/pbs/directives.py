"""What a script for the PBS family asks for itself, and where that contradicts a request.  Pure.

Options win over directives, resource by resource (OpenPBS 23.06, measured): ``-l select`` takes the
place of a script's ``select`` with all its cores, and beside it qsub refuses ``ncpus``, ``mem`` and
``nodes``.  Torque lets ``nodes`` take the place of the script's.  So both are refused here, before
anything is sent.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import InputError
from ..launcher.launcher import header_of

if TYPE_CHECKING:
    from ..request import SubmitRequest

__all__ = ["check_resources", "named_resources"]

# What belongs to a chunk of hosts: beside select it is refused, or replaced by it.
_OF_PBS = frozenset(
    ("select", "place", "nodes", "ncpus", "mem", "vmem", "ngpus", "mpiprocs", "ompthreads",
     "naccelerators", "host", "vnode", "arch")
)  # fmt: skip
_OF_TORQUE = frozenset(("nodes", "ncpus", "procs", "select", "size", "proc_bitmap"))


def named_resources(script: bytes, options: Sequence[str] = ()) -> dict[str, str]:
    """The resources that directives and options name with ``-l``, with what they ask for."""
    found: dict[str, str] = {}
    for words in (_directives(script, options), list(options)):
        for text in _values(words):
            for part in _parts(text):
                name, _, value = part.partition("=")
                found[name.strip()] = value
    return found


def check_resources(script: bytes, request: SubmitRequest, *, torque: bool) -> None:
    """``InputError`` where an ``-l`` of the script contradicts what was requested."""
    requested = [
        f"{name}={value!r}"
        for name, value in (
            ("nodes", request.nodes), ("cpus", request.cpus), ("gpus", request.gpus),
            *((("memory", request.memory),) if not torque else ()),
        )
        if value is not None
    ]  # fmt: skip
    if not requested:
        return
    own = named_resources(script)
    both = sorted(own.keys() & (_OF_TORQUE if torque else _OF_PBS))
    if not torque:
        # Beside our select; a select of the options takes the place of ours.
        given = named_resources(b"", request.options)
        both += sorted((given.keys() & _OF_PBS) - {"select", "place"} - set(both))
        own |= given
    if both:
        conflicting = ", ".join(f"-l {name}={own[name]}"[:80] for name in both)
        raise InputError(
            f"{', '.join(requested)} contradicts what the script asks for itself: {conflicting}",
            advice="Say it in one place: in the script's directives, or in the request.",
        )


def _directives(script: bytes, options: Sequence[str]) -> list[str]:
    """The words of all directive lines (``#PBS``, or what ``-C`` names)."""
    words = list(options)
    prefix = words[words.index("-C") + 1] if "-C" in words[:-1] else "#PBS"
    first, _, rest = script.partition(b"\n")
    lines = header_of(rest if first.startswith((b"#!", b":")) else script)
    found: list[str] = []
    for line in lines:
        text = line.decode("utf-8", "surrogateescape").lstrip(" \t")
        if prefix and text.startswith(prefix):
            try:
                found += shlex.split(text[len(prefix) :], comments=True)
            except ValueError:
                found += text[len(prefix) :].split()
    return found


def _values(words: Sequence[str]) -> list[str]:
    """What stands behind each ``-l``."""
    found = []
    for number, word in enumerate(words):
        if word == "-l" and number + 1 < len(words):
            found.append(words[number + 1])
        elif word.startswith("-l") and len(word) > 2 and not word.startswith("--"):
            found.append(word[2:])
    return found


def _parts(text: str) -> list[str]:
    """``walltime=1:0:0,select=1:ncpus=2`` as its resources."""
    return [part for part in re.split(r",(?=[A-Za-z_][\w.]*=)", text) if part.strip()]
