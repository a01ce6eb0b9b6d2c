"""The record of logins beside a route's socket: whether an unattended login is allowed now.

A server that asked a person for an answer asks again the next time, and sites ban addresses that
keep failing.  So every login is recorded as failed when it begins, and only a successful login
removes that; what ssh or the server said about the reason does not.  After a failure that may pass
(the host cannot be reached) logins are allowed again after a pause that grows; after any other
failure only when ``openssh-jobs login`` succeeded or something that a login depends on changed.
All processes together make no more logins per route and hour than the limit.  A record that cannot
be read or written allows no login.  It is read and written under the route's lock only.  Ages are
measured by a clock that nobody can set: one that is set, or wrong in one process, allows nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .. import errors, logs
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
from . import pid_file, runtime_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logs.logger("openssh_jobs.dials")

PER_HOUR: Final = 20
"""Logins per route and hour, of all processes together."""
WRONG_ANSWERS_PER_HOUR: Final = 3
"""Failed logins with a responder; servers lock accounts after about five."""
FIRST_PAUSE: Final = 1.0
"""Seconds between a failure that may pass and the next login; doubled by each further one."""
LONGEST_PAUSE: Final = 600.0
_JUMP_PAUSE = 8.0  # the reason is not known behind a proxy command
_HOUR = 3600.0
_LARGEST = 1 << 20
_FAILURES = ("refused", "passing")
_TIMES = ("dials", "wrong")


class Keys(NamedTuple):
    """Fingerprints of what a login depends on, empty if unknown; ``known``: known_hosts, too."""

    own: str
    known: str


class LoginRecord:
    """The record of one route: a file in each directory where its socket may be."""

    def __init__(self, paths: Sequence[str], *, host: str, login: str) -> None:
        self._paths = list(paths)
        self._host = host
        self._login = login

    # ------------------------------------------------------------------ on disk

    def _read(self, now: float, *, override: bool = False) -> dict[str, Any]:
        """All records together, with times relative to ``now``.

        Raises ``ConnectError`` for an invalid one.
        """
        whole: dict[str, Any] = {"dials": [], "wrong": [], "refused": None, "passing": None}
        for path in self._paths:
            try:
                found = _checked(path)
            except (OSError, ValueError, RecursionError) as error:
                if not override:
                    raise self._broken(f"{path} cannot be read", error) from error
                log.warning("%s: %s is not a record of logins: %s", self._host, path, error)
                continue
            late = _set_since(found.get("clock"), now)
            for name in _TIMES:
                whole[name] += [max(0.0, at + late) for at in found.get(name, [])]
            for name in _FAILURES:
                failure, before = found.get(name), whole[name]
                if failure is not None:
                    failure["at"] = max(0.0, failure["at"] + late)
                if failure is not None and (before is None or failure["at"] > before["at"]):
                    whole[name] = failure
        return whole

    def _write(self, record: dict[str, Any], now: float) -> None:
        """Raises ``OSError``; the old record is kept then."""
        record["clock"] = {"of": pid_file.clock(), "ticks": _ticks(), "at": now}
        runtime_directory.write_file(self._paths[0], json.dumps(record))
        for other in self._paths[1:]:
            with contextlib.suppress(OSError):
                os.unlink(other)

    def _broken(self, what: str, error: Exception) -> ConnectError:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return ConnectError(
            f"the record of logins {what} ({reason}), so no login is made unattended",
            host=self._host,
            advice=f"Type `{self._login}`; if that does not help, see what is wrong with the file.",
        )

    # ------------------------------------------------------------------ before and after

    def check(self, *, keys: Keys, attended: bool, per_hour: int) -> None:
        """Raise the error that forbids a login now: the last refusal, a pause, or ``Throttled``.

        Waits for the end of a pause of ``FIRST_PAUSE`` seconds or less.
        """
        now = time.time()
        record = self._read(now)
        if self._bring_back(record, now):
            self._save(record, now)
        refused = record["refused"]
        # A responder may help if an answer was missing, but not if nothing was asked.
        stands = refused is not None and (not attended or refused.get("hopeless"))
        if stands and (refused["keys"] in keys or not keys.own):
            why_not = "nothing has changed since, so it was not tried again"
            raise _again(refused, self._host, why_not)
        wrong = _lately(record["wrong"], now)
        if attended and len(wrong) >= WRONG_ANSWERS_PER_HOUR:
            raise AuthenticationFailed(
                f"{len(wrong)} logins with a responder failed within the last hour, and the server "
                "may lock the account after wrong answers",
                host=self._host,
                advice=f"Type `{self._login}` to answer yourself.",
            )
        dials = _lately(record["dials"], now)
        if len(dials) >= per_hour:
            again = time.strftime("%H:%M", time.localtime(dials[-per_hour] + _HOUR))
            raise Throttled(
                f"{len(dials)} logins were begun within the last hour, and no unattended login "
                f"is made before {again}",
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
        """Record that a login begins; it counts as failed until ``succeeded`` is called.

        Raises ``ConnectError`` if that cannot be written, except with ``override``.
        """
        now = time.time()
        record = self._read(now, override=override)
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
            self._write(record, now)
        except OSError as error:
            broken = self._broken(f"{self._paths[0]} cannot be written", error)
            if not override:
                raise broken from error
            log.warning("%s", broken)

    def succeeded(self, *, answered: Sequence[str], keys: Keys) -> None:
        """Record a successful login: earlier failures do not count any more.

        ``answered``: the kinds of answers that a person gave.  The next login would ask for them
        again, so an unattended one is not tried.
        """
        now = time.time()
        record = self._read(now, override=True)
        record["dials"] = _lately(record["dials"], now)
        record.update(refused=None, passing=None, wrong=[])
        if answered:
            record["refused"] = {
                "kind": "AuthenticationNeeded",
                "message": f"the last login needed a person to answer ({', '.join(answered)})",
                "advice": f"Type `{self._login}` once.",
                "keys": keys.own,
                "at": now,
            }
        self._save(record, now)

    def failed(self, error: BaseException, *, keys: Keys, attended: bool, asked: bool) -> None:
        """Record how a login failed.  ``asked``: the responder was asked a question.

        Another login is allowed after a pause if the failure may pass and nothing was asked.
        """
        now = time.time()
        record = self._read(now, override=True)
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
        ours = not isinstance(
            error, OpenSSHJobsError
        )  # an interrupt, or an exception of the responder
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
        self._save(record, now)

    def _save(self, record: dict[str, Any], now: float) -> None:
        """Write the record; only log an error, because ``begin`` has recorded a failure already."""
        try:
            self._write(record, now)
        except OSError as error:
            log.warning("%s: %s: %s", self._host, self._paths[0], error)

    def _bring_back(self, record: dict[str, Any], now: float) -> bool:
        """Replace times in the future by now; true if there were any.

        Otherwise a clock that was set back would allow logins, or forbid them for too long.
        """
        changed = False
        for name in _TIMES:
            if any(at > now for at in record[name]):
                record[name], changed = [min(at, now) for at in record[name]], True
        for name in _FAILURES:
            if record[name] is not None and record[name]["at"] > now:
                record[name]["at"], changed = now, True
        return changed


def _ticks() -> float:
    """Seconds of a clock that nobody can set, and which goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _set_since(clock: Any, now: float) -> float:
    """Seconds by which this process's clock differs from that of the record.

    0 if that is unknown: it was written before the machine was started.
    """
    try:
        passed = _ticks() - float(clock["ticks"])
        if clock["of"] != pid_file.clock() or not 0 <= passed < 1e10 or not _is_time(clock["at"]):
            return 0.0
        return float(now - clock["at"] - passed)
    except (TypeError, KeyError, ValueError, OverflowError):
        return 0.0


