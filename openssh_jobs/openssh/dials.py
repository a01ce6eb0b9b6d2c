"""The record of logins beside a route's socket: when nobody may dial unattended, and how often.

A server that wanted an answer from a person wants it again the next time, and sites ban who keeps
asking.  So a refusal is remembered until ``openssh-jobs login`` went through or something that a
login depends on has changed, and no route dials more often an hour than its budget, whatever
processes there are.  Read and written under the route's lock only.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

from .. import errors
from ..errors import AuthenticationFailed, ConnectError, Throttled

if TYPE_CHECKING:
    from collections.abc import Sequence

PER_HOUR = 20
"""Dials a route and hour, by all processes together."""
WRONG_ANSWERS_PER_HOUR = 3
"""Refused answers of responders; servers lock accounts after five or so."""
_HOUR = 3600.0
_KINDS = ("AuthenticationNeeded", "AuthenticationFailed")


class Dials:
    """The record of one route: one small file in each directory where a socket may lie."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = list(paths)

    def _read(self) -> dict[str, Any]:
        """All records taken together; what cannot be read counts as nothing."""
        whole: dict[str, Any] = {"dials": [], "wrong": [], "refused": None}
        for path in self._paths:
            try:
                with open(path, encoding="utf-8") as handle:
                    found = json.load(handle)
            except (OSError, ValueError):
                continue
            if not isinstance(found, dict):
                continue
            for name in ("dials", "wrong"):
                values = found.get(name)
                if isinstance(values, list):
                    whole[name] += [one for one in values if isinstance(one, int | float)]
            refused = found.get("refused")
            if isinstance(refused, dict) and refused.get("kind") in _KINDS:
                before = whole["refused"]
                if before is None or refused.get("at", 0) > before.get("at", 0):
                    whole["refused"] = refused
        return whole

    def _write(self, record: dict[str, Any]) -> None:
        for path in self._paths[1:]:
            with contextlib.suppress(OSError):
                os.unlink(path)
        path = self._paths[0]
        part = f"{path}.{os.getpid()}"
        with open(part, "w", encoding="utf-8") as handle:
            json.dump(record, handle)
        os.replace(part, path)

    def _lately(self, times: list[float], now: float) -> list[float]:
        # A clock that was set back leaves times in the future, which would count for ever.
        return sorted(one for one in times if now - _HOUR < one <= now + 60)

    # ------------------------------------------------------------------ before and after

    def check(self, *, host: str, keys: str, attended: bool, per_hour: int, login: str) -> None:
        """Raise what forbids a login now: the last refusal, or ``Throttled``."""
        record, now = self._read(), time.time()
        refused = record["refused"]
        if refused is not None and refused.get("keys") == keys and not attended:
            raise _again(refused, host)
        wrong = self._lately(record["wrong"], now)
        if attended and len(wrong) >= WRONG_ANSWERS_PER_HOUR:
            raise AuthenticationFailed(
                f"{len(wrong)} wrong answers were given within the last hour, and the server may "
                "lock the account",
                host=host,
                advice=f"Type `{login}` to answer yourself.",
            )
        dials = self._lately(record["dials"], now)
        if len(dials) >= per_hour:
            again = time.strftime("%H:%M", time.localtime(dials[-per_hour] + _HOUR))
            raise Throttled(
                f"{len(dials)} logins were begun within the last hour, and more are not made "
                f"unattended before {again}",
                host=host,
                advice=f"Something keeps ending the connection; type `{login}` to log in now.",
            )

    def begin(self) -> None:
        """A login begins now; noted before, because it counts whatever becomes of it."""
        record, now = self._read(), time.time()
        record["dials"] = [*self._lately(record["dials"], now), now]
        self._write(record)

    def succeeded(self, *, answered: Sequence[str], keys: str, login: str) -> None:
        """A login went through: what was refused before counts no more.

        ``answered``: what a person had to give.  The next login would ask for that again, so an
        unattended one need not even begin.
        """
        record = self._read()
        record["dials"] = self._lately(record["dials"], time.time())
        record.update(refused=None, wrong=[])
        if answered:
            record["refused"] = {
                "kind": "AuthenticationNeeded",
                "message": f"the last login needed somebody to answer ({', '.join(answered)})",
                "advice": f"Type `{login}` once.",
                "keys": keys,
                "at": time.time(),
            }
        self._write(record)

    def failed(self, error: Exception, *, keys: str, wrong_answer: bool) -> None:
        """Note a refusal; errors that say nothing about keys or answers change nothing."""
        kind = type(error).__name__
        if not isinstance(error, ConnectError) or kind not in _KINDS:
            return
        record, now = self._read(), time.time()
        if wrong_answer:
            record["wrong"] = [*self._lately(record["wrong"], now), now]
        record["refused"] = {
            "kind": kind,
            "message": error.message,
            "advice": error.advice,
            "stderr": error.stderr[-2000:],
            "keys": keys,
            "at": now,
        }
        self._write(record)


def _again(refused: dict[str, Any], host: str) -> ConnectError:
    at = time.strftime("%H:%M", time.localtime(float(refused.get("at", 0))))
    cls = getattr(errors, refused["kind"])
    error: ConnectError = cls(
        f"{refused.get('message', 'the login was refused')}; that was at {at}, nothing has changed "
        "since, so it was not tried again",
        host=host,
        advice=refused.get("advice"),
        stderr=str(refused.get("stderr", "")),
    )
    return error
