"""Keys that need a person, or that end: open, run, lose, reopen, and a wait for a job across it.

The way has one bastion.  Logins are counted in the logs of both servers.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from openssh_jobs import Connection, Prompt, errors
from openssh_jobs.testing.sshd import make_key
from tests.cli import PROGRAM
from tests.lab.agent import Agent
from tests.lab.chain import Chain, Way, WayIn
from tests.real.openssh.ways import Stay, log_in, stay

pytest_plugins = ("tests.fixtures",)

WAY = Way(passes=("bastion", "login"))
MakeAgent = Callable[..., Agent]


@pytest.fixture
def make_agent(tmp_path: Path) -> Iterator[MakeAgent]:
    """An agent, which ends with the test."""
    started: list[Agent] = []

    def make(askpass: Path | None = None) -> Agent:
        agent = Agent(tmp_path / f"agent{len(started)}")
        agent.start(askpass=askpass)
        started.append(agent)
        return agent

    yield make
    for agent in started:
        agent.stop()


def only(agent: Agent) -> list[str]:
    """The client's lines for keys that lie in an agent only."""
    return [f'IdentityAgent "{agent.socket}"', "IdentityFile none"]


def until_over(begin: Callable[[int], None], enter: Callable[[], None]) -> float:
    """Begin a time of so many seconds, go in within it; the moment at which it is over.

    A busy machine gets more of them.
    """
    for seconds in (3, 10, 30):
        begin(seconds)
        over = time.monotonic() + seconds + 1
        try:
            enter()
        except errors.ConnectError:
            assert time.monotonic() > over - 2
            continue
        return over
    raise AssertionError("the machine is too slow")


# -- ssh-add -c -----------------------------------------------------------------------------------


def test_a_key_that_needs_a_confirmation(
    chain: Chain, cold: Path, tmp_path: Path, make_agent: MakeAgent
) -> None:
    yes, asked, askpass = tmp_path / "yes", tmp_path / "asked", tmp_path / "askpass"
    askpass.write_text(f"#!/bin/sh\necho x >>'{asked}'\n[ -e '{yes}' ]\n")
    askpass.chmod(0o700)
    yes.touch()
    agent = make_agent(askpass)
    agent.add(chain.key, "-c")
    with stay(chain, WAY, cold, tmp_path, keys=only(agent)) as here:
        here.open()
        here.kill_master()
        here.is_back([2, 2])
        assert len(asked.read_text().split()) == 4, "one for each login at each server"
        yes.unlink()
        here.cut()
        error = here.refused(errors.AuthenticationNeeded)
        assert "the jump host bastion: hpcalice@10.88.1.1 was refused" in str(error)
        assert "did not sign (agent refused operation)" in str(error)
        assert "`ssh-add -c`" in str(error)
        assert here.command in str(error)
        assert len(asked.read_text().split()) == 5, "nobody is asked in a loop"
        assert here.way_in.dials() == [3, 2]
        yes.touch()
        log_in(here.way_in, None)
        here.wait()
        here.finish()
        assert here.way_in.logins() == [3, 3]


def test_a_confirmation_that_is_not_given_is_asked_for_once(
    chain: Chain, cold: Path, tmp_path: Path, make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window stays open; meanwhile the agent, which serves one at a time, answers nobody."""
    monkeypatch.setattr("openssh_jobs.openssh.login._PATIENCE", 0.5)
    monkeypatch.setattr("openssh_jobs.openssh.identities._TIMEOUT", 1.0)
    window, askpass = tmp_path / "window", tmp_path / "askpass"
    askpass.write_text(f"#!/bin/sh\necho $$ >>'{window}'\nexec sleep 60\n")
    askpass.chmod(0o700)
    agent = make_agent(askpass)
    agent.add(chain.key, "-c")
    way_in = WayIn(chain, Way(passes=("login",)), cold.parent / "config", keys=only(agent))
    connection = Connection("login", ssh_config=way_in.config, connect_timeout=3)
    with pytest.raises(errors.AuthenticationNeeded) as caught:
        connection.open()
    assert f"the agent at {agent.socket} does not answer, it may wait" in str(caught.value)
    assert "openssh-jobs login" in str(caught.value)
    with pytest.raises(errors.AuthenticationNeeded, match="not tried again"):
        connection.open()
    (pid,) = window.read_text().split()
    os.kill(int(pid), signal.SIGKILL)
    assert len(agent.keys()) == 1
    with pytest.raises(errors.AuthenticationNeeded, match="not tried again"):
        connection.open()
    assert way_in.dials() == [1]
    assert window.read_text().split() == [pid]


# -- ssh-add -t -----------------------------------------------------------------------------------


def test_a_key_whose_time_ends_during_a_wait(
    chain: Chain, cold: Path, tmp_path: Path, make_agent: MakeAgent
) -> None:
    agent = make_agent()
    with stay(chain, WAY, cold, tmp_path, keys=only(agent)) as here:
        over = until_over(lambda seconds: agent.add(chain.key, "-t", str(seconds)), here.works)
        here.open()
        time.sleep(max(0.0, over - time.monotonic()))
        assert agent.keys() == []
        here.works()
        here.goes_on()
        dials = here.way_in.dials()
        here.kill_master()
        error = here.refused(errors.AuthenticationNeeded)
        assert f"The agent at {agent.socket} has no keys" in str(error)
        assert "`ssh-add` the key" in str(error)
        assert here.way_in.dials() == [dials[0] + 1, dials[1]], "one dial in all"
        agent.add(chain.key)
        here.wait()
        here.finish()
        assert here.way_in.dials() == [dials[0] + 2, dials[1] + 1]


# -- ssh-add -h -----------------------------------------------------------------------------------


def test_a_key_for_some_destinations_only(
    chain: Chain, cold: Path, tmp_path: Path, make_agent: MakeAgent
) -> None:
    agent = make_agent()
    with stay(chain, WAY, cold, tmp_path, keys=only(agent)) as here:
        known = tmp_path / "known"
        files = [chain.directory / f"known-{name}" for name in WAY.passes]
        known.write_text("".join(path.read_text() for path in files))

        def add(*names: str) -> None:
            agent.forget_all()
            limits = [word for name in names for word in ("-h", name)]
            agent.add(chain.key, "-H", str(known), *limits)

        add("bastion", "login")
        here.open()
        add("bastion")
        here.kill_master()
        error = here.refused(errors.AuthenticationFailed)
        assert "login: hpcalice@10.88.2.2 was refused" in str(error)
        assert f"No key of the agent at {agent.socket} (1) was accepted" in str(error)
        assert "`ssh-add -h` limits to other hosts" in str(error)
        assert here.way_in.dials() == [2, 2]
        add("bastion", "login")
        log_in(here.way_in, None)
        here.wait()
        here.finish()
        assert here.way_in.logins() == [3, 2]


# -- a stale SSH_AUTH_SOCK ------------------------------------------------------------------------


def test_a_stale_agent_socket_in_tmux(
    chain: Chain, cold: Path, tmp_path: Path, make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program runs in a tmux session; the login whose agent it has ends, and another begins."""
    old, new = make_agent(), make_agent()
    for agent in (old, new):
        agent.add(chain.key)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(old.socket))
    with stay(chain, WAY, cold, tmp_path, keys=["IdentityFile none"]) as here:
        here.open()
        old.stop()
        here.works()
        here.goes_on()
        here.kill_master()
        error = here.refused(errors.AuthenticationNeeded)
        assert f"SSH_AUTH_SOCK is stale: the agent at {old.socket} cannot be used" in str(error)
        assert "tmux" in str(error)
        assert here.command in str(error)
        assert here.way_in.dials() == [2, 1]
        # The advice, in a shell of the new login; the program itself stays as it is.
        words = [*PROGRAM, *shlex.split(here.command)[1:]]
        env = {**os.environ, "SSH_AUTH_SOCK": str(new.socket)}
        done = pexpect.run(shlex.join(words), timeout=60, withexitstatus=True, env=env)
        assert done[1] == 0, done[0]
        here.wait()
        here.finish()
        assert here.way_in.logins() == [2, 2]


