"""Frames: a script whose output shows whether it arrived whole, and in which parts.  Pure.

A frame proves that an answer is complete: it begins with a random number (a job's name may hold
anything else), and each part says how its command ended.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..commands import scripts
from ..commands.quoting import to_text
from ..errors import SchedulerError
from .answer import Answer
from .fields import is_number

__all__ = ["Section", "as_is", "framed", "parts_of", "read_frame", "section", "shell_text"]

_OPEN = re.compile(r"^OJ\+([0-9a-f]{1,40})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Section:
    """What one command of a framed script printed, and how it ended."""

    name: str
    text: str
    returncode: int
    mark: str

    def answer(self, stderr: str = "") -> Answer:
        """This part as an ``Answer``, with the ``stderr`` of the whole script."""
        return Answer(self.text, stderr, self.returncode)


def shell_text(name: str, /, **values: scripts.Value) -> str:
    """The text of a ``.sh`` file of this folder (``slurm/query``), its values filled in."""
    return to_text(scripts.script(f"schedulers/{name}", **values))


def as_is(text: str) -> scripts.Shell:
    """Shell text for ``shell_text`` to put in unquoted."""
    return scripts.Shell(text.encode("utf-8", "surrogateescape"))


def framed(*parts: str) -> str:
    """A script of several parts, of whose output ``read_frame`` can tell whether it is complete.

    ``$oj`` is the unguessable mark, which the parts may use as a separator.
    """
    head = (
        "LC_ALL=C; export LC_ALL\n"
        "oj=$(od -An -N8 -tx1 /dev/urandom 2>/dev/null | tr -d ' \\n')$$\n"
        "printf 'OJ+%s\\n' \"$oj\"\n"
    )
    return "".join((head, *parts, "printf 'OJ-%s\\n' \"$oj\"\n"))


def section(name: str, commands: str) -> str:
    """One part of a framed script: commands, the last of which gives the status."""
    return (
        f"printf 'OJ:%s begin {name}\\n' \"$oj\"\n"
        f"{commands.rstrip()}\n"
        f'printf \'\\nOJ:%s end {name} %d\\n\' "$oj" "$?"\n'
    )


def read_frame(stdout: str) -> list[Section] | None:
    """The parts of a framed answer; ``None`` for text without a frame.

    ``SchedulerError`` of kind ``transport`` for a frame that was cut off.
    """
    opened = _OPEN.search(stdout)
    if opened is None:
        return None
    mark = opened[1]
    found: list[Section] = []
    pieces = stdout[opened.end() + 1 :].split(f"OJ:{mark} ")
    complete = f"\nOJ-{mark}\n" in pieces[-1]
    name = text = ""
    is_open = False
    for piece in pieces[1:]:
        line, _, rest = piece.partition("\n")
        word, _, argument = line.partition(" ")
        if word == "begin":
            name, text, is_open = argument, rest, True
        elif word == "end" and is_open:
            code = argument.rpartition(" ")[2]
            found.append(Section(name, text[:-1], int(code) if is_number(code) else 1, mark))
            is_open = False
        else:
            complete = False
    if not complete or is_open:
        raise SchedulerError("the answer is cut off", kind="transport", stdout=stdout)
    return found


def parts_of(answer: Answer) -> list[Section]:
    """The parts of a framed answer; of text without a frame one part, both streams in it."""
    sections = read_frame(answer.stdout)
    if sections is not None:
        return sections
    return [Section("", f"{answer.stdout}\n{answer.stderr}", answer.returncode, "")]