def _lately(times: Sequence[float], now: float) -> list[float]:
    return sorted(min(at, now) for at in times if now - _HOUR < at)


def _pause(before: dict[str, Any] | None, least: float) -> dict[str, float]:
    """The pause after a further failure."""
    last = before["pause"] if before is not None else 0.0
    return {"pause": min(max(least, last * 2), LONGEST_PAUSE)}


def _checked(path: str) -> dict[str, Any]:
    """The record in a file; empty if there is no file.  Raises ``OSError`` or ``ValueError``."""
    try:
        text = runtime_directory.read_file(path, _LARGEST)
    except FileNotFoundError:
        return {}
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("it is not a record")
    for name in _TIMES:
        values = found.get(name, [])
        if not isinstance(values, list) or not all(_is_time(value) for value in values):
            raise ValueError(f"{name} is not a list of times")
    for name, facts in (("refused", ("keys",)), ("passing", ())):
        failure = found.get(name)
        if failure is None:
            continue
        if not isinstance(failure, dict) or not _is_time(failure.get("at")):
            raise ValueError(f"{name} is not a failure")
        kind = getattr(errors, str(failure.get("kind")), None)
        if not (isinstance(kind, type) and issubclass(kind, ConnectError | ConfigurationError)):
            raise ValueError(f"{name} names no error")
        if any(not isinstance(failure.get(fact), str) for fact in ("message", *facts)):
            raise ValueError(f"{name} is not complete")
        if name == "passing" and not _is_time(failure.get("pause")):
            raise ValueError("passing has no pause")
    return found


def _is_time(value: object) -> bool:
    # localtime(3) takes these on every system.
    return type(value) in (int, float) and 0 <= value < 1e10  # type: ignore[operator]


def _again(noted: dict[str, Any], host: str, why_not: str) -> OpenSSHJobsError:
    at = time.strftime("%H:%M", time.localtime(noted["at"]))
    cls: type[OpenSSHJobsError] = getattr(errors, noted["kind"])
    advice = None if noted.get("advice") is None else str(noted["advice"])
    message = f"{noted['message']}; that was at {at}, {why_not}"
    if issubclass(cls, ConnectError):
        return cls(message, host=host, advice=advice, stderr=str(noted.get("stderr", "")))
    return cls(message, host=host, advice=advice)
