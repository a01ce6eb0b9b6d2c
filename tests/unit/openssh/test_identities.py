"""What there is to log in with, read from real files and agents."""

from __future__ import annotations

import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs.openssh import identities
from openssh_jobs.openssh.login_record import Keys
from openssh_jobs.openssh.ssh_config import Resolved
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
def test_whether_a_key_has_a_passphrase_is_read_from_it(
    tmp_path: Path, form: list[str], phrase: str
) -> None:
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