# -- a certificate --------------------------------------------------------------------------------


def test_a_certificate_that_ends_during_a_wait(chain: Chain, cold: Path, tmp_path: Path) -> None:
    key = tmp_path / "certified"
    make_key(key, "certified")

    def certify(seconds: int) -> None:
        subprocess.run(
            ["ssh-keygen", "-q", "-s", str(chain.authority), "-I", "me", "-n", "hpcalice",
             "-V", f"-1m:+{seconds}s", f"{key}.pub"],
            check=True, timeout=30, capture_output=True,
        )  # fmt: skip

    keys = {"bastion": [f'IdentityFile "{key}"', "IdentityAgent none"]}
    with stay(chain, WAY, cold, tmp_path, keys=keys) as here:
        over = until_over(certify, here.works)
        here.open()
        time.sleep(max(0.0, over - time.monotonic()))
        here.works()
        here.goes_on()
        dials = here.way_in.dials()
        here.kill_master()
        error = here.refused(errors.AuthenticationFailed)
        assert "the jump host bastion: hpcalice@10.88.1.1 was refused" in str(error)
        assert f"The certificate {key}-cert.pub expired on " in str(error)
        assert here.way_in.dials() == [dials[0] + 1, dials[1]]
        certify(3600)
        here.wait()
        here.finish()
        assert here.way_in.dials() == [dials[0] + 2, dials[1] + 1]


# -- a passphrase ---------------------------------------------------------------------------------


@pytest.mark.parametrize("locked", ["bastion", "login"])
def test_a_key_with_a_passphrase_that_was_not_added(
    chain: Chain, cold: Path, tmp_path: Path, locked: str
) -> None:
    key = tmp_path / "locked"
    key.write_bytes(chain.key.read_bytes())
    key.chmod(0o600)
    words = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-a", "1", "-f", str(key)]
    subprocess.run(words, check=True, timeout=30, stdin=subprocess.DEVNULL, capture_output=True)
    asked: list[Prompt] = []

    def person(prompt: Prompt) -> str:
        asked.append(prompt)
        return "open sesame"

    keys = {locked: [f'IdentityFile "{key}"', "IdentitiesOnly yes", "IdentityAgent none"]}
    with stay(chain, WAY, cold, tmp_path, keys=keys) as here:
        once = _refused_at_first(here, key, locked)
        log_in(here.way_in, person)
        assert [prompt.kind for prompt in asked] == ["passphrase"]
        here.open()
        here.kill_master()
        error = here.refused(errors.AuthenticationNeeded)
        assert "needed a person to answer (passphrase)" in str(error)
        assert here.way_in.dials() == [once[0] + 1, once[1] + 1]
        log_in(here.way_in, person)
        here.wait()
        here.finish()
        assert here.way_in.dials() == [once[0] + 2, once[1] + 2]


def _refused_at_first(here: Stay, key: Path, locked: str) -> list[int]:
    for _ in range(2):
        with pytest.raises(errors.AuthenticationNeeded) as caught:
            here.works()
        assert f"The key {key} has a passphrase and is not in the agent." in str(caught.value)
        assert here.command in str(caught.value)
        assert ("the jump host bastion" in str(caught.value)) == (locked == "bastion")
    once = [1, int(locked == "login")]
    assert here.way_in.dials() == once
    return once
