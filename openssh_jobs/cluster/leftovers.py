"""``HostLeftovers``: what submissions and transfers left on a host, listed and removed there.

Only what carries our mark and lies in a private directory (``files/private_directory.py``) is
removed.  Which of it may go is decided in ``tidy.py``.
"""

from __future__ import annotations

import posixpath
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..commands.quoting import OWN_SHELL, join, to_text
from ..commands.scripts import call, functions, path
from ..errors import SchedulerError
from ..files import private_directory
from ..schedulers.fields import chunks, is_number
from ..transfer import parts
from ..transfer.lanes import SCRIPTS
from .job_files import made_mark

if TYPE_CHECKING:
    from ..host import Host
    from .journal import Row

TOKEN_AGE = 90 * 86400.0
"""Seconds from its job's end for which a token that the caller chose is remembered."""
_SCRIPTS = "cluster/tidy"
_TOKENS = "cluster/tokens"
_REMOVAL_TIMEOUT = 600.0
_NICE = b"$(command -v nice)"  # nothing where there is none
_RANDOM = re.compile(r"t[0-9a-f]{16}", re.ASCII)
_CLAIM = re.compile(r"= (open|settled) (new|old)", re.ASCII)
_CLOCKS_DIFFER = 30  # seconds between the clocks of two login nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """What lies on the host of one submission: a directory or a file of this package.

    ``size``: bytes on its disk, ``None`` where not known.  ``token``, ``job_id``: the submission's,
    ``None`` where there is none.  ``reason``: why it goes, or why it stays.
    """

    path: str
    reason: str
    size: int | None = None
    token: str | None = None
    job_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the host says about one submission.

    ``word``: ``found`` (its private directory), ``record`` (of ``direct``), ``empty`` (only the
    directory around it), ``none``, ``away`` (the job's directory), ``refused`` (``place`` says
    why).  ``mark``: the call that made it; empty where it was not read.
    """

    word: str
    place: str = ""
    size: int | None = None
    mark: str = ""
    has_launcher: bool = False
    is_claimed: bool = False

    def reason_to_keep(self) -> str | None:
        """Why it stays, as far as the host says."""
        if self.word == "refused":
            return self.place
        if self.word == "away":
            return "its directory cannot be entered"
        return "a submission with this token may be under way" if self.is_claimed else None


class Leaving(NamedTuple):
    """A submission whose leftovers go."""

    row: Row
    found: Sequence[Found]


def is_random(token: str) -> bool:
    """Whether a token has the form of those that ``submit`` makes itself."""
    return _RANDOM.fullmatch(token) is not None


class HostLeftovers:
    """What lies on one host.  ``host``: its name in errors."""

    def __init__(self, connection: Host, host: str) -> None:
        self._connection = connection
        self._host = host

    # ------------------------------------------------------------------ submissions

    def look(self, rows: Sequence[Row]) -> dict[int, list[Found]]:
        """What lies on the host of each of these submissions, by its place in ``rows``."""
        words: list[str | int] = []
        for number, row in enumerate(rows):
            direct = row.job_id if row.scheduler == "direct" and row.job_id else ""
            words += [number, row.directory, row.token, direct]
        script = private_directory.functions().encode() + call(_SCRIPTS, "oj_look", *words)
        answer = self._connection.internal.call(script, again=True)
        now, *fields = to_text(answer.stdout).split("\0")
        if fields[-2:] != ["done", ""] or len(fields) % 7 != 2 or not is_number(now):
            raise SchedulerError(
                "the listing of what is left is cut off",
                kind="transport",
                host=self._host,
                stderr=to_text(answer.stderr),
            )
        found: dict[int, list[Found]] = {}
        for at in range(0, len(fields) - 2, 7):
            digits, word, place, size, mark, launcher, claims = fields[at : at + 7]
            if is_number(digits):
                one = Found(
                    word=word,
                    place=place,
                    size=int(size) * 1024 if is_number(size) else None,
                    mark=mark,
                    has_launcher=launcher == "launcher",
                    is_claimed=is_claimed(claims, float(now)),
                )
                found.setdefault(int(digits), []).append(one)
        return found

    def remove(self, leaving: Sequence[Leaving]) -> dict[int, str]:
        """Remove private directories; why some stay, by their places in ``leaving``."""
        command = b"exec %b " % _NICE + join(
            (b"/bin/sh", b"-c", OWN_SHELL + _removal_script(leaving))
        )
        done = self._connection.internal.run(command, text=False, timeout=_REMOVAL_TIMEOUT)
        return _failures(to_text(done.stdout), leaving)

    def begin_removal(self, leaving: Sequence[Leaving], cleanup: str | None) -> None:
        """Begin to remove private directories, then run ``cleanup``; awaits neither."""
        script = OWN_SHELL + _removal_script(leaving) + b"\n"
        script += (cleanup or "").encode("utf-8", "surrogateescape")
        command = b"%b " % _NICE + join((b"/bin/sh", b"-c", script))
        self._connection.internal.call(b"%b </dev/null >/dev/null 2>&1 &" % command)

    def keep_tokens(self, rows: Iterable[Row]) -> str | None:
        """Write a line for each token that its caller chose; returns why that failed."""
        lines = _token_lines(rows)
        if not lines:
            return None
        script = private_directory.functions().encode()
        script += call(_TOKENS, "oj_keep_tokens", int(time.time() - TOKEN_AGE), *lines)
        answer = self._connection.internal.call(script, again=True)
        if answer.status == 0:
            return None
        why = " ".join(to_text(answer.stderr).split())
        return f"its token was not written to ~/.openssh_jobs/.tokens: {why}"

    def look_unsent(self, row: Row) -> tuple[list[str], str | None]:
        """The directories that a call made for a submission that it never sent.

        The second value says why they stay: others may have written there since.
        """
        call_id = row.call or ""
        words = (row.directory, row.token, call_id, made_mark(call_id))
        script = private_directory.functions().encode() + call(_SCRIPTS, "oj_look_unsent", *words)
        answer = self._connection.internal.call(script, again=True)
        places = to_text(answer.stdout).split("\0")[:-1]
        if answer.status == 0:
            return places, None
        return places, " ".join(to_text(answer.stderr).split()) or "the host gave no answer"

    # ------------------------------------------------------------------ other leftovers

    def dead_parts(self, rows: Sequence[Row], dry_run: bool) -> tuple[Leftover, ...]:
        """Remove the parts of transfers that ended, in the directories of these jobs."""
        directories = dict.fromkeys(
            place for row in rows for place in (row.directory, posixpath.dirname(row.directory))
        )
        found: list[Leftover] = []
        for batch in chunks(directories):
            script = functions(SCRIPTS, "oj_list_parts")
            script += call(_SCRIPTS, "oj_look_for_parts", *parts.list_words(), *map(path, batch))
            answer = self._connection.internal.call(script, again=True)
            for piece in answer.stdout.split(b"i/")[1:]:
                name, _, listed = piece.partition(b"\0")
                parent = b"/" + name
                names = parts.dead_names(listed)
                if names and to_text(parent) in directories:
                    if not dry_run:
                        self._connection.internal.call(parts.sweep_script(parent, names))
                    reason = "a part of a transfer that has ended"
                    found += [
                        Leftover(path=posixpath.join(to_text(parent), to_text(part)), reason=reason)
                        for part in names
                    ]
        return tuple(found)

    def strangers(self, rows: Iterable[Row]) -> tuple[Leftover, ...]:
        """The submissions in ``~/.openssh_jobs`` that the journal has no row of."""
        script = private_directory.functions().encode() + functions(_TOKENS, "oj_home")
        script += call(_SCRIPTS, "oj_look_around")
        answer = self._connection.internal.call(script, again=True)
        ours = {row.token for row in rows}
        reason = "the journal of this machine does not know it"
        return tuple(
            Leftover(path=place, token=posixpath.basename(place), reason=reason)
            for place in to_text(answer.stdout).split("\0")[:-1]
            if posixpath.basename(place) not in ours
        )


