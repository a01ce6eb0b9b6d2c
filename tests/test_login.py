"""``login``, ``logout``, ``masters``, and who may dial when: counted at the server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest

from openssh_jobs import Connection, errors
from openssh_jobs.openssh.prompts import Prompt
from tests.cli import PROGRAM, program
from tests.real import pam, parts
from tests.real.agent import Agent
from tests.real.interactive import InteractiveServer, MakeServer, code, duo, password

SECRET = "correct horse Batterie 9"
CODE = "493817"


def config_of(cold: Path, *servers: InteractiveServer, extra: str = "") -> str:
    path = cold.parent / "config"
    path.write_text("".join(server.config() for server in servers) + extra)
    return str(path)


class Terminal:
    """``openssh-jobs`` with a person at a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self.seen = cold_log()
        self.child: Any = pexpect.spawn(
            PROGRAM[0], [*PROGRAM[1:], *words], timeout=30, encoding="utf-8", dimensions=(24, 200)
        )
        self.child.logfile_read = self.seen

    def answer(self, question: str, text: str) -> None:
        self.child.expect_exact(question)
        time.sleep(0.1)
        self.child.sendline(text)

    def end(self) -> int:
        self.child.expect(pexpect.EOF)
        self.child.close()
        return int(self.child.exitstatus)


def cold_log() -> Any:
    import io

    return io.StringIO()


def logout(config: str, alias: str = "asks") -> None:
    done = program("logout", "-F", config, alias)
    assert (done.code, done.out) == (0, f"{alias}: logged out.\n")


# -- the command --------------------------------------------------------------------------------


def test_a_login_with_a_person_at_the_terminal(cold: Path, asking: MakeServer) -> None:
    host = asking(steps=[password(SECRET), code(CODE), duo("2")])
    config = config_of(cold, host)
    terminal = Terminal("login", "-F", config, "asks")
    terminal.answer("(alice@127.0.0.1) Password: ", SECRET)
    terminal.answer("(alice@127.0.0.1) Verification code: ", CODE)
    terminal.child.expect_exact("2. Phone call to XXX-XXX-1234")
    terminal.answer("Passcode or option (1-2): ", "2")
    assert terminal.end() == 0
    said = terminal.seen.getvalue()
    assert "asks: logged in; the connection stays 12 h after its last use." in said
    assert SECRET not in said
    assert CODE not in said

    assert program("exec", "-F", config, "asks", "--", "echo", "there").out == "there\n"
    (master,) = program("masters", "--json").data["masters"]
    assert master["host"] == "asks"
    assert master["route"] == f"alice@127.0.0.1:{host.port}"
    assert master["persist"] == 12 * 3600
    assert master["ours"] is True
    (row,) = program("masters").out.splitlines()[1:]
    for text in ("asks", str(master["pid"]), "12 h", "ours", master["socket"]):
        assert text in row

    again = Terminal("login", "-F", config, "asks")
    assert again.end() == 0
    assert f"asks: you are logged in already (master {master['pid']})." in again.seen.getvalue()
    logout(config)
    assert program("logout", "-F", config, "asks").out == "asks: there was no connection.\n"
    assert program("masters", "--json").data == {"masters": []}
    assert host.counts["connections"] == host.logins == 1


