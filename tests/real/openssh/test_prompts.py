"""Logging in with a responder: every kind of question, asked by real servers."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection, errors
from openssh_jobs.openssh.prompts import Prompt, PromptKind
from tests.lab.interactive import (
    DUO_MENU,
    InteractiveServer,
    MakeServer,
    code,
    duo,
    duo_in_prompt,
    password,
)

SECRET = "correct horse Batterie 9"
CODE = "493817"
_numbers = itertools.count(1)


class Person:
    """A responder with a list of answers by host and kind, who remembers what was asked."""

    def __init__(self, **answers: str | None) -> None:
        self.answers = answers
        self.asked: list[Prompt] = []

    def __call__(self, prompt: Prompt) -> str | None:
        self.asked.append(prompt)
        return self.answers.get(prompt.kind.value)

    @property
    def kinds(self) -> list[str]:
        return [prompt.kind.value for prompt in self.asked]


def write_config(cold: Path, *blocks: str) -> Path:
    path = cold.parent / f"config{next(_numbers)}"
    path.write_text("".join(blocks))
    return path


def log_in(cold: Path, config: Path, alias: str, responder: Any, **options: Any) -> str:
    """Log in, run one command over the link, end the master; returns what the command said."""
    connection = Connection(
        alias, ssh_config=config, responder=responder, connect_timeout=15, **options
    )
    try:
        connection.open()
        assert connection.check()
        return str(connection.run("echo there").stdout)
    finally:
        connection.close(stop_master=True)


# -- each kind, for real ------------------------------------------------------------------------


def test_a_password(cold: Path, asking: MakeServer) -> None:
    host = asking(password_right=SECRET)
    config = write_config(cold, host.config())
    person = Person(password=SECRET)
    assert log_in(cold, config, "asks", person) == "there\n"
    assert person.asked == [
        Prompt(PromptKind.PASSWORD, "alice@127.0.0.1's password: ", "127.0.0.1", False)
    ]
    assert host.counts == {"connections": 1, "logins": 1, "asked 1": 1, "right 1": 1}


def test_a_password_and_a_code(cold: Path, asking: MakeServer) -> None:
    host = asking(steps=[password(SECRET), code(CODE)])
    config = write_config(cold, host.config())
    person = Person(password=SECRET, code=CODE)
    assert log_in(cold, config, "asks", person) == "there\n"
    assert person.kinds == ["password", "code"]
    assert [one.host for one in person.asked] == ["127.0.0.1"] * 2
    assert host.logins == host.counts["connections"] == 1


@pytest.mark.parametrize("step", [duo, duo_in_prompt])
def test_a_menu_is_handed_over_whole(cold: Path, asking: MakeServer, step: Any) -> None:
    host = asking(steps=[password(SECRET), step("1")])
    config = write_config(cold, host.config())
    person = Person(password=SECRET, menu="1")
    assert log_in(cold, config, "asks", person) == "there\n"
    assert person.kinds == ["password", "menu"]
    menu = person.asked[1]
    assert menu.echo
    for line in DUO_MENU.splitlines():
        assert line in menu.text
    assert menu.text.endswith("Passcode or option (1-2): ")
    assert SECRET not in menu.text
    assert host.logins == 1


def test_a_code_that_is_shown_is_no_part_of_what_comes_next(cold: Path, asking: MakeServer) -> None:
    shown = duo(CODE)
    host = asking(steps=[shown, password(SECRET)])
    config = write_config(cold, host.config())
    person = Person(password=SECRET, menu=CODE)
    assert log_in(cold, config, "asks", person) == "there\n"
    assert person.kinds == ["menu", "password"]
    assert CODE not in person.asked[1].text


def test_a_passphrase(cold: Path, asking: MakeServer, tmp_path: Path) -> None:
    key = encrypted_key(tmp_path / "locked")
    host = asking(keys=[key.with_name("locked.pub").read_text()])
    config = write_config(cold, host.config(f'IdentityFile "{key}"', "IdentitiesOnly yes"))
    person = Person(passphrase=SECRET)
    assert log_in(cold, config, "asks", person) == "there\n"
    assert person.kinds == ["passphrase"]
    assert str(key) in person.asked[0].text
    assert person.asked[0].host == "asks"


def encrypted_key(path: Path) -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", SECRET, "-a", "1", "-f", str(path)],
        check=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )
    return path


def test_a_touch_is_asked_for_and_waited_for(cold: Path, asking: MakeServer) -> None:
    """No security key here: a proxy command says on the terminal what ssh says for one."""
    host = asking(password_right=SECRET)
    script = cold.parent / "touch"
    script.write_text(
        "echo 'Confirm user presence for key ED25519-SK SHA256:x' >/dev/tty; sleep 0.3\n"
        f"exec {proxy(cold, host)}\n"
    )
    config = write_config(cold, host.config(f"ProxyCommand sh {script}"))
    person = Person(touch="", password=SECRET)
    assert log_in(cold, config, "asks", person) == "there\n"
    assert person.kinds == ["touch", "password"]


RELAY = """\
import os, signal, socket, sys, threading
signal.signal(signal.SIGHUP, signal.SIG_DFL)
link = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def up():
    while data := os.read(0, 65536):
        link.sendall(data)
    os._exit(0)
