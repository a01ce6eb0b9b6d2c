"""Which logins are allowed, and when, after one that needed a person: counted at the server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection, errors
from openssh_jobs.openssh.prompts import Prompt
from tests.cli import program
from tests.lab import parts
from tests.lab.agent import Agent
from tests.lab.interactive import MakeServer, config_of, password

SECRET = "correct horse Batterie 9"


# -- nobody dials again -------------------------------------------------------------------------

ONE_TRY = """\
import sys
from openssh_jobs import Connection, errors
sys.stdin.readline()
try:
    Connection(sys.argv[2], ssh_config=sys.argv[1]).open()
except errors.ConnectError as error:
    print(type(error).__name__, error)
else:
    print("in")
"""


def many_tries(config: str, alias: str, number: int) -> list[str]:
    """So many processes that start to open at the same instant; what each of them says."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_TRY, config, alias],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(number)
    ]
    time.sleep(1.0)  # all of them wait for the line
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    return [child.communicate(timeout=60)[0].strip() for child in children]


def test_twelve_processes_that_would_be_asked_dial_once(cold: Path, asking: MakeServer) -> None:
    host = asking(steps=[password(SECRET)])
    config = config_of(cold, host)
    said = many_tries(config, "asks", 12)
    assert len(said) == 12
    for line in said:
        assert line.startswith("AuthenticationNeeded asks: ")
        assert f"openssh-jobs login -F {config} asks" in line
    assert host.counts["connections"] == 1
    assert sum("not tried again" in line for line in said) == 11


def test_a_jump_host_that_asks_is_dialed_once_too(cold: Path, asking: MakeServer) -> None:
    gate = asking("gate", steps=[password(SECRET)], address="127.0.0.2")
    host = asking("asks", password_right=SECRET)
    path = cold.parent / "config"
    path.write_text(gate.config() + host.config("ProxyJump gate"))
    for line in many_tries(str(path), "asks", 3):
        kind, _, text = line.partition(" ")
        assert kind == "AuthenticationNeeded"
        assert text.startswith("asks: the jump host gate (alice@127.0.0.2) asks")
    assert (gate.counts["connections"], host.counts["connections"]) == (1, 0)


def test_after_a_login_that_needed_a_person_no_program_tries(
    cold: Path, asking: MakeServer
) -> None:
    host = asking(steps=[password(SECRET)])
    config = config_of(cold, host)
    connection = Connection("asks", ssh_config=config, responder=lambda prompt: SECRET)
    master = connection.open().check().master
    assert master is not None
    alone = Connection("asks", ssh_config=config)
    assert alone.run("echo rides along").stdout == "rides along\n"
    alone.close()
    connection.close()
    os.kill(master, signal.SIGKILL)
    for _ in range(3):
        with pytest.raises(
            errors.AuthenticationNeeded, match="needed a person to answer"
        ) as caught:
            Connection("asks", ssh_config=config).open()
        assert caught.value.sent == "no"
        assert "openssh-jobs login" in str(caught.value)
    assert host.counts["connections"] == 1
    connection.reconnect()
    assert host.counts["connections"] == host.logins == 2
    connection.close(stop_master=True)


def test_a_responder_that_is_wrong_stops_before_the_account_is_locked(
    cold: Path, asking: MakeServer
) -> None:
    host = asking(password_right=SECRET)
    config = config_of(cold, host)
    asked: list[Prompt] = []

    def wrong(prompt: Prompt) -> str:
        asked.append(prompt)
        return "wrong"

    for _ in range(6):
        with pytest.raises(errors.AuthenticationFailed):
            Connection("asks", ssh_config=config, responder=wrong).open()
    assert len(asked) == host.counts["wrong 1"] == host.counts["connections"] == 3


def make_key(path: Path, passphrase: str = "") -> Path:
    path.unlink(missing_ok=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-a", "1", "-f", str(path)],
        check=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )
    return path