def test_without_a_terminal_there_is_a_sentence(cold: Path, asking: MakeServer) -> None:
    host = asking(password_right=SECRET)
    config = config_of(cold, host)
    done = subprocess.run(
        [*PROGRAM, "login", "-F", config, "asks"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        start_new_session=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "there is no terminal here" in line
    assert f"openssh-jobs login -F {config} asks" in line
    assert host.counts["connections"] == 0


def test_ctrl_c_at_the_question_leaves_nothing(cold: Path, asking: MakeServer) -> None:
    host = asking(password_right=SECRET)
    terminal = Terminal("login", "-F", config_of(cold, host), "asks")
    terminal.child.expect_exact("password: ")
    terminal.child.sendintr()
    assert terminal.end() == 130
    assert program("masters", "--json").data == {"masters": []}
    assert host.logins == 0


def test_a_wrong_password_is_typed_once(cold: Path, asking: MakeServer) -> None:
    host = asking(steps=[password(SECRET)])
    config = config_of(cold, host)
    terminal = Terminal("login", "-F", config, "asks")
    terminal.answer("Password: ", "wrong-" + SECRET)
    assert terminal.end() == 3
    assert host.counts == {"connections": 1, "asked 1": 1, "wrong 1": 1}
    assert "A wrong answer is not tried again" in terminal.seen.getvalue()
    # Programs do not try at all now...
    done = program("exec", "-F", config, "asks", "--", "true")
    assert done.code == 3
    assert "not tried again" in done.sentence()
    assert host.counts["connections"] == 1
    # ...and a person may.
    terminal = Terminal("login", "-F", config, "asks")
    terminal.answer("Password: ", SECRET)
    assert terminal.end() == 0
    logout(config)
    assert host.counts["connections"] == 2


def test_a_master_of_the_users_own_is_left_alone(
    cold: Path, make_sshd: Any, expect_logins: Any
) -> None:
    expect_logins(1)
    host = make_sshd()
    own = cold.parent / "own"
    config = cold.parent / "config"
    config.write_text(host.config.read_text() + f"    ControlPath {own}\n")
    subprocess.run(
        ["ssh", "-F", str(config), "-M", "-N", "-f", "-o", "ControlPersist=60", host.alias],
        check=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        done = program("logout", "-F", str(config), host.alias)
        assert done.code == 1
        assert "is your own" in done.sentence()
        assert "was left alone" in done.sentence()
        assert program("exec", "-F", str(config), host.alias, "--", "echo", "on").out == "on\n"
        (master,) = program("masters", "-F", str(config), host.alias, "--json").data["masters"]
        assert (master["ours"], master["socket"]) == (False, str(own))
        terminal = Terminal("login", "-F", str(config), host.alias)
        assert terminal.end() == 0
        assert "logged in already on a master of your own" in terminal.seen.getvalue()
    finally:
        subprocess.run(
            ["ssh", "-F", str(config), "-O", "exit", host.alias],
            check=True,
            timeout=30,
            capture_output=True,
        )


def test_logout_lets_what_runs_end(cold: Path, make_sshd: Any, expect_logins: Any) -> None:
    expect_logins(1)
    host = make_sshd()
    running = subprocess.Popen(
        [*PROGRAM, "exec", "-F", host.config, host.alias, "--", "sh", "-c", "sleep 2; echo whole"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 20
    while not any(one["sessions"] for one in program("masters", "--json").data["masters"]):
        assert time.monotonic() < deadline
    logout(str(host.config), host.alias)
    assert running.communicate(timeout=20)[0] == "whole\n"
    assert running.returncode == 0


# -- no secret anywhere -------------------------------------------------------------------------


def test_no_secret_is_in_a_process_list_an_environment_or_a_file(
    cold: Path, asking: MakeServer
) -> None:
    host = asking(steps=[password(SECRET), code(CODE)])
    config = config_of(cold, host)
    terminal = Terminal("login", "--debug", "-F", config, "asks")
    terminal.answer("Password: ", SECRET)
    terminal.child.expect_exact("Verification code: ")
    found = processes_with(SECRET.encode())  # the password is on its way, the login not over
    terminal.child.sendline(CODE)
    assert terminal.end() == 0
    found += processes_with(SECRET.encode()) + processes_with(CODE.encode())
    assert found == []
    assert SECRET not in terminal.seen.getvalue()
    searched = [path for path in cold.parent.rglob("*") if path.is_file()]
    assert any(path.suffix == ".json" for path in searched)
    assert any(path.suffix == ".dials" for path in searched)
    for path in searched:
        text = path.read_bytes()
        assert SECRET.encode() not in text, path
        assert CODE.encode() not in text, path
    logout(config)


def processes_with(secret: bytes) -> list[str]:
    """Command lines and environments that hold a secret, of all processes that may be read."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        for part in ("cmdline", "environ"):
            try:
                text = Path(f"/proc/{name}/{part}").read_bytes()
            except OSError:
                continue
            if secret in text:
                found.append(f"{name} {part}")
    return found


def test_the_search_for_secrets_finds_one() -> None:
    child = subprocess.Popen(["sleep", "20"], env={"LEAK": SECRET})
    try:
        deadline = time.monotonic() + 5
        while not processes_with(SECRET.encode()):
            assert time.monotonic() < deadline
        assert processes_with(SECRET.encode()) == [f"{child.pid} environ"]
    finally:
        child.kill()
        child.wait(10)


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
        assert line.startswith("AuthenticationNeeded asks: the jump host (alice@127.0.0.2) asks")
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
            errors.AuthenticationNeeded, match="needed somebody to answer"
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


def test_an_unknown_host_key_is_nobodys_refusal(cold: Path, asking: MakeServer) -> None:
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
        (master,) = program("masters", "--json").data["masters"]
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


def test_a_record_that_is_no_record_counts_as_none(cold: Path, asking: MakeServer) -> None:
    host = asking(steps=[password(SECRET)])
    config = config_of(cold, host)
    for text in ("", "[]", '{"dials": 3, "refused": 5}', '{"refused": {"kind": "SystemExit"}}'):
        for path in cold.glob("*.dials"):
            path.write_text(text)
        with pytest.raises(errors.AuthenticationNeeded):
            Connection("asks", ssh_config=config).open()
    assert host.counts["connections"] == 4
    (path,) = cold.glob("*.dials")
    assert json.loads(path.read_text())["refused"]["kind"] == "AuthenticationNeeded"


# -- a real second factor -----------------------------------------------------------------------


def test_a_real_second_factor_with_pam(
    cold: Path, make_sshd: Any, expect_logins: Callable[..., None]
) -> None:
    parts.require("second factor")
    parts.require_namespaces("PAM with a second factor")
    expect_logins(1)
    host = make_sshd(config_extra=pam.SSHD)
    pam.set_up(cold.parent / "pam", host.user, SECRET)
    config = cold.parent / "config"
    text = host.config.read_text().replace("PreferredAuthentications publickey", "")
    config.write_text(text)
    used = pam.code()
    asked: list[Prompt] = []

    def person(prompt: Prompt) -> str | None:
        asked.append(prompt)
        return {"password": SECRET, "code": used}.get(prompt.kind)

    connection = Connection(host.alias, ssh_config=config, responder=person)
    assert connection.run("id -un").stdout == f"{host.user}\n"
    assert [(one.kind.value, one.host) for one in asked] == [
        ("password", "127.0.0.1"),
        ("code", "127.0.0.1"),
    ]
    for _ in range(3):  # all of these ride along
        done = program("exec", "-F", str(config), host.alias, "--", "echo", "there")
        assert done.out == "there\n"
    connection.close(stop_master=True)

    # The same code again is refused by the server, and tried once.
    with pytest.raises(errors.AuthenticationFailed) as caught:
        Connection(host.alias, ssh_config=config, responder=person).open()
    assert [one.kind.value for one in asked[2:]] == ["password", "code"]
    assert used not in repr(caught.value) + str(vars(caught.value))
    assert SECRET not in repr(caught.value) + str(vars(caught.value))
    # And who is not asked does not even begin.
    with pytest.raises(errors.AuthenticationFailed, match="not tried again"):
        Connection(host.alias, ssh_config=config).open()
    assert host.logins() == 1
