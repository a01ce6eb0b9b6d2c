"""The jobs of PBS and Torque by the script in the arguments of their qsub.  Pure.

OpenPBS shows them as ``Submit_arguments``, Torque as ``submit_args``; of Slurm, which plays Torque,
Slurm's own commands are asked.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from ..answer import Answer
from ..base import Scheduler
from ..fields import first_line
from ..framing import framed, read_frame, section, shell_text
from ..request import SubmitRequest
from ..slurm import tokens as slurm_tokens
from ..tokens import TokenAnswer, are_plain, jobs_by_script
from .query import is_id, remembered

_SETTLING = 15.0
_XML = re.compile(r"<Job><Job_Id>([^<]{1,200})</Job_Id>(.*?)</Job>", re.DOTALL)
_KEPT_BY_QUEUE = re.compile(r"^\s+keep_completed = ([0-9]{1,9})\s*$", re.MULTILINE | re.ASCII)
_XML_WHOLE = re.compile(r"\s*(?:(?:<\?xml[^<>]*\?>\s*)?<Data>.*?</Data>\s*)+", re.DOTALL)
_XML_ARGUMENTS = re.compile(r"<submit_args>([^<]*)</submit_args>")


def token_script(since: datetime, *, torque: bool) -> str:
    """The records of all jobs of this user, and how long ended ones stay."""
    name = "torque" if torque else "pbs"
    functions = shell_text("pbs/tokens")
    sections = [section("server", "qstat -B -f </dev/null")]
    if torque:
        sections.append(section("queues", "qstat -Q -f </dev/null"))
    own = framed(functions, *sections, section("jobs", f"oj_tokens_{name}"))
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
    if parts.keys() != {"server", "jobs", *(["queues"] if torque else ())}:
        raise scheduler.error(answer, kind="transport")
    for part in parts.values():
        if part.returncode != 0:
            raise scheduler.error(part.answer(answer.stderr))
    kept = remembered(parts["server"].text, torque=torque)
    if kept is None:
        raise scheduler.error(answer, kind="parse_error", message="no answer of the server")
    text = parts["jobs"].text
    if torque:
        kept = min((kept, *_kept_by_queues(parts["queues"].text)))
    else:
        option, _, text = text.partition("\n")
        kept = kept if option == "-x" else timedelta(0)
    listed = []
    while is_id(text.partition("\n")[0].strip()):
        line, _, text = text.partition("\n")
        listed.append(line.strip())
    found = _read_xml(text) if torque else _read_dsv(text, parts["jobs"].mark)
    if found is None:
        message = f"this is not a listing of {scheduler.name}: {first_line(text)!r}"
        raise scheduler.error(answer, kind="parse_error", message=message)
    left_out = [job_id for job_id in listed if job_id not in found]
    if left_out:
        message = f"the answer leaves out {', '.join(left_out[:5])}"
        raise scheduler.error(answer, kind="transient", message=message)
    # Torque's qstat prints other jobs too, of other users, where an array is among the ids.
    own = [(job_id, found[job_id]) for job_id in listed]
    return TokenAnswer(
        jobs=jobs_by_script(((job_id, line or "") for job_id, line in own), requests),
        settling=_SETTLING,
        remembers=kept.total_seconds(),
        is_whole=are_plain(requests)
        and (not found or any(line is not None for line in found.values()))
        and not any(map(_names_server, requests)),
    )


def _names_server(request: SubmitRequest) -> bool:
    """Whether a job goes to a server other than the one that is asked (``-q QUEUE@SERVER``)."""
    words = request.options
    queues = [after for before, after in pairwise(words) if before == "-q"]
    queues += [word for word in words if word.startswith("-q")]
    return any("@" in queue for queue in (request.queue or "", *queues))


def _kept_by_queues(text: str) -> list[timedelta]:
    """How long Torque's queues keep ended jobs, of those that have a time of their own."""
    return [timedelta(seconds=int(seconds)) for seconds in _KEPT_BY_QUEUE.findall(text)]


def _read_dsv(text: str, mark: str) -> dict[str, str | None] | None:
    """Arguments of qsub by id, of records in which the mark stands between the fields.

    ``None`` for a job that shows none (it had none, or an old server), and instead of all if there
    is any other text.
    """
    before, *records = re.split(rf"^Job Id: (?=\S+\|{mark}\|)", text, flags=re.MULTILINE)
    if before.strip():
        return None
    found: dict[str, str | None] = {}
    for record in records:
        job_id, *cells = record.rstrip("\n").split(f"|{mark}|")
        pairs = (cell.partition("=") for cell in cells)
        found[job_id] = next((value for key, _, value in pairs if key == "Submit_arguments"), None)
    return found


def _read_xml(text: str) -> dict[str, str | None] | None:
    """As ``_read_dsv``, of ``qstat -x``."""
    if text.strip() and _XML_WHOLE.fullmatch(text) is None:
        return None
    found: dict[str, str | None] = {}
    for job_id, record in _XML.findall(text):
        arguments = _XML_ARGUMENTS.search(record)
        line = html.unescape(arguments[1]) if arguments is not None else None
        # Torque repeats records; two that differ are no answer.
        if found.setdefault(job_id, line) != line:
            return None
    return found
