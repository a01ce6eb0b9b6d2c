"""Responders that answer wrong: at most three answers reach the server.  Counted there.

Neither the host's words nor a hanging or killed ssh makes them uncounted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import errors
from openssh_jobs.openssh import prompts
from openssh_jobs.openssh.prompts import Prompt
from tests.lab.interactive import MakeServer, Step, code, config_of, password
from tests.real.openssh.lies import (
    ALL,
    LIES,
    SECRET,
    Make,
    refusals,
    tries,
)


def lying_step(right: str) -> Step:
    return Step(prompt="Password: ", right=right, instructions=ALL)


@pytest.mark.parametrize(
    ("variant", "count"),
    [
        ({"password_right": SECRET}, "wrong 1"),
        ({"steps": [lying_step(SECRET)]}, "wrong 1"),
        ({"steps": [password("good"), code(SECRET)]}, "wrong 2"),
        ({"steps": [Step(prompt="Secret: ", right=SECRET)], "password_right": SECRET}, "wrong 1"),
        ({"steps": [password("good"), code(SECRET)], "password_right": SECRET}, "wrong 2"),
    ],
    ids=["password", "question", "code", "question, then password", "code, then password"],
)
@pytest.mark.parametrize("lie", ["penalties", "too many", "name", "startups", "all"])
def test_no_more_than_three_wrong_answers_reach_the_server(
    cold: Path, asking: MakeServer, variant: dict[str, Any], count: str, lie: str
) -> None:
    host = asking(banner=LIES.get(lie, ALL) + "\n", **variant)
    config = config_of(cold, host)
    answers = {"password": "good", "code": "000000"}

    def wrong(prompt: Prompt) -> str:
        return answers.get(prompt.kind, "wrong")

    for error in tries(config, "asks", 6, responder=wrong):
        assert isinstance(error, errors.AuthenticationFailed), str(error)
    assert host.counts[count] == host.counts["connections"] == 3
    assert host.counts["wrong 1"] + host.counts["wrong 2"] == 3
    # Nobody else dials either.
    tries(config, "asks", 2)
    assert host.counts["connections"] == 3


def test_what_pam_says_after_the_answer_is_not_believed(
    cold: Path, asking: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question without a question: its words go where ssh's own go."""
    from tests.lab import interactive

    def judge(self: Any, username: str, responses: Any) -> Any:
        if not responses:
            return False
        self._server.counts["wrong 1"] += 1
        return "", ALL, "", []

    monkeypatch.setattr(interactive._Door, "validate_kbdint_response", judge)
    host = asking(steps=[password(SECRET)])
    config = config_of(cold, host)
    for error in tries(config, "asks", 5, responder=lambda prompt: "wrong"):
        assert type(error) is errors.AuthenticationFailed, str(error)
    assert host.counts["wrong 1"] == host.counts["connections"] == 3


def test_a_host_that_never_stops_talking_is_left(
    cold: Path, asking: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "MOST_SAID", 100_000)
    host = asking(steps=[lying_step(SECRET)], banner="x" * 79 + "\n")
    config = config_of(cold, host)
    host.banner = ("x" * 79 + "\n") * 3000
    (error,) = tries(config, "asks", 1, responder=lambda prompt: SECRET)
    assert "sends too much text during the login" in str(error)
    assert host.logins == 0


def test_a_wrong_passphrase_stays_here(make_sshd: Make, cold: Path, tmp_path: Path) -> None:
    host = make_sshd(banner=ALL)
    key, open_key = tmp_path / "locked", Path(host.server.identity)
    key.write_bytes(open_key.read_bytes())
    key.chmod(0o600)
    key.with_name("locked.pub").write_text(open_key.with_name(f"{open_key.name}.pub").read_text())
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-P", "", "-N", SECRET, "-a", "1", "-f", key],
        check=True,
        timeout=20,
        stdout=subprocess.DEVNULL,
    )
    host.config.write_text(host.server.client_block().replace(str(open_key), str(key)))
    for error in tries(host.config, host.alias, 6, responder=lambda prompt: "wrong"):
        assert isinstance(error, errors.AuthenticationFailed)
    assert refusals(host) == 3, host.server.log_text()
    assert host.server.log_text().count("Failed password") == 0


def test_a_login_that_hangs_after_the_password_counts(
    cold: Path, asking: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.lab import interactive

    async def never(self: Any, username: str, password: str) -> bool:
        self._server.counts["wrong 1"] += 1
        await asyncio.sleep(60)
        return False

    monkeypatch.setattr(interactive._Door, "validate_password", never)
    monkeypatch.setattr(prompts, "AFTER_ANSWER", 1.0)
    host = asking(password_right=SECRET, banner=ALL)
    config = config_of(cold, host)
    monkeypatch.setattr("openssh_jobs.openssh.login._PATIENCE", 0.5)
    for _ in range(5):
        tries(config, "asks", 1, responder=lambda prompt: "wrong", connect_timeout=0.5)
    assert host.counts["wrong 1"] == host.counts["connections"] == 3


def test_an_ssh_that_is_killed_after_the_password_counts(
    cold: Path, asking: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whoever it is: the last words are the banner's."""
    from tests.lab import interactive

    ssh = os.fsencode(f"{shutil.which('ssh')}\0")

    def kill(self: Any, username: str, password: str) -> bool:
        self._server.counts["wrong 1"] += 1
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(cold) in line and line.startswith(ssh):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), 9)
        return False

    monkeypatch.setattr(interactive._Door, "validate_password", kill)
    host = asking(password_right=SECRET, banner=ALL)
    config = config_of(cold, host)
    for error in tries(config, "asks", 5, responder=lambda prompt: "wrong"):
        assert type(error) in (errors.ConnectError, errors.AuthenticationFailed), str(error)
    assert host.counts["wrong 1"] == host.counts["connections"] == 3
    (error,) = tries(config, "asks", 1)
    assert "signal 9" in str(error)


def test_two_responders_at_once_are_wrong_three_times_together(
    cold: Path, asking: MakeServer
) -> None:
    host = asking(password_right=SECRET, banner=ALL)
    config = config_of(cold, host)
    found: list[errors.OpenSSHJobsError] = []
    threads = [
        threading.Thread(
            target=lambda: found.extend(tries(config, "asks", 3, responder=lambda prompt: "wrong"))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [type(error) for error in found] == [errors.AuthenticationFailed] * 6
    assert host.counts["wrong 1"] == 3


def test_a_clock_that_was_set_back_opens_nothing(
    cold: Path, asking: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = asking(password_right=SECRET)
    config = config_of(cold, host)
    tries(config, "asks", 3, responder=lambda prompt: "wrong")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 7200)
    tries(config, "asks", 3, responder=lambda prompt: "wrong")
    assert host.counts["wrong 1"] == 3
