"""Jobs that another machine submitted, found on the host and written to the journal of this one.

What a host shows here decides which jobs this machine takes for its own: only private directories
are read (``files/private_directory.py``), and what the scheduler says about an id counts more than
what lies in them.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import logs
from ..commands.quoting import OWN_SHELL, to_bytes, to_text
from ..commands.scripts import call, path
from ..errors import InputError, InvalidAnswer, SchedulerError, TransferError
from ..files import host_names, private_directory
from ..jobs import JobId, JobStatus
from ..schedulers.answer import Answer
from ..schedulers.fields import chunks, is_number
from .defaults import below_base
from .journal import SENDING, Row
from .specification import check_token

if TYPE_CHECKING:
    from .host_jobs import HostJobs

log = logs.logger("openssh_jobs.cluster")

DEPTH = 8
"""How deep below the directory private directories are looked for."""
BY_ITS_FILES = "taken over by its own files: the scheduler does not show whose it is"
_SCRIPTS = "cluster/takeover"
_MOST = 262_144  # bytes of paths
_SEARCH_TIMEOUT = 600.0
_DIGEST = re.compile("[0-9a-f]{64}", re.ASCII)
_DETAILS = 20  # jobs in one command
_NOT_SHOWN = ("not_found", "finished_see_history", "unsupported")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """What the host holds of one submission.  ``ids``: the job's id by its files.

    ``digest``: of the submission; empty where an older version submitted it.
    """

    token: str
    directory: str
    place: str
    name: str | None
    began: float | None
    digest: str
    ids: frozenset[str]


def take_over(jobs: HostJobs, directory: str) -> list[Row]:
    """The submissions below a directory of the host, now rows of the journal; none is overwritten.

    Those of which no job is known are logged, and so is everything that cannot be trusted.  Raises
    ``OSError`` where the directory cannot be entered, ``InvalidAnswer``, ``UnsafeName``,
    ``SchedulerError`` and the errors of a connection.
    """
    top = below_base(jobs.connection.host, directory)
    trails, user = _Survey(jobs, jobs.connection.internal.absolute(top)).trails()
    rows = []
    said = _said_by_scheduler(jobs, trails)
    for trail in trails:
        job_id = _job_id(jobs, trail, said, user)
        if job_id is None:
            continue
        status = said.get(job_id)
        new = Row(
            host=jobs.host,
            token=trail.token,
            digest=trail.digest,
            scheduler=jobs.client.scheduler().name,
            directory=trail.directory,
            name=(status.name if status is not None else None) or trail.name,
            job_id=job_id,
            state="pending",
            reason=None if status is not None else BY_ITS_FILES,
            submitted=trail.began,
            stage=SENDING,
            place=trail.place,
        )
        other = jobs.journal.by_job(jobs.host, job_id)
        if other is not None and other.is_followed:
            jobs.journal.forget(jobs.host, other.token)
        elif other is not None and other.token != trail.token:
            log.warning("%s: job %s is that of %s already", jobs.host, job_id, other.token)
            continue
        row = jobs.journal.open_row(new)
        rows.append(row)
    return rows


class _Survey:
    """What lies below one directory."""

    def __init__(self, jobs: HostJobs, top: str) -> None:
        self._jobs = jobs
        self._connection = jobs.connection
        self._host = jobs.host
        self._top = top

    def trails(self) -> tuple[list[Trail], str]:
        """The submissions, and the user's name on the host."""
        top, places = self._places()
        direct = self._direct_ids()
        found: dict[str, Trail] = {}
        user = ""
        for batch in list(chunks(places)) or [[]]:
            words = [path(place) for place in (top, *batch)]
            script = private_directory.functions().encode() + call(_SCRIPTS, "oj_survey", *words)
            answer = self._connection.internal.call(script, again=True)
            fields = to_text(answer.stdout).split("\0")
            if len(fields) % 10 != 3 or fields[-3] != "user" or fields[-1]:
                raise InvalidAnswer("the listing of submissions is cut off", host=self._host)
            user = fields[-2]
            for at in range(0, len(fields) - 3, 10):
                trail = self._trail(fields[at : at + 10], direct)
                if trail is not None:
                    found.setdefault(trail.token, trail)
        return list(found.values()), user

    def _places(self) -> tuple[str, list[str]]:
        """The directory without links, and those of jobs below it, by the names the host gives."""
        words = (path(self._top), DEPTH, _MOST)
        script = call(_SCRIPTS, "oj_find_places", *words)
        run = self._connection.internal.run
        done = run(OWN_SHELL + script, text=False, timeout=_SEARCH_TIMEOUT)
        if done.returncode == 1 and not done.stdout:
            self._connection.stat(self._top)  # raises what is wrong with it
            raise PermissionError(f"{self._top} cannot be entered")
        top, *found = done.stdout.split(b"\0")
        if found[-2:] != [b"end", b""]:
            raise InvalidAnswer(
                f"{self._top} holds too many submissions for one search",
                host=self._host,
                advice="Name a directory further down.",
            )
        call_name = f"the search in {self._top}"
        places = []
        if b"missed" in found[:-2]:
            log.warning("%s: some directories below %s cannot be read", self._host, self._top)
        for name in found[:-2]:
            if name == b"missed":
                continue
            host_names.absolute(name, host=self._host, call=call_name)
            parent = name.rpartition(b"/")[0] or b"/"
            if not (parent + b"/").startswith(top.rstrip(b"/") + b"/"):
                raise host_names.refused(name, "lies elsewhere", host=self._host, call=call_name)
            places.append(to_text(parent))
        return to_text(host_names.absolute(top, host=self._host, call=call_name)), places

    def _direct_ids(self) -> dict[str, str]:
        if self._jobs.client.scheduler().name != "direct":
            return {}
        script = private_directory.functions().encode() + call(_SCRIPTS, "oj_survey_direct")
        answer = self._connection.internal.call(script, again=True)
        lines = (line.partition(" ") for line in to_text(answer.stdout).splitlines())
        return {token: job_id for job_id, _, token in lines if token and is_number(job_id)}

    def _trail(self, fields: Sequence[str], direct: Mapping[str, str]) -> Trail | None:
        word, place, token, directory, _, began, digest, owner, result, name = fields
        if word != "found":
            log.warning("%s: %s is not taken over: %s", self._host, place, directory)
            return None
        try:
            check_token(token)
            for named in (place, directory):
                host_names.absolute(to_bytes(named), host=self._host, call="a private directory")
        except (InputError, TransferError) as error:
            log.warning("%s: %s is not taken over: %s", self._host, place, error.message)
            return None
        ids = {direct.get(token), _parsed(owner), self._accepted(result)} - {None}
        return Trail(
            token=token,
            directory=directory,
            place=place,
            name=name if name and host_names.fault(to_bytes(name)) is None else None,
            began=float(began) if is_number(began) else None,
            digest=digest if _DIGEST.fullmatch(digest) is not None else "",
            ids=frozenset(job_id for job_id in ids if job_id is not None),
        )

    def _accepted(self, result: str) -> str | None:
        """The id in the answer of a submit command, that of status, output and errors."""
        code, _, said = result.partition("\1")
        out, _, err = said.partition("\1")
        if not is_number(code):
            return None
        try:
            return self._jobs.client.scheduler().parse_submit(Answer(out, err, int(code)))
        except SchedulerError:
            return None


