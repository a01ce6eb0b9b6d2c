"""What a pasted command line of Slurm asked for.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def is_bare(words: Sequence[str]) -> bool:
    """True for a command that asks for no header (``-h`` of squeue, ``-n`` of sacct)."""
    return any(re.match(r"--noheader|-[hn]", word) for word in words)


def ids_of_command(words: Sequence[str]) -> Iterable[str]:
    """The ids of jobs that a command named."""
    for place, word in enumerate(words):
        if word in ("-j", "--jobs", "--job") and place + 1 < len(words):
            yield from words[place + 1].split(",")
        elif word.startswith(("--jobs=", "--job=")):
            yield from word.partition("=")[2].split(",")
        elif re.fullmatch(r"-[a-zA-Z]*j[0-9,_]+", word):
            yield from word[word.index("j") + 1 :].split(",")
    if words and words[0].endswith("scontrol"):
        yield words[-1]
