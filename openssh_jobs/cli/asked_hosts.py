"""The hosts that ``list`` asks: side by side; the person answers one question after the other."""

from __future__ import annotations

import argparse
import copy
import queue
import threading
from typing import TYPE_CHECKING, NamedTuple

from . import exit_codes, options, person
from .exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..openssh.prompts import Prompt

_AT_ONCE = 16
"""Hosts that are asked at the same time."""


class Asked(NamedTuple):
    """The names of hosts in the journal, and the errors of those that did not answer."""

    names: list[str]
    errors: dict[str, Exception]


class _Question(NamedTuple):
    prompt: Prompt
    answer: queue.SimpleQueue[str | None]


def ask(hosts: Sequence[str], args: argparse.Namespace) -> Asked:
    """Have the journal say what these hosts say now; the results are in their order.

    Raises what was used wrongly.
    """
    with person.asked() as responder:
        asks = responder is not None and not args.batch
        looks = [_Look(host, args, asks=asks) for host in dict.fromkeys(hosts)]
        events: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        waiting = [*looks]
        for _ in range(min(_AT_ONCE, len(looks))):
            waiting.pop(0).start(events)
        left = len(looks)
        while left:
            question = events.get()
            if question is not None:
                assert responder is not None
                question.answer.put(responder(question.prompt))
                continue
            left -= 1
            if waiting:
                waiting.pop(0).start(events)
    errors: dict[str, Exception] = {}
    for look in looks:
        if look.error is not None:
            if exit_codes.of_error(look.error) == ExitCode.USAGE:
                raise look.error
            options.advise_host(look.error)
            errors[look.name] = look.error
    return Asked([look.name for look in looks], errors)


class _Look:
    """One host, in a thread of its own, which ends with the program if that is interrupted."""

    def __init__(self, host: str, args: argparse.Namespace, *, asks: bool) -> None:
        self.name = host
        self.error: Exception | None = None
        self._asks = asks
        self._args = copy.copy(args)
        self._args.host = host

    def start(self, events: queue.SimpleQueue[_Question | None]) -> None:
        """Begin; ``events`` gets the questions, and ``None`` at the end."""

        def look() -> None:
            try:
                self._look(events)
            except Exception as error:  # noqa: BLE001 - its caller looks at it
                self.error = error
            finally:
                events.put(None)

        threading.Thread(target=look, name=f"list {self.name}", daemon=True).start()

    def _look(self, events: queue.SimpleQueue[_Question | None]) -> None:
        from ..connection import Connection

        def responder(prompt: Prompt) -> str | None:
            question = _Question(prompt, queue.SimpleQueue())
            events.put(question)
            return question.answer.get()

        with options.cluster(self._args, asks=False) as cluster:
            self.name = cluster.host
            if self._asks and isinstance(cluster.connection, Connection):
                cluster.connection.open(responder=responder)
            cluster.internal.update_journal()