def _parsed(text: str) -> str | None:
    try:
        return str(JobId.parse(text.strip()))
    except InputError:
        return None


def _said_by_scheduler(jobs: HostJobs, trails: Sequence[Trail]) -> dict[str, JobStatus]:
    """What the scheduler says about each id that the files name, as far as it knows them.

    Raises ``SchedulerError`` where it does not answer: then nothing would be checked.
    """
    scheduler = jobs.client.scheduler()
    ids = sorted({job_id for trail in trails for job_id in trail.ids})
    scripts = {job_id: scheduler.detail_script(job_id) for job_id in ids}
    known = [(job_id, script) for job_id, script in scripts.items() if script is not None]
    said = {}
    for at in range(0, len(known), _DETAILS):
        batch = known[at : at + _DETAILS]
        mark = f"OJD+{secrets.token_hex(8)}"
        text = "".join(f"(\n{script}\n)\nprintf '%s\\n' {mark}\n" for _, script in batch)
        answer = jobs.client.ask(text)
        pieces = answer.stdout.split(f"{mark}\n")
        if len(pieces) != len(batch) + 1:
            raise InvalidAnswer("the details of jobs are cut off", host=jobs.host)
        for (job_id, _), piece in zip(batch, pieces, strict=False):
            try:
                said[job_id] = scheduler.parse_detail(Answer(piece, answer.stderr, 0))
            except SchedulerError as error:
                if error.kind not in _NOT_SHOWN:
                    raise jobs.client.placed(error) from None
    return said


def _job_id(jobs: HostJobs, trail: Trail, said: Mapping[str, JobStatus], user: str) -> str | None:
    """The id of a submission's job; ``None``, logged, where that is not certain."""
    good = []
    for job_id in trail.ids:
        why = _contradiction(said.get(job_id), trail, user)
        if why is None:
            good.append(job_id)
        else:
            log.warning("%s: job %s is not that of %s: %s", jobs.host, job_id, trail.token, why)
    if len(good) == 1:
        return good[0]
    if not trail.ids:
        log.warning("%s: no job of %s is known", jobs.host, trail.place)
    elif good:
        log.warning("%s: %s names several jobs: %s", jobs.host, trail.place, " ".join(sorted(good)))
    return None


def _contradiction(status: JobStatus | None, trail: Trail, user: str) -> str | None:
    """Why a job cannot be that of a submission, by what the scheduler says about it."""
    if status is None:
        return None
    if status.user is not None and status.user != user:
        return f"it belongs to {status.user}"
    place = f"/{private_directory.PRIVATE}/{trail.token}/"
    if status.command is not None and "/" in status.command and place not in status.command:
        return f"it runs {status.command}"
    return None
