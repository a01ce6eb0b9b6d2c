"""What there is to log in with, read from real files and agents; and the record of logins."""

from __future__ import annotations

import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs import errors
from openssh_jobs.openssh import keys
from openssh_jobs.openssh.dials import Dials
from openssh_jobs.openssh.features import Resolved, parse_resolved
from openssh_jobs.openssh.route import called, hops, proxy_command
from openssh_jobs.openssh.target import Target
from tests.real.agent import Agent


def keygen(*words: str) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", *words],
        check=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )


@pytest.mark.parametrize(
    "form",
    [
        ["-t", "ed25519"],
        ["-t", "ecdsa"],
        ["-t", "rsa", "-b", "2048"],
        ["-t", "rsa", "-b", "2048", "-m", "PEM"],
        ["-t", "rsa", "-b", "2048", "-m", "PKCS8"],
        ["-t", "ecdsa", "-m", "PEM"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("phrase", ["", "open sesame"])
def test_a_key_tells_whether_it_is_locked(tmp_path: Path, form: list[str], phrase: str) -> None:
    path = tmp_path / "key"
    keygen(*form, "-N", phrase, "-f", str(path))
    public = (tmp_path / "key.pub").read_text()
    found = keys.read_key(str(path))
    assert found.encrypted is bool(phrase)
    assert keys.is_locked(found, []) is bool(phrase)
    assert not keys.is_locked(found, [public])
    if "-m" not in form:
        (tmp_path / "key.pub").unlink()
        assert keys.read_key(str(path)) == found, "the public half is in the file, too"


@given(st.binary(max_size=300))
def test_any_file_is_some_key_or_none(data: bytes) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile() as handle:
        handle.write(b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + data)
        handle.flush()
        assert keys.read_key(handle.name).encrypted in (None, False, True)


def test_a_file_that_is_no_key_is_not_called_open(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("hello")
    assert keys.read_key(str(path)).encrypted is None
    assert keys.read_key(str(tmp_path / "none")).encrypted is None


@pytest.mark.parametrize(
    ("words", "start", "end"),
    [
        (["-V", "20240101000000:20240203040506"], "2024-01-01T00:00:00", "2024-02-03T04:05:06"),
        (["-V", "always:20240203040506"], None, "2024-02-03T04:05:06"),
        (["-V", "20240101000000:forever"], "2024-01-01T00:00:00", None),
        ([], None, None),
    ],
)
def test_certificates_tell_their_time(
    tmp_path: Path, words: list[str], start: str | None, end: str | None
) -> None:
    ca, key = tmp_path / "ca", tmp_path / "key"
    for path in (ca, key):
        keygen("-t", "ed25519", "-N", "", "-f", str(path))
    keygen("-s", str(ca), "-I", "me", "-n", "alice", *words, f"{key}.pub")
    (found,) = keys.certificates(Resolved({"identityfile": (str(key),)}))
    assert found.where == f"{key}-cert.pub"
    assert found.valid_from == (datetime.fromisoformat(start).astimezone() if start else None)
    assert found.valid_until == (datetime.fromisoformat(end).astimezone() if end else None)
    assert found.expired(datetime.now(UTC)) is (end is not None)

    # In an agent that holds nothing else.
    agent = Agent(tmp_path / "a")
    agent.start()
    try:
        agent.add(key)
        resolved = Resolved({"identityagent": (str(agent.socket),)})
        answer = keys.ask_agent(resolved)
        assert answer is not None
        assert (len(answer.keys), answer.trouble) == (2, "")
        (held,) = keys.certificates(resolved, answer)
        assert held.valid_until == found.valid_until
        assert held.where.endswith("in the agent")
    finally:
        agent.stop()


def test_agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert keys.ask_agent(Resolved({})) is None
    assert keys.ask_agent(Resolved({"identityagent": ("none",)})) is None
    gone = keys.ask_agent(Resolved({"identityagent": (str(tmp_path / "gone"),)}))
    assert gone is not None
    assert gone.trouble
    agent = Agent(tmp_path / "a")
    agent.start()
    try:
        for name in (str(agent.socket), "SSH_AUTH_SOCK", "$MY_AGENT", "${MY_AGENT}"):
            monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
            monkeypatch.setenv("MY_AGENT", str(agent.socket))
            found = keys.ask_agent(Resolved({"identityagent": (name,)}))
            assert found == keys.AgentAnswer(str(agent.socket), (), "")
    finally:
        agent.stop()


def test_the_fingerprint_changes_with_what_a_login_depends_on(tmp_path: Path) -> None:
    key = tmp_path / "key"
    agent = Agent(tmp_path / "a")
    agent.start()
    try:

        def now(**more: tuple[str, ...]) -> str:
            values = {"identityfile": (str(key),), "identityagent": (str(agent.socket),)}
            return keys.fingerprint(Resolved(values | more))

        seen = [now()]
        assert now() == seen[0]
        keygen("-t", "ed25519", "-N", "", "-f", str(key))
        seen.append(now())
        agent.add(key)
        seen.append(now())
        agent.forget_all()
        assert now() == seen[1]
        keygen("-s", str(key), "-I", "me", "-n", "alice", f"{key}.pub")
        seen.append(now())
        seen.append(now(user=("bob",)))
        assert len(set(seen)) == len(seen)
    finally:
        agent.stop()


# -- jump hosts ---------------------------------------------------------------------------------


def test_the_way_is_what_ssh_makes_of_it(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "Host outer\n    HostName 10.0.0.1\n    User olga\n"
        "Host inner\n    HostName 10.0.0.2\n    ProxyJump outer\n"
        "Host here there\n    HostName 10.0.0.3\n    HostKeyAlias three\n"
        "Host here\n    ProxyJump inner\n"
        "Host there\n    ProxyJump ivan@inner:2022,last\n"
        "Host round\n    ProxyJump round2\nHost round2\n    ProxyJump round\n"
    )

    def way(alias: str) -> tuple[Target, Resolved]:
        target = Target(host=alias, ssh_config=str(config))
        argv = ["ssh", "-G", *target.arguments(), "--", alias]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)
        return target, parse_resolved(done.stdout)

    found = [(hop.name, hop.resolved.get("hostname")) for hop in hops(*way("here"))]
    assert found == [("outer", "10.0.0.1"), ("inner", "10.0.0.2")]
    assert hops(*way("outer")) == []
    found_there = hops(*way("there"))
    assert [hop.name for hop in found_there] == ["outer", "ivan@inner:2022", "last"]
    assert found_there[1].resolved.get("user") == "ivan"
    assert found_there[1].resolved.get("port") == "2022"
    assert called("10.0.0.2", *way("here")) == 1
    assert called("three", *way("here")) == 1
    assert called("10.9.9.9", *way("here")) == 0
    with pytest.raises(errors.ConfigurationError, match="round in circles"):
        hops(*way("round"))


@pytest.mark.parametrize(
    ("jump", "words"),
    [
        ("gate", ["--", "gate"]),
        ("olga@gate:2022", ["-l", "olga", "-p", "2022", "--", "gate"]),
        ("ssh://olga@gate:2022", ["-l", "olga", "-p", "2022", "--", "gate"]),
        ("a,b,gate", ["-J", "a,b", "--", "gate"]),
        ("[::1]:22", ["-p", "22", "--", "::1"]),
        ("o%lga@gate", ["-l", "o%%lga", "--", "gate"]),
    ],
)
def test_the_ssh_to_a_jump_host_is_started_as_ssh_would(jump: str, words: list[str]) -> None:
    import shlex

    resolved = Resolved({"proxyjump": (jump,)})
    line = proxy_command(Target(host="h"), resolved, options=["BatchMode=yes"], stderr="/x y/log")
    assert line is not None
    shell, flag, script = shlex.split(line)
    assert (shell, flag) == ("/bin/sh", "-c")
    assert script.endswith(" 2>>'/x y/log'")
    got = shlex.split(script.removesuffix(" 2>>'/x y/log'"))
    assert got[0] == "exec"
    assert [word for word in got[2:] if word not in ("-o", "BatchMode=yes", "-W", "[%h]:%p")] == (
        words
    )


def test_without_a_jump_host_there_is_no_proxy() -> None:
    for values in ({}, {"proxyjump": ("none",)}, {"proxycommand": ("nc %h %p",)}):
        resolved = Resolved(values)
        assert proxy_command(Target(host="h"), resolved, options=[], stderr="x") is None


# -- the record ---------------------------------------------------------------------------------


def check(record: Dials, **changed: Any) -> None:
    facts: dict[str, Any] = {"host": "h", "keys": "k", "attended": False, "per_hour": 3}
    record.check(**(facts | {"login": "openssh-jobs login h"} | changed))


def refused() -> errors.ConnectError:
    return errors.AuthenticationNeeded("it asks", host="h", advice="Type this.")


def test_a_refusal_counts_until_keys_change_or_a_login_works(tmp_path: Path) -> None:
    record = Dials([str(tmp_path / "d")])
    check(record)
    record.begin()
    record.failed(refused(), keys="k", wrong_answer=False)
    with pytest.raises(errors.AuthenticationNeeded, match=r"it asks; that was at .* not tried"):
        check(record)
    check(record, keys="other")
    check(record, attended=True)
    record.succeeded(answered=[], keys="k", login="l")
    check(record)


def test_errors_of_the_network_are_no_refusals(tmp_path: Path) -> None:
    record = Dials([str(tmp_path / "d")])
    record.failed(errors.HostUnreachable("down"), keys="k", wrong_answer=False)
    check(record)


def test_records_in_several_directories_count_together(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    here, there = Dials([str(one), str(two)]), Dials([str(two), str(one)])
    Dials([str(one)]).begin()
    Dials([str(two)]).begin()
    check(here)
    here.begin()
    with pytest.raises(errors.Throttled, match="3 logins were begun"):
        check(there)
    assert not two.exists()
    there.succeeded(answered=["code"], keys="k", login="l")
    with pytest.raises(errors.AuthenticationNeeded, match=r"somebody to answer \(code\)"):
        check(here)


def test_old_dials_and_those_of_a_clock_that_was_set_back_do_not_count(tmp_path: Path) -> None:
    import json

    path = tmp_path / "d"
    now = time.time()
    day = timedelta(days=1).total_seconds()
    times = [now - 3601, now - day, now + day, now + 7200, now - 10]
    path.write_text(json.dumps({"dials": times}))
    record = Dials([str(path)])
    check(record, per_hour=2)
    with pytest.raises(errors.Throttled):
        check(record, per_hour=1)
    record.begin()
    assert len(json.loads(path.read_text())["dials"]) == 2
