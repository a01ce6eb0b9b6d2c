"""The record of logins: what counts, until when, and what may be tried again."""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import errors
from openssh_jobs.openssh.login_record import Keys, LoginRecord

KEYS = Keys("k", "k and known hosts")


def dials(*paths: Path) -> LoginRecord:
    return LoginRecord([str(path) for path in paths], host="h", login="openssh-jobs login h")


def check(record: LoginRecord, **changed: Any) -> None:
    facts: dict[str, Any] = {"keys": KEYS, "attended": False, "per_hour": 3, **changed}
    record.check(**facts)


def fail(
    record: LoginRecord, error: BaseException, *, attended: bool = False, asked: bool = False
) -> None:
    record.begin(attended=attended, override=False)
    record.failed(error, keys=KEYS, attended=attended, asked=asked)


@pytest.mark.parametrize(
    "error",
    [
        errors.AuthenticationNeeded("it asks", host="h", advice="Type this."),
        errors.AuthenticationFailed("refused"),
        errors.TooManyKeys("too many"),
        errors.ConnectError("words that nobody has seen yet"),
        errors.HostKeyUnknown("unknown"),
        errors.HostKeyChanged("changed"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_refusal_counts_until_keys_change_or_a_login_works(
    tmp_path: Path, error: errors.ConnectError
) -> None:
    record = dials(tmp_path / "d")
    check(record)
    fail(record, error)
    for _ in range(2):
        with pytest.raises(type(error), match=rf"{error.message}; that was at .* not tried"):
            check(record)
    with pytest.raises(type(error)):
        check(
            record, keys=Keys("", "")
        )  # an agent does not answer: nothing is known to have changed
    check(record, keys=Keys("other", "other"))
    check(record, attended=True)
    changed = Keys("k", "other known hosts")
    if isinstance(error, errors.HostKeyUnknown | errors.HostKeyChanged):
        check(record, keys=changed)
    else:
        with pytest.raises(type(error)):
            check(record, keys=changed)
    record.succeeded(answered=[], keys=KEYS)
    check(record)


PASSES = [
    errors.HostUnreachable("down"),
    errors.Throttled("full"),
    errors.JumpHostFailed("the gate is down"),
    KeyboardInterrupt(),
]


@pytest.mark.parametrize("error", PASSES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("attended", [False, True])
def test_what_may_pass_is_tried_again_after_a_pause_that_grows(
    tmp_path: Path, error: BaseException, attended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_000_000.0]
    waited: list[float] = []
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr(time, "clock_gettime", lambda clock: now[0])
    monkeypatch.setattr(time, "sleep", waited.append)
    record, pauses = dials(tmp_path / "d"), []
    for _ in range(12):
        fail(record, error, attended=attended)
        pause = json.loads((tmp_path / "d").read_text())["passing"]["pause"]
        pauses.append(pause)
        if pause > 1.5:
            now[0] += pause - 1.5
            with pytest.raises(errors.ConnectError, match="it is not tried again before"):
                check(record, attended=attended, per_hour=99)
            now[0] += 1.0
        check(record, attended=attended, per_hour=99)
        now[0] += 1.0
    assert pauses[0] == (8 if isinstance(error, errors.JumpHostFailed) else 1)
    assert pauses == sorted(pauses)
    assert pauses[-1] == 600
    assert max(waited) <= 1.0
    record.begin(attended=attended, override=False)
    record.succeeded(answered=[], keys=KEYS)
    check(record, attended=attended, per_hour=99)


@pytest.mark.parametrize("error", PASSES, ids=lambda error: type(error).__name__)
def test_nothing_passes_once_a_person_was_asked(tmp_path: Path, error: BaseException) -> None:
    """A password may have been sent: three such logins an hour, whatever ended them."""
    record = dials(tmp_path / "d")
    for _ in range(3):
        check(record, attended=True, per_hour=99)
        fail(record, error, attended=True, asked=True)
    with pytest.raises(errors.AuthenticationFailed, match="may lock the account"):
        check(record, attended=True, per_hour=99)
    with pytest.raises(errors.ConnectError, match="not tried again"):
        check(record, per_hour=99)


def test_a_responder_is_of_no_use_where_nothing_was_asked(tmp_path: Path) -> None:
    record = dials(tmp_path / "d")
    fail(record, errors.AuthenticationFailed("no such key"), attended=True)
    with pytest.raises(errors.AuthenticationFailed, match="no such key"):
        check(record, attended=True)


@pytest.mark.parametrize("attended", [False, True])
def test_a_process_that_died_during_its_login_has_failed(tmp_path: Path, attended: bool) -> None:
    record = dials(tmp_path / "d")
    for _ in range(3):
        record.begin(attended=attended, override=False)
    with pytest.raises(errors.ConnectError):
        check(record, attended=attended, per_hour=99)
    check(dials(tmp_path / "other"))


def test_records_in_several_directories_count_together(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    here, there = dials(one, two), dials(two, one)
    dials(one).begin(attended=False, override=False)
    dials(two).begin(attended=False, override=False)
    check(here)
    here.begin(attended=False, override=False)
    with pytest.raises(errors.Throttled, match="3 logins were begun"):
        check(there)
    assert not two.exists()
    there.succeeded(answered=["code"], keys=KEYS)
    with pytest.raises(errors.AuthenticationNeeded, match=r"a person to answer \(code\)"):
        check(here)


def test_old_dials_do_not_count_and_those_of_a_clock_that_was_set_back_do(tmp_path: Path) -> None:
    path = tmp_path / "d"
    now = time.time()
    day = timedelta(days=1).total_seconds()
    times = [now - 3601, now - day, now + day, now + 7200, now - 10]
    path.write_text(json.dumps({"dials": times, "wrong": times}))
    record = dials(path)
    check(record, per_hour=4)
    with pytest.raises(errors.Throttled):
        check(record, per_hour=3)
    with pytest.raises(errors.AuthenticationFailed):
        check(record, attended=True)
    # An hour from now on, not until the clock has come to where it was.
    assert max(json.loads(path.read_text())["dials"]) <= time.time()


@pytest.mark.parametrize("set_by", [7200.0, -7200.0, -1e12], ids=["forward", "back", "to 1970"])
def test_a_clock_that_jumps_allows_no_more_logins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_by: float
) -> None:
    """One that was set, and one that is wrong in one of several processes."""
    real, jump = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: max(5.0, real() + jump[0]))
    record = dials(tmp_path / "d")
    for number in range(3):
        jump[0] = set_by * (number % 2)
        record.begin(attended=True, override=False)
    for jump[0] in (0.0, set_by, 0.0, -set_by):
        with pytest.raises(errors.Throttled, match="3 logins were begun within the last hour"):
            check(record)
        with pytest.raises(errors.AuthenticationFailed, match="3 logins with a responder failed"):
            check(record, attended=True)
        with pytest.raises(errors.ConnectError, match=r"broken off.*not tried again before"):
            check(record, per_hour=9)


def test_a_pause_ends_although_the_clock_was_set_back(tmp_path: Path) -> None:
    path = tmp_path / "d"
    record = dials(path)
    fail(record, errors.HostUnreachable("down"))
    found = json.loads(path.read_text())
    found["passing"] |= {"at": time.time() + 9e4, "pause": 30}
    path.write_text(json.dumps(found))
    with pytest.raises(errors.HostUnreachable, match="not tried again before"):
        check(record)
    assert json.loads(path.read_text())["passing"]["at"] <= time.time()


@pytest.mark.timeout(10)
def test_a_fifo_in_its_place_allows_no_login(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "dials")
    with pytest.raises(errors.ConnectError, match="not a regular file"):
        check(dials(tmp_path / "dials"))
