"""Attempts of a submission: the claim, the submit command under a deadline, and what is left of it.

In a submission's private directory:

============ ====================================================================================
attempt-N    the claim of attempt N, a link to a complete file: whose it is (a nonce), node, boot
             and pid namespace, process group, pid, when it began, its deadline, and the digest of
             the submission.  Where links cannot be made: the file ``claim`` in the directory
             ``attempt-N.d``
result-N     how its submit command ended: status, stdout, stderr, and a point as its end
owner        the id of the job that does the work, linked by the launcher of a job that starts
.oj-submit   the submit command of attempt 1, where it is one of many
claim.NONCE  the same file before it is an attempt, and afterwards, so that the text which makes it
             runs once; ``.err``, ``.result``: what becomes its result
============ ====================================================================================

Only who has claimed an attempt runs the submit command, before the deadline, and nothing of it
lives longer than that.  So an attempt that is over without a result will not submit any more.
"""

from __future__ import annotations

import json
import posixpath
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ..commands import scripts
from ..commands.quoting import to_bytes, to_text
from ..errors import (
    CommandFailed,
    CommandTimeout,
    ConnectError,
    ConnectionLost,
    InputError,
    SchedulerError,
    SessionLimit,
    SubmitRejected,
    SubmitUnknown,
)
from ..files import private_directory
from ..jobs import JobId
from ..schedulers.answer import Answer
from ..schedulers.fields import is_number
from ..schedulers.launcher.any_shell import ENVIRONMENT as LAUNCHER_ENVIRONMENT
from ..schedulers.request import SubmitRequest
from .job_files import made_mark

if TYPE_CHECKING:
    from .journal import Row
    from .scheduler_client import SchedulerClient

ENVIRONMENT = ".oj-env"
"""The file with the variables of ``env=`` in the private directory, until a job has them."""
SUBMIT_FILE = ".oj-submit"
"""The file with the submit command of the first attempt, where several jobs begin together."""
SENT = ".sent"
"""Behind the mark in an uploaded directory in which several jobs begin: it stays."""
LIMIT = 110.0
"""Seconds from the claim of an attempt to its deadline."""
MOST_COMMAND = 96 * 1024
"""Bytes of one command that submits many: it is one argument, of 128 KiB at most on Linux."""
SUBMIT_TIMEOUT = 120.0
"""Seconds to wait for the answer: more than ``LIMIT``, so that the host says how it ended."""
NO_ANSWER = (ConnectError, ConnectionLost, CommandTimeout, CommandFailed, SessionLimit)
_SCRIPTS = "cluster/attempt"
_FUNCTIONS = ("oj_begin_attempts", "oj_begin_many", "oj_in", "oj_next", "oj_end_many")
# Clocks of login nodes differ; on the claimer's own there is only the time to end its processes.
_CLOCKS_DIFFER, _ENDING = 30.0, 3.0


class Taken(Exception):
    """Another process has claimed this attempt."""


