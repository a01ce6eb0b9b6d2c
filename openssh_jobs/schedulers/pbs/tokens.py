"""The jobs of PBS and Torque by the script in the arguments of their qsub.  Pure.

OpenPBS shows them as ``Submit_arguments``, Torque as ``submit_args``; of Slurm, which plays Torque,
Slurm's own commands are asked.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from datetime import datetime

from ..answer import Answer
from ..base import Scheduler
from ..framing import framed, read_frame, section, shell_text
from ..request import SubmitRequest
from ..slurm import tokens as slurm_tokens
from ..tokens import TokenAnswer, are_plain, jobs_by_script
from .query import is_id, remembered

_SETTLING = 15.0
_XML = re.compile(r"<Job><Job_Id>([^<]{1,200})</Job_Id>(.*?)</Job>", re.DOTALL)
_XML_ARGUMENTS = re.compile(r"<submit_args>([^<]*)</submit_args>")


def token_script(since: datetime, *, torque: bool) -> str:
    """The records of all jobs of this user, and how long ended ones stay."""
    name = "torque" if torque else "pbs"
    functions = shell_text("pbs/tokens")
    own = framed(
        functions,
        section("server", "qstat -B -f </dev/null"),
        section("jobs", f"oj_tokens_{name}"),
    )
    if not torque:
        return own
    return f"{functions}if oj_is_slurm; then\n{slurm_tokens.token_script(since)}else\n{own}fi\n"


def parse_tokens(
    scheduler: Scheduler, answer: Answer, requests: Sequence[SubmitRequest], *, torque: bool
) -> TokenAnswer:
    """The answer to ``token_script``; each job that qselect names has to be in it."""
    parts = {part.name: part for part in read_frame(answer.stdout) or ()}
    if "queue" in parts:
        return slurm_tokens.parse_tokens(scheduler, answer, requests)
    if parts.keys() != {"server", "jobs"}:
        raise scheduler.error(answer, kind="transport")
    for part in parts.values():
        if part.returncode != 0:
            raise scheduler.error(part.answer(answer.stderr))
    kept = remembered(parts["server"].text, torque=torque)
    if kept is None:
        raise scheduler.error(answer, kind="parse_error", message="no answer of the server")
    listed, text = [], parts["jobs"].text
    while is_id(text.partition("\n")[0].strip()):
        line, _, text = text.partition("\n")
        listed.append(line.strip())
    found = _read_xml(text) if torque else _read_dsv(text, parts["jobs"].mark)
    left_out = [job_id for job_id in listed if job_id not in found]
    if left_out:
        message = f"the answer leaves out {', '.join(left_out[:5])}"
        raise scheduler.error(answer, kind="transient", message=message)
    return TokenAnswer(
        jobs=jobs_by_script(found.items(), requests),
        settling=_SETTLING,
        remembers=kept.total_seconds(),
        is_whole=are_plain(requests),
    )


def _read_dsv(text: str, mark: str) -> dict[str, str]:
    """Arguments of qsub by id, of records in which the mark stands between the fields."""
    found = {}
    for record in re.split(rf"^Job Id: (?=\S+\|{mark}\|)", text, flags=re.MULTILINE)[1:]:
        job_id, *cells = record.rstrip("\n").split(f"|{mark}|")
        said = (cell.partition("=") for cell in cells)
        found[job_id] = next((value for key, _, value in said if key == "Submit_arguments"), "")
    return found


def _read_xml(text: str) -> dict[str, str]:
    found = {}
    for job_id, record in _XML.findall(text):
        arguments = _XML_ARGUMENTS.search(record)
        found[job_id] = html.unescape(arguments[1]) if arguments is not None else ""
    return found
