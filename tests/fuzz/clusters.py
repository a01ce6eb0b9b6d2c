"""A host that lies to a ``Cluster``: submitting, asking and reading, without a scheduler there.

The host is that of ``hosts``.  What a call needs is made first, while the host says the truth.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from openssh_jobs import Cluster, Connection, Job
from openssh_jobs.commands import limits
from tests.fuzz import hosts

_SCRIPT = "#!/bin/sh\necho out\necho err >&2\nexit 3\n"
_numbers = itertools.count(1)


def _digits(digit: bytes) -> hosts.Lie:
    def change(random: Random, data: bytes) -> bytes:
        return hosts._bodies(data, lambda body: re.sub(rb"[0-9]+", digit, body))

    return change


LIES: dict[str, hosts.Lie] = {
    **hosts.LIES,
    "thousands of digits": _digits(b"9" * 5000),
    "other digits": _digits("\u00b2".encode()),
    "newlines": lambda random, data: hosts._bodies(data, lambda body: b"\n" * 50),
    "controls": lambda random, data: hosts._bodies(data, lambda body: b"\x1b[2J\x9b" + body),
}


class _Case:
    """A cluster on that host, a directory there, and one here."""

    def __init__(self, top: Path) -> None:
        self.there, self.here = str(top / "there" / "tree"), top / "here"
        self.lie = hosts.LIES["truth"]
        connection = Connection("liar", start_timeout=3)
        connection._sessions.transport = hosts._LyingTransport(
            top / "there", lambda random, data: self.lie(random, data), Random(1)
        )
        journal = str(top / "here" / f"journal-{next(_numbers)}")
        self.cluster = Cluster(connection, scheduler="direct", journal=journal, poll_interval=0.2)

    def submit(self, **options: Any) -> Job:
        made: Job = self.cluster.submit(script_text=_SCRIPT, directory=self.there, **options)
        return made

    @functools.cached_property
    def job(self) -> Job:
        return self.submit(token="token")

    def ended(self) -> Job:
        self.job.wait(20)
        return self.job


def _wait(job: Job) -> None:
    with contextlib.suppress(TimeoutError):  # what the host says may be that it still runs
        job.wait(8)


CALLS: dict[str, tuple[Callable[[_Case], Any], Callable[[_Case], Any]]] = {
    "submit": (lambda c: None, lambda c: c.submit()),
    "submit with files": (lambda c: None, lambda c: c.submit(upload=str(c.here / "tree"))),
    "submit many": (
        lambda c: None,
        lambda c: c.cluster.submit_many(
            [{"script_text": _SCRIPT, "directory": c.there} for _ in range(2)]
        ),
    ),
    "submit again": (lambda c: c.job, lambda c: c.submit(token="token")),
    "status": (_Case.ended, lambda c: c.job.status()),
    "wait": (lambda c: c.job, lambda c: _wait(c.job)),
    "jobs": (_Case.ended, lambda c: c.cluster.jobs()),
    "tail": (_Case.ended, lambda c: list(c.job.tail())),
    "explain": (lambda c: c.job, lambda c: c.job.explain()),
    "cancel": (lambda c: c.job, lambda c: c.cluster.cancel([c.job.id, "999999"])),
    "fetch": (_Case.ended, lambda c: c.job.fetch(c.here / "fetched")),
    "tidy": (_Case.ended, lambda c: c.cluster.tidy(0)),
    "tidy one": (_Case.ended, lambda c: c.job.tidy()),
    "recover": (_Case.ended, lambda c: c.cluster.recover(c.there)),
    "nodes": (lambda c: None, lambda c: c.cluster.nodes()),
}


def play(call: str, lie: str, seed: int, directory: Path) -> str | None:
    """One call against one lie: what is wrong with what came of it, or ``None``."""
    hosts.prepare(directory)
    first, then = CALLS[call]
    case = _Case(directory)
    try:
        first(case)
        random = Random(f"{call} {lie} {seed}")
        case.lie = lambda _, data: LIES[lie](random, data)
        return hosts.judged(lambda: then(case), lie)
    finally:
        case.lie = hosts.LIES["truth"]
        with contextlib.suppress(Exception):
            case.cluster.close()


def main(seconds: int, folder: Path) -> int:
    """Play until the time is over; the count of findings."""
    longest = 2 * limits.CALL
    return hosts.main(seconds, folder, "clusters", CALLS, LIES, play, longest)
