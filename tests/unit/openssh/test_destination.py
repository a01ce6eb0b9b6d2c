"""What can be a host: refused by name before anything is started, or given to ssh untouched."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs import Connection
from openssh_jobs.errors import ConfigurationError
from openssh_jobs.openssh import jump_hosts, ssh_config
from openssh_jobs.openssh.destination import Destination


@pytest.mark.parametrize(
    "host", ["hpc", "alice@hpc", "ssh://alice@hpc:2222", "::1", "[::1]", "10.0.0.1", "a_b.c-d",
             "hö", "a@b@hpc", "login.hpc.example", "fe80::1%eth0", "DOMAIN\\alice@hpc",
             "ssh://DOMAIN\\alice@hpc:22", "d\\a@b@hpc", "a+b@hpc", "~a@hpc", "hpc.", "a#b"]
)  # fmt: skip
def test_what_ssh_takes_goes_to_it_untouched(host: str) -> None:
    assert shlex.split(Destination(host=host).shell_command()) == ["ssh", host]
    assert Connection(host).host == host


@pytest.mark.parametrize(
    "host",
    ["", "-oProxyCommand=touch pwned", "-", "a b", "a\nb", "a\tb", "a\0b", "a\x7f", "a;b", "$(a)",
     "`a`", "a'b", 'a"b', "a|b", "a&b", "a<b", "a@", "a@-b", "-a@b", "@b", "ssh://", "ssh://-a",
     "a\\b",
     "D\\a@h\\b", "\\@h", "D\\@h", "-D\\a@h", "D\\`a`@h", "D\\$(a)@h", "D\\a;b@h", "D\\a\n@h",
     "D\\a@-h", "D\\a@h;b", "a@h$b"],
)  # fmt: skip
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Connection(host)
    assert caught.value.sent == "no"
    assert isinstance(caught.value, ValueError)


def test_a_user_of_a_domain_is_what_ssh_makes_of_it() -> None:
    destination = Destination(host="DOMAIN\\alice@hpc", ssh_config="none", jump="OTHER\\bob@gate")
    found = ssh_config.resolve(destination)
    assert (found.get("user"), found.get("hostname")) == ("DOMAIN\\alice", "hpc")
    (hop,) = jump_hosts.hops(destination, found)
    assert (hop.resolved.get("user"), hop.resolved.get("hostname")) == ("OTHER\\bob", "gate")


@pytest.mark.parametrize(
    "options",
    [
        {"user": ""},
        {"user": "-l"},
        {"user": "a b"},
        {"user": "a\n"},
        {"user": "a;b"},
        {"user": "a\\"},
        {"port": 0},
        {"port": 65536},
        {"jump": "a,-b"},
        {"jump": ""},
        {"jump": "a,,b"},
        {"jump": "a b"},
        {"identity_file": "a\nb"},
        {"ssh_config": "/no/such/file"},
        {"ssh_config": "a\0b"},
        {"ssh_options": {"A B": "x"}},
        {"ssh_options": {"": "x"}},
        {"ssh_options": {"-oUser": "x"}},
        {"ssh_options": {"User": "a\nProxyCommand b"}},
        {"ssh_options": {"ControlMaster": "yes"}},
        {"ssh_options": {"controlPERSIST": "no"}},
        {"master": "mine"},
        {"persist": 0},
        {"connect_timeout": 0},
        {"connect_timeout": float("nan")},
        {"exec_backend": "magic"},
        {"max_sessions": 0},
    ],
    ids=repr,
)
def test_options_that_cannot_be_meant(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Connection("hpc", **options)
    assert caught.value.sent == "no"


@given(st.text(max_size=30))
def test_no_text_becomes_an_option(text: str) -> None:
    """Whatever is taken for a host or a user, ssh reads it as one word after the dashes."""
    try:
        destination = Destination(host=text, user=text)
    except ConfigurationError:
        return
    assert not text.startswith("-")
    assert not set(text) & set(" \t\n\0'\"`$;|&<>")
    assert destination.arguments()[-1] == f"User={text}"


def test_every_option_reaches_ssh(tmp_path: Path) -> None:
    config = tmp_path / "my config"
    config.write_text("Host hpc\n    Compression yes\n")
    destination = Destination(
        host="hpc",
        user="alice",
        port=2222,
        identity_file="~/k",
        jump="gate",
        ssh_config=str(config),
        ssh_options={"ConnectionAttempts": "3", "LogLevel": "VERBOSE"},
        forward_agent=True,
    )
    done = subprocess.run(
        ["ssh", "-G", *destination.arguments(), "--", destination.host],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    for line in ("user alice", "port 2222", "proxyjump gate", "compression yes", "forwardagent yes",
                 "connectionattempts 3", "identitiesonly yes", "loglevel VERBOSE"):  # fmt: skip
        assert f"\n{line}\n" in "\n" + done.stdout
