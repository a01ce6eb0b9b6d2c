"""The record of logins beside a route's socket: when nobody may dial unattended, and how often.

A server that wanted an answer from a person wants it again the next time, and sites ban who keeps
asking.  So every login is noted as failed when it begins, and only a login that went through takes
that back: what ssh or the server said about the reason never opens the gate.  A reason that may
pass (the host cannot be reached) is tried again after a pause that grows, any other is not, until
``openssh-jobs login`` went through or something that a login depends on has changed.  No route
dials more often an hour than its budget, whatever processes there are.  A record that cannot be
read or written allows no login.  Read and written under the route's lock only.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .. import errors
from ..errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectError,
    HostKeyChanged,
    HostKeyUnknown,
    HostUnreachable,
    JumpHostFailed,
    OpenSSHJobsError,
    Throttled,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger("openssh_jobs.dials")

PER_HOUR: Final = 20
"""LoginRecord a route and hour, by all processes together."""
WRONG_ANSWERS_PER_HOUR: Final = 3
"""Logins with a responder that failed; servers lock accounts after five or so."""
FIRST_PAUSE: Final = 1.0
"""Seconds between a failure that may pass and the next dial; doubled by each that follows."""
LONGEST_PAUSE: Final = 600.0
_JUMP_PAUSE = 8.0  # behind a proxy command the reason is not known
_HOUR = 3600.0
_LARGEST = 1 << 20


class Keys(NamedTuple):
    """What a login depends on, as fingerprints: ``known`` counts the known_hosts files too."""

    own: str
    known: str


class LoginRecord:
    """The record of one route: one small file in each directory where a socket may lie."""

    def __init__(self, paths: Sequence[str], *, host: str, login: str) -> None:
        self._paths = list(paths)
        self._host = host
        self._login = login

    # ------------------------------------------------------------------ on disk

    def _read(self, *, override: bool = False) -> dict[str, Any]:
        """All records taken together.  Raises ``ConnectError`` for one that is no record."""
        whole: dict[str, Any] = {"dials": [], "wrong": [], "refused": None, "passing": None}
        for path in self._paths:
            try:
                found = _checked(path)
            except (OSError, ValueError, RecursionError) as error:
                if not override:
                    raise self._broken(f"{path} cannot be read", error) from error
                log.warning("%s: %s is no record of logins: %s", self._host, path, error)
                continue
            for name in ("dials", "wrong"):
                whole[name] += found.get(name, [])
            for name in ("refused", "passing"):
                one, before = found.get(name), whole[name]
                if one is not None and (before is None or one["at"] > before["at"]):
                    whole[name] = one
        return whole

    def _write(self, record: dict[str, Any]) -> None:
        """Raises ``OSError``; what was recorded before stays then."""
        path = self._paths[0]
        part = f"{path}.{os.getpid()}"
        try:
            with open(part, "w", encoding="utf-8") as handle:
                json.dump(record, handle)
            os.replace(part, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise
        for other in self._paths[1:]:
            with contextlib.suppress(OSError):
                os.unlink(other)

    def _broken(self, what: str, error: Exception) -> ConnectError:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return ConnectError(
            f"the record of logins {what} ({reason}), so no login is made unattended",
            host=self._host,
            advice=f"Type `{self._login}`; if that does not mend it, look at the file.",
        )

    # ------------------------------------------------------------------ before and after

    def check(self, *, keys: Keys, attended: bool, per_hour: int) -> None:
        """Raise what forbids a login now: the last refusal, a pause, or ``Throttled``.

        A pause of no more than ``FIRST_PAUSE`` seconds is waited for.
        """
        record, now = self._read(), time.time()
        if self._bring_back(record, now):
            self._save(record)
        refused = record["refused"]
        # Who can answer may try what would have asked, but not what asked for nothing.
        stands = refused is not None and (not attended or refused.get("hopeless"))
        if stands and refused["keys"] in keys:
            why_not = "nothing has changed since, so it was not tried again"
            raise _again(refused, self._host, why_not)
        wrong = _lately(record["wrong"], now)
        if attended and len(wrong) >= WRONG_ANSWERS_PER_HOUR:
            raise AuthenticationFailed(
                f"{len(wrong)} logins with somebody to answer failed within the last hour, as with "
                "wrong answers, and the server may lock the account",
                host=self._host,
                advice=f"Type `{self._login}` to answer yourself.",
            )
        dials = _lately(record["dials"], now)
        if len(dials) >= per_hour:
            again = time.strftime("%H:%M", time.localtime(dials[-per_hour] + _HOUR))
            raise Throttled(
                f"{len(dials)} logins were begun within the last hour, and more are not made "
                f"unattended before {again}",
                host=self._host,
                advice=f"Something keeps ending the connection; type `{self._login}` to log in "
                "now.",
            )
        passing = record["passing"]
        if passing is not None:
            left = passing["at"] + passing["pause"] - now
            if left > FIRST_PAUSE:
                until = time.strftime("%H:%M:%S", time.localtime(now + left))
                raise _again(passing, self._host, f"it is not tried again before {until}")
            time.sleep(max(0.0, left))

    def begin(self, *, attended: bool, override: bool) -> None:
        """A login begins now, and counts as failed until ``succeeded`` says else.

        Raises ``ConnectError`` where that cannot be noted, but for ``override``.
        """
        record, now = self._read(override=override), time.time()
        self._bring_back(record, now)
        record["dials"] = [*_lately(record["dials"], now), now]
        record["wrong"] = _lately(record["wrong"], now)
        if attended:
            record["wrong"].append(now)
        record["passing"] = {
            "kind": "ConnectError",
            "message": "the last login was broken off",
            "advice": f"Type `{self._login}` to log in now.",
            "at": now,
            **_pause(record["passing"], FIRST_PAUSE),
        }
        try:
            self._write(record)
        except OSError as error:
            broken = self._broken(f"{self._paths[0]} cannot be written", error)
            if not override:
                raise broken from error
            log.warning("%s", broken)

    def succeeded(self, *, answered: Sequence[str], keys: Keys) -> None:
        """A login went through: what was refused before counts no more.

        ``answered``: what a person had to give.  The next login would ask for that again, so an
        unattended one need not even begin.
        """
        record, now = self._read(override=True), time.time()
        record["dials"] = _lately(record["dials"], now)
        record.update(refused=None, passing=None, wrong=[])
        if answered:
            record["refused"] = {
                "kind": "AuthenticationNeeded",
                "message": f"the last login needed somebody to answer ({', '.join(answered)})",
                "advice": f"Type `{self._login}` once.",
                "keys": keys.own,
                "at": now,
            }
        self._save(record)

    def failed(self, error: BaseException, *, keys: Keys, attended: bool, asked: bool) -> None:
        """Note how a login ended.  ``asked``: somebody was asked for an answer or a host key.

        Only what may pass, where nobody was asked, leaves the gate open for the next try.
        """
        record, now = self._read(override=True), time.time()
        note: dict[str, Any] = {
            "kind": "ConnectError",
            "message": f"the login was broken off ({type(error).__name__})",
            "advice": f"Type `{self._login}` once.",
        }
        if isinstance(error, ConnectError | ConfigurationError):
            note.update(
                kind=type(error).__name__, message=error.message, advice=error.advice,
                stderr=str(getattr(error, "stderr", ""))[-2000:],
            )  # fmt: skip
        ours = not isinstance(error, OpenSSHJobsError)  # an interrupt, or the responder's own
        passes = ours or isinstance(
            error, HostUnreachable | Throttled | JumpHostFailed | ConfigurationError
        )
        if passes and not asked:
            if attended:
                record["wrong"] = record["wrong"][:-1]
            # ``begin`` has counted this failure already.
            before = record["passing"] or _pause(None, FIRST_PAUSE)
            least = _JUMP_PAUSE if isinstance(error, JumpHostFailed) else FIRST_PAUSE
            pause = max(before["pause"], least)
            record["passing"] = {**note, "at": now, "pause": pause}
        else:
            host_key = isinstance(error, HostKeyChanged | HostKeyUnknown)
            record["passing"] = None
            record["refused"] = {
                **note,
                "keys": keys.known if host_key else keys.own,
                "hopeless": attended and not asked,
                "at": now,
            }
        self._save(record)

    def _save(self, record: dict[str, Any]) -> None:
        """Write, where ``begin`` has noted the worst already."""
        try:
            self._write(record)
        except OSError as error:
            log.warning("%s: %s: %s", self._host, self._paths[0], error)

    def _bring_back(self, record: dict[str, Any], now: float) -> bool:
        """Times in the future are now: else a clock that was set back would open the gate, or
        close it for too long."""
        changed = False
        for name in ("dials", "wrong"):
            if any(one > now for one in record[name]):
                record[name], changed = [min(one, now) for one in record[name]], True
        for name in ("refused", "passing"):
            if record[name] is not None and record[name]["at"] > now:
                record[name]["at"], changed = now, True
        return changed


def _lately(times: Sequence[float], now: float) -> list[float]:
    return sorted(min(one, now) for one in times if now - _HOUR < one)


def _pause(before: dict[str, Any] | None, least: float) -> dict[str, float]:
    """The pause after one failure more."""
    last = before["pause"] if before is not None else 0.0
    return {"pause": min(max(least, last * 2), LONGEST_PAUSE)}


def _checked(path: str) -> dict[str, Any]:
    """One record; empty where there is none.  Raises ``OSError`` or ``ValueError``."""
    try:
        with open(path, encoding="utf-8") as handle:
            text = handle.read(_LARGEST)
    except FileNotFoundError:
        return {}
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("it is no record")
    for name in ("dials", "wrong"):
        values = found.get(name, [])
        if not isinstance(values, list) or not all(_is_time(one) for one in values):
            raise ValueError(f"{name} is no list of times")
    for name, facts in (("refused", ("keys",)), ("passing", ())):
        one = found.get(name)
        if one is None:
            continue
        if not isinstance(one, dict) or not _is_time(one.get("at")):
            raise ValueError(f"{name} is no refusal")
        kind = getattr(errors, str(one.get("kind")), None)
        if not (isinstance(kind, type) and issubclass(kind, ConnectError | ConfigurationError)):
            raise ValueError(f"{name} names no error")
        if any(not isinstance(one.get(fact), str) for fact in ("message", *facts)):
            raise ValueError(f"{name} is not complete")
        if name == "passing" and not _is_time(one.get("pause")):
            raise ValueError("passing has no pause")
    return found


def _is_time(value: object) -> bool:
    # As far as localtime(3) goes everywhere.
    return type(value) in (int, float) and 0 <= value < 1e10  # type: ignore[operator]


def _again(noted: dict[str, Any], host: str, why_not: str) -> OpenSSHJobsError:
    at = time.strftime("%H:%M", time.localtime(noted["at"]))
    cls: type[OpenSSHJobsError] = getattr(errors, noted["kind"])
    advice = None if noted.get("advice") is None else str(noted["advice"])
    message = f"{noted['message']}; that was at {at}, {why_not}"
    if issubclass(cls, ConnectError):
        return cls(message, host=host, advice=advice, stderr=str(noted.get("stderr", "")))
    return cls(message, host=host, advice=advice)
