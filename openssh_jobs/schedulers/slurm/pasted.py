"""Pasted listings of Slurm: what their command line asked for, and the jobs in them.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo

from ..fields import json_text
from ..rows import Rows
from .records import RECORD, read_json, read_scontrol
from .tables import columns_of_command, read_table


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


def read_pasted(
    stdout: str, words: Sequence[str], program: str, timezone: tzinfo | None
) -> Rows | None:
    """The jobs of squeue, sacct or scontrol in any form; ``None``: this is no listing of theirs."""
    answer = json_text(stdout, '"jobs"')
    if answer:
        return read_json(answer)
    if program == "scontrol" or RECORD.search(stdout) is not None:
        rows = read_scontrol(stdout, timezone)
        empty = "No jobs in the system" in stdout
        return rows if rows.known or rows.unparsed or empty else None
    known = columns_of_command(words)
    columns, separator = known if known is not None else (None, None)
    rows_or_none = read_table(stdout, columns=columns, separator=separator, zone=timezone)
    if rows_or_none is None and program in ("squeue", "sacct") and is_bare(words):
        # Asked for no header, and nothing to list: that is an answer.
        return Rows() if not stdout.strip() else None
    if rows_or_none is not None and program == "sacct":
        rows_or_none.source = "accounting"
        for job_id, status in rows_or_none.known.items():
            if status.source != "accounting":
                rows_or_none.known[job_id] = status.replace(source="accounting")
    return rows_or_none