def test_changed_keys_are_tried(cold: Path, asking: MakeServer, tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    right = make_key(tmp_path / "right")
    host = asking(keys=[right.with_name("right.pub").read_text()])
    path = cold.parent / "config"
    path.write_text(host.config(f'IdentityFile "{key}"', "IdentitiesOnly yes"))
    for _ in range(2):
        with pytest.raises(errors.AuthenticationFailed):
            Connection("asks", ssh_config=path).open()
    assert host.counts["connections"] == 1
    os.replace(right, key)
    os.replace(right.with_name("right.pub"), key.with_name("key.pub"))
    connection = Connection("asks", ssh_config=path).open()
    assert host.counts["connections"] == 2
    connection.close(stop_master=True)


def test_a_locked_key_says_so_and_is_tried_once_it_is_in_the_agent(
    cold: Path, asking: MakeServer, tmp_path: Path
) -> None:
    key = make_key(tmp_path / "locked", SECRET)
    host = asking(keys=[key.with_name("locked.pub").read_text()])
    agent = Agent(cold.parent / "a")
    agent.start()
    try:
        path = cold.parent / "config"
        own = [f'IdentityFile "{key}"', f'IdentityAgent "{agent.socket}"']
        path.write_text(host.config(*own))
        for _ in range(2):
            with pytest.raises(errors.AuthenticationNeeded) as caught:
                Connection("asks", ssh_config=path).open()
            assert f"The key {key} has a passphrase and is not in the agent." in str(caught.value)
        assert host.counts["connections"] == 1
        unlocked = tmp_path / "unlocked"
        unlocked.write_bytes(key.read_bytes())
        unlocked.chmod(0o600)
        subprocess.run(
            ["ssh-keygen", "-q", "-p", "-P", SECRET, "-N", "", "-f", unlocked],
            check=True,
            timeout=30,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        agent.add(unlocked)
        connection = Connection("asks", ssh_config=path).open()
        assert host.counts["connections"] == 2
        connection.close(stop_master=True)
    finally:
        agent.stop()


def test_an_expired_certificate_is_named_with_its_date(
    cold: Path, make_sshd: Any, tmp_path: Path
) -> None:
    ca, key = make_key(tmp_path / "ca"), make_key(tmp_path / "key")
    host = make_sshd(
        config_extra=f'TrustedUserCAKeys "{ca}.pub"\nAuthorizedPrincipalsFile none',
    )
    for_a_month = ["-V", "20240101000000:20240203040500"]
    subprocess.run(
        ["ssh-keygen", "-q", "-s", ca, "-I", "me", "-n", host.user, *for_a_month, f"{key}.pub"],
        check=True,
        timeout=30,
        capture_output=True,
    )
    path = cold.parent / "config"
    text = host.config.read_text()
    path.write_text(text.replace(str(host.server.identity), str(key)))
    with pytest.raises(errors.AuthenticationFailed) as caught:
        Connection(host.alias, ssh_config=path).open()
    assert f"{key}-cert.pub expired on 2024-02-03 at 04:05." in str(caught.value)
    assert host.logins() == 0


def test_an_unknown_host_key_is_no_refusal(cold: Path, asking: MakeServer) -> None:
    host = asking(password_right=SECRET)
    path = cold.parent / "config"
    path.write_text(host.config(known=False))
    with pytest.raises(errors.HostKeyUnknown, match=r"openssh-jobs login -F .*config asks"):
        Connection("asks", ssh_config=path).open()
    path.write_text(host.config())
    with pytest.raises(errors.AuthenticationNeeded):
        Connection("asks", ssh_config=path).open()


# -- the budget ---------------------------------------------------------------------------------


def test_the_budget_of_logins_holds_across_processes(
    cold: Path, make_sshd: Any, expect_logins: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_logins(4)
    host = make_sshd()
    settings = cold.parent / "servers.toml"
    settings.write_text(f"[servers.{host.alias}]\ndials_per_hour = 3\n")
    monkeypatch.setenv("OPENSSH_JOBS_CONFIG", str(settings))
    for _ in range(3):
        assert many_tries(str(host.config), host.alias, 2) == ["in", "in"]
        (master,) = program("login", "--json").data["connections"]
        os.kill(master["pid"], signal.SIGKILL)
    for line in many_tries(str(host.config), host.alias, 3):
        assert line.startswith("Throttled ")
        assert "3 logins were begun within the last hour" in line
        assert "openssh-jobs login" in line
    assert host.logins() == 3
    # Who asks for it gets it, and a program that rides along is not in the way.
    connection = Connection(host.alias, ssh_config=host.config)
    connection.reconnect()
    assert many_tries(str(host.config), host.alias, 2) == ["in", "in"]
    connection.close(stop_master=True)


def test_a_setting_that_makes_no_sense_is_refused(
    cold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = cold.parent / "servers.toml"
    monkeypatch.setenv("OPENSSH_JOBS_CONFIG", str(settings))
    for value in ("0", "true", '"many"', "1.5"):
        settings.write_text(f"[servers.x]\ndials_per_hour = {value}\n")
        with pytest.raises(errors.ConfigurationError, match="dials_per_hour of x"):
            Connection("x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "\0",
        '{"dials": 3, "refused": 5}',
        '{"refused": {"kind": "SystemExit"}}',
        '{"dials": [NaN]}',
        '{"dials": [1e400]}',
        f'{{"wrong": [{"9" * 400}]}}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:12],
)
def test_a_record_that_is_no_record_allows_no_login(
    cold: Path, asking: MakeServer, text: str
) -> None:
    host = asking(password_right=SECRET)
    config = config_of(cold, host)
    with pytest.raises(errors.AuthenticationNeeded):
        Connection("asks", ssh_config=config).open()
    (path,) = cold.glob("*.dials")
    path.write_text(text)
    for responder in (None, lambda prompt: SECRET):
        with pytest.raises(errors.ConnectError, match="cannot be read") as caught:
            Connection("asks", ssh_config=config, responder=responder).open()
        assert str(path) in str(caught.value)
        assert "openssh-jobs login" in str(caught.value)
    assert host.counts["connections"] == 1
    connection = Connection("asks", ssh_config=config, responder=lambda prompt: SECRET)
    connection.reconnect()
    assert host.logins == 1
    assert json.loads(path.read_text())["refused"]["kind"] == "AuthenticationNeeded"
    connection.close(stop_master=True)


def test_a_record_that_cannot_be_written_allows_no_login(cold: Path, asking: MakeServer) -> None:
    """A real full disk under the sockets."""
    parts.require_namespaces("a full disk")
    host = asking(password_right=SECRET)
    config = config_of(cold, host)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", cold], check=True, timeout=20
    )
    try:
        with contextlib.suppress(OSError), (cold / "full").open("wb", buffering=0) as full:
            while full.write(b"x" * 4096):
                pass
        for responder in (None, lambda prompt: "wrong"):
            with pytest.raises(errors.ConnectError, match=r"written \(No space") as caught:
                Connection("asks", ssh_config=config, responder=responder).open()
            assert ".dials" in str(caught.value)
        assert host.counts["connections"] == 0
    finally:
        subprocess.run(["umount", cold], check=True, timeout=20)
