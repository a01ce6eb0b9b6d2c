"""What a text asks and of whom, and that no answer reaches a host that is not meant.

The hosts are real, and remember what came.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs import Connection, errors
from openssh_jobs.openssh import prompts, questions
from openssh_jobs.openssh.prompts import Prompt, PromptKind
from tests.lab import interactive
from tests.lab.interactive import DUO_MENU, MakeServer, Step, config_of, password
from tests.real.openssh.lies import LIES, SECRET, tries

# -- what a text means --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "host"),
    [
        ("alice@login.hpc's password: ", "password", "login.hpc"),
        ("(alice@10.1.2.3) Password: ", "password", "10.1.2.3"),
        ("(a@b@gate) Password for a@b: ", "password", "gate"),
        ("Password: ", "password", None),
        ("(osj@h) First Factor: ", "password", "h"),
        ("(osj@h) Second Factor (optional): ", "code", "h"),
        ("(osj@h) Verification code: ", "code", "h"),
        ("(osj@h) One-time password (OATH) for `osj': ", "code", "h"),
        ("(osj@h) Enter PASSCODE: ", "code", "h"),
        ("(osj@h) YubiKey for `osj': ", "other", "h"),
        ("Enter passphrase for key '/home/a/.ssh/id_ed25519': ", "passphrase", None),
        ("Enter PIN for ED25519-SK key /home/a/.ssh/id_sk: ", "passphrase", None),
        (f"{DUO_MENU}(alice@h) Passcode or option (1-2): ", "menu", "h"),
        (f"(alice@h) {DUO_MENU}\nPasscode or option (1-2): ", "menu", "h"),
        ("(alice@h) Enter your new password: ", "other", "h"),
        ("(alice@h) Current Password: ", "other", "h"),
        ("(alice@h) Retype new password: ", "other", "h"),
        (
            "The authenticity of host '[127.0.0.1]:22 ([127.0.0.1]:22)' can't be established.\n"
            "ED25519 key fingerprint is SHA256:abc.\n"
            "Are you sure you want to continue connecting (yes/no/[fingerprint])? ",
            "host_key",
            "[127.0.0.1]:22",
        ),
        ("Are you sure you want to continue connecting (yes/no)? ", "host_key", None),
        ("Please type 'yes', 'no' or the fingerprint: ", "host_key", None),
        ("", "other", None),
        # A server's question is for no secret of this machine.
        ("(alice@h) Enter passphrase for key '/home/a/.ssh/id_ed25519': ", "other", "h"),
        ("(alice@h) Hello\nEnter passphrase for key '/home/a/.ssh/id': ", "other", "h"),
        ("(alice@h) Enter PIN: ", "other", "h"),
        ("(alice@h) Are you sure you want to continue (yes/no/[fingerprint])? ", "other", "h"),
        ("Enter passphrase for key '/k': alice@h's password: ", "password", "h"),
        # A banner that ends without a newline.
        ("Welcome.(alice@gate) Password: ", "password", "gate"),
        ("Welcome.alice@gate's password: ", "password", "gate"),
        ("Enter passphrase for key '/k': (alice@h) Name: ", "other", "h"),
        ("Enter PIN for (alice@h) Hello\nEnter passphrase for key '/k': ", "other", "h"),
        ("Ask us (help@hpc.org) why.\nEnter passphrase for key '/k': ", "passphrase", None),
        # A jump host that says what another one would say.
        ("(alice@gate) Welcome.\n(alice@login) Password: ", "password", ""),
    ],
)
def test_a_question_is_known_by_its_words(text: str, kind: str, host: str | None) -> None:
    assert questions.kind_of(text, ["alice"]) == kind
    assert questions.host_of(text, ["alice"]) == host


def test_a_question_with_two_names_is_no_password() -> None:
    text = "(alice@gate) Welcome.\n(alice@login) Password: "
    prompt = questions.make_prompt(text, host="hpc", echo=False)
    assert prompt == Prompt(PromptKind.OTHER, text, "hpc", False)


@given(st.text())
def test_any_text_is_some_question(text: str) -> None:
    prompt = questions.make_prompt(text, host="h", echo=True)
    assert prompt.text == text
    assert prompt.kind in PromptKind
    assert prompt.host


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("yes", True),
        ("YES", True),
        ("SHA256:real", True),
        (" SHA256:real ", True),
        ("no", False),
        ("", False),
        ("SHA256:made-up", False),
        ("y", False),
        ("SHA256:", False),
    ],
)
def test_a_host_key_is_accepted_by_yes_or_by_its_own_fingerprint(answer: str, right: bool) -> None:
    text = (
        "ED25519 key fingerprint is SHA256:made-up.\n"  # what a jump host might print
        "ED25519 key fingerprint is SHA256:real.\n"
        "Are you sure you want to continue connecting (yes/no/[fingerprint])? "
    )
    assert questions.accepts_key(text, answer) is right


# -- for real -----------------------------------------------------------------------------------

KEY = "Enter passphrase for key '/home/alice/.ssh/id_ed25519': "


def by_kind(prompt: Prompt) -> str | None:
    return {"passphrase": "my passphrase", "password": "my password", "host_key": "yes"}.get(
        prompt.kind
    )


@pytest.mark.parametrize("prompt", [KEY, f"Hello\n{KEY}", "Sure (yes/no)? "])
@pytest.mark.parametrize("banner", ["", KEY], ids=["", "banner"])
def test_a_server_gets_no_passphrase(
    cold: Path, asking: MakeServer, prompt: str, banner: str
) -> None:
    host = asking(steps=[Step(prompt=prompt, right="my passphrase")], banner=banner)
    config = config_of(cold, host)
    (error,) = tries(config, "asks", 1, responder=by_kind)
    assert isinstance(error, errors.AuthenticationNeeded)
    assert (host.counts["right 1"], host.counts["wrong 1"]) == (0, 0)


@pytest.mark.parametrize("method", ["password_right", "steps"])
def test_a_jump_hosts_banner_without_an_end_gets_no_password_of_the_host(
    cold: Path, asking: MakeServer, method: str
) -> None:
    """ssh writes the question behind it."""
    gate = asking(
        "gate",
        **{method: [password(SECRET)] if method == "steps" else SECRET},
        address="127.0.0.2",
        banner="Authorized users only",
    )
    host = asking("asks", password_right=SECRET)
    path = cold.parent / "config"
    path.write_text(gate.config() + host.config("ProxyJump gate"))
    asked: list[Prompt] = []
    tries(path, "asks", 1, responder=asked.append)
    assert [(one.kind, one.host) for one in asked] == [("password", "127.0.0.2")]


def test_what_comes_after_a_question_does_not_get_its_answer(
    cold: Path, asking: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A banner that looks like a question, and the question while a person thinks."""
    begin = interactive._Door.begin_auth

    def later(self: Any, username: str) -> bool:
        time.sleep(0.9)
        return begin(self, username)

    monkeypatch.setattr(interactive._Door, "begin_auth", later)
    host = asking(steps=[Step(prompt="Name: ", right="my password")], banner="Password: ")
    config = config_of(cold, host)

    def slow(prompt: Prompt) -> str | None:
        time.sleep(1.0)
        return "my password" if prompt.text == "Password: " else None

    tries(config, "asks", 1, responder=slow)
    assert host.counts == {"connections": 1, "asked 1": 1}


def test_a_host_that_never_stops_asking_is_left(
    cold: Path, asking: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[str] = []

    def next_one(self: Any, username: str, responses: Any) -> Any:
        answers.extend(responses)
        return "", "", "", [(f"Question {len(answers)}: ", False)]

    monkeypatch.setattr(prompts, "MOST_QUESTIONS", 5)
    monkeypatch.setattr(interactive._Door, "validate_kbdint_response", next_one)
    host = asking(steps=[Step(prompt="Question 0: ", right="")])
    config = config_of(cold, host)
    (error,) = tries(config, "asks", 1, responder=lambda prompt: "an answer")
    assert "asks too many questions" in str(error)
    assert len(answers) <= 6


def test_a_server_that_says_that_no_master_was_made_is_not_believed(
    cold: Path, asking: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(self: Any, username: str, responses: Any) -> Any:
        return ("", LIES["unshared"], "", []) if responses else True

    monkeypatch.setattr(interactive._Door, "validate_kbdint_response", judge)
    host = asking(steps=[password(SECRET)])
    config = config_of(cold, host)
    with Connection("asks", ssh_config=config, responder=lambda prompt: SECRET) as connection:
        assert connection.run("echo in").stdout == "in\n"
        connection.close(stop_master=True)