# ---------------------------------------------------------------------- what is sent and read


def _removal_script(leaving: Sequence[Leaving]) -> bytes:
    """Shell text that removes the private directories of submissions, and says which are gone."""
    words: list[str | int] = []
    empty: list[str] = []
    for number, (row, found) in enumerate(leaving):
        mark = next((one.mark for one in found if one.word == "found"), None)
        if mark is not None:
            words += [number, row.directory, row.token, mark]
        elif any(one.word == "empty" for one in found):
            empty.append(row.directory)
    return b"\n".join(
        (
            private_directory.functions().encode()
            + functions("cluster/job_files", "oj_remove_private"),
            call(_SCRIPTS, "oj_remove_all", *words),
            call(_SCRIPTS, "oj_remove_empty", *empty),
        )
    )


def _failures(answer: str, leaving: Sequence[Leaving]) -> dict[int, str]:
    """Why directories were not removed, by number; one that the answer leaves out was not."""
    failed = {
        number: "the removal gave no answer"
        for number, (_, found) in enumerate(leaving)
        if any(one.word == "found" for one in found)
    }
    for line in answer.split("\0")[:-1]:
        word, _, rest = line.partition(" ")
        status, _, why = rest.partition(" ")
        number = int(word) if is_number(word) else -1
        if number in failed:
            del failed[number]
            if status != "0":
                failed[number] = why.strip() or "some of it could not be removed"
    return failed


def _token_lines(rows: Iterable[Row]) -> list[str]:
    """The lines that stay on the host of those submissions whose tokens their callers chose."""
    lines = []
    for row in rows:
        if not is_random(row.token):
            code = "-" if row.exit_code is None else row.exit_code
            facts = (row.token, row.job_id, row.digest or "-", int(row.changed), row.state, code)
            lines.append(" ".join((*map(str, facts), ".")))
    return lines


def is_claimed(claims: str, now: float) -> bool:
    """Whether an attempt without a result may still submit; ``now`` by the host's clock.

    A claim has a line with its deadline, and a last line with a dot; without them it counts for a
    day.
    """
    found: list[tuple[str, str, list[str]]] = []
    for line in claims.splitlines():
        head = _CLAIM.fullmatch(line)
        if head is not None:
            found.append((head[1], head[2], []))
        elif found and line:
            found[-1][2].append(line)
    # Before it is linked, a claim has the text of an attempt and another name.
    settled = [lines for end, _, lines in found if end == "settled"]
    for end, age, lines in found:
        if end == "settled" or lines in settled:
            continue
        deadline = next((line[9:] for line in lines if line.startswith("deadline ")), "")
        if lines[-1:] == ["."] and is_number(deadline):
            if now < int(deadline) + _CLOCKS_DIFFER:
                return True
        elif age == "new":
            return True
    return False