# --------------------------------------------------------------------------- what is sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What an attempt needs beside the files on the host; the journal keeps it as text.

    ``environment``: the names of files with variables in the private directory.  ``marked``: the
    job's directory has the mark of the call that made it.
    """

    request: SubmitRequest
    environment: tuple[str, ...] = ()
    marked: bool = False

    def text(self) -> str:
        """The order as text."""
        facts = {option.name: getattr(self.request, option.name) for option in fields(self.request)}
        order = {"request": facts, "environment": self.environment, "marked": self.marked}
        return json.dumps(order, default=_seconds)

    @classmethod
    def of(cls, text: str) -> Order:
        """The order that ``text`` gave.  Raises ``ValueError``, ``InputError``."""
        try:
            order = json.loads(text)
            known = {option.name for option in fields(SubmitRequest)}
            facts = {name: _value(value) for name, value in order["request"].items()}
            if facts.keys() - known:
                raise ValueError("written by a later version")
            return cls(
                request=SubmitRequest(**facts),
                environment=tuple(order["environment"]),
                marked=order["marked"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no order: {error}") from error


def _seconds(value: object) -> dict[str, float]:
    if not isinstance(value, timedelta):
        raise TypeError(f"{value!r} cannot be kept")
    return {"seconds": value.total_seconds()}


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return timedelta(**value) if isinstance(value, dict) else value


class Attempts:
    """Attempt ``number`` of several submissions, in one command; ``stored``: see ``oj_attempt``.

    ``kept``: uploaded directories (with the call that made each) in which several jobs begin.
    ``asks``: the same command asks for all facts about the new jobs, where the scheduler can be
    asked about several at once; ``details`` is its answer, ``None`` where there is none.
    """

    def __init__(
        self,
        client: SchedulerClient,
        orders: Sequence[tuple[Row, Order]],
        number: int = 1,
        *,
        stored: bool = False,
        kept: Sequence[tuple[str, str]] = (),
        asks: bool = False,
    ) -> None:
        self._client = client
        self._rows = [row for row, _ in orders]
        self._said = bytearray(), bytearray()
        self.details: Answer | None = None
        self._mark = f"OJB+{secrets.token_hex(8)}"
        nonces = [secrets.token_hex(8) for _ in orders]
        self._unstarted = [
            tuple(f"openssh_jobs: {nonce}: {what}" for what in ("not started", "taken"))
            for nonce in nonces
        ]
        scheduler = client.scheduler()
        lines, group = list[bytes](), b""
        for at, (row, order) in enumerate(orders):
            base, name = posixpath.split(row.place or "")
            mark = made_mark(row.call or "") if order.marked else ""
            there = scripts.words(base, row.directory, mark)
            if there != group:
                lines.append(b"oj_in %b\n" % there)
                group = there
            environment = ENVIRONMENT if ENVIRONMENT in order.environment else ""
            command = b"" if stored else to_bytes(scheduler.submit_script(order.request))
            one = scripts.words(at, name, nonces[at], environment, command, row.digest)
            lines.append(b"oj_next %b\n" % one)
        details = scheduler.details_text() if asks else None
        limit = round(LIMIT)
        text = b"".join(scripts.functions(_SCRIPTS, name) for name in _FUNCTIONS)
        text += b'oj_begin_attempts %d "$1"\n' % limit
        text += b"oj_begin_many %b\n" % scripts.words(self._mark, number, limit // 2)
        text += b"".join(lines)
        text += b"oj_end_many %b\n" % scripts.words(len(orders), to_bytes(details or ""))
        kept_lines = (
            b"oj_keep %b\n" % scripts.words(place, made_mark(call)) for place, call in kept
        )
        self._script = scripts.script(
            "cluster/submit",
            mark=self._mark,
            limit=limit,
            where=scripts.Shell(scripts.functions(_SCRIPTS, "oj_where") + b"oj_where"),
            kept=scripts.Shell(b"".join(kept_lines)),
            attempts=text,
        )

    @property
    def size(self) -> int:
        """Bytes of its command."""
        return len(self._script)

    def run(self) -> list[str | Exception | None]:
        """Claim the attempts and run their submit commands; what ``outcomes`` says.

        Raises the errors of connections whose ``sent`` is ``no``: then nothing was run.
        """
        try:
            done = self._client.run_sh(self._script, SUBMIT_TIMEOUT, once=True, said=self._said)
        except NO_ANSWER as error:
            if error.sent == "no":
                raise
            return self.outcomes(error.message)
        self._said = bytearray(to_bytes(done.stdout)), bytearray(to_bytes(done.stderr))
        return self.outcomes(f"no answer (exit status {done.returncode})")

    def outcomes(self, why: str) -> list[str | Exception | None]:
        """What is known of each: the job's id, ``SubmitRejected``, ``Taken`` or ``SubmitUnknown``.

        ``None``: it was certainly not begun.  ``why``: what happened where no answer came.
        """
        out, err = (_sections(to_text(bytes(said)), self._mark) for said in self._said)
        text = to_text(bytes(self._said[0]))
        is_over = f"{self._mark} over\n" in text
        if len(self._rows) in out:
            self.details = Answer(out[len(self._rows)][1], "", 0)
        found: list[str | Exception | None] = []
        for at, row in enumerate(self._rows):
            if at not in out:
                was_begun = not is_over or f"{self._mark} begin {at}\n" in text
                found.append(unknown(row, why) if was_begun else None)
                continue
            code, text = out[at]
            answer = Answer(text, err[at][1] if at in err else "", code)
            try:
                found.append(self._job_of(at, answer))
            except (SchedulerError, Taken) as error:
                found.append(error)
        return found

    def _job_of(self, at: int, answer: Answer) -> str:
        row, (not_started, taken) = self._rows[at], self._unstarted[at]
        if answer.returncode == 125 and taken in answer.stdout:
            raise Taken
        if answer.returncode == 125 and not_started in answer.stdout:
            raise SubmitRejected(
                answer.stderr.strip() or f"{row.directory} could not be used",
                kind="invalid_request",
                stdout=answer.stdout,
                stderr=answer.stderr,
                returncode=answer.returncode,
            )
        return job_of(self._client, row, answer)


def _sections(text: str, mark: str) -> dict[int, tuple[int, str]]:
    """Status and output of each attempt in one stream, by its number."""
    found: dict[int, tuple[int, str]] = {}
    # No expression: see ``scheduler_client.split_answers``.
    *pieces, last = f"\n{text}".split(f"\n{mark} begin ")
    for piece in (*(piece + "\n" for piece in pieces), last):
        number, _, rest = piece.partition("\n")
        said, _, after = rest.partition(f"\n{mark} end {number} ")
        code, newline, _ = after.partition("\n")
        if newline and is_number(number) and is_number(code) and len(code) <= 3:
            found[int(number)] = int(code), said
    return found


def job_of(client: SchedulerClient, row: Row, answer: Answer) -> str:
    """The job's id in the answer of a submit command.

    Raises ``SubmitRejected``, and ``SubmitUnknown`` where the answer is neither.
    """
    scheduler = client.scheduler()
    try:
        return scheduler.parse_submit(answer)
    except SubmitRejected as error:
        raise type(error)(
            f"{scheduler.name} refused the job: {error.message}",
            kind=error.kind,
            stdout=error.stdout,
            stderr=error.stderr,
            returncode=error.returncode,
            host=client.host,
            advice=error.advice,
        ) from None
    except SchedulerError as error:
        raise unknown(row, error.message, error) from error


def unknown(row: Row, why: str, error: SchedulerError | None = None) -> SubmitUnknown:
    """The error for a submission whose job may exist."""
    return SubmitUnknown(
        f"it is not known whether the job was submitted: {why}",
        token=row.token,
        kind=error.kind if error is not None else "transport",
        stdout=error.stdout if error is not None else "",
        stderr=error.stderr if error is not None else "",
        returncode=error.returncode if error is not None else None,
        host=row.host,
        advice="The same call later, or recover(), finds the job or submits it; its script lies in "
        f"{row.place or row.directory}.",
    )


# --------------------------------------------------------------------------- what was left


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What the host holds of a submission.

    ``where``: ``found``, ``absent`` or ``refused`` (``why``).  ``number``: of the last attempt, 0
    without any.  ``began`` and ``deadline`` by the host's clock, ``None`` for a claim without
    content.  ``state``: ``gone``, ``alive``, ``elsewhere``, ``young`` or empty.  ``answer``: of its
    submit command.  ``complete``: the files for another attempt are there.  ``launcher``: a job
    that starts writes ``owner``.
    """

    where: str
    why: str = ""
    now: float = 0.0
    owner: str | None = None
    launcher: bool = False
    number: int = 0
    began: float | None = None
    deadline: float | None = None
    state: str = ""
    answer: Answer | None = None
    complete: bool = False

    def rest(self) -> float:
        """Seconds for which the last attempt may still submit, as far as known; 0: it is over."""
        if self.number == 0 or self.answer is not None or self.state in ("gone", ""):
            return 0.0
        if self.state == "young" or self.deadline is None:
            return LIMIT
        margin = _ENDING if self.state == "alive" else _CLOCKS_DIFFER
        rest = self.deadline + margin - self.now
        # Past its deadline an own process that is stopped may go on all the same.
        return max(rest, 1.0) if self.state == "alive" else max(rest, 0.0)


