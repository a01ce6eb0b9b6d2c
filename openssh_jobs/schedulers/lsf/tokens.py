"""LSF's jobs by a description that is their token (``bsub -Jd``).  Pure.

bsub reads the script on stdin, so no path shows.  ``bjobs -a`` has ended jobs for CLEAN_PERIOD.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence

from ..answer import Answer
from ..base import Scheduler
from ..fields import shell_path
from ..framing import framed, read_frame, section, shell_text
from ..request import SubmitRequest
from ..tokens import TokenAnswer

_SETTLING = 15.0
_PREFIX = "openssh_jobs:"
_ROW = re.compile(r"^([0-9]{1,18})(?:\[[0-9]+\])?\|(.*)$", re.MULTILINE)
_NONE = re.compile("No (unfinished )?job found")
_KEPT = re.compile(r"^\s*CLEAN_PERIOD *= *([0-9]{1,9})\b", re.MULTILINE)


def _note(request: SubmitRequest) -> str:
    """A file beside the script: a job of it was submitted without a description."""
    return shell_path(posixpath.join(posixpath.dirname(request.script), ".undescribed"))


def describing(request: SubmitRequest, line: str) -> str:
    """The line with bsub in it, where ``$oj_description`` stands for the option."""
    if request.token is None:
        return f"oj_description=\n{line}"
    return (
        f"{shell_text('lsf/tokens')}oj_description=\nif oj_may_describe "
        f"{shell_path(request.script)}; then oj_description='-Jd {_PREFIX}{request.token}'\n"
        f"else : >{_note(request)} || exit 1; fi\n{line}"
    )


def token_script(requests: Sequence[SubmitRequest]) -> str:
    """The descriptions of this user's jobs; whether those that are looked for have one."""
    scripts = " && ".join(
        f"oj_may_describe {shell_path(one.script)} && [ ! -e {_note(one)} ]" for one in requests
    )
    return framed(
        shell_text("lsf/tokens"),
        section("describe", scripts or ":"),
        section("bparams", "bparams -a </dev/null 2>/dev/null"),
        section("bjobs", "oj_tokens"),
    )


def parse_tokens(
    scheduler: Scheduler, answer: Answer, requests: Sequence[SubmitRequest]
) -> TokenAnswer:
    """The answer to ``token_script``."""
    parts = {part.name: part for part in read_frame(answer.stdout) or ()}
    if parts.keys() != {"describe", "bparams", "bjobs"}:
        raise scheduler.error(answer, kind="transport")
    listing = parts["bjobs"]
    if listing.returncode != 0:
        raise scheduler.error(Answer("", listing.text, listing.returncode))
    rows = _ROW.findall(listing.text)
    # bjobs says so where there is no job: silence is no answer.
    is_empty = _NONE.fullmatch(listing.text.strip())
    if not is_empty and not rows:
        raise scheduler.error(listing.answer())
    if not is_empty and len(rows) != len(listing.text.split("\n")) - listing.text.split("\n").count(
        ""
    ):
        raise scheduler.error(listing.answer(), kind="parse_error")
    jobs: dict[str, set[str]] = {}
    for job_id, described in rows:
        if described.startswith(_PREFIX):
            jobs.setdefault(described.removeprefix(_PREFIX).strip(), set()).add(job_id)
    wanted = {request.token for request in requests}
    kept = _KEPT.search(parts["bparams"].text)
    if is_empty and is_empty[1]:
        kept = None
    has_own = any(word.startswith("-Jd") for one in requests for word in one.options)
    return TokenAnswer(
        jobs={token: frozenset(ids) for token, ids in jobs.items() if token in wanted},
        settling=_SETTLING,
        remembers=float(kept[1]) if kept is not None else 0.0,
        is_whole=parts["describe"].returncode == 0 and not has_own,
    )
