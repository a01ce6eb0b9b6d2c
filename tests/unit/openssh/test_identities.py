"""What there is to log in with, read from real files and agents; and the record of logins."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs import errors
from openssh_jobs.openssh import identities
from openssh_jobs.openssh.destination import Destination
from openssh_jobs.openssh.jump_hosts import Hop, called, command, hops, proxy_command
from openssh_jobs.openssh.login_record import Keys, LoginRecord
from openssh_jobs.openssh.ssh_config import Resolved, parse_resolved
from tests.lab.agent import Agent


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
        ["-t", "rsa", "-b", "1024"],
        ["-t", "rsa", "-b", "1024", "-m", "PEM"],
        ["-t", "rsa", "-b", "1024", "-m", "PKCS8"],
        ["-t", "ecdsa", "-m", "PEM"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("phrase", ["", "open sesame"])
def test_a_key_tells_whether_it_is_locked(tmp_path: Path, form: list[str], phrase: str) -> None:
    path = tmp_path / "key"
    keygen(*form, "-N", phrase, "-f", str(path))
    public = (tmp_path / "key.pub").read_text()
    found = identities.read_key(str(path))
    assert found.encrypted is bool(phrase)
    assert identities.is_locked(found, []) is bool(phrase)
    assert not identities.is_locked(found, [public])
    if "-m" not in form:
        (tmp_path / "key.pub").unlink()
        assert identities.read_key(str(path)) == found, "the public half is in the file, too"


@given(st.binary(max_size=300))
def test_any_file_is_some_key_or_none(data: bytes) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile() as handle:
        handle.write(b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + data)
        handle.flush()
        assert identities.read_key(handle.name).encrypted in (None, False, True)


def test_a_file_that_is_no_key_is_not_called_open(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("hello")
    assert identities.read_key(str(path)).encrypted is None
    assert identities.read_key(str(tmp_path / "none")).encrypted is None


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
    (found,) = identities.certificates(Resolved({"identityfile": (str(key),)}))
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
        answer = identities.ask_agent(resolved)
        assert answer is not None
        assert (len(answer.keys), answer.trouble) == (2, "")
        (held,) = identities.certificates(resolved, answer)
        assert held.valid_until == found.valid_until
        assert held.where.endswith("in the agent")
    finally:
        agent.stop()


def test_agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert identities.ask_agent(Resolved({})) is None
    assert identities.ask_agent(Resolved({"identityagent": ("none",)})) is None
    gone = identities.ask_agent(Resolved({"identityagent": (str(tmp_path / "gone"),)}))
    assert gone is not None
    assert gone.trouble
    agent = Agent(tmp_path / "a")
    agent.start()
    try:
        for name in (str(agent.socket), "SSH_AUTH_SOCK", "$MY_AGENT", "${MY_AGENT}"):
            monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
            monkeypatch.setenv("MY_AGENT", str(agent.socket))
            found = identities.ask_agent(Resolved({"identityagent": (name,)}))
            assert found == identities.AgentAnswer(str(agent.socket), (), "")
    finally:
        agent.stop()


def test_the_fingerprint_changes_with_what_a_login_depends_on(tmp_path: Path) -> None:
    key = tmp_path / "key"
    agent = Agent(tmp_path / "a")
    agent.start()
    try:

        def now(**more: tuple[str, ...]) -> str:
            values = {"identityfile": (str(key),), "identityagent": (str(agent.socket),)}
            return identities.fingerprint(Resolved(values | more)).own

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


def hint(resolved: Resolved, *, refused: bool = True, not_signed: str = "") -> tuple[str, str]:
    said, needs = identities.hints(
        resolved, datetime.now(UTC), refused=refused, not_signed=not_signed
    )
    return " ".join(said), needs


def test_what_is_missing_for_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    key = tmp_path / "key"
    keygen("-t", "ed25519", "-N", "", "-f", str(key))
    by_file = Resolved({"identityfile": (str(key),)})
    assert hint(by_file) == ("", ""), "it was offered, and refused"
    said, needs = hint(Resolved({}))
    assert said.startswith("There is no key to log in with")
    assert "{login}" in needs
    assert hint(Resolved({}), refused=False) == ("", ""), "the server asks for something else"
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "gone"))
    said, needs = hint(Resolved({}))
    assert f"SSH_AUTH_SOCK is stale: the agent at {tmp_path}/gone cannot be used (No such" in said
    assert "{login}" in needs
    assert hint(by_file)[1] == "", "a stale agent does not matter if there is a key in a file"
    named = Resolved({"identityagent": (str(tmp_path / "other"),)})
    assert f"The agent at {tmp_path}/other, named by IdentityAgent, cannot" in hint(named)[0]


def test_what_is_missing_in_an_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent(tmp_path / "a")
    agent.start()
    resolved = Resolved({"identityagent": (str(agent.socket),)})
    try:
        said, needs = hint(resolved)
        assert f"The agent at {agent.socket} has no keys" in said
        assert needs.startswith("`ssh-add` the key")
        agent.new_key("one")
        assert hint(resolved, refused=False) == ("", "")
        said, needs = hint(resolved)
        assert f"No key of the agent at {agent.socket} (1) was accepted" in said
        assert needs == ""
        said, needs = hint(resolved, not_signed="agent refused operation")
        assert "did not sign (agent refused operation)" in said
        assert "confirm" in needs
    finally:
        agent.stop()


def test_an_agent_that_does_not_answer_leaves_everything_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "_TIMEOUT", 0.3)
    path = tmp_path / "busy"
    resolved = Resolved({"identityagent": (str(path),)})
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen()
        assert identities.fingerprint(resolved, Resolved({})) == Keys("", "")
        (answer,) = identities.ask_agents([resolved, resolved, Resolved({})]).values()
        assert answer.trouble == identities.SILENT
        assert "may wait for a confirmation" in hint(resolved)[0]


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

    def way(alias: str) -> tuple[Destination, Resolved]:
        destination = Destination(host=alias, ssh_config=str(config))
        argv = ["ssh", "-G", *destination.arguments(), "--", alias]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)
        return destination, parse_resolved(done.stdout)

    found = [(hop.name, hop.resolved.get("hostname")) for hop in hops(*way("here"))]
    assert found == [("outer", "10.0.0.1"), ("inner", "10.0.0.2")]
    assert hops(*way("outer")) == []
    found_there = hops(*way("there"))
    assert [hop.name for hop in found_there] == ["outer", "ivan@inner:2022", "last"]
    assert found_there[1].resolved.get("user") == "ivan"
    assert found_there[1].resolved.get("port") == "2022"
    destination, resolved = way("here")
    on_the_way = hops(destination, resolved)
    assert called("10.0.0.2", resolved, on_the_way) == 1
    assert called("three", resolved, on_the_way) == 1
    assert called("10.9.9.9", resolved, on_the_way) == 0
    commands = [command(found_there, number, destination) for number in range(3)]
    assert commands == [
        f"ssh -F {config} outer",
        f"ssh -F {config} -J outer ivan@inner:2022",
        f"ssh -F {config} -J outer,ivan@inner:2022 last",
    ]
    with pytest.raises(errors.ConfigurationError, match="round in circles"):
        hops(*way("round"))


@pytest.mark.parametrize(
    ("jump", "words"),
    [
        ("gate", ["--", "gate"]),
        ("olga@gate:2022", ["-l", "olga", "-p", "2022", "--", "gate"]),
        ("ssh://olga@gate:2022", ["-l", "olga", "-p", "2022", "--", "gate"]),
        ("[::1]:22", ["-p", "22", "--", "::1"]),
        ("o%lga@gate", ["-l", "o%%lga", "--", "gate"]),
    ],
)
def test_the_ssh_to_a_jump_host_is_started_as_ssh_would(jump: str, words: list[str]) -> None:
    line = proxy_command(
        Destination(host="h", ssh_config="none"),
        [Hop(jump, Resolved({}))],
        options=[["BatchMode=yes"]],
        logs=["/x y/log"],
        stderr="/x y/rest",
    )
    assert line is not None
    shell, flag, script = shlex.split(line)
    assert (shell, flag) == ("/bin/sh", "-c")
    assert script.endswith(" 2>>'/x y/rest'")
    got = shlex.split(script.removesuffix(" 2>>'/x y/rest'"))
    assert got[0] == "exec"
    assert got[2:6] == ["-E", "/x y/log", "-F", "none"]
    assert [word for word in got[6:] if word not in ("-o", "BatchMode=yes", "-W", "[%h]:%p")] == (
        words
    )


@pytest.mark.parametrize("count", [4, 6])
def test_each_of_several_jump_hosts_gets_its_options(tmp_path: Path, count: int) -> None:
    """Read by the shells that would run it: what is quoted several times arrives."""
    names = ["first@first:2201", "a", "bob@b", *(f"h{number}" for number in range(3, count))]
    line = proxy_command(
        Destination(host="h", ssh_config="none"),
        [Hop(name, Resolved({})) for name in names],
        options=[[f"X=%d {number}"] for number in range(count)],
        logs=[f"/l%g {number}" for number in range(count)],
        stderr="/r",
    )
    assert line is not None
    assert len(line) < 1 << 17, "the longest argument that Linux takes"
    # As ssh expands it before a shell gets it.
    script = shlex.split(line.replace("%h", "HOST").replace("%p", "PORT").replace("%%", "%"))[2]
    line = script.removeprefix("exec ").removesuffix(" 2>>/r")
    found: list[str] = []
    while line is not None:
        words = shlex.split(line)
        number = count - 1 - len(found)
        found.append(words[-1])
        assert words[words.index("-E") + 1] == f"/l%g {number}"
        assert f"X=%d {number}" in words
        commands = [word for word in words if word.startswith("ProxyCommand=")]
        line = commands[0].removeprefix("ProxyCommand=").replace("%h", "HOST") if commands else None
        line = line.replace("%p", "PORT").replace("%%", "%") if line else None
    assert found == [*(f"h{number}" for number in range(count - 1, 2, -1)), "b", "a", "first"]


def test_without_a_jump_host_there_is_no_proxy() -> None:
    cases: list[dict[str, tuple[str, ...]]] = [
        {},
        {"proxyjump": ("none",)},
        {"proxycommand": ("nc %h %p",)},
    ]
    destination = Destination(host="h")
    for values in cases:
        assert hops(destination, Resolved(values)) == []
    assert proxy_command(destination, [], options=[], logs=[], stderr="x") is None


# -- the record ---------------------------------------------------------------------------------

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
def test_nothing_passes_once_somebody_was_asked(tmp_path: Path, error: BaseException) -> None:
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