threading.Thread(target=up, daemon=True).start()
while data := link.recv(65536):
    os.write(1, data)
"""


def proxy(cold: Path, host: InteractiveServer) -> str:
    """A proxy command that minds SIGHUP, as many do."""
    script = cold.parent / "relay.py"
    script.write_text(RELAY)
    return f"{sys.executable} {script} {host.port}"


def test_masters_outlive_the_terminal_that_they_were_opened_on(
    cold: Path, asking: MakeServer
) -> None:
    """Its end sends SIGHUP to what is in the foreground; that must be nobody of ours."""
    host = asking(password_right=SECRET)
    config = write_config(cold, host.config(f"ProxyCommand {proxy(cold, host)}"))
    for _ in range(6):
        assert log_in(cold, config, "asks", Person(password=SECRET)) == "there\n"
    assert host.logins == 6


def test_many_threads_with_a_responder_each_log_in_once(cold: Path, asking: MakeServer) -> None:
    host = asking(steps=[password(SECRET), code(CODE)])
    config = write_config(cold, host.config())
    people = [Person(password=SECRET, code=CODE) for _ in range(8)]
    together = threading.Barrier(len(people))

    def one(person: Person) -> str:
        connection = Connection("asks", ssh_config=config, responder=person)
        together.wait(20)
        return str(connection.run("echo there").stdout)

    with ThreadPoolExecutor(len(people)) as pool:
        assert list(pool.map(one, people)) == ["there\n"] * len(people)
    assert sorted(len(person.asked) for person in people) == [0] * 7 + [2]
    assert host.counts["connections"] == host.logins == 1
    Connection("asks", ssh_config=config).close(stop_master=True)


def test_a_login_without_questions_calls_no_responder(
    cold: Path, make_sshd: Any, expect_logins: Any
) -> None:
    expect_logins(1)
    host = make_sshd()
    person = Person()
    assert log_in(cold, host.config, host.alias, person) == "there\n"
    assert person.asked == []


# -- host keys ----------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["yes", "fingerprint"])
def test_an_unknown_host_key_is_accepted_by_who_is_asked(
    cold: Path, asking: MakeServer, by: str
) -> None:
    host = asking(password_right=SECRET)
    config = write_config(cold, host.config(known=False))
    answer = "yes" if by == "yes" else host.fingerprint
    person = Person(host_key=answer, password=SECRET)
    assert log_in(cold, config, "asks", person) == "there\n"
    assert person.kinds == ["host_key", "password"]
    assert host.fingerprint in person.asked[0].text
    assert person.asked[0].host == f"[127.0.0.1]:{host.port}"
    assert f"[127.0.0.1]:{host.port}" in (host.directory / "asks.new_hosts").read_text()


@pytest.mark.parametrize("answer", ["no", "SHA256:0123456789", None, "y"])
def test_an_unknown_host_key_is_refused_by_anything_else(
    cold: Path, asking: MakeServer, answer: str | None
) -> None:
    host = asking(password_right=SECRET)
    config = write_config(cold, host.config(known=False))
    person = Person(host_key=answer, password=SECRET)
    with pytest.raises(errors.HostKeyUnknown) as caught:
        log_in(cold, config, "asks", person)
    assert caught.value.sent == "no"
    assert person.kinds == ["host_key"]
    assert host.logins == 0
    assert not (host.directory / "asks.new_hosts").exists()


# -- wrong answers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variant",
    [{"password_right": SECRET}, {"steps": [password(SECRET), code(CODE)]}],
    ids=["password", "keyboard-interactive"],
)
def test_a_wrong_secret_is_tried_once(
    cold: Path, asking: MakeServer, variant: dict[str, Any]
) -> None:
    host = asking(**variant)
    config = write_config(cold, host.config())
    person = Person(password="wrong-" + SECRET, code=CODE)
    with pytest.raises(errors.AuthenticationFailed) as caught:
        log_in(cold, config, "asks", person)
    assert host.counts == {"connections": 1, "asked 1": 1, "wrong 1": 1}
    assert person.kinds == ["password"]
    assert_nowhere_in(caught.value, "wrong-" + SECRET)


@pytest.mark.parametrize("between", [False, True], ids=["last", "first of two"])
def test_the_wrong_secret_of_a_jump_host_is_tried_once(
    cold: Path, asking: MakeServer, between: bool
) -> None:
    """The ssh to a first jump host is not started by ours: it would ask three times."""
    gate = asking("gate", steps=[password(SECRET)], address="127.0.0.2")
    host = asking("asks", password_right=SECRET)
    way = "gate,middle" if between else "gate"
    middle = asking("middle", password_right=SECRET, address="127.0.0.3")
    config = write_config(cold, gate.config(), middle.config(), host.config(f"ProxyJump {way}"))
    with pytest.raises(errors.ConnectError) as caught:
        log_in(cold, config, "asks", Person(password="wrong-" + SECRET))
    assert isinstance(caught.value, errors.AuthenticationFailed)
    assert gate.counts["wrong 1"] == 1
    assert host.counts["connections"] == 0


def test_a_question_without_an_answer(cold: Path, asking: MakeServer) -> None:
    host = asking(steps=[password(SECRET), code(CODE)])
    config = write_config(cold, host.config())
    with pytest.raises(errors.AuthenticationNeeded) as caught:
        log_in(cold, config, "asks", Person(password=SECRET))
    assert "Verification code:" in str(caught.value)
    assert f"openssh-jobs login -F {config} asks" in str(caught.value)
    assert host.counts == {"connections": 1, "asked 1": 1, "right 1": 1, "asked 2": 1}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("two\nlines", errors.ConfigurationError),
        ("nul\0", errors.ConfigurationError),
        ("x" * 5000, errors.ConfigurationError),
        ("\udcff", errors.ConfigurationError),
        (b"four words of bytes", TypeError),
    ],
)
def test_what_cannot_be_typed_is_refused_without_showing_it(
    cold: Path, asking: MakeServer, answer: Any, error: type[Exception]
) -> None:
    host = asking(password_right=SECRET)
    config = write_config(cold, host.config())
    with pytest.raises(error) as caught:
        log_in(cold, config, "asks", lambda prompt: answer)
    assert_nowhere_in(caught.value, answer if isinstance(answer, str) else answer.decode())
    assert host.counts["asked 1"] == 0


def test_what_a_responder_raises_ends_the_login(cold: Path, asking: MakeServer) -> None:
    host = asking(password_right=SECRET)
    config = write_config(cold, host.config())

    def gone(prompt: Prompt) -> str:
        raise LookupError("the safe is locked")

    with pytest.raises(LookupError, match="the safe is locked"):
        log_in(cold, config, "asks", gone)
    assert host.logins == 0


def assert_nowhere_in(error: BaseException, secret: str) -> None:
    """No text, no pickle, no chained exception and no variable of a frame of ours has it."""
    seen: BaseException | None = error
    while seen is not None:
        for text in (repr(seen), str(seen), repr(vars(seen))):
            assert secret not in text
        assert secret.encode("utf-8", "surrogateescape") not in pickle.dumps(
            seen if not isinstance(seen, LookupError) else str(seen)
        )
        frame = seen.__traceback__
        while frame is not None:
            if "/openssh_jobs/" in frame.tb_frame.f_code.co_filename:
                assert secret not in repr(frame.tb_frame.f_locals.values())
            frame = frame.tb_next
        seen = seen.__cause__ or seen.__context__


# -- jump hosts ---------------------------------------------------------------------------------


def test_a_jump_host_may_show_a_menu_and_a_new_key(cold: Path, asking: MakeServer) -> None:
    """With ControlPersist ssh throws away what the ssh of a jump host says, but not here."""
    gate = asking("gate", steps=[password("gate-" + SECRET), duo("2")], address="127.0.0.2")
    host = asking("asks", password_right=SECRET)
    config = write_config(cold, gate.config(known=False), host.config("ProxyJump gate"))
    asked: list[Prompt] = []

    def person(prompt: Prompt) -> str | None:
        asked.append(prompt)
        if prompt.kind == "password":
            return {"127.0.0.2": "gate-" + SECRET, "127.0.0.1": SECRET}[prompt.host]
        return {"host_key": gate.fingerprint, "menu": "2"}.get(prompt.kind)

    assert log_in(cold, config, "asks", person) == "there\n"
    assert [one.kind.value for one in asked] == ["host_key", "password", "menu", "password"]
    assert asked[0].host == f"[127.0.0.2]:{gate.port}"
    for line in DUO_MENU.splitlines():
        assert line in asked[2].text
    assert (gate.logins, host.logins) == (1, 1)


@pytest.mark.parametrize(
    "places",
    [[{}, {}], [{"address": "127.0.0.2"}, {"address": "127.0.0.3"}]],
    ids=["all of one address", "each of its own"],
)
def test_each_jump_host_asks_for_itself(
    cold: Path, asking: MakeServer, places: list[dict[str, str]]
) -> None:
    outer = asking("outer", steps=[password("outer-" + SECRET), code("111222")], **places[0])
    inner = asking("inner", password_right="inner-" + SECRET, **places[1])
    host = asking("asks", steps=[password(SECRET), duo("2")])
    config = write_config(
        cold,
        outer.config(),
        inner.config("ProxyJump outer"),
        host.config("ProxyJump inner"),
    )
    answers = {
        ("password", 0): "outer-" + SECRET,
        ("code", 1): "111222",
        ("password", 2): "inner-" + SECRET,
        ("password", 3): SECRET,
        ("menu", 4): "2",
    }
    asked: list[Prompt] = []

    def person(prompt: Prompt) -> str | None:
        asked.append(prompt)
        return answers.get((prompt.kind.value, len(asked) - 1))

    assert log_in(cold, config, "asks", person) == "there\n"
    assert len(asked) == 5
    for one in (outer, inner, host):
        assert (one.counts["connections"], one.logins) == (1, 1)
