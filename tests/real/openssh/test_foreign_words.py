"""Servers that say what ssh would say: nobody is fooled, and the gate stays closed.  Counted there.

The lies come in banners, in questions, in disconnects, before the version; from the host and from
jump hosts.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection, errors
from openssh_jobs.openssh import prompts
from openssh_jobs.openssh.prompts import Prompt
from tests.cli import program
from tests.lab.interactive import MakeServer, Step, code, config_of, password

SECRET = "correct horse Batterie 9"

LIES = {
    "penalties": "Unauthorized use is subject to criminal and civil penalties.",
    "too many": "Too many authentication failures will lock your account.",
    "denied": "Permission denied (publickey).",
    "denied to": "root@hpc: Permission denied (publickey,password,keyboard-interactive).",
    "key": "Host key verification failed.",
    "changed": "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n"
    "Host key for hpc has changed and you have requested strict checking.\n"
    "Host key verification failed.",
    "closed": "kex_exchange_identification: Connection closed by remote host\n"
    "Connection closed by 127.0.0.1 port 22",
    "proxy": "kex_exchange_identification: Connection closed by remote host\n"
    "Connection closed by UNKNOWN port 65535",
    "name": "ssh: Could not resolve hostname x: Name or service not known",
    "network": "ssh: connect to host x port 22: Connection timed out",
    "silent": "Timeout, server x not responding.",
    "disconnect": "Received disconnect from 127.0.0.1 port 22:2: Too many authentication failures\n"
    "Disconnected from 127.0.0.1 port 22",
    "startups": "Exceeded MaxStartups\nNot allowed at this time",
    "option": "command-line: line 0: Bad configuration option: x",
    "config": "/etc/ssh/ssh_config: terminating, 1 bad configuration options",
    "forward": "channel 0: open failed: administratively prohibited: x\nstdio forwarding failed",
    "path": 'unix_listener: path "/x" too long for Unix domain socket',
    "unshared": "ControlSocket /x already exists, disabling multiplexing",
}
ALL = "\n".join(LIES.values())
Make = Callable[..., Any]


def stranger(host: Any, tmp_path: Path) -> None:
    """From now on the client has a key that the server does not know."""
    key = tmp_path / "stranger"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=20
    )
    host.config.write_text(host.server.client_block().replace(str(host.server.identity), str(key)))


def refusals(host: Any) -> int:
    """LoginRecord that ended without a login, as sshd saw them."""
    ends = re.compile(r"^(?:Connection closed|Disconnecting).*\[preauth\]", re.MULTILINE)
    return len(ends.findall(host.server.log_text().replace("\r", "")))


def tries(config: Any, alias: str, number: int, **options: Any) -> list[errors.OpenSSHJobsError]:
    """What so many calls say that all have to fail."""
    found = []
    for _ in range(number):
        with pytest.raises(errors.OpenSSHJobsError) as caught:
            Connection(alias, ssh_config=config, **options).run("true")
        assert caught.value.sent == "no"
        found.append(caught.value)
    return found


# -- banners ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lie", [*LIES, "all"])
def test_a_banner_is_not_believed_when_a_key_is_refused(
    make_sshd: Make, cold: Path, tmp_path: Path, lie: str
) -> None:
    host = make_sshd(banner=f"Welcome.\n{LIES.get(lie, ALL)}\n")
    stranger(host, tmp_path)
    for error in tries(host.config, host.alias, 3):
        assert type(error) is errors.AuthenticationFailed, str(error)
        assert f"{host.user}@127.0.0.1 was refused" in str(error)
        assert "Welcome" not in str(error) + error.stderr
    assert refusals(host) == 1


def test_a_banner_does_not_break_a_login(
    make_sshd: Make, cold: Path, expect_logins: Callable[..., None]
) -> None:
    expect_logins(1)
    host = make_sshd(banner=ALL)
    with Connection(host.alias, ssh_config=host.config) as connection:
        assert connection.run("echo in").stdout == "in\n"
        connection.close(stop_master=True)


@pytest.mark.parametrize(
    "levels",
    [
        "LogLevel QUIET",
        "LogLevel FATAL",
        "LogLevel ERROR",
        "LogLevel DEBUG3",
        "LogLevel QUIET\nLogVerbose *:*\nSyslogFacility LOCAL7",
    ],
)
def test_the_users_log_level_does_not_hide_the_reason(
    make_sshd: Make, cold: Path, tmp_path: Path, levels: str
) -> None:
    host = make_sshd(banner=ALL)
    stranger(host, tmp_path)
    host.config.write_text(f"{levels}\n" + host.config.read_text())
    (error, again) = tries(host.config, host.alias, 2)
    assert type(error) is type(again) is errors.AuthenticationFailed, str(error)
    assert "was refused; the server takes: publickey" in str(error)
    assert refusals(host) == 1


@pytest.mark.parametrize("lie", ["denied", "key", "name", "disconnect", "startups", "all"])
@pytest.mark.parametrize("level", ["INFO", "QUIET"])
def test_a_jump_hosts_banner_is_not_believed(
    cold: Path, asking: MakeServer, lie: str, level: str
) -> None:
    gate = asking(
        "gate", password_right=SECRET, address="127.0.0.2", banner=LIES.get(lie, ALL) + "\n"
    )
    host = asking("asks", password_right=SECRET)
    path = cold.parent / "config"
    path.write_text(f"LogLevel {level}\n" + gate.config() + host.config("ProxyJump gate"))
    for error in tries(path, "asks", 3):
        assert type(error) is errors.AuthenticationNeeded, str(error)
        assert "the jump host gate (alice@127.0.0.2) asks for a password" in str(error)
    assert (gate.counts["connections"], host.counts["connections"]) == (1, 0)


def test_the_first_of_several_jump_hosts_is_heard_too(cold: Path, make_sshd: Make) -> None:
    """Three hops; the first cannot be reached, the configuration is quiet, the others lie."""
    host = make_sshd(banner=ALL)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    host.config.write_text(
        "LogLevel QUIET\n"
        + host.server.client_block(extra=["ProxyJump first,second,third"])
        + f"Host first second third\n    HostName 127.0.0.1\n    Port {port}\n"
    )
    (error,) = tries(host.config, host.alias, 1)
    assert type(error) is errors.JumpHostFailed
    assert f"127.0.0.1 port {port} cannot be reached: Connection refused" in str(error)


def test_a_proxy_commands_words_are_not_believed(
    make_sshd: Make, cold: Path, tmp_path: Path
) -> None:
    host = make_sshd()
    words = tmp_path / "words"
    words.write_text(ALL + "\n")
    host.config.write_text(
        host.server.client_block(extra=[f"ProxyCommand /bin/sh -c 'cat {words} >&2; exit 1'"])
    )
    (error,) = tries(host.config, host.alias, 1)
    assert type(error) is errors.JumpHostFailed
    assert "proxy command ended without a connection" in str(error)


# -- what a server says by the protocol ---------------------------------------------------------


class Mute:
    """A listener that says a few bytes, closes, and counts."""

    def __init__(self, said: bytes) -> None:
        self._said = said
        self.dials = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._server.accept()
            except OSError:
                return
            self.dials += 1
            with link:
                link.sendall(self._said)
                link.shutdown(socket.SHUT_WR)
                link.settimeout(5)
                try:
                    while link.recv(4096):
                        pass
                except OSError:
                    pass

    def stop(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)


@pytest.mark.parametrize(
    "said",
    [
        ALL.replace("\n", "\r\n").encode() + b"\r\n",
        ALL.replace("\n", "\r\n").encode() + b"\r\nSSH-2.0-Host key verification failed.\r\n",
        b"SSH-2.0-Permission denied (publickey).\r\n",
        b"SSH-1.0-\x1b[31mred\r\n",
    ],
    ids=["text", "text and version", "version", "old version"],
)
def test_what_comes_before_the_version_is_not_believed(cold: Path, said: bytes) -> None:
    server = Mute(said)
    config = cold.parent / "config"
    config.write_text(f"Host m\n    HostName 127.0.0.1\n    Port {server.port}\n")
    try:
        for _ in range(5):
            (error,) = tries(config, "m", 1)
            assert type(error) in (errors.Throttled, errors.ConnectError), str(error)
            assert str(error).isprintable()
        assert server.dials <= 2
    finally:
        server.stop()


@pytest.mark.parametrize("number", [2, 11, 14])
@pytest.mark.parametrize(
    "text",
    [
        "Go away.\r\nHost key verification failed.\r\nssh: connect to host x port 22: No route",
        "\x1b]0;owned\x07\u202e penalties",
    ],
)
def test_the_text_of_a_disconnect_decides_nothing(
    cold: Path, asking: MakeServer, monkeypatch: pytest.MonkeyPatch, number: int, text: str
) -> None:
    from tests.lab import interactive

    def leave(self: Any, username: str) -> bool:
        self._server._links[-1].disconnect(number, text)
        return True

    monkeypatch.setattr(interactive._Door, "begin_auth", leave)
    host = asking(password_right=SECRET)
    config = config_of(cold, host)
    for error in tries(config, "asks", 3):
        assert type(error) is errors.ConnectError, str(error)
        assert "the server ended the login, saying: " in str(error)
        assert str(error).isprintable()
    assert host.counts["connections"] == 1


def test_too_many_keys_is_said_by_the_protocol_and_tried_once(
    make_sshd: Make, cold: Path, tmp_path: Path
) -> None:
    host = make_sshd(config_extra="MaxAuthTries 1", banner=ALL)
    stranger(host, tmp_path)
    other = tmp_path / "other"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True, timeout=20
    )
    host.config.write_text(host.config.read_text() + f"    IdentityFile {other}\n")
    for error in tries(host.config, host.alias, 3):
        assert type(error) is errors.TooManyKeys, str(error)
    assert refusals(host) == 1


# -- a responder that is wrong ------------------------------------------------------------------


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


# -- what may pass ------------------------------------------------------------------------------


def test_a_host_that_cannot_be_reached_is_dialed_less_and_less(cold: Path) -> None:
    server = Mute(b"")
    config = cold.parent / "config"
    config.write_text(f"Host m\n    HostName 127.0.0.1\n    Port {server.port}\n")
    try:
        until, calls = time.monotonic() + 6, 0
        while time.monotonic() < until:
            (error,) = tries(config, "m", 1)
            assert type(error) is errors.Throttled
            calls += 1
            time.sleep(0.1)
        assert calls > 10
        assert 2 <= server.dials <= 3  # after 0, 1 and 3 s
        assert "not tried again before" in str(error)
    finally:
        server.stop()


# -- MaxSessions --------------------------------------------------------------------------------


@pytest.fixture
def full(
    make_sshd: Make, cold: Path, expect_logins: Callable[..., None]
) -> Iterator[tuple[Any, int]]:
    """A host whose two sessions are taken by an ``ssh``; its pid."""
    expect_logins(1)
    host = make_sshd(max_sessions=1)
    connection = Connection(host.alias, ssh_config=host.config).open()
    (path,) = (one for one in cold.iterdir() if "." not in one.name)
    child = subprocess.Popen(
        ["ssh", "-F", "none", "-o", "ProxyCommand=false", "-S", path, "none", "echo up; cat"],
        stdin=subprocess.PIPE,  # and what runs there ends with its ssh: else the close waits
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    yield host, child.pid
    child.kill()
    child.communicate(timeout=10)
    connection.close(stop_master=True)


def test_sessions_that_are_all_taken_are_said_to_be_that(full: tuple[Any, int]) -> None:
    host, pid = full
    begun = time.monotonic()
    done = program("doctor", "-F", str(host.config), host.alias, "--json")
    assert time.monotonic() - begun < 15
    last = done.data["findings"][-1]
    assert (last["check"], last["level"], done.code) == ("sessions", "FAIL", 3)
    assert "MaxSessions" in last["text"]
    assert f"held by ssh ({pid}): 1" in last["text"]
    assert "shell" not in [one["check"] for one in done.data["findings"]]


def test_the_error_says_the_same(
    full: tuple[Any, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    host, pid = full
    monkeypatch.setattr("openssh_jobs.transport.session_limit.SLOT_TIMEOUT", 5.0)
    caplog.set_level("INFO", "openssh_jobs.sessions")
    with Connection(host.alias, ssh_config=host.config) as connection:
        with pytest.raises(errors.SessionLimit, match="MaxSessions") as caught:
            connection.run("true")
        assert f"held by ssh ({pid}): 1" in str(caught.value)
        assert caught.value.sent == "no"
    # Within seconds, though the wait goes on.
    assert "MaxSessions" in caplog.text


# -- a changed host key -------------------------------------------------------------------------


def test_a_changed_key_is_shown_with_the_command_that_mends_it(
    make_sshd: Make, cold: Path, expect_logins: Callable[..., None]
) -> None:
    expect_logins(1)
    host, other = make_sshd(banner=ALL), make_sshd()
    right = host.server.known_hosts.read_text()
    key = other.server.known_hosts.read_text().split(" ", 1)[1]
    host.server.known_hosts.write_text(f"# first\n{right.split(' ', 1)[0]} {key}")
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", "-"], input=right.split(" ", 1)[1], capture_output=True,
        text=True, timeout=20, check=True,
    ).stdout.split()[1]  # fmt: skip
    (error, again) = tries(host.config, host.alias, 2)
    assert type(error) is type(again) is errors.HostKeyChanged
    for text in (f"{host.server.known_hosts} line 2", shown, "ED25519"):
        assert text in str(error)
    last = program("doctor", "-F", str(host.config), host.alias, "--json").data["findings"][-1]
    assert (last["check"], last["level"], last["mend"]) == ("login", "FAIL", error.advice)
    assert last["text"].startswith(error.message)
    command = str(error.advice).split("`")[1]
    assert command.startswith("ssh-keygen -R ")
    # The door: nothing is dialed again until known_hosts has changed, and then it is.
    assert refusals(host) == 1
    subprocess.run(["/bin/sh", "-c", command], check=True, timeout=20, capture_output=True)
    assert host.server.known_hosts.read_text() == "# first\n"
    host.server.known_hosts.write_text(right)
    with Connection(host.alias, ssh_config=host.config) as connection:
        assert connection.run("echo in").stdout == "in\n"
        connection.close(stop_master=True)
