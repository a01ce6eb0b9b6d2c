"""``login``, ``logout``, and who may dial when: counted at the server."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection, Prompt, errors
from tests.cli import PROGRAM, Terminal, program
from tests.lab import pam, parts
from tests.lab.interactive import MakeServer, code, config_of, duo, password

SECRET = "correct horse Batterie 9"
CODE = "493817"


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

    done = program("exec", "-F", config, "asks", "--", "echo", "there")
    assert done.err == ""
    assert done.out == "there\n"
    (master,) = program("login", "--json").data["connections"]
    assert master["host"] == "asks"
    assert master["route"] == f"alice@127.0.0.1:{host.port}"
    assert master["persist"] == 12 * 3600
    (row,) = program("login").out.splitlines()[1:]
    for text in ("asks", master["route"], "today", "12 h"):
        assert text in row

    again = Terminal("login", "-F", config, "asks")
    assert again.end() == 0
    assert f"asks: you are logged in already (master {master['pid']})." in again.seen.getvalue()
    logout(config)
    assert program("logout", "-F", config, "asks").out == "asks: there was no connection.\n"
    assert program("login", "--json").data == {"connections": []}
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
    assert program("login", "--json").data == {"connections": []}
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
    while not any(master["sessions"] for master in program("login", "--json").data["connections"]):
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
    assert [(prompt.kind.value, prompt.host) for prompt in asked] == [
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
    assert [prompt.kind.value for prompt in asked[2:]] == ["password", "code"]
    assert used not in repr(caught.value) + str(vars(caught.value))
    assert SECRET not in repr(caught.value) + str(vars(caught.value))
    # And who is not asked does not even begin.
    with pytest.raises(errors.AuthenticationFailed, match="not tried again"):
        Connection(host.alias, ssh_config=config).open()
    assert host.logins() == 1