def look_script(rows: Sequence[tuple[Row, SubmitRequest, Order | None]], mark: str) -> bytes:
    """Shell text that prints what the host holds of these submissions, ``mark`` behind each."""
    text = private_directory.functions().encode() + scripts.functions(_SCRIPTS, "oj_looks")
    young = round((LIMIT + _CLOCKS_DIFFER) / 60 + 0.5)
    for row, request, order in rows:
        name = scripts.path(posixpath.basename(request.script))
        files = " ".join(order.environment) if order is not None else ""
        words = (mark, row.directory, row.token, name, files, young)
        text += scripts.fill(b"oj_looks @WORDS@\n", {"words": words})
    return text


def read_traces(answer: bytes, mark: str) -> list[Trace]:
    """The traces in the answer to ``look_script``, as far as it goes."""
    found: list[Trace] = []
    at: list[str] = []
    for cell in to_text(answer).split("\0")[:-1]:
        if cell != mark:
            at.append(cell)
            continue
        found.append(_trace(at))
        at = []
    return found


def _trace(cells: list[str]) -> Trace:
    if len(cells) != 12:
        known = cells[:1] in (["absent"], ["refused"]) and len(cells) == 2
        where, why = cells if known else ("refused", "what lies there makes no sense")
        return Trace(where=where, why=why)
    where, why, now, owner, launcher, number, claim, state, code, out, err, complete = cells
    facts = dict(line.partition(" ")[::2] for line in claim.split("\n"))
    # The file may be a copy that a full disk has cut: only up to its last line it is a claim.
    is_whole = claim.rstrip("\n").endswith("\n.")
    return Trace(
        where=where,
        why=why,
        now=_number(now) or 0.0,
        owner=_job_id(owner),
        launcher=launcher == "yes",
        number=int(number) if is_number(number) else 0,
        began=_number(facts.get("began", "")) if is_whole else None,
        deadline=_number(facts.get("deadline", "")) if is_whole else None,
        state=state,
        answer=_answer(code, out, err),
        complete=complete == "complete",
    )


def _answer(code: str, out: str, err: str) -> Answer | None:
    # A point is its end: what is cut off is no result.
    if not is_number(code) or len(code) > 3 or not err.endswith("."):
        return None
    return Answer(out, err[:-1], int(code))


def _number(text: str) -> float | None:
    return float(text) if is_number(text) and len(text) < 13 else None


def _job_id(text: str) -> str | None:
    try:
        return str(JobId.parse(text.strip()))
    except InputError:
        return None  # not written yet, or by hand


def environment_files(*, env: bool, brought: bool) -> tuple[str, ...]:
    """Where the variables of ``env=`` lie: ``brought`` by the launcher, or for the command."""
    return ((LAUNCHER_ENVIRONMENT if brought else ENVIRONMENT),) if env else ()
